"""A small voxel store: balls and boxes of different sizes and materials, made without meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxlume.data.shards import pack, write_index, write_shard
from voxlume.ovoxel.grid import OVoxel

RESOLUTION = 32


def solid(number: int, resolution: int = RESOLUTION) -> OVoxel:
    """Object ``number``: the surface of an ellipsoid or a rounded box as an O-Voxel."""
    random = np.random.default_rng(number)
    center, radius = random.uniform(-0.1, 0.1, 3), random.uniform(0.12, 0.22, 3)
    power = 2.0 if number % 2 else 6.0
    corner = np.arange(resolution + 1) / resolution - 0.5
    grid = np.stack(np.meshgrid(corner, corner, corner, indexing="ij"), -1)
    inside = (np.abs((grid - center) / radius) ** power).sum(-1) < 1
    corners = np.stack(
        [
            inside[x : x + resolution, y : y + resolution, z : z + resolution]
            for x in (0, 1)
            for y in (0, 1)
            for z in (0, 1)
        ],
        -1,
    )
    coords = np.argwhere(corners.any(-1) & ~corners.all(-1)).astype(np.int32)
    at = corners[tuple(coords.T)]
    # Corner 4x + 2y + z; the edge along an axis that starts at the maximum corner of the two others.
    crossed = np.stack([at[:, 3] != at[:, 7], at[:, 5] != at[:, 7], at[:, 6] != at[:, 7]], 1)
    return OVoxel(
        resolution,
        coords,
        _dual_vertices(coords, center, radius, resolution),
        crossed,
        _attributes(coords, number, resolution),
    )


def _dual_vertices(
    coords: NDArray[np.int32], center: NDArray[np.float64], radius: NDArray[np.float64], resolution: int
) -> NDArray[np.float32]:
    middle = (coords + 0.5) / resolution - 0.5
    direction = (middle - center) / radius
    onto = center + radius * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return np.clip((onto + 0.5) * resolution - coords, 0, 1).astype(np.float32)


def _attributes(coords: NDArray[np.int32], number: int, resolution: int) -> NDArray[np.float32]:
    base = np.random.default_rng(number + 100).uniform(0.1, 0.9, 6)
    attributes = np.repeat(base[None], len(coords), 0)
    attributes[:, 0] = coords[:, 2] / resolution
    attributes[:, 5] = 1
    return attributes.astype(np.float32)


def write_store(folder: Path, train: int = 6, held_out: int = 2, resolution: int = RESOLUTION) -> Path:
    """A store with so many objects in the two splits."""
    folder.mkdir(parents=True)
    splits = {}
    for split, numbers in (("train", range(train)), ("held_out", range(1000, 1000 + held_out))):
        samples = [(f"{split}{n}", "procedural", pack(solid(n, resolution))) for n in numbers]
        write_shard(folder / f"{split}-0.safetensors", samples, resolution, {})
        listed = [[name, kind, len(packed["coords"])] for name, kind, packed in samples]
        splits[split] = [{"file": f"{split}-0.safetensors", "samples": listed}]
    write_index(folder, {"resolution": resolution, "settings": {}, "splits": splits})
    return folder
