"""What the stages hand to one another: plain, immutable, on the CPU, and storable.

Each object is one sample. A stored object is one safetensors file whose header also carries its other
values, so a file is whole or not there, and reading it can run nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from voxlume.errors import VoxelFileError
from voxlume.files import atomic_write
from voxlume.models.sc_vae import Content

FORMAT = "voxlume.stage"
MAX_GRID = 1 << 16


@dataclass(frozen=True, eq=False)
class ImageCondition:
    """What the image encoder says about one object.

    Attributes
    ----------
    low : float32 (v, m, c), tokens of v pictures at the size that the low-resolution networks were
        trained with (512 for the published ones).
    high : the same at the size of the high-resolution networks (1024), or None where not needed.
    inside : float32 (v, g, g, g) in 0 .. 1, how likely each cell of the structure's grid (Z-up model frame)
        is seen inside the object's outline in each picture, or None where nothing tells.
    mirrored : float32 (v, m, c), as ``low`` of the pictures' mirror images, or None where not needed.
    """

    low: Tensor
    high: Tensor | None = None
    inside: Tensor | None = None
    mirrored: Tensor | None = None

    def check(self) -> None:
        for name, tokens in (("low", self.low), ("high", self.high), ("mirrored", self.mirrored)):
            if tokens is not None and (tokens.ndim != 3 or not tokens.is_floating_point()):
                raise ValueError(f"{name} is not a tensor of image tokens")
        if self.mirrored is not None and self.mirrored.shape != self.low.shape:
            raise ValueError("mirrored does not have the tokens of each picture")
        if self.inside is not None:
            views, *edges = self.inside.shape
            if len(edges) != 3 or len(set(edges)) != 1 or views != len(self.low) or 0 in edges:
                raise ValueError("inside is not a grid for each picture")
            if self.inside.dtype != torch.float32 or not bool(
                ((self.inside >= 0) & (self.inside <= 1)).all()
            ):
                raise ValueError("inside does not hold probabilities")


@dataclass(frozen=True, eq=False)
class Structure:
    """Which cells of a coarse grid hold a piece of the surface.

    Attributes
    ----------
    coords : int32 (n, 3), unique, in lexicographic order, Z-up model frame.
    resolution : cells along an edge of the grid.
    """

    coords: Tensor
    resolution: int

    def __len__(self) -> int:
        return len(self.coords)

    def check(self) -> None:
        check_coords(self.coords, self.resolution)


@dataclass(frozen=True, eq=False)
class Latent:
    """A latent of the SC-VAE as its decoder takes it (not normalised).

    Attributes
    ----------
    content : whether it is a shape or a material.
    coords : int32 (n, 3), unique, in lexicographic order.
    features : float32 (n, c).
    resolution : cells along an edge of the latent grid; the published decoders yield 16 times as many.
    """

    content: Content
    coords: Tensor
    features: Tensor
    resolution: int

    def __len__(self) -> int:
        return len(self.coords)

    def check(self) -> None:
        if self.content not in ("shape", "material"):
            raise ValueError(f"content {self.content!r} is neither shape nor material")
        check_coords(self.coords, self.resolution)
        if self.features.ndim != 2 or len(self.features) != len(self.coords):
            raise ValueError("features and coords do not belong together")
        if not self.features.is_floating_point() or not bool(self.features.isfinite().all()):
            raise ValueError("features are not all finite numbers")


Result = ImageCondition | Structure | Latent
R = TypeVar("R", ImageCondition, Structure, Latent)


def check_coords(coords: Tensor, resolution: int) -> None:
    """Raise ``ValueError`` unless these are cells of that grid, int32 (n, 3), sorted and unique."""
    if type(resolution) is not int or not 1 <= resolution <= MAX_GRID:
        raise ValueError(f"resolution {resolution!r} is not a grid's size")
    if coords.dtype != torch.int32 or coords.ndim != 2 or coords.shape[1] != 3 or len(coords) == 0:
        raise ValueError("coords are not a list of int32 triples")
    if int(coords.min()) < 0 or int(coords.max()) >= resolution:
        raise ValueError(f"coords leave the grid of {resolution}")
    x, y, z = coords.long().unbind(1)
    keys = (x * resolution + y) * resolution + z
    if bool((keys[1:] <= keys[:-1]).any()):
        raise ValueError("coords are not in lexicographic order, or not unique")


def save_result(result: Result, path: str | Path, note: Mapping[str, Any] | None = None) -> None:
    """Write one stage's result; ``note`` is kept with it for people and programs to read (JSON).

    Raises
    ------
    VoxlumeError : the folder is missing or the file cannot be written.
    """
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    tensors = {name: value.contiguous() for name, value in values.items() if isinstance(value, Tensor)}
    plain = {name: value for name, value in values.items() if isinstance(value, int | str)}
    metadata = {
        "format": FORMAT,
        "kind": type(result).__name__,
        "values": json.dumps(plain),
        "note": json.dumps(dict(note or {})),
    }
    with atomic_write(path) as file:
        file.write(safetensors_bytes(tensors, metadata=metadata))


def load_result(path: str | Path, kind: type[R]) -> R:
    """Read what :func:`save_result` wrote.

    Raises
    ------
    VoxelFileError : the file is missing, damaged, something else, or holds impossible values.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT or metadata.get("kind") != kind.__name__:
                raise VoxelFileError(f"{path} does not hold a saved {kind.__name__}")
            names = {field.name for field in fields(kind)}
            plain = json.loads(metadata["values"])
            values = {key: value for key, value in plain.items() if key in names}
            # Copied, so that the object does not change or break with the file.
            values |= {key: file.get_tensor(key).clone() for key in file.keys() if key in names}  # noqa: SIM118
        result = kind(**values)
        result.check()
    except FileNotFoundError as error:
        raise VoxelFileError(f"{path} does not exist") from error
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise VoxelFileError(f"{path} is damaged or not a saved {kind.__name__}: {reason}") from error
    return result
