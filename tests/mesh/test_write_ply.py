"""PLY: colours sampled at the vertices, UVs, normals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import trimesh

from tests.mesh.full_asset import plain_asset, square
from voxlume.asset import Asset, Material, Texture
from voxlume.mesh.read import load
from voxlume.mesh.write_ply import write_ply
from voxlume.srgb import linear_to_srgb


def test_texture_is_sampled_at_the_vertices(tmp_path: Path) -> None:
    """A texture that is linear in u and v: however wide the filter, a vertex gets its own value."""
    n = 256
    ramp = (np.arange(n) + 0.5) / n
    pixels = np.rint(255 * np.stack([*np.meshgrid(ramp, ramp), np.full((n, n), 0.5)], -1)).astype(np.uint8)
    base = plain_asset()
    wrap = ("clamp", "clamp")
    material = Material(base_color_texture=Texture(pixels, wrap=wrap))  # type: ignore[arg-type]
    asset = replace(base, materials=(material,))
    notes = write_ply(asset, tmp_path / "a.ply")
    assert notes == ("PLY has no textures: colours were sampled at the vertices",)
    mesh = load(tmp_path / "a.ply").meshes[0]
    assert mesh.colors is not None
    assert mesh.normals is not None
    u, v = base.meshes[0].uvs[0].T
    inside = (np.minimum(u, v) > 0.1) & (np.maximum(u, v) < 0.9)
    found = linear_to_srgb(mesh.colors[:, :3])[inside]
    np.testing.assert_allclose(found[:, 0], u[inside], atol=0.01)
    np.testing.assert_allclose(found[:, 1], v[inside], atol=0.01)
    np.testing.assert_allclose(mesh.uvs[0], base.meshes[0].uvs[0], atol=1e-7)
    np.testing.assert_array_equal(mesh.normals, base.meshes[0].normals)


def test_several_meshes_and_colors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colors = rng.random((4, 4)).astype(np.float32)
    asset = Asset(
        (square(colors=colors, material=0), square(np.array([2.0, 0, 0]))), (Material(alpha_mode="BLEND"),)
    )
    assert write_ply(asset, tmp_path / "a.ply") == ()
    mesh = load(tmp_path / "a.ply").meshes[0]
    assert len(mesh.faces) == 4
    assert mesh.colors is not None
    expected = linear_to_srgb(colors[:, :3])
    np.testing.assert_allclose(linear_to_srgb(mesh.colors[:4, :3]), expected, atol=0.51 / 255)
    np.testing.assert_allclose(mesh.colors[:4, 3], colors[:, 3], atol=0.51 / 255)
    np.testing.assert_array_equal(mesh.colors[4:], 1)


def test_another_reader_agrees(tmp_path: Path) -> None:
    write_ply(plain_asset(), tmp_path / "a.ply")
    other = trimesh.load(tmp_path / "a.ply", process=False)
    ours = plain_asset().meshes[0]
    np.testing.assert_array_equal(other.vertices, ours.vertices)
    np.testing.assert_array_equal(other.faces, ours.faces)
