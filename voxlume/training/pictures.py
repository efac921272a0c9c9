"""Pictures that training looks at, and pictures of what it makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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
from voxlume.render.conditioning import SEEN, Lighting, Pictures, condition_pictures, random_lighting
from voxlume.render.lights import random_lights
from voxlume.training.checkpoint import write_safetensors
from voxlume.training.data import batch_on, rows_on
from voxlume.training.order import mixed_seed

TOGETHER = 64
"""Objects drawn at once while a cache is filled."""

READ_TOGETHER = 64
"""Objects whose kept pictures are read at once."""

LIGHTS = 64
"""Environments that the pictures of a run are taken in."""

KEPT = {"rgb": torch.uint8, "seen": torch.uint8, "cameras": torch.float32}
"""What files of pictures hold."""


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


def camera_numbers(cameras: BatchCameras) -> Tensor:
    """Cameras with windows that look at the origin as float32 (b, 8): position, focal, window."""
    assert cameras.window is not None
    return torch.cat([cameras.position, cameras.focal[:, None], cameras.window], 1)


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
    seen : uint8 (objects, views, s, s, 14), what every so-manieth pixel shows, or None; see
        :class:`voxlume.render.conditioning.Seen`.
    cameras : float32 (objects, views, 8) that they were taken with, or None; see :func:`camera_numbers`.
    """

    def __init__(self, rgb: Tensor, seen: Tensor | None = None, cameras: Tensor | None = None) -> None:
        self.rgb, self.seen, self.cameras = rgb, seen, cameras

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
        seen_every: int = 0,
    ) -> PictureCache:
        """Draw all views of all objects.

        Parameters
        ----------
        numbers, total : the objects' numbers in the whole data set, and its size; by default the store is
            the whole. Cameras and lights are drawn for all objects of the whole.
        seen_every : see :func:`voxlume.render.conditioning.condition_pictures`.
        """
        numbers = range(len(store)) if numbers is None else numbers
        total = total or len(store)
        cache = cls.empty(len(store), views, size, seen_every, device)
        studio = Studio(device, seed)
        settings = [studio.settings(total, mixed_seed(seed, view, 0xCA3E)) for view in range(views)]
        for first in range(0, len(store), TOGETHER):
            chosen = range(first, min(first + TOGETHER, len(store)))
            report(progress, first, len(store), "drawing pictures")
            shapes = surfaces(batch_on(device, store, list(chosen)), store.resolution)
            rows = torch.tensor([numbers[i] for i in chosen], device=device)
            for view, (cameras, lighting) in enumerate(settings):
                pictures = condition_pictures(
                    shapes,
                    None,
                    size,
                    _some(cameras, rows),
                    lighting=_some_light(lighting, rows),
                    supersampling=supersampling,
                    seen_every=seen_every,
                )
                cache.rgb[first : first + len(chosen), view] = pictures.rgb
                assert cache.cameras is not None
                cache.cameras[first : first + len(chosen), view] = camera_numbers(pictures.cameras)
                if cache.seen is not None and pictures.seen is not None:
                    cache.seen[first : first + len(chosen), view] = pictures.seen
        return cache

    @classmethod
    def empty(
        cls, objects: int, views: int, size: int, seen_every: int, device: torch.device
    ) -> PictureCache:
        """Room for so many pictures."""

        def room(side: int, channels: int) -> Tensor:
            return torch.empty((objects, views, side, side, channels), dtype=torch.uint8, device=device)

        seen = room(size // seen_every, SEEN) if seen_every else None
        return cls(room(size, 3), seen, torch.empty((objects, views, 8), device=device))

    @classmethod
    def kept(
        cls,
        folder: Path,
        names: Sequence[str],
        what: Mapping[str, str],
        wanted: Sequence[str],
        device: torch.device,
    ) -> PictureCache | None:
        """The pictures of the named objects from the files in a folder, if they hold all that is wanted.

        Files that are damaged or hold pictures of another kind are passed over.

        Parameters
        ----------
        wanted : names of the attributes.
        """
        places = {name: i for i, name in enumerate(names)}
        columns: dict[str, Tensor] = {}
        missing = set(names)
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    note = dict(file.metadata() or {})
                    held = json.loads(note.pop("names", "[]"))
                    if note != what or not set(wanted) <= set(file.keys()):
                        continue
                    for key in wanted:
                        stored = file.get_slice(key)
                        if key not in columns:
                            shape = (len(names), *stored.get_shape()[1:])
                            columns[key] = torch.empty(shape, dtype=KEPT[key], device=device)
                        for first in range(0, len(held), READ_TOGETHER):
                            some = held[first : first + READ_TOGETHER]
                            here = [i for i, name in enumerate(some) if name in places]
                            if here:
                                rows = torch.tensor([places[some[i]] for i in here], device=device)
                                pictures = stored[first : first + len(some)]
                                pictures = pictures if len(here) == len(some) else pictures[here]
                                columns[key][rows] = pictures.to(device)
                    missing -= set(held)
            except (SafetensorError, OSError, ValueError):
                continue
        return None if missing else cls(columns["rgb"], columns.get("seen"), columns.get("cameras"))

    def keep(self, path: Path, names: Sequence[str], what: Mapping[str, str]) -> None:
        """Write the pictures to a file, with a note of what they are."""
        path.parent.mkdir(parents=True, exist_ok=True)
        held = {"rgb": self.rgb, "seen": self.seen, "cameras": self.cameras}
        tensors = {key: tensor for key, tensor in held.items() if tensor is not None}
        with atomic_write(path) as file:
            write_safetensors(file, tensors, {**what, "names": json.dumps(list(names))})

    def to(self, device: torch.device) -> PictureCache:
        further = (None if t is None else t.to(device) for t in (self.seen, self.cameras))
        return PictureCache(self.rgb.to(device), *further)

    def batch(self, objects: Sequence[int], views: Sequence[int]) -> Tensor:
        """uint8 (b, s, s, 3), one view of each object."""
        return _rows_of(self.rgb, objects, views)

    def seen_batch(self, objects: Sequence[int], views: Sequence[int]) -> Tensor:
        """uint8 (b, s, s, 14), what the same pictures show."""
        assert self.seen is not None
        return _rows_of(self.seen, objects, views)

    def camera_batch(self, objects: Sequence[int], views: Sequence[int]) -> Tensor:
        """float32 (b, 8), what the same pictures were taken with."""
        assert self.cameras is not None
        return _rows_of(self.cameras, objects, views)


def _rows_of(pictures: Tensor, objects: Sequence[int], views: Sequence[int]) -> Tensor:
    rows = [o * pictures.shape[1] + v for o, v in zip(objects, views, strict=True)]
    return pictures.flatten(0, 1).index_select(0, rows_on(pictures.device, rows))


@dataclass(frozen=True)
class PictureSource:
    """How the pictures of a process's objects come about: kept by an earlier run, or drawn.

    Attributes
    ----------
    views, size, seed, supersampling, seen_every : see :meth:`PictureCache.drawn`.
    cameras : whether those they were taken with are wanted too.
    numbers, total : of the objects in the whole data set, and its size.
    folder : keeps them for later runs, or None.
    file : name of this process's file there.
    """

    views: int
    size: int
    seed: int
    numbers: Sequence[int]
    total: int
    folder: Path | None = None
    file: str = ""
    supersampling: int = 2
    seen_every: int = 0
    cameras: bool = False

    def pictures(
        self,
        names: Sequence[str],
        voxels: Callable[[], VoxelStore],
        device: torch.device,
        held_on: torch.device | None = None,
    ) -> PictureCache:
        """All views of the named objects; drawn from their voxels unless earlier runs have kept them.

        Other processes, more or fewer than now, may have kept them.

        Parameters
        ----------
        device : on which they are drawn.
        held_on : where those that are kept are read to, if not there.
        """
        what = {"views": str(self.views), "size": str(self.size), "seed": str(self.seed)}
        what |= {"supersampling": str(self.supersampling), "total": str(self.total)}
        if self.folder is not None:
            wanted = ["rgb", *["seen"] * bool(self.seen_every), *["cameras"] * self.cameras]
            kept = PictureCache.kept(self.folder, names, what, wanted, held_on or device)
            if kept is not None:
                return kept
        drawn = PictureCache.drawn(
            voxels(),
            self.views,
            self.size,
            self.seed,
            device,
            self.numbers,
            self.total,
            supersampling=self.supersampling,
            seen_every=self.seen_every,
        )
        if self.folder is not None:
            drawn.keep(self.folder / self.file, names, what)
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
        return self.pictures(shapes, generator, size, cameras).rgb

    def pictures(
        self,
        shapes: Surfaces,
        generator: torch.Generator,
        size: int,
        cameras: BatchCameras | None = None,
        seen_every: int = 0,
    ) -> Pictures:
        """One cut-out picture of each sample with what belongs to it."""
        return condition_pictures(
            shapes, generator, size, cameras, lighting=self.lights, seen_every=seen_every
        )


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
