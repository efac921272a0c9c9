"""Run as a script: the fused kernels of training and their gradients against the twins; device and dtype.

On a CPU this needs ``TRITON_INTERPRET=1`` in the environment before Python starts. The dtype is that of
updates and results; the tokens themselves are float32, as in training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from voxlume.models import fused_training
from voxlume.models.layers import NORM_EPS, normalized_heads_reference, of_tokens, rotary_phases

Chain = Callable[..., tuple[Tensor, ...]]


def compare(what: str, fast: Chain, twin: Chain, inputs: list[Tensor], half: torch.dtype) -> None:
    """Results and gradients of both, the gradients of the same random weighting of all results."""
    found = []
    for chain in (fast, twin):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        results = chain(*leaves)
        weights = [
            torch.randn(r.shape, generator=torch.Generator().manual_seed(i)) for i, r in enumerate(results)
        ]
        pairs = zip(results, weights, strict=True)
        sum((r.float() * w.to(r.device)).sum() for r, w in pairs).backward()  # type: ignore[union-attr]
        found.append([*results, *(leaf.grad for leaf in leaves)])
    for number, (actual, expected) in enumerate(zip(*found, strict=True)):
        assert actual is not None, f"{what}: no gradient {number}"
        assert expected is not None
        tolerance = 2e-5 if half == torch.float32 else 2e-2
        error = float(
            (actual - expected).detach().float().abs().max() / expected.detach().float().abs().max()
        )
        assert actual.shape == expected.shape, f"{what} {number}"
        assert actual.dtype == expected.dtype, f"{what} {number}"
        assert error < tolerance, f"{what} {number}: {error}"


def check_norms(draw: Callable[..., Tensor], lengths: list[int], channels: int, half: torch.dtype) -> None:
    n, b = sum(lengths), len(lengths)
    sample = torch.repeat_interleave(torch.arange(b), torch.tensor(lengths)).to(draw(1).device)
    x, update = draw(n, channels), draw(n, channels, dtype=half)
    table = draw(b, 6 * channels)
    weight, bias = draw(1, channels), draw(1, channels)

    def parts(table: Tensor) -> tuple[Tensor, ...]:
        return table.chunk(6, dim=1)[1:4]

    def plain(x: Tensor, weight: Tensor, bias: Tensor, one: int) -> Tensor:
        return (F.layer_norm(x, x.shape[1:], eps=NORM_EPS) * (one + weight) + bias).to(half)

    def modulated(x: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        shift, scale, _ = parts(table)
        return fused_training.norm(
            x, NORM_EPS, weight_bc=scale, bias_bc=shift, one_plus=True, sample_n=sample, out_dtype=half
        )[1:]

    def modulated_twin(x: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        shift, scale, _ = (of_tokens(t, sample) for t in parts(table))
        return (plain(x, scale, shift, 1),)

    compare("modulated norm", modulated, modulated_twin, [x, table], half)

    def gated(x: Tensor, update: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        shift, scale, gate = parts(table)
        return fused_training.norm(
            x,
            NORM_EPS,
            update_nc=update,
            gate_bc=gate,
            weight_bc=scale,
            bias_bc=shift,
            one_plus=True,
            sample_n=sample,
            out_dtype=half,
        )

    def gated_twin(x: Tensor, update: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        shift, scale, gate = (of_tokens(t, sample) for t in parts(table))
        x = x + update * gate
        return x, plain(x, scale, shift, 1)

    compare("gated residual", gated, gated_twin, [x, update, table], half)

    def affine(x: Tensor, update: Tensor, table: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        return fused_training.norm(
            x,
            NORM_EPS,
            update_nc=update,
            gate_bc=parts(table)[2],
            weight_bc=weight,
            bias_bc=bias,
            sample_n=sample,
            out_dtype=half,
        )

    def affine_twin(
        x: Tensor, update: Tensor, table: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, ...]:
        x = x + update * of_tokens(parts(table)[2], sample)
        return x, plain(x, weight, bias, 0)

    compare("affine norm", affine, affine_twin, [x, update, table, weight, bias], half)

    def silu(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        both = (
            fused_training.norm(x, NORM_EPS, weight_bc=weight, bias_bc=bias, silu=True, out_dtype=half),
            fused_training.norm(x, NORM_EPS, silu=True, out_dtype=half),
        )
        return both[0][1], both[1][1]

    def silu_twin(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        plain = F.layer_norm(x, x.shape[1:], eps=NORM_EPS)
        return F.silu(plain * weight + bias).to(half), F.silu(plain).to(half)

    compare("silu norm", silu, silu_twin, [x, weight, bias], half)

    def ungated(x: Tensor, update: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        return fused_training.norm(
            x, NORM_EPS, update_nc=update, weight_bc=weight, bias_bc=bias, out_dtype=half
        )

    def ungated_twin(x: Tensor, update: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        x = x + update
        return x, plain(x, weight, bias, 0)

    compare("one row for all", ungated, ungated_twin, [x, update, weight, bias], half)


def main(device: str, half: torch.dtype) -> None:
    torch.manual_seed(0)
    if device == "cpu":
        fused_training.PROGRAMS = 12  # the interpreter runs them one after another

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape).to(device, dtype)

    for lengths, channels in (([5], 24), ([20, 1, 50], 96), ([3, 60], 256)):
        check_norms(draw, lengths, channels, half)
    for count, width in ((2, 44), (4, 64), (3, 6)):
        joint, gamma = draw(70, 3, count, width, dtype=half), draw(count, width)
        phases = rotary_phases(torch.randint(0, 64, (70, 3)).to(device), width)
        for turned in (phases, None):
            angles = (None, None) if turned is None else (turned.cos, turned.sin)

            def fast(joint: Tensor, gamma: Tensor) -> tuple[Tensor, ...]:
                return (fused_training.heads(joint[:, 1], gamma, *angles),)  # noqa: B023

            def twin(joint: Tensor, gamma: Tensor) -> tuple[Tensor, ...]:
                return (normalized_heads_reference(joint[:, 1], gamma, turned),)  # noqa: B023

            compare("heads", fast, twin, [joint, gamma], half)


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
