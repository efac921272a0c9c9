"""Triton kernels for the element-wise chains of :mod:`voxlume.models.layers`, which holds their twins.

All arithmetic is float32; values are rounded where the twins round them, so that both paths differ by no more
than the order of a sum. :mod:`voxlume.models.fused_training` adds the gradients.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.sparse.backend import cdiv, next_power_of_2
from voxlume.sparse.conv_triton import normalized

TILE = 4096
"""Elements a program works on: whole rows, several where rows are short."""


def norm(
    x_nc: Tensor,
    eps: float,
    *,
    weight_bc: Tensor | None = None,
    bias_bc: Tensor | None = None,
    one_plus: bool = False,
    silu: bool = False,
    update_nc: Tensor | None = None,
    gate_bc: Tensor | None = None,
    sample_n: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """x' = x + gate * update, and act(LN(x') * weight + bias).

    Parameters
    ----------
    weight_bc, bias_bc, gate_bc : one row for all tokens (1, c) or one per sample; None leaves it out. Weight
        and bias are of one kind. Those with a row per sample may be slices of one wider tensor.
    one_plus : multiply by 1 + weight.
    silu : apply SiLU at the end.
    update_nc : one row per token, or a single row (1, c) for all.
    sample_n : int64 (n,), which row belongs to each token; None where there is one row.

    Returns
    -------
    x' (``x_nc`` itself without an update) and the normed values, both (n, c) in the dtype of x, the
    normed values in ``out_dtype`` if given.
    """
    x_nc = x_nc.contiguous()
    n, channels = x_nc.shape
    out = torch.empty_like(x_nc, dtype=out_dtype)
    summed = torch.empty_like(x_nc) if update_nc is not None else x_nc
    if n:
        block = next_power_of_2(channels)
        rows = max(1, TILE // block)
        tables = [t for t in (weight_bc, bias_bc, gate_bc) if t is not None]
        table = max(tables, key=len, default=x_nc)
        _norm_kernel[(cdiv(n, rows),)](
            x_nc,
            x_nc if update_nc is None else update_nc.contiguous(),
            table if gate_bc is None else gate_bc,
            table if weight_bc is None else weight_bc,
            table if bias_bc is None else bias_bc,
            x_nc if sample_n is None else sample_n,
            summed,
            out,
            n,
            table.stride(0),
            eps,
            CHANNELS=channels,
            BLOCK=block,
            ROWS=rows,
            UPDATE=update_nc is not None,
            ONE_UPDATE=update_nc is not None and len(update_nc) == 1,
            GATE=gate_bc is not None,
            WEIGHT=weight_bc is not None,
            BIAS=bias_bc is not None,
            SAMPLE=sample_n is not None,
            AFFINE_SAMPLE=sample_n is not None
            and all(len(t) > 1 for t in (weight_bc, bias_bc) if t is not None),
            ONE_PLUS=one_plus,
            SILU=silu,
            num_warps=8 if block * rows >= 2048 else 4,
        )
    return summed, out


@triton.jit
def _norm_kernel(
    x_ptr,
    update_ptr,
    gate_ptr,
    weight_ptr,
    bias_ptr,
    sample_ptr,
    summed_ptr,
    out_ptr,
    n,
    table_stride,
    eps,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    UPDATE: tl.constexpr,
    ONE_UPDATE: tl.constexpr,
    GATE: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    SAMPLE: tl.constexpr,
    AFFINE_SAMPLE: tl.constexpr,
    ONE_PLUS: tl.constexpr,
    SILU: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = (row < n)[:, None] & (column < CHANNELS)[None, :]
    at = row.to(tl.int64)[:, None] * CHANNELS + column[None, :]
    first = row * 0
    if SAMPLE:
        first = tl.load(sample_ptr + row, mask=row < n, other=0) * table_stride
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if UPDATE:
        if ONE_UPDATE:
            update = _of_rows(update_ptr, first, column, CHANNELS, False)
        else:
            update = tl.load(update_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if GATE:
            update *= _of_rows(gate_ptr, first, column, CHANNELS, SAMPLE)
        rounded = (x + update).to(summed_ptr.dtype.element_ty)
        tl.store(summed_ptr + at, rounded, mask=inside)
        x = rounded.to(tl.float32)
    y = normalized(x, column < CHANNELS, CHANNELS, eps)
    if WEIGHT:
        weight = _of_rows(weight_ptr, first, column, CHANNELS, AFFINE_SAMPLE)
        if ONE_PLUS:
            weight += 1
        y *= weight
    if BIAS:
        y += _of_rows(bias_ptr, first, column, CHANNELS, AFFINE_SAMPLE)
    if SILU:
        y = y / (1 + tl.exp(-y))
    tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _of_rows(table, first, column, CHANNELS: tl.constexpr, SAMPLE: tl.constexpr):
    """Each row's part of a table, from ``first`` on; read once for all rows where there is one sample."""
    if SAMPLE:
        known = (first >= 0)[:, None] & (column < CHANNELS)[None, :]
        values = tl.load(table + first[:, None] + column[None, :], mask=known, other=0.0)
    else:
        values = tl.load(table + column, mask=column < CHANNELS, other=0.0)[None, :]
    return values.to(tl.float32)


def heads(x_nhd: Tensor, gamma_hd: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """RMS norm of every head and rotation of adjacent channel pairs.

    Parameters
    ----------
    x_nhd : (n, h, d), d even; may be a slice of a joint tensor as long as channels are adjacent.
    gamma_hd : (h, d).
    cos, sin : float32 (n, 1, d / 2), or None for no rotation.

    Returns
    -------
    (n, h, d), contiguous, in the dtype of x.
    """
    n, h, d = x_nhd.shape
    out = torch.empty((n, h, d), dtype=x_nhd.dtype, device=x_nhd.device)
    if n:
        _heads_kernel[(n,)](
            x_nhd,
            gamma_hd,
            gamma_hd if cos is None else cos,
            gamma_hd if sin is None else sin,
            out,
            x_nhd.stride(0),
            x_nhd.stride(1),
            HEADS=h,
            WIDTH=d,
            HEAD_BLOCK=next_power_of_2(h),
            PAIR_BLOCK=next_power_of_2(d // 2),
            ROTATE=cos is not None,
            num_warps=4,
        )
    return out


@triton.jit
def _heads_kernel(
    x_ptr,
    gamma_ptr,
    cos_ptr,
    sin_ptr,
    out_ptr,
    row_stride,
    head_stride,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    PAIR_BLOCK: tl.constexpr,
    ROTATE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEAD_BLOCK)
    channel = tl.arange(0, 2 * PAIR_BLOCK)
    pair = tl.arange(0, PAIR_BLOCK)
    inside = (head < HEADS)[:, None] & (channel < WIDTH)[None, :]
    x = tl.load(
        x_ptr + row * row_stride + head[:, None] * head_stride + channel[None, :], mask=inside, other=0.0
    ).to(tl.float32)
    square = tl.sum(x * x, axis=1) / WIDTH
    gamma = tl.load(gamma_ptr + head[:, None] * WIDTH + channel[None, :], mask=inside, other=0.0)
    y = x * (1 / tl.sqrt(square + 1e-24))[:, None] * gamma.to(tl.float32)
    if ROTATE:
        even, odd = tl.split(tl.reshape(y, (HEAD_BLOCK, PAIR_BLOCK, 2)))
        known = pair < WIDTH // 2
        cos = tl.load(cos_ptr + row * (WIDTH // 2) + pair, mask=known, other=1.0)[None, :]
        sin = tl.load(sin_ptr + row * (WIDTH // 2) + pair, mask=known, other=0.0)[None, :]
        y = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (HEAD_BLOCK, 2 * PAIR_BLOCK))
    at = row * HEADS * WIDTH + head[:, None] * WIDTH + channel[None, :]
    tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=inside)
