"""The sizes of whole models, and model folders of random or trained weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from voxlume.errors import VoxlumeError
from voxlume.files import atomic_write
from voxlume.flow.sampler import PUBLISHED_MATERIAL, PUBLISHED_SHAPE, PUBLISHED_STRUCTURE, SamplingParameters
from voxlume.models.camera_head import CameraHeadConfig
from voxlume.models.flow_transformer import FlowTransformerConfig
from voxlume.models.image_encoder import ImageEncoderConfig
from voxlume.models.published import NetworkConfig, build
from voxlume.models.sc_vae import DecoderConfig, EncoderConfig, ScVaeDecoder
from voxlume.models.structure_vae import StructureDecoder, StructureDecoderConfig
from voxlume.pipelines import stages
from voxlume.pipelines.checkpoint import save_network
from voxlume.pipelines.model_folder import CAMERA_HEAD, IMAGE_ENCODER, IMAGE_TO_3D, TEXTURING, Normalization

OCCUPIED_SHARE = 0.02
"""Of the structure's cells with random weights: a hundred or so, so that every stage has work but little."""

SUBDIVISION_BIAS = 0.5
"""Makes a random decoder keep most children, so that neighbours meet and form faces."""


@dataclass(frozen=True)
class Preset:
    """All networks of a model and how they fit together; resolutions as in :class:`.PipelineConfig`.

    A preset without high-resolution networks has no cascade: its base resolution is what it makes.
    """

    networks: dict[str, NetworkConfig]
    base_resolution: int
    image_sizes: tuple[int, int]
    latent_channels: int
    structure_sampler: SamplingParameters = PUBLISHED_STRUCTURE
    shape_sampler: SamplingParameters = PUBLISHED_SHAPE
    material_sampler: SamplingParameters = PUBLISHED_MATERIAL
    mend: bool = False

    @property
    def default_type(self) -> str:
        """The best pipeline type that its networks allow."""
        if stages.SHAPE_FLOWS[1] in self.networks:
            return f"{2 * self.base_resolution}_cascade"
        return str(self.base_resolution)


def tiny() -> Preset:
    """A model whose largest network has a hundred thousand weights; grids are a sixteenth of the published.

    Base resolution 32: structure latents on 4^3, structures on 16^3, O-Voxel on 32, 64 and up to 128.
    """
    condition, latent = 32, 8
    flow: dict[str, Any] = {"width": 48, "heads": 2, "blocks": 2, "mlp_ratio": 2.0, "precision": "float32"}
    flow |= {"condition_width": condition, "out_channels": latent}
    levels: dict[str, Any] = {
        "latent_channels": latent,
        "residual": ("convnext",) * 3,
        "resample": ("autoencoding",) * 2,
        "precision": "float32",
    }
    decoder: dict[str, Any] = levels | {"channels": (32, 16, 8), "blocks": (1, 1, 0)}
    networks: dict[str, NetworkConfig] = {
        IMAGE_ENCODER: ImageEncoderConfig(
            width=condition, blocks=2, heads=2, mlp_width=64, registers=8, stem=(8, 16)
        ),
        CAMERA_HEAD: CameraHeadConfig(condition, queries=2, values=8, hidden=16, precision="float32"),
        stages.STRUCTURE_FLOW: FlowTransformerConfig(grid="dense", in_channels=latent, resolution=4, **flow),
        stages.STRUCTURE_DECODER: StructureDecoderConfig(
            channels=(32, 16, 8), blocks_per_level=1, middle_blocks=1
        ),
        stages.SHAPE_ENCODER: EncoderConfig(channels=(8, 16, 32), blocks=(0, 1, 1), **levels),
        stages.SHAPE_DECODER: DecoderConfig(resolution=32, **decoder),
        stages.MATERIAL_DECODER: DecoderConfig(
            content="material", out_channels=6, predicts_masks=False, **decoder
        ),
    }
    for high, grid in enumerate((8, 16)):
        networks[stages.SHAPE_FLOWS[high]] = FlowTransformerConfig(
            in_channels=latent, resolution=grid, **flow
        )
        networks[stages.MATERIAL_FLOWS[high]] = FlowTransformerConfig(
            in_channels=2 * latent, resolution=grid, **flow
        )
    return Preset(networks, base_resolution=32, image_sizes=(64, 128), latent_channels=latent)


def nano() -> Preset:
    """The bundled model: the published kind of networks at 256^3, 16 times compressed, within 80 MB of fp16.

    Structure latents on 8^3, structures on 32^3, O-Voxel on 256. It has an image encoder of its own, which
    takes pictures of 256 pixels, and no networks for a higher resolution. Its transformers are told absolute
    positions, which the published ones work out from rotary ones alone. Materials go through pooling: with
    so few channels the shortcuts of residual autoencoding carry one value a voxel, and colours are learned
    late (`benchmarks/notes/training.md`).
    """
    condition, latent = 256, 32
    flow: dict[str, Any] = {"width": 256, "heads": 4, "mlp_ratio": 4.0, "precision": "float16"}
    flow |= {"condition_width": condition, "absolute_positions": True}
    levels: dict[str, Any] = {
        "latent_channels": latent,
        "residual": ("convnext",) * 5,
        "resample": ("autoencoding",) * 4,
    }
    decoder: dict[str, Any] = levels | {"channels": (128, 64, 64, 32, 16)}
    networks: dict[str, NetworkConfig] = {
        IMAGE_ENCODER: ImageEncoderConfig(
            width=condition,
            blocks=6,
            heads=4,
            mlp_width=4 * condition,
            registers=64,
            absolute_positions=True,
            stem=(32, 64, 96, 192),
            precision="float16",
        ),
        CAMERA_HEAD: CameraHeadConfig(condition),
        stages.STRUCTURE_FLOW: FlowTransformerConfig(
            grid="dense", in_channels=8, out_channels=8, resolution=8, blocks=6, **flow
        ),
        stages.STRUCTURE_DECODER: StructureDecoderConfig(
            channels=(64, 32, 16), blocks_per_level=1, middle_blocks=1, precision="float16"
        ),
        stages.SHAPE_FLOWS[0]: FlowTransformerConfig(
            in_channels=latent, out_channels=latent, resolution=16, blocks=8, **flow
        ),
        stages.SHAPE_ENCODER: EncoderConfig(channels=(16, 32, 64, 64, 128), blocks=(0, 1, 1, 1, 1), **levels),
        stages.SHAPE_DECODER: DecoderConfig(resolution=256, blocks=(4, 4, 3, 2, 0), **decoder),
        stages.MATERIAL_FLOWS[0]: FlowTransformerConfig(
            in_channels=2 * latent, out_channels=latent, resolution=16, blocks=4, **flow
        ),
        stages.MATERIAL_DECODER: DecoderConfig(
            content="material",
            out_channels=6,
            predicts_masks=False,
            blocks=(1, 2, 2, 1, 0),
            **levels | {"channels": (128, 96, 64, 32, 32), "resample": ("pooling",) * 4},
        ),
    }
    return Preset(
        networks,
        base_resolution=256,
        image_sizes=(256, 256),
        latent_channels=latent,
        # Chosen on held-out objects (`benchmarks/notes/training.md`).
        structure_sampler=replace(PUBLISHED_STRUCTURE, steps=6, guidance_rescale=0.0, votes=6, mirrored=True),
        shape_sampler=replace(PUBLISHED_SHAPE, steps=8, guidance_strength=1.0, temperature=0.8),
        material_sampler=replace(PUBLISHED_MATERIAL, steps=2, votes=4),
        mend=True,
    )


def published() -> Preset:
    """The sizes of the published model, 4 B weights in all: O-Voxel on 512, 1024 and above."""
    networks: dict[str, NetworkConfig] = {
        IMAGE_ENCODER: ImageEncoderConfig(),
        stages.STRUCTURE_FLOW: FlowTransformerConfig(
            grid="dense", in_channels=8, out_channels=8, resolution=16
        ),
        stages.STRUCTURE_DECODER: StructureDecoderConfig(precision="float16"),
        stages.SHAPE_ENCODER: EncoderConfig(),
        stages.SHAPE_DECODER: DecoderConfig(),
        stages.MATERIAL_DECODER: DecoderConfig(content="material", out_channels=6, predicts_masks=False),
    }
    for high, grid in enumerate((32, 64)):
        networks[stages.SHAPE_FLOWS[high]] = FlowTransformerConfig(resolution=grid)
        networks[stages.MATERIAL_FLOWS[high]] = FlowTransformerConfig(in_channels=64, resolution=grid)
    return Preset(networks, base_resolution=512, image_sizes=(512, 1024), latent_channels=32)


PRESETS: dict[str, Callable[[], Preset]] = {"tiny": tiny, "nano": nano, "published": published}


def write_model(preset: Preset, folder: str | Path, seed: int = 0) -> None:
    """Write a complete model folder in the published layout, its weights drawn from ``seed``.

    Raises
    ------
    VoxlumeError : the folder exists and is not empty, or cannot be written.
    """
    folder = new_folder(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for key, config in preset.networks.items():
            save_network(random_network(config), folder / "ckpts" / key)
        shape, material = (_random_normalization(preset.latent_channels) for _ in range(2))
    write_descriptions(preset, folder, shape, material)


def new_folder(folder: str | Path) -> Path:
    """An empty model folder with room for its networks in ``ckpts``.

    Raises
    ------
    VoxlumeError : the folder exists and is not empty, or cannot be made.
    """
    folder = Path(folder)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise VoxlumeError(f"{folder} already holds something; choose a new folder")
        (folder / "ckpts").mkdir(parents=True)
    except OSError as error:
        raise VoxlumeError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    return folder


def write_descriptions(
    preset: Preset, folder: Path, shape: Normalization, material: Normalization, extra: Mapping[str, Any] = {}
) -> None:
    """The JSON files of both pipelines, for networks that lie in the folder's ``ckpts``.

    Parameters
    ----------
    shape, material : statistics of the latents.
    extra : further entries of the files, which readers leave alone.
    """
    for name in (IMAGE_TO_3D, TEXTURING):
        description = _description(preset, shape, material, name) | dict(extra)
        with atomic_write(folder / name) as file:
            file.write((json.dumps(description, indent=1) + "\n").encode())


def random_network(config: NetworkConfig) -> nn.Module:
    """A network in which no branch is silent, and whose decoders keep a plausible number of voxels."""
    network = build(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("weight") and not parameter.any():
                # A layer that training starts from zero: give it a small part to play.
                parameter.normal_(std=0.3 / parameter[0].numel() ** 0.5)
        if isinstance(network, StructureDecoder):
            _calibrate_occupancy(network)
        if isinstance(network, ScVaeDecoder):
            for name, parameter in network.named_parameters():
                if name.endswith("subdivision.bias"):
                    parameter.fill_(SUBDIVISION_BIAS)
    return network.eval()


def _calibrate_occupancy(network: StructureDecoder) -> None:
    """Shift the logits so that of a random latent the wanted share of cells is occupied."""
    logits = network(torch.randn(1, network.config.latent_channels, 8, 8, 8))
    assert network.output.bias is not None
    network.output.bias -= torch.quantile(logits, 1 - OCCUPIED_SHARE)


def _random_normalization(channels: int) -> Normalization:
    mean, std = 0.1 * torch.randn(channels), 0.8 + 0.4 * torch.rand(channels)
    return Normalization(tuple(mean.tolist()), tuple(std.tolist()))


def _description(
    preset: Preset, shape: Normalization, material: Normalization, pipeline: str
) -> dict[str, Any]:
    texturing = pipeline == TEXTURING
    only_texturing = {stages.SHAPE_ENCODER}  # other encoders are named in both: whoever measures finds them
    only_generating = {CAMERA_HEAD, stages.STRUCTURE_FLOW, stages.STRUCTURE_DECODER, stages.SHAPE_DECODER}
    left_out = (only_generating | set(stages.SHAPE_FLOWS)) if texturing else only_texturing
    args: dict[str, Any] = {
        "models": {key: f"ckpts/{key}" for key in preset.networks if key not in left_out},
        "tex_slat_sampler": _sampler(preset.material_sampler),
        "shape_slat_normalization": _statistics(shape),
        "tex_slat_normalization": _statistics(material),
        "image_cond_model": {"name": "ImageEncoder", "args": {"image_sizes": list(preset.image_sizes)}},
        "base_resolution": preset.base_resolution,
    }
    if not texturing:
        args["sparse_structure_sampler"] = _sampler(preset.structure_sampler)
        args["shape_slat_sampler"] = _sampler(preset.shape_sampler)
        args["default_pipeline_type"] = preset.default_type
        if preset.mend:
            args["mend"] = True
    return {"name": "TexturingPipeline" if texturing else "ImageTo3DPipeline", "args": args}


def _statistics(normalization: Normalization) -> dict[str, list[float]]:
    return {"mean": list(normalization.mean), "std": list(normalization.std)}


def _sampler(parameters: SamplingParameters) -> dict[str, Any]:
    return {
        "name": "FlowEulerGuidanceIntervalSampler",
        "args": {"sigma_min": parameters.sigma_min},
        "params": {
            "steps": parameters.steps,
            "guidance_strength": parameters.guidance_strength,
            "guidance_rescale": parameters.guidance_rescale,
            "guidance_interval": list(parameters.guidance_interval),
            "rescale_t": parameters.rescale_t,
            "votes": parameters.votes,
            **({"mirrored": True} if parameters.mirrored else {}),
            **({"temperature": parameters.temperature} if parameters.temperature != 1 else {}),
        },
    }
