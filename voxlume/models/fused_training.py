"""Triton kernels with gradients for the element-wise chains of a transformer block, for training.

The twins are the plain chains of :mod:`voxlume.models.layers`. Arithmetic is float32. Gradients of the rows
that a whole sample shares (modulation, gates) are summed in a fixed order, without atomics: a resumed run
repeats them bit for bit.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.models import fused
from voxlume.sparse.backend import cdiv, next_power_of_2

TILE = 2048
"""Elements a program holds of every tensor: whole rows, several where rows are short."""

PROGRAMS = 528
"""Programs among which a backward pass divides the rows: four for each multiprocessor of a large card."""


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
    """:func:`.fused.norm` with gradients for every tensor; ``sample_n`` is ascending."""
    tables, choices = (gate_bc, weight_bc, bias_bc), (eps, one_plus, silu, out_dtype)
    if update_nc is None:
        return x_nc, _Norm.apply(x_nc, None, *tables, sample_n, *choices)
    return _Norm.apply(x_nc, update_nc.expand_as(x_nc), *tables, sample_n, *choices)


def heads(x_nhd: Tensor, gamma_hd: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """:func:`.fused.heads` with gradients for x and gamma."""
    return _Heads.apply(x_nhd, gamma_hd, cos, sin)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_nc: Tensor,
        update_nc: Tensor | None,
        gate_bc: Tensor | None,
        weight_bc: Tensor | None,
        bias_bc: Tensor | None,
        sample_n: Tensor | None,
        eps: float,
        one_plus: bool,
        silu: bool,
        out_dtype: torch.dtype | None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        summed, out = fused.norm(
            x_nc,
            eps,
            weight_bc=weight_bc,
            bias_bc=bias_bc,
            one_plus=one_plus,
            silu=silu,
            update_nc=update_nc,
            gate_bc=gate_bc,
            sample_n=sample_n,
            out_dtype=out_dtype,
        )
        ctx.save_for_backward(summed, update_nc, gate_bc, weight_bc, bias_bc, sample_n)
        ctx.eps, ctx.one_plus, ctx.silu = eps, one_plus, silu
        return out if update_nc is None else (summed, out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        summed, update, gate, weight, bias, sample = ctx.saved_tensors
        d_summed, d_out = (None, *grads)[-2:]
        update = None if update is None else update.contiguous()
        n, channels = summed.shape
        samples = max((len(t) for t in (gate, weight, bias) if t is not None), default=1)
        if samples == 1:
            starts = torch.tensor([0, n], device=summed.device)
        else:
            starts = torch.searchsorted(sample, torch.arange(samples + 1, device=summed.device))
        splits = max(1, PROGRAMS // samples)
        block = next_power_of_2(channels)
        d_x = torch.empty_like(summed)
        d_update = None if update is None else torch.empty_like(update)
        parts = torch.empty((3, samples, splits, channels), dtype=torch.float32, device=summed.device)
        _backward_kernel[(samples, splits)](
            summed,
            _or(update, summed),
            _or(gate, summed),
            _or(weight, summed),
            _or(bias, summed),
            summed if d_summed is None else d_summed.contiguous(),
            summed if d_out is None else d_out.contiguous(),
            starts,
            d_x,
            _or(d_update, d_x),
            parts,
            _row_stride(gate),
            _row_stride(weight),
            _row_stride(bias),
            ctx.eps,
            CHANNELS=channels,
            BLOCK=block,
            ROWS=max(1, TILE // block),
            UPDATE=update is not None,
            GATE=gate is not None,
            WEIGHT=weight is not None,
            BIAS=bias is not None,
            ONE_PLUS=ctx.one_plus,
            SILU=ctx.silu,
            SUMMED=d_summed is not None,
            OUT=d_out is not None,
            num_warps=4,
        )
        sums = parts.sum(2)
        gradients = [
            None if table is None else _as_rows(sums[i], table)
            for i, table in enumerate((gate, weight, bias))
        ]
        return (d_x, d_update, *gradients, None, None, None, None, None)


def _or(tensor: Tensor | None, instead: Tensor) -> Tensor:
    return instead if tensor is None else tensor


def _row_stride(table: Tensor | None) -> int:
    return 0 if table is None or len(table) == 1 else table.stride(0)


def _as_rows(sums_bc: Tensor, table: Tensor) -> Tensor:
    """The gradient of a table with a row for each sample, or with one for all."""
    if len(table) < len(sums_bc):
        sums_bc = sums_bc.sum(0, keepdim=True)
    return sums_bc.to(table.dtype)


@triton.jit
def _backward_kernel(
    summed_ptr,
    update_ptr,
    gate_ptr,
    weight_ptr,
    bias_ptr,
    d_summed_ptr,
    d_out_ptr,
    starts_ptr,
    d_x_ptr,
    d_update_ptr,
    parts_ptr,
    gate_stride,
    weight_stride,
    bias_stride,
    eps,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    UPDATE: tl.constexpr,
    GATE: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    ONE_PLUS: tl.constexpr,
    SILU: tl.constexpr,
    SUMMED: tl.constexpr,
    OUT: tl.constexpr,
):
    """One part of a sample's rows; what its rows share goes to ``parts`` (gate, weight, bias)."""
    sample, split = tl.program_id(0), tl.program_id(1)
    samples, splits = tl.num_programs(0), tl.num_programs(1)
    start, end = tl.load(starts_ptr + sample), tl.load(starts_ptr + sample + 1)
    share = tl.cdiv(end - start, splits)
    first = start + split * share
    last = tl.minimum(first + share, end)
    column = tl.arange(0, BLOCK)
    known = column < CHANNELS
    if GATE:
        gate = tl.load(gate_ptr + sample * gate_stride + column, mask=known, other=0.0).to(tl.float32)
    if WEIGHT:
        weight = tl.load(weight_ptr + sample * weight_stride + column, mask=known, other=0.0).to(tl.float32)
        if ONE_PLUS:
            weight += 1
    if SILU and BIAS:
        bias = tl.load(bias_ptr + sample * bias_stride + column, mask=known, other=0.0).to(tl.float32)
    d_gate = tl.zeros((ROWS, BLOCK), tl.float32)
    d_weight = tl.zeros((ROWS, BLOCK), tl.float32)
    d_bias = tl.zeros((ROWS, BLOCK), tl.float32)
    for begin in range(first, last, ROWS):
        row = begin + tl.arange(0, ROWS)
        inside = (row < last)[:, None] & known[None, :]
        at = row.to(tl.int64)[:, None] * CHANNELS + column[None, :]
        if SUMMED:
            d_x = tl.load(d_summed_ptr + at, mask=inside, other=0.0).to(tl.float32)
        else:
            d_x = tl.zeros((ROWS, BLOCK), tl.float32)
        if OUT:
            x = tl.load(summed_ptr + at, mask=inside, other=0.0).to(tl.float32)
            mean = tl.sum(x, axis=1) / CHANNELS
            centred = tl.where(inside, x - mean[:, None], 0.0)
            rate = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / CHANNELS + eps)
            y = centred * rate[:, None]
            d_y = tl.load(d_out_ptr + at, mask=inside, other=0.0).to(tl.float32)
            if SILU:
                z = y
                if WEIGHT:
                    z *= weight[None, :]
                if BIAS:
                    z += bias[None, :]
                sigmoid = 1 / (1 + tl.exp(-z))
                d_y *= sigmoid * (1 + z * (1 - sigmoid))
            d_weight += d_y * y
            d_bias += d_y
            if WEIGHT:
                d_y *= weight[None, :]
            along = tl.sum(d_y * y, axis=1) / CHANNELS
            average = tl.sum(d_y, axis=1) / CHANNELS
            d_x += rate[:, None] * (d_y - average[:, None] - y * along[:, None])
        tl.store(d_x_ptr + at, d_x.to(d_x_ptr.dtype.element_ty), mask=inside)
        if UPDATE:
            d_update = d_x
            if GATE:
                d_gate += d_x * tl.load(update_ptr + at, mask=inside, other=0.0).to(tl.float32)
                d_update = d_x * gate[None, :]
            tl.store(d_update_ptr + at, d_update.to(d_update_ptr.dtype.element_ty), mask=inside)
    part = (sample * splits + split) * CHANNELS + column
    apart = samples * splits * CHANNELS
    tl.store(parts_ptr + part, tl.sum(d_gate, axis=0), mask=known)
    tl.store(parts_ptr + apart + part, tl.sum(d_weight, axis=0), mask=known)
    tl.store(parts_ptr + 2 * apart + part, tl.sum(d_bias, axis=0), mask=known)


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_nhd: Tensor, gamma_hd: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_nhd, gamma_hd, cos, sin)
        return fused.heads(x_nhd, gamma_hd, cos, sin)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Any:
        x, gamma, cos, sin = ctx.saved_tensors
        n, h, d = x.shape
        d_x = torch.empty((n, h, d), dtype=x.dtype, device=x.device)
        head_block, pair_block = next_power_of_2(h), next_power_of_2(d // 2)
        rows = max(1, TILE // (2 * head_block * pair_block))
        programs = max(1, min(PROGRAMS, cdiv(n, rows)))
        parts = torch.empty((programs, h, d), dtype=torch.float32, device=x.device)
        _heads_backward_kernel[(programs,)](
            x,
            gamma,
            gamma if cos is None else cos,
            gamma if sin is None else sin,
            d_out.contiguous(),
            d_x,
            parts,
            n,
            x.stride(0),
            x.stride(1),
            HEADS=h,
            WIDTH=d,
            HEAD_BLOCK=head_block,
            PAIR_BLOCK=pair_block,
            ROWS=rows,
            ROTATE=cos is not None,
            num_warps=4,
        )
        return d_x, parts.sum(0).to(gamma.dtype), None, None


@triton.jit
def _heads_backward_kernel(
    x_ptr,
    gamma_ptr,
    cos_ptr,
    sin_ptr,
    d_out_ptr,
    d_x_ptr,
    parts_ptr,
    n,
    row_stride,
    head_stride,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    PAIR_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    ROTATE: tl.constexpr,
):
    """Rows of a fixed share of the tokens; gamma's gradient goes to ``parts``, one for each program."""
    LINES: tl.constexpr = ROWS * HEAD_BLOCK  # every head of every row of a tile
    line = tl.arange(0, LINES)
    head = line % HEAD_BLOCK
    channel = tl.arange(0, 2 * PAIR_BLOCK)
    pair = tl.arange(0, PAIR_BLOCK)
    known = (head < HEADS)[:, None] & (channel < WIDTH)[None, :]
    gamma = tl.load(gamma_ptr + head[:, None] * WIDTH + channel[None, :], mask=known, other=0.0).to(
        tl.float32
    )
    d_gamma = tl.zeros((LINES, 2 * PAIR_BLOCK), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(n, ROWS), tl.num_programs(0)):
        row = tile * ROWS + line // HEAD_BLOCK
        inside = known & (row < n)[:, None]
        at = row.to(tl.int64)[:, None] * (HEADS * WIDTH) + head[:, None] * WIDTH + channel[None, :]
        d_y = tl.load(d_out_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if ROTATE:
            turn = row.to(tl.int64)[:, None] * (WIDTH // 2) + pair[None, :]
            turned = (row < n)[:, None] & (pair < WIDTH // 2)[None, :]
            cos = tl.load(cos_ptr + turn, mask=turned, other=1.0)
            sin = tl.load(sin_ptr + turn, mask=turned, other=0.0)
            even, odd = tl.split(tl.reshape(d_y, (LINES, PAIR_BLOCK, 2)))
            d_y = tl.reshape(tl.join(even * cos + odd * sin, odd * cos - even * sin), (LINES, 2 * PAIR_BLOCK))
        x = tl.load(
            x_ptr + row.to(tl.int64)[:, None] * row_stride + head[:, None] * head_stride + channel[None, :],
            mask=inside,
            other=0.0,
        ).to(tl.float32)
        rate = 1 / tl.sqrt(tl.sum(x * x, axis=1) / WIDTH + 1e-24)
        y = x * rate[:, None]
        d_gamma += d_y * y
        d_y *= gamma
        along = tl.sum(d_y * y, axis=1) / WIDTH
        d_x = rate[:, None] * (d_y - y * along[:, None])
        tl.store(d_x_ptr + at, d_x.to(d_x_ptr.dtype.element_ty), mask=inside)
    summed = tl.sum(tl.reshape(d_gamma, (ROWS, HEAD_BLOCK, 2 * PAIR_BLOCK)), axis=0)
    each = tl.arange(0, HEAD_BLOCK)
    tl.store(
        parts_ptr + tl.program_id(0) * HEADS * WIDTH + each[:, None] * WIDTH + channel[None, :],
        summed,
        mask=(each < HEADS)[:, None] & (channel < WIDTH)[None, :],
    )
