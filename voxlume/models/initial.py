"""Random weights to begin training with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def normal(value: Tensor, std: float) -> Tensor:
    """Fill with normal noise, in place, unless it is on the meta device and has no values.

    PyTorch would load its compiler there, which takes a process two seconds.
    """
    return value if value.is_meta else nn.init.normal_(value, std=std)


def normal_parameter(*shape: int, std: float) -> nn.Parameter:
    """A parameter of normal noise."""
    return nn.Parameter(normal(torch.empty(shape), std))
