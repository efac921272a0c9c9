"""Triton kernel for the MLP of the SC-VAE's blocks; twin of :func:`.layers.silu_mlp_reference`.

Where channels are few and voxels many, an MLP spends more time on writing, reading and activating its four
times wider hidden rows than on its products. Here they never leave the chip. Inference only.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.sparse.backend import cdiv
from voxlume.sparse.launch import aligned, launch

try:
    from triton.tools.tensor_descriptor import TensorDescriptor
except ImportError:  # Triton before 3.4
    TensorDescriptor = None

ROWS, STEP = 128, 64
"""Rows of a program, hidden channels of a step."""


def fits(h_nc: Tensor) -> bool:
    """Whether :func:`silu_mlp` serves these rows: its blocks fill Hopper's registers and shared memory."""
    if TensorDescriptor is None or h_nc.dtype.itemsize != 2 or h_nc.shape[1] not in (64, 128, 256):
        return False
    return not h_nc.is_cuda or _is_hopper(h_nc.device)


@cache
def _is_hopper(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device)[0] == 9


def silu_mlp(
    h_nc: Tensor, widen: Tensor, widen_bias: Tensor, narrow: Tensor, narrow_bias: Tensor, residual_nc: Tensor
) -> Tensor:
    """residual + narrow @ SiLU(widen @ h).

    Parameters
    ----------
    h_nc, residual_nc : (n, c) as :func:`fits` wants them.
    widen : (m, c), m a multiple of 64; narrow : (c, m); their biases (m,) and (c,).

    Returns
    -------
    (n, c)
    """
    n, channels = h_nc.shape
    out = torch.empty_like(h_nc)
    if n:
        # Two programs on a multiprocessor: one multiplies while the other is at its exponentials.
        registers = {"maxnreg": 128} if channels == 128 else {}
        h_nc, residual_nc = h_nc.contiguous(), residual_nc.contiguous()
        same = aligned(h_nc, widen_bias, narrow_bias, residual_nc)
        launch(
            _silu_mlp_kernel,
            cdiv(n, ROWS),
            ("mlp", h_nc.device, h_nc.dtype, channels, len(widen)) if same else None,
            (
                h_nc,
                TensorDescriptor.from_tensor(widen, [STEP, channels]),
                widen_bias,
                TensorDescriptor.from_tensor(narrow, [channels, STEP]),
                narrow_bias,
                residual_nc,
                out,
                n,
                len(widen),
                channels,
                ROWS,
                STEP,
            ),
            num_warps=8,
            num_stages=2,
            **registers,
        )
    return out


@triton.jit(do_not_specialize=["n"])
def _silu_mlp_kernel(
    h_ptr,
    widen,
    widen_bias,
    narrow,
    narrow_bias,
    residual_ptr,
    out_ptr,
    n,
    HIDDEN: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, CHANNELS)
    hidden = tl.arange(0, STEP)
    inside = (row < n)[:, None]
    at = row.to(tl.int64)[:, None] * CHANNELS + column[None, :]
    h = tl.load(h_ptr + at, mask=inside, other=0.0)
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for first in range(0, HIDDEN, STEP):
        # Rounded where the twin rounds: after each product and after the activation.
        wide = tl.dot(h, widen.load([first, 0]).T)
        wide += tl.load(widen_bias + first + hidden).to(tl.float32)[None, :]
        wide = wide.to(h.dtype).to(tl.float32)
        wide = (wide / (1 + tl.exp(-wide))).to(h.dtype)
        total = tl.dot(wide, narrow.load([0, first]).T, total)
    total += tl.load(narrow_bias + column).to(tl.float32)[None, :]
    residual = tl.load(residual_ptr + at, mask=inside, other=0.0).to(tl.float32)
    result = total.to(h.dtype).to(tl.float32) + residual
    tl.store(out_ptr + at, result.to(out_ptr.dtype.element_ty), mask=inside)
