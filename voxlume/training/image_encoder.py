"""Training of the image encoder before the flows: tell from a picture where the object is, and of what.

Two heads, thrown away afterwards, read from its tokens. The first register tokens stand for the cells of a
coarse grid, a cube of them for the whole volume: from each is read which of its finer cells the surface
passes, and which material it has there. From each patch is read what its pixels show: the place in the
model frame, the normal and the material. Flows learn several times quicker with an encoder that knows this
much than with one that hears of the volume only through their noisy losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxlume.data.store import VoxelBatch, VoxelStore
from voxlume.errors import VoxlumeError
from voxlume.models.image_encoder import ImageEncoder, ImageEncoderConfig
from voxlume.ovoxel.grid import ATTRIBUTE_CHANNELS
from voxlume.pipelines.model_folder import IMAGE_ENCODER
from voxlume.render.conditioning import SEEN_PARTS, SEEN_SIDEWAYS, Pictures, Seen
from voxlume.training.config import ImageEncoderStageConfig
from voxlume.training.data import Share, batches_on, rows_on
from voxlume.training.losses import binary_cross_entropy
from voxlume.training.order import Order
from voxlume.training.parallel import Processes
from voxlume.training.pictures import (
    PictureCache,
    PictureSource,
    Studio,
    encoder_input,
    surfaces,
    tiles,
    write_png,
)
from voxlume.training.stage import Batch, Stage
from voxlume.training.structure_vae import front, occupancy

MEASURED = 64

CHANNELS = len(ATTRIBUTE_CHANNELS)
"""Of the material."""

LEVELS = 3
"""Grids on which the surface's cells are told, each of half the last one's resolution. On the finest alone a
guess one cell off is as wrong as any."""

TOLD = {"shown": 1} | SEEN_PARTS
"""Values that a patch tells of each of its pixels."""

NEAR = 0.05
"""Of the longest side: places told so well count as right, as in the F-score of what is generated."""


@dataclass(frozen=True, eq=False)
class Volumes:
    """What the head has to tell of every object, as bytes.

    Attributes
    ----------
    occupied : bool (b, g, g, g), whether the surface passes a cell.
    material : uint8 (b, 6, g / 2, g / 2, g / 2), means over coarser cells; 0 where
        there are no voxels.
    """

    occupied: Tensor
    material: Tensor

    @classmethod
    def of(cls, voxels: VoxelBatch, resolution: int, grid: int) -> Volumes:
        occupied = occupancy(voxels, resolution, grid)[:, 0]
        coarse, count = grid // 2, voxels.batch_size
        cell = (voxels.coords[:, 1:] // (resolution // coarse)).long()
        row = (voxels.coords[:, 0].long() * coarse + cell[:, 0]) * coarse + cell[:, 1]
        row = row * coarse + cell[:, 2]
        ones = torch.ones_like(voxels.attributes[:, :1])
        sums = ones.new_zeros((count * coarse**3, CHANNELS + 1))
        sums.index_add_(0, row, torch.cat([voxels.attributes, ones], 1))
        mean = sums[:, :CHANNELS] / sums[:, CHANNELS:].clamp(min=1)
        material = (255 * mean + 0.5).to(torch.uint8).reshape(count, coarse, coarse, coarse, CHANNELS)
        return cls(occupied, material.movedim(-1, 1).contiguous())

    @classmethod
    def of_all(cls, store: VoxelStore, grid: int, device: torch.device) -> Volumes:
        parts = [cls.of(batch, store.resolution, grid) for batch in batches_on(device, store)]
        return cls(torch.cat([p.occupied for p in parts]), torch.cat([p.material for p in parts]))

    def select(self, objects: Tensor) -> Volumes:
        return Volumes(self.occupied.index_select(0, objects), self.material.index_select(0, objects))


class VolumeHead(nn.Module):
    """Tokens (b, side^3, c) -> logits of cells, [(b, g, g, g), (b, g / 2, ...), ...], and material
    (b, 6, g / 2, g / 2, g / 2).

    Every token has a linear layer of its own: what is likely in its part of the volume need not be learned
    through the encoder.
    """

    def __init__(self, width: int, side: int, grid: int) -> None:
        super().__init__()
        self.side, fine = side, grid // side
        self.sizes = [fine >> level for level in range(LEVELS) if fine >> level]
        self.coarse = fine // 2
        outputs = sum(size**3 for size in self.sizes) + CHANNELS * self.coarse**3
        self.weight = nn.Parameter(torch.zeros(side**3, width, outputs))
        self.bias = nn.Parameter(torch.zeros(side**3, 1, outputs))

    def forward(self, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
        values = torch.baddbmm(self.bias, tokens.float().transpose(0, 1), self.weight).transpose(0, 1)
        counts = [size**3 for size in self.sizes]
        *cells, material = values.split([*counts, CHANNELS * self.coarse**3], 2)
        logits = [self._joined(part, size)[:, 0] for part, size in zip(cells, self.sizes, strict=True)]
        return logits, self._joined(material, self.coarse)

    def _joined(self, values: Tensor, size: int) -> Tensor:
        """Blocks (b, side^3, k size^3) of a grid as the grid (b, k, side size, ...)."""
        side = self.side
        blocks = values.reshape(len(values), side, side, side, -1, size, size, size)
        grid = blocks.permute(0, 4, 1, 5, 2, 6, 3, 7)
        return grid.reshape(len(values), -1, *(3 * [side * size]))


class SeenHead(nn.Module):
    """Patches (b, p^2, c) -> what their pixels show, (b, s, s, 15): a logit that they show something, then
    the values of :class:`voxlume.render.conditioning.Seen` in its order."""

    def __init__(self, width: int, across: int) -> None:
        super().__init__()
        self.across = across
        self.linear = nn.Linear(width, sum(TOLD.values()) * across**2)

    def forward(self, patches: Tensor) -> dict[str, Tensor]:
        side = math.isqrt(patches.shape[1])
        values = self.linear(patches.float()).unflatten(2, (self.across, self.across, -1))
        told = values.unflatten(1, (side, side)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return dict(zip(TOLD, told.split(list(TOLD.values()), -1), strict=True))


class ImageEncoderStage(Stage):
    """The image encoder and its head.

    Parameters
    ----------
    grid : of the cells that the head tells of; the structures' grid.
    pictures : where this process's pictures come from.
    """

    def __init__(
        self,
        encoder: ImageEncoderConfig,
        config: ImageEncoderStageConfig,
        share: Share,
        held_out: VoxelStore | None,
        processes: Processes,
        grid: int,
        pictures: PictureSource,
    ) -> None:
        super().__init__()
        self.config, self.processes, self.share, self.held_out = config, processes, share, held_out
        self.grid, self.source = grid, pictures
        self.encoder = ImageEncoder(encoder)
        # As large as what the blocks add to them, so that they differ from the beginning.
        nn.init.normal_(self.encoder.register_tokens)
        self.volume = VolumeHead(encoder.width, _cube_side(encoder.registers, grid), grid)
        self.seen = SeenHead(encoder.width, encoder.patch // pictures.seen_every)
        self.to(processes.device)
        self.studio = Studio(processes.device, config.loop.seed)
        self._order: Order | None = None
        self._pictures: PictureCache | None = None
        self._volumes: Volumes | None = None

    def networks(self) -> dict[str, nn.Module]:
        return {IMAGE_ENCODER: self.encoder}

    def prepare(self, step: int, lanes: int) -> Batch:
        config, device = self.config, self.processes.device
        own = self.processes.lanes(lanes)
        per_lane = max(1, config.loop.batch_size // lanes)
        if self._order is None or self._pictures is None or self._volumes is None:
            names = self.share.names
            self._order = Order(len(names), own, lanes, per_lane, self.processes.count, config.loop.seed)
            self._volumes = Volumes.of_all(self.share.voxels(), self.grid, device)
            self._pictures = self.source.pictures(names, self.share.voxels, device)
            self.share.release()
        objects = self._order.objects(step)
        views = self._order.choices(step, self.source.views)
        generators = self._order.generators(step, device)
        variation = Variation.joined([Variation.drawn(per_lane, g, config) for g in generators])
        images = variation.of_images(encoder_input(self._pictures.batch(objects, views)))
        seen = variation.of_seen(self._pictures.seen_batch(objects, views))
        volumes = variation.of_volumes(self._volumes.select(rows_on(device, objects)))
        return Batch(len(objects), len(objects), (images, volumes, seen))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        images, volumes, seen = batch.content
        told, material, shown = self._told(images)
        losses = {
            "occupancy": _occupancy_error(told, volumes.occupied),
            "material": _material_error(material, volumes),
        }
        errors = _seen_errors(shown, seen)
        seen_loss = sum(SEEN_WEIGHTS[name] * errors[name] for name in SEEN_WEIGHTS)
        loss = losses["occupancy"] + self.config.material * losses["material"] + self.config.seen * seen_loss
        return losses | errors | {"loss": loss}

    def _told(self, images: Tensor) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
        tokens = self.encoder(images)
        logits, material = self.volume(tokens[:, 1 : 1 + self.volume.side**3])
        return logits, material, self.seen(tokens[:, 1 + self.encoder.config.registers :])

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Of held-out objects, each in a picture of its own: the losses, intersection over union of the
        cells, and the share of the pixels whose place is told to :data:`NEAR`."""
        if self.held_out is None:
            return {}
        pictures, volumes = self._held_out(MEASURED)
        assert pictures.seen is not None
        logits, material, shown = self._told(encoder_input(pictures.rgb))
        decided = logits[0] > 0
        shared, either = (decided & volumes.occupied), (decided | volumes.occupied)
        true = Seen.read(pictures.seen)
        near = (shown["place"] - true.place).norm(dim=-1) < NEAR
        errors = _seen_errors(shown, pictures.seen)
        return {
            "occupancy": float(_occupancy_error(logits, volumes.occupied)),
            "material": float(_material_error(material, volumes)),
            "iou": float(shared.sum() / either.sum()),
            "near": float((near & true.shown).sum() / true.shown.sum()),
        } | {name: float(value) for name, value in errors.items()}

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Pictures of held-out objects, their cells and the cells that are told, from the front; places and
        colours that pixels show, and those that are told."""
        if self.held_out is None:
            return
        pictures, volumes = self._held_out(8)
        assert pictures.seen is not None
        logits, _, shown = self._told(encoder_input(pictures.rgb))
        size = pictures.rgb.shape[1]
        cells = [front(grids[:, None], size // self.grid) for grids in (volumes.occupied, logits[0] > 0)]
        true, there = Seen.read(pictures.seen), shown["shown"] > 0
        rows = [
            (true.place + 0.5) * true.shown[..., None],
            (shown["place"] + 0.5) * there,
            true.attributes[..., :3] * true.shown[..., None],
            shown["attributes"][..., :3] * there,
        ]
        enlarged = [
            F.interpolate((255 * row.clamp(0, 1)).movedim(-1, 1), size).movedim(1, -1).byte().cpu().numpy()
            for row in rows
        ]
        strips = [pictures.rgb.cpu().numpy(), *cells, *enlarged]
        write_png(np.concatenate([tiles(strip) for strip in strips]), path)

    def _held_out(self, count: int) -> tuple[Pictures, Volumes]:
        assert self.held_out is not None
        voxels = self.held_out.batch(list(range(min(count, len(self.held_out)))))
        generator = torch.Generator(self.processes.device).manual_seed(0)
        shapes = surfaces(voxels, self.held_out.resolution)
        pictures = self.studio.pictures(
            shapes, generator, self.source.size, seen_every=self.source.seen_every
        )
        return pictures, Volumes.of(voxels, self.held_out.resolution, self.grid)


@dataclass(frozen=True, eq=False)
class Variation:
    """Pictures moved and scaled a little and taken in a mirror, each by chance.

    A mirror on the plane x = 0 turns left and right of the object and of its picture.

    Attributes
    ----------
    matrix : float32 (b, 2, 3), from places in the new picture to those in the old one.
    mirrored : bool (b,).
    """

    matrix: Tensor
    mirrored: Tensor

    @classmethod
    def drawn(cls, count: int, generator: torch.Generator, config: ImageEncoderStageConfig) -> Variation:
        u = 2 * torch.rand((count, 4), generator=generator, device=generator.device) - 1
        mirrored = (u[:, 3] > 0) & config.mirror
        scale = 1 + config.zoom * u[:, 0]
        zero = torch.zeros_like(scale)
        across = torch.where(mirrored, -scale, scale)
        rows = [
            torch.stack([across, zero, config.shift * u[:, 1]], 1),
            torch.stack([zero, scale, config.shift * u[:, 2]], 1),
        ]
        return cls(torch.stack(rows, 1), mirrored)

    @classmethod
    def joined(cls, parts: Sequence[Variation]) -> Variation:
        return cls(torch.cat([p.matrix for p in parts]), torch.cat([p.mirrored for p in parts]))

    def of_images(self, images: Tensor) -> Tensor:
        """Images (b, 3, s, s) of the encoder's scale, black around."""
        # What is outside counts as black, which is not zero here.
        black = encoder_input(torch.zeros((1, 1, 1, 3), dtype=torch.uint8, device=images.device))
        places = F.affine_grid(self.matrix, list(images.shape), align_corners=False)
        return F.grid_sample(images - black, places, align_corners=False) + black

    def of_seen(self, seen: Tensor) -> Tensor:
        """What the pixels (b, s, s, 14) show."""
        values = seen.movedim(-1, 1)
        places = F.affine_grid(self.matrix, list(values.shape), align_corners=False)
        moved = F.grid_sample(values.float(), places, mode="nearest", align_corners=False).movedim(1, -1)
        turned = moved.clone()
        turned[..., list(SEEN_SIDEWAYS)] = 256 - moved[..., list(SEEN_SIDEWAYS)]
        turned = turned.where(moved[..., :1] > 0, 0.0)
        return turned.where(self.mirrored[:, None, None, None], moved).byte()

    def of_volumes(self, volumes: Volumes) -> Volumes:
        flip = self.mirrored[:, None, None, None]
        occupied = volumes.occupied.flip(1).where(flip, volumes.occupied)
        return Volumes(occupied, volumes.material.flip(2).where(flip[..., None], volumes.material))


SEEN_WEIGHTS = {"shown": 0.25, "place": 3.0, "aside": 3.0, "normal": 0.3, "attributes": 1.0}
"""Of the errors of what patches show: where it is counts most."""


def _seen_errors(told: dict[str, Tensor], seen: Tensor) -> dict[str, Tensor]:
    """Cross entropy of what shows something; mean absolute errors of the values there."""
    true = Seen.read(seen)
    weight = true.shown.float() / true.shown.sum().clamp(min=1)
    errors = {"shown": binary_cross_entropy(told["shown"][..., 0], true.shown)}
    for name in SEEN_PARTS:
        errors[name] = ((told[name] - getattr(true, name)).abs().mean(-1) * weight).sum()
    return errors


def _occupancy_error(logits: Sequence[Tensor], occupied: Tensor) -> Tensor:
    """Mean cross entropy of the cells over all levels."""
    errors = []
    for level, told in enumerate(logits):
        cells = F.max_pool3d(occupied[:, None].float(), 1 << level)[:, 0] > 0 if level else occupied
        errors.append(binary_cross_entropy(told, cells))
    return torch.stack(errors).mean()


def _material_error(material: Tensor, volumes: Volumes) -> Tensor:
    """Mean absolute error where there is a surface."""
    occupied = F.max_pool3d(volumes.occupied[:, None].float(), 2)
    error = (material - volumes.material.float() / 255).abs() * occupied
    return error.sum() / (CHANNELS * occupied.sum().clamp(min=1))


def _cube_side(registers: int, grid: int) -> int:
    side = max((n for n in range(1, grid // 2 + 1) if n**3 <= registers and grid % (2 * n) == 0), default=0)
    if side < 2:
        raise VoxlumeError(
            f"an image encoder with {registers} register tokens cannot learn the volume: it takes 8 or more"
        )
    return side
