"""Listing children and moving rows on CUDA; twins of the functions of these names in
:mod:`voxlume.sparse.lineage` and :mod:`voxlume.sparse.gather`."""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def list_children(coords: Tensor, children: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Parents' coords (n_parents, 4), table (n_parents, 8) -> coords (n, 4), 8 parent + slot (n,); int32."""
    listed = torch.empty((n, 4), dtype=torch.int32, device=coords.device)
    index = torch.empty(n, dtype=torch.int32, device=coords.device)
    if n:
        size = children.numel()
        _list_kernel[(triton.cdiv(size, 1024),)](coords, children, listed, index, size, SIZE=1024)
    return listed, index


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """(m, c), int32 (n,) with -1 for zeros -> (n, c)."""
    n, c = len(index), x.shape[1]
    out = torch.empty((n, c), dtype=x.dtype, device=x.device)
    if out.numel():
        block = min(512, triton.next_power_of_2(c))
        rows = 4096 // block
        _gather_kernel[(triton.cdiv(n, rows), triton.cdiv(c, block))](
            x, index, out, n, c, ROWS=rows, SIZE=block
        )
    return out


@triton.jit
def _list_kernel(coords, children, listed, index, size, SIZE: tl.constexpr):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    child = tl.load(children + at, mask=at < size, other=-1).to(tl.int64)
    here = child >= 0
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
