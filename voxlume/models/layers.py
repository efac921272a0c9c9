"""Element-wise chains of the networks, one function each, so that a fused kernel can stand in for any.

Shape suffixes: n tokens (all samples of a batch, one after another), b samples, h heads, d channels of
a head, c channels, p = d / 2 rotary pairs. Every function computes in float32 where it normalises and
returns the dtype of its first argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxlume.sparse.memory import rows_within_budget

Layer = TypeVar("Layer", bound=nn.Module)

NORM_EPS = 1e-6
"""Epsilon of the normalisations inside the blocks."""

FINAL_NORM_EPS = 1e-5
"""Epsilon of the parameter-free normalisations before an output layer, and of the image tokens."""


def zero_initialized(layer: Layer) -> Layer:
    """The last layer of a residual branch, so that training starts from the shortcuts alone."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def plain_layer_norm(x_nc: Tensor, eps: float = NORM_EPS) -> Tensor:
    """LayerNorm over the last axis without parameters."""
    return F.layer_norm(x_nc, x_nc.shape[-1:], eps=eps)


def of_tokens(values_bc: Tensor, sample_n: Tensor | None) -> Tensor:
    """One row per token (n, c) from one row per sample; a single sample just broadcasts (1, c)."""
    return values_bc if sample_n is None else values_bc.index_select(0, sample_n)


def modulated_layer_norm(x_nc: Tensor, shift_bc: Tensor, scale_bc: Tensor, sample_n: Tensor | None) -> Tensor:
    """LN(x) * (1 + scale) + shift, with the modulation of each token's own sample."""
    normed = plain_layer_norm(x_nc)
    return torch.addcmul(of_tokens(shift_bc, sample_n), normed, 1 + of_tokens(scale_bc, sample_n))


def gated_residual(x_nc: Tensor, update_nc: Tensor, gate_bc: Tensor, sample_n: Tensor | None) -> Tensor:
    """x + gate * update."""
    return torch.addcmul(x_nc, update_nc, of_tokens(gate_bc, sample_n))


def silu_plain_norm(x_nc: Tensor) -> Tensor:
    """SiLU(LN(x)), no parameters."""
    return F.silu(plain_layer_norm(x_nc), inplace=not torch.is_grad_enabled())


def silu_norm(x_nc: Tensor, norm: nn.LayerNorm) -> Tensor:
    """SiLU(LN(x)) with the parameters of ``norm``."""
    return F.silu(norm(x_nc), inplace=not torch.is_grad_enabled())


@dataclass(frozen=True, eq=False)
class RotaryPhases:
    """Cosine and sine of every token's rotation angles, float32 (n, 1, p)."""

    cos: Tensor
    sin: Tensor


def rotary_phases(positions_n3: Tensor, head_channels: int) -> RotaryPhases:
    """Rotary angles of integer voxel coordinates.

    A head's p pairs are split into floor(p / 3) for x, then y, then z, with frequencies
    10000^(-i / floor(p / 3)); the one or two pairs left over keep angle zero.
    """
    pairs = head_channels // 2
    per_axis = pairs // 3
    index = torch.arange(per_axis, dtype=torch.float32, device=positions_n3.device)
    frequencies = 1.0 / (10000.0 ** (index / per_axis))
    angles = (positions_n3.float()[:, :, None] * frequencies).flatten(1)
    angles = F.pad(angles, (0, pairs - 3 * per_axis)).unsqueeze(1)
    return RotaryPhases(angles.cos(), angles.sin())


def head_rms_norm(x_nhd: Tensor, gamma_hd: Tensor) -> Tensor:
    """x / |x| * sqrt(d) * gamma over each head, in float32, returned in float32."""
    # sqrt(d) / |x| is 1 / rms(x); the tiny epsilon only keeps a zero vector zero.
    return F.rms_norm(x_nhd.float(), x_nhd.shape[-1:], eps=1e-24) * gamma_hd.float()


def rotate_pairs(x_nhd: Tensor, phases: RotaryPhases) -> Tensor:
    """Rotate adjacent channels (2i, 2i + 1) by the token's angle i."""
    even, odd = x_nhd[..., 0::2], x_nhd[..., 1::2]
    cos, sin = phases.cos, phases.sin
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def normalized_heads(
    x_nhd: Tensor, gamma_hd: Tensor, phases: RotaryPhases | None, dtype: torch.dtype
) -> Tensor:
    """Queries or keys ready for attention: RMS norm per head, rotary embedding if there are phases."""
    normed = head_rms_norm(x_nhd, gamma_hd)
    return (normed if phases is None else rotate_pairs(normed, phases)).to(dtype)


def in_chunks(function: Callable[[Tensor], Tensor], x_nc: Tensor, row_bytes: int) -> Tensor:
    """Apply a row-wise function; in inference to no more rows at once than the memory budget allows.

    ``row_bytes`` is what a row takes inside the function.
    """
    if torch.is_grad_enabled():
        return function(x_nc)
    rows = rows_within_budget(row_bytes, x_nc.device)
    if len(x_nc) <= rows:
        return function(x_nc)
    return torch.cat([function(chunk) for chunk in x_nc.split(rows)])
