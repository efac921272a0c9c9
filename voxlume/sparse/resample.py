"""Between a grid and the grid of half its resolution: space-to-channel and back, pooling, copying."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxlume.sparse.gather import gather_rows
from voxlume.sparse.lineage import children_of, parents_of
from voxlume.sparse.tensor import CoordinateSet, Lineage, SparseTensor


@dataclass(frozen=True, eq=False)
class Subdivision:
    """The children that are kept of each voxel of a set; serves all tensors on it.

    Attributes
    ----------
    children : their coordinate set. That of :func:`subdivide` is ordered parent by parent with ascending
        slots; any set will do whose parents, as :func:`.lineage.parents_of` finds them, are all voxels of
        the set that is subdivided, in its order.
    """

    children: CoordinateSet

    @property
    def lineage(self) -> Lineage:
        return self.children.lineage or parents_of(self.children)

    @property
    def kept(self) -> Tensor:
        """bool (n, 8), which children of each voxel there are."""
        return self.lineage.children >= 0


def subdivide(x: SparseTensor, kept: Tensor) -> Subdivision:
    """The kept children of every voxel, ``kept`` bool (n, 8)."""
    return Subdivision(children_of(x.cache, kept))


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
    features = gather_rows(slots, plan.lineage.index, plan.lineage.children.flatten())
    return SparseTensor.on(plan.children, features)


def nearest_upsample(x: SparseTensor, kept: Tensor | Subdivision) -> SparseTensor:
    """Give each kept child a copy of its parent's channels; ``kept`` as in :func:`channel_to_space`."""
    plan = kept if isinstance(kept, Subdivision) else subdivide(x, kept)
    return SparseTensor.on(plan.children, x.features.index_select(0, plan.lineage.index >> 3))


def space_to_channel(x: SparseTensor) -> SparseTensor:
    """Join the children of each parent along the channels.

    Returns
    -------
    SparseTensor : parents in lexicographic order of (batch, x, y, z) with 8c channels, index slot * c +
        channel; zeros where a child is absent. Its coordinate set is made once per coordinate set of x.
    """
    lineage = parents_of(x.cache)
    slots = gather_rows(x.features, lineage.children.flatten(), lineage.index)
    return SparseTensor.on(lineage.parents, slots.view(-1, 8 * x.channels))


def mean_pool(x: SparseTensor) -> SparseTensor:
    """The mean over the children that exist, parents ordered as in :func:`space_to_channel`."""
    lineage = parents_of(x.cache)
    slots = space_to_channel(x).features.view(-1, 8, x.channels)
    wide = torch.promote_types(x.dtype, torch.float32)
    count = (lineage.children >= 0).sum(1, keepdim=True)
    return SparseTensor.on(lineage.parents, (slots.sum(1, dtype=wide) / count).to(x.dtype))
