"""Training of the flow transformers and of the image encoder that tells them what to make."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxlume.data.store import VoxelBatch, VoxelStore
from voxlume.errors import VoxlumeError
from voxlume.flow.schedule import noisy_state, velocity_target
from voxlume.flow.state import values_of
from voxlume.models.flow_transformer import Condition, FlowTransformer
from voxlume.models.image_encoder import ImageEncoder
from voxlume.models.published import build
from voxlume.pipelines import stages
from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions
from voxlume.pipelines.model_folder import IMAGE_ENCODER
from voxlume.pipelines.presets import Preset
from voxlume.sparse.tensor import CoordinateSet, SparseTensor
from voxlume.training.config import FlowConfig
from voxlume.training.data import batch_on
from voxlume.training.export import write_model
from voxlume.training.latents import LatentBatch, LatentStore
from voxlume.training.losses import velocity_loss
from voxlume.training.order import Order
from voxlume.training.parallel import Processes
from voxlume.training.pictures import (
    PictureCache,
    PictureSource,
    Studio,
    encoder_input,
    fixed_cameras,
    surfaces,
    tiles,
    write_png,
)
from voxlume.training.stage import Batch, Stage

PARTS = ("structure", "shape", "material")

MEASURED, MEASURED_TIMES = 48, (0.1, 0.3, 0.5, 0.7, 0.9)
"""Held-out objects that are measured, and the times at which they are."""

DRAWN = 6
"""Held-out objects that are generated for the picture of samples."""


@dataclass(frozen=True, eq=False)
class FlowContent:
    """A batch of the flows.

    Attributes
    ----------
    latents : of b objects.
    pictures : uint8 (b, s, s, 3).
    places : the tokens' coordinate set.
    lanes : objects of each lane.
    noise : values, times and drops of each part, drawn beforehand.
    """

    latents: LatentBatch
    pictures: Tensor
    places: CoordinateSet
    lanes: list[int]
    noise: dict[str, Tensor]
    times: dict[str, Tensor]
    kept: Tensor

    @property
    def token_lanes(self) -> list[int]:
        """Tokens of each lane."""
        ends = np.cumsum([0, *self.lanes])
        return [sum(self.latents.lengths[a:b]) for a, b in pairwise(ends)]


class FlowStage(Stage):
    """The flow transformers that learn, and the image encoder before them.

    Parameters
    ----------
    latents, store : the same objects in the same order, this process's share of the training split.
    held_out : latents and voxels of the held-out split, or None.
    encoder : a trained image encoder to begin with; None is a fresh one.
    finished : decoders and other networks of the model that are trained already; samples need them.
    kept_pictures : file in which this process keeps the pictures of its objects for later runs.
    """

    def __init__(
        self,
        preset: Preset,
        config: FlowConfig,
        latents: LatentStore,
        store: VoxelStore,
        held_out: tuple[LatentStore, VoxelStore] | None,
        processes: Processes,
        encoder: ImageEncoder | None = None,
        finished: Mapping[str, nn.Module] | None = None,
        kept_pictures: Path | None = None,
    ) -> None:
        super().__init__()
        unknown = set(config.train) - set(PARTS)
        if unknown or not config.train:
            raise VoxlumeError(f"cannot train {', '.join(sorted(unknown)) or 'nothing'}; choose of {PARTS}")
        if latents.names != store.names:
            raise VoxlumeError(
                "the latents are not of these voxels; run the stage `latents` again on this data"
            )
        self.preset, self.config, self.processes = preset, config, processes
        self.latents, self.store, self.held_out = latents, store, held_out
        self.finished = dict(finished or {})
        high = int(store.resolution > preset.base_resolution)
        self.flow_keys = {
            "structure": stages.STRUCTURE_FLOW,
            "shape": stages.SHAPE_FLOWS[high],
            "material": stages.MATERIAL_FLOWS[high],
        }
        if encoder is None:
            encoder = build(preset.networks[IMAGE_ENCODER])  # type: ignore[assignment]
        assert isinstance(encoder, ImageEncoder)
        self.encoder = encoder.requires_grad_(not config.freeze_encoder)
        self.flows = nn.ModuleDict(
            {part: build(preset.networks[self.flow_keys[part]]) for part in PARTS if part in config.train}
        )
        self.to(processes.device)
        self.pictures: PictureCache | None = None
        self.kept_pictures = kept_pictures
        self.studio = Studio(processes.device, config.loop.seed)
        self._order: Order | None = None
        self._measured: list[FlowContent] | None = None

    def networks(self) -> dict[str, nn.Module]:
        named: dict[str, nn.Module] = {IMAGE_ENCODER: self.encoder}
        return named | {self.flow_keys[part]: network for part, network in self.flows.items()}

    # -- batches -----------------------------------------------------------------------------------

    def prepare(self, step: int, lanes: int) -> Batch:
        config, device = self.config, self.processes.device
        own = self.processes.lanes(lanes)
        if self._order is None:
            per_lane = max(1, config.loop.batch_size // lanes)
            self._order = Order(
                len(self.latents), own, lanes, per_lane, self.processes.count, config.loop.seed
            )
            if config.views:
                source = PictureSource(
                    config.views,
                    config.picture_size,
                    config.loop.seed,
                    self.latents.numbers,
                    self.latents.total,
                    self.kept_pictures,
                    config.supersampling,
                )
                self.pictures = source.pictures(self.store, device)
        objects = self._order.objects(step)
        per_lane = len(objects) // len(own)
        generators = self._order.generators(step, device)
        if self.pictures is not None:
            pictures = self.pictures.batch(objects, self._order.choices(step, config.views))
        else:
            pictures = torch.cat(
                [
                    self._photographed(objects[i * per_lane : (i + 1) * per_lane], generator)
                    for i, generator in enumerate(generators)
                ]
            )
        content = self._content(self.latents.batch(objects), pictures, [per_lane] * len(own), generators)
        return Batch(len(objects), sum(content.latents.lengths), content)

    def _photographed(self, objects: Sequence[int], generator: torch.Generator) -> Tensor:
        voxels = batch_on(self.processes.device, self.store, objects)
        shapes = surfaces(voxels, self.store.resolution)
        return self.studio.photograph(shapes, generator, self.config.picture_size)

    def _content(
        self,
        latents: LatentBatch,
        pictures: Tensor,
        lanes: list[int],
        generators: Sequence[torch.Generator],
        time: float | None = None,
    ) -> FlowContent:
        """Draw noise, times and drops, each lane's from its generator; ``time`` fixes the times."""
        device = pictures.device
        ends = np.cumsum([0, *lanes])
        tokens = [sum(latents.lengths[a:b]) for a, b in pairwise(ends)]
        noise: dict[str, list[Tensor]] = {part: [] for part in PARTS}
        times: dict[str, list[Tensor]] = {part: [] for part in PARTS}
        kept = []
        for objects, count, generator in zip(lanes, tokens, generators, strict=True):
            for part in PARTS:
                like = latents.structure if part == "structure" else getattr(latents, part)
                rows = objects if part == "structure" else count
                noise[part].append(torch.randn((rows, *like.shape[1:]), generator=generator, device=device))
                if part == "structure":
                    normal = torch.randn(objects, generator=generator, device=device)
                    drawn = torch.sigmoid(1.0 + normal)
                else:
                    drawn = torch.rand(objects, generator=generator, device=device)
                times[part].append(drawn if time is None else torch.full_like(drawn, time))
            drop = torch.rand(objects, generator=generator, device=device) < self.config.drop_condition
            kept.append(~drop if time is None else torch.ones_like(drop))
        places = CoordinateSet(latents.coords, len(latents.lengths))
        places.memo("batch_lengths", lambda: list(latents.lengths))
        return FlowContent(
            latents,
            pictures,
            places,
            lanes,
            {part: torch.cat(values) for part, values in noise.items()},
            {part: torch.cat(values) for part, values in times.items()},
            torch.cat(kept),
        )

    # -- losses ------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        content: FlowContent = batch.content
        losses = self._losses(content)
        losses["loss"] = torch.stack(list(losses.values())).sum()
        return losses

    def _losses(self, content: FlowContent) -> dict[str, Tensor]:
        images = encoder_input(content.pictures)
        if self.config.freeze_encoder:
            with torch.no_grad():
                tokens = self.encoder(images)
        else:
            tokens = self.encoder(images)
        tokens = tokens * content.kept[:, None, None]
        condition = Condition(tokens.flatten(0, 1), (tokens.shape[1],) * len(tokens))
        losses = {}
        for part, network in self.flows.items():
            assert isinstance(network, FlowTransformer)
            losses[part] = self._loss(part, network, content, condition)
        return losses

    def _loss(
        self, part: str, network: FlowTransformer, content: FlowContent, condition: Condition
    ) -> Tensor:
        times, noise, latents = content.times[part], content.noise[part], content.latents
        if part == "structure":
            x0 = latents.structure
            x_t = noisy_state(x0, noise, times.reshape(-1, 1, 1, 1, 1))
            velocity = network(x_t, 1000 * times, condition)
            return velocity_loss(velocity, velocity_target(x0, noise), content.lanes)
        x0 = getattr(latents, part)
        sample = latents.coords[:, 0].long()
        x_t = noisy_state(x0, noise, times.index_select(0, sample).unsqueeze(1))
        if part == "material":
            x_t = torch.cat([x_t, latents.shape], dim=1)
        state = SparseTensor.on(content.places, x_t)
        velocity = values_of(network(state, 1000 * times, condition))
        return velocity_loss(velocity, velocity_target(x0, noise), content.token_lanes)

    # -- held-out data -----------------------------------------------------------------------------

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Losses on held-out objects, each at the same fixed times, pictures and noise every time."""
        if self.held_out is None:
            return {}
        if self._measured is None:
            latents, store = self.held_out
            objects = list(range(min(MEASURED, len(store))))
            generator = torch.Generator(self.processes.device).manual_seed(0)
            shapes = surfaces(store.batch(objects), store.resolution)
            pictures = self.studio.photograph(shapes, generator, self.config.picture_size)
            batch = latents.batch(objects)
            self._measured = [
                self._content(batch, pictures, [len(objects)], [generator], time) for time in MEASURED_TIMES
            ]
        sums: dict[str, Tensor] = {}
        for content in self._measured:
            for part, value in self._losses(content).items():
                sums[part] = sums.get(part, torch.zeros_like(value)) + value / len(MEASURED_TIMES)
        values = {part: float(value) for part, value in sums.items()}
        return values | {"loss": sum(values.values())}

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Held-out objects as the finished model makes them: input, result, result from behind."""
        have = set(self.networks()) | set(self.finished)
        if self.held_out is None or self.config.loop.shard or not set(self._wanted()) <= have:
            return
        latents, store = self.held_out
        objects = list(range(min(DRAWN, len(store))))
        device = self.processes.device
        cameras = fixed_cameras(len(objects), device)
        generator = torch.Generator(device).manual_seed(1)
        shapes = surfaces(store.batch(objects), store.resolution)
        pictures = self.studio.photograph(shapes, generator, self.config.picture_size, cameras)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            write_model(self.preset, self.networks() | self.finished, latents.statistics, folder)
            pipeline = ImageTo3D.from_pretrained(folder, device=str(device))
            columns = [self._generated(pipeline, picture) for picture in pictures.cpu().numpy()]
        rows = [np.stack([column[i] for column in columns]) for i in range(2)]
        write_png(np.concatenate([tiles(p) for p in (pictures.cpu().numpy(), *rows)]), path)

    def _wanted(self) -> list[str]:
        return [
            *(self.flow_keys[part] for part in PARTS),
            stages.STRUCTURE_DECODER,
            stages.SHAPE_DECODER,
            stages.MATERIAL_DECODER,
        ]

    def _generated(self, pipeline: ImageTo3D, picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Two views of what a picture gives; grey where it gives nothing."""
        size, device = self.config.picture_size, self.processes.device
        try:
            options = ImageTo3DOptions(pipeline_type=str(self.store.resolution))
            ovoxel = pipeline.run(picture, options)[0].ovoxel
        except VoxlumeError:
            return [np.full((size, size, 3), 90, np.uint8)] * 2
        assert ovoxel.attributes is not None
        coords = torch.nn.functional.pad(torch.from_numpy(ovoxel.coords), (1, 0)).to(device)
        voxels = VoxelBatch(
            coords,
            torch.from_numpy(ovoxel.dual_vertices).to(device),
            torch.from_numpy(ovoxel.intersected).to(device),
            torch.from_numpy(ovoxel.attributes).to(device),
            [len(coords)],
        )
        shapes = surfaces(voxels, ovoxel.resolution)
        views = []
        for turn in (0.0, 160.0):
            generator = torch.Generator(device).manual_seed(1)
            cameras = fixed_cameras(1, device, turn)
            views.append(self.studio.photograph(shapes, generator, size, cameras)[0].cpu().numpy())
        return views
