"""Polygons of any size to triangles."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Point-in-triangle tests that all concave polygons of a file may cost together: about a second.
_MOST_TESTS = 2 * 10**8


def triangulate(
    vertices: NDArray[np.float64], corners: NDArray[np.int32], starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Cut polygons into triangles, concave ones by clipping ears in the plane that fits best.

    Parameters
    ----------
    vertices : (n, 3).
    corners : (c,) vertex of every polygon corner, in range.
    starts : (p + 1,) ascending; corners ``starts[i] : starts[i + 1]`` make polygon i. Fewer than three
        corners make no triangle.

    Returns
    -------
    (t, 3) positions in ``corners``, so that the caller can carry whatever belongs to a corner along; the
    order of the polygons and their winding are kept.
    """
    sizes = np.diff(starts)
    if (sizes == 3).all():
        return np.arange(len(corners)).reshape(-1, 3)
    triangles = np.empty((int(np.maximum(sizes - 2, 0).sum()), 3), np.int64)
    _cut_all(vertices, corners, starts, triangles)
    return triangles


@njit(cache=True, nogil=True)
def _cut_all(
    vertices: NDArray[np.float64],
    corners: NDArray[np.int32],
    starts: NDArray[np.int64],
    triangles: NDArray[np.int64],
) -> None:
    largest = 0
    for polygon in range(len(starts) - 1):
        largest = max(largest, starts[polygon + 1] - starts[polygon])
    flat = np.empty((largest, 2))
    following, previous = np.empty(largest, np.int64), np.empty(largest, np.int64)
    done = 0
    tests_left = _MOST_TESTS
    for polygon in range(len(starts) - 1):
        first, size = starts[polygon], starts[polygon + 1] - starts[polygon]
        if size > 3 and tests_left > 0:
            _flatten(vertices, corners, first, size, flat)
            if _has_concave_corner(flat, size):
                tests_left -= _clip_ears(flat, size, first, following, previous, triangles, done, tests_left)
                done += size - 2
                continue
        for i in range(size - 2):
            triangles[done, 0], triangles[done, 1], triangles[done, 2] = first, first + i + 1, first + i + 2
            done += 1


@njit(cache=True, nogil=True)
def _flatten(
    vertices: NDArray[np.float64],
    corners: NDArray[np.int32],
    first: int,
    size: int,
    flat: NDArray[np.float64],
) -> None:
    """Fill flat[:size] with the corners seen along their mean normal (Newell), counter-clockwise."""
    u, v, most, flip = 0, 1, -1.0, False
    origin = corners[first]
    for axis in range(3):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        normal = 0.0
        for i in range(size):
            p, q = corners[first + i], corners[first + (i + 1) % size]
            normal += (vertices[p, a] - vertices[origin, a]) * (vertices[q, b] - vertices[origin, b])
            normal -= (vertices[p, b] - vertices[origin, b]) * (vertices[q, a] - vertices[origin, a])
        if abs(normal) > most:
            u, v, most, flip = a, b, abs(normal), normal < 0
    if flip:
        u, v = v, u
    for i in range(size):
        flat[i, 0] = vertices[corners[first + i], u] - vertices[origin, u]
        flat[i, 1] = vertices[corners[first + i], v] - vertices[origin, v]


@njit(cache=True, nogil=True)
def _turn(flat: NDArray[np.float64], a: int, b: int, c: int) -> float:
    """Twice the signed area of a triangle: positive where the outline turns left."""
    return (flat[b, 0] - flat[a, 0]) * (flat[c, 1] - flat[a, 1]) - (flat[b, 1] - flat[a, 1]) * (
        flat[c, 0] - flat[a, 0]
    )


@njit(cache=True, nogil=True)
def _has_concave_corner(flat: NDArray[np.float64], size: int) -> bool:
    for i in range(size):  # noqa: SIM110 (numba compiles no generator)
        if _turn(flat, i, (i + 1) % size, (i + 2) % size) < 0:
            return True
    return False


@njit(cache=True, nogil=True)
def _clip_ears(
    flat: NDArray[np.float64],
    size: int,
    first: int,
    following: NDArray[np.int64],
    previous: NDArray[np.int64],
    triangles: NDArray[np.int64],
    done: int,
    tests_left: int,
) -> int:
    """Write size - 2 triangles from row ``done`` on; returns how many tests it took.

    ``following`` and ``previous`` are work space: the outline as a ring from which ears are cut. Where no
    ear is left (the outline crosses itself) or the tests run out, the rest becomes a fan.
    """
    for i in range(size):
        following[i], previous[i] = (i + 1) % size, (i - 1) % size
    corner, left, misses, tests = 0, size, 0, 0
    while left > 2:
        tests += 1
        a, c = previous[corner], following[corner]
        turn = _turn(flat, a, corner, c)
        is_ear = turn == 0 or misses > left or tests > tests_left
        if not is_ear and turn > 0:
            is_ear = True
            other = following[c]
            while other != a:
                tests += 1
                if _lies_in(flat, other, a, corner, c):
                    is_ear = False
                    break
                other = following[other]
        if not is_ear:
            misses += 1
            corner = c
            continue
        triangles[done, 0], triangles[done, 1], triangles[done, 2] = first + a, first + corner, first + c
        done += 1
        left -= 1
        misses = 0
        following[a], previous[c] = c, a
        corner = c
    return tests


@njit(cache=True, nogil=True)
def _lies_in(flat: NDArray[np.float64], other: int, a: int, b: int, c: int) -> bool:
    """Whether a corner hinders the ear a, b, c: in it or on its edge, but not on its corners.

    The exception is for bridges to holes, where an outline visits the same place twice.
    """
    if _turn(flat, a, b, other) < 0 or _turn(flat, b, c, other) < 0 or _turn(flat, c, a, other) < 0:
        return False
    for corner in (a, b, c):
        if flat[other, 0] == flat[corner, 0] and flat[other, 1] == flat[corner, 1]:
            return False
    return True
