"""Rays that all run the same way: which of them hit a surface.

Seen along the rays the surface is a picture and every ray a point of it, so no tree is needed: every face
asks the few points under it. The time is that of one pass over the faces for each direction.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import parallel_kernel
from voxlume.mesh.visibility import Blocked

_CELLS_PER_RAY = 16
_MOST_CELLS = 1024  # along a side of the grid that the rays are sorted into
_PART = 1 << 12  # faces per unit of parallel work


def parallel_tracer(points: NDArray[np.float64], faces: NDArray[np.int32]) -> Blocked:
    """A tracer as in :mod:`voxlume.mesh.visibility` for rays that all have the direction of the first.

    Faces that the rays only graze, edge on, do not stop them.
    """

    def blocked(origins: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.bool_]:
        if not len(origins):
            return np.zeros(0, np.bool_)
        axes = _axes_along(rays[0])
        places = origins @ axes.T
        low, high = places.min(axis=0), places.max(axis=0)
        cells = min(math.isqrt(_CELLS_PER_RAY * len(origins)), _MOST_CELLS)
        # A little more than they span: the last ones lie within the last cells.
        axes[:2] *= cells / np.maximum((high - low)[:2, None] * (1 + 1e-9), 1e-12)
        shift = -axes @ (low @ _axes_along(rays[0]))
        places = origins @ axes.T + shift
        column, row = np.clip(places[:, :2], 0, cells - 1).astype(np.int64).T
        order = np.argsort(row * cells + column, kind="stable")
        starts = np.searchsorted((row * cells + column)[order], np.arange(cells * cells + 1))
        hit = np.zeros(len(origins), np.bool_)
        _hit(_projected(points, axes, shift), faces, places[order], starts, cells, hit)
        result = np.empty_like(hit)
        result[order] = hit
        return result

    return blocked


def _axes_along(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two unit vectors across a direction and its own, (3, 3)."""
    along = direction / np.linalg.norm(direction)
    across = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(along, across), along])


@parallel_kernel
def _projected(
    points: NDArray[np.float64], axes: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points (n, 3) in the cells' units across the rays, and along them."""
    out = np.empty_like(points)
    for v in prange(len(points)):
        x, y, z = points[v, 0], points[v, 1], points[v, 2]
        for c in range(3):
            out[v, c] = axes[c, 0] * x + axes[c, 1] * y + axes[c, 2] * z + shift[c]
    return out


@parallel_kernel
def _hit(
    points: NDArray[np.float64],
    faces: NDArray[np.int32],
    places: NDArray[np.float64],
    starts: NDArray[np.int64],
    cells: int,
    hit: NDArray[np.bool_],
) -> None:
    """Mark the rays that have a face before them; rays and points in the cells' units."""
    for part in prange((len(faces) + _PART - 1) // _PART):
        for f in range(part * _PART, min((part + 1) * _PART, len(faces))):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            x, y, ux, uy = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
            vx, vy = points[c, 0], points[c, 1]
            left, right, top, bottom = min(x, ux, vx), max(x, ux, vx), min(y, uy, vy), max(y, uy, vy)
            ux, uy, vx, vy = ux - x, uy - y, vx - x, vy - y
            area = ux * vy - uy * vx
            if area == 0 or right < 0 or bottom < 0 or left >= cells or top >= cells:
                continue
            side = 1.0 if area > 0 else -1.0
            area *= side
            first, last = int(max(left, 0.0)), int(min(right, cells - 1.0))
            z = points[a, 2]
            uz, vz = points[b, 2] - z, points[c, 2] - z
            for row in range(int(max(top, 0.0)), int(min(bottom, cells - 1.0)) + 1):
                for i in range(starts[row * cells + first], starts[row * cells + last + 1]):
                    wx, wy = places[i, 0] - x, places[i, 1] - y
                    s, t = side * (wx * vy - wy * vx), side * (ux * wy - uy * wx)
                    if hit[i] or s < 0 or t < 0 or s + t > area:
                        continue
                    if s * uz + t * vz > area * (places[i, 2] - z):
                        hit[i] = True
