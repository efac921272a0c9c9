"""Run as a script: every fused kernel against its twin; the arguments are device and dtype.

On a CPU this needs ``TRITON_INTERPRET=1`` in the environment before Python starts.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from voxlume.models import fused, fused_mlp
from voxlume.models.layers import (
    FINAL_NORM_EPS,
    NORM_EPS,
    modulated_layer_norm_reference,
    normalized_heads_reference,
    plain_layer_norm,
    rotary_phases,
    silu_mlp_reference,
    silu_norm_reference,
)


def check(what: str, actual: Tensor, expected: Tensor) -> None:
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[expected.dtype]
    error = float((actual.float() - expected.float()).abs().max() / expected.float().abs().max())
    assert actual.shape == expected.shape, what
    assert actual.dtype == expected.dtype, what
    assert error < tolerance, f"{what}: {error}"


@torch.no_grad()
def main(device: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape).to(device, dtype)

    for n, channels in ((0, 64), (1, 24), (37, 96), (70, 1536)):
        if n == 0:
            assert fused.norm(draw(0, channels), NORM_EPS)[1].shape == (0, channels)
            continue
        x, update = draw(n, channels), draw(n, channels)
        # Slices of a wider table, as the modulation is.
        shift, scale, gate = draw(2, 6 * channels).chunk(6, dim=1)[1:4]
        sample = (torch.arange(n) * 2 // n).to(device)
        norm = nn.LayerNorm(channels, eps=NORM_EPS).to(device, dtype)
        norm.weight.copy_(draw(channels))
        norm.bias.copy_(draw(channels))
        for rows, of in ((sample, slice(None)), (None, slice(1))):
            modulation = {"weight_bc": scale[of], "bias_bc": shift[of], "one_plus": True, "sample_n": rows}
            expected = modulated_layer_norm_reference(x, shift[of], scale[of], rows)
            check("modulated norm", fused.norm(x, NORM_EPS, **modulation)[1], expected)
            summed, normed = fused.norm(x, NORM_EPS, update_nc=update, **modulation)
            check("residual", summed, x + update)
            expected = modulated_layer_norm_reference(x + update, shift[of], scale[of], rows)
            check("residual norm", normed, expected)
        summed, normed = fused.norm(x, NORM_EPS, update_nc=update[:1])
        check("one row for all", summed, x + update[:1])
        affine = {"weight_bc": norm.weight[None], "bias_bc": norm.bias[None]}
        summed, normed = fused.norm(x, NORM_EPS, update_nc=update, gate_bc=gate[:1], **affine)
        check("gated residual", summed, torch.addcmul(x, update, gate[:1]))
        check("gated residual norm", normed, norm(torch.addcmul(x, update, gate[:1])))
        check("silu norm", fused.norm(x, NORM_EPS, silu=True, **affine)[1], silu_norm_reference(x, norm))
        expected = plain_layer_norm(x.float(), FINAL_NORM_EPS)
        check("final norm", fused.norm(x, FINAL_NORM_EPS, out_dtype=torch.float32)[1], expected)
        check("silu plain norm", fused.norm(x, NORM_EPS, silu=True)[1], silu_norm_reference(x))
    for heads, width in ((2, 44), (12, 128), (3, 6)):
        joint = draw(17, 3, heads, width)
        gamma, phases = draw(heads, width), rotary_phases(torch.randint(0, 64, (17, 3)).to(device), width)
        for x in joint.unbind(1):
            expected = normalized_heads_reference(x, gamma, phases)
            check("rotated heads", fused.heads(x, gamma, phases.cos, phases.sin), expected)
            check("heads", fused.heads(x, gamma, None, None), normalized_heads_reference(x, gamma, None))
    # Products of float32 may be rounded to TF32 there: the kernel is for half precision.
    half = torch.float16 if dtype == torch.float32 else dtype
    for n, channels, hidden in ((1, 64, 64), (150, 64, 192), (130, 128, 128)):
        h, residual = draw(n, channels).to(half), draw(n, channels).to(half)
        widen = nn.Linear(channels, hidden).to(device, half)
        narrow = nn.Linear(hidden, channels).to(device, half)
        if fused_mlp.fits(h):
            weights = (widen.weight, widen.bias, narrow.weight, narrow.bias)
            expected = silu_mlp_reference(h, widen, narrow, residual)
            check("SiLU MLP", fused_mlp.silu_mlp(h, *weights, residual), expected)
    assert not fused.heads(
        torch.zeros(1, 2, 8, device=device), torch.ones(2, 8, device=device), None, None
    ).any()


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
