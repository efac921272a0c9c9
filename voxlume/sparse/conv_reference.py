"""Submanifold convolution in plain PyTorch: gather, multiply, add, one neighbour after another.

Every product and sum is float32 (float64 for float64 input), whatever the input's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from voxlume.sparse.epilogue import Epilogue, Norm, finish
from voxlume.sparse.memory import rows_within_budget
from voxlume.sparse.neighbors import neighbor_map
from voxlume.sparse.tensor import CoordinateSet


def forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    coordinates: CoordinateSet,
    then: Epilogue = None,
) -> Tensor:
    """(n, ci), weight (co, 3, 3, 3, ci), bias (co,) or None -> (n, co)."""
    wide = torch.promote_types(features.dtype, torch.float32)
    (n, ci), co = features.shape, len(weight)
    kernels = weight.reshape(co, 27, ci).permute(1, 2, 0).to(wide).contiguous()
    start = torch.zeros(co, dtype=wide, device=features.device) if bias is None else bias.to(wide)
    out = torch.empty((n, co), dtype=features.dtype, device=features.device)
    norm = then if isinstance(then, Norm) else None
    with torch.autocast(features.device.type, enabled=False):
        for rows, neighbors in _chunks(coordinates, (ci + 2 * co) * wide.itemsize):
            total = start.repeat(neighbors.shape[1], 1)
            for o in range(27):
                here, there = _pairs(neighbors, o)
                total.index_add_(0, here, features.index_select(0, there).to(wide) @ kernels[o])
            out[rows] = finish(total.to(out.dtype), norm)
    return out if norm else finish(out, then)


def grad_weight(features: Tensor, grad: Tensor, coordinates: CoordinateSet) -> Tensor:
    """features (n, ci), gradient of the output (n, co) -> gradient of the weight (co, 3, 3, 3, ci)."""
    wide = torch.promote_types(features.dtype, torch.float32)
    ci, co = features.shape[1], grad.shape[1]
    total = torch.zeros((27, co, ci), dtype=wide, device=features.device)
    with torch.autocast(features.device.type, enabled=False):
        for rows, neighbors in _chunks(coordinates, (ci + co) * wide.itemsize):
            for o in range(27):
                here, there = _pairs(neighbors, o)
                of_output = grad[rows].index_select(0, here).to(wide)
                total[o] += of_output.T @ features.index_select(0, there).to(wide)
    return total.permute(1, 0, 2).reshape(co, 3, 3, 3, ci).to(grad.dtype)


def _chunks(coordinates: CoordinateSet, bytes_per_row: int) -> Iterator[tuple[slice, Tensor]]:
    """Runs of rows that fit the memory budget, each with its part of the neighbour map, (27, rows)."""
    neighbors = neighbor_map(coordinates)
    size = rows_within_budget(bytes_per_row, neighbors.device)
    for first in range(0, len(neighbors), size):
        rows = slice(first, first + size)
        yield rows, neighbors[rows].T.contiguous()


def _pairs(neighbors: Tensor, o: int) -> tuple[Tensor, Tensor]:
    """From a chunk's map (27, rows): rows that have neighbour ``o``, and the rows of those neighbours."""
    here = (neighbors[o] >= 0).nonzero().squeeze(1)
    return here, neighbors[o].index_select(0, here)
