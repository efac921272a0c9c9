"""Gradients reach every parameter, with and without recomputing the blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

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


def flow_loss(network: nn.Module) -> Tensor:
    condition = [torch.ones(3, 12), torch.ones(5, 12)]
    return network(voxels(4), torch.tensor([100.0, 900.0]), condition).features.square().mean()


def encoder_loss(network: nn.Module) -> Tensor:
    mean, log_variance = network(voxels(6))
    return mean.features.square().mean() + log_variance.features.square().mean()


def decoder_loss(network: nn.Module) -> Tensor:
    fine = voxels(1).cache
    parents = CoordinateSet(
        torch.unique(torch.cat([fine.coords[:, :1], fine.coords[:, 1:] >> 2], 1), dim=0), 2
    )
    latent = SparseTensor.on(parents, torch.ones(len(parents), 4))
    decoded = network(latent, subdivision_masks(latent, fine, 2))
    return decoded.output.features.square().mean() + sum(x.features.square().mean() for x in decoded.logits)


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
        lambda network: network(torch.ones(1, 1, 8, 8, 8))[0].square().mean(),
    ),
    "structure decoder": (
        lambda: StructureDecoder(StructureDecoderConfig(channels=(8, 4), blocks_per_level=1)),
        lambda network: network(torch.ones(1, 8, 4, 4, 4)).square().mean(),
    ),
    "image encoder": (
        lambda: ImageEncoder(ImageEncoderConfig(width=16, blocks=2, heads=2, mlp_width=24)),
        lambda network: (network(torch.ones(1, 3, 32, 48)) * torch.linspace(0, 1, 16)).square().mean(),
    ),
}


def gradients(network: nn.Module, loss: Callable[[nn.Module], Tensor]) -> dict[str, Tensor]:
    network.zero_grad()
    loss(network).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_has_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    build, loss = CASES[name]
    network = build()
    with torch.no_grad():  # away from the zeros that residual branches begin with
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    plain = gradients(network, loss)
    assert plain.keys() == dict(network.named_parameters()).keys()
    assert all(g.isfinite().all() and g.any() for g in plain.values())
    if hasattr(network, "checkpointing"):
        network.checkpointing = True
        recomputed = gradients(network, loss)
        assert all(torch.allclose(recomputed[key], plain[key], atol=1e-7) for key in plain)


def test_gradient_flows_back_to_the_latent() -> None:
    network = CASES["decoder"][0]()
    latent = voxels(4, 4)
    features = latent.features.requires_grad_()
    network(latent.with_features(features)).output.features.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_fresh_flow_network_predicts_zero() -> None:
    assert not FlowTransformer(FLOW)(voxels(4), torch.ones(2), torch.ones(2, 3, 12)).features.any()
