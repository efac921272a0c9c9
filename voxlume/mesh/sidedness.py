"""Whether a surface needs both of its sides drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.mesh.normals import face_areas
from voxlume.mesh.parallel_rays import parallel_tracer
from voxlume.mesh.renumber import bounds_of, mark_used
from voxlume.mesh.visibility import Blocked, even_directions

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
    blocked : how to trace rays, :func:`voxlume.mesh.parallel_rays.parallel_tracer` by default.
    """
    points, corners = np.asarray(vertices, np.float64), np.ascontiguousarray(faces, np.int32)
    if not len(corners):
        return False
    used = np.zeros(len(points), np.bool_)
    mark_used(corners, used)
    low, high = bounds_of(points, used)
    points = (points - (low + high) / 2) / (float((high - low).max()) or 1.0)
    cumulative = np.cumsum(face_areas(points, corners))
    if not cumulative[-1] > 0:
        return True
    blocked = blocked or parallel_tracer(points, corners)
    random = np.random.default_rng(0)
    place = (np.arange(_SAMPLES) + 0.5) / _SAMPLES * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, place, side="right"), len(corners) - 1)
    r, s = np.sqrt(random.random(_SAMPLES))[:, None], random.random(_SAMPLES)[:, None]
    a, b, c = np.moveaxis(points[corners[face]], 1, 0)
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
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
