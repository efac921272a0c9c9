from __future__ import annotations

import numpy as np

from tests.mesh.shapes import sphere
from voxlume.asset import Asset, Material, Mesh
from voxlume.mesh.bake import bake
from voxlume.mesh.normals import face_normals, split_at_creases
from voxlume.mesh.simplify import simplify
from voxlume.mesh.source_surface import SourceSurface
from voxlume.mesh.unwrap import unwrap
from voxlume.ovoxel.voxelize import voxelize_asset

SIZE = 256


def _decoded(
    normal: np.ndarray, mesh_normals: np.ndarray, corners: np.ndarray, uvs: np.ndarray
) -> np.ndarray:
    """What a viewer makes of the map at (k,) points of faces with (k, 3, ...) corners: plain glTF arithmetic.

    u grows along the tangent and v along the negative bitangent.
    """
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    du, dv = np.moveaxis(np.stack([uvs[:, 1] - uvs[:, 0], uvs[:, 2] - uvs[:, 0]], 1), 2, 0)
    area = du[:, 0] * dv[:, 1] - du[:, 1] * dv[:, 0]
    along_u = (dv[:, 1:] * a - dv[:, :1] * b) / area[:, None]
    along_v = (du[:, :1] * b - du[:, 1:] * a) / area[:, None]
    x, y, z = (normal.astype(float) / 255 * 2 - 1).T

    def unit(v: np.ndarray) -> np.ndarray:
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    return unit(x[:, None] * unit(along_u) - y[:, None] * unit(along_v) + z[:, None] * mesh_normals)


def _degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip(np.einsum("nc,nc->n", a, b), -1, 1)))


def test_a_coarse_sphere_is_shaded_like_a_smooth_one() -> None:
    vertices, faces = sphere(16)
    asset = Asset(meshes=(Mesh(vertices + 2, faces, material=0),), materials=(Material(),))
    voxels = voxelize_asset(asset, 64)
    source = SourceSurface(voxels)
    reduced = simplify(source.vertices, source.faces, 120)
    # Flat shading: all of the roundness must come from the map.
    origin, split, normals = split_at_creases(reduced.vertices, reduced.faces, 0.01)
    cut = unwrap(reduced.vertices[origin], split, texture_size=SIZE)
    placed = voxels.placement.to_gltf(reduced.vertices[origin][cut.vertex] / 64 - 0.5)
    flat = normals[cut.vertex] @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
    baked = bake(source, placed, cut.faces, cut.uvs, normals=flat, size=SIZE, placement=voxels.placement)
    assert baked.normal is not None

    middle = cut.uvs[cut.faces].astype(float).mean(axis=1)
    column, row = (middle * SIZE).astype(int).T
    own = face_normals(placed, cut.faces).astype(float)
    corners = placed[cut.faces]
    shaded = _decoded(baked.normal[row, column], own, corners, cut.uvs[cut.faces].astype(float))
    # The texel's middle, not the face's, is what the map knows.
    truth = corners.mean(axis=1) - 2
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    assert np.einsum("nc,nc->n", own, truth).min() > 0
    assert _degrees(shaded, truth).mean() < 3
    at_corners = (corners - 2).reshape(-1, 3)
    at_corners /= np.linalg.norm(at_corners, axis=1, keepdims=True)
    assert _degrees(np.repeat(own, 3, axis=0), at_corners).mean() > 6  # what it is without a map


def test_no_detail_is_exactly_flat() -> None:
    """A flat sheet's map says nothing: 128, 128, 255 everywhere."""
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0.3, 0.8], [0, 0.3, 0.8]])
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    asset = Asset(meshes=(Mesh(square, faces, material=0),), materials=(Material(),))
    voxels = voxelize_asset(asset, 32)
    normals = np.repeat(face_normals(square, faces)[:1], 4, axis=0)
    cut = unwrap(square, faces, texture_size=64)
    placed, flat = square[cut.vertex], normals[cut.vertex]
    baked = bake(
        SourceSurface(voxels), placed, cut.faces, cut.uvs, normals=flat, size=64, placement=voxels.placement
    )
    assert baked.normal is not None
    inner = baked.normal[20:44, 20:44].astype(int)
    assert np.abs(inner - [128, 128, 255]).max() <= 2
