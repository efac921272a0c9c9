"""Look-ups on an O-Voxel's surface on a device against the CPU's; as a program, in Triton's interpreter."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import torch

from voxlume.mesh import source_surface_triton
from voxlume.mesh.bake import look_up_on
from voxlume.mesh.source_surface import SourceSurface
from voxlume.mesh.source_surface_triton import DeviceSurface
from voxlume.ovoxel.grid import OVoxel


def walls(size: int) -> OVoxel:
    """Two waves above each other, nearer than a voxel here and there, in two colours."""
    x, y = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    layers, duals, attributes = [], [], []
    for layer, at in enumerate((3.0, 4.6)):
        height = at + 0.8 * np.sin(x / 3 + layer) * np.cos(y / 4)
        coords = np.stack([x, y, np.floor(height)], axis=-1).reshape(-1, 3).astype(np.int32)
        layers.append(coords)
        inside = np.full((len(coords), 3), 0.5, np.float32)
        inside[:, 2] = (height - np.floor(height)).reshape(-1)
        duals.append(inside)
        attributes.append(np.tile(np.array([layer, 0.5, 1 - layer, 0, 0.3, 1], np.float32), (len(coords), 1)))
    coords, first = np.unique(np.concatenate(layers), axis=0, return_index=True)
    intersected = np.zeros((len(coords), 3), np.bool_)
    intersected[:, 2] = True
    return OVoxel(
        coords=coords,
        dual_vertices=np.concatenate(duals)[first],
        intersected=intersected,
        attributes=np.concatenate(attributes)[first],
        resolution=max(size, 8),
    )


def cases(device: str, size: int, count: int) -> Iterator[tuple[str, float]]:
    """Names, and the share of points for which another face was found, or the same at another place."""
    source = SourceSurface(walls(size))
    surface = DeviceSurface(source, device)
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 2], [size + 1, size + 1, 7], (count, 3))
    points[0], points[1] = np.nan, 40.0  # nowhere, and too far away
    upright = rng.normal(0, 0.3, points.shape) + [0, 0, 1] * rng.choice([-1, 1], (count, 1))
    upright[::3] = 0  # parts that cannot tell their sides
    for name, normals in (("nearest", None), ("facing", upright)):
        face, weights = source.nearest(points, normals)
        own = None if normals is None else torch.as_tensor(normals)
        found, places = surface.nearest(torch.as_tensor(points), own)
        wrong = found.cpu().numpy() != face
        wrong |= np.abs(places.cpu().numpy() - weights).max(axis=1) > 1e-9
        yield name, float(wrong.mean())
        hit = (face >= 0) & ~wrong
        values = surface.material(found, places).cpu().numpy()[hit]
        expected = source.material(points[hit], face[hit], weights[hit])
        yield f"{name}, material", float((np.abs(values - expected).max(axis=1) > 1e-6).mean())
        assert 0.3 < hit.mean() < 1
    # Texels of two faces of another mesh, some without a face.
    corners = np.array(
        [[[0, 0, 3], [size, 0, 3], [0, size, 3]], [[0, 0, 4], [0, size, 4], [size, 0, 4]]], float
    )
    facing = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    face = rng.integers(-1, 2, (6, 5)).astype(np.int32)
    weights = rng.random((6, 5, 2)).astype(np.float32) / 2
    values, expected = (
        look_up(face, weights)[0]
        for look_up in (
            surface.texel_look_up(source, corners, facing),
            look_up_on("cpu", source, corners, facing),
        )
    )
    yield "texels", float((values != expected)[face >= 0].mean())


if __name__ == "__main__":
    source_surface_triton.LANES = 64
    print(json.dumps(list(cases("cpu", 6, 40))))
