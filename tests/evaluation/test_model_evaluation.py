"""Reconstruction and generation measured end to end, with small random networks and with perfect ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data_room.collection import asset, write_collection
from tests.render.shapes import plain, sphere
from tests.training.store import write_store
from voxlume.asset import Asset
from voxlume.data.sources import Source
from voxlume.errors import AssetError, ModelFileError, VoxlumeError
from voxlume.evaluation import generation, reconstruction
from voxlume.evaluation.__main__ import main
from voxlume.evaluation.generation import Shot
from voxlume.evaluation.reconstruction import (
    Autoencoder,
    Reconstruction,
    evaluate_reconstruction,
    write_autoencoder,
)
from voxlume.evaluation.report import Report, Row
from voxlume.models.sc_vae import EncoderConfig
from voxlume.ovoxel import OVoxel
from voxlume.pipelines.checkpoint import save_network
from voxlume.pipelines.presets import random_network, tiny
from voxlume.training.parallel import Processes
from voxlume.training.runs import Run, run_stage


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Many threads for small tensors wait for each other more than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a material encoder, which model folders do not need and therefore lack."""
    folder = tmp_path_factory.mktemp("encoders")
    config = tiny().networks["shape_slat_encoder"]
    assert isinstance(config, EncoderConfig)
    torch.manual_seed(0)
    save_network(random_network(replace(config, content="material")), folder / "tex_slat_encoder")
    return folder


@dataclass(frozen=True)
class MadeSource(Source):
    def make(self) -> Asset:
        if self.seed < 0:
            raise AssetError("cannot be read")
        return asset(self.seed)


class Perfect(Autoencoder):
    """Gives back what it got; refuses an object now and then."""

    def __call__(self, ovoxel: OVoxel) -> Reconstruction:
        if self.networks.folder.config.base_resolution != ovoxel.resolution or len(ovoxel) < self.least:
            raise VoxlumeError("nothing left")
        return Reconstruction(ovoxel, 7, 0.5, 0.25, ())

    least = 0


def test_perfect_networks(tiny_model: Path, encoders: Path) -> None:
    autoencoder = Perfect.open(tiny_model, encoders, "cpu")
    assert set(autoencoder.encoders) == {"shape", "material"}
    balls = [MadeSource(f"ball {i}", "procedural", i) for i in (0, 2)]
    groups = {"balls": balls, "others": [MadeSource("bad", "mesh", -1), MadeSource("box", "mesh", 1)]}
    report, tiles = evaluate_reconstruction(
        autoencoder, groups, samples=1000, size=32, pictures=2, conversion=True
    )
    assert len(tiles) == 2
    assert report.about["unusable"] == {"bad": "cannot be read"}
    summary = report.summary()
    assert [summary[group]["objects"] for group in ("balls", "others")] == [2, 1]
    assert summary["balls"]["failed"] == 0
    assert summary["balls"]["f_score_0.05"]["mean"] == 1
    assert summary["balls"]["tokens"] == {"mean": 7, "median": 7, "count": 2}
    for measure in ("mesh_distance", "normal_psnr", "base_color_psnr"):
        assert summary["balls"][measure] == summary["balls, voxels only"][measure]
    autoencoder.least = 10**9
    report, tiles = evaluate_reconstruction(autoencoder, groups, samples=1000, size=32, pictures=1)
    assert report.summary()["balls"]["failed"] == 2
    assert [row.failure for row in report.rows] == ["nothing left"] * 3


def test_reconstruction_command(
    tiny_model: Path, encoders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_collection(tmp_path / "open", 12)
    arguments = ["reconstruction", "--model", str(tiny_model), "--encoders", str(encoders), "--device", "cpu"]
    arguments += ["--procedural", "1", "--families", "0", "--limit", "1", "--samples", "500", "--size", "24"]
    arguments += [
        "--data",
        str(tmp_path / "open" / "assets"),
        "--out",
        str(tmp_path / "out"),
        "--pictures",
        "2",
    ]
    assert main(arguments) == 0
    kept = json.loads((tmp_path / "out" / "reconstruction.json").read_text())
    assert set(kept["summary"]) == {"held-out procedural", "assets"}
    assert kept["about"]["material"] is True
    for row in kept["objects"]:
        assert row["scores"]["tokens"] > 0
        assert row["scores"]["base_color_error"] is not None
    assert "normal_psnr" in capsys.readouterr().out
    assert Image.open(tmp_path / "out" / "reconstruction.jpg").size[0] > 500


def test_a_model_without_a_material_encoder(tiny_model: Path) -> None:
    autoencoder = Autoencoder.open(tiny_model, device="cpu")
    back = autoencoder(OVoxel.from_asset(asset(1), 32))
    assert back.ovoxel.attributes is None
    assert back.tokens > 0
    with pytest.raises(VoxlumeError, match="multiple of 4"):
        autoencoder(OVoxel.from_asset(asset(1), 30))


def test_the_autoencoder_of_a_run(tmp_path: Path) -> None:
    """After one step of training: the run's own networks, also before there is a material."""
    store = write_store(tmp_path / "store", train=2, held_out=1)
    run = Run("tiny", store, tmp_path / "run", {"loop.steps": "1", "loop.looks": "0"})
    with pytest.raises(VoxlumeError, match="train this stage first"):
        write_autoencoder(run.out, "tiny", tmp_path / "out")
    contents: list[set[str]] = []
    for stage in ("shape_vae", "material_vae"):
        run_stage(stage, run, Processes(0, 1, torch.device("cpu")))  # type: ignore[arg-type]
        write_autoencoder(run.out, "tiny", tmp_path / "out")
        autoencoder = Autoencoder.open(tmp_path / "out", device="cpu")
        contents.append(set(autoencoder.encoders))
        assert autoencoder.networks.folder.config.base_resolution == 32
    assert contents == [{"shape"}, {"shape", "material"}]
    back = autoencoder(OVoxel.from_asset(asset(1), 32))
    assert back.ovoxel.attributes is not None


def test_generation_command(tiny_model: Path, tmp_path: Path) -> None:
    write_collection(tmp_path / "open", 2)
    arguments = ["generation", "--model", str(tiny_model), "--device", "cpu", "--steps", "1", "--type", "32"]
    arguments += ["--procedural", "0", "--families", "0", "--samples", "500", "--size", "24"]
    arguments += ["--data", str(tmp_path / "open" / "assets"), "--limit", "1", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    kept = json.loads((tmp_path / "out" / "generation.json").read_text())
    (row,) = kept["objects"]
    scores = row["scores"]
    assert scores["view_psnr"] > 0
    parts = scores["view_outline_error"] + scores["view_inside_error"]
    assert parts == pytest.approx(10 ** (-scores["view_psnr"] / 10), rel=1e-3)
    assert 0 <= scores["truth_open_edges"] < scores["open_edges"] < 1
    assert 0 < row["scores"]["f_score_0.05"] < 1
    assert kept["about"]["resolution"] == 32
    assert (tmp_path / "out" / "generation.jpg").is_file()


@pytest.mark.parametrize("task", ["generation", "reconstruction"])
def test_an_interrupted_evaluation_goes_on(
    task: str, tiny_model: Path, encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_collection(tmp_path / "open", 3)
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    words = [task, "--model", str(model), "--device", "cpu", "--procedural", "0", "--families", "0"]
    words += ["--data", str(tmp_path / "open" / "assets"), "--samples", "500", "--size", "24"]
    words += ["--steps", "1", "--type", "32"] if task == "generation" else ["--encoders", str(encoders)]
    module = generation if task == "generation" else reconstruction
    real, seen, stop_at = module._measured, [], [2]

    def measured(*arguments: Any) -> Any:
        if len(seen) == stop_at[0]:
            raise KeyboardInterrupt
        seen.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(module, "_measured", measured)
    out = tmp_path / "out"
    assert main([*words, "--out", str(out)]) == 130
    assert len(list((out / ".measured").glob("*.png"))) == 2
    stop_at[0] = -1
    assert main([*words, "--out", str(out)]) == 0
    assert len(seen) == len(set(seen)) == 3  # each object once
    assert not (out / ".measured").exists()
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    timed = ("seconds", "encode_seconds", "decode_seconds")
    first, second = (
        [
            row | {"scores": {k: v for k, v in row["scores"].items() if k not in timed}}
            for row in json.loads((folder / f"{task}.json").read_text())["objects"]
        ]
        for folder in (out, tmp_path / "whole")
    )
    assert first == second
    assert (out / f"{task}.jpg").read_bytes() == (tmp_path / "whole" / f"{task}.jpg").read_bytes()
    # What was measured with other settings is not taken.
    seen.clear()
    stop_at[0] = 1
    assert main([*words, "--out", str(out)]) == 130
    stop_at[0] = -1
    assert main([*words, "--samples", "600", "--out", str(out)]) == 0
    assert len(seen) == 4
    # Nor what was measured with other measures, or when the model's description was another.
    for change in ("measures", "sampler"):
        seen.clear()
        stop_at[0] = 1
        assert main([*words, "--out", str(out)]) == 130
        stop_at[0] = -1
        if change == "measures":
            monkeypatch.setattr(module, f"{task.upper()}_MEASURES", {"f_score_0.05": "alone"})
        else:
            config = json.loads((model / "pipeline.json").read_text())
            config["args"]["shape_slat_sampler"]["params"]["rescale_t"] = 2.5
            (model / "pipeline.json").write_text(json.dumps(config))
        assert main([*words, "--out", str(out)]) == 0
        assert len(seen) == 4


def test_a_shot_repeats_itself() -> None:
    """The truth in its own place gives the same picture; another object another one."""
    device = torch.device("cpu")
    voxels = OVoxel.from_asset(asset(1), 24)
    shot = Shot.of(voxels, "name", 48, device)
    picture, mask = shot.repeat(voxels)
    np.testing.assert_array_equal(picture, shot.picture)
    np.testing.assert_array_equal(mask, shot.mask)
    again = Shot.of(voxels, "name", 48, device)
    np.testing.assert_array_equal(again.picture, shot.picture)
    ball = OVoxel.from_asset(plain(sphere(12)), 24)
    assert np.abs(shot.repeat(ball)[0].astype(int) - shot.picture).mean() > 5


def test_report(tmp_path: Path) -> None:
    report = Report("test", {}, {"a": "first", "b": "second", "c": "never"})
    report.rows += [
        Row("g", "1", {"a": 1.0, "b": None}),
        Row("g", "2", {"a": 3.0, "b": 5.0}),
        Row("h", "3", {}, "no"),
    ]
    summary = report.summary()
    assert summary["g"] == {
        "objects": 2,
        "failed": 0,
        "a": {"mean": 2.0, "median": 2.0, "count": 2},
        "b": {"mean": 5.0, "median": 5.0, "count": 1},
    }
    assert summary["h"] == {"objects": 1, "failed": 1}
    lines = [line.split() for line in report.table().splitlines()]
    assert lines == [
        ["g", "h"],
        ["objects", "2", "1"],
        ["failed", "0", "1"],
        ["a", "2", "-"],
        ["b", "5", "(1)", "-"],
    ]
    report.save(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["objects"][2]["failure"] == "no"


def test_refusals(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelFileError):
        Autoencoder.open(tmp_path, device="cpu")
    common = ["reconstruction", "--model", str(tiny_model), "--out", str(tmp_path / "o")]
    for more, text in (
        (["--procedural", "0", "--families", "0"], "nothing to measure"),
        (["--data", str(tmp_path)], "holds no mesh file"),
        (["--open-assets", str(tmp_path)], "no collection"),
        (["--device", "nowhere"], "device"),
    ):
        assert main([*common, *more]) == 1
        assert text in capsys.readouterr().err


def test_bare_machine() -> None:
    """Training machines have few packages: training and measuring must start without the others."""
    code = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("zstandard", "DracoPy", "igl", "trimesh", "tyro", "rich", "embreex",
                                      "huggingface_hub", "transformers", "manifold3d"):
            raise ImportError(name + " is not on this machine")

sys.meta_path.insert(0, Blocker())
import voxlume.evaluation.generation, voxlume.evaluation.reconstruction, voxlume.training.runs
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
