"""Coordinate sets and their parents on the grid of half the resolution.

A voxel with coordinates c has the parent c >> 1 and in it the slot (x&1) + 2 (y&1) + 4 (z&1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.sparse.backend import use_triton
from voxlume.sparse.keys import voxel_keys
from voxlume.sparse.tensor import CoordinateSet, Lineage


def parents_of(coordinates: CoordinateSet) -> Lineage:
    """The parents of a coordinate set, in lexicographic order, and who their children are; made once."""

    def build() -> Lineage:
        coords, n = coordinates.coords, len(coordinates)
        slot = (coords[:, 1] & 1) + 2 * (coords[:, 2] & 1) + 4 * (coords[:, 3] & 1)
        halved = torch.cat([coords[:, :1], coords[:, 1:] >> 1], dim=1)
        keys, order = torch.sort(voxel_keys(halved)[0])
        rank = torch.zeros(n, dtype=torch.int64, device=coords.device)
        rank[1:] = (keys[1:] != keys[:-1]).cumsum(0)
        n_parents = int(rank[-1]) + 1 if n else 0
        parents = torch.empty((n_parents, 4), dtype=torch.int32, device=coords.device)
        parents[rank] = halved[order]
        child = rank * 8 + slot[order]
        children = torch.full((n_parents * 8,), -1, dtype=torch.int32, device=coords.device)
        children[child] = order.int()
        index = torch.empty(n, dtype=torch.int32, device=coords.device)
        index[order] = child.int()
        return Lineage(CoordinateSet(parents, coordinates.batch_size), index, children.view(-1, 8))

    return coordinates.memo("parents", build)


def children_of(coordinates: CoordinateSet, kept: Tensor) -> CoordinateSet:
    """The kept children, ``kept`` bool (n, 8), of every voxel: parent by parent, slots ascending."""
    kept = kept.flatten()
    last = kept.cumsum(0, dtype=torch.int32)
    table = torch.where(kept, last - 1, -1).view(-1, 8)
    n = int(last[-1]) if len(last) else 0
    if use_triton(kept.device):
        from voxlume.sparse import lineage_triton as fast

        coords, index = fast.list_children(coordinates.coords, table, n)
    else:
        coords, index = list_children(coordinates.coords, table, n)
    return CoordinateSet(coords, coordinates.batch_size, Lineage(coordinates, index, table))


def list_children(coords: Tensor, children: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Write out a table of children.

    Parameters
    ----------
    coords : int32 (n_parents, 4); children : int32 (n_parents, 8), rows 0..n-1 or -1, ascending.

    Returns
    -------
    coords : int32 (n, 4); index : int32 (n,), 8 * row of the parent + slot.
    """
    index = (children.flatten() >= 0).nonzero().squeeze(1)
    parent, slot = index >> 3, (index & 7).int()
    listed = coords[parent]
    listed[:, 1:] = 2 * listed[:, 1:] + torch.stack([slot & 1, slot >> 1 & 1, slot >> 2], dim=1)
    return listed, index.int()
