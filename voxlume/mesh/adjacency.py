"""Which face lies across which edge."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel
from voxlume.mesh.radix import stable_order

_MOST_FACES = 16  # at one edge; where more meet, all of them end there


def opposite_edges(faces: NDArray[np.int32], normals: NDArray[np.float64]) -> NDArray[np.int32]:
    """For each directed edge ``3 f + k``, from corner k of face f to the next, the one that runs against it.

    Where more than two faces meet they are paired by their normals (m, 3), the most alike first.

    Returns
    -------
    int32 (3 m,), -1 where there is none: at a border, where two faces disagree about their winding, and
    in faces that use a vertex twice.
    """
    starts, keys = faces.reshape(-1), _edge_keys(faces)
    return _pair(keys, stable_order(keys), starts, normals)


@parallel_kernel
def _edge_keys(faces: NDArray[np.int32]) -> NDArray[np.int64]:
    keys = np.empty(3 * len(faces), np.int64)
    for f in prange(len(faces)):
        for k in range(3):
            a, b = np.int64(faces[f, k]), np.int64(faces[f, (k + 1) % 3])
            keys[3 * f + k] = (min(a, b) << 32) | max(a, b)
    return keys


@parallel_kernel
def _pair(
    keys: NDArray[np.int64],
    order: NDArray[np.int64],
    starts: NDArray[np.int32],
    normals: NDArray[np.float64],
) -> NDArray[np.int32]:
    opposite = np.full(len(keys), -1, np.int32)
    for first in prange(len(keys)):
        key = keys[order[first]]
        if first > 0 and keys[order[first - 1]] == key:
            continue
        last = first + 1
        while last < len(keys) and keys[order[last]] == key:
            last += 1
        if 2 <= last - first <= _MOST_FACES:
            _pair_group(order[first:last], starts, normals, opposite)
    return opposite


@inner_kernel
def _pair_group(
    group: NDArray[np.int64],
    starts: NDArray[np.int32],
    normals: NDArray[np.float64],
    opposite: NDArray[np.int32],
) -> None:
    """Pair the directed edges between the same two vertices."""
    for _ in range(len(group) // 2):
        best, a, b = -np.inf, -1, -1
        for e in group:
            for g in group:
                f, h = e // 3, g // 3
                if e >= g or f == h or opposite[e] >= 0 or opposite[g] >= 0 or starts[e] == starts[g]:
                    continue
                alike = 0.0
                for c in range(3):
                    alike += normals[f, c] * normals[h, c]
                if alike > best:
                    best, a, b = alike, e, g
        if a < 0:
            return
        opposite[a] = b
        opposite[b] = a
