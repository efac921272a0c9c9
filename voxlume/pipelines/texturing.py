"""A picture and a mesh to a new material on the mesh's own surface, as voxels and as textures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from voxlume.asset import Asset
from voxlume.flow.forecast import Forecast
from voxlume.mesh import write
from voxlume.mesh.retexture import RetextureOptions, retexture
from voxlume.ovoxel import files
from voxlume.ovoxel.grid import OVoxel
from voxlume.pipelines import stages
from voxlume.pipelines.image_to_3d import DEFAULT_SEED, Picture, SamplerOptions, require
from voxlume.pipelines.memory import Networks, pick_device
from voxlume.pipelines.model_folder import TEXTURING, ModelFolder
from voxlume.pipelines.pipeline_type import parse_type
from voxlume.pipelines.preprocess import Background, preprocess_image
from voxlume.pipelines.results import Latent
from voxlume.pipelines.sanity import check_ovoxel
from voxlume.pipelines.stages import Preview, Sampling, Views
from voxlume.progress import Progress

ENDINGS = (*write.ENDINGS, *files.ENDINGS)
"""Endings of the files that :func:`write_textured` writes."""


@dataclass(frozen=True)
class TexturingOptions:
    """What a caller can choose.

    Attributes
    ----------
    resolution : of the voxels: the model's base resolution (512) or twice that (1024); None is the higher one
        that the model has networks for.
    seed, views, background, forecast, material_sampler : as for image to 3D.
    """

    resolution: int | None = None
    seed: int = DEFAULT_SEED
    views: Views = "cycle"
    background: Background = "auto"
    forecast: Forecast | None = None
    material_sampler: SamplerOptions = field(default_factory=SamplerOptions)


@dataclass(frozen=True, eq=False)
class Textured:
    """The mesh's voxels with their new material, and the latents it came from."""

    ovoxel: OVoxel
    shape: Latent
    material: Latent
    warnings: tuple[str, ...] = ()


class Texturing:
    """Pictures of an object onto a mesh of it.

    >>> pipeline = Texturing.from_pretrained("microsoft/TRELLIS.2-4B")
    >>> result = pipeline.run(voxlume.load("chair.glb"), "chair.png")
    >>> write_textured(result.ovoxel, "chair.glb", "chair_textured.glb")
    """

    def __init__(self, networks: Networks) -> None:
        self.networks = networks

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        memory_budget: float | None = None,
        image_encoder: str | Path | None = None,
    ) -> Texturing:
        """Open a model; the parameters are those of :meth:`.image_to_3d.ImageTo3D.from_pretrained`."""
        folder = ModelFolder.from_pretrained(
            source, revision=revision, pipeline=TEXTURING, image_encoder=image_encoder
        )
        return cls(Networks(folder, pick_device(device), dtype, memory_budget))

    def run(
        self,
        asset: Asset,
        pictures: Picture | Sequence[Picture],
        options: TexturingOptions | None = None,
        *,
        progress: Progress | None = None,
        preview: Preview | None = None,
    ) -> Textured:
        """Sample a material for a mesh.

        Returns
        -------
        Textured : voxels whose geometry is that of the mesh, with its placement.

        Raises
        ------
        VoxlumeError : of the kind that says what is wrong.
        """
        options = options or TexturingOptions()
        networks, config = self.networks, self.networks.folder.config
        best = 2 if networks.folder.has(stages.MATERIAL_FLOWS[1]) else 1
        kind = parse_type(options.resolution or best * config.base_resolution, config.base_resolution)
        require(
            networks.folder,
            [stages.SHAPE_ENCODER, stages.MATERIAL_FLOWS[kind.high], stages.MATERIAL_DECODER],
            f"texturing at {kind.resolution}",
        )
        if isinstance(pictures, str | Path | Image.Image | np.ndarray):
            pictures = [pictures]
        squares = [
            p if isinstance(p, np.ndarray) else preprocess_image(p, options.background) for p in pictures
        ]
        mesh_voxels = OVoxel.from_asset(asset, kind.resolution, progress=progress)
        shape = stages.encode_shape(networks, mesh_voxels, progress)
        condition = stages.encode_images(networks, squares, high=kind.high, progress=progress)
        (material,) = stages.sample_material(
            networks,
            condition,
            [shape],
            [options.seed],
            options.material_sampler.applied_to(config.material_sampler),
            Sampling(options.views, progress, preview, options.forecast),
            high=kind.high,
        )
        ovoxel = stages.decode_material_onto(networks, mesh_voxels, material, progress)
        ovoxel, warnings = check_ovoxel(ovoxel)
        return Textured(ovoxel, shape, material, tuple(warnings))


def write_textured(
    ovoxel: OVoxel,
    mesh: str | Path,
    path: str | Path,
    options: RetextureOptions | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Write a material as voxels, or as textures of the mesh that it was made for, by the name's ending.

    Parameters
    ----------
    mesh : the file that the voxels were made from.
    options : of the textures.

    Returns
    -------
    A line for everything that a user should know.

    Raises
    ------
    VoxlumeError : as :func:`voxlume.mesh.retexture.retexture` and :meth:`OVoxel.save` do.
    """
    path = Path(path)
    if path.suffix.lower() in files.ENDINGS:
        ovoxel.save(path)
        return ()
    return retexture(mesh, ovoxel, path, options, progress=progress)
