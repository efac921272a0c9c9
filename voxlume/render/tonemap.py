"""From linear light to what a screen shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.jit import inner_kernel
from voxlume.texture import linear_to_srgb

_START = 0.76
_DESATURATION = 0.15


@inner_kernel
def compress_highlights(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Keep colours up to 0.76 as they are and roll what is brighter off to white.

    Linear in, linear display light in [0, 1] out. This is the shoulder of the Khronos PBR Neutral tone
    mapper (2024). Its toe is left out: it takes the reflection of a white surrounding away from dark
    colours, and our studio is not white all around.
    """
    peak = max(red, green, blue)
    if peak < _START:
        return red, green, blue
    d = 1.0 - _START
    new_peak = 1.0 - d * d / (peak + d - _START)
    scale = new_peak / peak
    red, green, blue = red * scale, green * scale, blue * scale
    g = 1.0 - 1.0 / (_DESATURATION * (peak - new_peak) + 1.0)
    return red + g * (new_peak - red), green + g * (new_peak - green), blue + g * (new_peak - blue)


def encode(linear: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Linear display light in [0, 1] to sRGB bytes, rounded."""
    return (linear_to_srgb(np.clip(linear, 0, 1)) * 255 + 0.5).astype(np.uint8)
