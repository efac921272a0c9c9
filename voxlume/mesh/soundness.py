"""What every reader does last: no NaN, no infinity, unit normals, some area."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Mesh
from voxlume.errors import AssetError

MAX_UV = 2.0**24
"""Where float32 has no fractional part left."""

_FACES_AT_ONCE = 2**15


def drop_broken_vertices(mesh: Mesh) -> tuple[Mesh, int]:
    """The mesh without vertices that are not finite and without faces that touch them.

    UVs, colours and attributes that are not finite become 0 (colours: 1), and so do UVs so large that
    they have no place in a texture any more.

    Returns
    -------
    mesh : shares all arrays in which nothing had to be done.
    dropped : how many faces were removed.
    """
    sound = np.logical_and.reduce(np.isfinite(mesh.vertices), axis=1)
    dropped = 0
    if not sound.all():
        faces = mesh.faces[sound[mesh.faces].all(axis=1)]
        dropped = len(mesh.faces) - len(faces)
        renumber = np.cumsum(sound, dtype=np.int32) - 1
        mesh = replace(
            mesh,
            vertices=mesh.vertices[sound],
            faces=renumber[faces],
            normals=None if mesh.normals is None else mesh.normals[sound],
            uvs=tuple(uv[sound] for uv in mesh.uvs),
            colors=None if mesh.colors is None else mesh.colors[sound],
            attributes={name: values[sound] for name, values in mesh.attributes.items()},
        )
    return replace(
        mesh,
        uvs=tuple(_bounded(uv, MAX_UV) for uv in mesh.uvs),
        colors=None if mesh.colors is None else _bounded(mesh.colors, np.inf, 1.0),
        attributes={name: _bounded(values, np.inf) for name, values in mesh.attributes.items()},
    ), dropped


def _bounded(values: NDArray[np.float32], limit: float, filler: float = 0.0) -> NDArray[np.float32]:
    """Values below the limit in magnitude, the filler for the others; the same array where all are."""
    usable = np.abs(values) < limit
    return values if usable.all() else np.where(usable, values, np.float32(filler))


def with_sound_normals(mesh: Mesh) -> Mesh:
    """The mesh with unit normals: those without direction become the mean of their faces' normals."""
    if mesh.normals is None:
        return mesh
    broken = ~(np.einsum("ij,ij->i", mesh.normals, mesh.normals) > 0.25)
    if not broken.any():
        return mesh
    normals = mesh.normals.copy()
    normals[broken] = vertex_normals(mesh.vertices, mesh.faces)[broken]
    return replace(mesh, normals=normals)


def vertex_normals(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """Area-weighted mean of the adjacent faces' normals, float32 (n, 3), unit; +Y where there is none."""
    normals = np.zeros((len(vertices), 3))
    for chunk, face_normals in _face_normals(vertices, faces):
        for axis in range(3):
            normals[:, axis] += np.bincount(
                chunk.ravel(), np.repeat(face_normals[:, axis], 3), minlength=len(vertices)
            )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    up = np.tile([0.0, 1.0, 0.0], (len(vertices), 1))
    return np.divide(normals, length, where=length > 0, out=up).astype(np.float32)


def require_area(meshes: Sequence[Mesh]) -> None:
    """Refuse geometry without any surface.

    Raises
    ------
    AssetError : all vertices coincide, or every triangle is degenerate.
    """
    for mesh in meshes:
        if any(face_normals.any() for _, face_normals in _face_normals(mesh.vertices, mesh.faces)):
            return
    raise AssetError("all triangles are degenerate (zero area), there is no surface to work on")


def _face_normals(
    vertices: NDArray[np.float64], faces: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float64]]]:
    """Faces with their normals (m, 3), as long as their area, in portions that fit in the cache.

    Lengths are relative to the extent of the vertices: products of very large coordinates do not
    overflow, those of very small ones do not vanish.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    extent = float((high / 2 - low / 2).max())
    for start in range(0, len(faces) if extent > 0 else 0, _FACES_AT_ONCE):
        chunk = faces[start : start + _FACES_AT_ONCE]
        a, b, c = ((vertices[chunk[:, i]] / 2 - low / 2) / extent for i in range(3))
        yield chunk, np.cross(b - a, c - a)
