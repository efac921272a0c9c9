"""The share of each pixel that surfaces cover, with the gradient of their silhouettes.

Where of two neighbouring samples one shows a surface and the other none, the silhouette passes between
them. The edge of the face seen at the one through which the way to the other leaves it tells where, and so
how much of either sample is covered; every edge is judged along the axis that it crosses more steeply. The
idea is that of the antialiasing of Laine et al., "Modular primitives for high-performance differentiable
rendering" (2020). It takes the edge for the silhouette, which holds where faces are larger than samples:
hence the fine sampling. Near a limb, where faces are seen edge-on, it would take a fraction of a sample too
little; so only the gradient is taken from it and the value is the plain share of the samples.

Legend for shapes: b samples, s pixels a side, f fine samples a side, p pairs of neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from voxlume.render.batch import Projection, Surfaces
from voxlume.render.batch_camera import BatchCameras
from voxlume.render.batch_raster import key_face


def soft_mask(surfaces: Surfaces, cameras: BatchCameras, size: int, samples: int = 4) -> Tensor:
    """The share of each pixel's samples that are covered, float32 (b, s, s), differentiable in the vertices.

    Parameters
    ----------
    cameras : one for each sample.
    samples : per pixel and axis. Faces should be larger than a sample.

    Raises
    ------
    ValueError : the number of cameras is not that of the samples.
    """
    fine = size * samples
    projection = Projection(surfaces, cameras, fine)
    face = key_face(projection.nearest())
    covered = (face >= 0).reshape(len(surfaces), fine, fine)
    hard = covered.to(projection.clip.dtype)
    mask = hard.flatten()
    place = (projection.clip[:, :2] / projection.clip[:, 2:].clamp(min=1e-6) * _flip(face) + 1) * (fine / 2)
    for axis in (0, 1):
        pixel, amount = _moved(face, covered, place, surfaces.faces, axis)
        mask = mask.index_add(0, pixel, amount)
    mask = mask.reshape(hard.shape).clamp(0, 1)
    mask = hard + (mask - mask.detach())
    return F.avg_pool2d(mask[:, None], samples)[:, 0].float()


def _flip(like: Tensor) -> Tensor:
    """Rows grow downwards."""
    return torch.tensor([1.0, -1.0], device=like.device)


def _moved(face: Tensor, covered: Tensor, place: Tensor, faces: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Flat samples (p,) at silhouettes between neighbours along an axis, and what their coverage changes by.

    ``face`` is (b f f,), ``covered`` (b, f, f), ``place`` (n, 2) vertices as columns and rows of samples.
    """
    fine = covered.shape[-1]
    step = fine if axis else 1
    low = covered[:, :-1] if axis else covered[:, :, :-1]
    high = covered[:, 1:] if axis else covered[:, :, 1:]
    sample, row, column = (low != high).nonzero().unbind(1)
    first = (sample * fine + row) * fine + column
    inward = covered.flatten()[first]
    seen, other = torch.where(inward, first, first + step), torch.where(inward, first + step, first)
    direction = torch.where(inward, 1.0, -1.0)[:, None]
    center = torch.stack([seen % fine, seen // fine % fine], 1) + 0.5

    corners = place.index_select(0, faces[face[seen]].flatten().long()).unflatten(0, (-1, 3))
    along, across = corners[:, :, axis], corners[:, :, 1 - axis]
    to_along, to_across = along.roll(-1, 1) - along, across.roll(-1, 1) - across
    level = center[:, 1 - axis, None]
    crosses = (across > level) != (across.roll(-1, 1) > level)
    slope = to_along / torch.where(crosses, to_across, 1.0)
    distance = direction * (along + slope * (level - across) - center[:, axis, None])
    out = torch.where(crosses, distance, -torch.inf).detach().argmax(1, keepdim=True)
    # An edge counts along the axis that it crosses more steeply, once.
    steep = to_across.abs() >= to_along.abs() if axis else to_across.abs() > to_along.abs()
    counts = (crosses & steep).gather(1, out)[:, 0]
    reach = distance.gather(1, out)[:, 0].clamp(0, 1) - 0.5
    amount = torch.where(counts, reach, 0.0)
    return torch.where(amount.detach() > 0, other, seen), amount
