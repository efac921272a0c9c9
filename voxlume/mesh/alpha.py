"""Which alpha mode a surface needs, from how its alpha is distributed."""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.asset import AlphaMode
from voxlume.jit import parallel_kernel

CLEAR_MASS = 0.002
"""Share of the surface that must be clearly translucent; below it, it is noise of an opaque object."""

_TRANSLUCENT = 0.9  # alpha below this shows
_GONE = 0.1  # alpha below this shows nothing
_TWO_VALUED = 0.25  # of what is not opaque: a mask's blurred border may have values in between
_PART = 1 << 14  # faces per unit of parallel work, whose sums are added up in order
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
    points = np.ascontiguousarray(vertices, np.float64)
    corners, values = np.ascontiguousarray(faces, np.int32), np.ascontiguousarray(alpha)
    border, total = _cut_sums(points, corners, values).sum(axis=0).tolist()
    return border**2 / (16 * total) if total > 0 else 0.0


def cut_outs_reference(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], alpha: NDArray[np.floating]
) -> float:
    """Slow twin of :func:`cut_outs`."""
    corners = np.asarray(vertices, np.float64)[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1) / 2
    clear = (alpha < 0.5)[faces].sum(axis=1)
    # A border passes through a face along about the root of its area.
    border = float(np.sqrt(area[(clear == 1) | (clear == 2)]).sum())
    total = float((area * clear / 3).sum())
    return border**2 / (16 * total) if total > 0 else 0.0


@parallel_kernel
def _cut_sums(
    points: NDArray[np.float64], faces: NDArray[np.int32], alpha: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Per part of the faces the length of the border of what is clear, and its area, float64 (p, 2)."""
    sums = np.zeros(((len(faces) + _PART - 1) // _PART, 2))
    for part in prange(len(sums)):
        border, total = 0.0, 0.0
        for f in range(part * _PART, min((part + 1) * _PART, len(faces))):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            clear = (alpha[a] < 0.5) + (alpha[b] < 0.5) + (alpha[c] < 0.5)
            if clear == 0:
                continue
            p, q, r = points[a], points[b], points[c]
            ux, uy, uz = q[0] - p[0], q[1] - p[1], q[2] - p[2]
            vx, vy, vz = r[0] - p[0], r[1] - p[1], r[2] - p[2]
            nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            area = math.sqrt(nx * nx + ny * ny + nz * nz) / 2
            if clear < 3:
                border += math.sqrt(area)
            total += area * clear / 3
        sums[part, 0], sums[part, 1] = border, total
    return sums
