"""The sphere shell, the standard input for measuring networks on sparse tensors.

Centre of the cube, radius 0.353; a voxel is active iff its eight corners are not all on one side. It has
9,632 / 38,456 / 153,920 / 615,776 / 2,463,320 voxels at 64 / 128 / 256 / 512 / 1024, and each level is
exactly the set of the next one's parents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.sparse import SparseTensor, subdivide
from voxlume.sparse.tensor import CoordinateSet

RADIUS = 0.353
COARSEST = 64


def crosses(coords: Tensor, resolution: int) -> Tensor:
    """Voxels (..., 3) of a grid -> bool (...,), whether the sphere passes between their corners."""
    low, high = (((coords + end) / resolution - 0.5).abs().double() for end in (0, 1))
    nearest = torch.minimum(low, high).square().sum(-1)
    farthest = torch.maximum(low, high).square().sum(-1)
    return (nearest < RADIUS**2) & (farthest >= RADIUS**2)


def shell_levels(resolution: int, device: str | torch.device) -> dict[int, CoordinateSet]:
    """Coordinate sets from 64 to ``resolution`` by resolution, rows in the order a decoder produces."""
    axis = torch.arange(COARSEST, device=device)
    grid = torch.cartesian_prod(axis, axis, axis)
    coords = grid[crosses(grid, COARSEST)].int()
    levels = {COARSEST: CoordinateSet(torch.nn.functional.pad(coords, (1, 0)), 1)}
    slot = torch.arange(8, device=device)
    corner = torch.stack([slot & 1, slot >> 1 & 1, slot >> 2], dim=1)
    while (size := max(levels)) < resolution:
        here = levels[size]
        kept = crosses(2 * here.coords[:, None, 1:] + corner, 2 * size)
        x = SparseTensor.on(here, torch.empty((len(here), 0), device=device))
        levels[2 * size] = subdivide(x, kept).children
    return levels
