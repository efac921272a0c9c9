"""Which vertices of a mesh its faces use: dropping, numbering and bounding them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import parallel_kernel

_PART = 1 << 14  # points per unit of parallel work

Value = TypeVar("Value", bound=np.generic)


@parallel_kernel
def mark_used(faces: NDArray[np.int32], used: NDArray[np.bool_]) -> None:
    """Mark the vertices of all faces but those that are gone."""
    for f in prange(len(faces)):
        if faces[f, 0] >= 0:
            for k in range(3):
                used[faces[f, k]] = True


@parallel_kernel
def faces_now(
    faces: NDArray[np.int32], kept: NDArray[np.int64], number: NDArray[np.int32]
) -> NDArray[np.int32]:
    """These faces with new numbers of their vertices."""
    result = np.empty((len(kept), 3), np.int32)
    for i in prange(len(kept)):
        for k in range(3):
            result[i, k] = number[faces[kept[i], k]]
    return result


@parallel_kernel
def renumbered(faces: NDArray[np.int32], number: NDArray[np.int32]) -> NDArray[np.int32]:
    """All faces with new numbers of their vertices."""
    result = np.empty_like(faces)
    for f in prange(len(faces)):
        for k in range(3):
            result[f, k] = number[faces[f, k]]
    return result


@parallel_kernel
def rows_of(rows: NDArray[Value], kept: NDArray[np.integer]) -> NDArray[Value]:
    """These rows (k, 3) of faces or points (n, 3)."""
    result = np.empty((len(kept), 3), rows.dtype)
    for i in prange(len(kept)):
        for k in range(3):
            result[i, k] = rows[kept[i], k]
    return result


def bounds_of(
    points: NDArray[np.float64], used: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest coordinates (3,) of the points (n, 3) that are used, NaN if one is not finite."""
    bounds = _bounds_of_parts(points, used)
    return bounds[:, 0].min(axis=0), bounds[:, 1].max(axis=0)


@parallel_kernel
def _bounds_of_parts(points: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    bounds = np.empty(((len(points) + _PART - 1) // _PART, 2, 3))
    for part in prange(len(bounds)):
        for c in range(3):
            low, high, finite = np.inf, -np.inf, True
            for v in range(part * _PART, min((part + 1) * _PART, len(points))):
                if used[v]:
                    low, high = min(low, points[v, c]), max(high, points[v, c])
                    finite &= np.isfinite(points[v, c])
            bounds[part, 0, c] = low if finite else np.nan
            bounds[part, 1, c] = high if finite else np.nan
    return bounds
