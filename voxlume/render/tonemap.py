"""From linear light to what a screen shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.jit import inner_kernel
from voxlume.srgb import linear_to_srgb

REFLECTED = 0.02
START = 0.78
DESATURATION = 0.15


@inner_kernel
def neutral(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Linear light to linear display light in [0, 1]: colours stay, highlights roll off to white.

    The Khronos PBR Neutral tone mapper (2024), except that it takes 0.02 of reflected surroundings off
    dark colours instead of 0.04: our studio is half as bright as the white room it is made for.
    """
    low = min(red, green, blue)
    offset = low - low * low / (4 * REFLECTED) if low < 2 * REFLECTED else REFLECTED
    red, green, blue = red - offset, green - offset, blue - offset
    peak = max(red, green, blue)
    if peak < START:
        return red, green, blue
    d = 1.0 - START
    new_peak = 1.0 - d * d / (peak + d - START)
    scale = new_peak / peak
    red, green, blue = red * scale, green * scale, blue * scale
    g = 1.0 - 1.0 / (DESATURATION * (peak - new_peak) + 1.0)
    return red + g * (new_peak - red), green + g * (new_peak - green), blue + g * (new_peak - blue)


def encode(linear: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Linear display light in [0, 1] to sRGB bytes, rounded."""
    return (linear_to_srgb(np.clip(linear, 0, 1)) * 255 + 0.5).astype(np.uint8)
