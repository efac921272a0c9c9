"""Losses of the networks, each a mean over all rows it is given; float32 whatever comes in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Outside of it the exponential says nothing more."""


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Of the latent's distribution from the standard normal one, per element."""
    log_variance = log_variance.float().clamp(*LOG_VARIANCE_RANGE)
    return 0.5 * (mean.float().square() + log_variance.exp() - 1 - log_variance).mean()


def drawn_latent(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A latent of the distribution (mean, log-variance), by standard normal noise of the same shape."""
    return mean + (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp() * noise


def binary_cross_entropy(logits: Tensor, truth: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Between logits and bools of the same shape; what is true counts ``positive_weight`` times."""
    weight = None if positive_weight == 1 else logits.new_tensor(positive_weight, dtype=torch.float32)
    return F.binary_cross_entropy_with_logits(logits.float(), truth.float(), pos_weight=weight)


def mask_loss(logits: Sequence[Tensor], truth: Sequence[Tensor], finest_weight: float = 1.0) -> Tensor:
    """Sum over the levels of the cross entropy of the children's existence, each (n_level, 8).

    ``finest_weight`` is the weight of children that exist at the last level.
    """
    weights = [1.0] * (len(logits) - 1) + [finest_weight]
    levels = [binary_cross_entropy(a, b, w) for a, b, w in zip(logits, truth, weights, strict=True)]
    return torch.stack(levels).sum()


def velocity_loss(velocity: Tensor, target: Tensor, lanes: Sequence[int]) -> Tensor:
    """Mean over the lanes of each lane's mean squared error.

    Lanes weigh the same whatever their numbers of rows, so that it does not matter whether one process or
    several compute them.

    Parameters
    ----------
    velocity, target : (n, ...); lanes : rows of each lane, n in all.
    """
    parts = zip(velocity.float().split(list(lanes)), target.float().split(list(lanes)), strict=True)
    return torch.stack([F.mse_loss(a, b) for a, b in parts]).mean()
