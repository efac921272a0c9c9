"""The nearest point of a triangle soup to given points, exactly.

Triangles are halved at the median of their longest extent, again and again, into a complete binary tree of
boxes; every query goes down to the nearer child first and skips boxes farther than what it has (Ericson,
"Real-Time Collision Detection", 2005, 5.1.5 for the triangle, 6.2 for the tree). :func:`nearest_reference` is
the slow twin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel

_LEAF = 4  # triangles in a leaf
_LEVELS = 64  # of the deepest tree that any array could hold


class Nearest(NamedTuple):
    """What a query found.

    Attributes
    ----------
    distance : float64 (n,).
    triangle : int64 (n,).
    barycentric : float64 (n, 3), of the nearest point on that triangle; none is negative.
    """

    distance: NDArray[np.float64]
    triangle: NDArray[np.int64]
    barycentric: NDArray[np.float64]


class NearestTree:
    """A tree over triangles float64 (m, 3, 3), m at least 1, all finite."""

    def __init__(self, triangles: NDArray[np.float64]) -> None:
        self._order = _median_order(triangles.mean(axis=1))
        self._triangles = np.full((len(self._order), 3, 3), np.nan)
        there = self._order < len(triangles)
        self._triangles[there] = triangles[self._order[there]]
        self._boxes = _boxes(self._triangles)

    def query(self, points: NDArray[np.float64]) -> Nearest:
        """The nearest triangle to each of (n, 3) points."""
        points = np.ascontiguousarray(points, np.float64)
        found = np.empty((len(points), 3), np.float64)
        triangle = np.empty(len(points), np.int64)
        _query(self._triangles, self._boxes, points, triangle, found)
        return _nearest(found, self._order[triangle])


def nearest_reference(triangles: NDArray[np.float64], points: NDArray[np.float64]) -> Nearest:
    """Slow twin of :class:`NearestTree`: every point with every triangle."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    best = np.full((len(points), 3), np.inf)
    triangle = np.zeros(len(points), np.int64)
    for n, p in enumerate(points):
        candidates = []  # the foot of the perpendicular where that is inside, the nearest point of each side
        normal = np.cross(b - a, c - a)
        square = np.einsum("mc,mc->m", normal, normal)
        with np.errstate(divide="ignore", invalid="ignore"):
            w1 = np.einsum("mc,mc->m", np.cross(p - a, c - a), normal) / square
            w2 = np.einsum("mc,mc->m", np.cross(b - a, p - a), normal) / square
        inside = (w1 >= 0) & (w2 >= 0) & (w1 + w2 <= 1)
        candidates.append((np.where(inside, w1, 0), np.where(inside, w2, 0)))
        for start, end, corner in ((a, b, 0), (b, c, 1), (c, a, 2)):
            along = end - start
            length = np.einsum("mc,mc->m", along, along)
            t = np.einsum("mc,mc->m", p - start, along) / np.where(length > 0, length, 1)
            t = np.clip(t, 0, 1)
            zero = np.zeros_like(t)
            candidates.append(((t, zero), (1 - t, t), (zero, 1 - t))[corner])
        for u, v in candidates:
            q = (1 - u - v)[:, None] * a + u[:, None] * b + v[:, None] * c
            distance = ((p - q) ** 2).sum(axis=1)
            m = int(distance.argmin())
            if distance[m] < best[n, 0]:
                best[n], triangle[n] = (distance[m], u[m], v[m]), m
    return _nearest(best, triangle)


def _nearest(found: NDArray[np.float64], triangle: NDArray[np.int64]) -> Nearest:
    """From rows (squared distance, second and third weight)."""
    weights = np.stack([np.maximum(1 - found[:, 1] - found[:, 2], 0), found[:, 1], found[:, 2]], axis=1)
    return Nearest(np.sqrt(found[:, 0]), triangle, weights)


def _median_order(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """The points' numbers leaf by leaf, whole leaves: numbers from len(points) on stand for nothing."""
    count = _LEAF
    while count < len(points):
        count *= 2
    # One row for each axis, in the order of the leaves; what stands for nothing is infinitely far away.
    place = np.full((3, count), np.inf)
    place[:, : len(points)] = points.T
    order = np.arange(count)
    while count > _LEAF:
        parts = place.reshape(3, -1, count)
        low = parts.min(axis=2)
        high = np.where(np.isfinite(parts), parts, -np.inf).max(axis=2)
        extent = np.where(high >= low, high - np.where(high >= low, low, 0), -1)
        along = parts[extent.argmax(axis=0), np.arange(parts.shape[1])]
        halves = np.argpartition(along, count // 2 - 1, axis=1)
        halves = (halves + np.arange(0, len(order), count)[:, None]).ravel()
        order, place = order[halves], place[:, halves]
        count //= 2
    return order


def _boxes(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (2 leaves - 1, 6) lowest and highest corner; node i has the children 2 i + 1 and 2 i + 2."""
    corners = triangles.reshape(-1, 3 * _LEAF, 3)
    # These pass over NaN, and leave it where there is nothing else.
    low, high = np.fmin.reduce(corners, axis=1), np.fmax.reduce(corners, axis=1)
    low, high = np.where(np.isnan(low), np.inf, low), np.where(np.isnan(high), -np.inf, high)
    levels = [np.concatenate([low, high], axis=1)]
    while len(low) > 1:
        low, high = low.reshape(-1, 2, 3).min(axis=1), high.reshape(-1, 2, 3).max(axis=1)
        levels.append(np.concatenate([low, high], axis=1))
    return np.concatenate(levels[::-1])


@inner_kernel
def _box_distance(boxes: NDArray[np.float64], node: int, x: float, y: float, z: float) -> float:
    """Squared; infinite for the box of no triangle."""
    dx = max(boxes[node, 0] - x, x - boxes[node, 3], 0.0)
    dy = max(boxes[node, 1] - y, y - boxes[node, 4], 0.0)
    dz = max(boxes[node, 2] - z, z - boxes[node, 5], 0.0)
    return dx * dx + dy * dy + dz * dz


@inner_kernel
def _dot(a0: float, a1: float, a2: float, b0: float, b1: float, b2: float) -> float:
    return a0 * b0 + a1 * b1 + a2 * b2


@inner_kernel
def _weights(tri: NDArray[np.float64], m: int, x: float, y: float, z: float) -> tuple[float, float]:
    """Second and third barycentric weight of the nearest point of triangle m."""
    e0, e1, e2 = tri[m, 1, 0] - tri[m, 0, 0], tri[m, 1, 1] - tri[m, 0, 1], tri[m, 1, 2] - tri[m, 0, 2]
    f0, f1, f2 = tri[m, 2, 0] - tri[m, 0, 0], tri[m, 2, 1] - tri[m, 0, 1], tri[m, 2, 2] - tri[m, 0, 2]
    p0, p1, p2 = x - tri[m, 0, 0], y - tri[m, 0, 1], z - tri[m, 0, 2]
    d1, d2 = _dot(e0, e1, e2, p0, p1, p2), _dot(f0, f1, f2, p0, p1, p2)
    if d1 <= 0.0 and d2 <= 0.0:
        return 0.0, 0.0
    q0, q1, q2 = p0 - e0, p1 - e1, p2 - e2
    d3, d4 = _dot(e0, e1, e2, q0, q1, q2), _dot(f0, f1, f2, q0, q1, q2)
    if d3 >= 0.0 and d4 <= d3:
        return 1.0, 0.0
    vc = d1 * d4 - d3 * d2
    if vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        return d1 / (d1 - d3), 0.0
    r0, r1, r2 = p0 - f0, p1 - f1, p2 - f2
    d5, d6 = _dot(e0, e1, e2, r0, r1, r2), _dot(f0, f1, f2, r0, r1, r2)
    if d6 >= 0.0 and d5 <= d6:
        return 0.0, 1.0
    vb = d5 * d2 - d1 * d6
    if vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        return 0.0, d2 / (d2 - d6)
    va = d3 * d6 - d5 * d4
    if va <= 0.0 and d4 >= d3 and d5 >= d6:
        t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 1.0 - t, t
    total = va + vb + vc
    return vb / total, vc / total


@parallel_kernel
def _query(
    triangles: NDArray[np.float64],
    boxes: NDArray[np.float64],
    points: NDArray[np.float64],
    triangle: NDArray[np.int64],
    found: NDArray[np.float64],
) -> None:
    """``found`` (n, 3) receives the squared distance and the weights of the second and third corner."""
    first_leaf = len(boxes) // 2
    for n in prange(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        nodes = np.empty(_LEVELS, np.int64)
        reach = np.empty(_LEVELS, np.float64)
        nodes[0], reach[0], waiting = 0, 0.0, 1
        best, chosen, weight1, weight2 = np.inf, 0, 0.0, 0.0
        while waiting > 0:
            waiting -= 1
            if reach[waiting] >= best:
                continue
            node = nodes[waiting]
            if node >= first_leaf:
                start = (node - first_leaf) * _LEAF
                for m in range(start, start + _LEAF):
                    u, v = _weights(triangles, m, x, y, z)
                    w = 1.0 - u - v
                    dx = x - (w * triangles[m, 0, 0] + u * triangles[m, 1, 0] + v * triangles[m, 2, 0])
                    dy = y - (w * triangles[m, 0, 1] + u * triangles[m, 1, 1] + v * triangles[m, 2, 1])
                    dz = z - (w * triangles[m, 0, 2] + u * triangles[m, 1, 2] + v * triangles[m, 2, 2])
                    distance = dx * dx + dy * dy + dz * dz
                    if distance < best:  # never for the rows of no triangle, which are NaN
                        best, chosen, weight1, weight2 = distance, m, u, v
                continue
            near, far = 2 * node + 1, 2 * node + 2
            d_near = _box_distance(boxes, near, x, y, z)
            d_far = _box_distance(boxes, far, x, y, z)
            if d_far < d_near:
                near, far, d_near, d_far = far, near, d_far, d_near
            if d_far < best:
                nodes[waiting], reach[waiting] = far, d_far
                waiting += 1
            if d_near < best:
                nodes[waiting], reach[waiting] = near, d_near
                waiting += 1
        triangle[n] = chosen
        found[n, 0], found[n, 1], found[n, 2] = best, weight1, weight2
