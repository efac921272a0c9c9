"""Placing a dual vertex: the minimum of a quadratic error over one voxel's box.

The energy is E(x) = x^T A x - 2 b^T x + const, with A symmetric positive semi-definite, x in [0, 1]^3
(TRELLIS.2, section 3.1; the constrained form of the quadric error of Dual Contouring). A convex
quadratic on a box takes its minimum inside, on a face, on an edge or in a corner, so the exact minimum
is the best feasible candidate among these.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from voxlume.jit import inner_kernel

Point = tuple[float, float, float]


@inner_kernel
def _energy(a: NDArray[np.float64], b: NDArray[np.float64], x: float, y: float, z: float) -> float:
    return (
        x * (a[0] * x + 2 * a[1] * y + 2 * a[2] * z)
        + y * (a[3] * y + 2 * a[4] * z)
        + a[5] * z * z
        - 2 * (b[0] * x + b[1] * y + b[2] * z)
    )


@inner_kernel
def _entry(a: NDArray[np.float64], i: int, j: int) -> float:
    """A[i, j] from the packed upper triangle (xx, xy, xz, yy, yz, zz)."""
    if i > j:
        i, j = j, i
    return a[i * 3 - i * (i - 1) // 2 + (j - i)]


@inner_kernel
def _best_on_faces(
    a: NDArray[np.float64], b: NDArray[np.float64], best: float, at: Point
) -> tuple[float, Point]:
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        a_ii, a_ij, a_jj = _entry(a, i, i), _entry(a, i, j), _entry(a, j, j)
        det = a_ii * a_jj - a_ij * a_ij
        if not det > 1e-14 * a_ii * a_jj:
            continue  # flat along the face: an edge holds a point that is as low
        for side in range(2):
            f = float(side)
            r_i, r_j = b[i] - _entry(a, i, k) * f, b[j] - _entry(a, j, k) * f
            x_i, x_j = (a_jj * r_i - a_ij * r_j) / det, (a_ii * r_j - a_ij * r_i) / det
            if 0 <= x_i <= 1 and 0 <= x_j <= 1:
                point = (f, x_i, x_j) if k == 0 else ((x_j, f, x_i) if k == 1 else (x_i, x_j, f))
                e = _energy(a, b, point[0], point[1], point[2])
                if e < best:
                    best, at = e, point
    return best, at


@inner_kernel
def _best_on_edges(
    a: NDArray[np.float64], b: NDArray[np.float64], best: float, at: Point
) -> tuple[float, Point]:
    """The four edges along each axis, their ends (the corners) included."""
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        a_kk = _entry(a, k, k)
        for corner in range(4):
            f_i, f_j = float(corner & 1), float(corner >> 1)
            r = b[k] - _entry(a, k, i) * f_i - _entry(a, k, j) * f_j
            t = min(max(r / a_kk, 0.0), 1.0) if a_kk > 0 else 0.5
            point = (t, f_i, f_j) if k == 0 else ((f_j, t, f_i) if k == 1 else (f_i, f_j, t))
            e = _energy(a, b, point[0], point[1], point[2])
            if e < best:
                best, at = e, point
    return best, at


@inner_kernel
def place_dual_vertex(a: NDArray[np.float64], b: NDArray[np.float64]) -> Point:
    """The point of the unit box with the least energy.

    Parameters
    ----------
    a : float64 (6,) upper triangle of A, positive definite, in the order xx, xy, xz, yy, yz, zz.
    b : float64 (3,).
    """
    # Cofactors of the symmetric 3x3 matrix.
    c00, c01, c02 = a[3] * a[5] - a[4] * a[4], a[2] * a[4] - a[1] * a[5], a[1] * a[4] - a[2] * a[3]
    c11, c12, c22 = a[0] * a[5] - a[2] * a[2], a[1] * a[2] - a[0] * a[4], a[0] * a[3] - a[1] * a[1]
    inverse = 1.0 / (a[0] * c00 + a[1] * c01 + a[2] * c02)
    x = (c00 * b[0] + c01 * b[1] + c02 * b[2]) * inverse
    y = (c01 * b[0] + c11 * b[1] + c12 * b[2]) * inverse
    z = (c02 * b[0] + c12 * b[1] + c22 * b[2]) * inverse
    if 0 <= x <= 1 and 0 <= y <= 1 and 0 <= z <= 1:
        return x, y, z
    best, at = _best_on_faces(a, b, math.inf, (0.5, 0.5, 0.5))
    best, at = _best_on_edges(a, b, best, at)
    return at
