"""Which row holds each of a voxel's 27 neighbours (itself included).

Three ways to the same map: derived from the parents' map where a set came out of a coarser one, a hash
table on CUDA (:mod:`voxlume.sparse.neighbors_triton`), and a search in sorted 64-bit keys elsewhere.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from voxlume.errors import VoxlumeError
from voxlume.sparse.backend import use_triton
from voxlume.sparse.tensor import CoordinateSet, Lineage

OFFSETS = tuple((dx, dy, dz) for dx in (-1, 0, 1) for dy in (-1, 0, 1) for dz in (-1, 0, 1))
"""(dx, dy, dz) of neighbour 0..26, z fastest; 13 is the voxel itself and 26 - o lies opposite o."""
CENTER = 13


def neighbor_map(coordinates: CoordinateSet) -> Tensor:
    """Rows of all neighbours, built once per coordinate set.

    Returns
    -------
    int32 (n, 27), -1 where there is no voxel.
    """

    def build() -> Tensor:
        triton = use_triton(coordinates.coords.device)
        if triton:
            from voxlume.sparse import neighbors_triton as fast
        if coordinates.lineage is not None:
            derive = fast.derive_neighbors if triton else derive_neighbors
            return derive(neighbor_map(coordinates.lineage.parents), coordinates.lineage)
        keys, strides = voxel_keys(coordinates.coords)
        return (fast.find_neighbors if triton else find_neighbors)(keys, strides)

    return coordinates.memo("neighbors", build)


def voxel_keys(coords: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """One integer per voxel such that a step along an axis is an addition.

    Parameters
    ----------
    coords : int32 (n, 4), rows (batch, x, y, z); any int32 values.

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
    low, high = torch.stack([coords.amin(0), coords.amax(0)]).tolist()
    batches, x, y, z = (last - first + 1 for first, last in zip(low, high, strict=True))
    strides = ((y + 2) * (z + 2), z + 2, 1)
    sample_stride = (x + 2) * strides[0]
    c = coords.to(torch.int64) - torch.tensor(low, device=coords.device)
    sample = c[:, 0]
    if batches * sample_stride >= 2**63:
        present, sample = torch.unique(sample, return_inverse=True)
        batches = len(present)
    if batches * sample_stride >= 2**63:
        raise VoxlumeError(
            f"voxel coordinates span {x} x {y} x {z}: too far apart to index; use a smaller grid"
        )
    keys = sample * sample_stride + (c[:, 1] + 1) * strides[0] + (c[:, 2] + 1) * strides[1] + c[:, 3] + 1
    return keys, strides


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
    n, device = len(lineage.parent), parent_neighbors.device
    parent_offset, child_slot = (t.to(device) for t in _child_tables())
    neighbors = torch.empty((n, 27), dtype=torch.int32, device=device)
    for o in range(27):
        # The row of the parent that holds the neighbour, then the row of the neighbour in it.
        parent = parent_neighbors[lineage.parent, parent_offset[lineage.slot, o]]
        child = lineage.children[parent.clamp(min=0).long(), child_slot[lineage.slot, o]]
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
