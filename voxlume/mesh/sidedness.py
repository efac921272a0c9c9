"""Whether a surface needs both of its sides drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.mesh.visibility import Blocked, even_directions, ray_tracer

_SAMPLES = 8192  # points on the surface
_DIRECTIONS = 32  # rays per point
_SEEN_SHARE = 0.002  # of the surface whose back must be visible from outside
_OFFSET = 1e-4  # of the longest side: where rays begin behind the surface


def needs_both_sides(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], *, blocked: Blocked | None = None
) -> bool:
    """True if the back of some of the surface can be seen from outside.

    That is so for open sheets and leaves, for vessels without a thickness, and where a winding is wrong; a
    closed surface with its winding outwards hides its back. Rays leave the backs of points spread evenly
    over the surface; where one escapes, somebody out there sees the back.

    Parameters
    ----------
    vertices : (n, 3), any frame and unit. faces : (m, 3), counter-clockwise seen from outside.
    blocked : how to trace rays; the fastest installed by default.
    """
    corners = np.asarray(vertices, np.float64)[faces]
    if not len(corners):
        return False
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    extent = float((high - low).max()) or 1.0
    corners = (corners - (low + high) / 2) / extent
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(cross, axis=1)
    cumulative = np.cumsum(double_area)
    if not cumulative[-1] > 0:
        return True
    if blocked is None:
        points = (np.asarray(vertices, np.float64) - (low + high) / 2) / extent
        blocked = ray_tracer(points, np.ascontiguousarray(faces, np.int32))
    random = np.random.default_rng(0)
    place = (np.arange(_SAMPLES) + 0.5) / _SAMPLES * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, place, side="right"), len(faces) - 1)
    r, s = np.sqrt(random.random(_SAMPLES))[:, None], random.random(_SAMPLES)[:, None]
    a, b, c = np.moveaxis(corners[face], 1, 0)
    normal = cross[face] / np.maximum(double_area[face], 1e-300)[:, None]
    start = (1 - r) * a + r * (1 - s) * b + r * s * c - _OFFSET * normal
    waiting = np.arange(_SAMPLES)
    enough = _SEEN_SHARE * _SAMPLES
    seen = 0
    for direction in even_directions(_DIRECTIONS):
        behind = waiting[normal[waiting] @ direction < -1e-3]
        rays = np.broadcast_to(direction, (len(behind), 3))
        if len(behind):
            escaped = behind[~blocked(np.ascontiguousarray(start[behind]), np.ascontiguousarray(rays))]
            seen += len(escaped)
            waiting = np.setdiff1d(waiting, escaped, assume_unique=True)
        if seen >= enough:
            return True
    return False
