"""Gradients reach every parameter: with and without recomputing the blocks, in full and half precision."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.interpreter import interpreted, needs_gpu, needs_triton
from voxlume.models.flow_transformer import FlowTransformer, FlowTransformerConfig
from voxlume.models.image_encoder import ImageEncoder, ImageEncoderConfig
from voxlume.models.sc_vae import DecoderConfig, EncoderConfig, ScVaeDecoder, ScVaeEncoder
from voxlume.models.structure_vae import (
    StructureDecoder,
    StructureDecoderConfig,
    StructureEncoder,
    StructureEncoderConfig,
)
from voxlume.models.subdivision import subdivision_masks
from voxlume.sparse import SparseTensor
from voxlume.sparse.tensor import CoordinateSet
from voxlume.training.precision import autocast_blocks

FLOW = FlowTransformerConfig(
    in_channels=4, out_channels=4, width=32, condition_width=12, blocks=2, heads=2, precision="float32"
)
OWN_MODULATION = FlowTransformerConfig(
    in_channels=4, out_channels=4, width=32, condition_width=12, blocks=2, heads=2, shared_modulation=False
)


def voxels(channels: int, grid: int = 8) -> SparseTensor:
    generator = torch.Generator().manual_seed(0)
    occupied = torch.rand(2, grid, grid, grid, generator=generator) < 0.2
    coords = occupied.nonzero().to(torch.int32)
    return SparseTensor(coords, torch.randn(len(coords), channels, generator=generator), 2)


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def flow_loss(network: nn.Module) -> Tensor:
    device, generator = device_of(network), torch.Generator().manual_seed(1)
    condition = [torch.randn(count, 12, generator=generator).to(device) for count in (3, 5)]
    x, times = voxels(4, 4).to(device), torch.tensor([100.0, 900.0], device=device)
    return network(x, times, condition).features.square().mean()


def encoder_loss(network: nn.Module) -> Tensor:
    mean, log_variance = network(voxels(6).to(device_of(network)))
    return mean.features.square().mean() + log_variance.features.square().mean()


def decoder_loss(network: nn.Module) -> Tensor:
    fine = voxels(1).to(device_of(network)).cache
    parents = CoordinateSet(
        torch.unique(torch.cat([fine.coords[:, :1], fine.coords[:, 1:] >> 2], 1), dim=0), 2
    )
    latent = SparseTensor.on(parents, torch.ones(len(parents), 4, device=parents.coords.device))
    decoded = network(latent, subdivision_masks(latent, fine, 2))
    return decoded.output.features.square().mean() + sum(x.features.square().mean() for x in decoded.logits)


def image_loss(network: nn.Module) -> Tensor:
    picture, weights = torch.ones(1, 3, 32, 48), torch.linspace(0, 1, 16)
    return (network(picture.to(device_of(network))) * weights.to(device_of(network))).square().mean()


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor]]] = {
    "flow": (lambda: FlowTransformer(FLOW), flow_loss),
    "flow, own modulation": (lambda: FlowTransformer(OWN_MODULATION), flow_loss),
    "encoder": (
        lambda: ScVaeEncoder(
            EncoderConfig(
                latent_channels=4,
                channels=(8, 16, 24),
                blocks=(1, 1, 1),
                residual=("convnext", "plain", "convnext"),
                resample=("autoencoding", "pooling"),
            )
        ),
        encoder_loss,
    ),
    "decoder": (
        lambda: ScVaeDecoder(
            DecoderConfig(
                latent_channels=4,
                channels=(24, 16, 8),
                blocks=(1, 1, 1),
                residual=("convnext", "plain", "convnext"),
                resample=("pooling", "autoencoding"),
            )
        ),
        decoder_loss,
    ),
    "structure encoder": (
        lambda: StructureEncoder(StructureEncoderConfig(channels=(4, 8), blocks_per_level=1)),
        lambda network: network(torch.ones(1, 1, 8, 8, 8, device=device_of(network)))[0].square().mean(),
    ),
    "structure decoder": (
        lambda: StructureDecoder(StructureDecoderConfig(channels=(8, 4), blocks_per_level=1)),
        lambda network: network(torch.ones(1, 8, 4, 4, 4, device=device_of(network))).square().mean(),
    ),
    "image encoder": (
        lambda: ImageEncoder(ImageEncoderConfig(width=16, blocks=2, heads=2, mlp_width=24)),
        image_loss,
    ),
}


def gradients(network: nn.Module, loss: Callable[[nn.Module], Tensor]) -> dict[str, Tensor]:
    network.zero_grad()
    loss(network).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def off_zero(name: str) -> nn.Module:
    """The network of a case, away from the zeros that residual branches begin with."""
    torch.manual_seed(0)
    network = CASES[name][0]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Of the parameter whose gradients differ most, over the largest of its gradients."""
    assert found.keys() == expected.keys()
    return max(float((found[key] - expected[key]).abs().max() / expected[key].abs().max()) for key in found)


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_has_a_gradient(name: str) -> None:
    network, loss = off_zero(name), CASES[name][1]
    plain = gradients(network, loss)
    assert plain.keys() == dict(network.named_parameters()).keys()
    assert all(g.isfinite().all() and g.any() for g in plain.values())
    if hasattr(network, "checkpointing"):
        network.checkpointing = True
        recomputed = gradients(network, loss)
        assert all(torch.allclose(recomputed[key], plain[key], atol=1e-7) for key in plain)


@pytest.mark.parametrize("name", CASES)
def test_the_sum_through_the_blocks_stays_float32(name: str) -> None:
    network, loss = off_zero(name), CASES[name][1]
    full = gradients(network, loss)
    autocast_blocks(network, torch.bfloat16)
    dtypes: set[torch.dtype] = set()

    def leaves(block: nn.Module, arguments: Any, out: Any) -> None:
        tokens = out[0] if isinstance(out, tuple) else out
        dtypes.add(tokens.dtype)

    for block in network.modules():
        if "forward" in vars(block):  # it runs under autocast
            block.register_forward_hook(leaves)
    half = gradients(network, loss)
    assert dtypes == {torch.float32}
    assert 0 < difference(half, full) < 0.3
    if hasattr(network, "checkpointing"):
        network.checkpointing = True
        assert difference(gradients(network, loss), half) < 1e-5


@needs_triton
def test_fused_kernels_may_be_recomputed() -> None:
    interpreted("-m", "tests.models.recomputation_with_fused_kernels", "cpu")


@pytest.mark.gpu
@needs_gpu
def test_fused_kernels_may_be_recomputed_compiled() -> None:
    import_module("tests.models.recomputation_with_fused_kernels").main("cuda")


def test_gradient_flows_back_to_the_latent() -> None:
    network = CASES["decoder"][0]()
    latent = voxels(4, 4)
    features = latent.features.requires_grad_()
    network(latent.with_features(features)).output.features.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_fresh_flow_network_predicts_zero() -> None:
    assert not FlowTransformer(FLOW)(voxels(4), torch.ones(2), torch.ones(2, 3, 12)).features.any()
