"""A model of random weights that lives in memory: the pipelines' own code at any size, without files."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxlume.errors import ModelFileError
from voxlume.models.flow_transformer import FlowTransformerConfig
from voxlume.models.image_encoder import ImageEncoderConfig
from voxlume.models.precision import DTYPES, set_block_dtype
from voxlume.models.published import NetworkConfig, build
from voxlume.models.sc_vae import DecoderConfig, EncoderConfig
from voxlume.models.structure_vae import StructureDecoder, StructureDecoderConfig
from voxlume.pipelines import stages
from voxlume.pipelines.checkpoint import with_weights
from voxlume.pipelines.model_folder import IMAGE_ENCODER, ModelFolder, Normalization, PipelineConfig


def published_networks() -> dict[str, NetworkConfig]:
    """All networks of both published pipelines, at their sizes and precisions."""
    flow = FlowTransformerConfig()
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
    for shape, material in zip(stages.SHAPE_FLOWS, stages.MATERIAL_FLOWS, strict=True):
        networks[shape] = flow
        networks[material] = FlowTransformerConfig(in_channels=64)
    return networks


class RandomModel(ModelFolder):
    """Stands in for a model folder.

    Weights are drawn on the device when first needed and kept in main memory, from where they are
    loaded again after they had to leave: what a mapped file in the system's cache is to a model folder.
    """

    def __init__(
        self, networks: dict[str, NetworkConfig], base_resolution: int, image_sizes: tuple[int, int]
    ) -> None:
        latent = next(c.latent_channels for c in networks.values() if isinstance(c, DecoderConfig))
        plain = Normalization((0.0,) * latent, (1.0,) * latent)
        config = PipelineConfig(
            dict.fromkeys(networks, ""),
            shape_normalization=plain,
            material_normalization=plain,
            base_resolution=base_resolution,
            image_sizes=image_sizes,
        )
        self.config = config
        self.networks = networks
        self.host: dict[str, dict[str, Tensor]] = {}

    def __str__(self) -> str:
        return "random model"

    def network_config(self, key: str) -> NetworkConfig:
        return self.networks[key]

    def weight_count(self, key: str) -> int:
        return sum(value.numel() for value in build(self.networks[key], "meta").state_dict().values())

    def load(self, key: str, dtype: torch.dtype | None, device: torch.device) -> nn.Module:
        if key not in self.networks:
            raise ModelFileError(f"no network {key}")
        network = build(self.networks[key], "meta")
        if device.type != "cpu":
            set_block_dtype(network, dtype or DTYPES[self.networks[key].precision])
        if key not in self.host:
            network.to_empty(device=device)
            with torch.no_grad():
                for parameter in network.parameters():
                    fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
                    parameter.normal_(std=fan_in**-0.5)
                if isinstance(network, StructureDecoder):  # an empty structure would end the run
                    nn.init.constant_(network.get_submodule("output").bias, 1.0)
            self.host[key] = {name: value.cpu() for name, value in network.state_dict().items()}
            return network.eval()
        return with_weights(network, self.host[key], device)
