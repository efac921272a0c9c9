"""Training of the structure VAE: occupancy of a coarse grid <-> a dense latent a quarter as fine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from voxlume.data.store import VoxelBatch, VoxelStore
from voxlume.models.published import NetworkConfig
from voxlume.models.structure_vae import (
    StructureDecoder,
    StructureDecoderConfig,
    StructureEncoder,
    StructureEncoderConfig,
)
from voxlume.training.config import StructureVaeConfig
from voxlume.training.data import batches_on, rows_on
from voxlume.training.losses import binary_cross_entropy, drawn_latent, kl_divergence
from voxlume.training.order import Order
from voxlume.training.parallel import Processes
from voxlume.training.pictures import tiles, write_png
from voxlume.training.stage import Batch, Stage

MEASURED = 64


def occupancy(voxels: VoxelBatch, resolution: int, grid: int) -> Tensor:
    """Which cells of a coarser grid hold a voxel: bool (b, 1, grid, grid, grid)."""
    factor = resolution // grid
    sample, cell = voxels.coords[:, 0].long(), (voxels.coords[:, 1:] // factor).long()
    occupied = torch.zeros(
        (voxels.batch_size, 1, grid, grid, grid), dtype=torch.bool, device=voxels.coords.device
    )
    occupied[sample, 0, cell[:, 0], cell[:, 1], cell[:, 2]] = True
    return occupied


class StructureVaeStage(Stage):
    """Encoder and decoder of structures.

    Parameters
    ----------
    grid : of the occupancy.
    """

    def __init__(
        self,
        encoder: NetworkConfig,
        decoder: NetworkConfig,
        keys: tuple[str, str],
        config: StructureVaeConfig,
        store: VoxelStore,
        held_out: VoxelStore | None,
        processes: Processes,
        grid: int,
    ) -> None:
        super().__init__()
        self.config, self.processes, self.store, self.held_out = config, processes, store, held_out
        self.keys, self.grid = keys, grid
        assert isinstance(encoder, StructureEncoderConfig)
        assert isinstance(decoder, StructureDecoderConfig)
        self.encoder, self.decoder = StructureEncoder(encoder), StructureDecoder(decoder)
        self._order: Order | None = None
        self.to(processes.device)
        # As bytes all structures are a few hundred megabytes: made once, then only looked up.
        self.structures = _all_structures(store, grid, processes.device)

    def networks(self) -> dict[str, nn.Module]:
        return dict(zip(self.keys, (self.encoder, self.decoder), strict=True))

    def prepare(self, step: int, lanes: int) -> Batch:
        device = self.processes.device
        if self._order is None:
            own = self.processes.lanes(lanes)
            per_lane = max(1, self.config.loop.batch_size // lanes)
            seed = self.config.loop.seed
            self._order = Order(len(self.store), own, lanes, per_lane, self.processes.count, seed)
        objects = rows_on(device, self._order.objects(step))
        occupied = self.structures.index_select(0, objects)
        generators = self._order.generators(step, device)
        return Batch(len(objects), occupied.numel(), (occupied, generators))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        occupied, generators = batch.content
        mean, log_variance = self.encoder(occupied.float())
        each = (len(mean) // len(generators), *mean.shape[1:])
        noise = torch.cat([torch.randn(each, generator=g, device=mean.device) for g in generators])
        logits = self.decoder(drawn_latent(mean, log_variance, noise))
        losses = {
            "occupancy": binary_cross_entropy(logits, occupied),
            "kl": kl_divergence(mean, log_variance),
        }
        losses["loss"] = self.config.occupancy * losses["occupancy"] + self.config.kl * losses["kl"]
        return losses

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Cross entropy and intersection over union from the latent's mean; the latent's spread."""
        if self.held_out is None:
            return {}
        occupied, logits, mean = self._held_out(MEASURED)
        decided = logits > 0
        return {
            "occupancy": float(binary_cross_entropy(logits, occupied)),
            "structure_iou": float((decided & occupied).sum() / (decided | occupied).sum()),
            "latent_rms": float(mean.square().mean().sqrt()),
        }

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """True structures above decoded ones, seen from the front; what is deeper is darker."""
        if self.held_out is None:
            return
        occupied, logits, _ = self._held_out(8)
        rows = [tiles(front(structures)) for structures in (occupied, logits > 0)]
        write_png(np.concatenate(rows), path)

    def _held_out(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        assert self.held_out is not None
        voxels = self.held_out.batch(list(range(min(count, len(self.held_out)))))
        occupied = occupancy(voxels, self.held_out.resolution, self.grid)
        mean, _ = self.encoder(occupied.float())
        return occupied, self.decoder(mean), mean


def _all_structures(store: VoxelStore, grid: int, device: torch.device) -> Tensor:
    return torch.cat([occupancy(batch, store.resolution, grid) for batch in batches_on(device, store)])


def front(structures: Tensor, scale: int = 4) -> np.ndarray:
    """uint8 (b, h, w, 3), looking along +y of the model frame with z up."""
    solid = structures[:, 0]
    depth = solid.int().argmax(2)  # first occupied cell along y
    shade = torch.where(solid.any(2), 1 - 0.75 * depth / solid.shape[2], 0.0)
    picture = (255 * shade).to(torch.uint8).transpose(1, 2).flip(1)
    large = picture.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return large[..., None].expand(-1, -1, -1, 3).cpu().numpy()
