from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from examples.lantern import lantern
from tests.mesh.test_source_surface import thin_box
from voxlume.errors import AssetError, Cancelled
from voxlume.mesh.bake import BakedTextures, bake, look_up_on
from voxlume.mesh.simplify import simplify
from voxlume.mesh.source_surface import SourceSurface
from voxlume.mesh.texels import assign_texels, assign_texels_reference
from voxlume.mesh.unwrap import unwrap
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.voxelize import voxelize_asset

SIZE = 128


@pytest.fixture(scope="module")
def voxels() -> OVoxel:
    return voxelize_asset(lantern(), 48)


Unwrapped = tuple[SourceSurface, np.ndarray, np.ndarray, np.ndarray]


def _unwrapped(voxels: OVoxel, faces: int, size: int = SIZE) -> Unwrapped:
    source = SourceSurface(voxels)
    reduced = simplify(source.vertices, source.faces, faces)
    cut = unwrap(reduced.vertices, reduced.faces, texture_size=size)
    vertices = voxels.placement.to_gltf(reduced.vertices[cut.vertex] / voxels.resolution - 0.5)
    return source, vertices, cut.faces, cut.uvs


@pytest.fixture(scope="module")
def mesh(voxels: OVoxel) -> Unwrapped:
    return _unwrapped(voxels, 600)


@pytest.fixture(scope="module")
def baked(voxels: OVoxel, mesh: Unwrapped) -> BakedTextures:
    return bake(*mesh, size=SIZE, placement=voxels.placement)


def test_every_texel_of_a_chart_has_the_nearest_material(
    voxels: OVoxel, mesh: Unwrapped, baked: BakedTextures
) -> None:
    """The whole bake against its parts called by hand on the slow twin's texels."""
    source, vertices, faces, uvs = mesh
    face, weights = assign_texels_reference(uvs, faces, SIZE)
    row, column = np.nonzero(face >= 0)
    assert len(row) > 0.3 * SIZE**2
    first = weights[row, column]
    full = np.column_stack([first, 1 - first.sum(axis=1)])
    corners = ((voxels.placement.to_model(vertices) + 0.5) * 48)[faces[face[row, column]]]
    at = np.einsum("nk,nkc->nc", full, corners)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    expected = source.material(at, *source.nearest(at, normals)) * 255
    found = np.column_stack(
        [
            baked.base_color[row, column, :3],
            baked.metallic_roughness[row, column, 2],
            baked.metallic_roughness[row, column, 1],
            baked.base_color[row, column, 3],
        ]
    )
    # A point between two faces of the source may fall to either.
    assert (np.abs(found - expected).max(axis=1) <= 1).mean() > 0.995
    np.testing.assert_array_equal(baked.covered, face >= 0)


def test_texels_between_charts_are_filled_from_around_them(baked: BakedTextures) -> None:
    """A constant stays constant everywhere: no black creeps in between charts."""
    assert not baked.covered.all()
    lit = baked.base_color[baked.covered].astype(int)
    gaps = baked.base_color[~baked.covered].astype(int)
    assert (gaps >= lit.min(axis=0) - 1).all()
    assert (gaps <= lit.max(axis=0) + 1).all()


@pytest.mark.parametrize("inside_out", [False, True])
def test_thin_walls_do_not_bleed(inside_out: bool) -> None:
    """A plate of a voxel and a half, simplified, keeps its red and its green side, however it is wound."""
    voxels = voxelize_asset(thin_box(1.5 / 32), 32)
    source, vertices, faces, uvs = _unwrapped(voxels, 40)
    given = faces
    if inside_out:
        faces = faces[:, ::-1]
    baked = bake(source, vertices, faces, uvs, size=SIZE, placement=voxels.placement)
    corners = vertices[given]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    centers = corners.mean(axis=1)
    inner = (np.abs(normals[:, 2]) > 0.99) & (np.abs(centers[:, :2] - 0.5).max(axis=1) < 0.4)
    assert inner.sum() >= 4
    place = (uvs[faces].mean(axis=1) * SIZE).astype(int)
    color = baked.base_color[place[:, 1], place[:, 0], :3]
    up = inner & (normals[:, 2] > 0)
    np.testing.assert_array_equal(color[up], np.tile([255, 0, 0], (up.sum(), 1)))
    np.testing.assert_array_equal(color[inner & ~up], np.tile([0, 255, 0], ((inner & ~up).sum(), 1)))


def test_same_bytes_again_and_in_strips(
    voxels: OVoxel, mesh: Unwrapped, baked: BakedTextures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxlume.mesh.bake._TEXELS_AT_ONCE", 7 * SIZE)
    again = bake(*mesh, size=SIZE, placement=voxels.placement)
    assert again.base_color.tobytes() == baked.base_color.tobytes()
    assert again.metallic_roughness.tobytes() == baked.metallic_roughness.tobytes()


def test_what_cannot_be_baked_is_one_line(voxels: OVoxel, mesh: Unwrapped) -> None:
    source, vertices, faces, uvs = mesh
    with pytest.raises(AssetError, match="from 64 to 8192"):
        bake(source, vertices, faces, uvs, size=16384)
    with pytest.raises(AssetError, match="finite"):
        bake(source, vertices, faces, np.full_like(uvs, np.nan), size=64)
    with pytest.raises(AssetError, match="touch no texel"):
        bake(source, vertices, faces, uvs + 5, size=64)
    with pytest.raises(Cancelled):
        bake(source, vertices, faces, uvs, size=64, progress=lambda done, total, what: False)


def test_where_voxels_outnumber_texels_the_points_between_count(mesh: Unwrapped, voxels: OVoxel) -> None:
    """Bilinear look-up between texels, at a fine pattern, comes nearer than with texels at their centres."""
    _, vertices, faces, uvs = mesh
    noise = np.random.default_rng(0).uniform(size=(len(voxels), 6)).astype(np.float32)
    patterned = SourceSurface(replace(voxels, attributes=noise))
    size = 64

    baked = bake(patterned, vertices, faces, uvs, size=size, placement=voxels.placement)
    assert np.count_nonzero(baked.covered) < len(voxels)
    half = 2 * size  # whose texel centres lie between those of the texture
    face, weights = assign_texels(uvs, faces, half)
    corners = ((voxels.placement.to_model(vertices) + 0.5) * 48)[faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    wanted = look_up_on("cpu", patterned, corners, facing)(face, weights)[0][..., [0, 1, 2, 5]]
    at_centers = look_up_on("cpu", patterned, corners, facing)(*assign_texels(uvs, faces, size))[0]
    row, column = np.nonzero(face >= 0)

    def error(image: np.ndarray) -> float:
        y, x = (row + 0.5) / 2 - 0.5, (column + 0.5) / 2 - 0.5
        i, j = np.floor(y).astype(int), np.floor(x).astype(int)
        shown = np.zeros((len(row), 4))
        own = np.ones(len(row), bool)
        for di, dj in np.ndindex(2, 2):
            k, m = np.clip(i + di, 0, size - 1), np.clip(j + dj, 0, size - 1)
            share = np.abs(1 - di - (y - i)) * np.abs(1 - dj - (x - j))
            shown += share[:, None] * image[k, m]
            own &= baked.covered[k, m]
        return float(np.abs(shown - wanted[row, column])[own].mean())

    assert error(baked.base_color) < 0.85 * error(at_centers[..., [0, 1, 2, 5]])
