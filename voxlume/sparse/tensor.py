"""Sparse tensors: features that live on a set of voxel coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Lineage:
    """How a coordinate set came out of its parents, each of which covers 2x2x2 voxels.

    Attributes
    ----------
    parents : the coordinate set one level coarser.
    index : int32 (n,), 8 * row of each voxel's parent + its slot in it, (x&1) + 2 (y&1) + 4 (z&1).
    children : int32 (n_parents, 8), row of each child, -1 where there is none: the inverse of ``index``.
    """

    parents: CoordinateSet
    index: Tensor
    children: Tensor


class CoordinateSet:
    """Voxel coordinates and everything that depends on nothing else, built on first use.

    All tensors on the same coordinates share one such object (:meth:`SparseTensor.with_features`), so a
    neighbour map is built once, and it can never be taken for another set's.

    Attributes
    ----------
    coords : int32 (n, 4), rows (batch, x, y, z), unique; samples follow one another in order.
    batch_size : number of samples, empty ones included.
    lineage : where the set came from, or None; lets the neighbour map be derived instead of searched.
    """

    def __init__(self, coords: Tensor, batch_size: int, lineage: Lineage | None = None) -> None:
        self.coords = coords.contiguous()
        self.batch_size = batch_size
        self.lineage = lineage
        self._memo: dict[str, object] = {}

    def __len__(self) -> int:
        return len(self.coords)

    def memo(self, name: str, build: Callable[[], T]) -> T:
        """The value kept under ``name``; ``build()`` makes it the first time."""
        if name not in self._memo:
            self._memo[name] = build()
        return self._memo[name]  # type: ignore[return-value]

    def forget(self, name: str) -> None:
        """Drop what is kept under ``name``, to free its memory."""
        self._memo.pop(name, None)

    @property
    def batch_lengths(self) -> list[int]:
        """Voxels of each sample, on the host."""

        def count() -> list[int]:
            if self.batch_size == 1:
                return [len(self)]
            return torch.bincount(self.coords[:, 0], minlength=self.batch_size).tolist()

        return self.memo("batch_lengths", count)


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features on voxels of a batch of grids.

    Attributes
    ----------
    coords : int32 (n, 4), rows (batch, x, y, z), unique, non-negative; the samples follow one another
        in order, the order within a sample is free.
    features : (n, c), any floating dtype, on the coordinates' device.
    batch_size : number of samples, empty ones included.
    cache : the coordinate set with what was computed from it; shared by tensors on the same voxels.
    """

    coords: Tensor
    features: Tensor
    batch_size: int = 1
    cache: CoordinateSet = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.cache is None:
            object.__setattr__(self, "cache", CoordinateSet(self.coords, self.batch_size))

    @classmethod
    def on(cls, coordinates: CoordinateSet, features: Tensor) -> SparseTensor:
        """Features (n, c) on an existing coordinate set."""
        return cls(coordinates.coords, features, coordinates.batch_size, coordinates)

    @classmethod
    def from_samples(cls, samples: Sequence[tuple[Tensor, Tensor]]) -> SparseTensor:
        """Join samples, each (coords integer (n_i, 3), features (n_i, c)), into one batch."""
        coords = [
            torch.cat([torch.full_like(c[:, :1], i, dtype=torch.int32), c.to(torch.int32)], dim=1)
            for i, (c, _) in enumerate(samples)
        ]
        return cls(torch.cat(coords), torch.cat([f for _, f in samples]), len(samples))

    def samples(self) -> list[tuple[Tensor, Tensor]]:
        """The batch taken apart: (coords int32 (n_i, 3), features (n_i, c)) of each sample."""
        lengths = self.batch_lengths
        return list(zip(self.coords[:, 1:].split(lengths), self.features.split(lengths), strict=True))

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def channels(self) -> int:
        return self.features.shape[1]

    @property
    def device(self) -> torch.device:
        return self.features.device

    @property
    def dtype(self) -> torch.dtype:
        return self.features.dtype

    @property
    def batch_lengths(self) -> list[int]:
        """Voxels of each sample, on the host."""
        return self.cache.batch_lengths

    def with_features(self, features: Tensor) -> SparseTensor:
        """Other features (n, c') on the same voxels; what was computed from the coordinates is shared."""
        return SparseTensor(self.coords, features, self.batch_size, self.cache)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> SparseTensor:
        """On another device (with a fresh cache) and/or with features of another dtype."""
        features = self.features.to(device=device, dtype=dtype)
        if features.device == self.coords.device:
            return self.with_features(features)
        return SparseTensor(self.coords.to(features.device), features, self.batch_size)
