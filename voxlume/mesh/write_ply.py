"""Write binary PLY files with vertex colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Mesh
from voxlume.files import atomic_write
from voxlume.mesh.write_checks import float32_offset, sound_meshes, unit_normals

_TYPES = {"<f4": "float", "<f8": "double", "|u1": "uchar"}


def write_ply(asset: Asset, path: str | Path) -> tuple[str, ...]:
    """Write all meshes as one, in the asset's own frame and units.

    Colours of vertices (``red green blue alpha``, sRGB-encoded) are what material, texture and vertex
    colour give there; they are left out where no mesh has any of these. The first UV set becomes ``s t``
    with its origin at the lower left. Coordinates are double where float would round visibly.

    Returns
    -------
    A line for everything that had to be left out.

    Raises
    ------
    AssetError : nothing to write, or arrays that do not fit together.
    VoxlumeError : the file cannot be written.
    """
    meshes = sound_meshes(asset)
    coordinate = "<f8" if float32_offset(meshes).any() else "<f4"
    columns: list[tuple[str, str, NDArray]] = []
    positions = np.concatenate([mesh.vertices for mesh in meshes])
    columns += [(name, coordinate, positions[:, k]) for k, name in enumerate("xyz")]
    if all(mesh.normals is not None for mesh in meshes):
        normals = np.concatenate([unit_normals(mesh) for mesh in meshes])
        columns += [(name, "<f4", normals[:, k]) for k, name in enumerate(("nx", "ny", "nz"))]
    if any(mesh.material >= 0 or mesh.colors is not None for mesh in meshes):
        colors = _vertex_colors(asset, meshes)
        columns += [(n, "|u1", colors[:, k]) for k, n in enumerate(("red", "green", "blue", "alpha"))]
    if all(mesh.uvs for mesh in meshes):
        uvs = np.concatenate([mesh.uvs[0] for mesh in meshes])
        columns += [("s", "<f4", uvs[:, 0]), ("t", "<f4", 1 - uvs[:, 1])]
    vertices = np.empty(len(positions), np.dtype([(name, dtype) for name, dtype, _ in columns]))
    for name, _, values in columns:
        vertices[name] = values
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = np.empty(sum(len(mesh.faces) for mesh in meshes), np.dtype([("n", "u1"), ("corners", "<i4", 3)]))
    faces["n"] = 3
    faces["corners"] = np.concatenate([m.faces + first for m, first in zip(meshes, starts, strict=False)])
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment written by Voxlume",
        f"element vertex {len(vertices)}",
        *(f"property {_TYPES[dtype]} {name}" for name, dtype, _ in columns),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    with atomic_write(path) as file:
        file.write("\n".join([*header, ""]).encode())
        file.write(vertices.data)
        file.write(faces.data)
    textured = any(asset.material_of(mesh).base_color_texture is not None for mesh in meshes)
    return ("PLY has no textures: colours were sampled at the vertices",) if textured else ()


def _vertex_colors(asset: Asset, meshes: Sequence[Mesh]) -> NDArray[np.uint8]:
    """sRGB-encoded RGBA (n, 4) at each vertex, seen from the last face that uses it; white without one."""
    from voxlume.texture import MaterialSampler

    sampler = MaterialSampler(Asset(tuple(meshes), asset.materials))
    faces = sampler.surface.faces
    corner = np.full(len(sampler.vertices), -1, np.int64)
    corner[faces.reshape(-1)] = np.arange(faces.size)
    used = np.flatnonzero(corner >= 0)
    # Detail finer than the distance between vertices would only alias.
    edges = sampler.vertices[faces[:, 1]] - sampler.vertices[faces[:, 0]]
    spacing = float(np.linalg.norm(edges, axis=1).mean())
    values = sampler.sample(corner[used] // 3, np.eye(3)[corner[used] % 3], spacing)
    colors = np.full((len(corner), 4), 255, np.uint8)
    colors[used] = np.rint(values[:, [0, 1, 2, 5]] * 255)
    return colors
