"""What an object's outline in its picture says about where the object can be.

What lies outside the outline is no part of the object, wherever along the line of sight; this needs to know
where the picture was taken from, which a camera head tells.

Shape suffixes: a directions, g cells along an edge of the grid.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from voxlume.models.camera_head import CameraTold

ERROR = 4 / 256
"""How far from the outline a cell may be seen, as a share of the picture's side, since cameras are told with
errors."""

NEGLIGIBLE = 0.02
"""Directions less likely than this, and than the likeliest, are left out."""

SIDE = 256
"""Pixels along an edge of the masks that are looked at; finer ones would tell nothing more."""


def mask_of(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a preprocessed picture (s, s, 3) shows its object, bool (s, s): where it is not exactly black.

    Black specks of the object are lost here; they are far smaller than what :func:`inside_outline` allows.
    """
    return np.any(picture, axis=2).astype(bool)


def inside_outline(told: CameraTold, mask: NDArray[np.bool_] | Tensor, grid: int) -> Tensor:
    """How likely each cell is seen inside the object's outline.

    Parameters
    ----------
    told : of one picture (b = 1).
    mask : bool (s, s), where the picture shows the object, rows downwards.
    grid : cells along an edge of the cube [-0.5, 0.5]^3 of the Z-up model frame.

    Returns
    -------
    float32 (g, g, g) on the CPU, the sum of the probabilities of the directions from which the centre is
    seen inside, or half a cell and :data:`ERROR` beside it. 1 everywhere where the mask says nothing: it is
    empty, or there is no background.
    """
    device = told.logits.device if told.logits.is_cuda else "cpu"  # cameras need float64, which MPS lacks
    told = CameraTold(*(part[:1].float().to(device) for part in _parts(told)))
    everywhere = torch.ones((grid, grid, grid))
    # Half a cell, at the distance of the origin where the window is measured, as a share of the side.
    half_side = float(told.window[0, 2].clamp(min=0.02))
    near = _grown(torch.as_tensor(mask, device=device), 0.25 / grid / half_side + ERROR)
    if bool(near.all()) or not bool(near.any()):
        return everywhere
    likely, azimuth = directions(told)
    axis = (torch.arange(grid, device=device) + 0.5) / grid - 0.5
    centres = torch.cartesian_prod(axis, axis, axis)
    matrix = told.cameras(azimuth).matrix()
    seen = torch.einsum("aij,nj->ani", matrix[:, :, :3], centres) + matrix[:, None, :, 3]
    x, y = (seen[..., :2] / seen[..., 2:].clamp(min=1e-6)).unbind(-1)
    column, row = ((1 + x) / 2 * SIDE).floor(), ((1 - y) / 2 * SIDE).floor()
    shown = (seen[..., 2] > 0) & (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
    place = (row * SIDE + column).where(shown, column.new_zeros(())).long()
    inside_an = near.flatten()[place] & shown
    return (likely @ inside_an.float()).clamp(0, 1).reshape(grid, grid, grid).cpu()


def directions(told: CameraTold) -> tuple[Tensor, Tensor]:
    """The likely directions of the first picture: probabilities (a,), which sum to one, and azimuths (a,) in
    radians.

    What lies between two directions is told as a share of both, so each is moved to the middle of what is
    told of it and its neighbours.
    """
    likely = told.logits[0].softmax(0)
    before, after = likely.roll(1), likely.roll(-1)
    offset = (after - before) / (before + likely + after)
    place = torch.arange(len(likely), device=likely.device) + offset
    azimuth = place * (2 * math.pi / len(likely)) - math.pi
    kept = likely >= min(NEGLIGIBLE, float(likely.max()))
    return likely[kept] / likely[kept].sum(), azimuth[kept]


def _parts(told: CameraTold) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return told.logits, told.elevation, told.nearness, told.window


def _grown(mask: Tensor, share: float) -> Tensor:
    """The mask on :data:`SIDE` pixels, grown in all directions by a share of its side; bool."""
    reach = min(math.ceil(share * SIDE), SIDE // 2)
    small = F.adaptive_max_pool2d(mask[None].float(), SIDE)
    tall = F.max_pool2d(small, (2 * reach + 1, 1), 1, (reach, 0))
    return F.max_pool2d(tall, (1, 2 * reach + 1), 1, (0, reach))[0] > 0
