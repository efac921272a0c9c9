"""Which alpha mode a surface needs, from how its alpha is distributed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import AlphaMode

CLEAR_MASS = 0.002
"""Share of the surface that must be clearly translucent; below it, it is noise of an opaque object."""

_TRANSLUCENT = 0.9  # alpha below this shows
_GONE = 0.1  # alpha below this shows nothing
_TWO_VALUED = 0.25  # of what is not opaque: a mask's blurred border may have values in between


def alpha_mode_of(
    alpha: NDArray[np.floating],
    weights: NDArray[np.floating] | None = None,
    *,
    clear_mass: float = CLEAR_MASS,
) -> AlphaMode:
    """OPAQUE unless a clear mass is translucent; then MASK where alpha is either nothing or all, else BLEND.

    Parameters
    ----------
    alpha : (n,) values in [0, 1] at points of the surface.
    weights : (n,) area that each one stands for; all alike by default.
    clear_mass : share of the surface that must be translucent.
    """
    share = np.ones(len(alpha)) if weights is None else np.asarray(weights, np.float64)
    total = float(share.sum())
    see_through = float(share[alpha < _TRANSLUCENT].sum())
    if not total > 0 or see_through < clear_mass * total:
        return "OPAQUE"
    between = float(share[(alpha < _TRANSLUCENT) & (alpha > _GONE)].sum())
    return "MASK" if between <= _TWO_VALUED * see_through else "BLEND"
