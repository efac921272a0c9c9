"""generate, texture, doctor and init-model, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from examples.lantern import lantern
from voxlume.app.cli import main
from voxlume.mesh.read import load
from voxlume.mesh.write_glb import write_glb
from voxlume.ovoxel.grid import OVoxel
from voxlume.pipelines import selftest
from voxlume.pipelines.results import ImageCondition, load_result
from voxlume.sparse.selfcheck import Check

QUICK = ["--steps", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def cut_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    y, x = np.mgrid[-1:1:80j, -1:1:80j]
    alpha = 255 * (x**2 + y**2 < 0.8)
    rgba = np.stack([128 + 100 * x, 128 + 100 * y, 90 + 0 * x, alpha], axis=-1).astype(np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "ball.png"
    Image.fromarray(rgba).save(path)
    return path


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def error_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("voxlume: ")
    return lines[0]


@pytest.mark.parametrize("ending", ["glb", "vxz", "npz"])
def test_generate(
    ending: str, cut_out: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"ball.{ending}"
    facts = run_json(
        capsys, "generate", str(cut_out), str(out), "--model", str(tiny_model), "--resolution", "512", *QUICK,
        "--texture-size", "256", "--faces", "2000",
    )  # fmt: skip
    assert facts["output"] == str(out)
    assert facts["seed"] == 42
    assert facts["resolution"] == 32
    if ending == "glb":
        texture = load(out).materials[0].base_color_texture
        assert texture is not None
        assert texture.image.shape[:2] == (256, 256)
        assert 1900 <= load(out).num_faces <= 2000
    else:
        assert len(OVoxel.load(out)) == facts["voxels"]


def test_samples_are_numbered(
    cut_out: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(tiny_model), "--pipeline-type", "512", "--num-samples", "2", *QUICK]
    facts = run_json(capsys, "generate", str(cut_out), str(cut_out), str(tmp_path / "a.npz"), *arguments)
    assert [Path(sample["output"]).name for sample in facts["samples"]] == ["a_0.npz", "a_1.npz"]
    assert all(Path(sample["output"]).is_file() for sample in facts["samples"])


def test_latents(cut_out: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(tiny_model), *QUICK]
    first, second, latents = tmp_path / "1.npz", tmp_path / "2.npz", tmp_path / "latents"
    save = ["--resolution", "512", "--save-latents", str(latents)]
    assert main(["generate", str(cut_out), str(first), *model, *save]) == 0
    assert main(["generate", str(second), *model, "--from-latents", str(latents)]) == 0
    a, b = OVoxel.load(first), OVoxel.load(second)
    assert a.attributes is not None
    assert b.attributes is not None
    assert np.array_equal(a.coords, b.coords)
    assert np.array_equal(a.attributes, b.attributes)


def test_outline_can_be_left_out(cut_out: Path, tiny_model: Path, tmp_path: Path) -> None:
    for flag, there in (("--outline", True), ("--no-outline", False)):
        folder = tmp_path / flag
        words = [*QUICK, "--resolution", "512", "--no-texture", "--save-latents", str(folder), flag]
        assert (
            main(["generate", str(cut_out), str(tmp_path / "a.npz"), "--model", str(tiny_model), *words]) == 0
        )
        saved = load_result(folder / "condition.safetensors", ImageCondition)
        assert (saved.inside is not None) == there


def test_texture(cut_out: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh, out = tmp_path / "lantern.glb", tmp_path / "lantern.vxz"
    write_glb(lantern(), mesh)
    facts = run_json(
        capsys, "texture", str(mesh), str(cut_out), str(out), "--model", str(tiny_model), "-r", "512", *QUICK
    )
    assert facts["resolution"] == OVoxel.load(out).resolution == 32
    np.testing.assert_allclose(OVoxel.load(out).placement.center, load(mesh).placement().center, atol=1e-6)


def test_init_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, other = (tmp_path / name for name in ("a", "b", "c"))
    assert main(["init-model", str(first)]) == 0
    assert main(["init-model", "--preset", "tiny", str(second)]) == 0
    assert main(["init-model", str(other), "--seed", "1"]) == 0
    files = sorted(p.relative_to(first) for p in first.rglob("*.safetensors"))
    assert len(files) == 11
    assert all((first / p).read_bytes() == (second / p).read_bytes() for p in files)
    assert all((first / p).read_bytes() != (other / p).read_bytes() for p in files)
    assert "already holds something" in error_line(capsys, "init-model", str(first))


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = run_json(capsys, "doctor")
    assert facts["healthy"]
    assert facts["devices"][0]["device"] == "cpu"
    assert all(check["passed"] for check in facts["devices"][0]["checks"])
    assert "torch" in facts["versions"]
    assert main(["doctor"]) == 0
    assert "decoder" in capsys.readouterr().out
    monkeypatch.setattr(selftest, "check_device", lambda device: [Check("convolution", float("nan"), 1e-3)])
    assert main(["doctor"]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_one_line_for_what_a_user_gets_wrong(
    cut_out: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out, model = str(cut_out), str(tmp_path / "a.glb"), ["--model", str(tiny_model), *QUICK]
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (64, 64)).save(clear)
    for arguments, words in (
        (["generate", image, str(tmp_path / "a.png"), *model], "must end in .glb or .obj"),
        (["generate", image, str(tmp_path / "no" / "a.glb"), *model], "does not exist"),
        (["generate", out, *model], "IMAGE... OUT"),
        (["generate", *model], "IMAGE... OUT"),
        (["generate", str(tmp_path / "no.png"), out, *model], "does not exist"),
        (["generate", str(clear), out, *model], "fully transparent"),
        (["generate", image, out, "--model", str(tmp_path)], "no pipeline.json"),
        (["generate", image, out, *model, "--pipeline-type", "77"], "no pipeline type '77'"),
        (["generate", image, out, *model, "--resolution", "77"], "no pipeline type '77_cascade'"),
        (["generate", image, out, *model, "-r", "512", "--pipeline-type", "512"], "not both"),
        (["generate", image, out, *model, "--memory-budget", "1e-6"], "--memory-budget"),
        (["generate", image, out, *model, "--from-latents", str(tmp_path)], "not a folder of saved stages"),
        (["generate", image, out, *model, "--ss.steps", "0"], "0 steps"),
        (["generate", image, out, "--model", str(tiny_model), "--device", "cuda:99"], "cuda:99 is not there"),
        (["texture", image, out, *model], "MESH IMAGE... OUT"),
        (["texture", image, image, out, *model], "not a mesh file"),
    ):
        assert words in error_line(capsys, *arguments), arguments
    assert not Path(out).exists()
