"""The convolution against PyTorch's dense one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from voxlume.sparse import SparseTensor, SubmanifoldConv3d, memory_budget, submanifold_conv3d


def random_tensor(channels: int, dtype: torch.dtype = torch.float64, batch: int = 2) -> SparseTensor:
    random = torch.Generator().manual_seed(0)
    coords = (torch.rand((batch, 6, 7, 8), generator=random) < 0.35).nonzero().int()
    return SparseTensor(coords, torch.randn((len(coords), channels), generator=random).to(dtype), batch)


def random_kernel(ci: int, co: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    weight = torch.randn((co, 3, 3, 3, ci), generator=random).to(dtype)
    return weight, torch.randn(co, generator=random).to(dtype)


def dense(x: SparseTensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    b, i, j, k = x.coords.long().unbind(1)
    grid = x.features.new_zeros((x.batch_size, x.channels, 6, 7, 8))
    grid[b, :, i, j, k] = x.features
    return F.conv3d(grid, weight.permute(0, 4, 1, 2, 3), bias, padding=1)[b, :, i, j, k]


@pytest.mark.parametrize("with_bias", [True, False])
def test_agrees_with_dense_convolution(with_bias: bool) -> None:
    x = random_tensor(5)
    weight, bias = random_kernel(5, 7)
    chosen = bias if with_bias else None
    torch.testing.assert_close(submanifold_conv3d(x, weight, chosen), dense(x, weight, chosen))


def test_gradients_agree_with_dense_convolution() -> None:
    x = random_tensor(4)
    inputs = [t.requires_grad_() for t in (x.features.clone(), *random_kernel(4, 3))]
    seed = torch.randn(len(x), 3, dtype=torch.float64)
    sparse = submanifold_conv3d(x.with_features(inputs[0]), inputs[1], inputs[2])
    expected = dense(x.with_features(inputs[0]), inputs[1], inputs[2])
    for got, want in zip(
        torch.autograd.grad(sparse, inputs, seed), torch.autograd.grad(expected, inputs, seed), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_chunks_under_a_memory_budget_change_nothing() -> None:
    x = random_tensor(4, torch.float32, batch=8)
    assert len(x) > 3 * 256  # the smallest chunk has 256 rows
    weight, bias = random_kernel(4, 3, torch.float32)
    whole = submanifold_conv3d(x, weight, bias)
    with memory_budget(1e-9):
        torch.testing.assert_close(submanifold_conv3d(x, weight, bias), whole, rtol=1e-6, atol=1e-6)


def test_half_precision_sums_in_float32() -> None:
    x = random_tensor(64, torch.float16)
    weight, bias = random_kernel(64, 8, torch.float16)
    out = submanifold_conv3d(x, weight, bias)
    wide = submanifold_conv3d(x.to(dtype=torch.float64), weight.double(), bias.double())
    assert out.dtype == torch.float16
    # One rounding at the end is at most half a unit in the last place: 2^-11 of the value.
    torch.testing.assert_close(out.double(), wide, rtol=2**-11, atol=2e-4)


def test_a_batch_gives_what_singles_give() -> None:
    x = random_tensor(4)
    weight, bias = random_kernel(4, 3)
    together = x.with_features(submanifold_conv3d(x, weight, bias)).samples()
    for (coords, features), (_, expected) in zip(x.samples(), together, strict=True):
        single = SparseTensor.from_samples([(coords, features)])
        torch.testing.assert_close(submanifold_conv3d(single, weight, bias), expected)


def test_module_and_autocast() -> None:
    conv = SubmanifoldConv3d(4, 3)
    assert {name: tuple(p.shape) for name, p in conv.named_parameters()} == {
        "weight": (3, 3, 3, 3, 4),
        "bias": (3,),
    }
    x = random_tensor(4, torch.float32)
    out = conv(x)
    assert out.cache is x.cache
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
    out.features.sum().backward()
    assert conv.weight.grad is not None


def test_no_voxels() -> None:
    x = SparseTensor(torch.zeros((0, 4), dtype=torch.int32), torch.zeros((0, 4)))
    assert SubmanifoldConv3d(4, 3)(x).features.shape == (0, 3)
