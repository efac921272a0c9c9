"""Dropping faces and vertices of a mesh, and numbering those that are left."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import parallel_kernel


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
def rows_of(faces: NDArray[np.int32], kept: NDArray[np.int64]) -> NDArray[np.int32]:
    """These faces, int32 (k, 3)."""
    result = np.empty((len(kept), 3), np.int32)
    for i in prange(len(kept)):
        for k in range(3):
            result[i, k] = faces[kept[i], k]
    return result
