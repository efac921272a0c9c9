"""Which point of a mesh each texel of its texture belongs to.

A texel belongs to the face its centre lies in, and one whose centre lies in none belongs to the nearest
face within :data:`REACH`. So bilinear look-up anywhere on a chart finds four texels that are its own.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel

REACH = 1.5
"""Texels: a little more than from a point to the farthest of the four centres that bilinear look-up uses."""

_BAND = 16  # rows per unit of parallel work


def assign_texels(
    uvs: NDArray[np.float32], faces: NDArray[np.int32], size: int, rows: tuple[int, int] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Face and place of every texel.

    Parameters
    ----------
    uvs : float32 (n, 2), v downwards; may lie anywhere, but only texels in [0, 1] are looked at.
    faces : int32 (m, 3).
    size : side of the square texture.
    rows : only rows ``rows[0] <= r < rows[1]``; all by default.

    Returns
    -------
    face : int32 (r, size), -1 where no face is near. Of equally near faces the one with the smaller
        index counts.
    weights : float32 (r, size, 2), of the face's first two corners, at the point nearest to the texel's
        centre; the third is what is missing to 1.
    """
    first, last = rows or (0, size)
    corners = _in_texels(uvs, faces, size, first)
    face = np.full((last - first, size), -1, np.int32)
    weights = np.zeros((last - first, size, 2), np.float32)
    starts, entries = _bin_rows(corners, last - first)
    _assign(corners, starts, entries, face, weights)
    return face, weights


@parallel_kernel
def _in_texels(
    uvs: NDArray[np.float32], faces: NDArray[np.int32], size: int, first: int
) -> NDArray[np.float64]:
    """Corners (m, 3, 2) in texels, rows counted from ``first``."""
    corners = np.empty((len(faces), 3, 2))
    for f in prange(len(faces)):
        for k in range(3):
            corners[f, k, 0] = np.float64(uvs[faces[f, k], 0]) * size
            corners[f, k, 1] = np.float64(uvs[faces[f, k], 1]) * size - first
    return corners


def assign_texels_reference(
    uvs: NDArray[np.float32], faces: NDArray[np.int32], size: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Slow twin of :func:`assign_texels`: every texel asks every face."""
    corners = uvs.astype(np.float64)[faces] * size
    face, weights = np.full((size, size), -1, np.int32), np.zeros((size, size, 2), np.float32)
    for row, column in np.ndindex(size, size):
        nearest = REACH
        for f, (a, b, c) in enumerate(corners):
            distance, u, v = _nearest_in_triangle.py_func(a, b, c, column + 0.5, row + 0.5)  # type: ignore[attr-defined]
            if distance < nearest:
                nearest, face[row, column], weights[row, column] = distance, f, (u, v)
    return face, weights


@inner_kernel
def _row_range(p: NDArray[np.float64], height: int) -> tuple[int, int]:
    """Rows [first, last] whose centres may be within reach of a triangle (3, 2); empty if not finite."""
    low, high = min(p[0, 1], p[1, 1], p[2, 1]), max(p[0, 1], p[1, 1], p[2, 1])
    if not (low >= -1e6 and high <= 1e6 and low <= high):
        return 0, -1
    return max(math.ceil(low - REACH - 0.5), 0), min(math.floor(high + REACH - 0.5), height - 1)


@parallel_kernel
def _bin_rows(corners: NDArray[np.float64], height: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The faces that reach into each band of rows, ascending, as (starts (bands + 1,), faces)."""
    bands = (height + _BAND - 1) // _BAND
    chunk = 1 << 15
    chunks = (len(corners) + chunk - 1) // chunk
    counts = np.zeros((chunks, bands), np.int64)
    for i in prange(chunks):
        for f in range(i * chunk, min(len(corners), (i + 1) * chunk)):
            first, last = _row_range(corners[f], height)
            if last >= first:
                for band in range(first // _BAND, last // _BAND + 1):
                    counts[i, band] += 1
    starts = np.zeros(bands + 1, np.int64)
    total = 0
    for band in range(bands):
        for i in range(chunks):
            here = counts[i, band]
            counts[i, band] = total
            total += here
        starts[band + 1] = total
    entries = np.empty(total, np.int32)
    for i in prange(chunks):
        for f in range(i * chunk, min(len(corners), (i + 1) * chunk)):
            first, last = _row_range(corners[f], height)
            if last >= first:
                for band in range(first // _BAND, last // _BAND + 1):
                    entries[counts[i, band]] = f
                    counts[i, band] += 1
    return starts, entries


@inner_kernel
def _on_segment(ax: float, ay: float, bx: float, by: float, x: float, y: float) -> tuple[float, float]:
    """Squared distance of (x, y) to a segment, and where on it the nearest point is, from 0 to 1."""
    dx, dy = bx - ax, by - ay
    squared = dx * dx + dy * dy
    t = ((x - ax) * dx + (y - ay) * dy) / squared if squared > 0 else 0.0
    t = min(max(t, 0.0), 1.0)
    return (ax + t * dx - x) ** 2 + (ay + t * dy - y) ** 2, t


@inner_kernel
def _nearest_in_triangle(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], x: float, y: float
) -> tuple[float, float, float]:
    """Distance of (x, y) to the triangle abc, weights of a and b at the nearest point."""
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if area != 0:
        u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
        v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
        if u >= 0 and v >= 0 and u + v <= 1:
            return 0.0, u, v
    best, t = _on_segment(a[0], a[1], b[0], b[1], x, y)
    u, v = 1 - t, t
    other, t = _on_segment(b[0], b[1], c[0], c[1], x, y)
    if other < best:
        best, u, v = other, 0.0, 1 - t
    other, t = _on_segment(c[0], c[1], a[0], a[1], x, y)
    if other < best:
        best, u, v = other, t, 0.0
    return math.sqrt(best), u, v


@parallel_kernel
def _assign(
    corners: NDArray[np.float64],
    starts: NDArray[np.int64],
    entries: NDArray[np.int32],
    face: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> None:
    height, size = face.shape
    for band in prange(len(starts) - 1):
        nearest = np.full((_BAND, size), np.float64(REACH))
        for e in range(starts[band], starts[band + 1]):
            f = entries[e]
            p = corners[f]
            first, last = _row_range(p, height)
            left = min(p[0, 0], p[1, 0], p[2, 0])
            right = max(p[0, 0], p[1, 0], p[2, 0])
            begin, end = max(math.ceil(left - REACH - 0.5), 0), min(math.floor(right + REACH - 0.5), size - 1)
            for row in range(max(first, band * _BAND), min(last, (band + 1) * _BAND - 1) + 1):
                for column in range(begin, end + 1):
                    best = nearest[row - band * _BAND, column]
                    if best == 0:
                        continue
                    distance, u, v = _nearest_in_triangle(p[0], p[1], p[2], column + 0.5, row + 0.5)
                    if distance < best:
                        nearest[row - band * _BAND, column] = distance
                        face[row, column] = f
                        weights[row, column, 0] = u
                        weights[row, column, 1] = v
