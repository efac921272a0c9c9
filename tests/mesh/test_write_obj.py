"""OBJ and MTL: materials with their factors, textures beside the file, what is said to be lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.mesh.full_asset import full_asset, image, plain_asset, rotated, square
from voxlume.asset import Asset, Material, Texture
from voxlume.mesh.read import load
from voxlume.mesh.write_obj import write_obj
from voxlume.texture import MaterialSampler


def materials_at(asset: Asset, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(1)
    faces = rng.integers(0, asset.num_faces, count)
    return MaterialSampler(asset).sample(faces, rng.dirichlet(np.ones(3), count))


@pytest.mark.parametrize("alpha_mode", ["OPAQUE", "MASK", "BLEND"])
@pytest.mark.parametrize("textured", [True, False])
def test_materials_look_the_same_when_read_back(tmp_path: Path, alpha_mode: str, textured: bool) -> None:
    asset = plain_asset(
        alpha_mode, base_color_factor=(0.5, 1.0, 0.25, 0.8), metallic_factor=0.7, roughness_factor=0.4
    )
    if not textured:
        plain = replace(asset.materials[0], base_color_texture=None, metallic_roughness_texture=None)
        asset = replace(asset, materials=(plain,))
    assert write_obj(asset, tmp_path / "my chair.obj") == ()
    again = load(tmp_path / "my chair.obj")
    assert not again.warnings
    ours, theirs = materials_at(asset), materials_at(again)
    if alpha_mode == "MASK":  # the cut-off is in the image, whose filter softens it
        same = np.isin(theirs[:, 5], (0, 1))
        assert same.mean() > 0.8
        ours, theirs = ours[same], theirs[same]
    # Between texels a tint before filtering differs a little from one after it.
    error = np.abs(theirs - ours)
    assert (error.max(1) < 1.6 / 255).mean() > 0.95
    assert error.max() < 4 / 255


def test_transform_and_wrap_go_into_the_uvs(tmp_path: Path) -> None:
    texture = Texture(image(3, 16, 16), wrap=("clamp", "clamp"), transform=rotated(0.4, (0.5, 0.8), (0.1, 0)))
    base = plain_asset()
    asset = replace(base, materials=(Material(base_color_texture=texture),))
    assert write_obj(asset, tmp_path / "a.obj") == ()
    again = load(tmp_path / "a.obj")
    assert again.materials[0].base_color_texture is not None
    assert again.materials[0].base_color_texture.wrap == ("clamp", "clamp")
    np.testing.assert_allclose(materials_at(again), materials_at(asset), atol=2e-3)


def test_losses_are_told(tmp_path: Path) -> None:
    notes = " / ".join(write_obj(full_asset(), tmp_path / "a.obj"))
    for what in ("different UVs", "mirror", "occlusion", "scale of the normal map", "of vertices"):
        assert what in notes


def test_vertex_colors_and_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colors = np.column_stack([rng.random((4, 3)), np.ones(4)]).astype(np.float32)
    meshes = (
        square(colors=colors, material=0, name="a b"),
        square(material=1),
        square(),  # without a material after one that has one
    )
    asset = Asset(meshes, (Material("wood / old"), Material("WOOD_OLD", roughness_factor=0.3)))
    write_obj(asset, tmp_path / "a.obj")
    again = load(tmp_path / "a.obj")
    assert len(again.meshes) == 3
    found = next(m for m in again.meshes if m.colors is not None and m.colors.min() < 0.99)
    assert found.colors is not None
    np.testing.assert_allclose(found.colors, colors, atol=1e-6)
    roughness = [again.material_of(mesh).roughness_factor for mesh in again.meshes]
    assert sorted(roughness) == [0.3, 1.0, 1.0]


def test_shared_images_are_stored_once(tmp_path: Path) -> None:
    shared = Texture(image(3))
    materials = tuple(Material(name, base_color_texture=shared) for name in "xy")
    uvs = (np.zeros((4, 2), np.float32),)
    asset = Asset((square(material=0, uvs=uvs), square(material=1, uvs=uvs)), materials)
    write_obj(asset, tmp_path / "a.obj", image_format="jpeg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mtl", "a.obj", "a_x_map_Kd.jpg"]
    assert len(load(tmp_path / "a.obj").materials) == 2
