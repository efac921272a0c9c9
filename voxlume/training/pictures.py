"""Pictures that training looks at, and pictures of what it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from voxlume.data.store import VoxelBatch, VoxelStore
from voxlume.files import atomic_write
from voxlume.models.image_encoder import IMAGENET_MEAN, IMAGENET_STD
from voxlume.progress import Progress, report
from voxlume.render.batch import BatchCameras, Surfaces, maps, orbit_cameras, random_cameras
from voxlume.render.batch_voxels import surfaces_of_voxels
from voxlume.render.conditioning import Lighting, condition_pictures, random_lighting
from voxlume.render.lights import random_lights
from voxlume.training.checkpoint import write_safetensors
from voxlume.training.data import batch_on, rows_on
from voxlume.training.order import mixed_seed

TOGETHER = 32
"""Objects drawn at once while a cache is filled."""

LIGHTS = 64
"""Environments that the pictures of a run are taken in."""


def surfaces(voxels: VoxelBatch, resolution: int) -> Surfaces:
    """The surfaces of a batch with their material."""
    return surfaces_of_voxels(
        voxels.coords,
        voxels.dual_vertices,
        voxels.intersected,
        voxels.attributes,
        resolution,
        batch_size=voxels.batch_size,
    )


def encoder_input(rgb: Tensor) -> Tensor:
    """Pictures uint8 (b, s, s, 3) as the image encoder takes them, float32 (b, 3, s, s)."""
    mean, std = (rgb.new_tensor(v, dtype=torch.float32) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((rgb.float() / 255 - mean) / std).permute(0, 3, 1, 2)


class PictureCache:
    """Views of every object of a store, drawn once and kept as bytes on the training device.

    The same seed gives the same pictures, whichever process draws them.

    Attributes
    ----------
    rgb : uint8 (objects, views, size, size, 3).
    """

    def __init__(self, rgb: Tensor) -> None:
        self.rgb = rgb

    @classmethod
    def drawn(
        cls,
        store: VoxelStore,
        views: int,
        size: int,
        seed: int,
        device: torch.device,
        numbers: Sequence[int] | None = None,
        total: int = 0,
        progress: Progress | None = None,
        supersampling: int = 2,
    ) -> PictureCache:
        """Draw all views of all objects.

        Parameters
        ----------
        numbers, total : the objects' numbers in the whole data set, and its size; by default the store is
            the whole. Cameras and lights are drawn for all objects of the whole.
        """
        numbers = range(len(store)) if numbers is None else numbers
        total = total or len(store)
        rgb = torch.empty((len(store), views, size, size, 3), dtype=torch.uint8, device=device)
        studio = Studio(device, seed)
        settings = [studio.settings(total, mixed_seed(seed, view, 0xCA3E)) for view in range(views)]
        for first in range(0, len(store), TOGETHER):
            chosen = range(first, min(first + TOGETHER, len(store)))
            report(progress, first, len(store), "drawing pictures")
            shapes = surfaces(batch_on(device, store, list(chosen)), store.resolution)
            rows = torch.tensor([numbers[i] for i in chosen], device=device)
            for view, (cameras, lighting) in enumerate(settings):
                rgb[first : first + len(chosen), view] = condition_pictures(
                    shapes,
                    None,
                    size,
                    _some(cameras, rows),
                    lighting=_some_light(lighting, rows),
                    supersampling=supersampling,
                ).rgb
        return cls(rgb)

    @classmethod
    def kept(cls, path: Path, what: dict[str, str], device: torch.device) -> PictureCache | None:
        """The pictures in a file, if it is there and whole and holds what is wanted."""
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                return cls(file.get_tensor("rgb")) if file.metadata() == what else None
        except (SafetensorError, OSError):
            return None

    def keep(self, path: Path, what: dict[str, str]) -> None:
        """Write the pictures to a file, with a note of what they are."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            write_safetensors(file, {"rgb": self.rgb}, what)

    def batch(self, objects: Sequence[int], views: Sequence[int]) -> Tensor:
        """uint8 (b, s, s, 3), one view of each object."""
        rows = [o * self.rgb.shape[1] + v for o, v in zip(objects, views, strict=True)]
        return self.rgb.flatten(0, 1).index_select(0, rows_on(self.rgb.device, rows))


@dataclass(frozen=True)
class PictureSource:
    """How the pictures of a process's objects come about: kept by an earlier run, or drawn.

    Attributes
    ----------
    views, size, seed : see :meth:`PictureCache.drawn`.
    kept : file that keeps them for later runs, or None.
    numbers, total : of the objects in the whole data set, and its size.
    """

    views: int
    size: int
    seed: int
    numbers: Sequence[int]
    total: int
    kept: Path | None = None
    supersampling: int = 2

    def pictures(self, store: VoxelStore, device: torch.device) -> PictureCache:
        """All views of a store's objects; drawn are those that no earlier run of the same kind has kept."""
        names = hashlib.sha256("\n".join(store.names).encode()).hexdigest()
        what = {"names": names, "views": str(self.views), "size": str(self.size), "seed": str(self.seed)}
        what["supersampling"] = str(self.supersampling)
        kept = PictureCache.kept(self.kept, what, device) if self.kept else None
        if kept is not None:
            return kept
        drawn = PictureCache.drawn(
            store,
            self.views,
            self.size,
            self.seed,
            device,
            self.numbers,
            self.total,
            supersampling=self.supersampling,
        )
        if self.kept is not None:
            drawn.keep(self.kept, what)
        return drawn


class Studio:
    """A pool of lights and the way to take pictures in them."""

    def __init__(self, device: torch.device, seed: int) -> None:
        generator = torch.Generator("cpu").manual_seed(mixed_seed(seed, 0x11947))
        self.device = device
        self.lights = random_lights(LIGHTS, generator, device)

    def settings(self, count: int, seed: int) -> tuple[BatchCameras, Lighting]:
        """A random camera and light for each of so many pictures."""
        generator = torch.Generator("cpu").manual_seed(seed)
        cameras = random_cameras(count, generator, self.device)
        return cameras, random_lighting(self.lights, cameras, generator)

    def photograph(
        self, shapes: Surfaces, generator: torch.Generator, size: int, cameras: BatchCameras | None = None
    ) -> Tensor:
        """One cut-out picture of each sample, uint8 (b, s, s, 3)."""
        return condition_pictures(shapes, generator, size, cameras, lighting=self.lights).rgb


def _some(cameras: BatchCameras, rows: Tensor) -> BatchCameras:
    return BatchCameras(cameras.position[rows], cameras.axes[rows], cameras.focal[rows])


def _some_light(lighting: Lighting, rows: Tensor) -> Lighting:
    return Lighting(lighting.lights, lighting.environment[rows], lighting.turn[rows])


def fixed_cameras(count: int, device: torch.device, turn: float = 0.0) -> BatchCameras:
    """From the front, a little from the right and above, or so many degrees further round."""

    def value(number: float) -> Tensor:
        return torch.full((count,), number, device=device)

    return orbit_cameras(value(30.0 + turn), value(20.0), value(4.0), value(4.5))


def render_comparison(
    rows: Sequence[VoxelBatch], resolution: int, path: Path, what: Literal["normal", "color"], size: int = 256
) -> None:
    """Write a PNG: a row for each batch, a column for each sample, the same view of all."""
    strips = []
    for voxels in rows:
        seen = maps(
            surfaces(voxels, resolution), fixed_cameras(voxels.batch_size, voxels.coords.device), size
        )
        if what == "normal":
            picture = (0.5 + 0.5 * seen.normal) * seen.mask[..., None] + (1 - seen.mask[..., None])
        else:
            assert seen.attributes is not None
            # Colour above, then metallic, roughness and alpha as red, green and blue.
            picture = torch.cat([seen.attributes[..., :3], seen.attributes[..., 3:6]], dim=1)
        strips.append(tiles(_bytes(picture)))
    write_png(np.concatenate(strips), path)


def tiles(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (b, h, w, 3) side by side."""
    return np.concatenate(list(pictures), axis=1)


def write_png(picture: NDArray[np.uint8], path: Path) -> None:
    with atomic_write(path) as file:
        Image.fromarray(picture).save(file, "PNG")


def _bytes(values: Tensor) -> NDArray[np.uint8]:
    return (255 * values.clamp(0, 1) + 0.5).to(torch.uint8).cpu().numpy()
