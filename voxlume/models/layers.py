"""Element-wise chains of the networks: one function each, with the fast path chosen behind it.

Every function has a plain PyTorch twin beside it (``..._reference``), which runs on every device but CUDA,
and where a user asks for reference kernels (:func:`voxlume.sparse.backend.kernels`). The fast path is
:mod:`voxlume.models.fused` and :mod:`voxlume.models.fused_mlp`; where gradients are wanted it is
:mod:`voxlume.models.fused_training`.

Shape suffixes: n tokens (all samples of a batch, one after another), b samples, h heads, d channels of
a head, c channels, p = d / 2 rotary pairs. Normalisation is computed in float32; results have the dtype
of the first argument.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxlume.sparse.backend import use_triton
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
    return values_bc if sample_n is None else _OfTokens.apply(values_bc, sample_n)


class _OfTokens(torch.autograd.Function):
    """Rows of the samples for ascending tokens; gradients are summed in order, where indexing has atomics."""

    @staticmethod
    def forward(ctx: Any, values_bc: Tensor, sample_n: Tensor) -> Tensor:
        ctx.save_for_backward(sample_n)
        ctx.samples = len(values_bc)
        return values_bc.index_select(0, sample_n)

    @staticmethod
    def backward(ctx: Any, grad_nc: Tensor) -> tuple[Tensor, None]:
        (sample_n,) = ctx.saved_tensors
        ends = torch.arange(ctx.samples + 1, device=sample_n.device)
        lengths = torch.searchsorted(sample_n, ends).diff()
        return torch.segment_reduce(grad_nc.contiguous(), "sum", lengths=lengths, axis=0, unsafe=True), None


def sinusoidal_positions(positions_na: Tensor, width: int, longest: float = 100.0) -> Tensor:
    """Sines and cosines (n, width) of positions on some axes, without parameters.

    Every axis has an equal number of frequencies, from 1 falling to 1 / ``longest``; channels that are left
    over are zero.
    """
    axes = positions_na.shape[1]
    count = width // (2 * axes)
    steps = torch.arange(count, dtype=torch.float32, device=positions_na.device)
    angles = (positions_na.float()[:, :, None] * longest ** (-steps / count)).flatten(1)
    return F.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width - 2 * axes * count))


# -- norms with what comes before and after them ---------------------------------------------------


def modulated_layer_norm(x_nc: Tensor, shift_bc: Tensor, scale_bc: Tensor, sample_n: Tensor | None) -> Tensor:
    """LN(x) * (1 + scale) + shift, with the modulation of each token's own sample."""
    if (fast := fast_kernels(x_nc)) is not None:
        return fast.norm(
            x_nc,
            NORM_EPS,
            weight_bc=scale_bc,
            bias_bc=shift_bc,
            one_plus=True,
            sample_n=sample_n,
            out_dtype=_product_dtype(x_nc),
        )[1]
    return modulated_layer_norm_reference(x_nc, shift_bc, scale_bc, sample_n)


def modulated_layer_norm_reference(
    x_nc: Tensor, shift_bc: Tensor, scale_bc: Tensor, sample_n: Tensor | None
) -> Tensor:
    normed = plain_layer_norm(x_nc)
    return torch.addcmul(of_tokens(shift_bc, sample_n), normed, 1 + of_tokens(scale_bc, sample_n))


def residual_modulated_norm(
    x_nc: Tensor,
    update_nc: Tensor,
    gate_bc: Tensor | None,
    shift_bc: Tensor,
    scale_bc: Tensor,
    sample_n: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """x' = x + gate * update (no gate: x + update), and its modulated LayerNorm.

    ``update_nc`` may be a single row (1, c) for all tokens.
    """
    if (fast := fast_kernels(x_nc)) is not None:
        return fast.norm(
            x_nc,
            NORM_EPS,
            update_nc=update_nc,
            gate_bc=gate_bc,
            weight_bc=scale_bc,
            bias_bc=shift_bc,
            one_plus=True,
            sample_n=sample_n,
            out_dtype=_product_dtype(x_nc),
        )
    x_nc = x_nc + update_nc if gate_bc is None else gated_residual(x_nc, update_nc, gate_bc, sample_n)
    return x_nc, modulated_layer_norm_reference(x_nc, shift_bc, scale_bc, sample_n)


def gated_residual(x_nc: Tensor, update_nc: Tensor, gate_bc: Tensor, sample_n: Tensor | None) -> Tensor:
    """x + gate * update."""
    return torch.addcmul(x_nc, update_nc, of_tokens(gate_bc, sample_n))


def gated_residual_norm(
    x_nc: Tensor, update_nc: Tensor, gate_bc: Tensor, sample_n: Tensor | None, norm: nn.LayerNorm
) -> tuple[Tensor, Tensor]:
    """x' = x + gate * update, and its LayerNorm with the parameters of ``norm``."""
    if (fast := fast_kernels(x_nc)) is not None:
        return fast.norm(
            x_nc,
            norm.eps,
            update_nc=update_nc,
            gate_bc=gate_bc,
            weight_bc=norm.weight[None],
            bias_bc=norm.bias[None],
            sample_n=sample_n,
            out_dtype=_product_dtype(x_nc),
        )
    x_nc = gated_residual(x_nc, update_nc, gate_bc, sample_n)
    return x_nc, norm(x_nc)


def layer_norm(x_nc: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LN(x) with the parameters of ``norm``."""
    if (fast := fast_kernels(x_nc)) is not None:
        weight, bias = norm.weight[None], norm.bias[None]
        dtype = _product_dtype(x_nc)
        return fast.norm(x_nc, norm.eps, weight_bc=weight, bias_bc=bias, out_dtype=dtype)[1]
    return norm(x_nc)


def final_norm(x_nc: Tensor) -> Tensor:
    """LN(x) without parameters before an output layer: float32 whatever the dtype of x."""
    if (fast := fast_kernels(x_nc)) is not None:
        return fast.norm(x_nc, FINAL_NORM_EPS, out_dtype=torch.float32)[1]
    return plain_layer_norm(x_nc.float(), FINAL_NORM_EPS)


def silu_norm(x_nc: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
    """SiLU(LN(x)), with the parameters of ``norm`` or none."""
    if (fast := fast_kernels(x_nc)) is not None:
        return fast.norm(
            x_nc,
            NORM_EPS if norm is None else norm.eps,
            weight_bc=None if norm is None else norm.weight[None],
            bias_bc=None if norm is None else norm.bias[None],
            silu=True,
            out_dtype=_product_dtype(x_nc),
        )[1]
    return silu_norm_reference(x_nc, norm)


def silu_norm_reference(x_nc: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
    normed = plain_layer_norm(x_nc) if norm is None else norm(x_nc)
    return F.silu(normed, inplace=not torch.is_grad_enabled())


# -- queries and keys ------------------------------------------------------------------------------


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


def normalized_heads(x_nhd: Tensor, gamma_hd: Tensor, phases: RotaryPhases | None) -> Tensor:
    """Queries or keys ready for attention: RMS norm per head, rotary embedding if there are phases."""
    if (fast := fast_kernels(x_nhd)) is not None:
        cos, sin = (None, None) if phases is None else (phases.cos, phases.sin)
        return fast.heads(x_nhd, gamma_hd, cos, sin)
    return normalized_heads_reference(x_nhd, gamma_hd, phases)


def normalized_heads_reference(x_nhd: Tensor, gamma_hd: Tensor, phases: RotaryPhases | None) -> Tensor:
    # x / |x| * sqrt(d) is x / rms(x); the tiny epsilon only keeps a zero vector zero.
    normed = F.rms_norm(x_nhd.float(), x_nhd.shape[-1:], eps=1e-24) * gamma_hd.float()
    return (normed if phases is None else rotate_pairs(normed, phases)).to(x_nhd.dtype)


def rotate_pairs(x_nhd: Tensor, phases: RotaryPhases) -> Tensor:
    """Rotate adjacent channels (2i, 2i + 1) by the token's angle i."""
    even, odd = x_nhd[..., 0::2], x_nhd[..., 1::2]
    cos, sin = phases.cos, phases.sin
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


# -- MLPs ------------------------------------------------------------------------------------------


def gelu_linear(x_nc: Tensor, layer: nn.Linear) -> Tensor:
    """GELU (tanh approximation) of a linear layer."""
    if use_fused(x_nc):
        # cuBLAS applies the activation before it writes the product.
        return torch._addmm_activation(layer.bias, x_nc, layer.weight.t(), use_gelu=True)
    return F.gelu(layer(x_nc), approximate="tanh")


def silu_mlp(h_nc: Tensor, widen: nn.Linear, narrow: nn.Linear, residual_nc: Tensor) -> Tensor:
    """residual + narrow(SiLU(widen(h)))."""
    if use_fused(h_nc) and h_nc.dtype == residual_nc.dtype == widen.weight.dtype:
        from voxlume.models import fused_mlp

        if fused_mlp.fits(h_nc):
            weights = (widen.weight, widen.bias, narrow.weight, narrow.bias)
            return fused_mlp.silu_mlp(h_nc, *weights, residual_nc)
    return silu_mlp_reference(h_nc, widen, narrow, residual_nc)


def silu_mlp_reference(h_nc: Tensor, widen: nn.Linear, narrow: nn.Linear, residual_nc: Tensor) -> Tensor:
    def mlp(rows: Tensor) -> Tensor:
        return narrow(F.silu(widen(rows), inplace=not torch.is_grad_enabled()))

    row_bytes = (widen.out_features + 2 * narrow.out_features) * h_nc.element_size()
    return residual_nc + in_chunks(mlp, h_nc, row_bytes)


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


# -- the choice of path ----------------------------------------------------------------------------


def fast_kernels(x: Tensor) -> ModuleType | None:
    """The module whose ``norm`` and ``heads`` serve this tensor, with gradients where they are wanted."""
    if use_fused(x):
        from voxlume.models import fused

        return fused
    if use_fused_training(x):
        from voxlume.models import fused_training

        return fused_training
    return None


def use_fused(x: Tensor) -> bool:
    """Whether the fused kernels serve this tensor: on CUDA, in half precision, without gradients."""
    if not x.is_cuda or x.dtype == torch.float32 or torch.is_grad_enabled() or not use_triton(x.device):
        return False
    return fused_kernels_are_right(x.device)


def use_fused_training(x: Tensor) -> bool:
    """Whether the fused kernels with gradients serve this tensor: on CUDA, where gradients are wanted."""
    if not torch.is_grad_enabled() or not use_triton(x.device, training=True):
        return False
    return fused_gradients_are_right(x.device)


def _product_dtype(x: Tensor) -> torch.dtype:
    """What a following linear layer would convert its input to."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


@cache
def fused_gradients_are_right(device: torch.device) -> bool:
    """Compare the kernels of training and their gradients with their twins, once; warn about a difference."""
    from voxlume.models import fused_training

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device).requires_grad_()

    # The first to ask may be a block that is to be recomputed: what is saved here must not count as saved by
    # the block, whose recomputation finds the answer ready.
    unseen = torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, lambda saved: saved)
    with torch.enable_grad(), torch.autocast(device.type, enabled=False), unseen:
        x, update, table, heads, gamma = (
            draw(37, 96),
            draw(37, 96),
            draw(2, 288),
            draw(37, 4, 24),
            draw(4, 24),
        )
        sample = (torch.arange(37) // 20).to(device)
        phases = rotary_phases(torch.arange(111).reshape(37, 3).to(device), 24)
        shift, scale, gate = table.chunk(3, dim=1)
        fast = (
            *fused_training.norm(
                x,
                NORM_EPS,
                update_nc=update,
                gate_bc=gate,
                weight_bc=scale,
                bias_bc=shift,
                one_plus=True,
                sample_n=sample,
            ),
            fused_training.heads(heads, gamma, phases.cos, phases.sin),
        )
        summed = gated_residual(x, update, gate, sample)
        twins = (
            summed,
            modulated_layer_norm_reference(summed, shift, scale, sample),
            normalized_heads_reference(heads, gamma, phases),
        )
        weights = [draw(*result.shape).detach() for result in twins]
        found = [
            [*results, *torch.autograd.grad(results, (x, update, table, heads, gamma), weights)]
            for results in (fast, twins)
        ]
    right = all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(*found, strict=True))
    if not right:
        warnings.warn(
            f"fused kernels give wrong gradients on {torch.cuda.get_device_name(device)}; using PyTorch",
            stacklevel=2,
        )
    return right


@cache
def fused_kernels_are_right(device: torch.device) -> bool:
    """Compare every fused kernel with its twin on this device, once; a difference is warned about."""
    from voxlume.models import fused, fused_mlp

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, torch.float16)

    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        x, shift, scale, gamma = draw(37, 96), draw(2, 96), draw(2, 96), draw(4, 24)
        sample = (torch.arange(37) // 20).to(device)
        phases = rotary_phases((torch.arange(111).reshape(37, 3)).to(device), 24)
        heads = x.unflatten(1, (4, 24))
        layer = nn.Linear(96, 64, device=device, dtype=torch.float16)
        pairs: tuple[tuple[Tensor, Tensor], ...] = (
            (
                fused.norm(x, NORM_EPS, weight_bc=scale, bias_bc=shift, one_plus=True, sample_n=sample)[1],
                modulated_layer_norm_reference(x, shift, scale, sample),
            ),
            (fused.norm(x, NORM_EPS, silu=True)[1], silu_norm_reference(x)),
            (
                fused.norm(x, FINAL_NORM_EPS, out_dtype=torch.float32)[1],
                plain_layer_norm(x.float(), FINAL_NORM_EPS),
            ),
            (
                fused.heads(heads, gamma, phases.cos, phases.sin),
                normalized_heads_reference(heads, gamma, phases),
            ),
            (
                torch._addmm_activation(layer.bias, x, layer.weight.t(), use_gelu=True),
                F.gelu(layer(x), approximate="tanh"),
            ),
        )
        for channels in (64, 128, 256):
            h, more = draw(150, channels), draw(150, channels)
            if fused_mlp.fits(h):
                widen = nn.Linear(channels, 128, device=device, dtype=torch.float16)
                narrow = nn.Linear(128, channels, device=device, dtype=torch.float16)
                weights = (widen.weight, widen.bias, narrow.weight, narrow.bias)
                expected = silu_mlp_reference(h, widen, narrow, more)
                # Twice: from the second time on launches are shorter.
                pairs += tuple((fused_mlp.silu_mlp(h, *weights, more), expected) for _ in range(2))
        right = all(torch.allclose(a.float(), b.float(), rtol=1e-2, atol=1e-2) for a, b in pairs)
    if not right:
        warnings.warn(
            f"fused kernels give wrong numbers on {torch.cuda.get_device_name(device)}; using plain PyTorch",
            stacklevel=2,
        )
    return right
