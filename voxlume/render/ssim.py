"""Structural similarity of pictures (Wang et al., "Image quality assessment", 2004), differentiable."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 11
_SIGMA = 1.5


def ssim(a: Tensor, b: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Mean structural similarity of each picture, over its channels and all complete 11 x 11 windows.

    Parameters
    ----------
    a, b : (n, h, w, c), at least 11 x 11 pixels.
    data_range : largest minus smallest possible value (2 for normals).

    Returns
    -------
    float32 (n,), 1 for equal pictures.

    Raises
    ------
    ValueError : different shapes, or pictures smaller than the window.
    """
    if a.shape != b.shape or a.dim() != 4:
        raise ValueError(
            f"pictures must be (n, h, w, c) and alike, not {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if min(a.shape[1:3]) < WINDOW:
        raise ValueError(f"pictures of {a.shape[2]} x {a.shape[1]} pixels; at least {WINDOW} are needed")
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float().permute(0, 3, 1, 2), b.float().permute(0, 3, 1, 2)
        n, c, h, w = a.shape
        stacked = torch.cat([a, b, a * a, b * b, a * b]).reshape(5 * n * c, 1, h, w)
        kernel = _kernel(a.device)
        blurred = F.conv2d(F.conv2d(stacked, kernel[None, None, :, None]), kernel[None, None, None])
        mean_a, mean_b, aa, bb, ab = blurred.reshape(5, n, -1)
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        # Rounding can leave a variance slightly negative.
        var_a, var_b = (aa - mean_a * mean_a).clamp(min=0), (bb - mean_b * mean_b).clamp(min=0)
        structure = (2 * (ab - mean_a * mean_b) + c2) / (var_a + var_b + c2)
        luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
        return (structure * luminance).mean(1)


@lru_cache(maxsize=4)
def _kernel(device: torch.device) -> Tensor:
    # A tensor made in inference mode could not serve a later training step.
    with torch.inference_mode(False):
        x = torch.arange(WINDOW, device=device) - WINDOW // 2
        weights = torch.exp(-0.5 * (x / _SIGMA) ** 2)
        return weights / weights.sum()
