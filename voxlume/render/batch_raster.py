"""Which face each pixel of many pictures shows: on CUDA by Triton kernels, on the CPU picture by picture with
:mod:`voxlume.render.raster`, elsewhere by the plain twin of both.

A candidate for a pixel is one int64 key: the bits of the depth above the number of the face. Depths are
positive, so their bits are ordered as they are; the smallest key is the nearest face, ties go to the lower
number, and the next layer of a peeling is the smallest key beyond the last one.

Legend for shapes: n vertices, m faces, b pictures of s x s pixels.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import torch
from torch import Tensor

from voxlume.backend import triton_installed, twins_forced
from voxlume.render.raster import SUBPIXEL, Fragments, rasterize

NEAR = 1e-3
"""A face with a corner nearer to the camera's plane than this is not drawn."""

NO_FACE = (1 << 63) - 1
"""The key of a pixel that shows no face."""

_LARGEST = 1 << 29  # snapped coordinates; products of differences stay below 2^62
_PAIRS_AT_ONCE = 1 << 21


def snap(clip_n3: Tensor, size: int) -> Tensor:
    """Positions (X, Y, W) as int32 (n, 2), 1/4096 pixel from the upper left corner, x right, y down."""
    w = clip_n3[:, 2:].clamp(min=NEAR)
    flipped = clip_n3[:, :2] * torch.tensor([1.0, -1.0], device=clip_n3.device)
    place = ((flipped / w + 1) * (size * SUBPIXEL / 2) + 0.5).floor()
    return place.nan_to_num(_LARGEST).clamp(-_LARGEST, _LARGEST).int()


def nearest_faces(
    clip_n3: Tensor,
    snapped_n2: Tensor,
    faces_m3: Tensor,
    picture_m: Tensor,
    pictures: int,
    size: int,
    beyond: Tensor | None = None,
) -> Tensor:
    """The key of the nearest face at every pixel centre, int64 (b s s,), :data:`NO_FACE` where there is none.

    Parameters
    ----------
    clip_n3 : float32, positions as (X, Y, W), see :meth:`voxlume.render.batch_camera.BatchCameras.matrix`.
    snapped_n2 : int32, the same by :func:`snap`.
    faces_m3 : int32, rows of the two above.
    picture_m : int32, the picture that shows each face; a negative number hides it.
    beyond : int64 (b s s,), keys that those found have to exceed, for the next layer of a peeling.
    """
    device = clip_n3.device
    if device.type == "cpu" and not twins_forced():
        return _nearest_faces_cpu(clip_n3, faces_m3, picture_m, pictures, size, beyond)
    if device.type == "cuda" and triton_installed() and not twins_forced() and _kernels_are_right(device):
        from voxlume.render import batch_triton

        return batch_triton.nearest_faces(clip_n3, snapped_n2, faces_m3, picture_m, pictures, size, beyond)
    return nearest_faces_reference(clip_n3, snapped_n2, faces_m3, picture_m, pictures, size, beyond)


def _nearest_faces_cpu(
    clip_n3: Tensor, faces_m3: Tensor, picture_m: Tensor, pictures: int, size: int, beyond: Tensor | None
) -> Tensor:
    clip = clip_n3.numpy()[:, [0, 1, 2, 2]].astype(np.float64)
    faces = faces_m3.numpy()
    in_front = (clip[:, 3] > NEAR)[faces].all(1)
    keys = torch.full((pictures, size * size), NO_FACE)
    for i in range(pictures):
        rows = np.flatnonzero((picture_m.numpy() == i) & in_front)
        layer = None
        if beyond is not None:
            before = beyond.reshape(pictures, size, size)[i]
            # Rows ascend, so ties between faces are decided by their places among the rows as well.
            place = np.searchsorted(rows, key_face(before).numpy(), side="right") - 1
            layer = Fragments(
                place.astype(np.int32), np.zeros((0, 0, 3), np.float32), key_depth(before).numpy()
            )
        chosen = faces[rows]
        first, last = (int(chosen.min()), int(chosen.max()) + 1) if len(rows) else (0, 0)
        found = rasterize(clip[first:last], chosen - first, size, size, near=NEAR, beyond=layer)
        hit = np.flatnonzero(found.face_index.reshape(-1) >= 0)
        face = rows[found.face_index.reshape(-1)[hit]]
        depth = found.depth.reshape(-1)[hit].view(np.int32).astype(np.int64)
        keys[i, torch.from_numpy(hit)] = torch.from_numpy((depth << 32) | face)
    return keys.flatten()


def nearest_faces_reference(
    clip_n3: Tensor,
    snapped_n2: Tensor,
    faces_m3: Tensor,
    picture_m: Tensor,
    pictures: int,
    size: int,
    beyond: Tensor | None = None,
) -> Tensor:
    """See :func:`nearest_faces`. Every face is tried at every pixel of its bounding box."""
    device = clip_n3.device
    keys = torch.full((pictures * size * size,), NO_FACE, device=device)
    faces, picture = faces_m3.long(), picture_m.long()
    xy = snapped_n2.long()[faces]
    area = _cross(xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0])
    shown = (picture >= 0) & (area != 0) & (clip_n3[:, 2][faces] > NEAR).all(1)
    half = SUBPIXEL // 2
    low = ((xy.amin(1) + half - 1) // SUBPIXEL).clamp(min=0)
    high = ((xy.amax(1) - half) // SUBPIXEL).clamp(max=size - 1)
    extent = (high - low + 1).clamp(min=0)
    ends = torch.where(shown, extent[:, 0] * extent[:, 1], 0).cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    for first in range(0, total, _PAIRS_AT_ONCE):
        pair = torch.arange(first, min(first + _PAIRS_AT_ONCE, total), device=device)
        face = torch.searchsorted(ends, pair, right=True)
        width = extent[face, 0]
        # Counted backwards from the end of the face's own pairs.
        local = ends[face] - 1 - pair
        column, row = low[face, 0] + local % width, low[face, 1] + local // width
        inside = _covered(xy[face], area[face].sign(), column, row)
        face, column, row = face[inside], column[inside], row[inside]
        x, y = (2 * column + 1) / size - 1, 1 - (2 * row + 1) / size
        corners = clip_n3[faces[face]]
        depth = (hit_weights(corners, x, y) * corners[:, :, 2]).sum(1)
        key = (depth.view(torch.int32).long() << 32) | face
        pixel = (picture[face] * size + row) * size + column
        if beyond is not None:
            allowed = key > beyond[pixel]
            key, pixel = key[allowed], pixel[allowed]
        keys.scatter_reduce_(0, pixel, key, "amin")
    return keys


def _covered(xy_p32: Tensor, sign: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Whether the triangles own the pixel centres, bool (p,), by the top-left rule."""
    half = SUBPIXEL // 2
    place = torch.stack([column, row], 1) * SUBPIXEL + half
    inside = torch.ones_like(sign, dtype=torch.bool)
    for k in range(3):
        start = xy_p32[:, k]
        along = (xy_p32[:, (k + 1) % 3] - start) * sign[:, None]
        top_or_left = (along[:, 1] < 0) | ((along[:, 1] == 0) & (along[:, 0] > 0))
        inside &= _cross(along, place - start) >= (~top_or_left).long()
    return inside


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def hit_weights(corners_p33: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Barycentric weights (p, 3) of the points where the rays of picture positions x, y (p,) hit triangles.

    Corners are positions (X, Y, W). Differentiable; weights of rays that pass by are clamped to the edges.
    """
    dx = corners_p33[:, :, 0] - x[:, None] * corners_p33[:, :, 2]
    dy = corners_p33[:, :, 1] - y[:, None] * corners_p33[:, :, 2]
    dx0, dx1, dx2 = dx.unbind(1)
    dy0, dy1, dy2 = dy.unbind(1)
    moments = torch.stack([dx1 * dy2 - dy1 * dx2, dx2 * dy0 - dy2 * dx0, dx0 * dy1 - dy0 * dx1], 1)
    sign = torch.where(moments.sum(1, keepdim=True) < 0, -1.0, 1.0)
    moments = (moments * sign).clamp(min=0)
    total = moments.sum(1, keepdim=True)
    return torch.where(total > 0, moments / torch.where(total > 0, total, 1.0), 1 / 3)


@cache
def _kernels_are_right(device: torch.device) -> bool:
    """Compare the kernels with the twin the first time; warn once if they differ, and then say no."""
    try:
        difference = check_kernels(device)
        # Fused multiplications round differently; a wrong kernel is wrong by far more.
        problem = "" if difference <= 1e-3 else f"difference {difference:.1e}"
    except Exception as error:
        # Whatever a compiler or driver throws, the answer is the same: do not use these kernels.
        problem = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if problem:
        warnings.warn(
            f"fast drawing is off on {device}, plain PyTorch does it instead: {problem}",
            RuntimeWarning,
            stacklevel=3,
        )
    return not problem


def check_kernels(device: torch.device) -> float:
    """Largest difference of depths, over two peeled layers, between the kernels and the twin on the CPU.

    Infinite where one of them sees a face and the other does not. Triangles from a fraction of a pixel to
    the whole picture are drawn.
    """
    from voxlume.render import batch_triton

    random = torch.Generator().manual_seed(0)
    size, count = 20, 200
    middle = torch.rand((count, 1, 3), generator=random) * torch.tensor([2.4, 2.4, 3]) - 1.2
    spread = 0.02 * 100 ** torch.rand((count, 1, 1), generator=random)
    clip = (middle + spread * torch.randn((count, 3, 3), generator=random)).reshape(-1, 3)
    clip[:, 2] = clip[:, 2].abs() + 0.4
    faces = torch.arange(3 * count).int().reshape(-1, 3)
    picture = torch.randint(-1, 2, (count,), generator=random).int()
    here = (clip, snap(clip, size), faces, picture)
    clip_there, snapped_there, faces_there, picture_there = (tensor.to(device) for tensor in here)
    worst, slow, fast = 0.0, None, None
    for _ in range(2):
        slow = nearest_faces_reference(*here, 2, size, slow)
        fast = batch_triton.nearest_faces(
            clip_there, snapped_there, faces_there, picture_there, 2, size, fast
        )
        a, b = key_depth(slow), key_depth(fast.cpu())
        apart = torch.where(a == b, 0.0, (a - b).abs())
        worst = max(worst, float(apart.nan_to_num(torch.inf).max()))
    return worst


def key_face(keys: Tensor) -> Tensor:
    """int64, the faces of keys, -1 for :data:`NO_FACE`."""
    return torch.where(keys == NO_FACE, -1, keys & 0x7FFFFFFF)


def key_depth(keys: Tensor) -> Tensor:
    """float32, the depths of keys, infinity for :data:`NO_FACE`."""
    return torch.where(keys == NO_FACE, torch.inf, (keys >> 32).int().view(torch.float32))
