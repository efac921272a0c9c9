"""Materials of voxels in plain PyTorch: the twin of :mod:`voxlume.ovoxel.materials_triton`.

Legend for shapes: m triangles, n voxels, p pairs of a voxel and a triangle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.texture_torch import DeviceMaterials, sample_material

_CHUNK = 1 << 20
"""Pairs that are looked up at a time; bounds the memory of the temporaries."""


def voxel_materials(
    materials: DeviceMaterials,
    tri_m33: Tensor,
    slot_p: Tensor,
    triangle_p: Tensor,
    coords_n3: Tensor,
    log2_footprint: float,
) -> Tensor:
    """The mean material of every voxel over its triangles, by their area inside it.

    Parameters
    ----------
    tri_m33 : float64, corners in voxel units.
    slot_p, triangle_p : int64, row of the voxel and number of the triangle of each pair; every voxel is in
        at least one.
    coords_n3 : int64, minimum corners of the voxels.
    log2_footprint : of a voxel's edge in the units of ``materials.lod``.

    Returns
    -------
    float32 (n, 6).
    """
    count = torch.bincount(slot_p, minlength=len(coords_n3))
    sums = torch.zeros(len(coords_n3), 7, dtype=torch.float64, device=slot_p.device)
    for s, t in zip(slot_p.split(_CHUNK), triangle_p.split(_CHUNK), strict=True):
        local = tri_m33[t] - coords_n3[s].double()[:, None]
        values = sample_material(materials, t, closest_weights(local, 0.5), log2_footprint)
        weight = torch.ones_like(values[:, :1])
        shared = torch.nonzero(count[s] > 1)[:, 0]
        # A little more than the area, so that triangles that only touch the voxel have a say in it too.
        weight[shared, 0] = area_in_unit_box(local[shared]) + 1e-9
        sums.index_add_(0, s, torch.cat([values * weight, weight], 1))
    return (sums[:, :6] / sums[:, 6:]).float()


def closest_weights(tri_p33: Tensor, at: float) -> Tensor:
    """(p, 3) barycentric weights of the point of each triangle nearest to (at, at, at)."""
    ab, ac = tri_p33[:, 1] - tri_p33[:, 0], tri_p33[:, 2] - tri_p33[:, 0]
    ap = at - tri_p33[:, 0]
    d1, d2 = (ab * ap).sum(1), (ac * ap).sum(1)
    aa, bb, cc = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    d3, d4, d5, d6 = d1 - aa, d2 - bb, d1 - bb, d2 - cc
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    zero, one = torch.zeros_like(d1), torch.ones_like(d1)
    total = va + vb + vc
    out = torch.stack([va, vb, vc], 1) / torch.where(total > 0, total, one)[:, None]
    out = torch.where((total > 0)[:, None], out, 1.0 / 3)

    def put(where: Tensor, *weights: Tensor) -> None:
        nonlocal out
        out = torch.where(where[:, None], torch.stack(weights, 1), out)

    # From the weakest rule to the strongest: the first matching region of the scalar code wins.
    t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
    put((va <= 0) & (d4 - d3 >= 0) & (d5 - d6 >= 0), zero, 1 - t, t)
    t = d2 / (d2 - d6)
    put((vb <= 0) & (d2 >= 0) & (d6 <= 0), 1 - t, zero, t)
    t = d1 / (d1 - d3)
    put((vc <= 0) & (d1 >= 0) & (d3 <= 0), 1 - t, t, zero)
    put((d6 >= 0) & (d5 <= d6), zero, zero, one)
    put((d3 >= 0) & (d4 <= d3), zero, one, zero)
    put((d1 <= 0) & (d2 <= 0), one, zero, zero)
    return out


def area_in_unit_box(tri_p33: Tensor) -> Tensor:
    """(p,) area of each triangle inside [0, 1]^3, by clipping all polygons at once."""
    device = tri_p33.device
    polygon = torch.zeros(len(tri_p33), 10, 3, dtype=torch.float64, device=device)
    polygon[:, :3] = tri_p33
    count = torch.full((len(tri_p33),), 3, device=device)
    index = torch.arange(10, device=device)
    for axis in range(3):
        for side in range(2):
            following = torch.where(index + 1 < count[:, None], index + 1, 0)
            after = polygon.gather(1, following[:, :, None].expand(-1, -1, 3))
            d_i = polygon[:, :, axis] if side == 0 else 1.0 - polygon[:, :, axis]
            d_j = after[:, :, axis] if side == 0 else 1.0 - after[:, :, axis]
            valid = index < count[:, None]
            keep, cross = valid & (d_i >= 0), valid & ((d_i >= 0) != (d_j >= 0))
            t = d_i / torch.where(cross, d_i - d_j, 1.0)
            cut = polygon + t[:, :, None] * (after - polygon)
            # Each corner emits itself if kept, then the cut of its edge; number what is emitted.
            emitted = keep.long() + cross.long()
            at = torch.cumsum(emitted, 1) - emitted
            out = torch.zeros(len(tri_p33), 11, 3, dtype=torch.float64, device=device)
            spare = torch.full_like(at, 10)
            out.scatter_(1, torch.where(keep, at, spare)[:, :, None].expand(-1, -1, 3), polygon)
            out.scatter_(1, torch.where(cross, at + keep, spare)[:, :, None].expand(-1, -1, 3), cut)
            polygon, count = out[:, :10], emitted.sum(1)
    edges = polygon - polygon[:, :1]
    cross_product = torch.linalg.cross(edges[:, 1:-1], edges[:, 2:])
    inside = (index[2:] < count[:, None])[:, :, None]
    return 0.5 * torch.where(inside, cross_product, 0.0).sum(1).norm(dim=1)
