"""Exact relations between one triangle and the voxel grid, as scalar numba functions.

Coordinates are in voxel units: voxel (i, j, k) is the box [i, i+1) x [j, j+1) x [k, k+1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from voxlume.jit import inner_kernel

F64 = NDArray[np.float64]


@inner_kernel
def order_rows(tri: F64, axis: int, out: F64) -> None:
    """Prepare the scan conversion along ``axis``: corners as (u, v, w) rows of ``out``, ascending in v.

    w is the coordinate along ``axis``, u and v those along axis+1 and axis+2 (mod 3).
    """
    for i in range(3):
        out[i, 0], out[i, 1], out[i, 2] = tri[i, (axis + 1) % 3], tri[i, (axis + 2) % 3], tri[i, axis]
    for i, j in ((0, 1), (1, 2), (0, 1)):
        if out[i, 1] > out[j, 1]:
            for c in range(3):
                out[i, c], out[j, c] = out[j, c], out[i, c]


@inner_kernel
def row_span(rows: F64, q: int) -> tuple[float, float, float, float]:
    """Where the plane v = q cuts the triangle: (u, w) of the left and of the right end."""
    lower = 0 if q <= rows[1, 1] else 1
    t = (q - rows[lower, 1]) / (rows[lower + 1, 1] - rows[lower, 1])
    u0 = rows[lower, 0] + t * (rows[lower + 1, 0] - rows[lower, 0])
    w0 = rows[lower, 2] + t * (rows[lower + 1, 2] - rows[lower, 2])
    t = (q - rows[0, 1]) / (rows[2, 1] - rows[0, 1])
    u1 = rows[0, 0] + t * (rows[2, 0] - rows[0, 0])
    w1 = rows[0, 2] + t * (rows[2, 2] - rows[0, 2])
    if u0 <= u1:
        return u0, w0, u1, w1
    return u1, w1, u0, w0


@inner_kernel
def overlap_setup(tri: F64, normal: F64, out: F64) -> None:
    """Constants of the triangle-box overlap test (after Schwarz and Seidel, 2010).

    ``out`` (11, 3): rows 0..8 are the edge functions of the three axis-aligned projections, rows 9 and
    10 the two offsets of the plane test. A box with minimum corner (x, y, z) overlaps when every edge
    function at the corner's projection is >= 0 and the plane's two values do not have the same sign.
    """
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        sign = 1.0 if normal[axis] >= 0 else -1.0
        for e in range(3):
            p, q = tri[e], tri[(e + 1) % 3]
            n_i, n_j = -(q[j] - p[j]) * sign, (q[i] - p[i]) * sign
            row = 3 * axis + e
            out[row, 0], out[row, 1] = n_i, n_j
            out[row, 2] = -(n_i * p[i] + n_j * p[j]) + max(n_i, 0.0) + max(n_j, 0.0)
    d = normal[0] * tri[0, 0] + normal[1] * tri[0, 1] + normal[2] * tri[0, 2]
    far = max(normal[0], 0.0) + max(normal[1], 0.0) + max(normal[2], 0.0)
    near = min(normal[0], 0.0) + min(normal[1], 0.0) + min(normal[2], 0.0)
    out[9, 0], out[9, 1], out[9, 2] = d, far, near


@inner_kernel
def overlaps(setup: F64, normal: F64, x: float, y: float, z: float) -> bool:
    """Does the triangle meet the closed voxel at (x, y, z)? The caller has checked the bounding boxes."""
    s = normal[0] * x + normal[1] * y + normal[2] * z - setup[9, 0]
    if s + setup[9, 1] < 0 or s + setup[9, 2] > 0:
        return False
    for e in range(3):
        if setup[e, 0] * y + setup[e, 1] * z + setup[e, 2] < 0:
            return False
        if setup[3 + e, 0] * z + setup[3 + e, 1] * x + setup[3 + e, 2] < 0:
            return False
        if setup[6 + e, 0] * x + setup[6 + e, 1] * y + setup[6 + e, 2] < 0:
            return False
    return True


@inner_kernel
def area_in_box(tri: F64, x: float, y: float, z: float, polygon: F64, clipped: F64) -> float:
    """Area of the part of the triangle inside the unit box at (x, y, z).

    Clips against the six faces (Sutherland and Hodgman); ``polygon`` and ``clipped`` are scratch (10, 3).
    """
    count = 3
    for i in range(3):
        polygon[i, 0], polygon[i, 1], polygon[i, 2] = tri[i, 0] - x, tri[i, 1] - y, tri[i, 2] - z
    for axis in range(3):
        for side in range(2):
            kept = 0
            for i in range(count):
                j = i + 1 if i + 1 < count else 0
                d_i = polygon[i, axis] if side == 0 else 1.0 - polygon[i, axis]
                d_j = polygon[j, axis] if side == 0 else 1.0 - polygon[j, axis]
                if d_i >= 0:
                    for c in range(3):
                        clipped[kept, c] = polygon[i, c]
                    kept += 1
                if (d_i >= 0) != (d_j >= 0):
                    t = d_i / (d_i - d_j)
                    for c in range(3):
                        clipped[kept, c] = polygon[i, c] + t * (polygon[j, c] - polygon[i, c])
                    kept += 1
            count = kept
            if count < 3:
                return 0.0
            polygon, clipped = clipped, polygon
    n0 = n1 = n2 = 0.0
    for i in range(1, count - 1):
        a0, a1, a2 = (
            polygon[i, 0] - polygon[0, 0],
            polygon[i, 1] - polygon[0, 1],
            polygon[i, 2] - polygon[0, 2],
        )
        b0, b1, b2 = (
            polygon[i + 1, 0] - polygon[0, 0],
            polygon[i + 1, 1] - polygon[0, 1],
            polygon[i + 1, 2] - polygon[0, 2],
        )
        n0 += a1 * b2 - a2 * b1
        n1 += a2 * b0 - a0 * b2
        n2 += a0 * b1 - a1 * b0
    return 0.5 * math.sqrt(n0 * n0 + n1 * n1 + n2 * n2)


@inner_kernel
def closest_weights(tri: F64, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Barycentric weights of the triangle's point nearest to (x, y, z) (Ericson 2004, 5.1.5)."""
    ab0, ab1, ab2 = tri[1, 0] - tri[0, 0], tri[1, 1] - tri[0, 1], tri[1, 2] - tri[0, 2]
    ac0, ac1, ac2 = tri[2, 0] - tri[0, 0], tri[2, 1] - tri[0, 1], tri[2, 2] - tri[0, 2]
    ap0, ap1, ap2 = x - tri[0, 0], y - tri[0, 1], z - tri[0, 2]
    aa = ab0 * ab0 + ab1 * ab1 + ab2 * ab2
    ac = ab0 * ac0 + ab1 * ac1 + ab2 * ac2
    cc = ac0 * ac0 + ac1 * ac1 + ac2 * ac2
    d1 = ab0 * ap0 + ab1 * ap1 + ab2 * ap2
    d2 = ac0 * ap0 + ac1 * ap1 + ac2 * ap2
    # The dot products from the other corners follow from these by linearity.
    d3, d4, d5, d6 = d1 - aa, d2 - ac, d1 - ac, d2 - cc
    if d1 <= 0 and d2 <= 0:
        return 1.0, 0.0, 0.0
    if d3 >= 0 and d4 <= d3:
        return 0.0, 1.0, 0.0
    if d6 >= 0 and d5 <= d6:
        return 0.0, 0.0, 1.0
    vc = d1 * d4 - d3 * d2
    if vc <= 0 and d1 >= 0 and d3 <= 0:
        t = d1 / (d1 - d3)
        return 1.0 - t, t, 0.0
    vb = d5 * d2 - d1 * d6
    if vb <= 0 and d2 >= 0 and d6 <= 0:
        t = d2 / (d2 - d6)
        return 1.0 - t, 0.0, t
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 0.0, 1.0 - t, t
    total = va + vb + vc
    if not total > 0:
        return 1.0 / 3, 1.0 / 3, 1.0 / 3
    return va / total, vb / total, vc / total
