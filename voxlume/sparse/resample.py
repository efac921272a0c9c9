"""Between a grid and the grid of half its resolution: space-to-channel and back, pooling and copying.

A voxel with coordinates c has the parent c >> 1 and in it the slot (x&1) + 2 (y&1) + 4 (z&1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxlume.sparse.neighbors import voxel_keys
from voxlume.sparse.tensor import CoordinateSet, Lineage, SparseTensor


@dataclass(frozen=True, eq=False)
class Subdivision:
    """The children that are kept of each voxel, parent by parent with ascending slots.

    Attributes
    ----------
    children : their coordinate set.
    index : int64 (n_children,), 8 * row of the parent + slot.
    """

    children: CoordinateSet
    index: Tensor


def subdivide(x: SparseTensor, kept: Tensor) -> Subdivision:
    """The kept children of every voxel, ``kept`` bool (n, 8); serves all tensors on the same voxels."""
    index = kept.flatten().nonzero().squeeze(1)
    parent, slot = index >> 3, index & 7
    coords = x.coords[parent]
    coords[:, 1:] = 2 * coords[:, 1:] + _slot_positions(slot)
    table = torch.full((len(x) * 8,), -1, dtype=torch.int32, device=index.device)
    table[index] = torch.arange(len(index), dtype=torch.int32, device=index.device)
    lineage = Lineage(x.cache, parent, slot, table.view(-1, 8))
    return Subdivision(CoordinateSet(coords, x.batch_size, lineage), index)


def channel_to_space(x: SparseTensor, kept: Tensor | Subdivision) -> SparseTensor:
    """Give each kept child its eighth of the parent's channels; the inverse of :func:`space_to_channel`.

    Parameters
    ----------
    x : n voxels with 8c channels, slot by slot.
    kept : bool (n, 8), or what :func:`subdivide` made of it.

    Returns
    -------
    SparseTensor : the kept children with c channels, parent by parent, slots ascending.
    """
    plan = kept if isinstance(kept, Subdivision) else subdivide(x, kept)
    slots = x.features.reshape(len(x) * 8, x.channels // 8)
    return SparseTensor.on(plan.children, slots.index_select(0, plan.index))


def nearest_upsample(x: SparseTensor, kept: Tensor | Subdivision) -> SparseTensor:
    """Give each kept child a copy of its parent's channels; ``kept`` as in :func:`channel_to_space`."""
    plan = kept if isinstance(kept, Subdivision) else subdivide(x, kept)
    return SparseTensor.on(plan.children, x.features.index_select(0, plan.index >> 3))


def space_to_channel(x: SparseTensor) -> SparseTensor:
    """Join the children of each parent along the channels.

    Returns
    -------
    SparseTensor : parents in lexicographic order of (batch, x, y, z) with 8c channels, index slot * c +
        channel; zeros where a child is absent. Its coordinate set is made once per coordinate set of x.
    """
    lineage = parents_of(x.cache)
    slots = x.features.new_zeros((len(lineage.parents) * 8, x.channels))
    slots = slots.index_copy(0, lineage.parent * 8 + lineage.slot, x.features)
    return SparseTensor.on(lineage.parents, slots.view(-1, 8 * x.channels))


def mean_pool(x: SparseTensor) -> SparseTensor:
    """The mean over the children that exist, parents ordered as in :func:`space_to_channel`."""
    lineage = parents_of(x.cache)
    slots = space_to_channel(x).features.view(-1, 8, x.channels)
    wide = torch.promote_types(x.dtype, torch.float32)
    count = (lineage.children >= 0).sum(1, keepdim=True)
    return SparseTensor.on(lineage.parents, (slots.sum(1, dtype=wide) / count).to(x.dtype))


def parents_of(coordinates: CoordinateSet) -> Lineage:
    """The parents of a coordinate set, in lexicographic order, and who their children are; made once."""

    def build() -> Lineage:
        coords = coordinates.coords
        halved = torch.cat([coords[:, :1], coords[:, 1:] >> 1], dim=1)
        _, parent = torch.unique(voxel_keys(halved)[0], return_inverse=True)
        slot = (coords[:, 1] & 1) + 2 * (coords[:, 2] & 1) + 4 * (coords[:, 3] & 1)
        slot = slot.long()
        n_parents = int(parent.max()) + 1 if len(parent) else 0
        table = torch.full((n_parents * 8,), -1, dtype=torch.int32, device=coords.device)
        table[parent * 8 + slot] = torch.arange(len(coords), dtype=torch.int32, device=coords.device)
        parents = torch.empty((n_parents, 4), dtype=torch.int32, device=coords.device)
        parents[parent] = halved
        return Lineage(CoordinateSet(parents, coordinates.batch_size), parent, slot, table.view(-1, 8))

    return coordinates.memo("parents", build)


def _slot_positions(slot: Tensor) -> Tensor:
    """Slots 0..7 (n,) -> int32 (n, 3), where in the parent's 2x2x2 cube they lie."""
    return torch.stack([slot & 1, slot >> 1 & 1, slot >> 2], dim=1).to(torch.int32)
