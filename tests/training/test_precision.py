"""Half precision inside the blocks, float32 around them and in the sum that runs through them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.interpreter import interpreted, needs_triton
from tests.training.test_stages import vae
from voxlume.models.published import build
from voxlume.sparse import conv_reference
from voxlume.sparse.tensor import SparseTensor
from voxlume.training.precision import autocast_blocks
from voxlume.training.presets import PRESETS, published
from voxlume.training.sc_vae import ShapeVaeStage


def test_blocks_compute_in_half_precision(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = vae("shape_vae", store)
    assert isinstance(stage, ShapeVaeStage)
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = stage.prepare(0, 1)
    stage.rendering_on = False
    plain = stage(batch)
    dtypes: set[torch.dtype] = set()
    inside: set[torch.dtype] = set()

    def between(module: nn.Module, arguments: Any, out: SparseTensor) -> None:
        dtypes.add(out.features.dtype)

    def convolved(features: Tensor, *arguments: Any) -> Tensor:
        inside.add(features.dtype)
        return convolve(features, *arguments)

    convolve = conv_reference.forward
    monkeypatch.setattr(conv_reference, "forward", convolved)
    for network in stage.networks().values():
        autocast_blocks(network, torch.bfloat16)
        for level in network.blocks:  # type: ignore[union-attr]
            for block in level:
                block.register_forward_hook(between)
    batch = stage.prepare(0, 1)
    half = stage(batch)
    half["loss"].backward()
    assert dtypes == {torch.float32}
    assert inside == {torch.bfloat16}
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in stage.parameters())
    assert float(half["loss"].detach()) == pytest.approx(float(plain["loss"].detach()), rel=0.02)
    assert not torch.equal(half["loss"], plain["loss"])


@needs_triton
def test_every_stage_takes_steps_as_on_cuda(store: Path, tmp_path: Path) -> None:
    interpreted("-m", "tests.training.stages_as_on_cuda", str(store), str(tmp_path))


def test_published_sizes_can_be_built() -> None:
    sizes = published()
    counts = {}
    for key in (*sizes.model.networks, *sizes.encoders):
        network = build(sizes.config(key), "meta")
        counts[key] = sum(p.numel() for p in network.parameters()) / 1e6
    assert counts["shape_slat_encoder"] == pytest.approx(354, abs=1)
    assert counts["shape_slat_decoder"] == pytest.approx(474, abs=1)
    assert counts["shape_slat_flow_model_1024"] == pytest.approx(1290, abs=10)
    assert sizes.structure_grid == 64


def test_the_bundled_model_is_small() -> None:
    sizes = PRESETS["nano"]()
    weights = sum(
        p.numel() for config in sizes.model.networks.values() for p in build(config, "meta").parameters()
    )
    assert 2 * weights < 80e6
    assert sizes.structure_grid == 32
