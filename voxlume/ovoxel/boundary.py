"""Open edges of a mesh and the voxels they run through."""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel


@inner_kernel
def _mix(h: np.uint64, value: np.uint64) -> np.uint64:
    h = (h ^ value) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@kernel
def _hash_table(count: int) -> NDArray[np.int64]:
    """An empty table for ``count`` entries, its length a power of two."""
    slots = 16
    while slots < 2 * count:
        slots *= 2
    return np.full(slots, -1, np.int64)


@kernel
def weld_by_position(vertices: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) for each vertex the number of the first vertex at exactly the same place."""
    bits = (vertices + 0.0).view(np.uint64)  # + 0.0 makes -0 and 0 the same
    table = _hash_table(len(vertices))
    out = np.empty(len(vertices), np.int64)
    for i in range(len(vertices)):
        h = _mix(_mix(_mix(np.uint64(0), bits[i, 0]), bits[i, 1]), bits[i, 2])
        slot = np.int64(h & np.uint64(len(table) - 1))
        while True:
            j = table[slot]
            if j < 0:
                table[slot] = j = i
            if bits[i, 0] == bits[j, 0] and bits[i, 1] == bits[j, 1] and bits[i, 2] == bits[j, 2]:
                out[i] = j
                break
            slot = (slot + 1) & (len(table) - 1)
    return out


@kernel
def _single_edges(faces: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Numbers ``low * n + high`` of the edges between two vertices that occur once, in no order."""
    table = _hash_table(3 * len(faces))
    repeated = np.zeros(len(table), np.bool_)
    for f in range(len(faces)):
        for e in range(3):
            a, b = faces[f, e], faces[f, (e + 1) % 3]
            edge = min(a, b) * n + max(a, b)
            slot = np.int64(_mix(np.uint64(0), np.uint64(edge)) & np.uint64(len(table) - 1))
            while table[slot] >= 0 and table[slot] != edge:
                slot = (slot + 1) & (len(table) - 1)
            # An edge from a vertex to itself bounds nothing.
            repeated[slot] = table[slot] == edge or a == b
            table[slot] = edge
    return table[(table >= 0) & ~repeated]


def boundary_edges(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], weld: bool
) -> NDArray[np.int64]:
    """(k, 2) edges that belong to exactly one triangle, smaller vertex index first.

    Parameters
    ----------
    weld : compare by position instead of by index, so that UV and normal seams are no boundary.
    """
    index = faces.astype(np.int64)
    if weld:
        index = weld_by_position(np.ascontiguousarray(vertices, np.float64))[index]
    single = np.sort(_single_edges(index, len(vertices)))
    return np.stack(np.divmod(single, max(len(vertices), 1)), 1)


@parallel_kernel
def edge_voxels(
    vertices: NDArray[np.float64], edges: NDArray[np.int64], resolution: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Voxels along each edge: (voxel coordinates (k, 3), edge number (k,)).

    A 3D-DDA walk (Amanatides and Woo, 1987) from the voxel of the first end while the parameter of the
    next crossing does not exceed the edge's length.
    """
    count = np.zeros(len(edges) + 1, np.int64)
    for e in prange(len(edges)):
        count[e + 1] = _walk(vertices, edges, e, resolution, count[:0].reshape(0, 1), 0)
    for e in range(len(edges)):
        count[e + 1] += count[e]
    walked = np.empty((count[-1], 3), np.int64)
    edge = np.empty(count[-1], np.int32)
    for e in prange(len(edges)):
        _walk(vertices, edges, e, resolution, walked, count[e])
        edge[count[e] : count[e + 1]] = e
    return walked.astype(np.int32), edge


@kernel
def _walk(
    vertices: NDArray[np.float64],
    edges: NDArray[np.int64],
    e: int,
    resolution: int,
    out: NDArray[np.int64],
    at: int,
) -> int:
    """Number of voxels of edge ``e``; writes them from row ``at`` when ``out`` has rows."""
    write = out.shape[1] == 3
    a, b = vertices[edges[e, 0]], vertices[edges[e, 1]]
    length = math.sqrt((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2 + (b[2] - a[2]) ** 2)
    if not length > 0:
        return 0
    cell, step = np.empty(3, np.int64), np.empty(3, np.int64)
    t_next, t_step = np.empty(3), np.empty(3)
    for c in range(3):
        direction = (b[c] - a[c]) / length
        cell[c] = math.floor(a[c])
        step[c] = 1 if direction > 0 else -1
        if direction == 0:
            t_next[c], t_step[c] = math.inf, math.inf
        else:
            t_next[c] = (cell[c] + (1 if direction > 0 else 0) - a[c]) / direction
            t_step[c] = 1 / abs(direction)
    count = 0
    while True:
        inside = True
        for c in range(3):
            inside = inside and 0 <= cell[c] < resolution
        if inside:
            if write:
                for c in range(3):
                    out[at + count, c] = cell[c]
            count += 1
        axis = 0
        if t_next[1] < t_next[axis]:
            axis = 1
        if t_next[2] < t_next[axis]:
            axis = 2
        if not t_next[axis] <= length:
            return count
        cell[axis] += step[axis]
        t_next[axis] += t_step[axis]
