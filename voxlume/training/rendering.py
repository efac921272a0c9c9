"""Losses on pictures of the decoded beside the true surface (the SC-VAE's second stage).

Both surfaces are drawn from the same random cameras. The decoded one is made of the true crossed edges, whose
logits learn from their own loss; what moves its silhouette are the vertices alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxlume.data.store import VoxelBatch
from voxlume.render.batch import ALL_ELEVATIONS, BatchCameras, Surfaces, maps, random_cameras
from voxlume.render.batch_voxels import surfaces_of_voxels, training_surfaces_of_voxels
from voxlume.render.soft_mask import soft_mask
from voxlume.render.ssim import ssim
from voxlume.training.config import RenderingLoss

RADIUS_RANGE = (2.0, 100.0)
"""Distances of the cameras, as in the paper; every one sees the whole cube."""

MASK_SAMPLES = 2
"""Samples of a pixel on each axis, of which silhouettes are made."""

Weighted = dict[str, tuple[Tensor, float]]


@dataclass(frozen=True, eq=False)
class Rendered:
    """What was decoded, row by row with the true voxels; what is None is taken from these.

    Attributes
    ----------
    dual_vertices : (n, 3); splitting_weights : (n,); attributes : (n, 6).
    """

    dual_vertices: Tensor | None
    splitting_weights: Tensor | None
    attributes: Tensor | None


class RenderingLosses:
    """Draws and compares; call it with the true voxels and what was decoded of them."""

    def __init__(self, config: RenderingLoss, resolution: int) -> None:
        self.config, self.resolution = config, resolution

    def __call__(self, voxels: VoxelBatch, decoded: Rendered, generator: torch.Generator) -> Weighted:
        """Losses with their weights, of the first objects of the batch."""
        count = min(self.config.objects or voxels.batch_size, voxels.batch_size)
        rows = slice(0, sum(voxels.lengths[:count]))
        cameras = random_cameras(
            count, generator, voxels.coords.device, RADIUS_RANGE, elevation=ALL_ELEVATIONS
        )
        coords, intersected = voxels.coords[rows], voxels.intersected[rows]
        truth = surfaces_of_voxels(
            coords,
            voxels.dual_vertices[rows],
            intersected,
            voxels.attributes[rows],
            self.resolution,
            batch_size=count,
        )
        with torch.no_grad():
            true = maps(truth, cameras, self.config.size)
        if decoded.dual_vertices is None or decoded.splitting_weights is None:
            assert decoded.attributes is not None
            assert true.attributes is not None
            guess = maps(
                type(truth)(truth.vertices, truth.faces, truth.face_starts, decoded.attributes[rows]),
                cameras,
                self.config.size,
            )
            assert guess.attributes is not None
            return self._compared("attributes", guess.attributes, true.attributes, self.config.attributes)
        surface = training_surfaces_of_voxels(
            coords,
            decoded.dual_vertices[rows],
            intersected,
            decoded.splitting_weights[rows],
            None,
            self.resolution,
            batch_size=count,
        )
        guess = maps(surface, cameras, self.config.size)
        both = (guess.mask * true.mask).unsqueeze(-1)
        depth = ((guess.depth - true.depth).abs() * both[..., 0]).sum() / both.sum().clamp(min=1)
        normal = self._compared("normal", guess.normal * both, true.normal * both, self.config.normal)
        silhouette = self._silhouettes(surface, truth, cameras)
        return {
            "silhouette": (silhouette, self.config.silhouette),
            "depth": (depth, self.config.depth),
            **normal,
        }

    def _silhouettes(self, guess: Surfaces, truth: Surfaces, cameras: BatchCameras) -> Tensor:
        """L1 of the share of every pixel that the surfaces cover."""
        with torch.no_grad():
            true = soft_mask(truth, cameras, self.config.size, MASK_SAMPLES)
        return (soft_mask(guess, cameras, self.config.size, MASK_SAMPLES) - true).abs().mean()

    def _compared(self, name: str, guess: Tensor, true: Tensor, weight: float) -> Weighted:
        """L1 and structural dissimilarity of pictures (b, s, s, c)."""
        data_range = 2.0 if name == "normal" else 1.0
        dissimilarity = 1 - ssim(guess, true, data_range=data_range).mean()
        return {
            f"{name}_picture": ((guess - true).abs().mean(), weight),
            f"{name}_ssim_loss": (dissimilarity, weight * self.config.ssim),
        }
