"""Training of the sparse-compression VAE on shapes or materials, both stages (TRELLIS.2, section 3.2).

The first stage compares what is decoded with the voxels; the second adds pictures of both surfaces. While
training, the decoder follows the true masks, so its output has the rows of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxlume.data.store import VoxelBatch, VoxelStore
from voxlume.models.published import NetworkConfig
from voxlume.models.sc_vae import (
    DecoderConfig,
    DualGridChannels,
    EncoderConfig,
    ScVaeDecoder,
    ScVaeEncoder,
    dual_grid_channels,
    material_attributes,
    material_features,
    shape_features,
)
from voxlume.models.subdivision import rows_in, subdivisions_to
from voxlume.sparse.neighbors import neighbor_map
from voxlume.sparse.resample import Subdivision, mean_pool
from voxlume.sparse.tensor import CoordinateSet, SparseTensor
from voxlume.training.config import MaterialVaeConfig, ShapeVaeConfig
from voxlume.training.data import batch_on, batches_on
from voxlume.training.losses import binary_cross_entropy, drawn_latent, kl_divergence, mask_loss
from voxlume.training.means import begin_as_means, decode_means, fitted_means
from voxlume.training.order import Order
from voxlume.training.parallel import Processes
from voxlume.training.pictures import render_comparison
from voxlume.training.rendering import Rendered, RenderingLosses
from voxlume.training.stage import Batch, Stage

FITTED, TOGETHER = 200, 4
"""Training objects that a linear decoder is fitted to, and how many of them are encoded at once."""

MEASURED = 16
"""Held-out objects that are measured; the first of the split, whose order is random."""

DRAWN = 4
"""Held-out objects that are drawn."""


@dataclass(frozen=True, eq=False)
class VoxelContent:
    """Voxels with all that depends on their coordinates alone.

    Attributes
    ----------
    fine : the coordinate set of the voxels, with its ancestors and neighbour maps.
    steps : the true subdivisions, coarse to fine.
    generators : one per lane of this process.
    """

    voxels: VoxelBatch
    fine: CoordinateSet
    steps: list[Subdivision]
    generators: list[torch.Generator]


def voxel_content(
    voxels: VoxelBatch, levels: int, generators: Sequence[torch.Generator] = ()
) -> VoxelContent:
    """Find the ancestors of voxels and everybody's neighbours, ``levels`` grids up."""
    fine = CoordinateSet(voxels.coords, voxels.batch_size)
    fine.memo("batch_lengths", lambda: list(voxels.lengths))
    steps = subdivisions_to(fine, levels)
    for coordinates in (*(step.children for step in steps), steps[0].lineage.parents):
        neighbor_map(coordinates)
    return VoxelContent(voxels, fine, steps, list(generators))


class ScVaeStage(Stage):
    """What shape and material share: data, encoder, decoder, the drawn latent."""

    def __init__(
        self,
        encoder: NetworkConfig,
        decoder: NetworkConfig,
        keys: tuple[str, str],
        config: ShapeVaeConfig | MaterialVaeConfig,
        store: VoxelStore,
        held_out: VoxelStore | None,
        processes: Processes,
    ) -> None:
        super().__init__()
        self.config, self.processes, self.store, self.held_out = config, processes, store, held_out
        assert isinstance(encoder, EncoderConfig)
        assert isinstance(decoder, DecoderConfig)
        self.encoder, self.decoder = ScVaeEncoder(encoder), ScVaeDecoder(decoder)
        self.keys = keys
        self.levels, self.vertex_margin = len(decoder.channels) - 1, decoder.vertex_margin
        self.rendering = RenderingLosses(config.rendering, store.resolution)
        self.rendering_on = False
        self._order: Order | None = None
        self.to(processes.device)

    def networks(self) -> dict[str, nn.Module]:
        return dict(zip(self.keys, (self.encoder, self.decoder), strict=True))

    def begin(self, fraction: float) -> None:
        first = self.config.rendering.share_from
        self.rendering_on = first < 1 and fraction >= first

    def prepare(self, step: int, lanes: int) -> Batch:
        if self._order is None:
            own = self.processes.lanes(lanes)
            loop = self.config.loop
            self._order = Order(
                len(self.store),
                own,
                lanes,
                max(1, loop.batch_size // lanes),
                self.processes.count,
                loop.seed,
            )
        voxels = batch_on(self.processes.device, self.store, self._order.objects(step))
        generators = self._order.generators(step, voxels.coords.device)
        return Batch(voxels.batch_size, sum(voxels.lengths), voxel_content(voxels, self.levels, generators))

    def features(self, voxels: VoxelBatch) -> Tensor:
        """What the encoder takes."""
        raise NotImplementedError

    def encoded(self, content: VoxelContent) -> tuple[SparseTensor, SparseTensor]:
        """Mean and log-variance of the latents."""
        return self.encoder(SparseTensor.on(content.fine, self.features(content.voxels)))

    def latent_noise(self, mean: SparseTensor, content: VoxelContent) -> Tensor:
        """Standard normal noise for the latents, each lane's from its own generator."""
        if len(content.generators) == 1:
            generator = content.generators[0]
            return torch.randn(mean.features.shape, generator=generator, device=mean.device)
        # Only where one process stands for several: the lanes' token counts are needed on the host.
        lengths = mean.batch_lengths
        each = len(lengths) // len(content.generators)
        return torch.cat(
            [
                torch.randn(
                    (sum(lengths[i * each : (i + 1) * each]), mean.channels), generator=g, device=mean.device
                )
                for i, g in enumerate(content.generators)
            ]
        )

    def held_out_batches(self, per_batch: int = 4) -> list[VoxelContent]:
        """The measured held-out objects."""
        if self.held_out is None:
            return []
        indices = list(range(min(MEASURED, len(self.held_out))))
        groups = [indices[i : i + per_batch] for i in range(0, len(indices), per_batch)]
        return [voxel_content(self.held_out.batch(group), self.levels) for group in groups]

    def summed(self, losses: dict[str, Tensor], kl: Tensor, content: VoxelContent, shown: Rendered) -> Tensor:
        """Add the divergence and, when they are on, the rendering losses to the weighted sum in ``loss``."""
        losses["kl"] = kl
        total = losses["loss"] + self.config.kl * kl
        if self.rendering_on:
            pictures = self.rendering(content.voxels, shown, content.generators[0])
            for name, (value, weight) in pictures.items():
                losses[name] = value
                total = total + weight * value
        losses["loss"] = total
        return total


class ShapeVaeStage(ScVaeStage):
    """Geometry: dual vertices, crossed edges, the existence of children."""

    config: ShapeVaeConfig

    def features(self, voxels: VoxelBatch) -> Tensor:
        return shape_features(voxels.dual_vertices, voxels.intersected)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        content: VoxelContent = batch.content
        mean, log_variance = self.encoded(content)
        noise = self.latent_noise(mean, content)
        latent = mean.with_features(drawn_latent(mean.features, log_variance.features, noise))
        decoded = self.decoder(latent, content.steps)
        grid = dual_grid_channels(decoded.output.features, self.vertex_margin)
        losses = self.direct_losses(content, grid, [x.features for x in decoded.logits])
        weights = self.config
        losses["loss"] = (
            weights.intersected * losses["intersected"]
            + weights.vertex * losses["vertex"]
            + weights.masks * losses["masks"]
        )
        kl = kl_divergence(mean.features, log_variance.features)
        self.summed(losses, kl, content, Rendered(grid.dual_vertices, grid.splitting_weights, None))
        return losses

    def direct_losses(
        self, content: VoxelContent, grid: DualGridChannels, logits: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        voxels = content.voxels
        return {
            "intersected": binary_cross_entropy(grid.intersected_logits, voxels.intersected),
            "vertex": F.mse_loss(grid.dual_vertices, voxels.dual_vertices),
            "masks": mask_loss(logits, [step.kept for step in content.steps], self.config.voxel),
        }

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Losses, and how well the decoder finds the voxels by itself: with its own masks, from the mean."""
        sums: dict[str, Tensor] = {}
        batches = self.held_out_batches()
        for content in batches:
            mean, _ = self.encoded(content)
            decoded = self.decoder(mean, content.steps)
            grid = dual_grid_channels(decoded.output.features, self.vertex_margin)
            values = self.direct_losses(content, grid, [x.features for x in decoded.logits])
            truth, guess = content.voxels.intersected, grid.intersected_logits > 0
            values["crossed_edges_wrong"] = (truth != guess).float().mean()
            values["vertex_error"] = (
                (grid.dual_vertices - content.voxels.dual_vertices).square().sum(1).sqrt().mean()
            )
            alone = self.decoder(mean)
            found = (rows_in(content.fine.coords, alone.output.coords) >= 0).sum()
            either = len(content.fine) + len(alone.output) - found
            values["voxel_iou"] = found / either
            for name, value in values.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
        return {name: float(value) / len(batches) for name, value in sums.items()}

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """True and decoded surfaces side by side; the decoder goes by its own masks."""
        if self.held_out is None:
            return
        indices = range(min(DRAWN, len(self.held_out)))
        content = voxel_content(self.held_out.batch(list(indices)), self.levels)
        mean, _ = self.encoded(content)
        alone = self.decoder(mean)
        grid = dual_grid_channels(alone.output.features, self.vertex_margin)
        order = torch.argsort(alone.output.coords[:, 0], stable=True)
        shown = VoxelBatch(
            alone.output.coords[order],
            grid.dual_vertices[order],
            grid.intersected_logits[order] > 0,
            torch.full((len(order), 6), 0.6, device=order.device),
            torch.bincount(alone.output.coords[:, 0], minlength=len(indices)).tolist(),
        )
        render_comparison([content.voxels, shown], self.store.resolution, path, "normal")


class MaterialVaeStage(ScVaeStage):
    """Base colour, metallic, roughness and alpha of every voxel."""

    config: MaterialVaeConfig

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.encoder.requires_grad_(not self.config.freeze_encoder)

    def start(self, loaded: bool) -> None:
        if self.config.means and not loaded:
            begin_as_means(self.encoder, self.decoder)
        elif self.config.means and self.config.freeze_encoder:
            fresh = ScVaeDecoder(self.decoder.config).to(self.processes.device)
            decode_means(fresh, *self._fitted())
            self.decoder.load_state_dict(fresh.state_dict())

    @torch.no_grad()
    def _fitted(self) -> tuple[Tensor, Tensor]:
        """How the cells' means follow from their latents, over some training objects."""
        latents, variances, means = [], [], []
        for voxels in islice(batches_on(self.processes.device, self.store, TOGETHER), FITTED // TOGETHER):
            content = voxel_content(voxels, self.levels)
            pooled = SparseTensor.on(content.fine, self.features(voxels))
            for _ in range(self.levels):
                pooled = mean_pool(pooled)
            mean, log_variance = self.encoded(content)
            latents.append(mean.features.float())
            variances.append(log_variance.features.float().exp())
            means.append(pooled.features)
        return fitted_means(torch.cat(latents), torch.cat(variances), torch.cat(means))

    def features(self, voxels: VoxelBatch) -> Tensor:
        return material_features(voxels.attributes)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        content: VoxelContent = batch.content
        mean, log_variance = self.encoded(content)
        noise = self.latent_noise(mean, content)
        latent = mean.with_features(drawn_latent(mean.features, log_variance.features, noise))
        attributes = material_attributes(self.decoder(latent, content.steps).output.features)
        losses = self.direct_losses(content, attributes)
        weights = self.config
        losses["loss"] = weights.attributes * losses["attributes"] + weights.squares * losses["squares"]
        kl = kl_divergence(mean.features, log_variance.features)
        self.summed(losses, kl, content, Rendered(None, None, attributes))
        return losses

    def direct_losses(self, content: VoxelContent, attributes: Tensor) -> dict[str, Tensor]:
        # The network's own units are twice the attributes'.
        error = 2 * (attributes - content.voxels.attributes)
        return {"attributes": error.abs().mean(), "squares": error.square().mean()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Errors over voxels from the latent's mean: L1 loss, PSNR of colour and of the other channels."""
        batches = self.held_out_batches()
        if not batches:
            return {}
        squares, loss = [], []
        for content in batches:
            mean, _ = self.encoded(content)
            attributes = material_attributes(self.decoder(mean, content.steps).output.features)
            loss.append(self.direct_losses(content, attributes)["attributes"])
            error = attributes.clamp(0, 1) - content.voxels.attributes
            squares.append(error.square().mean(0))
        mean_squares = torch.stack(squares).mean(0)
        decibels = -10 * torch.log10(mean_squares.clamp(min=1e-10))
        return {
            "attributes": float(torch.stack(loss).mean()),
            "color_psnr": float(-10 * torch.log10(mean_squares[:3].mean().clamp(min=1e-10))),
            "metallic_psnr": float(decibels[3]),
            "roughness_psnr": float(decibels[4]),
            "alpha_psnr": float(decibels[5]),
        }

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """True and decoded materials on the true surfaces."""
        if self.held_out is None:
            return
        voxels = self.held_out.batch(list(range(min(DRAWN, len(self.held_out)))))
        content = voxel_content(voxels, self.levels)
        mean, _ = self.encoded(content)
        attributes = material_attributes(self.decoder(mean, content.steps).output.features).clamp(0, 1)
        shown = VoxelBatch(
            voxels.coords, voxels.dual_vertices, voxels.intersected, attributes, voxels.lengths
        )
        render_comparison([voxels, shown], self.store.resolution, path, "color")
