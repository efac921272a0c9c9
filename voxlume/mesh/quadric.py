"""Quadric error metric: squared distances to planes, and where an edge collapses to (Garland, Heckbert 1997).

A quadric is a row of ten numbers (xx, xy, xz, yy, yz, zz, x, y, z, 1): q(p) = p.A p + 2 b.p + c. Planes are
weighted by area, so that q is an integral over the surface and its trace the area that was summed up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.jit import inner_kernel

PULL = 1e-3
"""Weight, relative to the trace, of the pull towards the best of both ends and the middle. It decides where
the planes leave freedom, and vanishes where that point is already optimal."""

FLAT_COST = 1e-6
"""Part of area x squared edge length that a collapse costs at least: on flat ground short edges go first."""


@inner_kernel
def add_plane(q: NDArray[np.float64], v: int, n: tuple[float, float, float], d: float, weight: float) -> None:
    """Add weight * (n.p + d)^2 to row v; n is a unit vector."""
    x, y, z = n
    q[v, 0] += weight * x * x
    q[v, 1] += weight * x * y
    q[v, 2] += weight * x * z
    q[v, 3] += weight * y * y
    q[v, 4] += weight * y * z
    q[v, 5] += weight * z * z
    q[v, 6] += weight * d * x
    q[v, 7] += weight * d * y
    q[v, 8] += weight * d * z
    q[v, 9] += weight * d * d


@inner_kernel
def quadric_value(q: NDArray[np.float64], a: int, b: int, x: float, y: float, z: float) -> float:
    """Value of the sum of rows a and b at a point; never negative."""
    value = (
        x * ((q[a, 0] + q[b, 0]) * x + 2 * ((q[a, 1] + q[b, 1]) * y + (q[a, 2] + q[b, 2]) * z))
        + y * ((q[a, 3] + q[b, 3]) * y + 2 * (q[a, 4] + q[b, 4]) * z)
        + (q[a, 5] + q[b, 5]) * z * z
        + 2 * ((q[a, 6] + q[b, 6]) * x + (q[a, 7] + q[b, 7]) * y + (q[a, 8] + q[b, 8]) * z)
        + (q[a, 9] + q[b, 9])
    )
    return max(value, 0.0)


@inner_kernel
def collapse_target(
    q: NDArray[np.float64], points: NDArray[np.float64], a: int, b: int
) -> tuple[float, float, float, float]:
    """Where the edge ab collapses to, and what that costs.

    Parameters
    ----------
    q : float64 (n, 10) quadrics, points : float64 (n, 3), in units of about 1 and near the origin.

    Returns
    -------
    x, y, z, cost.
    """
    ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
    bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
    trace = q[a, 0] + q[a, 3] + q[a, 5] + q[b, 0] + q[b, 3] + q[b, 5]
    squared = (ax - bx) ** 2 + (ay - by) ** 2 + (az - bz) ** 2
    floor = FLAT_COST * trace * squared
    # The pull goes to the middle unless an end is clearly better: a corner or a crease.
    mx, my, mz = (ax + bx) / 2, (ay + by) / 2, (az + bz) / 2
    best = quadric_value(q, a, b, mx, my, mz) - 0.01 * floor
    at_a, at_b = quadric_value(q, a, b, ax, ay, az), quadric_value(q, a, b, bx, by, bz)
    if at_a < best and at_a <= at_b:
        mx, my, mz = ax, ay, az
    elif at_b < best:
        mx, my, mz = bx, by, bz
    # Newton's step from there: (A + pull I) s = -(A m + b), by Cramer's rule.
    pull = PULL * trace
    xx, yy, zz = q[a, 0] + q[b, 0] + pull, q[a, 3] + q[b, 3] + pull, q[a, 5] + q[b, 5] + pull
    xy, xz, yz = q[a, 1] + q[b, 1], q[a, 2] + q[b, 2], q[a, 4] + q[b, 4]
    gx = -((xx - pull) * mx + xy * my + xz * mz + q[a, 6] + q[b, 6])
    gy = -(xy * mx + (yy - pull) * my + yz * mz + q[a, 7] + q[b, 7])
    gz = -(xz * mx + yz * my + (zz - pull) * mz + q[a, 8] + q[b, 8])
    c00, c01, c02 = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    det = xx * c00 + xy * c01 + xz * c02
    if det > 0:
        c11, c12, c22 = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
        sx = (c00 * gx + c01 * gy + c02 * gz) / det
        sy = (c01 * gx + c11 * gy + c12 * gz) / det
        sz = (c02 * gx + c12 * gy + c22 * gz) / det
        # Nearly parallel planes meet far away: such a point is a formality.
        if sx * sx + sy * sy + sz * sz <= squared:
            mx, my, mz = mx + sx, my + sy, mz + sz
    return mx, my, mz, quadric_value(q, a, b, mx, my, mz) + floor


def collapse_target_reference(
    q: NDArray[np.float64], points: NDArray[np.float64], a: int, b: int
) -> tuple[float, float, float, float]:
    """Slow twin of :func:`collapse_target`."""
    row = q[a] + q[b]
    matrix = np.array([[row[0], row[1], row[2]], [row[1], row[3], row[4]], [row[2], row[4], row[5]]])
    vector = row[6:9]

    def value(p: NDArray[np.float64]) -> float:
        return max(float(p @ matrix @ p + 2 * vector @ p + row[9]), 0.0)

    ends = points[a], points[b]
    squared = float(((ends[0] - ends[1]) ** 2).sum())
    floor = FLAT_COST * float(np.trace(matrix)) * squared
    start = (ends[0] + ends[1]) / 2
    better = min(ends, key=value)
    if value(better) < value(start) - 0.01 * floor:
        start = better
    system = matrix + PULL * np.trace(matrix) * np.eye(3)
    if np.trace(matrix) > 0:
        step = np.linalg.solve(system, -(matrix @ start + vector))
        if step @ step <= squared:
            start = start + step
    return float(start[0]), float(start[1]), float(start[2]), value(start) + floor
