"""Cutting a surface into charts that a straight projection flattens with bounded stretch.

Every face gets a bit mask of the fixed directions along which it may be projected; the directions of a
group of faces are the AND of their masks, so the bound on stretch holds for every single face whatever
the order in which groups merge. Groups merge where this adds the least to the variance of their normals
(the L2,1 energy of Cohen-Steiner, Alliez and Desbrun, "Variational shape approximation", 2004) per length
of the seam that disappears. Merging goes in rounds under a rising bound on that cost, each round a sort
and a pass, so the time is that of sorting whatever the mesh looks like. In the end charts of a few texels
join a neighbour under a looser bound, because the gap around them would cost more than they show.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel, threads_for
from voxlume.mesh.radix import float_keys, run_starts, stable_order

NUM_DIRECTIONS = 128
MAX_TILT = math.radians(62)
"""Largest angle between a face's normal and its chart's direction: lengths shrink to 0.47 at worst."""
MAX_SMALL_TILT = math.radians(80)
"""The same for faces of charts too small to show a texture: lengths shrink to 0.17 at worst."""

_ROUNDS = 16  # the last bound keeps large charts apart at sharp edges, where one projection would suit none
_SMALL_ROUNDS = 6
_FIRST_BOUND = 2.0**-18  # of the cost, relative to the square root of the surface's area; doubles per round


def directions() -> NDArray[np.float64]:
    """(128, 3) unit vectors spread evenly over the sphere (a Fibonacci lattice)."""
    i = np.arange(NUM_DIRECTIONS) + 0.5
    z = 1 - 2 * i / NUM_DIRECTIONS
    turn = i * math.pi * (3 - math.sqrt(5))
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], axis=1)


def cluster_faces(
    area_vectors: NDArray[np.float64],
    opposite: NDArray[np.int32],
    edge_lengths: NDArray[np.float64],
    small_area: float = 0.0,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Group faces into charts.

    Parameters
    ----------
    area_vectors : float64 (m, 3), each face's normal times its area; zero for faces without area.
    opposite : int32 (3 m,), :func:`voxlume.mesh.adjacency.opposite_edges`.
    edge_lengths : float64 (3 m,).
    small_area : charts below this area are too small to show a texture.

    Returns
    -------
    charts : int32 (m,), the chart of each face, numbered from 0 by their first faces; connected.
    axes : float64 (c, 3), unit; within :data:`MAX_TILT` of the normals of all the chart's faces, or
        :data:`MAX_SMALL_TILT` for faces that were in a small chart.
    """
    m = len(area_vectors)
    face_area = vector_lengths(area_vectors)
    fixed = directions()
    masks = _allowed_directions(area_vectors, face_area, fixed, math.cos(MAX_TILT))
    edges = np.flatnonzero(opposite > np.arange(len(opposite)))
    a, b = (edges // 3).astype(np.int32), (opposite[edges] // 3).astype(np.int32)
    scale = math.sqrt(float(face_area.sum()))
    length = np.maximum(edge_lengths[edges], 1e-9 * scale)
    parent = np.arange(m, dtype=np.int32)
    vector, area, bound = area_vectors.copy(), face_area.copy(), _FIRST_BOUND * scale
    for _ in range(_ROUNDS):
        with threads_for(len(a)):
            cost = _merge_costs(a, b, length, vector, area, masks)
            chosen = np.flatnonzero(cost <= bound)
            if len(chosen):
                chosen = chosen[stable_order(float_keys(cost[chosen]))]
                _merge(chosen, a, b, length, bound, parent, vector, area, masks)
                a, b, length = _joined_edges(a, b, length, parent, m)
        if not len(a):
            break
        bound *= 2
    if small_area > 0 and len(a):
        loose = _allowed_directions(area_vectors, face_area, fixed, math.cos(MAX_SMALL_TILT))
        _loosen(parent, area, small_area, loose, masks)
        for _ in range(_SMALL_ROUNDS):
            before = len(a)
            # The longest common border first: it saves the most seam.
            _merge_small(np.argsort(-length, kind="stable"), a, b, parent, vector, area, masks, small_area)
            with threads_for(len(a)):
                a, b, length = _joined_edges(a, b, length, parent, m)
            if len(a) in (0, before):
                break
    _point_at_roots(parent)
    roots = np.flatnonzero(parent == np.arange(m))
    number = np.empty(m, np.int32)
    number[roots] = np.arange(len(roots))
    charts = number[parent]
    axes = _chart_axes(charts, area_vectors, vector[roots], masks[roots], fixed, math.cos(MAX_TILT))
    return charts, axes


@parallel_kernel
def vector_lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths (n,) of vectors (n, 3)."""
    lengths = np.empty(len(vectors))
    for i in prange(len(vectors)):
        x, y, z = vectors[i, 0], vectors[i, 1], vectors[i, 2]
        lengths[i] = np.sqrt(x * x + y * y + z * z)
    return lengths


@parallel_kernel
def _allowed_directions(
    vectors: NDArray[np.float64], area: NDArray[np.float64], axes: NDArray[np.float64], least: float
) -> NDArray[np.uint64]:
    """Bit masks uint64 (m, 2): along which directions each face may be projected."""
    masks = np.empty((len(vectors), 2), np.uint64)
    for f in prange(len(vectors)):
        for word in range(2):
            bits = np.uint64(0)
            for i in range(64):
                d = axes[64 * word + i]
                along = vectors[f, 0] * d[0] + vectors[f, 1] * d[1] + vectors[f, 2] * d[2]
                if along >= least * area[f]:
                    bits |= np.uint64(1) << np.uint64(i)
            masks[f, word] = bits
    return masks


@inner_kernel
def _cost(
    a: int,
    b: int,
    length: float,
    vector: NDArray[np.float64],
    area: NDArray[np.float64],
    masks: NDArray[np.uint64],
) -> float:
    """Variance of normals added per length of seam removed; infinite where no direction is left."""
    if (masks[a, 0] & masks[b, 0]) == 0 and (masks[a, 1] & masks[b, 1]) == 0:
        return np.inf
    if area[a] <= 0 or area[b] <= 0:
        return 0.0
    total = 0.0
    for c in range(3):
        total += (vector[a, c] / area[a] - vector[b, c] / area[b]) ** 2
    return total * area[a] * area[b] / (area[a] + area[b]) / length


@parallel_kernel
def _merge_costs(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    length: NDArray[np.float64],
    vector: NDArray[np.float64],
    area: NDArray[np.float64],
    masks: NDArray[np.uint64],
) -> NDArray[np.float64]:
    cost = np.empty(len(a))
    for e in prange(len(a)):
        cost[e] = _cost(a[e], b[e], length[e], vector, area, masks)
    return cost


@inner_kernel
def _find(parent: NDArray[np.int32], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@inner_kernel
def _join(
    i: int,
    j: int,
    parent: NDArray[np.int32],
    vector: NDArray[np.float64],
    area: NDArray[np.float64],
    masks: NDArray[np.uint64],
) -> None:
    parent[j] = i
    area[i] += area[j]
    for c in range(3):
        vector[i, c] += vector[j, c]
    for word in range(2):
        masks[i, word] &= masks[j, word]


@kernel
def _merge(
    chosen: NDArray[np.int64],
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    length: NDArray[np.float64],
    bound: float,
    parent: NDArray[np.int32],
    vector: NDArray[np.float64],
    area: NDArray[np.float64],
    masks: NDArray[np.uint64],
) -> None:
    """Merge along the chosen edges, cheapest first, what is still within the bound."""
    for e in chosen:
        i, j = _find(parent, a[e]), _find(parent, b[e])
        if i == j or not _cost(i, j, length[e], vector, area, masks) <= bound:
            continue
        if j < i:
            i, j = j, i
        _join(i, j, parent, vector, area, masks)


@kernel
def _loosen(
    parent: NDArray[np.int32],
    area: NDArray[np.float64],
    small_area: float,
    loose: NDArray[np.uint64],
    masks: NDArray[np.uint64],
) -> None:
    """Give small groups the directions that their faces allow under the looser bound."""
    for f in range(len(parent)):
        root = _find(parent, f)
        if area[root] < small_area:
            if root == f:
                masks[root] = loose[f]
            else:  # roots are the first of their groups
                for word in range(2):
                    masks[root, word] &= loose[f, word]


@kernel
def _merge_small(
    chosen: NDArray[np.int64],
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    parent: NDArray[np.int32],
    vector: NDArray[np.float64],
    area: NDArray[np.float64],
    masks: NDArray[np.uint64],
    small_area: float,
) -> None:
    """Merge along the chosen edges, in that order, where one side is small and a direction is left."""
    for e in chosen:
        i, j = _find(parent, a[e]), _find(parent, b[e])
        if i == j or min(area[i], area[j]) >= small_area:
            continue
        if (masks[i, 0] & masks[j, 0]) == 0 and (masks[i, 1] & masks[j, 1]) == 0:
            continue
        if j < i:
            i, j = j, i
        _join(i, j, parent, vector, area, masks)


def _joined_edges(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    length: NDArray[np.float64],
    parent: NDArray[np.int32],
    num_faces: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """The edges between groups, one for each pair with the length of their whole common border."""
    _point_at_roots(parent)
    keys = _pair_keys(a, b, parent, num_faces)
    between = np.flatnonzero(keys >= 0)
    keys = keys[between]
    order = stable_order(keys)
    return _sum_runs(keys, order, run_starts(keys, order), between, length, num_faces)


@parallel_kernel
def _sum_runs(
    keys: NDArray[np.int64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    edges: NDArray[np.int64],
    length: NDArray[np.float64],
    num_faces: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """The two groups of every run of equal keys, and the length of its edges in all."""
    runs = len(starts) - 1
    a, b, total = np.empty(runs, np.int32), np.empty(runs, np.int32), np.zeros(runs)
    for run in prange(runs):
        key = keys[order[starts[run]]]
        a[run], b[run] = key // num_faces, key % num_faces
        for i in range(starts[run], starts[run + 1]):
            total[run] += length[edges[order[i]]]
    return a, b, total


@parallel_kernel
def _pair_keys(
    a: NDArray[np.int32], b: NDArray[np.int32], root: NDArray[np.int32], num_faces: int
) -> NDArray[np.int64]:
    """The pair of groups beside each edge as one number, -1 within a group."""
    keys = np.empty(len(a), np.int64)
    for e in prange(len(a)):
        i, j = root[a[e]], root[b[e]]
        keys[e] = -1 if i == j else np.int64(min(i, j)) * num_faces + max(i, j)
    return keys


@kernel
def _point_at_roots(parent: NDArray[np.int32]) -> None:
    """Let every face point at its group's first one; parents come before their children."""
    for i in range(len(parent)):
        parent[i] = parent[parent[i]]


@kernel
def _chart_axes(
    charts: NDArray[np.int32],
    area_vectors: NDArray[np.float64],
    sums: NDArray[np.float64],
    masks: NDArray[np.uint64],
    fixed: NDArray[np.float64],
    least: float,
) -> NDArray[np.float64]:
    """The mean normal where all faces allow it, else the allowed fixed direction that is nearest to it."""
    axes = np.zeros((len(sums), 3))
    allowed = np.ones(len(sums), np.bool_)
    for i in range(len(sums)):
        length = math.sqrt(sums[i, 0] ** 2 + sums[i, 1] ** 2 + sums[i, 2] ** 2)
        if length > 0:
            for c in range(3):
                axes[i, c] = sums[i, c] / length
        else:
            axes[i, 2] = 1.0
    for f in range(len(charts)):
        i, along, squared = charts[f], 0.0, 0.0
        for c in range(3):
            along += area_vectors[f, c] * axes[i, c]
            squared += area_vectors[f, c] ** 2
        if along < least * math.sqrt(squared):
            allowed[i] = False
    for i in range(len(sums)):
        if allowed[i]:
            continue
        best, chosen = -np.inf, 0
        for k in range(NUM_DIRECTIONS):
            if masks[i, k // 64] >> np.uint64(k % 64) & np.uint64(1):
                along = axes[i, 0] * fixed[k, 0] + axes[i, 1] * fixed[k, 1] + axes[i, 2] * fixed[k, 2]
                if along > best:
                    best, chosen = along, k
        for c in range(3):
            axes[i, c] = fixed[chosen, c]
    return axes
