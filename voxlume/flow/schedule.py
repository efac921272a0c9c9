"""Times of a rectified flow and the arithmetic between its states (Liu et al., "Flow Straight and Fast").

x_t = (1 - t) x0 + (s + (1 - s) t) noise with s = ``sigma_min``, and velocity v = (1 - s) noise - x0.
Times are Python floats (float64): in float32 a time such as 0.6 may fall on the wrong side of the
guidance interval's end.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

SIGMA_MIN = 1e-5
"""The noise that is left at t = 0 in the published training."""


def sampling_times(steps: int, rescale_t: float) -> list[float]:
    """``steps`` + 1 times from 1 down to 0: r u / (1 + (r - 1) u), u evenly spaced.

    A ``rescale_t`` r above 1 spends more of the steps near the noise.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    u = np.linspace(1.0, 0.0, steps + 1)
    return (rescale_t * u / (1 + (rescale_t - 1) * u)).tolist()


def noisy_state(x0: Tensor, noise: Tensor, t: Tensor | float, sigma_min: float = SIGMA_MIN) -> Tensor:
    """x_t of clean values and noise, all of one shape; ``t`` broadcasts against them."""
    return (1 - t) * x0 + (sigma_min + (1 - sigma_min) * t) * noise


def velocity_target(x0: Tensor, noise: Tensor, sigma_min: float = SIGMA_MIN) -> Tensor:
    """What a flow network learns to predict."""
    return (1 - sigma_min) * noise - x0


def clean_state(x_t: Tensor, velocity: Tensor, t: float, sigma_min: float = SIGMA_MIN) -> Tensor:
    """x0 as a velocity at time t implies it."""
    return (1 - sigma_min) * x_t - (sigma_min + (1 - sigma_min) * t) * velocity


def velocity_towards(x_t: Tensor, x0: Tensor, t: float, sigma_min: float = SIGMA_MIN) -> Tensor:
    """The velocity that implies ``x0``; the inverse of :func:`clean_state`."""
    return ((1 - sigma_min) * x_t - x0) / (sigma_min + (1 - sigma_min) * t)
