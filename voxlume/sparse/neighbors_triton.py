"""The neighbour map on CUDA: a hash table of voxel keys, or the parents' map; see the twins in
:mod:`voxlume.sparse.neighbors`."""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.sparse.backend import cdiv, next_power_of_2
from voxlume.sparse.tensor import Lineage

_ROWS = 64


def find_neighbors(keys: Tensor, strides: tuple[int, int, int]) -> Tensor:
    """Neighbour map by hashing: keys int64 (n,) and strides of ``voxel_keys`` -> int32 (n, 27)."""
    n = len(keys)
    neighbors = torch.empty((n, 27), dtype=torch.int32, device=keys.device)
    if n:
        # The table holds rows, not keys: 4 bytes a slot, and at most half of the slots are taken.
        slots = next_power_of_2(2 * n)
        table = torch.full((slots,), -1, dtype=torch.int32, device=keys.device)
        _insert_kernel[(cdiv(n, 256),)](keys, table, n, slots - 1, ROWS=256)
        _find_kernel[(cdiv(n, _ROWS),)](keys, table, neighbors, n, slots - 1, *strides, ROWS=_ROWS)
    return neighbors


def derive_neighbors(parent_neighbors: Tensor, lineage: Lineage) -> Tensor:
    """Neighbour map of children from their parents' map int32 (n_parents, 27) -> int32 (n, 27)."""
    n = len(lineage.index)
    neighbors = torch.empty((n, 27), dtype=torch.int32, device=parent_neighbors.device)
    if n:
        _derive_kernel[(cdiv(n, _ROWS),)](
            parent_neighbors, lineage.index, lineage.children, neighbors, n, ROWS=_ROWS
        )
    return neighbors


@triton.jit
def _hash(key):
    mixed = key * -7046029254386353131  # 2^64 divided by the golden ratio, as a signed number
    return (mixed >> 32) ^ mixed


@triton.jit
def _insert_kernel(keys, table, n, last_slot, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    waiting = row < n
    slot = _hash(tl.load(keys + row, mask=waiting, other=0)) & last_slot
    while tl.max(waiting.to(tl.int32), axis=0) > 0:
        # An exchange cannot be masked: rows that are done expect -2, which no slot ever holds.
        found = tl.atomic_cas(table + slot, tl.where(waiting, -1, -2), row, sem="relaxed")
        waiting = waiting & (found != -1)
        slot = tl.where(waiting, (slot + 1) & last_slot, slot)


@triton.jit
def _find_kernel(
    keys, table, neighbors, n, last_slot, stride_x: tl.int64, stride_y: tl.int64, stride_z, ROWS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    o = tl.arange(0, 32)
    step = (o // 9 - 1) * stride_x + (o // 3 % 3 - 1) * stride_y + (o % 3 - 1) * stride_z
    inside = (row < n)[:, None] & (o < 27)[None, :]
    wanted = tl.load(keys + row, mask=row < n, other=0)[:, None] + step[None, :]
    slot = _hash(wanted) & last_slot
    result = tl.full((ROWS, 32), -1, tl.int32)
    searching = inside
    while tl.max(tl.max(searching.to(tl.int32), axis=1), axis=0) > 0:
        candidate = tl.load(table + slot, mask=searching, other=-1)
        searching = searching & (candidate >= 0)
        hit = tl.load(keys + candidate, mask=searching, other=-1) == wanted
        result = tl.where(searching & hit, candidate, result)
        searching = searching & (hit == 0)
        slot = (slot + 1) & last_slot
    tl.store(neighbors + row[:, None] * 27 + o[None, :], result, mask=inside)


@triton.jit
def _derive_kernel(parent_neighbors, index, children, neighbors, n, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    o = tl.arange(0, 32)[None, :]
    inside = (row < n)[:, None] & (o < 27)
    at = tl.load(index + row, mask=row < n, other=0)[:, None]
    mother, place = (at >> 3).to(tl.int64), at & 7
    # Where the neighbour lies, counted in voxels from the corner of this voxel's parent: -1..2.
    x = (place & 1) + o // 9 - 1
    y = (place >> 1 & 1) + o // 3 % 3 - 1
    z = (place >> 2) + o % 3 - 1
    over = 9 * ((x >> 1) + 1) + 3 * ((y >> 1) + 1) + (z >> 1) + 1
    aunt = tl.load(parent_neighbors + mother * 27 + over, mask=inside, other=-1).to(tl.int64)
    cousin = aunt * 8 + (x & 1) + 2 * (y & 1) + 4 * (z & 1)
    found = tl.load(children + cousin, mask=inside & (aunt >= 0), other=-1)
    tl.store(neighbors + row[:, None] * 27 + o, found, mask=inside)
