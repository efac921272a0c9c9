"""The command line as a new user meets it, in processes of its own where that matters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.lantern import lantern
from voxlume.app.cli import main
from voxlume.mesh.read import load
from voxlume.mesh.write_glb import write_glb
from voxlume.ovoxel.grid import OVoxel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "lantern.glb"
    write_glb(lantern(), path)
    return path


@pytest.fixture(scope="module")
def voxels(source: Path) -> Path:
    path = source.with_suffix(".vxz")
    assert main(["encode", str(source), str(path), "-r", "64"]) == 0
    return path


def test_encode_decode_gives_back_the_users_coordinates(source: Path, voxels: Path) -> None:
    back = source.with_name("back.glb")
    assert main(["decode", str(voxels), str(back), "--faces", "9000", "--texture-size", "256"]) == 0
    original, decoded = load(source).bounds(), load(back).bounds()
    np.testing.assert_allclose(decoded, original, atol=0.5 * np.ptp(original[:, 1]) / 64)
    assert 8900 <= load(back).num_faces <= 9000
    assert load(back).materials[0].alpha_mode == "BLEND"  # the panes are glass


def test_encode_reports_json(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.npz"
    assert main(["encode", str(source), str(out), "-r", "32", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["voxels"] == len(OVoxel.load(out))
    assert facts["resolution"] == 32


@pytest.mark.parametrize("kind", ["source", "voxels"])
def test_info(kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    path = request.getfixturevalue(kind)
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes"] == path.stat().st_size
    assert facts["kind"] == ("mesh" if kind == "source" else "O-Voxel")
    assert main(["info", str(path)]) == 0
    assert path.name in capsys.readouterr().out


def test_compare_with_picture(source: Path, voxels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = source.with_name("both.png")
    arguments = ["compare", str(source), str(voxels), "--samples", "5000", "--json"]
    assert main([*arguments, "--picture", str(picture)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["resolution"] == 64
    assert result["a_to_b"]["mean"] < 0.05
    assert result["lost_count"] == 0
    assert Image.open(picture).size[0] > 1000


def test_render(voxels: Path) -> None:
    out = voxels.with_name("view.png")
    assert main(["render", str(voxels), str(out), "--size", "64"]) == 0
    assert np.asarray(Image.open(out)).std() > 5


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "voxlume.app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def one_clear_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.startswith("voxlume: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_bad_input_is_one_line_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vxz"
    text = tmp_path / "text.glb"
    text.write_text("not a model")
    one_clear_line(run("encode", str(tmp_path / "missing.glb"), str(out)), "missing.glb")
    one_clear_line(run("encode", str(text), str(out)), "text.glb")
    one_clear_line(run("encode", str(source), str(tmp_path / "out.glb")), ".vxz")
    one_clear_line(run("encode", str(source), str(tmp_path / "no" / "out.vxz")), "does not exist")
    one_clear_line(run("encode", str(source), str(out), "-r", "0"), "resolution")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.glb"]


def test_bad_voxel_files(voxels: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.vxz"
    cut.write_bytes(voxels.read_bytes()[:-100])
    one_clear_line(run("decode", str(cut), str(tmp_path / "out.glb")), "cut.vxz")
    one_clear_line(run("render", str(cut), str(tmp_path / "out.png")), "cut.vxz")
    one_clear_line(run("compare", str(cut), str(voxels)), "cut.vxz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.vxz"]


def test_impossible_exports_are_one_line_and_leave_nothing(
    voxels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.glb"
    for options, words in (
        (["--faces", "3"], "a budget of 3 faces is too small"),
        (["--texture-size", "63"], "a texture of 63 x 63 is not possible"),
    ):
        assert main(["decode", str(voxels), str(out), *options]) == 1
        line = capsys.readouterr().err
        assert line.startswith("voxlume: ")
        assert line.count("\n") == 1
        assert words in line
    assert main(["decode", str(voxels), str(tmp_path / "out.dae")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_decode_with_vertex_colors(voxels: Path, tmp_path: Path) -> None:
    assert main(["decode", str(voxels), str(tmp_path / "a.glb"), "--vertex-colors"]) == 0
    mesh = load(tmp_path / "a.glb").meshes[0]
    assert mesh.colors is not None
    assert len(mesh.faces) == len(OVoxel.load(voxels).to_mesh().faces)


def test_unknown_device_is_one_line(source: Path, tmp_path: Path) -> None:
    one_clear_line(run("encode", str(source), str(tmp_path / "o.vxz"), "--device", "cuda:77"), "cuda:77")


def test_help_and_version() -> None:
    assert "encode" in run("--help").stdout
    assert run("--version").stdout.startswith("voxlume ")
