"""Edge collapses on CUDA, one thread per vertex or edge; the twins are the kernels of
:mod:`voxlume.mesh.collapse`, step by step the same arithmetic.

The state of the mesh is the same: circular lists of the corners around every vertex, costs per half-edge,
the least key per vertex. No kernel reads what it has written itself, so no order of its threads matters.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.mesh import collapse, quadric

LANES = 32
"""Threads that walk around their vertices together: one warp, because a walk takes as long as the longest.
The interpreter is faster with more."""

_NONE = tl.constexpr(int(collapse.NONE))
_ID_BITS = tl.constexpr(collapse.ID_BITS)
_EDGE_BITS = tl.constexpr(2 * collapse.ID_BITS)
_EDGE_MASK = tl.constexpr(2 ** (2 * collapse.ID_BITS) - 1)
_ID_MASK = tl.constexpr(2**collapse.ID_BITS - 1)
_SCRAMBLE = tl.constexpr(collapse.SCRAMBLE)
_UNSCRAMBLE = tl.constexpr(collapse.UNSCRAMBLE)
_COST_SHIFT = tl.constexpr(collapse.COST_SHIFT)
_RING = tl.constexpr(collapse.RING)
_TANGLE = tl.constexpr(collapse.TANGLE)
_BOUNDARY_WEIGHT = tl.constexpr(collapse.BOUNDARY_WEIGHT)
_MOST_TURN = tl.constexpr(collapse.MOST_TURN)
_WORST_SHAPE = tl.constexpr(collapse.WORST_SHAPE)
_PULL = tl.constexpr(quadric.PULL)
_FLAT_COST = tl.constexpr(quadric.FLAT_COST)


def face_quadrics(
    points: Tensor, faces: Tensor, feature: Tensor, head: Tensor, following: Tensor, quadrics: Tensor
) -> None:
    """:func:`voxlume.mesh.collapse.face_quadrics`."""
    n = len(points)
    _face_quadrics_kernel[_grid(n)](
        points, faces, feature, head, following, quadrics, n, LANES=LANES, **_OPTIONS
    )


def color_quadrics(
    points: Tensor, faces: Tensor, colors: Tensor, head: Tensor, following: Tensor, quadrics: Tensor
) -> None:
    """:func:`voxlume.mesh.collapse.color_quadrics`."""
    n = len(points)
    _color_quadrics_kernel[_grid(n)](
        points, faces, colors, head, following, quadrics, n, CHANNELS=colors.shape[1], LANES=LANES, **_OPTIONS
    )


def all_costs(
    quadrics: Tensor, points: Tensor, on_feature: Tensor, faces: Tensor, feature: Tensor, cost: Tensor
) -> None:
    """:func:`voxlume.mesh.collapse.all_costs`."""
    n = 3 * len(faces)
    _costs_kernel[_grid(n)](quadrics, points, on_feature, faces, feature, cost, n, LANES=LANES, **_OPTIONS)


def renew_keys(
    due: Tensor, faces: Tensor, head: Tensor, following: Tensor, cost: Tensor, keys: Tensor, levels: Tensor
) -> None:
    """:func:`voxlume.mesh.collapse.renew_keys` of the vertices where ``due`` uint8 (n,) is not zero.

    ``due`` becomes zero. Adds to ``levels`` int32 (:data:`collapse.COST_LEVELS`,) how many vertices have each
    cost level.
    """
    _keys_kernel[_grid(len(keys))](
        due, faces, head, following, cost, keys, levels, len(keys), LANES=LANES, **_OPTIONS
    )


def cost_limit(levels: Tensor, rank: int, limit: Tensor, removed: Tensor) -> None:
    """:func:`voxlume.mesh.collapse.cost_limit` into ``limit`` int64 (1,), of what :func:`renew_keys` counted.

    Those counts and ``removed`` become zero, for the next round.
    """
    _limit_kernel[(1,)](levels, rank, limit, removed, LEVELS=len(levels))


def mark_chosen(
    faces: Tensor, head: Tensor, following: Tensor, keys: Tensor, limit: Tensor, chosen: Tensor
) -> None:
    """:func:`voxlume.mesh.collapse.mark_chosen`; ``limit`` int64 (1,), ``chosen`` uint8 (n,)."""
    _chosen_kernel[_grid(len(keys))](
        faces, head, following, keys, limit, chosen, len(keys), LANES=LANES, **_OPTIONS
    )


def collapse_edges(
    chosen: Tensor,
    quadrics: Tensor,
    points: Tensor,
    on_feature: Tensor,
    faces: Tensor,
    feature: Tensor,
    head: Tensor,
    following: Tensor,
    cost: Tensor,
    keys: Tensor,
    parent: Tensor,
    removed: Tensor,
    moved: Tensor,
    due: Tensor,
) -> None:
    """:func:`voxlume.mesh.collapse.collapse_edges`.

    Adds to ``removed`` int32 (1,) how many faces went. Where an edge did, ``moved`` uint8 (n,) becomes one;
    so does ``due`` at the vertices whose least key may have changed.
    """
    k = len(chosen)
    target = torch.empty((k, 3), dtype=torch.float64, device=chosen.device)
    allowed = torch.empty(k, dtype=torch.uint8, device=chosen.device)
    rings = faces, head, following
    _decide_kernel[_grid(k)](
        chosen,
        keys,
        quadrics,
        points,
        on_feature,
        *rings,
        feature,
        target,
        allowed,
        k,
        LANES=LANES,
        **_OPTIONS,
    )
    _mark_features_kernel[_grid(k)](chosen, keys, allowed, *rings, feature, k, LANES=LANES, **_OPTIONS)
    _merge_kernel[_grid(k)](
        chosen,
        keys,
        allowed,
        *rings,
        on_feature,
        target,
        points,
        quadrics,
        parent,
        removed,
        moved,
        k,
        LANES=LANES,
        **_OPTIONS,
    )
    _renew_costs_kernel[_grid(k)](
        chosen,
        keys,
        allowed,
        quadrics,
        points,
        on_feature,
        *rings,
        feature,
        cost,
        due,
        k,
        LANES=LANES,
        **_OPTIONS,
    )


def _grid(count: int) -> tuple[int]:
    return (max(triton.cdiv(count, LANES), 1),)


# Products and sums rounded one by one, as on the CPU.
_OPTIONS: dict[str, Any] = {"num_warps": 1, "enable_fp_fusion": False}


@triton.jit
def _rows(n, LANES: tl.constexpr):
    row = tl.program_id(0) * LANES + tl.arange(0, LANES)
    return row, row < n


@triton.jit
def _others(faces, corner, here):
    """The two other vertices of the face at a corner, in its winding; -1 where the face is gone."""
    first = corner - corner % 3
    s = tl.load(faces + first + (corner + 1) % 3, mask=here, other=-1)
    t = tl.load(faces + first + (corner + 2) % 3, mask=here, other=-1)
    return s, t


@triton.jit
def _point(points, v, here):
    x = tl.load(points + 3 * v, mask=here, other=0.0)
    y = tl.load(points + 3 * v + 1, mask=here, other=0.0)
    z = tl.load(points + 3 * v + 2, mask=here, other=0.0)
    return x, y, z


@triton.jit
def _sum(q, a, b, i: tl.constexpr, here):
    return tl.load(q + 10 * a + i, mask=here, other=0.0) + tl.load(q + 10 * b + i, mask=here, other=0.0)


@triton.jit
def _value(q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, x, y, z):
    value = (
        x * (q0 * x + 2 * (q1 * y + q2 * z))
        + y * (q3 * y + 2 * q4 * z)
        + q5 * z * z
        + 2 * (q6 * x + q7 * y + q8 * z)
        + q9
    )
    return tl.maximum(value, 0.0)


@triton.jit
def _target(q, points, a, b, here):
    """:func:`voxlume.mesh.quadric.collapse_target`."""
    ax, ay, az = _point(points, a, here)
    bx, by, bz = _point(points, b, here)
    q0, q1, q2, q3 = (
        _sum(q, a, b, 0, here),
        _sum(q, a, b, 1, here),
        _sum(q, a, b, 2, here),
        _sum(q, a, b, 3, here),
    )
    q4, q5, q6, q7 = (
        _sum(q, a, b, 4, here),
        _sum(q, a, b, 5, here),
        _sum(q, a, b, 6, here),
        _sum(q, a, b, 7, here),
    )
    q8, q9 = _sum(q, a, b, 8, here), _sum(q, a, b, 9, here)
    # In the twin's order of additions.
    trace = (
        tl.load(q + 10 * a, mask=here, other=0.0)
        + tl.load(q + 10 * a + 3, mask=here, other=0.0)
        + tl.load(q + 10 * a + 5, mask=here, other=0.0)
        + tl.load(q + 10 * b, mask=here, other=0.0)
        + tl.load(q + 10 * b + 3, mask=here, other=0.0)
        + tl.load(q + 10 * b + 5, mask=here, other=0.0)
    )
    squared = (ax - bx) * (ax - bx) + (ay - by) * (ay - by) + (az - bz) * (az - bz)
    floor = _FLAT_COST * trace * squared
    mx, my, mz = (ax + bx) / 2, (ay + by) / 2, (az + bz) / 2
    best = _value(q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, mx, my, mz) - 0.01 * floor
    at_a = _value(q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, ax, ay, az)
    at_b = _value(q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, bx, by, bz)
    to_a = (at_a < best) & (at_a <= at_b)
    to_b = (at_b < best) & (at_a > at_b)
    to_b = to_b | ((at_b < best) & (to_a == 0))
    mx = tl.where(to_a, ax, tl.where(to_b, bx, mx))
    my = tl.where(to_a, ay, tl.where(to_b, by, my))
    mz = tl.where(to_a, az, tl.where(to_b, bz, mz))
    pull = _PULL * trace
    xx, yy, zz = q0 + pull, q3 + pull, q5 + pull
    gx = -((xx - pull) * mx + q1 * my + q2 * mz + q6)
    gy = -(q1 * mx + (yy - pull) * my + q4 * mz + q7)
    gz = -(q2 * mx + q4 * my + (zz - pull) * mz + q8)
    c00, c01, c02 = yy * zz - q4 * q4, q2 * q4 - q1 * zz, q1 * q4 - q2 * yy
    det = xx * c00 + q1 * c01 + q2 * c02
    c11, c12, c22 = xx * zz - q2 * q2, q1 * q2 - xx * q4, xx * yy - q1 * q1
    solvable = det > 0
    divisor = tl.where(solvable, det, 1.0)
    sx = (c00 * gx + c01 * gy + c02 * gz) / divisor
    sy = (c01 * gx + c11 * gy + c12 * gz) / divisor
    sz = (c02 * gx + c12 * gy + c22 * gz) / divisor
    step = solvable & (sx * sx + sy * sy + sz * sz <= squared)
    mx, my, mz = tl.where(step, mx + sx, mx), tl.where(step, my + sy, my), tl.where(step, mz + sz, mz)
    return mx, my, mz, _value(q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, mx, my, mz) + floor


@triton.jit
def _half_edge_cost(q, points, on_feature, faces, feature, half_edge, here):
    """Float32 cost of a half-edge, infinite where the edge is kept elsewhere or must stay."""
    first = half_edge - half_edge % 3
    a = tl.load(faces + half_edge, mask=here, other=0)
    b = tl.load(faces + first + (half_edge + 1) % 3, mask=here, other=0)
    kind = tl.load(feature + half_edge, mask=here, other=0).to(tl.int32)
    at_a = tl.load(on_feature + a, mask=here, other=0).to(tl.int32)
    at_b = tl.load(on_feature + b, mask=here, other=0).to(tl.int32)
    owned = (kind > 0) | (a < b)
    pinched = (at_a > 0) & (at_b > 0) & (kind == 0) & (at_a + at_b < 4)
    priced = here & owned & (pinched == 0)
    _, _, _, cost = _target(q, points, tl.minimum(a, b), tl.maximum(a, b), priced)
    return tl.where(priced, cost.to(tl.float32), float("inf"))


@triton.jit
def _edge_key(a, b, cost):
    low, high = tl.minimum(a, b).to(tl.int64), tl.maximum(a, b).to(tl.int64)
    scrambled = (((low << _ID_BITS) | high) * _SCRAMBLE) & _EDGE_MASK
    bits = cost.to(tl.int32, bitcast=True).to(tl.int64)
    return ((bits >> _COST_SHIFT) << _EDGE_BITS) | scrambled


@triton.jit
def _edge_of_key(key):
    edge = ((key & _EDGE_MASK) * _UNSCRAMBLE) & _EDGE_MASK
    return (edge >> _ID_BITS).to(tl.int32), (edge & _ID_MASK).to(tl.int32)


@triton.jit
def _any(mask):
    return tl.max(mask.to(tl.int32), axis=0) > 0


@triton.jit(do_not_specialize=["n"])
def _costs_kernel(q, points, on_feature, faces, feature, cost, n, LANES: tl.constexpr):
    half_edge, here = _rows(n, LANES)
    found = _half_edge_cost(q, points, on_feature, faces, feature, half_edge, here)
    tl.store(cost + half_edge, found, mask=here)


@triton.jit(do_not_specialize=["n"])
def _keys_kernel(due, faces, head, following, cost, keys, levels, n, LANES: tl.constexpr):
    v, inside = _rows(n, LANES)
    here = inside & (tl.load(due + v, mask=inside, other=0) > 0)
    start = tl.load(head + v, mask=here, other=-1)
    corner = start
    walking = here & (start >= 0)
    least = tl.full((LANES,), _NONE, tl.int64)
    while _any(walking):
        s, t = _others(faces, corner, walking)
        alive = walking & (s >= 0)
        before = corner - corner % 3 + (corner + 2) % 3
        out = tl.load(cost + corner, mask=alive, other=float("inf"))
        into = tl.load(cost + before, mask=alive, other=float("inf"))
        least = tl.where(out < float("inf"), tl.minimum(least, _edge_key(v, s, out)), least)
        least = tl.where(into < float("inf"), tl.minimum(least, _edge_key(t, v, into)), least)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (corner != start)
    tl.store(keys + v, least, mask=here)
    tl.store(due + v, tl.zeros((LANES,), tl.uint8), mask=here)
    least = tl.where(here, least, tl.load(keys + v, mask=inside & (here == 0), other=_NONE))
    # Sums of integers are the same in any order.
    tl.atomic_add(levels + (least >> _EDGE_BITS), 1, mask=inside & (least != _NONE), sem="relaxed")


@triton.jit(do_not_specialize=["rank"])
def _limit_kernel(levels, rank, limit, removed, LEVELS: tl.constexpr):
    level = tl.arange(0, LEVELS)
    below = tl.cumsum(tl.load(levels + level), axis=0) < rank
    tl.store(limit, tl.sum(below.to(tl.int64), axis=0))
    tl.store(levels + level, tl.zeros((LEVELS,), tl.int32))
    tl.store(removed, 0)


@triton.jit
def _ring_allows(v, key, faces, head, following, keys, here):
    """Whether no neighbour of v has an edge with a smaller key."""
    start = tl.load(head + v, mask=here, other=-1)
    corner = start
    walking = here
    allows = here
    while _any(walking):
        s, t = _others(faces, corner, walking)
        alive = walking & (s >= 0)
        at_s = tl.load(keys + s, mask=alive, other=_NONE)
        at_t = tl.load(keys + t, mask=alive, other=_NONE)
        allows = allows & ((alive & ((at_s < key) | (at_t < key))) == 0)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & allows & (corner != start)
    return allows


@triton.jit(do_not_specialize=["n"])
def _chosen_kernel(faces, head, following, keys, limit, chosen, n, LANES: tl.constexpr):
    v, inside = _rows(n, LANES)
    key = tl.load(keys + v, mask=inside, other=_NONE)
    here = inside & (key != _NONE) & (key >> _EDGE_BITS <= tl.load(limit))
    a, b = _edge_of_key(key)
    here = here & (a == v)
    here = here & (tl.load(keys + b, mask=here, other=_NONE) == key)
    here = _ring_allows(a, key, faces, head, following, keys, here)
    here = _ring_allows(b, key, faces, head, following, keys, here)
    tl.store(chosen + v, here.to(tl.uint8), mask=inside)


@triton.jit
def _has_face(v, p, q, faces, head, following, here):
    """Whether v, p and q are the corners of a face."""
    start = tl.load(head + v, mask=here, other=-1)
    corner = start
    walking = here & (start >= 0)
    found = here & (start < -1)
    while _any(walking):
        s, t = _others(faces, corner, walking)
        found = found | (walking & (s >= 0) & (((s == p) & (t == q)) | ((s == q) & (t == p))))
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (found == 0) & (corner != start)
    return found


@triton.jit
def _is_neighbor(v, w, until, faces, head, following, here):
    """Whether w shares a face with v, among the corners of v's list before ``until`` (-1: all of them)."""
    start = tl.load(head + v, mask=here, other=-1)
    corner = start
    walking = here & (start != until)
    found = here & (start < -1)
    while _any(walking):
        s, t = _others(faces, corner, walking)
        found = found | (walking & (s >= 0) & ((s == w) | (t == w)))
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (found == 0) & (corner != start) & (corner != until)
    return found


@triton.jit
def _small_ring(v, faces, head, following, here):
    """Whether a vertex has no more faces than its ring may have neighbours."""
    start = tl.load(head + v, mask=here, other=-1)
    corner = start
    walking = here
    count = tl.zeros_like(v)
    while _any(walking):
        s, _t = _others(faces, corner, walking)
        count += (walking & (s >= 0)).to(tl.int32)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (corner != start) & (count <= _RING)
    return here & (count <= _RING)


@triton.jit
def _keeps_topology(a, b, faces, head, following, feature, here):
    """The link condition, as in the twin; neighbours are looked up instead of listed."""
    here = _small_ring(a, faces, head, following, here)
    here = _small_ring(b, faces, head, following, here)
    start = tl.load(head + a, mask=here, other=-1)
    corner = start
    walking = here
    allows = here
    shared, vanishing = tl.zeros_like(a), tl.zeros_like(a)
    while _any(walking):
        s, t = _others(faces, corner, walking)
        alive = walking & (s >= 0)
        at_edge = alive & ((s == b) | (t == b))
        vanishing += at_edge.to(tl.int32)
        first = corner - corner % 3
        other = first + tl.where(t == b, corner + 1, corner + 2) % 3
        after = first + (other + 2) % 3
        one = tl.load(feature + other, mask=at_edge, other=0)
        two = tl.load(feature + after, mask=at_edge, other=0)
        allows = allows & ((at_edge & (one > 0) & (two > 0)) == 0)
        s_shared = _is_neighbor(b, s, -1, faces, head, following, alive & (s != b))
        t_shared = _is_neighbor(b, t, -1, faces, head, following, alive & (t != b))
        s_known = _is_neighbor(a, s, corner, faces, head, following, s_shared)
        t_known = _is_neighbor(a, t, corner, faces, head, following, t_shared)
        shared += (s_shared & (s_known == 0)).to(tl.int32)
        shared += (t_shared & (t_known == 0)).to(tl.int32)
        both = alive & (at_edge == 0) & s_shared & t_shared
        allows = allows & (_has_face(b, s, t, faces, head, following, both) == 0)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & allows & (corner != start)
    return allows & (shared == vanishing)


@triton.jit
def _stays_sound(v, gone, x, y, z, points, faces, head, following, here):
    """Whether no face at v flips or degenerates when v moves to (x, y, z); those at ``gone`` vanish."""
    start = tl.load(head + v, mask=here, other=-1)
    corner = start
    walking = here
    sound = here
    vx, vy, vz = _point(points, v, here)
    while _any(walking):
        s, t = _others(faces, corner, walking)
        looked_at = walking & (s >= 0) & (s != gone) & (t != gone)
        sx, sy, sz = _point(points, s, looked_at)
        tx, ty, tz = _point(points, t, looked_at)
        ex, ey, ez = tx - sx, ty - sy, tz - sz
        px, py, pz = sx - vx, sy - vy, sz - vz
        qx, qy, qz = sx - x, sy - y, sz - z
        mx, my, mz = py * ez - pz * ey, pz * ex - px * ez, px * ey - py * ex
        nx, ny, nz = qy * ez - qz * ey, qz * ex - qx * ez, qx * ey - qy * ex
        m, n = tl.sqrt(mx * mx + my * my + mz * mz), tl.sqrt(nx * nx + ny * ny + nz * nz)
        side = ex * ex + ey * ey + ez * ez
        far_p = (px + ex) * (px + ex) + (py + ey) * (py + ey) + (pz + ez) * (pz + ez)
        far_q = (qx + ex) * (qx + ex) + (qy + ey) * (qy + ey) + (qz + ez) * (qz + ez)
        before = side + px * px + py * py + pz * pz + far_p
        after = side + qx * qx + qy * qy + qz * qz + far_q
        shape_before = tl.where(before > 0, 3.4641016 * m / tl.where(before > 0, before, 1.0), 0.0)
        shape_after = tl.where(after > 0, 3.4641016 * n / tl.where(after > 0, after, 1.0), 0.0)
        sliver = (shape_after < _WORST_SHAPE) & (shape_after < shape_before)
        turned = (shape_before > 1e-6) & (mx * nx + my * ny + mz * nz < _MOST_TURN * m * n)
        sound = sound & ((looked_at & (sliver | turned)) == 0)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & sound & (corner != start)
    return sound


@triton.jit(do_not_specialize=["n"])
def _decide_kernel(
    chosen, keys, q, points, on_feature, faces, head, following, feature, target, allowed, n,
    LANES: tl.constexpr,
):  # fmt: skip
    """Where each edge would go, and whether it may."""
    row, inside = _rows(n, LANES)
    v = tl.load(chosen + row, mask=inside, other=0)
    a, b = _edge_of_key(tl.load(keys + v, mask=inside, other=0))
    x, y, z, _ = _target(q, points, a, b, inside)
    at_a = tl.load(on_feature + a, mask=inside, other=0)
    at_b = tl.load(on_feature + b, mask=inside, other=0)
    tangled = inside & (at_a == _TANGLE) & (at_b == _TANGLE)
    fine = tangled | _keeps_topology(a, b, faces, head, following, feature, inside & (tangled == 0))
    fine = _stays_sound(a, b, x, y, z, points, faces, head, following, fine)
    fine = _stays_sound(b, a, x, y, z, points, faces, head, following, fine)
    tl.store(target + 3 * row, x, mask=inside)
    tl.store(target + 3 * row + 1, y, mask=inside)
    tl.store(target + 3 * row + 2, z, mask=inside)
    tl.store(allowed + row, fine.to(tl.uint8), mask=inside)


@triton.jit
def _mark_feature(v, w, kind, faces, head, following, feature, here):
    """Give the half-edges between v and w in v's faces at least this kind."""
    start = tl.load(head + v, mask=here, other=-1)
    corner = start
    walking = here
    while _any(walking):
        s, t = _others(faces, corner, walking)
        first = corner - corner % 3
        before = first + (corner + 2) % 3
        out, into = walking & (s == w), walking & (t == w)
        old = tl.load(feature + corner, mask=out, other=0).to(tl.int32)
        tl.store(feature + corner, tl.maximum(old, kind).to(tl.uint8), mask=out)
        old = tl.load(feature + before, mask=into, other=0).to(tl.int32)
        tl.store(feature + before, tl.maximum(old, kind).to(tl.uint8), mask=into)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (corner != start)


@triton.jit(do_not_specialize=["n"])
def _mark_features_kernel(chosen, keys, allowed, faces, head, following, feature, n, LANES: tl.constexpr):
    """Where a vanishing face has a feature edge, the edge that its sides merge into becomes one."""
    row, here = _rows(n, LANES)
    here = here & (tl.load(allowed + row, mask=here, other=0) > 0)
    v = tl.load(chosen + row, mask=here, other=0)
    a, b = _edge_of_key(tl.load(keys + v, mask=here, other=0))
    start = tl.load(head + a, mask=here, other=-1)
    corner = start
    walking = here
    while _any(walking):
        s, t = _others(faces, corner, walking)
        at_edge = walking & (s >= 0) & ((s == b) | (t == b))
        third = tl.where(t == b, s, t)
        first = corner - corner % 3
        other = first + tl.where(t == b, corner + 1, corner + 2) % 3
        after = first + (other + 2) % 3
        one = tl.load(feature + other, mask=at_edge, other=0).to(tl.int32)
        two = tl.load(feature + after, mask=at_edge, other=0).to(tl.int32)
        kind = tl.maximum(one, two)
        marked = at_edge & (kind > 0)
        _mark_feature(a, third, kind, faces, head, following, feature, marked)
        _mark_feature(b, third, kind, faces, head, following, feature, marked)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (corner != start)


@triton.jit
def _drop(faces, corner, here):
    gone = tl.full(corner.shape, -1, tl.int32)
    first = corner - corner % 3
    tl.store(faces + first, gone, mask=here)
    tl.store(faces + first + 1, gone, mask=here)
    tl.store(faces + first + 2, gone, mask=here)


@triton.jit(do_not_specialize=["n"])
def _merge_kernel(
    chosen, keys, allowed, faces, head, following, on_feature, target, points, q, parent, removed, moved, n,
    LANES: tl.constexpr,
):  # fmt: skip
    """Give the faces of b to a, drop those at both and those that a has already."""
    row, inside = _rows(n, LANES)
    here = inside & (tl.load(allowed + row, mask=inside, other=0) > 0)
    v = tl.load(chosen + row, mask=here, other=0)
    a, b = _edge_of_key(tl.load(keys + v, mask=here, other=0))
    at_a = tl.load(on_feature + a, mask=here, other=0)
    at_b = tl.load(on_feature + b, mask=here, other=0)
    tangled = here & (at_a == _TANGLE) & (at_b == _TANGLE)
    head_a = tl.load(head + a, mask=here, other=0)
    head_b = tl.load(head + b, mask=here, other=0)
    dropped = tl.zeros_like(a)
    corner = head_b
    walking = here
    while _any(walking):
        s, t = _others(faces, corner, walking)
        alive = walking & (s >= 0)
        at_edge = alive & ((s == a) | (t == a))
        twice = _has_face(a, s, t, faces, head, following, alive & tangled & (at_edge == 0))
        gone = at_edge | twice
        dropped += gone.to(tl.int32)
        _drop(faces, corner, gone)
        tl.store(faces + corner, a, mask=alive & (gone == 0))
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (corner != head_b)
    after_a = tl.load(following + head_a, mask=here, other=0)
    after_b = tl.load(following + head_b, mask=here, other=0)
    tl.store(following + head_a, after_b, mask=here)
    tl.store(following + head_b, after_a, mask=here)
    tl.store(head + b, tl.full(b.shape, -1, tl.int32), mask=here)
    tl.store(parent + b, a, mask=here)
    tl.store(on_feature + a, tl.maximum(at_a, at_b), mask=here)
    for i in range(3):
        tl.store(points + 3 * a + i, tl.load(target + 3 * row + i, mask=here, other=0.0), mask=here)
    for i in range(10):
        total = tl.load(q + 10 * a + i, mask=here, other=0.0) + tl.load(q + 10 * b + i, mask=here, other=0.0)
        tl.store(q + 10 * a + i, total, mask=here)
    tl.store(moved + v, tl.full((LANES,), 1, tl.uint8), mask=here & (dropped > 0))
    tl.atomic_add(removed, tl.sum(dropped, axis=0), sem="relaxed")


@triton.jit(do_not_specialize=["n"])
def _renew_costs_kernel(
    chosen, keys, allowed, q, points, on_feature, faces, head, following, feature, cost, due, n,
    LANES: tl.constexpr,
):  # fmt: skip
    """New costs at a after a collapse, none for an edge that was refused; whose keys are due."""
    row, inside = _rows(n, LANES)
    done = inside & (tl.load(allowed + row, mask=inside, other=0) > 0)
    v = tl.load(chosen + row, mask=inside, other=0)
    a, b = _edge_of_key(tl.load(keys + v, mask=inside, other=0))
    one = tl.full((LANES,), 1, tl.uint8)
    tl.store(due + a, one, mask=inside)
    tl.store(due + b, one, mask=inside)
    start = tl.load(head + a, mask=inside, other=-1)
    corner = start
    walking = inside & (start >= 0)
    while _any(walking):
        s, t = _others(faces, corner, walking)
        alive = walking & (s >= 0)
        before = corner - corner % 3 + (corner + 2) % 3
        renewed = alive & done
        out = _half_edge_cost(q, points, on_feature, faces, feature, corner, renewed)
        into = _half_edge_cost(q, points, on_feature, faces, feature, before, renewed)
        tl.store(cost + corner, out, mask=renewed | (alive & (s == b)))
        tl.store(cost + before, into, mask=renewed | (alive & (t == b)))
        tl.store(due + s, one, mask=renewed)
        tl.store(due + t, one, mask=renewed)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (corner != start)


@triton.jit
def _add_plane(quadrics, v, x, y, z, d, weight, here):
    _add(quadrics + 10 * v, weight * x * x, here)
    _add(quadrics + 10 * v + 1, weight * x * y, here)
    _add(quadrics + 10 * v + 2, weight * x * z, here)
    _add(quadrics + 10 * v + 3, weight * y * y, here)
    _add(quadrics + 10 * v + 4, weight * y * z, here)
    _add(quadrics + 10 * v + 5, weight * z * z, here)
    _add(quadrics + 10 * v + 6, weight * d * x, here)
    _add(quadrics + 10 * v + 7, weight * d * y, here)
    _add(quadrics + 10 * v + 8, weight * d * z, here)
    _add(quadrics + 10 * v + 9, weight * d * d, here)


@triton.jit
def _add(place, value, here):
    # Only this thread looks at this place.
    tl.store(place, tl.load(place, mask=here, other=0.0) + value, mask=here)


@triton.jit
def _face_points(points, faces, corner, here):
    """The face's vertices in its own order, whichever of its corners is asked for."""
    first = corner - corner % 3
    a = tl.load(faces + first, mask=here, other=0)
    b = tl.load(faces + first + 1, mask=here, other=0)
    c = tl.load(faces + first + 2, mask=here, other=0)
    return a, b, c


@triton.jit(do_not_specialize=["n"])
def _face_quadrics_kernel(points, faces, feature, head, following, quadrics, n, LANES: tl.constexpr):
    v, here = _rows(n, LANES)
    start = tl.load(head + v, mask=here, other=-1)
    corner = start
    walking = here & (start >= 0)
    vx, vy, vz = _point(points, v, here)
    while _any(walking):
        a, b, c = _face_points(points, faces, corner, walking)
        ax, ay, az = _point(points, a, walking)
        bx, by, bz = _point(points, b, walking)
        cx, cy, cz = _point(points, c, walking)
        ux, uy, uz = bx - ax, by - ay, bz - az
        wx, wy, wz = cx - ax, cy - ay, cz - az
        nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        length = tl.sqrt(nx * nx + ny * ny + nz * nz)
        whole = walking & (length > 0)
        divisor = tl.where(whole, length, 1.0)
        nx, ny, nz = nx / divisor, ny / divisor, nz / divisor
        d = -(nx * vx + ny * vy + nz * vz)
        _add_plane(quadrics, v, nx, ny, nz, d, length / 2, whole)
        first = corner - corner % 3
        for side in range(2):
            edge = first + (corner + 2 * side) % 3
            marked = whole & (tl.load(feature + edge, mask=whole, other=0) > 0)
            s = tl.load(faces + edge, mask=marked, other=0)
            t = tl.load(faces + first + (edge + 1) % 3, mask=marked, other=0)
            sx, sy, sz = _point(points, s, marked)
            tx, ty, tz = _point(points, t, marked)
            ex, ey, ez = tx - sx, ty - sy, tz - sz
            squared = ex * ex + ey * ey + ez * ez
            size = tl.sqrt(squared)
            marked = marked & (size > 0)
            size = tl.where(marked, size, 1.0)
            mx, my, mz = (ey * nz - ez * ny) / size, (ez * nx - ex * nz) / size, (ex * ny - ey * nx) / size
            d = -(mx * vx + my * vy + mz * vz)
            _add_plane(quadrics, v, mx, my, mz, d, _BOUNDARY_WEIGHT * squared, marked)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (corner != start)


@triton.jit(do_not_specialize=["n"])
def _color_quadrics_kernel(
    points, faces, colors, head, following, quadrics, n, CHANNELS: tl.constexpr, LANES: tl.constexpr
):
    v, here = _rows(n, LANES)
    start = tl.load(head + v, mask=here, other=-1)
    corner = start
    walking = here & (start >= 0)
    vx, vy, vz = _point(points, v, here)
    while _any(walking):
        a, b, c = _face_points(points, faces, corner, walking)
        ax, ay, az = _point(points, a, walking)
        bx, by, bz = _point(points, b, walking)
        cx, cy, cz = _point(points, c, walking)
        ux, uy, uz = bx - ax, by - ay, bz - az
        wx, wy, wz = cx - ax, cy - ay, cz - az
        uu, ww = ux * ux + uy * uy + uz * uz, wx * wx + wy * wy + wz * wz
        uw = ux * wx + uy * wy + uz * wz
        det = uu * ww - uw * uw
        whole = walking & (det > 0)
        divisor = tl.where(whole, det, 1.0)
        for channel in range(CHANNELS):
            at_a = tl.load(colors + CHANNELS * a + channel, mask=whole, other=0.0)
            at_b = tl.load(colors + CHANNELS * b + channel, mask=whole, other=0.0)
            at_c = tl.load(colors + CHANNELS * c + channel, mask=whole, other=0.0)
            step = tl.maximum(tl.maximum(at_a, at_b), at_c) - tl.minimum(tl.minimum(at_a, at_b), at_c)
            step = step.to(tl.float64)
            s, t = (at_b - at_a).to(tl.float64), (at_c - at_a).to(tl.float64)
            i, j = (ww * s - uw * t) / divisor, (uu * t - uw * s) / divisor
            gx, gy, gz = i * ux + j * wx, i * uy + j * wy, i * uz + j * wz
            slope = tl.sqrt(gx * gx + gy * gy + gz * gz)
            changing = whole & (slope > 0)
            slope = tl.where(changing, slope, 1.0)
            gx, gy, gz = gx / slope, gy / slope, gz / slope
            d = -(gx * vx + gy * vy + gz * vz)
            weight = tl.sqrt(tl.where(whole, det, 0.0)) / 2 * step * step
            _add_plane(quadrics, v, gx, gy, gz, d, weight, changing)
        corner = tl.load(following + corner, mask=walking, other=0)
        walking = walking & (corner != start)
