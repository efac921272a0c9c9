"""Which children of each voxel exist: the masks that steer a decoder along known coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.sparse.neighbors import voxel_keys
from voxlume.sparse.resample import Subdivision, parents_of
from voxlume.sparse.tensor import CoordinateSet, SparseTensor


def subdivisions_to(fine: CoordinateSet, levels: int) -> list[Subdivision]:
    """The ``levels`` subdivisions, coarse to fine, that lead from the ancestors of ``fine`` to itself.

    They guide a decoder whose latent lies on the ancestors themselves, which is where an encoder leaves it.
    Decoder and encoder then share coordinate sets and neighbour maps; the output has the rows of ``fine``.
    """
    steps = [Subdivision(fine)]
    for _ in range(levels - 1):
        steps.append(Subdivision(steps[-1].lineage.parents))
    return steps[::-1]


def subdivision_masks(latent: SparseTensor, fine: CoordinateSet, levels: int) -> list[Tensor]:
    """The masks with which a decoder arrives at exactly the voxels of ``fine``.

    They serve where there is no shape decoder to predict them: in training and in texturing.

    Parameters
    ----------
    latent : the decoder's input; its voxels in any order. A voxel that ``fine`` has nothing in gets no
        child, and voxels of ``fine`` outside all latent voxels are left out.
    fine : the voxels to arrive at, ``levels`` subdivisions finer.

    Returns
    -------
    One bool (n_level, 8) per subdivision, coarse to fine, its rows in the order in which the decoder has
    the voxels of that level.
    """
    chain = []
    for _ in range(levels):
        chain.append(parents_of(fine))
        fine = chain[-1].parents
    row = rows_in(latent.coords, fine.coords)
    masks = []
    for lineage in reversed(chain):
        # Row -1, a voxel that is not there, reads the appended row of absent children.
        children = torch.nn.functional.pad(lineage.children, (0, 0, 0, 1), value=-1)[row]
        masks.append(children >= 0)
        row = children[masks[-1]].long()
    return masks


def rows_in(wanted: Tensor, coords: Tensor) -> Tensor:
    """Row of every wanted voxel (n, 4) in ``coords`` (m, 4), int64 (n,); -1 where it is not there."""
    keys, _ = voxel_keys(torch.cat([wanted, coords]))
    wanted_keys, keys = keys[: len(wanted)], keys[len(wanted) :]
    if len(keys) == 0:
        return torch.full_like(wanted_keys, -1)
    ordered, order = torch.sort(keys)
    at = torch.searchsorted(ordered, wanted_keys).clamp_(max=len(keys) - 1)
    return torch.where(ordered[at] == wanted_keys, order[at], -1)
