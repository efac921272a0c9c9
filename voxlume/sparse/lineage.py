"""Coordinate sets and their parents on the grid of half the resolution.

A voxel with coordinates c has the parent c >> 1 and in it the slot (x&1) + 2 (y&1) + 4 (z&1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.sparse.backend import use_triton
from voxlume.sparse.keys import Bounds, bounds_of, halved, voxel_keys
from voxlume.sparse.tensor import CoordinateSet, Lineage


def parents_of(coordinates: CoordinateSet) -> Lineage:
    """The parents of a coordinate set, in lexicographic order, and who their children are; made once."""

    def build() -> Lineage:
        coords = coordinates.coords
        bounds = bounds_within(coordinates)
        keys, order = torch.sort(voxel_keys(coords, halvings=1, bounds=bounds, narrow=True)[0])
        rank = torch.zeros(len(keys), dtype=torch.int32, device=keys.device)
        torch.cumsum(keys[1:] != keys[:-1], 0, out=rank[1:])
        n_parents = int(rank[-1]) + 1 if len(keys) else 0
        link = link_parents
        if use_triton(keys.device):
            from voxlume.sparse import lineage_triton as fast

            link = fast.link_parents
        parents, index, children = link(coords, order, rank, n_parents)
        above = CoordinateSet(parents, coordinates.batch_size)
        if bounds is not None:
            above.memo("bounds", lambda: halved(bounds))
        return Lineage(above, index, children)

    return coordinates.memo("parents", build)


def bounds_within(coordinates: CoordinateSet) -> Bounds | None:
    """The bounds of a coordinate set, asked once for it and all its ancestors; None if it is empty."""
    if len(coordinates) == 0:
        return None
    return coordinates.memo("bounds", lambda: bounds_of(coordinates.coords))


def link_parents(
    coords: Tensor, order: Tensor, rank: Tensor, n_parents: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Write out who is whose parent.

    Parameters
    ----------
    coords : int32 (n, 4); order : int64 (n,), their rows ordered by parent; rank : int32 (n,), the row of
        each of those parents.

    Returns
    -------
    parents : int32 (n_parents, 4); index : int32 (n,), 8 * row of the parent + slot; children : int32
        (n_parents, 8), row of each child or -1.
    """
    ordered, rank = coords[order], rank.long()
    parents = torch.empty((n_parents, 4), dtype=torch.int32, device=coords.device)
    parents[rank] = torch.cat([ordered[:, :1], ordered[:, 1:] >> 1], dim=1)
    place = rank * 8 + (ordered[:, 1] & 1) + 2 * (ordered[:, 2] & 1) + 4 * (ordered[:, 3] & 1)
    index = torch.empty(len(coords), dtype=torch.int32, device=coords.device)
    index[order] = place.int()
    children = torch.full((n_parents * 8,), -1, dtype=torch.int32, device=coords.device)
    children[place] = order.int()
    return parents, index, children.view(-1, 8)


def children_of(coordinates: CoordinateSet, kept: Tensor) -> CoordinateSet:
    """The kept children, ``kept`` bool (n, 8), of every voxel: parent by parent, slots ascending."""
    last = kept.flatten().cumsum(0, dtype=torch.int32)
    n = int(last[-1]) if len(last) else 0
    listing = list_children
    if use_triton(kept.device):
        from voxlume.sparse import lineage_triton as fast

        listing = fast.list_children
    coords, index, children = listing(coordinates.coords, kept, last, n)
    return CoordinateSet(coords, coordinates.batch_size, Lineage(coordinates, index, children))


def list_children(coords: Tensor, kept: Tensor, last: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Write out the kept children.

    Parameters
    ----------
    coords : int32 (n_parents, 4); kept : bool (n_parents, 8); last : int32 (8 * n_parents,), how many are
        kept up to and with each; n : how many in all.

    Returns
    -------
    coords : int32 (n, 4); index : int32 (n,), 8 * row of the parent + slot; children : int32 (n_parents, 8),
        row of each child or -1.
    """
    children = torch.where(kept.flatten(), last - 1, -1).view(-1, 8)
    index = kept.flatten().nonzero().squeeze(1)
    parent, slot = index >> 3, (index & 7).int()
    listed = coords[parent]
    listed[:, 1:] = 2 * listed[:, 1:] + torch.stack([slot & 1, slot >> 1 & 1, slot >> 2], dim=1)
    return listed, index.int(), children
