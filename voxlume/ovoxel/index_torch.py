"""Sorted voxel keys as tensors, the torch counterpart of :mod:`voxlume.ovoxel.index`."""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.ovoxel.index import AXIS_BITS, KEY_STEPS, MAX_RESOLUTION


class TorchVoxelIndex:
    """Numbers of voxels by coordinate, on the device of the coordinates.

    Attributes
    ----------
    coords : int32 (n, 3), as given.
    keys : int64 (n,), ascending.
    order : int64 (n,), voxel number of each sorted key, or None where the voxels came sorted.
    """

    def __init__(self, coords: Tensor) -> None:
        """Index coordinates (n, 3) in any order.

        Raises
        ------
        ValueError : not (n, 3), a coordinate outside [0, MAX_RESOLUTION), or one occurs twice.
        """
        if coords.dim() != 2 or coords.shape[1] != 3:
            raise ValueError(f"voxel coordinates must be (n, 3), not {tuple(coords.shape)}")
        if len(coords) and not bool(((coords >= 0) & (coords < MAX_RESOLUTION)).all()):
            raise ValueError(f"voxel coordinates must lie in [0, {MAX_RESOLUTION})")
        self.coords = coords
        self.keys = pack_keys(coords)
        self.order: Tensor | None = None
        if not bool((self.keys[1:] > self.keys[:-1]).all()):
            self.keys, self.order = torch.sort(self.keys)
            if not bool((self.keys[1:] > self.keys[:-1]).all()):
                raise ValueError("a voxel coordinate occurs twice")

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, coords: Tensor) -> Tensor:
        """int64 (k,): voxel number of each coordinate (k, 3), or -1; outside the grid nothing is found."""
        inside = ((coords >= 0) & (coords < MAX_RESOLUTION)).all(-1)
        positions = find_keys(self.keys, torch.where(inside, pack_keys(coords), -1))
        if self.order is None or not len(self.order):
            return positions
        return torch.where(positions >= 0, self.order[positions], -1)


def pack_keys(coords: Tensor) -> Tensor:
    """Keys int64 (n,) of voxel coordinates (n, 3) inside the grid."""
    x, y, z = coords.long().unbind(-1)
    return (x << 2 * AXIS_BITS) | (y << AXIS_BITS) | z


def find_keys(keys: Tensor, wanted: Tensor) -> Tensor:
    """int64: position of each wanted key in the ascending ``keys``, or -1."""
    if not len(keys):
        return torch.full_like(wanted, -1)
    positions = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    return torch.where(keys[positions] == wanted, positions, -1)


def forward_neighbors(keys: Tensor) -> Tensor:
    """int64 (n, 3): position in the ascending ``keys`` of the voxel one step up each axis, or -1."""
    return torch.stack([find_keys(keys, keys + step) for step in KEY_STEPS], 1)
