"""Pictures in other colours: what they show stays, how it looks varies.

An encoder that sees the same few pictures of an object again and again knows them by heart. Which shape it
has, and where it was seen from, does not depend on its colours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GAMMA, MIXING, NOISE = 0.5, 0.35, 0.04
"""At full strength: the deviation of the exponent's logarithm, of what channels take from each other, and of
each pixel."""

BLURRED = 0.3
"""Share of the pictures that are blurred, at full strength."""


def varied(pictures: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Cut-out pictures uint8 (b, s, s, 3), each in brightness, contrast, hue, noise and sharpness of its own.

    Parameters
    ----------
    strength : 0 leaves them as they are, 1 is strong. Black surroundings stay black.
    """
    count, device = len(pictures), pictures.device

    def normal(*shape: int) -> Tensor:
        return torch.randn((count, *shape), generator=generator, device=device)

    colors = pictures.float().div(255)
    shown = (pictures > 0).any(3, keepdim=True)
    colors = colors ** (strength * GAMMA * normal(1, 1, 1)).exp()
    # Each channel becomes a mixture of all; the mixture of white stays white.
    mixing = torch.eye(3, device=device) + strength * MIXING * normal(3, 3)
    mixing = mixing / mixing.sum(2, keepdim=True).clamp(min=0.3)
    colors = (colors.flatten(1, 2) @ mixing.transpose(1, 2)).reshape(colors.shape)
    colors = colors + strength * NOISE * normal(*colors.shape[1:])
    soft = F.avg_pool2d(F.pad(colors.movedim(3, 1), (1, 1, 1, 1), mode="replicate"), 3, 1).movedim(1, 3)
    blurred = torch.rand((count, 1, 1, 1), generator=generator, device=device) < strength * BLURRED
    colors = torch.where(blurred, soft, colors).clamp(0, 1)
    # Not exactly black, which would be the surroundings.
    return (255 * colors + 0.5).clamp(1, 255).to(torch.uint8).where(shown, pictures)
