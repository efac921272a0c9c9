"""Training of the image encoder before the flows: tell from a picture where the object is, and of what.

The first register tokens stand for the cells of a coarse grid, a cube of them for the whole volume. A head
that is thrown away afterwards reads from each token which of its finer cells the surface passes and which
material it has there. Flows learn several times quicker with an encoder that knows this much than with one
that hears of the volume only through their noisy losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxlume.data.store import VoxelBatch, VoxelStore
from voxlume.errors import VoxlumeError
from voxlume.models.image_encoder import ImageEncoder, ImageEncoderConfig
from voxlume.pipelines.model_folder import IMAGE_ENCODER
from voxlume.training.config import ImageEncoderStageConfig
from voxlume.training.data import batches_on, rows_on
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

CHANNELS = 6
"""Of the material."""


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
    """Tokens (b, side^3, c) -> logits (b, g, g, g) of cells and material (b, 6, g / 2, g / 2, g / 2).

    Every token has a linear layer of its own: what is likely in its part of the volume need not be learned
    through the encoder.
    """

    def __init__(self, width: int, side: int, grid: int) -> None:
        super().__init__()
        self.side, self.fine, self.coarse = side, grid // side, grid // side // 2
        outputs = self.fine**3 + CHANNELS * self.coarse**3
        self.weight = nn.Parameter(torch.zeros(side**3, width, outputs))
        self.bias = nn.Parameter(torch.zeros(side**3, 1, outputs))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.baddbmm(self.bias, tokens.float().transpose(0, 1), self.weight).transpose(0, 1)
        cells, material = values.split([self.fine**3, CHANNELS * self.coarse**3], 2)
        return self._joined(cells, self.fine)[:, 0], self._joined(material, self.coarse)

    def _joined(self, values: Tensor, size: int) -> Tensor:
        """Blocks (b, side^3, k size^3) of a grid as the grid (b, k, side size, ...)."""
        side = self.side
        blocks = values.reshape(len(values), side, side, side, -1, size, size, size)
        grid = blocks.permute(0, 4, 1, 5, 2, 6, 3, 7)
        return grid.reshape(len(values), -1, *(3 * [side * size]))


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
        store: VoxelStore,
        held_out: VoxelStore | None,
        processes: Processes,
        grid: int,
        pictures: PictureSource,
    ) -> None:
        super().__init__()
        self.config, self.processes, self.store, self.held_out = config, processes, store, held_out
        self.grid, self.source = grid, pictures
        self.encoder = ImageEncoder(encoder)
        # As large as what the blocks add to them, so that they differ from the beginning.
        nn.init.normal_(self.encoder.register_tokens)
        self.head = VolumeHead(encoder.width, _cube_side(encoder.registers, grid), grid)
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
            self._order = Order(len(self.store), own, lanes, per_lane, self.processes.count, config.loop.seed)
            self._volumes = Volumes.of_all(self.store, self.grid, device)
            self._pictures = self.source.pictures(self.store, device)
        objects = self._order.objects(step)
        views = self._order.choices(step, self.source.views)
        images = encoder_input(self._pictures.batch(objects, views))
        each = images.split(per_lane)
        generators = self._order.generators(step, device)
        images = torch.cat(
            [varied(i, g, config.shift, config.zoom) for i, g in zip(each, generators, strict=True)]
        )
        volumes = self._volumes.select(rows_on(device, objects))
        return Batch(len(objects), len(objects), (images, volumes))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        images, volumes = batch.content
        logits, material = self._told(images)
        losses = {
            "occupancy": binary_cross_entropy(logits, volumes.occupied),
            "material": _material_error(material, volumes),
        }
        losses["loss"] = losses["occupancy"] + self.config.material * losses["material"]
        return losses

    def _told(self, images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.encoder(images)
        return self.head(tokens[:, 1 : 1 + self.head.side**3])

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Of held-out objects, each in a picture of its own: the losses, and intersection over union."""
        if self.held_out is None:
            return {}
        _, volumes, logits, material = self._held_out(MEASURED)
        decided = logits > 0
        shared, either = (decided & volumes.occupied), (decided | volumes.occupied)
        return {
            "occupancy": float(binary_cross_entropy(logits, volumes.occupied)),
            "material": float(_material_error(material, volumes)),
            "iou": float(shared.sum() / either.sum()),
        }

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Pictures of held-out objects, their cells, and the cells that are told, from the front."""
        if self.held_out is None:
            return
        pictures, volumes, logits, _ = self._held_out(8)
        cells = [
            front(grids[:, None], pictures.shape[1] // self.grid) for grids in (volumes.occupied, logits > 0)
        ]
        write_png(np.concatenate([tiles(rows) for rows in (pictures.cpu().numpy(), *cells)]), path)

    def _held_out(self, count: int) -> tuple[Tensor, Volumes, Tensor, Tensor]:
        assert self.held_out is not None
        voxels = self.held_out.batch(list(range(min(count, len(self.held_out)))))
        generator = torch.Generator(self.processes.device).manual_seed(0)
        shapes = surfaces(voxels, self.held_out.resolution)
        pictures = self.studio.photograph(shapes, generator, self.source.size)
        logits, material = self._told(encoder_input(pictures))
        return pictures, Volumes.of(voxels, self.held_out.resolution, self.grid), logits, material


def varied(images: Tensor, generator: torch.Generator, shift: float, zoom: float) -> Tensor:
    """Images (b, 3, s, s) moved and scaled a little, each by chance; black of the encoder's scale around.

    Parameters
    ----------
    shift : at most so far, of half the side.
    zoom : by a factor of at most 1 +- this.
    """
    count, device = len(images), images.device
    u = 2 * torch.rand((count, 3), generator=generator, device=device) - 1
    scale = 1 + zoom * u[:, 0]
    zero = torch.zeros_like(scale)
    rows = [torch.stack([scale, zero, shift * u[:, 1]], 1), torch.stack([zero, scale, shift * u[:, 2]], 1)]
    places = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    # What is outside counts as black, which is not zero here.
    black = encoder_input(torch.zeros((1, 1, 1, 3), dtype=torch.uint8, device=device))
    return F.grid_sample(images - black, places, align_corners=False) + black


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
