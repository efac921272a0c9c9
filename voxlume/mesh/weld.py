"""Which vertices are at the same place."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import parallel_kernel
from voxlume.mesh.radix import stable_order


def weld_by_position(vertices: NDArray[np.float64]) -> NDArray[np.int32]:
    """For each of (n, 3) vertices the smallest index of a vertex at exactly the same place, int32 (n,)."""
    keys = _hash_positions(np.ascontiguousarray(vertices, np.float64))
    return _first_of_equals(vertices, keys, stable_order(keys))


@parallel_kernel
def _hash_positions(vertices: NDArray[np.float64]) -> NDArray[np.uint64]:
    n = len(vertices)
    keys = np.empty(n, np.uint64)
    bits = (vertices + 0.0).view(np.uint64)  # + 0.0 makes -0 and 0 the same
    for i in prange(n):
        h = np.uint64(0)
        for c in range(3):
            h = (h ^ bits[i, c]) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(29)
        keys[i] = h
    return keys


@parallel_kernel
def _first_of_equals(
    vertices: NDArray[np.float64], keys: NDArray[np.uint64], order: NDArray[np.int64]
) -> NDArray[np.int32]:
    out = np.empty(len(order), np.int32)
    for begin in prange(len(order)):
        key = keys[order[begin]]
        if begin > 0 and keys[order[begin - 1]] == key:
            continue
        first = i = np.int64(begin)
        while i < len(order) and keys[order[i]] == key:
            a, b = order[first], order[i]
            same = True
            for c in range(3):
                same = same and vertices[a, c] == vertices[b, c]
            if not same:
                first = i
            out[b] = order[first]
            i += 1
    return out
