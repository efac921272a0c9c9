"""From one picture of a held-out object to the object: how near the whole model comes.

The picture is drawn from the object's voxels as training draws its own, with camera and light of fixed
chance; the result is compared in the published frame, with no alignment, and photographed again by the same
camera in the same light.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from voxlume.asset import Asset
from voxlume.data.sources import Source
from voxlume.errors import VoxlumeError
from voxlume.evaluation.measuring import Kept, Measured, measure_all, stamp
from voxlume.evaluation.metrics import (
    F_DISTANCES,
    MEASURES,
    Scores,
    Truth,
    iou,
    mean_ssim,
    open_edges,
    psnr,
)
from voxlume.evaluation.report import Report, Row, Tile, machine, peak_memory_gb
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.voxelize import voxelize_asset
from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions
from voxlume.progress import Progress
from voxlume.render.batch import BatchCameras, Surfaces, random_cameras
from voxlume.render.camera import FIXED_VIEWS
from voxlume.render.conditioning import (
    Lighting,
    condition_pictures,
    random_lighting,
    surfaces_of_voxels,
)
from voxlume.render.lights import random_lights
from voxlume.render.picture import render_views

GENERATION_MEASURES = {
    "view_psnr": "dB, the input view drawn again from the result, whole pictures",
    "view_ssim": "of the same",
    "view_iou": "of the silhouettes in the input view",
    "view_outline_error": "part of the input view's mean squared error where not both show the object",
    "view_inside_error": "part of it where both show",
    **MEASURES,
    "open_edges": "share of the surface's edges at which one face ends alone: holes and rims",
    "truth_open_edges": "of the truth's voxels",
    "tokens": "cells of the latent",
    "seconds": "picture to voxels",
}

SHEET_HEADS = ("input", "result, same view", "truth", "result", "result, back")
TILE = 192
_LARGEST_PICTURE = 512


@dataclass(frozen=True, eq=False)
class Shot:
    """A photograph of an object, and what it takes to repeat it.

    Attributes
    ----------
    picture : uint8 (s, s, 3), as the pipelines take it.
    mask : bool (s, s).
    cameras, lighting : of the one picture; the camera's window is the crop.
    """

    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    cameras: BatchCameras
    lighting: Lighting

    @classmethod
    def of(cls, voxels: OVoxel, name: str, size: int, device: torch.device) -> Shot:
        """Take it; camera and light are drawn from the object's name.

        Raises
        ------
        VoxlumeError : nothing of the object shows.
        """
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
        generator = torch.Generator().manual_seed(seed)
        cameras = random_cameras(1, generator, device)
        lighting = random_lighting(random_lights(1, generator, device), cameras, generator)
        taken = condition_pictures(surfaces_on(voxels, device), None, size, cameras, lighting=lighting)
        mask = taken.mask[0].cpu().numpy() > 0.5
        if not mask.any():
            raise VoxlumeError("nothing of the object shows")
        return cls(taken.rgb[0].cpu().numpy(), mask, taken.cameras, lighting)

    def repeat(self, voxels: OVoxel) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Picture and mask of something else in its place."""
        surfaces = surfaces_on(voxels, self.cameras.position.device)
        size = len(self.picture)
        taken = condition_pictures(surfaces, None, size, self.cameras, lighting=self.lighting, crop=False)
        return taken.rgb[0].cpu().numpy(), taken.mask[0].cpu().numpy() > 0.5


def surfaces_on(voxels: OVoxel, device: torch.device) -> Surfaces:
    """The surface of one O-Voxel on a device; a material it lacks is middle grey and matt."""
    attributes = voxels.attributes
    if attributes is None:
        attributes = np.tile(np.array([0.7, 0.7, 0.7, 0.0, 0.7, 1.0], np.float32), (len(voxels), 1))
    weights = voxels.splitting_weights
    return surfaces_of_voxels(
        pad(torch.from_numpy(voxels.coords).to(device), (1, 0)),
        torch.from_numpy(voxels.dual_vertices).to(device),
        torch.from_numpy(voxels.intersected).to(device),
        torch.from_numpy(attributes).to(device),
        voxels.resolution,
        batch_size=1,
        splitting_weights=None if weights is None else torch.from_numpy(weights).to(device),
    )


def evaluate_generation(
    pipeline: ImageTo3D,
    groups: Mapping[str, Sequence[Source]],
    *,
    options: ImageTo3DOptions | None = None,
    samples: int = 100_000,
    size: int = 256,
    pictures: int = 24,
    about: Mapping[str, Any] | None = None,
    kept_in: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Report, list[Tile]]:
    """Measure generation from one picture of each object.

    Parameters
    ----------
    groups : objects by the name of their group.
    options : of the pipeline; the model's defaults with seed 42 otherwise.
    samples, size, pictures, about, kept_in : as for :func:`.reconstruction.evaluate_reconstruction`.

    Returns
    -------
    report, and for the sheet label and pictures as :data:`SHEET_HEADS` says.
    """
    options = options or ImageTo3DOptions()
    device = pipeline.networks.device
    kind = pipeline.type_of(options.pipeline_type)
    picture_size = min(_LARGEST_PICTURE, max(pipeline.folder.config.image_sizes[: 2 if kind.high else 1]))
    facts = {"pipeline_type": kind.name, "resolution": kind.resolution, "picture_size": picture_size}
    facts |= {"samples": samples, "map_size": size, **machine(device)}
    result = Report("generation", {**(about or {}), **facts}, GENERATION_MEASURES)
    settings = {"options": asdict(options), "pictures": pictures, "groups": list(groups)}
    kept = Kept(kept_in, result, settings | {"model": stamp(pipeline.folder)})

    def measure(group: str, source: Source, shown: bool) -> Measured:
        try:
            asset = source.make()
            truth = Truth(asset, samples=samples, size=size)
            voxels = voxelize_asset(asset, kind.resolution)
            shot = Shot.of(voxels, source.name, picture_size, device)
        except VoxlumeError as error:
            return Measured(unusable=str(error))
        row, made = _measured(pipeline, options, truth, shot, group, source.name)
        row.scores["truth_open_edges"] = open_edges(voxels)
        label = f"{source.name}  {_short(row)}"
        return Measured((row,), (label, _tiles(asset, shot, truth, made)) if shown else None)

    tiles = measure_all(groups, measure, result, kept, pictures, "generating", progress)
    result.about["peak_memory_gb"] = peak_memory_gb(device)
    return result, tiles


def _measured(
    pipeline: ImageTo3D, options: ImageTo3DOptions, truth: Truth, shot: Shot, group: str, name: str
) -> tuple[Row, OVoxel | None]:
    """One object's row, and what was made, if anything."""
    nothing: Scores = {f"f_score_{d:g}": 0.0 for d in F_DISTANCES}
    began = time.perf_counter()
    try:
        (made,) = pipeline.run(shot.picture, replace(options, num_samples=1))
    except VoxlumeError as error:
        return Row(group, name, nothing, str(error)), None
    seconds = time.perf_counter() - began
    picture, mask = shot.repeat(made.ovoxel)
    first, second = shot.picture[None] / 255, picture[None] / 255
    squares, both = np.square(first - second).mean((0, 3)), shot.mask & mask
    scores = {
        **truth.score(made.ovoxel),
        "open_edges": open_edges(made.ovoxel),
        "view_psnr": psnr(first, second),
        "view_ssim": mean_ssim(first, second),
        "view_iou": iou(shot.mask, mask),
        "view_outline_error": float((squares * ~both).mean()),
        "view_inside_error": float((squares * both).mean()),
        "tokens": float(len(made.shape)),
        "seconds": seconds,
    }
    return Row(group, name, scores, "; ".join(made.warnings)), made.ovoxel


def _short(row: Row) -> str:
    return "failed" if row.scores.get("view_psnr") is None else f"F {row.scores['f_score_0.05']:.2f}"


def _tiles(asset: Asset, shot: Shot, truth: Truth, made: OVoxel | None) -> list[NDArray[np.uint8]]:
    pictures = [_resized(shot.picture)]
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    (source,) = render_views(asset, TILE, FIXED_VIEWS[:1])
    result = None if made is None else truth.placed(made)
    if made is None or result is None or not result.num_faces:
        return [*pictures, blank, source, blank, blank]
    return [
        *pictures,
        _resized(shot.repeat(made)[0]),
        source,
        *render_views(result, TILE, (FIXED_VIEWS[0], FIXED_VIEWS[2])),
    ]


def _resized(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS))
