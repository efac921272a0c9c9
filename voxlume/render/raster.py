"""Triangles to pixels: which face, where on it, and how deep.

One rasteriser for pictures, depth layers and UV space. Coverage is decided in integers on vertices that
are snapped to 1/4096 of a pixel, with the top-left rule, so a pixel on a shared edge belongs to exactly
one of the two faces; barycentrics and depth come from the unsnapped vertices by homogeneous coordinates
(Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997), which holds for
faces that reach behind the camera as well.

Conventions
-----------
* Clip position (x, y, z, w): the pixel is at (x / w, y / w), both in [-1, 1], y upwards; row 0 is the top
  row and pixel centres are at half-integers. ``w`` is the distance in front of a perspective camera and 1
  for parallel projections and UV space. ``z`` orders the surfaces, smaller is nearer; it is interpolated
  linearly over the face in space, so any affine function of the distance serves.
* No face is culled by its orientation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel

SUBPIXEL = 4096
"""Steps per pixel to which screen positions are snapped."""

_GUARD = 2.0**15  # pixels from the picture's centre beyond which a face is clipped: keeps int64 exact
_BAND = 16  # picture rows per unit of parallel work
_CHUNK = 1 << 16  # faces per unit of parallel binning
_NEEDS_CLIP = np.int32(-(2**31))


@dataclass(frozen=True, eq=False)
class Fragments:
    """What each pixel sees.

    Attributes
    ----------
    face_index : int32 (h, w), -1 where there is nothing.
    barycentric : float32 (h, w, 3), perspective-correct, non-negative, summing to 1 (0 where nothing is).
    depth : float32 (h, w), interpolated clip ``z``; infinity where there is nothing.
    """

    face_index: NDArray[np.int32]
    barycentric: NDArray[np.float32]
    depth: NDArray[np.float32]


def rasterize(
    clip_positions: NDArray[np.floating],
    faces: NDArray[np.integer],
    height: int,
    width: int,
    *,
    near: float = 1e-9,
    beyond: Fragments | None = None,
    before: NDArray[np.float32] | None = None,
) -> Fragments:
    """The nearest face at every pixel centre; ties go to the face with the smaller index.

    Parameters
    ----------
    clip_positions : (n, 4) homogeneous positions, see the module's conventions.
    faces : (m, 3) vertex indices.
    height, width : picture size in pixels, at most 16384 each.
    near : the smallest w that is drawn; faces are clipped there.
    beyond : only what lies behind these fragments (the previous layer of a depth peeling).
    before : float32 (h, w); only what is nearer than this.
    """
    if not (0 < height <= 16384 and 0 < width <= 16384):
        raise ValueError(f"picture size {width} x {height} is not within 1 to 16384 pixels")
    clip = np.ascontiguousarray(clip_positions, np.float64)
    tris = np.ascontiguousarray(faces, np.int32)
    if len(tris) and (tris.min() < 0 or tris.max() >= len(clip)):
        raise ValueError("a face refers to a vertex that does not exist")
    screen = _to_screen(clip, height, width, near)
    chosen = _faces_to_clip(clip, screen, tris, near)
    extra_screen, extra_tris, extra_source = _clip_faces(clip, tris, chosen, height, width, near)
    if len(extra_tris):
        extra_tris = extra_tris + np.int32(len(screen))
        screen = np.concatenate([screen, extra_screen])
    start, entries = _bin_faces(screen, tris, extra_tris, height, width)

    face_index = np.full((height, width), -1, np.int32)
    depth = np.full((height, width), np.inf, np.float32)
    barycentric = np.zeros((height, width, 3), np.float32)
    if beyond is None:
        beyond_depth, beyond_face = np.zeros((0, 0), np.float32), np.zeros((0, 0), np.int32)
    else:
        beyond_depth, beyond_face = beyond.depth, beyond.face_index
    limit = np.zeros((0, 0), np.float32) if before is None else np.ascontiguousarray(before, np.float32)
    _fill_bands(
        clip, screen, tris, extra_tris, extra_source, start, entries, _scattered(len(start) - 1),
        beyond_depth, beyond_face, limit, face_index, barycentric, depth,
    )  # fmt: skip
    return Fragments(face_index, barycentric, depth)


def peel(
    clip_positions: NDArray[np.floating],
    faces: NDArray[np.integer],
    height: int,
    width: int,
    layers: int,
    *,
    near: float = 1e-9,
    before: NDArray[np.float32] | None = None,
) -> list[Fragments]:
    """The nearest ``layers`` surfaces at every pixel, front to back; fewer where no pixel has more."""
    found: list[Fragments] = []
    while len(found) < layers:
        previous = found[-1] if found else None
        layer = rasterize(clip_positions, faces, height, width, near=near, beyond=previous, before=before)
        if not (layer.face_index >= 0).any():
            break
        found.append(layer)
    return found


def uv_clip_positions(uvs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Clip positions (n, 4) that draw UV space (n, 2) so that v grows downwards with the rows."""
    uv = np.asarray(uvs, np.float64)
    return np.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1], np.zeros(len(uv)), np.ones(len(uv))], axis=1)


def _scattered(count: int) -> NDArray[np.int64]:
    """An order of the bands in which every stretch holds bands from all over the picture.

    Threads get stretches; the picture's middle rows hold most of the work.
    """
    return np.argsort((np.arange(count) * 0.6180339887498949) % 1.0, kind="stable")


@parallel_kernel
def _to_screen(clip: NDArray[np.float64], height: int, width: int, near: float) -> NDArray[np.int32]:
    """Snapped pixel positions int32 (n, 2) as (column, row), or _NEEDS_CLIP."""
    n = len(clip)
    out = np.empty((n, 2), np.int32)
    for i in prange(n):
        w = clip[i, 3]
        out[i, 0] = _NEEDS_CLIP
        out[i, 1] = _NEEDS_CLIP
        if w >= near:
            x = clip[i, 0] / w * 0.5 * width
            y = -clip[i, 1] / w * 0.5 * height
            if abs(x) <= _GUARD and abs(y) <= _GUARD:
                out[i, 0] = np.int32(np.floor((x + 0.5 * width) * SUBPIXEL + 0.5))
                out[i, 1] = np.int32(np.floor((y + 0.5 * height) * SUBPIXEL + 0.5))
    return out


@kernel
def _faces_to_clip(
    clip: NDArray[np.float64], screen: NDArray[np.int32], tris: NDArray[np.int32], near: float
) -> NDArray[np.int64]:
    """Faces with a corner that has no screen position, but not all corners before the near plane."""
    count = 0
    found = np.empty(64, np.int64)
    for f in range(len(tris)):
        i, j, k = tris[f, 0], tris[f, 1], tris[f, 2]
        if screen[i, 0] != _NEEDS_CLIP and screen[j, 0] != _NEEDS_CLIP and screen[k, 0] != _NEEDS_CLIP:
            continue
        if max(clip[i, 3], clip[j, 3], clip[k, 3]) < near:
            continue
        if count == len(found):
            longer = np.empty(2 * count, np.int64)
            longer[:count] = found
            found = longer
        found[count] = f
        count += 1
    return found[:count].copy()


@inner_kernel
def _inside(p: NDArray[np.float64], i: int, plane: int, guard_x: float, guard_y: float, near: float) -> float:
    """How far row i of p is inside of the near plane (0) or of a side of the guard band (1 to 4)."""
    if plane == 0:
        return p[i, 3] - near
    side = -1.0 if plane & 1 else 1.0
    if plane <= 2:
        return guard_x * p[i, 3] + side * p[i, 0]
    return guard_y * p[i, 3] + side * p[i, 1]


@kernel
def _clip_polygon(
    polygon: NDArray[np.float64], spare: NDArray[np.float64], guard_x: float, guard_y: float, near: float
) -> int:
    """Sutherland-Hodgman on the first three rows, in place; returns the number of corners left."""
    count = 3
    for plane in range(5):
        kept = 0
        for i in range(count):
            j = i + 1 if i + 1 < count else 0
            di = _inside(polygon, i, plane, guard_x, guard_y, near)
            dj = _inside(polygon, j, plane, guard_x, guard_y, near)
            if di >= 0:
                for c in range(4):
                    spare[kept, c] = polygon[i, c]
                kept += 1
            if (di >= 0) != (dj >= 0):
                # From the inner to the outer end, so that both faces of an edge get the same point.
                inner, outer, t = (i, j, di / (di - dj)) if di >= 0 else (j, i, dj / (dj - di))
                for c in range(4):
                    spare[kept, c] = polygon[inner, c] + (polygon[outer, c] - polygon[inner, c]) * t
                kept += 1
        count = kept
        for i in range(count):
            for c in range(4):
                polygon[i, c] = spare[i, c]
    return count


@kernel
def _clip_faces(
    clip: NDArray[np.float64],
    tris: NDArray[np.int32],
    chosen: NDArray[np.int64],
    height: int,
    width: int,
    near: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Screen triangles that stand for the visible part of the chosen faces.

    Returns int32 (k, 2) positions, int32 (t, 3) triangles over them, int32 (t,) faces they come from.
    """
    guard_x, guard_y = 2.0 * _GUARD / width, 2.0 * _GUARD / height
    positions = np.empty((8 * len(chosen), 2), np.int32)
    triangles = np.empty((6 * len(chosen), 3), np.int32)
    source = np.empty(6 * len(chosen), np.int32)
    num_positions, num_triangles = 0, 0
    polygon, spare = np.empty((9, 4)), np.empty((9, 4))
    for f in chosen:
        finite = True
        for corner in range(3):
            for c in range(4):
                polygon[corner, c] = clip[tris[f, corner], c]
                finite = finite and math.isfinite(polygon[corner, c])
        count = _clip_polygon(polygon, spare, guard_x, guard_y, near) if finite else 0
        if count < 3:
            continue
        for c in range(count):
            x = polygon[c, 0] / polygon[c, 3] * 0.5 * width + 0.5 * width
            y = -polygon[c, 1] / polygon[c, 3] * 0.5 * height + 0.5 * height
            positions[num_positions + c, 0] = np.int32(math.floor(x * SUBPIXEL + 0.5))
            positions[num_positions + c, 1] = np.int32(math.floor(y * SUBPIXEL + 0.5))
        for c in range(1, count - 1):
            triangles[num_triangles, 0] = num_positions
            triangles[num_triangles, 1] = num_positions + c
            triangles[num_triangles, 2] = num_positions + c + 1
            source[num_triangles] = f
            num_triangles += 1
        num_positions += count
    return positions[:num_positions], triangles[:num_triangles], source[:num_triangles]


@inner_kernel
def _pixel_box(
    screen: NDArray[np.int32], i: int, j: int, k: int, height: int, width: int
) -> tuple[int, int, int, int]:
    """Rows and columns [r0, r1), [c0, c1) whose centres lie in the triangle's box; empty if none."""
    if screen[i, 0] == _NEEDS_CLIP or screen[j, 0] == _NEEDS_CLIP or screen[k, 0] == _NEEDS_CLIP:
        return 0, 0, 0, 0
    x0, x1, x2 = int(screen[i, 0]), int(screen[j, 0]), int(screen[k, 0])
    y0, y1, y2 = int(screen[i, 1]), int(screen[j, 1]), int(screen[k, 1])
    half = SUBPIXEL // 2
    # Centre of pixel c is c * SUBPIXEL + half; // rounds down for negative numbers too.
    c0 = max((min(x0, x1, x2) - half + SUBPIXEL - 1) // SUBPIXEL, 0)
    c1 = min((max(x0, x1, x2) - half) // SUBPIXEL + 1, width)
    r0 = max((min(y0, y1, y2) - half + SUBPIXEL - 1) // SUBPIXEL, 0)
    r1 = min((max(y0, y1, y2) - half) // SUBPIXEL + 1, height)
    if c1 <= c0 or r1 <= r0:
        return 0, 0, 0, 0
    return r0, r1, c0, c1


@parallel_kernel
def _bin_faces(
    screen: NDArray[np.int32], tris: NDArray[np.int32], extra_tris: NDArray[np.int32], height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Which triangles touch which band of rows, as (start (bands + 1,), entries).

    An entry below the number of faces is a face, the others are the clipped triangles.
    """
    num_tris, total = len(tris), len(tris) + len(extra_tris)
    bands = (height + _BAND - 1) // _BAND
    chunks = (total + _CHUNK - 1) // _CHUNK
    counts = np.zeros((chunks, bands), np.int64)
    for chunk in prange(chunks):
        for t in range(chunk * _CHUNK, min(total, (chunk + 1) * _CHUNK)):
            tri = tris[t] if t < num_tris else extra_tris[t - num_tris]
            r0, r1, _, _ = _pixel_box(screen, tri[0], tri[1], tri[2], height, width)
            if r1 > r0:
                for band in range(r0 // _BAND, (r1 - 1) // _BAND + 1):
                    counts[chunk, band] += 1
    start = np.zeros(bands + 1, np.int64)
    running = 0
    for band in range(bands):
        start[band] = running
        for chunk in range(chunks):
            here = counts[chunk, band]
            counts[chunk, band] = running
            running += here
    start[bands] = running
    entries = np.empty(running, np.int32)
    for chunk in prange(chunks):
        for t in range(chunk * _CHUNK, min(total, (chunk + 1) * _CHUNK)):
            tri = tris[t] if t < num_tris else extra_tris[t - num_tris]
            r0, r1, _, _ = _pixel_box(screen, tri[0], tri[1], tri[2], height, width)
            if r1 > r0:
                for band in range(r0 // _BAND, (r1 - 1) // _BAND + 1):
                    entries[counts[chunk, band]] = t
                    counts[chunk, band] += 1
    return start, entries


@inner_kernel
def _barycentric(
    clip: NDArray[np.float64], i: int, j: int, k: int, x: float, y: float
) -> tuple[float, float, float]:
    """Perspective-correct barycentrics at the point (x, y) of the picture, inside the face."""
    xi, yi = clip[i, 0] - x * clip[i, 3], clip[i, 1] - y * clip[i, 3]
    xj, yj = clip[j, 0] - x * clip[j, 3], clip[j, 1] - y * clip[j, 3]
    xk, yk = clip[k, 0] - x * clip[k, 3], clip[k, 1] - y * clip[k, 3]
    bi, bj, bk = xj * yk - yj * xk, xk * yi - yk * xi, xi * yj - yi * xj
    if bi + bj + bk < 0:
        bi, bj, bk = -bi, -bj, -bk
    # Snapping may have moved the pixel a 4096th outside.
    bi, bj, bk = max(bi, 0.0), max(bj, 0.0), max(bk, 0.0)
    total = bi + bj + bk
    if total > 0:
        return bi / total, bj / total, bk / total
    return 1 / 3, 1 / 3, 1 / 3


@inner_kernel
def _owned(ax: int, ay: int, bx: int, by: int) -> int:
    """0 where a pixel centre exactly on the edge belongs to this side (top or left edge), else -1."""
    return 0 if (ay == by and bx > ax) or by < ay else -1


@parallel_kernel
def _fill_bands(
    clip: NDArray[np.float64],
    screen: NDArray[np.int32],
    tris: NDArray[np.int32],
    extra_tris: NDArray[np.int32],
    extra_source: NDArray[np.int32],
    start: NDArray[np.int64],
    entries: NDArray[np.int32],
    order: NDArray[np.int64],
    beyond_depth: NDArray[np.float32],
    beyond_face: NDArray[np.int32],
    limit: NDArray[np.float32],
    face_index: NDArray[np.int32],
    barycentric: NDArray[np.float32],
    depth: NDArray[np.float32],
) -> None:
    """Draw every band of rows, in the given order of bands."""
    height, width = face_index.shape
    num_tris = len(tris)
    half = SUBPIXEL // 2
    for b in prange(len(order)):
        band = order[b]
        for e in range(start[band], start[band + 1]):
            t = entries[e]
            if t < num_tris:
                f = t
                i, j, k = tris[t, 0], tris[t, 1], tris[t, 2]
            else:
                f = extra_source[t - num_tris]
                i, j, k = (
                    extra_tris[t - num_tris, 0],
                    extra_tris[t - num_tris, 1],
                    extra_tris[t - num_tris, 2],
                )
            r0, r1, c0, c1 = _pixel_box(screen, i, j, k, height, width)
            r0, r1 = max(r0, band * _BAND), min(r1, (band + 1) * _BAND)
            ax, ay, bx = int(screen[i, 0]), int(screen[i, 1]), int(screen[j, 0])
            by, cx, cy = int(screen[j, 1]), int(screen[k, 0]), int(screen[k, 1])
            area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
            if area == 0:
                continue
            if area < 0:
                bx, by, cx, cy = cx, cy, bx, by
            # Edge functions, positive inside; a step of one pixel adds dx (column) or dy (row).
            dx0, dy0 = (ay - by) * SUBPIXEL, (bx - ax) * SUBPIXEL
            dx1, dy1 = (by - cy) * SUBPIXEL, (cx - bx) * SUBPIXEL
            dx2, dy2 = (cy - ay) * SUBPIXEL, (ax - cx) * SUBPIXEL
            px, py = c0 * SUBPIXEL + half, r0 * SUBPIXEL + half
            row0 = (bx - ax) * (py - ay) - (by - ay) * (px - ax) + _owned(ax, ay, bx, by)
            row1 = (cx - bx) * (py - by) - (cy - by) * (px - bx) + _owned(bx, by, cx, cy)
            row2 = (ax - cx) * (py - cy) - (ay - cy) * (px - cx) + _owned(cx, cy, ax, ay)
            fi, fj, fk = tris[f, 0], tris[f, 1], tris[f, 2]
            for r in range(r0, r1):
                e0, e1, e2 = row0, row1, row2
                row0, row1, row2 = row0 + dy0, row1 + dy1, row2 + dy2
                y = 1.0 - (2 * r + 1) / height
                for c in range(c0, c1):
                    inside = e0 >= 0 and e1 >= 0 and e2 >= 0
                    if inside and (limit.size == 0 or limit[r, c] > -np.inf):
                        x = (2 * c + 1) / width - 1.0
                        u, v, w = _barycentric(clip, fi, fj, fk, x, y)
                        z = np.float32(u * clip[fi, 2] + v * clip[fj, 2] + w * clip[fk, 2])
                        nearer = z < depth[r, c] or (z == depth[r, c] and f < face_index[r, c])
                        if nearer and limit.size > 0:
                            nearer = z < limit[r, c]
                        if nearer and beyond_depth.size > 0:
                            zb = beyond_depth[r, c]
                            nearer = z > zb or (z == zb and f > beyond_face[r, c])
                        if nearer:
                            depth[r, c] = z
                            face_index[r, c] = f
                            barycentric[r, c, 0] = u
                            barycentric[r, c, 1] = v
                            barycentric[r, c, 2] = w
                    e0, e1, e2 = e0 + dx0, e1 + dx1, e2 + dx2
