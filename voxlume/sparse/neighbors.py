"""Which row holds each of a voxel's 27 neighbours (itself included).

Three ways to the same map: derived from the parents' map, which a grid with any structure gets for a
quarter of the search; a hash table on CUDA (:mod:`voxlume.sparse.neighbors_triton`); and a search in sorted
64-bit keys elsewhere.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from voxlume.sparse.backend import use_triton
from voxlume.sparse.keys import voxel_keys
from voxlume.sparse.lineage import bounds_within, parents_of
from voxlume.sparse.tensor import CoordinateSet, Lineage

OFFSETS = tuple((dx, dy, dz) for dx in (-1, 0, 1) for dy in (-1, 0, 1) for dz in (-1, 0, 1))
"""(dx, dy, dz) of neighbour 0..26, z fastest; 13 is the voxel itself and 26 - o lies opposite o."""
CENTER = 13


SEARCHED = 4096
"""Sets up to this size are searched directly; a larger one asks its parents first."""


def neighbor_map(coordinates: CoordinateSet) -> Tensor:
    """Rows of all neighbours, built once per coordinate set.

    Returns
    -------
    int32 (n, 27), -1 where there is no voxel.
    """
    return coordinates.memo("neighbors", lambda: _build(coordinates))


def _build(coordinates: CoordinateSet) -> Tensor:
    find, derive = find_neighbors, derive_neighbors
    if use_triton(coordinates.coords.device):
        from voxlume.sparse import neighbors_triton as fast

        find, derive = fast.find_neighbors, fast.derive_neighbors
    if coordinates.lineage is not None:
        return derive(neighbor_map(coordinates.lineage.parents), coordinates.lineage)
    if len(coordinates) > SEARCHED:
        lineage = parents_of(coordinates)
        # Scattered voxels have almost as many parents: then there is nothing to gain.
        if 2 * len(lineage.parents) < len(coordinates):
            return derive(neighbor_map(lineage.parents), lineage)
    return find(*voxel_keys(coordinates.coords, bounds=bounds_within(coordinates)))


def find_neighbors(keys: Tensor, strides: tuple[int, int, int]) -> Tensor:
    """Neighbour map by binary search: keys int64 (n,) and strides of :func:`voxel_keys` -> int32 (n, 27)."""
    n = len(keys)
    ordered, order = torch.sort(keys)
    order = order.to(torch.int32)
    neighbors = torch.full((27, n), -1, dtype=torch.int32, device=keys.device)
    if n == 0:
        return neighbors.T.contiguous()
    neighbors[CENTER] = order
    for o in range(CENTER):
        wanted = ordered + sum(d * s for d, s in zip(OFFSETS[o], strides, strict=True))
        at = torch.searchsorted(ordered, wanted).clamp_(max=n - 1)
        found = ordered[at] == wanted
        neighbors[o] = torch.where(found, order[at], -1)
        # Whoever has a neighbour behind is that neighbour's neighbour ahead.
        neighbors[26 - o].scatter_(0, at[found], order[found])
    return torch.empty_like(neighbors.T, memory_format=torch.contiguous_format).index_copy_(
        0, order.long(), neighbors.T
    )


def derive_neighbors(parent_neighbors: Tensor, lineage: Lineage) -> Tensor:
    """Neighbour map of children from their parents' map, without any search.

    Parameters
    ----------
    parent_neighbors : int32 (n_parents, 27).

    Returns
    -------
    int32 (n, 27)
    """
    n, device = len(lineage.index), parent_neighbors.device
    parent_offset, child_slot = (t.to(device) for t in _child_tables())
    mother, place = lineage.index.long() >> 3, lineage.index.long() & 7
    neighbors = torch.empty((n, 27), dtype=torch.int32, device=device)
    for o in range(27):
        # The row of the parent that holds the neighbour, then the row of the neighbour in it.
        parent = parent_neighbors[mother, parent_offset[place, o]]
        child = lineage.children[parent.clamp(min=0).long(), child_slot[place, o]]
        neighbors[:, o] = torch.where(parent >= 0, child, -1)
    return neighbors


@cache
def _child_tables() -> tuple[Tensor, Tensor]:
    """For a child in slot s and neighbour o, int64 (8, 27): the parent's neighbour, and the slot in it."""
    parents, slots = [], []
    for s in range(8):
        position = (s & 1, s >> 1 & 1, s >> 2 & 1)
        moved = [[p + d for p, d in zip(position, offset, strict=True)] for offset in OFFSETS]
        parents.append([9 * (x // 2 + 1) + 3 * (y // 2 + 1) + z // 2 + 1 for x, y, z in moved])
        slots.append([(x & 1) + 2 * (y & 1) + 4 * (z & 1) for x, y, z in moved])
    return torch.tensor(parents), torch.tensor(slots)
