"""Submanifold convolution in plain PyTorch: gather, multiply, add, one neighbour after another.

Every product and sum is float32 (float64 for float64 input), whatever the input's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from voxlume.sparse.memory import rows_within_budget
from voxlume.sparse.neighbors import neighbor_map
from voxlume.sparse.tensor import CoordinateSet


def forward(features: Tensor, weight: Tensor, bias: Tensor | None, coordinates: CoordinateSet) -> Tensor:
    """(n, ci), weight (co, 3, 3, 3, ci), bias (co,) or None -> (n, co)."""
    wide = torch.promote_types(features.dtype, torch.float32)
    (n, ci), co = features.shape, len(weight)
    kernels = weight.reshape(co, 27, ci).permute(1, 2, 0).to(wide)
    start = torch.zeros(co, dtype=wide, device=features.device) if bias is None else bias.to(wide)
    out = torch.empty((n, co), dtype=features.dtype, device=features.device)
    for rows, neighbors in _chunks(coordinates, (ci + 2 * co) * wide.itemsize):
        total = start.repeat(len(neighbors), 1)
        for o in range(27):
            here, there = _pairs(neighbors, o)
            total[here] += features[there].to(wide) @ kernels[o]
        out[rows] = total.to(out.dtype)
    return out


def grad_weight(features: Tensor, grad: Tensor, coordinates: CoordinateSet) -> Tensor:
    """features (n, ci), gradient of the output (n, co) -> gradient of the weight (co, 3, 3, 3, ci)."""
    wide = torch.promote_types(features.dtype, torch.float32)
    ci, co = features.shape[1], grad.shape[1]
    total = torch.zeros((27, co, ci), dtype=wide, device=features.device)
    for rows, neighbors in _chunks(coordinates, (ci + co) * wide.itemsize):
        for o in range(27):
            here, there = _pairs(neighbors, o)
            total[o] += grad[rows][here].to(wide).T @ features[there].to(wide)
    return total.permute(1, 0, 2).reshape(co, 3, 3, 3, ci).to(grad.dtype)


def _chunks(coordinates: CoordinateSet, bytes_per_row: int) -> Iterator[tuple[slice, Tensor]]:
    """Runs of rows that fit the memory budget, each with its part of the neighbour map."""
    neighbors = neighbor_map(coordinates)
    size = rows_within_budget(bytes_per_row, neighbors.device)
    for first in range(0, len(neighbors), size):
        rows = slice(first, first + size)
        yield rows, neighbors[rows]


def _pairs(neighbors: Tensor, o: int) -> tuple[Tensor, Tensor]:
    """Rows of the chunk that have neighbour ``o``, and the rows of those neighbours."""
    column = neighbors[:, o]
    here = (column >= 0).nonzero().squeeze(1)
    return here, column[here].long()
