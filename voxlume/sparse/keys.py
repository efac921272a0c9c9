"""One integer per voxel."""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.errors import VoxlumeError


def voxel_keys(coords: Tensor, halvings: int = 0) -> tuple[Tensor, tuple[int, int, int]]:
    """One integer per voxel such that a step along an axis is an addition.

    Parameters
    ----------
    coords : int32 (n, 4), rows (batch, x, y, z); any int32 values.
    halvings : key the voxels of a so many times coarser grid, ``c >> halvings``, instead.

    Returns
    -------
    keys : int64 (n,), >= 0, ordered as (batch, x, y, z) are. An empty border around each sample's grid
        keeps a step from reaching another row of voxels or another sample.
    strides : what a step of +1 along x, y, z adds.

    Raises
    ------
    VoxlumeError : the coordinates span more than 63 bits.
    """
    if len(coords) == 0:
        return coords.new_zeros(0, dtype=torch.int64), (1, 1, 1)
    low, high = torch.stack(torch.aminmax(coords, dim=0)).tolist()
    for bounds in (low, high):
        bounds[1:] = [c >> halvings for c in bounds[1:]]
    batches, nx, ny, nz = (last - first + 1 for first, last in zip(low, high, strict=True))
    sizes = (nx + 2, ny + 2, nz + 2)
    keys, first_sample = coords[:, 0].long(), low[0]
    if batches * sizes[0] * sizes[1] * sizes[2] >= 2**63:
        present, keys = torch.unique(keys, return_inverse=True)
        batches, first_sample = len(present), 0
    if batches * sizes[0] * sizes[1] * sizes[2] >= 2**63:
        raise VoxlumeError(f"voxels span {nx} x {ny} x {nz}: too far apart to index; use a smaller grid")
    # Horner's scheme; a sum that overflows on the way is right again after the origin is taken off.
    origin = first_sample
    for axis in range(3):
        keys = torch.add(coords[:, axis + 1] >> halvings, keys, alpha=sizes[axis])
        origin = origin * sizes[axis] + low[axis + 1] - 1
    keys -= (origin + 2**63) % 2**64 - 2**63
    return keys, (sizes[1] * sizes[2], sizes[2], 1)
