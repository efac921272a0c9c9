"""Training of the camera head: tell from an image encoder's tokens where pictures were taken from.

The encoder stays as it is, so the flows that read the same tokens are not touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxlume.data.store import VoxelStore
from voxlume.models.camera_head import CameraHead, CameraHeadConfig, CameraTold, CameraTrue
from voxlume.models.image_encoder import ImageEncoder, ImageEncoderConfig
from voxlume.pipelines.model_folder import CAMERA_HEAD, IMAGE_ENCODER
from voxlume.render.conditioning import condition_pictures
from voxlume.training.config import CameraHeadStageConfig
from voxlume.training.data import Share
from voxlume.training.order import Order
from voxlume.training.parallel import Processes
from voxlume.training.pictures import (
    PictureCache,
    PictureSource,
    Studio,
    camera_numbers,
    encoder_input,
    surfaces,
    tiles,
    write_png,
)
from voxlume.training.stage import Batch, Stage

MEASURED, MEASURED_VIEWS = 48, 4
"""Held-out objects that are measured, and pictures of each."""

NEAR = 15.0
"""Degrees: directions told so well count as right."""

DRAWN = 8


class CameraHeadStage(Stage):
    """The head, before it the encoder that stays as it is.

    Parameters
    ----------
    pictures : where this process's pictures and their cameras come from.
    """

    def __init__(
        self,
        encoder: ImageEncoderConfig,
        head: CameraHeadConfig,
        config: CameraHeadStageConfig,
        share: Share,
        held_out: VoxelStore | None,
        processes: Processes,
        pictures: PictureSource,
    ) -> None:
        super().__init__()
        self.config, self.processes, self.share, self.held_out = config, processes, share, held_out
        self.source = pictures
        self.encoder = ImageEncoder(encoder).requires_grad_(False)
        self.head = CameraHead(head)
        self.to(processes.device)
        self.studio = Studio(processes.device, config.loop.seed)
        self._order: Order | None = None
        self._pictures: PictureCache | None = None
        self._measured: tuple[Tensor, Tensor] | None = None

    def networks(self) -> dict[str, nn.Module]:
        return {IMAGE_ENCODER: self.encoder, CAMERA_HEAD: self.head}

    def prepare(self, step: int, lanes: int) -> Batch:
        config, device = self.config, self.processes.device
        own = self.processes.lanes(lanes)
        per_lane = max(1, config.loop.batch_size // lanes)
        if self._order is None or self._pictures is None:
            names = self.share.names
            self._order = Order(len(names), own, lanes, per_lane, self.processes.count, config.loop.seed)
            self._pictures = self.source.pictures(names, self.share.voxels, device)
            self.share.release()
        objects = self._order.objects(step)
        chosen = self._order.choices(step, 2 * self.source.views)
        views = [c // 2 for c in chosen]
        mirrored = torch.tensor([c % 2 for c in chosen], device=device).bool()
        pictures = self._pictures.batch(objects, views)
        pictures = pictures.flip(2).where(mirrored[:, None, None, None], pictures)
        true = CameraTrue.of(self._pictures.camera_batch(objects, views)).mirrored(mirrored)
        return Batch(len(objects), len(objects), (pictures, true))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        pictures, true = batch.content
        errors = camera_errors(self._told(pictures), true)
        return errors | {"loss": camera_loss(errors, self.config)}

    def _told(self, pictures: Tensor) -> CameraTold:
        with torch.no_grad():
            tokens = self.encoder(encoder_input(pictures))
        told: CameraTold = self.head(tokens)
        return told

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Of held-out objects: the errors, and the share of the pictures whose likeliest direction, and
        whose likeliest two, are right to :data:`NEAR` degrees."""
        if self.held_out is None:
            return {}
        pictures, numbers = self._held_out()
        told, true = self._told(pictures), CameraTrue.of(numbers)
        turns = _turns(told, true)
        return {
            "near": float((turns[:, 0] < NEAR).float().mean()),
            "near_of_two": float((turns.amin(1) < NEAR).float().mean()),
        } | {name: float(value) for name, value in camera_errors(told, true).items()}

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Held-out pictures; below each how likely the directions from behind round to behind are, the true
        one in red."""
        if self.held_out is None:
            return
        pictures, numbers = (part[:: MEASURED_VIEWS + 1][:DRAWN] for part in self._held_out())
        likely, count = self._told(pictures).logits.softmax(1), self.head.config.directions
        size, height = pictures.shape[1], 48
        true = CameraTrue.of(numbers).shares(count)
        columns = torch.arange(size, device=likely.device) * count // size
        tall = torch.arange(height, device=likely.device)[None, :, None] >= height * (
            1 - (likely / likely.amax(1, keepdim=True))[:, None, columns]
        )
        bars = torch.stack([true[:, None, columns].expand(-1, height, -1) > 0.5, tall, tall], -1)
        shown = torch.cat([pictures, 255 * bars.byte()], 1)
        write_png(tiles(shown.cpu().numpy()), path)

    def _held_out(self) -> tuple[Tensor, Tensor]:
        """Pictures and cameras, object by object."""
        if self._measured is None:
            assert self.held_out is not None
            device = self.processes.device
            voxels = self.held_out.batch(list(range(min(MEASURED, len(self.held_out)))))
            shapes = surfaces(voxels, self.held_out.resolution)
            taken = []
            for view in range(MEASURED_VIEWS):
                cameras, lighting = self.studio.settings(len(shapes), view)
                taken.append(condition_pictures(shapes, None, self.source.size, cameras, lighting=lighting))
            rgb = torch.stack([t.rgb for t in taken], 1).flatten(0, 1).to(device)
            numbers = torch.stack([camera_numbers(t.cameras) for t in taken], 1).flatten(0, 1)
            self._measured = rgb, numbers
        return self._measured


def camera_errors(told: CameraTold, true: CameraTrue) -> dict[str, Tensor]:
    """Cross entropy of the direction; mean absolute errors in radians, 1 / distance and lengths."""
    shares = true.shares(told.logits.shape[1])
    return {
        "direction": -(shares * told.logits.log_softmax(1)).sum(1).mean(),
        "elevation": (told.elevation - true.elevation).abs().mean(),
        "nearness": (told.nearness - true.nearness).abs().mean(),
        "window": (told.window - true.window).abs().mean(),
    }


def camera_loss(errors: Mapping[str, Tensor], weights: CameraHeadStageConfig) -> Tensor:
    """What a head learns to make small, of :func:`camera_errors`."""
    loss = errors["direction"] + weights.elevation * errors["elevation"]
    return loss + weights.nearness * errors["nearness"] + weights.window * errors["window"]


def _turns(told: CameraTold, true: CameraTrue) -> Tensor:
    """Degrees (b, 2) between the true azimuth and the two likeliest directions."""
    count = told.logits.shape[1]
    around = F.max_pool1d(F.pad(told.logits[:, None], (2, 2), mode="circular"), 5, 1)[:, 0]
    peaks = told.logits.where(told.logits == around, -torch.inf).topk(2).indices
    angles = 2 * math.pi * peaks / count - math.pi
    turn = torch.remainder(angles - true.azimuth[:, None] + math.pi, 2 * math.pi) - math.pi
    return torch.rad2deg(turn).abs()
