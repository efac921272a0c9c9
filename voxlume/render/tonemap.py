"""From linear light to what a screen shows."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.texture import linear_to_srgb


@njit(cache=True)
def neutral(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Khronos PBR Neutral: keeps base colours as they are and rolls highlights off to white.

    Linear in, linear display light in [0, 1] out. Source: the Khronos PBR Neutral tone mapper
    specification (2024).
    """
    start, desaturation = 0.8 - 0.04, 0.15
    low = min(red, green, blue)
    offset = low - 6.25 * low * low if low < 0.08 else 0.04
    red, green, blue = red - offset, green - offset, blue - offset
    peak = max(red, green, blue)
    if peak < start:
        return red, green, blue
    d = 1.0 - start
    new_peak = 1.0 - d * d / (peak + d - start)
    scale = new_peak / peak
    red, green, blue = red * scale, green * scale, blue * scale
    g = 1.0 - 1.0 / (desaturation * (peak - new_peak) + 1.0)
    return red + g * (new_peak - red), green + g * (new_peak - green), blue + g * (new_peak - blue)


def encode(linear: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Linear display light in [0, 1] to sRGB bytes, rounded."""
    return (linear_to_srgb(np.clip(linear, 0, 1)) * 255 + 0.5).astype(np.uint8)
