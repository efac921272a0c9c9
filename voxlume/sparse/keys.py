"""One integer per voxel."""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.errors import VoxlumeError

Bounds = tuple[tuple[int, int, int, int], tuple[int, int, int, int]]
"""Smallest and largest (batch, x, y, z)."""


def bounds_of(coords: Tensor) -> Bounds:
    """The bounds of coords int32 (n, 4), n > 0; waits for the device."""
    low, high = torch.stack(torch.aminmax(coords, dim=0)).tolist()
    return tuple(low), tuple(high)


def halved(bounds: Bounds) -> Bounds:
    """The bounds of the parents."""
    (b, *low), (c, *high) = bounds
    return (b, low[0] >> 1, low[1] >> 1, low[2] >> 1), (c, high[0] >> 1, high[1] >> 1, high[2] >> 1)


def voxel_keys(
    coords: Tensor, halvings: int = 0, bounds: Bounds | None = None, narrow: bool = False
) -> tuple[Tensor, tuple[int, int, int]]:
    """One integer per voxel such that a step along an axis is an addition.

    Parameters
    ----------
    coords : int32 (n, 4), rows (batch, x, y, z); any int32 values.
    halvings : key the voxels of a so many times coarser grid, ``c >> halvings``, instead.
    bounds : :func:`bounds_of` the coords, if they are known.
    narrow : int32 keys where they fit; a GPU sorts them twice as fast.

    Returns
    -------
    keys : int64 or int32 (n,), >= 0, ordered as (batch, x, y, z) are. An empty border around each sample's
        grid keeps a step from reaching another row of voxels or another sample.
    strides : what a step of +1 along x, y, z adds.

    Raises
    ------
    VoxlumeError : the coordinates span more than 63 bits.
    """
    if len(coords) == 0:
        return coords.new_zeros(0, dtype=torch.int64), (1, 1, 1)
    low, high = ([*ends] for ends in bounds or bounds_of(coords))
    for ends in (low, high):
        ends[1:] = [c >> halvings for c in ends[1:]]
    batches, nx, ny, nz = (last - first + 1 for first, last in zip(low, high, strict=True))
    sizes = (nx + 2, ny + 2, nz + 2)
    count, keys, first_sample = batches * sizes[0] * sizes[1] * sizes[2], coords[:, 0], low[0]
    if count >= 2**63:
        present, keys = torch.unique(keys, return_inverse=True)
        batches, first_sample = len(present), 0
        count = batches * sizes[0] * sizes[1] * sizes[2]
    if count >= 2**63:
        raise VoxlumeError(f"voxels span {nx} x {ny} x {nz}: too far apart to index; use a smaller grid")
    bits = 32 if narrow and count < 2**31 else 64
    if bits == 64:
        keys = keys.long()
    positions = coords[:, 1:] >> halvings if halvings else coords[:, 1:]
    # Horner's scheme; a sum that overflows on the way is right again after the origin is taken off.
    origin = first_sample
    for axis in range(3):
        keys = torch.add(positions[:, axis], keys, alpha=sizes[axis])
        origin = origin * sizes[axis] + low[axis + 1] - 1
    keys -= (origin + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    return keys, (sizes[1] * sizes[2], sizes[2], 1)
