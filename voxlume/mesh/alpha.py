"""Which alpha mode a surface needs, from how its alpha is distributed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import AlphaMode

CLEAR_MASS = 0.002
"""Share of the surface that must be clearly translucent; below it, it is noise of an opaque object."""

_TRANSLUCENT = 0.9  # alpha below this shows
_GONE = 0.1  # alpha below this shows nothing
_TWO_VALUED = 0.25  # of what is not opaque: a mask's blurred border may have values in between
_LEAST_CUT_OUTS = 100.0  # see cut_outs: a pair of sunglasses has about 20, a small tree thousands


def alpha_mode_of(
    alpha: NDArray[np.floating],
    weights: NDArray[np.floating] | None = None,
    *,
    cuts: float = math.inf,
    clear_mass: float = CLEAR_MASS,
) -> AlphaMode:
    """OPAQUE unless a clear mass is translucent; then MASK where alpha is either nothing or all, else BLEND.

    Parameters
    ----------
    alpha : (n,) values in [0, 1] at points of the surface.
    weights : (n,) area that each one stands for; all alike by default.
    cuts : :func:`cut_outs`. A mask cuts many shapes out; a few clear panes are glass, however clear.
    clear_mass : share of the surface that must be translucent.
    """
    share = np.ones(len(alpha)) if weights is None else np.asarray(weights, np.float64)
    total = float(share.sum())
    see_through = float(share[alpha < _TRANSLUCENT].sum())
    if not total > 0 or see_through < clear_mass * total:
        return "OPAQUE"
    between = float(share[(alpha < _TRANSLUCENT) & (alpha > _GONE)].sum())
    return "MASK" if between <= _TWO_VALUED * see_through and cuts >= _LEAST_CUT_OUTS else "BLEND"


def cut_outs(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], alpha: NDArray[np.floating]
) -> float:
    """How many square holes would have the area and the border that what is clear has in all.

    Parameters
    ----------
    vertices : (n, 3), any unit. faces : (m, 3), much finer than the holes.
    alpha : (n,) values at the vertices.
    """
    corners = np.asarray(vertices, np.float64)[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1) / 2
    clear = (alpha < 0.5)[faces].sum(axis=1)
    # A border passes through a face along about the root of its area.
    border = float(np.sqrt(area[(clear == 1) | (clear == 2)]).sum())
    total = float((area * clear / 3).sum())
    return border**2 / (16 * total) if total > 0 else 0.0
