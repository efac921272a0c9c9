"""Voxel samples for training: bytes that live on a device, gathered into batches.

The files are described in :mod:`voxlume.data.shards`, :mod:`voxlume.data.build` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from voxlume.data.shards import COLUMNS, FLAG_BITS, read_index, read_note
from voxlume.errors import VoxelFileError, VoxlumeError
from voxlume.ovoxel.grid import OVoxel
from voxlume.progress import Progress, report


@dataclass(frozen=True, eq=False)
class VoxelBatch:
    """Voxels of several samples on one device, lexicographic within each.

    Attributes
    ----------
    coords : int32 (n, 4), rows (sample, x, y, z); samples follow one another.
    dual_vertices : float32 (n, 3) in [0, 1], voxel units from the voxel's minimum corner.
    intersected : bool (n, 3), as in :class:`~voxlume.ovoxel.grid.OVoxel`.
    attributes : float32 (n, 6) in [0, 1], in the order of ``ATTRIBUTE_CHANNELS``.
    lengths : voxels of each sample, known on the host.
    """

    coords: Tensor
    dual_vertices: Tensor
    intersected: Tensor
    attributes: Tensor
    lengths: list[int]

    @property
    def batch_size(self) -> int:
        return len(self.lengths)


class VoxelStore:
    """Samples of one split, as bytes on one device.

    Attributes
    ----------
    resolution : of the voxel grid.
    names, kinds : of each sample; a kind is a word of :data:`voxlume.data.sources.Kind`.
    voxel_counts : voxels of each sample.
    device : where the samples are.
    """

    def __init__(
        self, resolution: int, names: list[str], kinds: list[str], voxel_counts: list[int], rows: _Rows
    ) -> None:
        self.resolution = resolution
        self.names = names
        self.kinds = kinds
        self.voxel_counts = voxel_counts
        self._rows = rows
        # Python integers: nobody asks a device where a sample begins.
        self._starts = [0, *np.cumsum(voxel_counts, dtype=np.int64).tolist()]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def device(self) -> torch.device:
        return self._rows.coords.device

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        split: str = "train",
        limit: int | None = None,
        *,
        kinds: Sequence[str] | None = None,
        rank: int = 0,
        world: int = 1,
        progress: Progress | None = None,
    ) -> VoxelStore:
        """Read a split whole.

        Parameters
        ----------
        limit : take only the first samples; their order is random, so they are a fair choice.
        kinds : take only samples of these kinds.
        rank, world : take only every ``world``-th sample, from the ``rank``-th on; the same samples as
            :meth:`share` gives, but the others are never brought to the device.

        Raises
        ------
        VoxlumeError : the folder is no store, has no such split, or nothing is left of it.
        VoxelFileError : a shard is missing or damaged.
        """
        folder = Path(folder)
        index = read_index(folder)
        shards = index["splits"].get(split)
        if shards is None:
            built = ", ".join(sorted(index["splits"])) or "none yet"
            raise VoxlumeError(f"{folder} has no split {split!r} (it has: {built}); build it first")
        chosen: list[tuple[str, list[int]]] = []
        names, kinds_found, counts = [], [], []
        matching = 0
        for shard in shards:
            picked = []
            for i, (name, kind, count) in enumerate(shard["samples"]):
                if (kinds is not None and kind not in kinds) or (limit is not None and matching >= limit):
                    continue
                if matching % world == rank:
                    picked.append(i)
                    names.append(name)
                    kinds_found.append(kind)
                    counts.append(count)
                matching += 1
            if picked:
                chosen.append((shard["file"], picked))
        if not names:
            raise VoxlumeError(f"{folder}: nothing is left of split {split!r} with these choices")
        rows = _Rows.empty(sum(counts), index["resolution"], torch.device(device))
        done = 0
        for number, (file, picked) in enumerate(chosen):
            report(progress, number, len(chosen), "reading voxels")
            done = rows.read(folder / file, picked, done)
        report(progress, len(chosen), len(chosen), "reading voxels")
        return cls(index["resolution"], names, kinds_found, counts, rows)

    def share(self, rank: int, world: int) -> VoxelStore:
        """Every ``world``-th sample, from the ``rank``-th on: the part that one of many processes owns."""
        return self.select(range(rank, len(self), world))

    def select(self, indices: Sequence[int]) -> VoxelStore:
        """A store of some of the samples, copied."""
        return VoxelStore(
            self.resolution,
            [self.names[i] for i in indices],
            [self.kinds[i] for i in indices],
            [self.voxel_counts[i] for i in indices],
            self._rows.gather(self._ranges(indices)),
        )

    def to(self, device: str | torch.device) -> VoxelStore:
        """The same samples on another device."""
        rows = self._rows.to(torch.device(device))
        return VoxelStore(self.resolution, self.names, self.kinds, self.voxel_counts, rows)

    def batch(self, indices: Sequence[int]) -> VoxelBatch:
        """Samples side by side. Sizes are known on the host, so a GPU is not waited for."""
        lengths = [self.voxel_counts[i] for i in indices]
        rows = self._rows.gather(self._ranges(indices))
        counts = torch.tensor(lengths)
        if self.device.type == "cuda":
            counts = counts.pin_memory().to(self.device, non_blocking=True)
        numbers = torch.arange(len(lengths), dtype=torch.int32, device=self.device)
        sample = torch.repeat_interleave(numbers, counts, output_size=sum(lengths))
        bits = torch.tensor(FLAG_BITS, dtype=torch.uint8).to(self.device, non_blocking=True)
        return VoxelBatch(
            coords=torch.cat([sample[:, None], rows.coords.int()], dim=1),
            dual_vertices=rows.dual_vertices.float() / 255,
            intersected=(rows.flags & bits) != 0,
            attributes=rows.attributes.float() / 255,
            lengths=lengths,
        )

    def ovoxel(self, index: int) -> OVoxel:
        """One sample as an O-Voxel on the host, in the model frame."""
        batch = self.batch([index])
        return OVoxel(
            self.resolution,
            batch.coords[:, 1:].cpu().numpy(),
            batch.dual_vertices.cpu().numpy(),
            batch.intersected.cpu().numpy(),
            batch.attributes.cpu().numpy(),
        )

    def _ranges(self, indices: Sequence[int]) -> list[tuple[int, int]]:
        return [(self._starts[i], self._starts[i + 1]) for i in indices]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The bytes of many voxels: coords uint8 or int16 (n, 3), the others uint8 (n, 3), (n, 1), (n, 6)."""

    coords: Tensor
    dual_vertices: Tensor
    flags: Tensor
    attributes: Tensor

    def columns(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in COLUMNS}

    @classmethod
    def empty(cls, count: int, resolution: int, device: torch.device) -> _Rows:
        return cls(
            **{
                name: torch.empty(
                    (count, width),
                    dtype=_torch_coords(resolution) if name == "coords" else torch.uint8,
                    device=device,
                )
                for name, width in COLUMNS.items()
            }
        )

    def gather(self, ranges: Sequence[tuple[int, int]]) -> _Rows:
        """The rows of these ranges, one after another."""
        if not ranges:
            return _Rows(**{name: column[:0] for name, column in self.columns().items()})
        return _Rows(
            **{
                name: torch.cat([column[start:end] for start, end in ranges])
                for name, column in self.columns().items()
            }
        )

    def to(self, device: torch.device) -> _Rows:
        return _Rows(**{name: column.to(device) for name, column in self.columns().items()})

    def read(self, path: Path, samples: Sequence[int], at: int) -> int:
        """Copy some samples of a shard to row ``at`` and on; returns the row after them."""
        shard = _read_rows(path, samples)
        end = at + len(shard.coords)
        for name, column in self.columns().items():
            column[at:end] = getattr(shard, name).to(column.device)
        return end


def _read_rows(path: Path, samples: Sequence[int]) -> _Rows:
    """The voxels of some samples of a shard, on the host; others are not read.

    Raises
    ------
    VoxelFileError : the file is missing or damaged.
    """
    listed, _ = read_note(path)
    starts = [0, *np.cumsum([count for _, _, count in listed], dtype=np.int64).tolist()]
    # Neighbours are read in one piece.
    pieces: list[list[int]] = []
    for i in samples:
        if pieces and pieces[-1][1] == starts[i]:
            pieces[-1][1] = starts[i + 1]
        else:
            pieces.append([starts[i], starts[i + 1]])
    columns = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name, width in COLUMNS.items():
                stored = file.get_slice(name)
                if stored.get_shape() != [starts[-1], width]:
                    raise VoxelFileError(
                        f"{path} is damaged: {name} does not fit its samples; build the store again"
                    )
                columns[name] = torch.cat([stored[first:last] for first, last in pieces])
    except (SafetensorError, OSError) as error:
        raise VoxelFileError(f"{path} is damaged: {error}; build the store again") from error
    return _Rows(**columns)


def _torch_coords(resolution: int) -> torch.dtype:
    return torch.uint8 if resolution <= 256 else torch.int16
