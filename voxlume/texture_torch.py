"""The material look-up of :mod:`voxlume.texture` in plain PyTorch: its twin, and what runs on CUDA.

Legend for shapes: n points; everything else as in the NumPy arrays of ``TexturePack``,
``MaterialTable`` and ``SurfaceArrays``, which are moved to a device as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from voxlume.texture import MaterialSampler


class DeviceMaterials(NamedTuple):
    """The arrays of a :class:`MaterialSampler` as tensors on one device, under the same names."""

    base: Tensor
    mips: Tensor
    size: Tensor
    start: Tensor
    num_levels: Tensor
    wrap: Tensor
    nearest: Tensor
    textures: Tensor
    factors: Tensor
    srgb: Tensor
    tinted: Tensor
    alpha_mode: Tensor
    cutoff: Tensor
    see_through: Tensor
    faces: Tensor
    material: Tensor
    uv: Tensor
    color: Tensor
    metal_rough: Tensor
    lod: Tensor


def to_device(sampler: MaterialSampler, device: str | torch.device) -> DeviceMaterials:
    """Move the look-up arrays to a device."""
    fields = {**sampler.pack._asdict(), **sampler.table._asdict(), **sampler.surface._asdict()}
    # uint16 has no arithmetic in PyTorch; int32 holds the same values, widened where that is fast.
    mips = torch.as_tensor(fields.pop("mips").view(np.int16), device=device).int() & 0xFFFF
    tensors = {name: torch.as_tensor(array, device=device) for name, array in fields.items()}
    return DeviceMaterials(mips=mips, **tensors)


def _decode(x: Tensor) -> Tensor:
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _encode(x: Tensor) -> Tensor:
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp(min=1e-12) ** (1.0 / 2.4) - 0.055)


def _wrap(i_n: Tensor, size_n: Tensor, mode_n: Tensor) -> Tensor:
    repeated = i_n % size_n
    mirrored = i_n % (2 * size_n)
    mirrored = torch.where(mirrored < size_n, mirrored, 2 * size_n - 1 - mirrored)
    clamped = torch.minimum(i_n.clamp(min=0), size_n - 1)
    return torch.where(mode_n == 0, repeated, torch.where(mode_n == 1, mirrored, clamped))


def _texel(m: DeviceMaterials, t_n: Tensor, level_n: Tensor, k_n: Tensor) -> Tensor:
    """(n, 4) texels that start at element ``k_n`` of their level's buffer."""
    channels = m.size[t_n, 2]
    out = []
    is_base = level_n == 0
    for c in range(4):
        # Grey images repeat their only colour; a missing alpha is 1.
        colour = torch.where(channels >= 3, min(c, 2), 0)
        element = torch.where(channels % 2 == 0, channels - 1, 0) if c == 3 else colour
        k = k_n + element
        base = m.base[torch.where(is_base, k, 0)].double() / 255.0
        mips = m.mips[torch.where(is_base, 0, k)].double() / 65535.0
        value = torch.where(is_base, base, mips)
        out.append(torch.where(channels % 2 == 0, value, 1.0) if c == 3 else value)
    return torch.stack(out, 1)


def _bilinear(m: DeviceMaterials, t_n: Tensor, level_n: Tensor, u_n: Tensor, v_n: Tensor) -> Tensor:
    width = (m.size[t_n, 0] >> level_n).clamp(min=1)
    height = (m.size[t_n, 1] >> level_n).clamp(min=1)
    x, y = u_n * width - 0.5, v_n * height - 0.5
    x0, y0 = x.floor(), y.floor()
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    x0, y0 = x0.long(), y0.long()
    start, channels = m.start[t_n, level_n], m.size[t_n, 2]

    def texel(dx: int, dy: int) -> Tensor:
        i = _wrap(x0 + dx, width, m.wrap[t_n, 0])
        j = _wrap(y0 + dy, height, m.wrap[t_n, 1])
        return _texel(m, t_n, level_n, start + (j * width + i) * channels)

    top = (1 - fx) * (1 - fy) * texel(0, 0) + fx * (1 - fy) * texel(1, 0)
    return top + (1 - fx) * fy * texel(0, 1) + fx * fy * texel(1, 1)


def sample_texture(m: DeviceMaterials, t_n: Tensor, u_n: Tensor, v_n: Tensor, level_n: Tensor) -> Tensor:
    """Texture ``t_n`` at (u, v) and mip level -> (n, 4); twin of :func:`voxlume.texture.sample_texture`."""
    sane = (u_n.abs() < 1e9) & (v_n.abs() < 1e9)
    u_n, v_n = torch.where(sane, u_n, 0.0), torch.where(sane, v_n, 0.0)
    level = torch.minimum(level_n.clamp(min=0.0), (m.num_levels[t_n] - 1).double())
    low = level.long()
    f = (level - low)[:, None]
    high = torch.minimum(low + 1, m.num_levels[t_n] - 1)
    smooth = _bilinear(m, t_n, low, u_n, v_n)
    smooth = torch.where(f < 1e-6, smooth, smooth + f * (_bilinear(m, t_n, high, u_n, v_n) - smooth))
    width, height = m.size[t_n, 0], m.size[t_n, 1]
    i = _wrap((u_n * width).floor().long(), width, m.wrap[t_n, 0])
    j = _wrap((v_n * height).floor().long(), height, m.wrap[t_n, 1])
    k = m.start[t_n, 0] + (j * width + i) * m.size[t_n, 2]
    return torch.where(m.nearest[t_n][:, None], _texel(m, t_n, torch.zeros_like(k), k), smooth)


def _sample_slot(
    m: DeviceMaterials,
    slot: int,
    t_n: Tensor,
    face_n: Tensor,
    corner_n3: Tensor,
    weight_n3: Tensor,
    lod: float,
) -> Tensor:
    """(n, 4) of one texture slot, ones where the material has no texture there."""
    out = torch.ones(len(t_n), 4, dtype=torch.float64, device=t_n.device)
    rows = torch.nonzero(t_n >= 0)[:, 0]
    if len(rows):
        uv = (weight_n3[rows, :, None] * m.uv[slot][corner_n3[rows]].double()).sum(1)
        level = m.lod[slot][face_n[rows]].double() + lod
        out[rows] = sample_texture(m, t_n[rows], uv[:, 0], uv[:, 1], level)
    return out


def sample_material(m: DeviceMaterials, face_n: Tensor, weight_n3: Tensor, log2_footprint: float) -> Tensor:
    """The six channels (n, 6) float64; twin of :func:`voxlume.texture.sample_material`."""
    corner = m.faces[face_n].long()
    row = m.material[face_n].long()
    factors = m.factors[row]
    base = _sample_slot(m, 0, m.textures[row, 0], face_n, corner, weight_n3, log2_footprint)
    tint = factors[:, :3]
    alpha = factors[:, 3] * base[:, 3]
    colored = len(m.color) > 1
    if colored:
        color = (weight_n3[:, :, None] * m.color[corner].double()).sum(1)
        tint, alpha = tint * color[:, :3], alpha * color[:, 3]
    tinted = torch.ones_like(m.tinted[row]) if colored else m.tinted[row]
    rgb = torch.where(tinted[:, None], _encode(_decode(base[:, :3]) * tint), base[:, :3])

    rough_metal = _sample_slot(m, 1, m.textures[row, 1], face_n, corner, weight_n3, log2_footprint)
    metallic, roughness = factors[:, 4] * rough_metal[:, 2], factors[:, 5] * rough_metal[:, 1]
    if len(m.metal_rough) > 1:
        painted = (weight_n3[:, :, None] * m.metal_rough[corner].double()).sum(1)
        metallic, roughness = metallic * painted[:, 0], roughness * painted[:, 1]

    through = _sample_slot(m, 2, m.textures[row, 2], face_n, corner, weight_n3, log2_footprint)
    mode = m.alpha_mode[row]
    masked = (alpha >= m.cutoff[row]).double()
    alpha = torch.where(mode == 0, 1.0, torch.where(mode == 1, masked, alpha))
    alpha = torch.where(m.see_through[row], 1.0 - factors[:, 6] * through[:, 0], alpha)
    return torch.cat([rgb, torch.stack([metallic, roughness, alpha], 1)], 1).clamp(0.0, 1.0)
