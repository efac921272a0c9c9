"""Training of the flow transformers and of the image encoder that tells them what to make."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from voxlume.models.camera_head import CameraHead, CameraHeadConfig, CameraTrue
from voxlume.models.flow_transformer import Condition, FlowTransformer
from voxlume.models.image_encoder import ImageEncoder
from voxlume.models.published import build
from voxlume.pipelines import stages
from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions
from voxlume.pipelines.model_folder import CAMERA_HEAD, IMAGE_ENCODER
from voxlume.pipelines.presets import Preset
from voxlume.sparse.tensor import CoordinateSet, SparseTensor
from voxlume.training.camera_head import camera_errors, camera_loss
from voxlume.training.config import CameraHeadStageConfig, FlowConfig
from voxlume.training.data import Share, batch_on, rows_on
from voxlume.training.export import write_model
from voxlume.training.latents import LatentBatch, LatentStore
from voxlume.training.losses import velocity_loss
from voxlume.training.order import Order, mixed_seed
from voxlume.training.parallel import Processes
from voxlume.training.pictures import (
    PictureCache,
    PictureSource,
    Studio,
    camera_numbers,
    encoder_input,
    fixed_cameras,
    surfaces,
    tiles,
    write_png,
)
from voxlume.training.stage import Batch, Stage
from voxlume.training.variation import varied

PARTS = ("structure", "shape", "material")

MEASURED, MEASURED_TIMES = 48, (0.1, 0.3, 0.5, 0.7, 0.9)
"""Held-out objects that are measured, and the times at which they are."""

ENCODED_TOGETHER = 256
"""Pictures that a frozen encoder is shown at once before training."""

TOKENS_SHARE = 0.6
"""Of the device's free memory, which their tokens may take."""

DRAWN = 6
"""Held-out objects that are generated for the picture of samples."""


@dataclass(frozen=True, eq=False)
class FlowContent:
    """A batch of the flows.

    Attributes
    ----------
    latents : of b objects.
    pictures : uint8 (b, s, s, 3); or the tokens (b, m, c) that a frozen encoder made of them.
    places : the tokens' coordinate set.
    lanes : objects of each lane.
    noise : values, times and drops of each part, drawn beforehand.
    patches : int64 (b, k), the picture's patches that are shown; None shows all.
    cameras : that the pictures were taken with, or None.
    """

    latents: LatentBatch
    pictures: Tensor
    places: CoordinateSet
    lanes: list[int]
    noise: dict[str, Tensor]
    times: dict[str, Tensor]
    kept: Tensor
    patches: Tensor | None = None
    cameras: CameraTrue | None = None

    @property
    def token_lanes(self) -> list[int]:
        """Tokens of each lane."""
        ends = np.cumsum([0, *self.lanes])
        return [sum(self.latents.lengths[a:b]) for a, b in pairwise(ends)]


class FlowStage(Stage):
    """The flow transformers that learn, the image encoder before them, and where asked for a camera head
    that learns with it.

    Parameters
    ----------
    latents, share : the same objects in the same order, this process's share of the training split.
    held_out : latents and voxels of the held-out split, or None.
    source : where the pictures of these objects come from.
    encoder : a trained image encoder to begin with; None is a fresh one.
    finished : decoders and other networks of the model that are trained already; samples need them.
    camera_head : its sizes, and the weights of its errors; None for a model without.
    """

    def __init__(
        self,
        preset: Preset,
        config: FlowConfig,
        latents: LatentStore,
        share: Share,
        held_out: tuple[LatentStore, VoxelStore] | None,
        processes: Processes,
        source: PictureSource,
        encoder: ImageEncoder | None = None,
        finished: Mapping[str, nn.Module] | None = None,
        camera_head: tuple[CameraHeadConfig, CameraHeadStageConfig] | None = None,
    ) -> None:
        super().__init__()
        unknown = set(config.train) - set(PARTS)
        if unknown or not config.train:
            raise VoxlumeError(f"cannot train {', '.join(sorted(unknown)) or 'nothing'}; choose of {PARTS}")
        alone = tuple(config.train) == ("structure",)
        if config.mirror and not (alone and config.views):
            raise VoxlumeError("`mirror` is for train=structure and pictures drawn beforehand (views)")
        if not 0 <= config.vary <= 1 or (config.vary and (config.freeze_encoder or not alone)):
            raise VoxlumeError(
                f"vary = {config.vary} is not possible: 0 to 1, and above 0 with train=structure and an "
                "encoder that learns"
            )
        if config.camera and (config.freeze_encoder or not config.views or camera_head is None):
            raise VoxlumeError(
                "`camera` is for models with a camera head, an encoder that learns with the flows, and "
                "pictures drawn beforehand (views); beside a finished encoder the stage camera_head trains it"
            )
        if not 0 <= config.drop_patches < 1:
            raise VoxlumeError(f"drop_patches = {config.drop_patches} is not possible; choose 0 to below 1")
        if latents.names != share.names:
            raise VoxlumeError(
                "the latents are not of these voxels; run the stage `latents` again on this data"
            )
        self.preset, self.config, self.processes = preset, config, processes
        self.latents, self.share, self.held_out = latents, share, held_out
        self.finished = dict(finished or {})
        high = int(share.resolution > preset.base_resolution)
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
        self.head, self.camera_weights = None, None
        if config.camera and camera_head is not None:
            self.head, self.camera_weights = CameraHead(camera_head[0]), camera_head[1]
        self.to(processes.device)
        self.source = source
        self.pictures: PictureCache | None = None
        self.tokens: Tensor | None = None
        self.studio = Studio(processes.device, config.loop.seed)
        self._order: Order | None = None
        self._measured: list[FlowContent] | None = None

    def networks(self) -> dict[str, nn.Module]:
        named: dict[str, nn.Module] = {IMAGE_ENCODER: self.encoder}
        if self.head is not None:
            named[CAMERA_HEAD] = self.head
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
                self._take_pictures()
        objects = self._order.objects(step)
        per_lane = len(objects) // len(own)
        generators = self._order.generators(step, device)
        pictures: Tensor
        mirrored = cameras = None
        if config.views:
            sides = 1 + config.mirror
            chosen = self._order.choices(step, config.views * sides)
            mirrored = [c % sides for c in chosen]
            views = [c // sides for c in chosen]
            pictures = self._taken(objects, views, mirrored)
            if self.head is not None:
                assert self.pictures is not None
                true = CameraTrue.of(self.pictures.camera_batch(objects, views))
                cameras = true.mirrored(rows_on(device, mirrored).bool())
        else:
            pictures = torch.cat(
                [
                    self._photographed(objects[i * per_lane : (i + 1) * per_lane], generator)
                    for i, generator in enumerate(generators)
                ]
            )
        if config.vary:
            lanes_of = zip(pictures.split(per_lane), generators, strict=True)
            pictures = torch.cat([varied(part, generator, config.vary) for part, generator in lanes_of])
        content = self._content(
            self.latents.batch(objects, mirrored), pictures, [per_lane] * len(own), generators
        )
        content = replace(content, cameras=cameras)
        if config.drop_patches:
            content = replace(content, patches=self._shown_patches(step, per_lane, generators))
        return Batch(len(objects), sum(content.latents.lengths), content)

    def _shown_patches(self, step: int, per_lane: int, generators: Sequence[torch.Generator]) -> Tensor:
        """The patches of each object that are left, equally many of all."""
        share = np.random.default_rng(mixed_seed(self.config.loop.seed, step, 0xD209)).random()
        patches = (self.source.size // self.encoder.config.patch) ** 2
        count = max(1, round(patches * (1 - self.config.drop_patches * share)))
        orders = [torch.rand((per_lane, patches), generator=g, device=g.device) for g in generators]
        return torch.cat(orders).argsort(1)[:, :count]

    def _take_pictures(self) -> None:
        """All pictures, or what a frozen encoder makes of them if the device has room for it."""
        device, config = self.processes.device, self.config
        held_on = torch.device("cpu") if config.freeze_encoder else device
        self.pictures = self.source.pictures(self.share.names, self.share.voxels, device, held_on)
        self.share.release()
        rgb = self.pictures.rgb.flatten(0, 1)
        sides = 1 + config.mirror
        if not config.freeze_encoder or not self._room_for_tokens(len(rgb) * sides):
            self.pictures = self.pictures.to(device)
            return
        with torch.no_grad():
            for first in range(0, len(rgb), ENCODED_TOGETHER):
                part = rgb[first : first + ENCODED_TOGETHER].to(device)
                for side in range(sides):
                    tokens = self.encoder(encoder_input(part.flip(2) if side else part))
                    if self.tokens is None:
                        # As exact as what the blocks of the flows take them for.
                        dtype = torch.bfloat16 if tokens.is_cuda else tokens.dtype
                        self.tokens = tokens.new_empty((len(rgb), sides, *tokens.shape[1:]), dtype=dtype)
                    self.tokens[first : first + len(part), side] = tokens
        self.pictures = None

    def _taken(self, objects: Sequence[int], views: Sequence[int], mirrored: Sequence[int]) -> Tensor:
        """A picture of each object as :attr:`FlowContent.pictures`."""
        if self.tokens is not None:
            sides = self.tokens.shape[1]
            rows = [
                (o * self.config.views + v) * sides + m
                for o, v, m in zip(objects, views, mirrored, strict=True)
            ]
            return self.tokens.flatten(0, 1).index_select(0, rows_on(self.tokens.device, rows))
        assert self.pictures is not None
        pictures = self.pictures.batch(objects, views)
        turned = rows_on(pictures.device, mirrored).bool()[:, None, None, None]
        return pictures.flip(2).where(turned, pictures)

    def _room_for_tokens(self, pictures: int) -> bool:
        device = self.processes.device
        if device.type != "cuda":
            return True
        config = self.encoder.config
        tokens = 1 + config.registers + (self.source.size // config.patch) ** 2
        return 2 * pictures * tokens * config.width < TOKENS_SHARE * torch.cuda.mem_get_info(device)[0]

    def _photographed(self, objects: Sequence[int], generator: torch.Generator) -> Tensor:
        voxels = batch_on(self.processes.device, self.share.voxels(), objects)
        shapes = surfaces(voxels, self.share.resolution)
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
        return losses | {"loss": self._total(losses)}

    def _total(self, losses: Mapping[str, Tensor]) -> Tensor:
        weights = {"camera": self.config.camera}
        return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()

    def _losses(self, content: FlowContent) -> dict[str, Tensor]:
        if content.pictures.is_floating_point():
            tokens = content.pictures.float()
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_encoder):
                tokens = self.encoder(encoder_input(content.pictures))
        losses = {}
        if content.cameras is not None and self.head is not None and self.camera_weights is not None:
            errors = camera_errors(self.head(tokens), content.cameras)
            losses["camera"] = camera_loss(errors, self.camera_weights)
        if content.patches is not None:
            whole = 1 + self.encoder.config.registers
            rows = content.patches.unsqueeze(2).expand(-1, -1, tokens.shape[2])
            tokens = torch.cat([tokens[:, :whole], tokens[:, whole:].gather(1, rows)], 1)
        tokens = tokens * content.kept[:, None, None]
        condition = Condition(tokens.flatten(0, 1), (tokens.shape[1],) * len(tokens))
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
            pictures = self.studio.pictures(shapes, generator, self.config.picture_size)
            batch, cameras = latents.batch(objects), CameraTrue.of(camera_numbers(pictures.cameras))
            self._measured = [
                replace(
                    self._content(batch, pictures.rgb, [len(objects)], [generator], time), cameras=cameras
                )
                for time in MEASURED_TIMES
            ]
        sums: dict[str, Tensor] = {}
        for content in self._measured:
            for part, value in self._losses(content).items():
                sums[part] = sums.get(part, torch.zeros_like(value)) + value / len(MEASURED_TIMES)
        return {name: float(value) for name, value in (sums | {"loss": self._total(sums)}).items()}

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
            options = ImageTo3DOptions(pipeline_type=str(self.share.resolution))
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
