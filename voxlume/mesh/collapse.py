"""Edge collapses, many at once: the state of a mesh that is being simplified, and its kernels.

A collapse of edge ab reads and changes only the faces at a and b. Edges of which none has an end among the
neighbours of the other therefore collapse in parallel, and the result does not depend on their order nor on
the number of threads. Such edges are those whose key is the least among all edges at their ends' neighbours.
A key is the cost, in steps of an eighth of its power of two, then a scrambled edge number: equal costs on
flat ground are taken in random order, which finds many edges per round.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.mesh.quadric import add_plane, collapse_target

NONE = np.int64(2**63 - 1)
"""Key of a vertex without any edge that may collapse."""

ID_BITS = 26
MAX_VERTICES = 2**ID_BITS
_EDGE_BITS = 2 * ID_BITS
_EDGE_MASK = 2**_EDGE_BITS - 1
SCRAMBLE = 0x9E3779B97F4A7 | 1
UNSCRAMBLE = pow(SCRAMBLE, -1, 2**_EDGE_BITS)
COST_SHIFT = 20  # drops all but three bits of a float32's mantissa
COST_LEVELS = 2**11

RING = 96  # neighbours of one vertex; hubs of larger fans stay
_CHUNK = 128  # collapses per unit of parallel work

LINE, TANGLE = 1, 2
"""Kinds of feature edges: an open border or a change of winding; more than two faces. A vertex has the
highest kind of its edges."""

BOUNDARY_WEIGHT = 4.0
"""Of the planes that stand on feature edges, relative to the squared length of the edge."""

MOST_TURN = 0.2  # cosine between a face's normals before and after
WORST_SHAPE = 0.02  # 4 sqrt(3) area / sum of squared sides; 1 is equilateral


@kernel
def corner_rings(faces: NDArray[np.int32], head: NDArray[np.int32], following: NDArray[np.int32]) -> None:
    """Circular lists of the corners 3 f + k at each vertex: ``head[v]``, then ``following[corner]``."""
    head[:] = -1
    last = np.empty(len(head), np.int32)
    for f in range(len(faces)):
        for k in range(3):
            v, corner = faces[f, k], 3 * f + k
            if head[v] < 0:
                head[v] = corner
            else:
                following[last[v]] = corner
            last[v] = corner
            following[corner] = head[v]


@inner_kernel
def _owns(faces: NDArray[np.int32], feature: NDArray[np.uint8], f: int, k: int) -> bool:
    """Whether the edge's cost is kept at this half-edge: once for an ordinary edge, everywhere for others."""
    return feature[f, k] > 0 or faces[f, k] < faces[f, (k + 1) % 3]


@inner_kernel
def _edge_cost(
    quadrics: NDArray[np.float64],
    points: NDArray[np.float64],
    on_feature: NDArray[np.uint8],
    faces: NDArray[np.int32],
    feature: NDArray[np.uint8],
    f: int,
    k: int,
) -> float:
    """Infinite where the edge is kept elsewhere, or where it would pinch two feature lines together."""
    a, b = faces[f, k], faces[f, (k + 1) % 3]
    if not _owns(faces, feature, f, k):
        return np.inf
    if on_feature[a] > 0 and on_feature[b] > 0 and feature[f, k] == 0 and on_feature[a] + on_feature[b] < 4:
        return np.inf
    # One order of the ends, so that all half-edges of an edge agree to the last bit.
    return collapse_target(quadrics, points, min(a, b), max(a, b))[3]


@parallel_kernel
def all_costs(
    quadrics: NDArray[np.float64],
    points: NDArray[np.float64],
    on_feature: NDArray[np.uint8],
    faces: NDArray[np.int32],
    feature: NDArray[np.uint8],
    cost: NDArray[np.float32],
) -> None:
    """Fill float32 (m, 3) with the costs of all half-edges."""
    for f in prange(len(faces)):
        for k in range(3):
            cost[f, k] = _edge_cost(quadrics, points, on_feature, faces, feature, f, k)


@inner_kernel
def _edge_key(a: int, b: int, bits: int) -> int:
    low, high = np.int64(min(a, b)), np.int64(max(a, b))
    scrambled = (((low << ID_BITS) | high) * SCRAMBLE) & _EDGE_MASK
    return ((np.int64(bits) >> COST_SHIFT) << _EDGE_BITS) | scrambled


@inner_kernel
def _edge_of_key(key: int) -> tuple[int, int]:
    edge = ((key & _EDGE_MASK) * UNSCRAMBLE) & _EDGE_MASK
    return edge >> ID_BITS, edge & (MAX_VERTICES - 1)


@inner_kernel
def _least_key(
    v: int,
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    cost: NDArray[np.float32],
    bits: NDArray[np.int32],
) -> int:
    least = int(NONE)
    corner = head[v]
    if corner < 0:
        return least
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            for edge in (k, (k + 2) % 3):
                if cost[f, edge] < np.inf:
                    key = _edge_key(faces[f, edge], faces[f, (edge + 1) % 3], bits[f, edge])
                    least = min(least, key)
        corner = following[corner]
        if corner == head[v]:
            return least


@parallel_kernel
def all_keys(
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    cost: NDArray[np.float32],
    bits: NDArray[np.int32],
    keys: NDArray[np.int64],
) -> None:
    """The least key of the edges at each vertex, int64 (n,); ``bits`` are the costs seen as integers."""
    for v in prange(len(keys)):
        keys[v] = _least_key(v, faces, head, following, cost, bits)


@kernel
def cost_limit(keys: NDArray[np.int64], rank: int) -> int:
    """The cost level that about ``rank`` vertices have or undercut with their best edge."""
    histogram = np.zeros(COST_LEVELS, np.int64)
    for v in range(len(keys)):
        if keys[v] != NONE:
            histogram[keys[v] >> _EDGE_BITS] += 1
    total = 0
    for level in range(COST_LEVELS):
        total += histogram[level]
        if total >= rank:
            return level
    return COST_LEVELS


@inner_kernel
def _ring_allows(
    v: int,
    key: int,
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    keys: NDArray[np.int64],
) -> bool:
    """Whether no neighbour of v has an edge with a smaller key."""
    corner = head[v]
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0 and (keys[faces[f, (k + 1) % 3]] < key or keys[faces[f, (k + 2) % 3]] < key):
            return False
        corner = following[corner]
        if corner == head[v]:
            return True


@parallel_kernel
def mark_chosen(
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    keys: NDArray[np.int64],
    limit: int,
    chosen: NDArray[np.bool_],
) -> None:
    """Mark the smaller end of every edge that may collapse in this round."""
    for v in prange(len(keys)):
        key = keys[v]
        chosen[v] = False
        if key != NONE and key >> _EDGE_BITS <= limit:
            a, b = _edge_of_key(key)
            if a == v and keys[b] == key:
                chosen[v] = _ring_allows(a, key, faces, head, following, keys) and _ring_allows(
                    b, key, faces, head, following, keys
                )


@inner_kernel
def _gather_ring(
    v: int,
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    ring: NDArray[np.int32],
) -> int:
    """Distinct neighbours of v into ``ring``; their number, or -1 if there are too many."""
    count = 0
    corner = head[v]
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            for side in range(1, 3):
                w = faces[f, (k + side) % 3]
                known = False
                for i in range(count):
                    known = known or ring[i] == w
                if not known:
                    if count == len(ring):
                        return -1
                    ring[count] = w
                    count += 1
        corner = following[corner]
        if corner == head[v]:
            return count


@inner_kernel
def _has_face(
    v: int,
    p: int,
    q: int,
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
) -> bool:
    """Whether v, p and q are the corners of a face."""
    corner = head[v]
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            s, t = faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
            if (s == p and t == q) or (s == q and t == p):
                return True
        corner = following[corner]
        if corner == head[v]:
            return False


@inner_kernel
def _keeps_topology(
    a: int,
    b: int,
    faces: NDArray[np.int32],
    feature: NDArray[np.uint8],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    ring_a: NDArray[np.int32],
    ring_b: NDArray[np.int32],
) -> bool:
    """The link condition: a and b share no neighbours but those across the faces that vanish."""
    size_a = _gather_ring(a, faces, head, following, ring_a)
    size_b = _gather_ring(b, faces, head, following, ring_b)
    if size_a < 0 or size_b < 0:
        return False
    shared = 0
    for i in range(size_a):
        for j in range(size_b):
            if ring_a[i] == ring_b[j]:
                ring_a[i], ring_a[shared] = ring_a[shared], ring_a[i]
                shared += 1
                break
    corner = head[a]
    vanishing = 0
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            s, t = faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
            if s == b or t == b:
                vanishing += 1
                other = (k + 1) % 3 if t == b else (k + 2) % 3
                # Both remaining sides merge into one; two feature lines must not.
                if feature[f, other] > 0 and feature[f, (other + 2) % 3] > 0:
                    return False
            else:
                common = 0
                for i in range(shared):
                    common += (ring_a[i] == s) + (ring_a[i] == t)
                if common == 2 and _has_face(b, s, t, faces, head, following):
                    return False
        corner = following[corner]
        if corner == head[a]:
            return shared == vanishing


@inner_kernel
def _star_stays_sound(
    v: int,
    gone: int,
    x: float,
    y: float,
    z: float,
    points: NDArray[np.float64],
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
) -> bool:
    """Whether no face at v flips or degenerates when v moves to (x, y, z); those at ``gone`` vanish."""
    corner = head[v]
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            s, t = faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
            if s != gone and t != gone:
                ex, ey, ez = (
                    points[t, 0] - points[s, 0],
                    points[t, 1] - points[s, 1],
                    points[t, 2] - points[s, 2],
                )
                px, py, pz = (
                    points[s, 0] - points[v, 0],
                    points[s, 1] - points[v, 1],
                    points[s, 2] - points[v, 2],
                )
                qx, qy, qz = points[s, 0] - x, points[s, 1] - y, points[s, 2] - z
                mx, my, mz = py * ez - pz * ey, pz * ex - px * ez, px * ey - py * ex
                nx, ny, nz = qy * ez - qz * ey, qz * ex - qx * ez, qx * ey - qy * ex
                m, n = np.sqrt(mx * mx + my * my + mz * mz), np.sqrt(nx * nx + ny * ny + nz * nz)
                side = ex * ex + ey * ey + ez * ez
                far_p, far_q = (
                    (px + ex) ** 2 + (py + ey) ** 2 + (pz + ez) ** 2,
                    ((qx + ex) ** 2 + (qy + ey) ** 2 + (qz + ez) ** 2),
                )
                before = side + px * px + py * py + pz * pz + far_p
                after = side + qx * qx + qy * qy + qz * qz + far_q
                shape_before = 3.4641016 * m / before if before > 0 else 0.0
                shape_after = 3.4641016 * n / after if after > 0 else 0.0
                if shape_after < WORST_SHAPE and shape_after < shape_before:
                    return False
                # A face that was degenerate had no side to keep.
                if shape_before > 1e-6 and mx * nx + my * ny + mz * nz < MOST_TURN * m * n:
                    return False
        corner = following[corner]
        if corner == head[v]:
            return True


@inner_kernel
def _merge(
    a: int,
    b: int,
    tangled: bool,
    faces: NDArray[np.int32],
    feature: NDArray[np.uint8],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
) -> int:
    """Give the faces of b to a, drop those at both and those that a has already; how many were dropped."""
    removed = 0
    corner = head[a]
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            s, t = faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
            if s == b or t == b:
                third = s if t == b else t
                other = (k + 1) % 3 if t == b else (k + 2) % 3
                kind = max(feature[f, other], feature[f, (other + 2) % 3])
                faces[f, 0] = faces[f, 1] = faces[f, 2] = -1
                removed += 1
                if kind > 0:
                    _mark_feature(a, third, kind, faces, feature, head, following)
                    _mark_feature(b, third, kind, faces, feature, head, following)
        corner = following[corner]
        if corner == head[a]:
            break
    corner = head[b]
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            if tangled and _has_face(a, faces[f, (k + 1) % 3], faces[f, (k + 2) % 3], faces, head, following):
                faces[f, 0] = faces[f, 1] = faces[f, 2] = -1
                removed += 1
            else:
                faces[f, k] = a
        corner = following[corner]
        if corner == head[b]:
            break
    following[head[a]], following[head[b]] = following[head[b]], following[head[a]]
    head[b] = -1
    return removed


@inner_kernel
def _mark_feature(
    v: int,
    w: int,
    kind: int,
    faces: NDArray[np.int32],
    feature: NDArray[np.uint8],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
) -> None:
    corner = head[v]
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            if faces[f, (k + 1) % 3] == w:
                feature[f, k] = max(feature[f, k], kind)
            if faces[f, (k + 2) % 3] == w:
                feature[f, (k + 2) % 3] = max(feature[f, (k + 2) % 3], kind)
        corner = following[corner]
        if corner == head[v]:
            return


@inner_kernel
def _renew_costs(
    a: int,
    quadrics: NDArray[np.float64],
    points: NDArray[np.float64],
    on_feature: NDArray[np.uint8],
    faces: NDArray[np.int32],
    feature: NDArray[np.uint8],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    cost: NDArray[np.float32],
) -> None:
    """Costs of the edges at a."""
    corner = head[a]
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            for edge in (k, (k + 2) % 3):
                cost[f, edge] = _edge_cost(quadrics, points, on_feature, faces, feature, f, edge)
        corner = following[corner]
        if corner == head[a]:
            return


@inner_kernel
def _refuse(
    a: int,
    b: int,
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    cost: NDArray[np.float32],
) -> None:
    corner = head[a]
    while True:
        f, k = corner // 3, corner % 3
        if faces[f, 0] >= 0:
            if faces[f, (k + 1) % 3] == b:
                cost[f, k] = np.inf
            if faces[f, (k + 2) % 3] == b:
                cost[f, (k + 2) % 3] = np.inf
        corner = following[corner]
        if corner == head[a]:
            return


@parallel_kernel
def collapse_edges(
    chosen: NDArray[np.int64],
    quadrics: NDArray[np.float64],
    points: NDArray[np.float64],
    on_feature: NDArray[np.uint8],
    faces: NDArray[np.int32],
    feature: NDArray[np.uint8],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    cost: NDArray[np.float32],
    keys: NDArray[np.int64],
    parent: NDArray[np.int32],
    removed: NDArray[np.int32],
) -> None:
    """Collapse the best edge of each chosen vertex into that vertex.

    Edges that would change the topology, flip a face or make a sliver are refused until something around
    them changes. ``removed`` int32 (len(chosen),) is the number of faces that vanished.
    """
    for chunk in prange((len(chosen) + _CHUNK - 1) // _CHUNK):
        ring_a, ring_b = np.empty(RING, np.int32), np.empty(RING, np.int32)
        for row in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(chosen))):
            a, b = _edge_of_key(keys[chosen[row]])
            x, y, z, _ = collapse_target(quadrics, points, a, b)
            removed[row] = 0
            # Where walls closer than a voxel have grown together there is no topology worth keeping.
            tangled = on_feature[a] == TANGLE and on_feature[b] == TANGLE
            if (
                (tangled or _keeps_topology(a, b, faces, feature, head, following, ring_a, ring_b))
                and _star_stays_sound(a, b, x, y, z, points, faces, head, following)
                and _star_stays_sound(b, a, x, y, z, points, faces, head, following)
            ):
                removed[row] = _merge(a, b, tangled, faces, feature, head, following)
                points[a, 0], points[a, 1], points[a, 2] = x, y, z
                for i in range(10):
                    quadrics[a, i] += quadrics[b, i]
                on_feature[a] = max(on_feature[a], on_feature[b])
                parent[b] = a
                _renew_costs(a, quadrics, points, on_feature, faces, feature, head, following, cost)
            else:
                _refuse(a, b, faces, head, following, cost)


@parallel_kernel
def mark_due(
    ends: NDArray[np.int64],
    removed: NDArray[np.int32],
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    cost: NDArray[np.float32],
    bits: NDArray[np.int32],
    keys: NDArray[np.int64],
    due: NDArray[np.bool_],
) -> None:
    """Mark the vertices whose least key is another one after these collapses, for :func:`renew_keys`.

    Those are the ends, neighbours that have lost their best edge, and neighbours with a better one.
    """
    for row in prange(len(removed)):
        a, b = ends[2 * row], ends[2 * row + 1]
        due[a] = True
        due[b] = True
        if removed[row] == 0 or head[a] < 0:
            continue
        corner = head[a]
        while True:
            f, k = corner // 3, corner % 3
            if faces[f, 0] >= 0:
                for side in range(1, 3):
                    w = faces[f, (k + side) % 3]
                    edge = k if side == 1 else (k + 2) % 3
                    p, q = _edge_of_key(keys[w])
                    lost = keys[w] != NONE and (p in (a, b) or q in (a, b))
                    if lost or (cost[f, edge] < np.inf and _edge_key(a, w, bits[f, edge]) < keys[w]):
                        due[w] = True
            corner = following[corner]
            if corner == head[a]:
                break


@parallel_kernel
def renew_keys(
    vertices: NDArray[np.int64],
    faces: NDArray[np.int32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    cost: NDArray[np.float32],
    bits: NDArray[np.int32],
    keys: NDArray[np.int64],
) -> None:
    """The least key of the edges at each of these vertices."""
    for i in prange(len(vertices)):
        keys[vertices[i]] = _least_key(vertices[i], faces, head, following, cost, bits)


@kernel
def ends_of(chosen: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Both ends of the best edges of the chosen vertices."""
    ends = np.empty(2 * len(chosen), np.int64)
    for row in range(len(chosen)):
        ends[2 * row], ends[2 * row + 1] = _edge_of_key(keys[chosen[row]])
    return ends


@parallel_kernel
def face_quadrics(
    points: NDArray[np.float64],
    faces: NDArray[np.int32],
    feature: NDArray[np.uint8],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    quadrics: NDArray[np.float64],
) -> None:
    """Per vertex the planes of its faces by area, and upright planes on its feature edges."""
    for v in prange(len(points)):
        corner = head[v]
        while corner >= 0:
            f, k = corner // 3, corner % 3
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
            wx, wy, wz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
            nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
            length = np.sqrt(nx * nx + ny * ny + nz * nz)
            if length > 0:
                nx, ny, nz = nx / length, ny / length, nz / length
                d = -(nx * points[v, 0] + ny * points[v, 1] + nz * points[v, 2])
                add_plane(quadrics, v, (nx, ny, nz), d, length / 2)
                for edge in (k, (k + 2) % 3):
                    if feature[f, edge] > 0:
                        s, t = faces[f, edge], faces[f, (edge + 1) % 3]
                        ex, ey, ez = (
                            points[t, 0] - points[s, 0],
                            points[t, 1] - points[s, 1],
                            points[t, 2] - points[s, 2],
                        )
                        squared = ex * ex + ey * ey + ez * ez
                        size = np.sqrt(squared)
                        if size > 0:
                            mx, my, mz = (
                                (ey * nz - ez * ny) / size,
                                (ez * nx - ex * nz) / size,
                                (ex * ny - ey * nx) / size,
                            )
                            d = -(mx * points[v, 0] + my * points[v, 1] + mz * points[v, 2])
                            add_plane(quadrics, v, (mx, my, mz), d, BOUNDARY_WEIGHT * squared)
            corner = following[corner]
            if corner == head[v]:
                break


@parallel_kernel
def color_quadrics(
    points: NDArray[np.float64],
    faces: NDArray[np.int32],
    colors: NDArray[np.float32],
    head: NDArray[np.int32],
    following: NDArray[np.int32],
    quadrics: NDArray[np.float64],
) -> None:
    """Hold vertices where a colour changes: planes through them, across the change, in each of their faces.

    A vertex may slide along a border between colours but not away from it.
    """
    for v in prange(len(points)):
        corner = head[v]
        while corner >= 0:
            f = corner // 3
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
            wx, wy, wz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
            uu, ww = ux * ux + uy * uy + uz * uz, wx * wx + wy * wy + wz * wz
            uw = ux * wx + uy * wy + uz * wz
            det = uu * ww - uw * uw  # four times the squared area
            if det > 0:
                for channel in range(colors.shape[1]):
                    at_a, at_b, at_c = colors[a, channel], colors[b, channel], colors[c, channel]
                    step = np.float64(max(at_a, at_b, at_c) - min(at_a, at_b, at_c))
                    s, t = np.float64(at_b - at_a), np.float64(at_c - at_a)
                    i, j = (ww * s - uw * t) / det, (uu * t - uw * s) / det
                    gx, gy, gz = i * ux + j * wx, i * uy + j * wy, i * uz + j * wz
                    slope = np.sqrt(gx * gx + gy * gy + gz * gz)
                    if slope > 0:
                        gx, gy, gz = gx / slope, gy / slope, gz / slope
                        d = -(gx * points[v, 0] + gy * points[v, 1] + gz * points[v, 2])
                        add_plane(quadrics, v, (gx, gy, gz), d, np.sqrt(det) / 2 * step * step)
            corner = following[corner]
            if corner == head[v]:
                break


@kernel
def feature_vertices(
    faces: NDArray[np.int32], feature: NDArray[np.uint8], on_feature: NDArray[np.uint8]
) -> None:
    """The highest kind of the edges at each vertex."""
    on_feature[:] = 0
    for f in range(len(faces)):
        for k in range(3):
            kind = feature[f, k]
            if kind > 0:
                a, b = faces[f, k], faces[f, (k + 1) % 3]
                on_feature[a], on_feature[b] = max(on_feature[a], kind), max(on_feature[b], kind)


@parallel_kernel
def feature_kinds(
    faces: NDArray[np.int32],
    start: NDArray[np.int32],
    half_edges: NDArray[np.int32],
    feature: NDArray[np.uint8],
) -> None:
    """The kind of each half-edge, from the table of edges."""
    for edge in prange(len(start) - 1):
        first, count = half_edges[start[edge]], start[edge + 1] - start[edge]
        kind = LINE if count == 1 else TANGLE
        if count == 2:
            second = half_edges[start[edge] + 1]
            same_way = faces[first // 3, first % 3] == faces[second // 3, second % 3]
            kind = LINE if same_way else 0
        for i in range(start[edge], start[edge + 1]):
            feature[half_edges[i] // 3, half_edges[i] % 3] = kind


@parallel_kernel
def vertices_now(
    origin: NDArray[np.int32], parent: NDArray[np.int32], number: NDArray[np.int32]
) -> NDArray[np.int32]:
    """The new numbers of the vertices that ``origin`` has gone into, -1 where they are gone."""
    result = np.full(len(origin), -1, np.int32)
    for i in prange(len(origin)):
        v = origin[i]
        if v >= 0:
            while parent[v] != v:
                v = parent[v]
            result[i] = number[v]
    return result
