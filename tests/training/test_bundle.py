"""A finished model becomes the one that comes with the package, or nothing changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from voxlume.errors import VoxlumeError
from voxlume.pipelines.model_folder import IMAGE_TO_3D, TEXTURING, ModelFolder, Normalization
from voxlume.pipelines.presets import random_network
from voxlume.training import bundle as module
from voxlume.training import presets
from voxlume.training.bundle import bundle, main
from voxlume.training.export import write_model
from voxlume.training.latents import Statistics
from voxlume.training.presets import MATERIAL_ENCODER, STRUCTURE_ENCODER


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as training exports it with ``--encoders``."""
    torch.manual_seed(0)
    sizes = presets.tiny()
    keys = [*sizes.model.networks, STRUCTURE_ENCODER, MATERIAL_ENCODER]
    networks = {key: random_network(sizes.config(key)) for key in keys}
    plain = Normalization((0.1,) * 8, (0.9,) * 8)
    folder = tmp_path_factory.mktemp("run") / "model"
    write_model(sizes.model, networks, Statistics(plain, plain, tuple(np.ones(8))), folder, {"training": {}})
    return folder


@pytest.mark.parametrize("room", [True, False])
def test_encoders_come_along_if_there_is_room(
    room: bool, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ModelFolder.from_pretrained(finished).has(MATERIAL_ENCODER)
    if not room:
        whole = sum(path.stat().st_size for path in finished.rglob("*") if path.is_file())
        monkeypatch.setattr(module, "MOST_BYTES", whole - 1000)
    target = tmp_path / "weights"
    (target / "ckpts").mkdir(parents=True)
    (target / "CREDITS.md").write_text("Thanks.\n")
    (target / "ckpts" / "old.safetensors").touch()
    size = bundle(finished, target)
    assert size == sum(p.stat().st_size for p in target.rglob("*") if p.is_file() and p.suffix != ".md")
    assert (target / "CREDITS.md").read_text() == "Thanks.\n"
    assert not (target / "ckpts" / "old.safetensors").exists()
    needed = set()
    for description in (IMAGE_TO_3D, TEXTURING):
        folder = ModelFolder.from_pretrained(target, pipeline=description)
        assert folder.problems() == []
        encoders = {STRUCTURE_ENCODER, MATERIAL_ENCODER} & set(folder.config.models)
        assert len(encoders) == (2 if room else 0)
        needed |= set(folder.config.models)
        assert "training" in json.loads((target / description).read_text())
    assert {path.stem for path in (target / "ckpts").iterdir()} == needed
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_nothing_changes_where_it_cannot_be(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, damaged = tmp_path / "weights", tmp_path / "damaged"
    bundle(finished, target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    shutil.copytree(finished, damaged)
    (damaged / "ckpts" / "shape_slat_encoder.safetensors").unlink()
    with pytest.raises(VoxlumeError, match=r"no ckpts/shape_slat_encoder\.safetensors"):
        bundle(damaged, target)
    assert main([str(tmp_path / "nowhere"), "--to", str(target)]) == 1
    assert "neither a folder" in capsys.readouterr().err
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(VoxlumeError, match="more than 80"):
        bundle(finished, target)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
