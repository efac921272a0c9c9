"""The model that comes with the package: that a wheel carries it, that it is whole, and that it works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.paths import ROOT
from tests.validator import assert_valid
from voxlume.app.cli import main
from voxlume.errors import ModelFileError
from voxlume.mesh.read import load
from voxlume.pipelines import model_folder
from voxlume.pipelines.model_folder import BUNDLED, IMAGE_TO_3D, TEXTURING, ModelFolder, open_source
from voxlume.pipelines.presets import PRESETS

EXAMPLES = sorted((ROOT / "examples").glob("*.png"))


@pytest.fixture
def bundled(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random networks in the place of the bundled model, free to be damaged."""
    folder = tmp_path / "weights"
    shutil.copytree(tiny_model, folder)
    monkeypatch.setattr(model_folder, "BUNDLED", folder)
    return folder


def test_no_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folder, "BUNDLED", tmp_path)
    with pytest.raises(ModelFileError, match="not part of this version"):
        open_source("bundled")


def test_an_incomplete_folder_is_named(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ModelFolder.from_pretrained("bundled").problems() == []
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["problems"] == []
    whole = bundled / "ckpts" / "shape_slat_decoder.safetensors"
    whole.write_bytes(whole.read_bytes()[:-1000])
    (bundled / "ckpts" / "image_encoder.safetensors").unlink()
    (problem_of_encoder, problem_of_decoder) = ModelFolder.from_pretrained("bundled").problems()
    assert "image_encoder" in problem_of_encoder
    assert "truncated" in problem_of_decoder
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert out.count("BROKEN") == 2
    assert "truncated" in " ".join(out.split())


def test_a_wheel_carries_it(tiny_model: Path, tmp_path: Path) -> None:
    """Built from a copy of the sources with small weights, unpacked elsewhere, run from there."""
    pytest.importorskip("setuptools", "77", reason="building a wheel needs setuptools 77 or newer")
    sources, site = tmp_path / "sources", tmp_path / "site"
    no_weights = shutil.ignore_patterns("weights", "__pycache__")
    shutil.copytree(ROOT / "voxlume", sources / "voxlume", ignore=no_weights)
    shutil.copytree(tiny_model, sources / "voxlume" / "weights")
    (sources / "voxlume" / "weights" / "CREDITS.md").write_text("Thanks.\n")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=sources, check=True, capture_output=True)
    with zipfile.ZipFile(next(sources.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    assert (site / "voxlume" / "weights" / "CREDITS.md").is_file()
    code = (
        "from voxlume.pipelines.model_folder import BUNDLED, ModelFolder; print(BUNDLED); "
        "print([ModelFolder.from_pretrained('bundled', pipeline=p).problems()"
        " for p in ('pipeline.json', 'texturing_pipeline.json')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [str(site / "voxlume" / "weights"), "[[], []]"]


def test_the_trained_model_is_whole_and_small() -> None:
    files = [path for path in BUNDLED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 80_000_000
    assert (BUNDLED / "CREDITS.md").is_file()
    for description in (IMAGE_TO_3D, TEXTURING):
        folder = ModelFolder.from_pretrained("bundled", pipeline=description)
        assert folder.problems() == []
        for key in folder.config.models:
            network = folder.load(key, None, torch.device("cpu"))
            assert all(bool(p.isfinite().all()) for p in network.parameters()), key


def test_the_trained_model_samples_as_its_preset_says() -> None:
    found, preset = ModelFolder.from_pretrained("bundled").config, PRESETS["nano"]()
    for name in ("structure_sampler", "shape_sampler", "material_sampler", "default_type"):
        assert getattr(found, name) == getattr(preset, name), name


def test_examples_are_cut_out_and_small() -> None:
    assert len(EXAMPLES) >= 4
    for path in EXAMPLES:
        with Image.open(path) as picture:
            assert picture.mode == "RGBA"
            assert max(picture.size) <= 512
            alpha = np.asarray(picture)[..., 3]
        assert 0.02 < (alpha > 200).mean() < 0.9
        assert path.stat().st_size < 400_000


def test_from_an_example_to_an_asset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    out, sheet = tmp_path / "robot.glb", tmp_path / "robot.png"
    began = time.perf_counter()
    arguments = ["generate", str(ROOT / "examples" / "robot.png"), str(out), "--picture", str(sheet)]
    assert main([*arguments, "--device", "cpu", "--json"]) == 0
    record_property("seconds", time.perf_counter() - began)
    facts = json.loads(capsys.readouterr().out)
    assert facts["voxels"] > 5000
    assert facts["resolution"] == 256
    assert facts["warnings"] == []
    asset = load(out)
    assert 1000 < asset.num_faces <= 100_000
    assert asset.materials[0].base_color_texture is not None
    assert asset.materials[0].metallic_roughness_texture is not None
    low, high = asset.bounds()
    assert 0.5 < float((high - low).max()) <= 1.01
    assert Image.open(sheet).size[0] == 2048
    assert_valid(out)
