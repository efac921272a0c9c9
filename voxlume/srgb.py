"""The sRGB transfer curve (IEC 61966-2-1) on arrays; the scalar kernels are in :mod:`voxlume.texture`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def srgb_to_linear(encoded: NDArray[np.floating]) -> NDArray[np.float64]:
    """Decode sRGB values in [0, 1]."""
    x = np.asarray(encoded, np.float64)
    return np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: NDArray[np.floating]) -> NDArray[np.float64]:
    """Encode linear values in [0, 1] as sRGB."""
    x = np.asarray(linear, np.float64)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * np.maximum(x, 1e-12) ** (1 / 2.4) - 0.055)
