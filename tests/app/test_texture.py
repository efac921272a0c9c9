"""``voxlume texture`` with voxels for a source, and with pictures, into a mesh file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.mesh.full_asset import plain_asset, triangles
from voxlume.app.cli import main
from voxlume.mesh.read import load
from voxlume.mesh.write_glb import write_glb
from voxlume.ovoxel.grid import OVoxel

SMALL = ["--texture-size", "64"]


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    write_glb(plain_asset(), tmp_path / "mesh.glb")
    return tmp_path / "mesh.glb"


def test_voxels_onto_a_mesh(mesh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voxels, out = tmp_path / "voxels.vxz", tmp_path / "out.glb"
    OVoxel.from_asset(load(mesh), 32).save(voxels)
    assert main(["texture", str(mesh), str(voxels), str(out), "--uvs", "new", *SMALL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resolution"] == 32
    again = load(out)
    np.testing.assert_array_equal(triangles(again), triangles(load(mesh)))
    texture = again.materials[0].base_color_texture
    assert texture is not None
    assert texture.image.shape[:2] == (64, 64)


def test_picture_onto_a_mesh(
    mesh: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = tmp_path / "look.png", tmp_path / "out.glb"
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    rgba = np.stack([128 + 100 * x, 128 + 100 * y, 90 + 0 * x, 255 * (x**2 + y**2 < 0.8)], axis=-1)
    Image.fromarray(rgba.astype(np.uint8)).save(picture)
    arguments = ["--model", str(tiny_model), "-r", "512", "--steps", "2", "--device", "cpu", *SMALL]
    assert main(["texture", str(mesh), str(picture), str(out), *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] > 0
    np.testing.assert_array_equal(triangles(load(out)), triangles(load(mesh)))


def test_what_a_user_gets_wrong(mesh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voxels, out = tmp_path / "voxels.vxz", tmp_path / "out.glb"
    OVoxel.from_asset(load(mesh), 16).save(voxels)
    for arguments, words in (
        ([str(mesh), str(out)], "MESH IMAGE... OUT"),
        ([str(mesh), str(voxels), str(voxels), str(out)], "one voxel file"),
        ([str(mesh), str(voxels), str(tmp_path / "out.fbx")], "must end in"),
        ([str(mesh), str(voxels), str(out), "--texture-size", "5"], "not possible"),
        ([str(tmp_path / "no.glb"), str(voxels), str(out)], "does not exist"),
    ):
        assert main(["texture", *arguments]) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert words in lines[0]
    assert not out.exists()
