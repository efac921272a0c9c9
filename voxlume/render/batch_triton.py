"""Drawing on CUDA, one thread a face; the twin is in :mod:`voxlume.render.batch_raster`.

Faces of voxels are about a pixel large, so a thread walks the bounding box of its face. Larger faces are
put on a list, from which whole blocks take them: their threads share the pixels of one box.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.render.batch_raster import NEAR, NO_FACE
from voxlume.render.raster import SUBPIXEL

_FACES = 128
_LARGEST_BOX = 64  # pixels that one thread walks
_PIXELS = 256
_BLOCKS = 1024
_PARTS = 8  # blocks that share a large face
BITS = tl.constexpr(SUBPIXEL.bit_length() - 1)
HALF = tl.constexpr(SUBPIXEL // 2)


def nearest_faces(
    clip_n3: Tensor,
    snapped_n2: Tensor,
    faces_m3: Tensor,
    picture_m: Tensor,
    pictures: int,
    size: int,
    beyond: Tensor | None = None,
) -> Tensor:
    """See :func:`voxlume.render.batch_raster.nearest_faces`."""
    m, device = len(faces_m3), clip_n3.device
    keys = torch.full((pictures * size * size,), NO_FACE, device=device)
    if not m:
        return keys
    listed = torch.empty(m, dtype=torch.int32, device=device)
    count = torch.zeros(1, dtype=torch.int32, device=device)
    # Both kernels compile one body for every layer: a face's depth must not differ between them.
    beyond = torch.full((1,), -1, device=device) if beyond is None else beyond
    step = 0 if len(beyond) == 1 else 1
    shared = (
        clip_n3.contiguous(), snapped_n2.contiguous(), faces_m3.contiguous(), picture_m, beyond, step, keys
    )  # fmt: skip
    _small_kernel[(triton.cdiv(m, _FACES),)](
        *shared, listed, count, m, size, NEAR=NEAR, LARGEST_BOX=_LARGEST_BOX, FACES=_FACES
    )
    blocks = min(_BLOCKS, m * _PARTS)
    _large_kernel[(blocks,)](*shared, listed, count, blocks, size, NEAR=NEAR, PARTS=_PARTS, PIXELS=_PIXELS)
    return keys


# Parts of a batch start at any row: one variant serves all.
_ANY_ROW = ["faces", "picture"]


@triton.jit(do_not_specialize=["step", "m", "size"], do_not_specialize_on_alignment=_ANY_ROW)
def _small_kernel(
    clip, snapped, faces, picture, beyond, step, keys, listed, count, m, size,
    NEAR: tl.constexpr, LARGEST_BOX: tl.constexpr, FACES: tl.constexpr,
):  # fmt: skip
    face = tl.program_id(0) * FACES + tl.arange(0, FACES)
    here = face < m
    column, row, width, pixels = _box(clip, snapped, faces, picture, face, here, size, NEAR)
    large = pixels > LARGEST_BOX
    place = tl.atomic_add(count + tl.zeros_like(face), 1, mask=large, sem="relaxed")
    tl.store(listed + place, face, mask=large)
    pixels = tl.where(large, 0, pixels)
    here = pixels > 0
    i, j, k = _corners(faces, face, here)
    for step_ in range(tl.max(pixels, 0)):
        _draw(
            clip, snapped, picture, beyond, step, keys, face, i, j, k,
            column + step_ % width, row + step_ // width, step_ < pixels, size,
        )  # fmt: skip


@triton.jit(do_not_specialize=["step", "blocks", "size"], do_not_specialize_on_alignment=_ANY_ROW)
def _large_kernel(
    clip, snapped, faces, picture, beyond, step, keys, listed, count, blocks, size,
    NEAR: tl.constexpr, PARTS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    total = tl.load(count) * PARTS
    for work in range(tl.program_id(0), total, blocks):
        # Every thread holds the same face.
        face = tl.load(listed + work // PARTS + tl.zeros((PIXELS,), tl.int32))
        here = face >= 0
        column, row, width, pixels = _box(clip, snapped, faces, picture, face, here, size, NEAR)
        i, j, k = _corners(faces, face, here)
        for start in range((work % PARTS) * PIXELS, tl.max(pixels, 0), PARTS * PIXELS):
            pixel = start + tl.arange(0, PIXELS)
            _draw(
                clip, snapped, picture, beyond, step, keys, face, i, j, k,
                column + pixel % width, row + pixel // width, pixel < pixels, size,
            )  # fmt: skip


@triton.jit
def _corners(faces, face, here):
    at = faces + face.to(tl.int64) * 3
    i = tl.load(at, mask=here, other=0).to(tl.int64)
    j = tl.load(at + 1, mask=here, other=0).to(tl.int64)
    return i, j, tl.load(at + 2, mask=here, other=0).to(tl.int64)


@triton.jit
def _box(clip, snapped, faces, picture, face, here, size, NEAR: tl.constexpr):
    """First column and row, width and number of pixels of the boxes of faces; none where not shown."""
    here &= tl.load(picture + face, mask=here, other=-1) >= 0
    i, j, k = _corners(faces, face, here)
    ax, ay = tl.load(snapped + i * 2, mask=here, other=0), tl.load(snapped + i * 2 + 1, mask=here, other=0)
    bx, by = tl.load(snapped + j * 2, mask=here, other=0), tl.load(snapped + j * 2 + 1, mask=here, other=0)
    cx, cy = tl.load(snapped + k * 2, mask=here, other=0), tl.load(snapped + k * 2 + 1, mask=here, other=0)
    here &= _area(ax, ay, bx, by, cx, cy) != 0
    here &= tl.load(clip + i * 3 + 2, mask=here, other=0.0) > NEAR
    here &= tl.load(clip + j * 3 + 2, mask=here, other=0.0) > NEAR
    here &= tl.load(clip + k * 3 + 2, mask=here, other=0.0) > NEAR
    # Pixel centres lie half a pixel inside; shifts round down for negative numbers too.
    left = tl.maximum((tl.minimum(tl.minimum(ax, bx), cx) + HALF - 1) >> BITS, 0)
    top = tl.maximum((tl.minimum(tl.minimum(ay, by), cy) + HALF - 1) >> BITS, 0)
    right = tl.minimum((tl.maximum(tl.maximum(ax, bx), cx) - HALF) >> BITS, size - 1)
    bottom = tl.minimum((tl.maximum(tl.maximum(ay, by), cy) - HALF) >> BITS, size - 1)
    width, height = tl.maximum(right - left + 1, 0), tl.maximum(bottom - top + 1, 0)
    return left, top, tl.maximum(width, 1), tl.where(here, width * height, 0)


@triton.jit
def _area(ax, ay, bx, by, cx, cy):
    u, v = (bx - ax).to(tl.int64), (by - ay).to(tl.int64)
    return u * (cy - ay).to(tl.int64) - v * (cx - ax).to(tl.int64)


@triton.jit
def _draw(clip, snapped, picture, beyond, step, keys, face, i, j, k, column, row, here, size):
    """Offer the faces to one pixel each."""
    ax, ay = tl.load(snapped + i * 2, mask=here, other=0), tl.load(snapped + i * 2 + 1, mask=here, other=0)
    bx, by = tl.load(snapped + j * 2, mask=here, other=0), tl.load(snapped + j * 2 + 1, mask=here, other=0)
    cx, cy = tl.load(snapped + k * 2, mask=here, other=0), tl.load(snapped + k * 2 + 1, mask=here, other=0)
    sign = tl.where(_area(ax, ay, bx, by, cx, cy) < 0, -1, 1)
    px, py = (column << BITS) + HALF, (row << BITS) + HALF
    here &= _is_inside(ax, ay, bx, by, px, py, sign)
    here &= _is_inside(bx, by, cx, cy, px, py, sign)
    here &= _is_inside(cx, cy, ax, ay, px, py, sign)

    # Rounded as by the twin; the quick division is off by up to two units in the last place.
    x = tl.div_rn((2 * column + 1).to(tl.float32), (0 * column + size).to(tl.float32)) - 1
    y = 1 - tl.div_rn((2 * row + 1).to(tl.float32), (0 * row + size).to(tl.float32))
    w0 = tl.load(clip + i * 3 + 2, mask=here, other=1.0)
    w1 = tl.load(clip + j * 3 + 2, mask=here, other=1.0)
    w2 = tl.load(clip + k * 3 + 2, mask=here, other=1.0)
    dx0 = tl.load(clip + i * 3, mask=here, other=0.0) - x * w0
    dy0 = tl.load(clip + i * 3 + 1, mask=here, other=0.0) - y * w0
    dx1 = tl.load(clip + j * 3, mask=here, other=0.0) - x * w1
    dy1 = tl.load(clip + j * 3 + 1, mask=here, other=0.0) - y * w1
    dx2 = tl.load(clip + k * 3, mask=here, other=0.0) - x * w2
    dy2 = tl.load(clip + k * 3 + 1, mask=here, other=0.0) - y * w2
    m0, m1, m2 = dx1 * dy2 - dy1 * dx2, dx2 * dy0 - dy2 * dx0, dx0 * dy1 - dy0 * dx1
    turn = tl.where(m0 + m1 + m2 < 0, -1.0, 1.0)
    m0, m1, m2 = tl.maximum(m0 * turn, 0.0), tl.maximum(m1 * turn, 0.0), tl.maximum(m2 * turn, 0.0)
    total = m0 + m1 + m2
    depth = tl.where(
        total > 0, (m0 * w0 + m1 * w1 + m2 * w2) / tl.where(total > 0, total, 1.0), (w0 + w1 + w2) / 3
    )
    key = (depth.to(tl.int32, bitcast=True).to(tl.int64) << 32) | face.to(tl.int64)
    pixel = (tl.load(picture + face, mask=here, other=0).to(tl.int64) * size + row) * size + column
    here &= key > tl.load(beyond + pixel * step, mask=here, other=0)
    # Most candidates are hidden already, which a plain load tells without an atomic operation.
    here &= key < tl.load(keys + pixel, mask=here, other=0)
    tl.atomic_min(keys + pixel, key, mask=here, sem="relaxed")


@triton.jit
def _is_inside(ax, ay, bx, by, px, py, sign):
    """Whether the point lies on the inner side of an edge, by the top-left rule."""
    u, v = (bx - ax) * sign, (by - ay) * sign
    cross = u.to(tl.int64) * (py - ay).to(tl.int64) - v.to(tl.int64) * (px - ax).to(tl.int64)
    owned = (v < 0) | ((v == 0) & (u > 0))
    return cross >= tl.where(owned, 0, 1)
