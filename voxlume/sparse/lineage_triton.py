"""Listing children and moving rows on CUDA; twins of the functions of these names in
:mod:`voxlume.sparse.lineage` and :mod:`voxlume.sparse.gather`."""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.sparse.backend import cdiv, next_power_of_2


def list_children(coords: Tensor, kept: Tensor, last: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Parents' coords (n_parents, 4), kept bool (n_parents, 8), last (8 n_parents,) -> coords (n, 4), index
    8 parent + slot (n,), children (n_parents, 8); int32."""
    listed = torch.empty((n, 4), dtype=torch.int32, device=coords.device)
    index = torch.empty(n, dtype=torch.int32, device=coords.device)
    children = torch.empty((len(coords), 8), dtype=torch.int32, device=coords.device)
    size = children.numel()
    if size:
        _list_kernel[(cdiv(size, 1024),)](
            coords, kept.contiguous(), last, listed, index, children, size, SIZE=1024
        )
    return listed, index, children


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """(m, c), int32 (n,) with -1 for zeros -> (n, c)."""
    n, c = len(index), x.shape[1]
    out = torch.empty((n, c), dtype=x.dtype, device=x.device)
    if out.numel():
        block = min(512, next_power_of_2(c))
        rows = 4096 // block
        _gather_kernel[(cdiv(n, rows), cdiv(c, block))](x, index, out, n, c, ROWS=rows, SIZE=block)
    return out


def link_parents(
    coords: Tensor, order: Tensor, rank: Tensor, n_parents: int
) -> tuple[Tensor, Tensor, Tensor]:
    """coords (n, 4), order int64 (n,), rank (n,) -> parents (n_parents, 4), index (n,), children."""
    n, device = len(coords), coords.device
    parents = torch.empty((n_parents, 4), dtype=torch.int32, device=device)
    index = torch.empty(n, dtype=torch.int32, device=device)
    children = torch.full((n_parents, 8), -1, dtype=torch.int32, device=device)
    if n:
        _link_kernel[(cdiv(n, 512),)](coords, order, rank, parents, index, children, n, SIZE=512)
    return parents, index, children


@triton.jit
def _link_kernel(coords, order, rank, parents, index, children, n, SIZE: tl.constexpr):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = at < n
    row = tl.load(order + at, mask=inside, other=0)
    parent = tl.load(rank + at, mask=inside, other=0)
    first = inside & (parent != tl.load(rank + at - 1, mask=inside & (at > 0), other=-1))
    here, there = coords + row * 4, parents + parent.to(tl.int64) * 4
    tl.store(there, tl.load(here, mask=first), mask=first)
    place = parent * 8
    for axis in tl.static_range(3):
        c = tl.load(here + axis + 1, mask=inside, other=0)
        tl.store(there + axis + 1, c >> 1, mask=first)
        place += (c & 1) << axis
    tl.store(index + row, place, mask=inside)
    tl.store(children + place, row.to(tl.int32), mask=inside)


@triton.jit
def _list_kernel(coords, kept, last, listed, index, children, size, SIZE: tl.constexpr):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    here = tl.load(kept + at, mask=at < size, other=0) != 0
    row = tl.load(last + at, mask=here, other=0) - 1
    tl.store(children + at, row, mask=at < size)
    child = row.to(tl.int64)
    parent = (at >> 3).to(tl.int64) * 4
    tl.store(index + child, at, mask=here)
    tl.store(listed + child * 4, tl.load(coords + parent, mask=here), mask=here)
    tl.store(listed + child * 4 + 1, 2 * tl.load(coords + parent + 1, mask=here) + (at & 1), mask=here)
    tl.store(listed + child * 4 + 2, 2 * tl.load(coords + parent + 2, mask=here) + (at >> 1 & 1), mask=here)
    tl.store(listed + child * 4 + 3, 2 * tl.load(coords + parent + 3, mask=here) + (at >> 2 & 1), mask=here)


@triton.jit
def _gather_kernel(x, index, out, n, c, ROWS: tl.constexpr, SIZE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    inside = (row < n)[:, None] & (channel < c)[None, :]
    source = tl.load(index + row, mask=row < n, other=-1).to(tl.int64)
    values = tl.load(
        x + source[:, None] * c + channel[None, :], mask=inside & (source >= 0)[:, None], other=0
    )
    tl.store(out + row[:, None] * c + channel[None, :], values, mask=inside)
