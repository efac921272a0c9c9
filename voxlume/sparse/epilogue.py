"""What a convolution's result goes through before it is stored: a norm, or a sum with something else.

The fast kernels do it while they hold the result (:mod:`voxlume.sparse.conv_triton`); here is the twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from voxlume.sparse.gather import gather_rows
from voxlume.sparse.tensor import Lineage


@dataclass(frozen=True, eq=False)
class Norm:
    """LayerNorm over the channels, then SiLU if asked for.

    Attributes
    ----------
    weight, bias : (co,), or None for a norm without parameters.
    """

    eps: float
    weight: Tensor | None = None
    bias: Tensor | None = None
    silu: bool = False


@dataclass(frozen=True, eq=False)
class Residual:
    """Features to add, each channel to as many adjacent ones as the result has more.

    Attributes
    ----------
    features : (n, c) of the result's own rows; or with a ``lineage``, (n_parents, 8c) of their parents, slot
        by slot. c divides co.
    """

    features: Tensor
    lineage: Lineage | None = None


Epilogue = Norm | Residual | None


def finish(h: Tensor, then: Epilogue) -> Tensor:
    """Apply an epilogue to a convolution's result (n, co); differentiable."""
    if isinstance(then, Norm):
        h = F.layer_norm(h, h.shape[1:], then.weight, then.bias, then.eps)
        return F.silu(h, inplace=not torch.is_grad_enabled()) if then.silu else h
    if isinstance(then, Residual):
        added = then.features
        if then.lineage is not None:
            slots = added.reshape(len(added) * 8, added.shape[1] // 8)
            added = gather_rows(slots, then.lineage.index, then.lineage.children.flatten())
        repeats = h.shape[1] // added.shape[1]
        if repeats == 1:
            return h + added
        return (h.unflatten(1, (-1, repeats)) + added.unsqueeze(-1)).flatten(1)
    return h
