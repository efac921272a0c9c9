"""Rows of one tensor in the order of another: the one primitive of all resampling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from voxlume.sparse.backend import use_triton


def gather_rows(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """``out[i] = x[index[i]]``, zeros where the index is -1; differentiable in x.

    Parameters
    ----------
    x : (m, c); index : int32 (n,), no row twice.
    inverse : int32 (m,), where each row of x goes, -1 for nowhere; the gradient is gathered by it.

    Returns
    -------
    (n, c)
    """
    return _GatherRows.apply(x, index, inverse)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse, index)
        return _gather(x, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        inverse, index = ctx.saved_tensors
        return gather_rows(grad, inverse, index), None, None


def _gather(x: Tensor, index: Tensor) -> Tensor:
    if use_triton(x.device):
        from voxlume.sparse import lineage_triton as fast

        return fast.gather_rows(x.contiguous(), index)
    return gather_rows_reference(x, index)


def gather_rows_reference(x: Tensor, index: Tensor) -> Tensor:
    if len(x) == 0:
        return x.new_zeros((len(index), x.shape[1]))
    out = x.index_select(0, index.clamp(min=0).long())
    return out.masked_fill_((index < 0).unsqueeze(1), 0)
