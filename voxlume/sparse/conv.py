"""Submanifold 3x3x3 convolution: outputs exist only where inputs do.

``out[p] = bias + sum over (i, j, k) of weight[:, i, j, k, :] . in[p + (i-1, j-1, k-1)]``; absent neighbours
contribute nothing (Graham et al., "3D Semantic Segmentation with Submanifold Sparse Convolutional
Networks", 2018). This module chooses the kernels and owns the gradient; the arithmetic is in
:mod:`voxlume.sparse.conv_reference` and :mod:`voxlume.sparse.conv_triton`, which have the same functions.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from voxlume.sparse import conv_reference
from voxlume.sparse.backend import use_triton
from voxlume.sparse.epilogue import Epilogue, finish
from voxlume.sparse.resample import Subdivision, channel_to_space
from voxlume.sparse.tensor import CoordinateSet, SparseTensor


def submanifold_conv3d(
    x: SparseTensor, weight: Tensor, bias: Tensor | None = None, then: Epilogue = None
) -> Tensor:
    """Convolve and return the new features; differentiable in features, weight and bias.

    Parameters
    ----------
    x : n voxels with ci channels. Their dtype is the dtype of the product (sums are kept in float32);
        weight and bias are cast to it, and under autocast all three to autocast's dtype.
    weight : (co, 3, 3, 3, ci), kernel axes x, y, z.
    bias : (co,)
    then : what to do with the result, in the same pass over it where no gradient is wanted.

    Returns
    -------
    (n, co)
    """
    features, weight, bias = _one_dtype(x.features, weight, bias)
    if _step_by_step(x.device):
        return finish(_SubmanifoldConv.apply(features, weight, bias, x.cache), then)
    return _kernels(features.device).forward(features, weight, bias, x.cache, then)


def submanifold_conv3d_to_children(
    x: SparseTensor, weight: Tensor, bias: Tensor | None, kept: Subdivision, then: Epilogue = None
) -> SparseTensor:
    """:func:`submanifold_conv3d` to 8 co channels, then channel-to-space to the kept children.

    In inference on CUDA what belongs to other children is never computed: about half of the work.

    Parameters
    ----------
    x : n voxels with ci channels; weight : (8 co, 3, 3, 3, ci), slot by slot; bias : (8 co,)
    then : what to do with the result on the children.

    Returns
    -------
    SparseTensor : the kept children with co channels.
    """
    if _step_by_step(x.device) or not use_triton(x.device):
        h = channel_to_space(x.with_features(submanifold_conv3d(x, weight, bias)), kept)
        return h.with_features(finish(h.features, then))
    from voxlume.sparse import conv_triton

    features, weight, bias = _one_dtype(x.features, weight, bias)
    return SparseTensor.on(
        kept.children, conv_triton.forward_to_children(features, weight, bias, kept.lineage, then)
    )


def _step_by_step(device: torch.device) -> bool:
    """Whether autograd, or autocast with its own mind about norms, has to see every operation."""
    return torch.is_grad_enabled() or torch.is_autocast_enabled(device.type)


class SubmanifoldConv3d(nn.Module):
    """Submanifold 3x3x3 convolution with parameters ``weight`` (co, 3, 3, 3, ci) and ``bias`` (co,)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(27 * self.weight.shape[-1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: SparseTensor, then: Epilogue = None) -> SparseTensor:
        return x.with_features(submanifold_conv3d(x, self.weight, self.bias, then))

    def to_children(self, x: SparseTensor, kept: Subdivision, then: Epilogue = None) -> SparseTensor:
        """Convolve and move the channels out to the kept children."""
        return submanifold_conv3d_to_children(x, self.weight, self.bias, kept, then)

    def extra_repr(self) -> str:
        co, _, _, _, ci = self.weight.shape
        return f"{ci}, {co}"


def _one_dtype(features: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    if torch.is_autocast_enabled(features.device.type):
        features = features.to(torch.get_autocast_dtype(features.device.type))
    return features, weight.to(features.dtype), None if bias is None else bias.to(features.dtype)


class _SubmanifoldConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, coordinates: CoordinateSet
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.coordinates, ctx.has_bias = coordinates, bias is not None
        return _kernels(features.device).forward(features, weight, bias, coordinates)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        kernels = _kernels(grad.device, training=True)
        grad = grad.contiguous()
        grad_features = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_features = kernels.forward(grad, _mirrored(weight), None, ctx.coordinates)
        if ctx.needs_input_grad[1]:
            grad_weight = kernels.grad_weight(features, grad, ctx.coordinates)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0, dtype=torch.promote_types(grad.dtype, torch.float32)).to(grad.dtype)
        return grad_features, grad_weight, grad_bias, None


def _kernels(device: torch.device, training: bool = False) -> ModuleType:
    """The module whose ``forward`` and ``grad_weight`` to call."""
    if use_triton(device, training):
        from voxlume.sparse import conv_triton

        return conv_triton
    return conv_reference


def _mirrored(weight: Tensor) -> Tensor:
    """The kernel whose convolution is the gradient of the input: (co, 3, 3, 3, ci) -> (ci, 3, 3, 3, co)."""
    return weight.flip(1, 2, 3).transpose(0, 4).contiguous()
