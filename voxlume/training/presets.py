"""Whole training runs: ``nano`` and its ablation, the published sizes, and ``tiny`` to try the code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from voxlume.models.published import NetworkConfig
from voxlume.models.sc_vae import DecoderConfig, EncoderConfig, ResampleKind
from voxlume.models.structure_vae import StructureDecoderConfig, StructureEncoderConfig
from voxlume.pipelines import presets, stages
from voxlume.pipelines.presets import Preset
from voxlume.training.config import (
    CameraHeadStageConfig,
    FlowConfig,
    ImageEncoderStageConfig,
    LoopConfig,
    MaterialVaeConfig,
    RenderingLoss,
    ShapeVaeConfig,
    StructureVaeConfig,
)

STRUCTURE_ENCODER = "sparse_structure_encoder"
MATERIAL_ENCODER = "tex_slat_encoder"
"""Keys of networks that training and evaluation need and generating does not."""


@dataclass(frozen=True)
class TrainingPreset:
    """A model and how each of its stages is trained.

    Attributes
    ----------
    model : the finished model.
    encoders : further networks, by key.
    image_encoder : None for a ready-made one.
    camera_head : None for a model without.
    """

    model: Preset
    encoders: dict[str, NetworkConfig]
    shape_vae: ShapeVaeConfig
    material_vae: MaterialVaeConfig
    structure_vae: StructureVaeConfig
    flows: FlowConfig
    image_encoder: ImageEncoderStageConfig | None = None
    camera_head: CameraHeadStageConfig | None = None

    def config(self, key: str) -> NetworkConfig:
        """A network's sizes, of the model's or the other ones."""
        return self.encoders[key] if key in self.encoders else self.model.networks[key]

    @property
    def structure_grid(self) -> int:
        """The grid of the structures: what the structure decoder makes of the flow's latents."""
        flow = self.model.networks[stages.STRUCTURE_FLOW]
        decoder = self.model.networks[stages.STRUCTURE_DECODER]
        assert isinstance(decoder, StructureDecoderConfig)
        return flow.resolution << (len(decoder.channels) - 1)  # type: ignore[union-attr]


def _encoders(model: Preset, **material: Any) -> dict[str, NetworkConfig]:
    """A structure encoder that mirrors the decoder, and a material encoder like the shape's but for
    ``material``."""
    decoder, shape = model.networks[stages.STRUCTURE_DECODER], model.networks[stages.SHAPE_ENCODER]
    assert isinstance(decoder, StructureDecoderConfig)
    assert isinstance(shape, EncoderConfig)
    structure = StructureEncoderConfig(
        in_channels=decoder.out_channels,
        latent_channels=decoder.latent_channels,
        channels=decoder.channels[::-1],
        blocks_per_level=decoder.blocks_per_level,
        middle_blocks=decoder.middle_blocks,
        precision=decoder.precision,
    )
    like = replace(shape, content="material", in_channels=6, **material)
    return {STRUCTURE_ENCODER: structure, MATERIAL_ENCODER: like}


def tiny() -> TrainingPreset:
    """A hundred thousand weights on a grid of 32: learns nothing useful, quickly."""
    model = presets.tiny()
    quick = LoopConfig(
        batch_size=4, learning_rate=2e-3, ema=0.95, precision="float32", check_every=4, looks=2
    )
    return TrainingPreset(
        model,
        _encoders(model),
        ShapeVaeConfig(quick, vertex=1.0),
        MaterialVaeConfig(quick),
        StructureVaeConfig(quick),
        FlowConfig(quick, views=2, picture_size=64),
        ImageEncoderStageConfig(quick, views=2, picture_size=64),
        CameraHeadStageConfig(quick, views=2, picture_size=64),
    )


def nano() -> TrainingPreset:
    """The bundled model, for budgets of minutes to hours on one to eight GPUs.

    Dual vertices weigh more than in the paper, whose long training leaves them time; rendering losses come
    in for the last third of the SC-VAE's budget.
    """
    model = presets.nano()
    vae = LoopConfig(batch_size=32, learning_rate=1e-3, betas=(0.9, 0.99), ema=0.999)
    flow = LoopConfig(batch_size=512, learning_rate=8e-4, betas=(0.9, 0.95), ema=0.9995, looks=4)
    rendering = RenderingLoss(share_from=0.7, objects=8)
    return TrainingPreset(
        model,
        _encoders(model, channels=(32, 32, 64, 64, 96), resample=("pooling",) * 4),
        ShapeVaeConfig(vae, vertex=1.0, voxel=2.7, rendering=rendering),
        MaterialVaeConfig(vae, squares=2.0, means=True),
        StructureVaeConfig(LoopConfig(batch_size=256, learning_rate=1e-3, ema=0.999)),
        FlowConfig(flow),
        ImageEncoderStageConfig(LoopConfig(batch_size=256, learning_rate=1e-3, ema=0.999, weight_decay=0.05)),
        CameraHeadStageConfig(LoopConfig(batch_size=512, learning_rate=3e-3, ema=0.999), views=4),
    )


def nano_pooling() -> TrainingPreset:
    """The ablation of ``nano`` without residual autoencoding, to be trained as long: ``shape_vae`` only.

    Mean pooling and nearest upsampling in place of the moves between space and channels (the paper's
    "without residual autoencoding"). More blocks make up for the weights that its decoder saves.
    """
    whole = nano()
    encoder, decoder = (whole.model.networks[key] for key in (stages.SHAPE_ENCODER, stages.SHAPE_DECODER))
    assert isinstance(encoder, EncoderConfig)
    assert isinstance(decoder, DecoderConfig)
    kind: ResampleKind = "pooling"
    pooling = (kind,) * len(encoder.resample)
    networks = whole.model.networks | {
        stages.SHAPE_ENCODER: replace(encoder, resample=pooling),
        stages.SHAPE_DECODER: replace(decoder, resample=pooling, blocks=(8, 7, 3, 2, 0)),
    }
    return replace(whole, model=replace(whole.model, networks=networks))


def published() -> TrainingPreset:
    """The published sizes with the published settings; every stage apart, on a cluster.

    Batches are those of all processes together. The image encoder is DINOv3, ready-made and frozen.
    """
    model = presets.published()
    vae = LoopConfig(batch_size=256, learning_rate=1e-4, checkpointing=True)
    flow = LoopConfig(
        batch_size=256,
        learning_rate=1e-4,
        betas=(0.9, 0.95),
        warmup=0.001,
        decay_from=1.0,
        checkpointing=True,
    )
    return TrainingPreset(
        model,
        _encoders(model),
        ShapeVaeConfig(vae, rendering=RenderingLoss(share_from=0.5, size=512)),
        MaterialVaeConfig(vae, rendering=RenderingLoss(share_from=0.5, size=512)),
        StructureVaeConfig(LoopConfig(batch_size=256, learning_rate=1e-4)),
        FlowConfig(flow, train=("shape",), freeze_encoder=True, picture_size=512),
    )


PRESETS: dict[str, Callable[[], TrainingPreset]] = {
    "tiny": tiny,
    "nano": nano,
    "nano_pooling": nano_pooling,
    "published": published,
}
