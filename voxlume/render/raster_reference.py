"""The rasteriser once more, slow and obvious: every face against every pixel, in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.render.raster import _GUARD, SUBPIXEL, Fragments


def rasterize_reference(
    clip_positions: NDArray[np.floating],
    faces: NDArray[np.integer],
    height: int,
    width: int,
    *,
    near: float = 1e-9,
    beyond: Fragments | None = None,
    before: NDArray[np.float32] | None = None,
) -> Fragments:
    """See :func:`voxlume.render.raster.rasterize`."""
    clip = np.asarray(clip_positions, np.float64)
    face_index = np.full((height, width), -1, np.int32)
    depth = np.full((height, width), np.inf, np.float32)
    barycentric = np.zeros((height, width, 3), np.float32)
    row, column = np.mgrid[:height, :width]
    for f, face in enumerate(np.asarray(faces)):
        corners = clip[face]
        inside = np.zeros((height, width), bool)
        for triangle in _visible_triangles(corners, height, width, near):
            inside |= _covered(triangle, row, column)
        weights = _weights(corners, row, column, height, width)
        z = (weights @ corners[:, 2]).astype(np.float32)
        shown = inside & (z < depth)
        if before is not None:
            shown &= z < before
        if beyond is not None:
            shown &= (z > beyond.depth) | ((z == beyond.depth) & (f > beyond.face_index))
        face_index[shown], depth[shown], barycentric[shown] = f, z[shown], weights[shown]
    return Fragments(face_index, barycentric, depth)


def _visible_triangles(
    corners: NDArray[np.float64], height: int, width: int, near: float
) -> list[NDArray[np.int64]]:
    """The face (3, 4) as snapped screen triangles int64 (3, 2), clipped where it needs to be."""
    if not np.isfinite(corners).all():
        return []
    guard = 2 * _GUARD / np.array([width, height])
    planes = [np.array([0.0, 0, 0, 1]), *(np.array([sx, sy, 0, guard[axis]]) for sx, sy, axis in _SIDES)]
    offsets = [near, 0.0, 0.0, 0.0, 0.0]
    polygon = list(corners)
    for plane, offset in zip(planes, offsets, strict=True):
        kept = []
        for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            da, db = a @ plane - offset, b @ plane - offset
            if da >= 0:
                kept.append(a)
            if (da >= 0) != (db >= 0):
                kept.append(a + (b - a) * (da / (da - db)) if da >= 0 else b + (a - b) * (db / (db - da)))
        polygon = kept
        if len(polygon) < 3:
            return []
    half = np.array([width, height]) / 2
    xy = np.array([p[:2] / p[3] for p in polygon]) * [1, -1] * half
    snapped = np.floor((xy + half) * SUBPIXEL + 0.5).astype(np.int64)
    return [snapped[[0, i, i + 1]] for i in range(1, len(snapped) - 1)]


_SIDES = ((-1, 0, 0), (1, 0, 0), (0, -1, 1), (0, 1, 1))


def _covered(triangle: NDArray[np.int64], row: NDArray, column: NDArray) -> NDArray[np.bool_]:
    """Which pixel centres the triangle owns, by the top-left rule."""
    (ax, ay), (bx, by), (cx, cy) = triangle
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0:
        return np.zeros(row.shape, bool)
    ring = triangle if area > 0 else triangle[::-1]
    x, y = column * SUBPIXEL + SUBPIXEL // 2, row * SUBPIXEL + SUBPIXEL // 2
    inside = np.ones(row.shape, bool)
    for (px, py), (qx, qy) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        edge = (qx - px) * (y - py) - (qy - py) * (x - px)
        top_or_left = (py == qy and qx > px) or qy < py
        inside &= (edge >= 0) if top_or_left else (edge > 0)
    return inside


def _weights(
    corners: NDArray[np.float64], row: NDArray, column: NDArray, height: int, width: int
) -> NDArray[np.float64]:
    """Barycentrics (h, w, 3): the pixel's ray meets the face where the corners' moments cancel."""
    x, y = (2 * column + 1) / width - 1, 1 - (2 * row + 1) / height
    dx = corners[:, 0] - x[..., None] * corners[:, 3]
    dy = corners[:, 1] - y[..., None] * corners[:, 3]
    moments = np.roll(dx, -1, -1) * np.roll(dy, -2, -1) - np.roll(dy, -1, -1) * np.roll(dx, -2, -1)
    moments *= np.where(moments.sum(-1, keepdims=True) < 0, -1, 1)
    moments = np.maximum(moments, 0)
    total = moments.sum(-1, keepdims=True)
    return np.where(total > 0, moments / np.where(total > 0, total, 1), 1 / 3)
