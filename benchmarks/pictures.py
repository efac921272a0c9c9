"""Batched pictures for training: ``python -m benchmarks.pictures --device cuda --keep NAME``.

Bumpy shells of about 55,000 voxels at 256^3 are drawn, one picture each, filling pictures of 256^2 pixels.
All times are warm medians for the whole batch.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import environment, keep
from benchmarks.timing import milliseconds
from voxlume.render.batch import Projection, Surfaces, maps, random_cameras, rasterize, vertex_normals
from voxlume.render.batch_voxels import surfaces_of_voxels, training_surfaces_of_voxels
from voxlume.render.conditioning import condition_pictures, crop_to_surfaces
from voxlume.render.lights import random_lights

RESOLUTION = 256
_SHAPES = 4


def bumpy_shell(seed: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels (n, 3), flags (n, 3) and attributes (n, 6) of a ball with waves on it."""
    axis = torch.arange(RESOLUTION + 1, device=device) / RESOLUTION - 0.5
    x, y, z = axis[:, None, None], axis[None, :, None], axis[None, None]
    waves = torch.sin((11 + seed) * x) * torch.cos(13 * y) * torch.sin(12 * z + seed)
    inside = (x * x + y * y + z * z).sqrt() < 0.2 + 0.04 * waves
    corners = torch.stack(
        [
            inside[i : RESOLUTION + i, j : RESOLUTION + j, k : RESOLUTION + k]
            for i in (0, 1)
            for j in (0, 1)
            for k in (0, 1)
        ]
    )
    coords = (corners.any(0) & ~corners.all(0)).nonzero()
    here = corners[:, coords[:, 0], coords[:, 1], coords[:, 2]]
    # The edges that end at the voxel's far corner, which is number 7.
    flags = torch.stack([here[7] != here[3], here[7] != here[5], here[7] != here[6]], 1)
    place = coords / RESOLUTION
    attributes = torch.cat([place, (place[:, :2] * 8).sin() * 0.5 + 0.5, torch.ones_like(place[:, :1])], 1)
    return coords.int(), flags, attributes


def batch(objects: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coordinates (n, 4), dual vertices, flags and attributes of a batch."""
    shapes = [bumpy_shell(seed, device) for seed in range(_SHAPES)]
    rows = [(i, *shapes[i % _SHAPES]) for i in range(objects)]
    coords = torch.cat([torch.nn.functional.pad(c, (1, 0), value=i) for i, c, _, _ in rows])
    flags, attributes = torch.cat([f for _, _, f, _ in rows]), torch.cat([a for _, _, _, a in rows])
    random = torch.Generator(device).manual_seed(0)
    dual = 0.4 + 0.2 * torch.rand((len(coords), 3), generator=random, device=device)
    return coords, dual, flags, attributes


def measure(objects: int, size: int, device: torch.device) -> dict[str, Any]:
    coords, dual, flags, attributes = batch(objects, device)
    surfaces = surfaces_of_voxels(coords, dual, flags, attributes, RESOLUTION)
    glass = attributes.clone()
    glass[:, 5] = torch.where(coords[:, 3] > RESOLUTION // 2, 0.3, 1.0)
    generator = torch.Generator(device).manual_seed(1)
    lights = random_lights(64, generator, device)
    cameras = crop_to_surfaces(surfaces, random_cameras(objects, generator, device))
    projection = Projection(surfaces, cameras, 2 * size)
    weights = torch.ones(len(coords), device=device)

    def photograph(values: Tensor) -> None:
        condition_pictures(_with(surfaces, values), generator, size, lighting=lights)

    def training_step() -> None:
        leaf = dual.clone().requires_grad_()
        mesh = training_surfaces_of_voxels(coords, leaf, flags, weights, attributes, RESOLUTION)
        seen = maps(mesh, cameras, size)
        (seen.depth.sum() + seen.normal.square().sum()).backward()

    work = {
        "random_lights, 64": lambda: random_lights(64, generator, device),
        "surfaces_of_voxels": lambda: surfaces_of_voxels(coords, dual, flags, attributes, RESOLUTION),
        "condition_pictures, opaque": lambda: photograph(attributes),
        "condition_pictures, half glass": lambda: photograph(glass),
        "of which crop": lambda: crop_to_surfaces(_with(surfaces, attributes), cameras),
        "of which projection": lambda: Projection(_with(surfaces, attributes), cameras, 2 * size),
        "of which vertex normals": lambda: vertex_normals(_with(surfaces, attributes), cameras.position),
        "of which nearest faces": projection.nearest,
        "rasterize": lambda: rasterize(_with(surfaces, attributes), cameras, size),
        "maps": lambda: maps(_with(surfaces, attributes), cameras, size),
        "training surfaces, maps and their gradients": training_step,
    }
    times = {}
    for name, call in work.items():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        times[name] = {"ms": round(milliseconds(call, device, seconds=0.5), 2)}
        if device.type == "cuda":
            times[name]["peak_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
        print(f"{name:46s} {times[name]}", flush=True)
    return {
        "objects": objects,
        "size": size,
        "voxels": len(coords),
        "faces": len(surfaces.faces),
        "times": times,
    }


def _with(surfaces: Surfaces, attributes: Tensor) -> Surfaces:
    """The same surfaces with nothing remembered."""
    return Surfaces(surfaces.vertices, surfaces.faces, surfaces.face_starts, attributes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--keep", help="name of the result in benchmarks/results")
    options = parser.parse_args()
    result = environment(options.device) | measure(
        options.objects, options.size, torch.device(options.device)
    )
    print(json.dumps({k: v for k, v in result.items() if k != "times"}))
    if options.keep:
        print(keep(result, options.keep))


if __name__ == "__main__":
    main()
