"""The curves of :mod:`voxlume.render.tonemap` and :mod:`voxlume.srgb` on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.render.tonemap import DESATURATION, REFLECTED, START


def neutral_torch(light: Tensor) -> Tensor:
    """:func:`voxlume.render.tonemap.neutral` of linear light (..., 3), not negative."""
    low = light.amin(-1, keepdim=True)
    light = light - torch.where(low < 2 * REFLECTED, low - low * low / (4 * REFLECTED), REFLECTED)
    peak = light.amax(-1, keepdim=True)
    d = 1.0 - START
    new_peak = 1.0 - d * d / (peak + d - START).clamp(min=d)
    scaled = light * (new_peak / peak.clamp(min=START))
    g = 1.0 - 1.0 / (DESATURATION * (peak - new_peak) + 1.0)
    return torch.where(peak < START, light, scaled + g * (new_peak - scaled))


def srgb_to_linear_torch(encoded: Tensor) -> Tensor:
    """Decode sRGB values in [0, 1]."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb_torch(linear: Tensor) -> Tensor:
    """Encode linear values in [0, 1] as sRGB."""
    return torch.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-12) ** (1 / 2.4) - 0.055
    )
