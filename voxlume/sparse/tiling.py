"""Voxels grouped into tiles that share a neighbourhood, for the convolution kernels.

A matrix unit works on tiles of rows. Where no voxel of a tile has neighbour o, that part of the product
is skipped; so rows are ordered by the pattern of their neighbours, within windows small enough that what
they gather stays in the cache. A small grid has too few voxels of each pattern for that: there the 27
neighbours are split into parts, each with an order of its own, and the parts' results are added.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.sparse.backend import cdiv
from voxlume.sparse.neighbors import neighbor_map
from voxlume.sparse.tensor import CoordinateSet, Lineage

WINDOW = 1 << 17
"""Rows that are ordered by pattern together: what they gather shall fit the L2 cache."""
CHILD_WINDOW = 1 << 16
"""The same for parents whose children are computed, slot by slot."""
HEAVY_FIRST = 4096
"""Up to so many tiles, the heavy ones come first so that none of them is waited for at the end; of more,
neighbours had better run together."""

SIGNIFICANCE = (12, 15, 4, 16, 3, 10, 11, 23, 22, 7, 14, 20, 19, 6, 18, 9, 8, 2, 5, 1, 0, 25, 26, 21, 24, 17)
"""Neighbours from most to least significant in the order of patterns (the centre is always there).

Found by annealing on shells of a sphere and a tilted torus: sorting by it leaves 4 % less work in tiles
of 128 than sorting by the neighbours' own order.
"""


@dataclass(frozen=True, eq=False)
class Tiling:
    """Tiles of ``size`` rows and, for each, the neighbours that any of its rows has.

    Attributes
    ----------
    parts : 1, 3 or 9 parts of the neighbourhood, each of 27 / parts neighbours that follow one another.
    rows : int32 (parts, tiles * size), per part a permutation of the output's rows, -1 where a tile is not
        full.
    counts : int32 (parts * tiles,), how many of the part's neighbours occur in the tile.
    offsets : int32 (parts * tiles, 27 / parts), which ones, ascending; the first ``count`` are meaningful.
    neighbors : int32 (parts * tiles, 27 / parts, size), the neighbours' rows in that order, -1 where
        absent; a tile without neighbours has one entry of -1.
    order : int64 (parts * tiles,), the tiles in the order in which to compute them, or None: as they are.
    slots : int32 (tiles,), for an output on the children of the input's voxels: the slot that all rows of
        a tile have; otherwise None.
    """

    size: int
    parts: int
    rows: Tensor
    counts: Tensor
    offsets: Tensor
    neighbors: Tensor
    order: Tensor | None
    slots: Tensor | None = None


def tiling(coordinates: CoordinateSet, size: int, parts: int = 1) -> Tiling:
    """The tiling of a coordinate set, made once for each tile size and number of parts."""

    def build() -> Tiling:
        return make_tiling(neighbor_map(coordinates), size, parts)

    return coordinates.memo(f"{parts} x tiles of {size}", build)


def make_tiling(neighbors: Tensor, size: int, parts: int = 1, window: int = WINDOW) -> Tiling:
    """Neighbour map int32 (n, 27) -> :class:`Tiling`."""
    n = len(neighbors)
    # 26 bits of pattern leave room for 32 windows in an int32, which sorts twice as fast as an int64.
    pattern = _patterns(neighbors, parts, max(window, cdiv(n, 32)))
    return _pack(neighbors, torch.argsort(pattern, dim=1), None, None, size, parts)


def make_child_tiling(
    neighbors: Tensor, lineage: Lineage, size: int, parts: int = 1, window: int = CHILD_WINDOW
) -> Tiling:
    """Tiles of children, each tile of one slot, whose neighbours are those of their parents.

    ``neighbors`` is the parents' map int32 (n_parents, 27).
    """
    n, device = len(lineage.index), neighbors.device
    # Three bits for the slot, three for the window: the least significant neighbour's bit has to go.
    pattern = _patterns(neighbors, parts, max(window, cdiv(len(neighbors), 8)))
    key = torch.empty((parts, n), dtype=torch.int32, device=device)
    _child_key_kernel[(cdiv(n, 1024), parts)](pattern, lineage.index, key, n, len(neighbors), SIZE=1024)
    key, order = torch.sort(key, dim=1)
    ends = torch.searchsorted(key[0], _last_keys(device), right=True)
    return _pack(neighbors, order, lineage.index, ends, size, parts)


@cache
def _last_keys(device: torch.device) -> Tensor:
    """The largest key that a child in slot 0, 1, .. 7 can have."""
    return torch.tensor([(slot + 1 << 28) - 1 for slot in range(8)], dtype=torch.int32, device=device)


def _patterns(neighbors: Tensor, parts: int, window: int) -> Tensor:
    """Sort key int32 (parts, n) of each row for each part: its window, then which neighbours it has."""
    n, device = len(neighbors), neighbors.device
    pattern = torch.empty((parts, n), dtype=torch.int32, device=device)
    _pattern_kernel[(cdiv(n, 128), parts)](
        neighbors, _pattern_bits(parts, device), pattern, n, window, EACH=27 // parts, ROWS=128
    )
    return pattern


def _pack(
    neighbors: Tensor, sequence: Tensor, index: Tensor | None, ends: Tensor | None, size: int, parts: int
) -> Tiling:
    """Write out the tiles of the rows in ``sequence`` (parts, n).

    For children, ``index`` is that of their lineage and ``ends`` (8,) tells where each slot's run of the
    sequence ends.
    """
    device, each, n = neighbors.device, 27 // parts, sequence.shape[1]
    tiles = cdiv(n, size) if ends is None else n // size + 8
    rows = torch.empty((parts, tiles * size), dtype=torch.int32, device=device)
    counts = torch.empty(parts * tiles, dtype=torch.int32, device=device)
    offsets = torch.empty((parts * tiles, each), dtype=torch.int32, device=device)
    packed = torch.empty((parts * tiles, each, size), dtype=torch.int32, device=device)
    slots = None if ends is None else torch.empty(tiles, dtype=torch.int32, device=device)
    _pack_kernel[(tiles, parts)](
        neighbors, sequence, index, ends, rows, counts, offsets, packed, slots, n, EACH=each, SIZE=size
    )
    order = None
    if parts * tiles <= HEAVY_FIRST:
        order = torch.argsort(counts, descending=True)
    return Tiling(size, parts, rows, counts, offsets, packed, order, slots)


@cache
def _pattern_bits(parts: int, device: torch.device) -> Tensor:
    """int32 (27,), what each neighbour adds to the pattern of its part; at most 26 bits in a part."""
    bits = torch.zeros(27, dtype=torch.int32)
    if parts == 1:
        bits[torch.tensor(SIGNIFICANCE)] = 1 << torch.arange(25, -1, -1, dtype=torch.int32)
    else:
        each = 27 // parts
        bits = 1 << (26 - each + torch.arange(27, dtype=torch.int32) % each)
    return bits.to(device)


@triton.jit
def _pattern_kernel(neighbors, bits, pattern, n, window, EACH: tl.constexpr, ROWS: tl.constexpr):
    part = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    o = tl.arange(0, 32)
    inside = (row < n)[:, None] & (o < EACH)[None, :]
    neighbor = tl.load(neighbors + row[:, None] * 27 + (part * EACH + o)[None, :], mask=inside, other=-1)
    bit = tl.load(bits + part * EACH + o, mask=o < EACH, other=0)
    key = tl.sum(tl.where(neighbor >= 0, bit[None, :], 0), axis=1) | (row // window << 26).to(tl.int32)
    tl.store(pattern + part * n + row, key, mask=row < n)


@triton.jit
def _child_key_kernel(pattern, index, key, n, parents, SIZE: tl.constexpr):
    part = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    at = tl.load(index + row, mask=row < n, other=0)
    of_parent = tl.load(pattern + part * parents + (at >> 3), mask=row < n, other=0)
    tl.store(key + part * n + row, ((at & 7) << 28) | (of_parent >> 1), mask=row < n)


@triton.jit
def _pack_kernel(
    neighbors,
    sequence,
    index,
    ends,
    rows,
    counts,
    offsets,
    packed,
    slots,
    n,
    EACH: tl.constexpr,
    SIZE: tl.constexpr,
):
    part = tl.program_id(1)
    tile = part.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    m = tl.arange(0, SIZE)
    o = tl.arange(0, 32)
    if ends is None:
        at = tl.program_id(0) * SIZE + m
        last = n
    else:
        # Every slot starts a new tile; find the tile's slot and where in the slot's run it lies.
        s = tl.arange(0, 8)
        end = tl.load(ends + s).to(tl.int32)
        begin = tl.load(ends + s - 1, mask=s > 0, other=0).to(tl.int32)
        tiles = (end - begin + SIZE - 1) // SIZE
        before = tl.cumsum(tiles, axis=0) - tiles
        slot = tl.sum((before + tiles <= tl.program_id(0)).to(tl.int32), axis=0)
        tl.store(slots + tl.program_id(0), tl.minimum(slot, 7))
        at = tl.sum(tl.where(s == slot, begin - before * SIZE, 0), axis=0) + tl.program_id(0) * SIZE + m
        last = tl.sum(tl.where(s == slot, end, 0), axis=0)
    row = tl.load(sequence + part.to(tl.int64) * n + at, mask=at < last, other=-1)
    tl.store(rows + tile * SIZE + m, row.to(tl.int32))
    source = row
    if index is not None:
        source = (tl.load(index + row, mask=row >= 0, other=0) >> 3).to(tl.int64)
    inside = (row >= 0)[:, None] & (o < EACH)[None, :]
    neighbor = tl.load(neighbors + source[:, None] * 27 + (part * EACH + o)[None, :], mask=inside, other=-1)
    present = tl.max((neighbor >= 0).to(tl.int32), axis=0)
    count = tl.sum(present, axis=0)
    position = tl.cumsum(present, axis=0) - present
    written = tl.where(count > 0, present, (o == 0).to(tl.int32)) > 0
    tl.store(counts + tile, count)
    tl.store(offsets + tile * EACH + position, part * EACH + o, mask=written)
    target = packed + (tile * EACH + position[None, :]) * SIZE + m[:, None]
    tl.store(target, neighbor, mask=written[None, :] & (m >= 0)[:, None])
