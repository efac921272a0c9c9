"""AdamW, learning rate, adaptive gradient clipping, averaged weights; none of them waits for the device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from voxlume.training.config import LoopConfig

CLIP_WINDOW = 256
"""How many recent gradient norms the percentile is taken of."""

CLIP_WARMUP = 16
"""So many norms must be known before their percentile clips anything."""


def learning_rate(config: LoopConfig, fraction: float) -> float:
    """At a fraction 0 .. 1 of the budget: linear warm-up, constant, cosine to the end."""
    rate = config.learning_rate
    if fraction < config.warmup:
        return rate * max(fraction / config.warmup, 1e-3)
    if fraction <= config.decay_from:
        return rate
    along = min(1.0, (fraction - config.decay_from) / max(1e-9, 1 - config.decay_from))
    return rate * (config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * along)))


def adamw(parameters: Sequence[nn.Parameter], config: LoopConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only."""
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # The fused step leaves weights alone where ``found_inf`` says so, without asking the host.
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        fused=not config.shard,
    )


class AdaptiveClip:
    """Scales gradients down to the percentile of the norms of recent steps, or to the fixed maximum.

    A step whose gradients are not finite is left out: the optimiser sees ``found_inf``.
    """

    def __init__(self, max_norm: float, percentile: float, device: torch.device) -> None:
        self.max_norm, self.percentile = max_norm, percentile
        self.norms = torch.zeros(CLIP_WINDOW, device=device)

    @torch.no_grad()
    def __call__(self, gradients: Sequence[Tensor], step: int) -> tuple[Tensor, Tensor]:
        """Clip in place.

        Parameters
        ----------
        step : number of steps before this one.

        Returns
        -------
        The norm before clipping, and 1.0 where it is not finite, else 0.0; both on the device.
        """
        norm = torch.nn.utils.get_total_norm(gradients)
        if hasattr(norm, "full_tensor"):  # sharded gradients: the norm of all parts
            norm = norm.full_tensor()
        finite = norm.isfinite()
        known = min(step, CLIP_WINDOW)
        limit: Tensor | float = self.max_norm
        if known >= CLIP_WARMUP:
            limit = torch.quantile(self.norms[:known], self.percentile).clamp(max=self.max_norm)
        recorded = torch.where(finite, norm, limit if isinstance(limit, Tensor) else norm.new_tensor(limit))
        self.norms[step % CLIP_WINDOW] = recorded
        torch._foreach_mul_(list(gradients), (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm, (~finite).float()


class Ema:
    """Exponential moving averages of parameters, float32 beside them on the device."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = list(parameters)
        self.averages = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimiser step number ``step`` (from 0); the average forgets its beginning quickly."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the parameters hold the averages; afterwards their own values, bit for bit."""
        own = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_([p.detach() for p in self.parameters], self.averages)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_([p.detach() for p in self.parameters], own)
