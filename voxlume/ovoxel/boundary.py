"""Open edges of a mesh and the voxels they run through."""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import kernel, parallel_kernel


def weld_by_position(vertices: NDArray[np.floating]) -> NDArray[np.int64]:
    """(n,) for each vertex the number of the first vertex at exactly the same place."""
    n = len(vertices)
    order = np.lexsort(np.ascontiguousarray(vertices.T))
    ranked = vertices[order]
    is_first = np.ones(n, np.bool_)
    is_first[1:] = np.any(ranked[1:] != ranked[:-1], axis=1)
    group = np.cumsum(is_first) - 1
    # lexsort is stable, so the first of a group in sorted order is its smallest index.
    out = np.empty(n, np.int64)
    out[order] = order[np.flatnonzero(is_first)][group]
    return out


@kernel
def _edges_by_lower_vertex(faces: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every face edge listed at its smaller vertex: (row starts (n+1,), larger vertices)."""
    start = np.zeros(n + 1, np.int64)
    for f in range(len(faces)):
        for e in range(3):
            start[min(faces[f, e], faces[f, (e + 1) % 3]) + 1] += 1
    for i in range(n):
        start[i + 1] += start[i]
    cursor = start[:-1].copy()
    other = np.empty(start[n], np.int64)
    for f in range(len(faces)):
        for e in range(3):
            a, b = faces[f, e], faces[f, (e + 1) % 3]
            low, high = min(a, b), max(a, b)
            other[cursor[low]] = high
            cursor[low] += 1
    return start, other


@kernel
def _single_edges(start: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    out = np.empty((len(other), 2), np.int64)
    count = 0
    for low in range(len(start) - 1):
        row = np.sort(other[start[low] : start[low + 1]])
        for i in range(len(row)):
            alone = (i == 0 or row[i - 1] != row[i]) and (i + 1 == len(row) or row[i + 1] != row[i])
            if alone and row[i] != low:
                out[count, 0], out[count, 1] = low, row[i]
                count += 1
    return out[:count].copy()


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
        index = weld_by_position(vertices)[index]
    start, other = _edges_by_lower_vertex(index, len(vertices))
    return _single_edges(start, other)


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
