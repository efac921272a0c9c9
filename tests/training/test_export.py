"""A model folder written by training is one that the pipelines run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from voxlume.pipelines import stages
from voxlume.pipelines.checkpoint import load_network
from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions, SamplerOptions
from voxlume.pipelines.model_folder import Normalization
from voxlume.pipelines.presets import random_network, tiny
from voxlume.training import presets
from voxlume.training.export import for_inference, write_model
from voxlume.training.latents import Statistics
from voxlume.training.presets import STRUCTURE_ENCODER


def test_exported_model_generates(tmp_path: Path) -> None:
    torch.manual_seed(0)
    preset = tiny()
    networks = {key: random_network(config) for key, config in preset.networks.items()}
    networks[STRUCTURE_ENCODER] = random_network(presets.tiny().config(STRUCTURE_ENCODER))
    plain = Normalization((0.1,) * 8, (0.9,) * 8)
    statistics = Statistics(plain, plain, tuple(np.linspace(0.5, 2, 8)))
    write_model(preset, networks, statistics, tmp_path / "model", {"training": {"flows": {"steps": 1}}})
    pipeline = ImageTo3D.from_pretrained(tmp_path / "model", device="cpu")
    assert pipeline.folder.config.shape_normalization == plain
    # The structure decoder takes the flow's latents as they are: their scale is in its weights.
    latent = torch.randn(1, 8, 4, 4, 4)
    with torch.no_grad():
        expected = networks[stages.STRUCTURE_DECODER](
            latent * torch.tensor(statistics.structure_scale, dtype=torch.float32).reshape(1, -1, 1, 1, 1)
        )
    found = pipeline.folder.load(stages.STRUCTURE_DECODER, None, torch.device("cpu"))(latent)
    assert torch.allclose(found, expected, atol=1e-4)
    # So does the encoder: both together are the autoencoder that was trained.
    occupied = (torch.rand(1, 1, 16, 16, 16) < 0.2).float()
    with torch.no_grad():
        mean, log_variance = networks[STRUCTURE_ENCODER](occupied)
        load = load_network(tmp_path / "model" / "ckpts" / STRUCTURE_ENCODER)
        scaled, scaled_log_variance = load(occupied)
    scale = torch.tensor(statistics.structure_scale, dtype=torch.float32).reshape(1, -1, 1, 1, 1)
    assert torch.allclose(scaled * scale, mean, atol=1e-4)
    assert torch.allclose((0.5 * scaled_log_variance).exp() * scale, (0.5 * log_variance).exp(), atol=1e-4)
    few = SamplerOptions(steps=2)
    options = ImageTo3DOptions(
        pipeline_type="32", structure_sampler=few, shape_sampler=few, material_sampler=few
    )
    picture = np.full((64, 64, 3), 128, np.uint8)
    result = pipeline.run(picture, options)[0]
    assert result.ovoxel.resolution == 32
    assert result.ovoxel.attributes is not None
    assert np.isfinite(result.ovoxel.dual_vertices).all()


def test_copies_leave_training_alone() -> None:
    torch.manual_seed(0)
    network = random_network(tiny().networks[stages.SHAPE_DECODER])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    copied = for_inference(network)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
