"""Resuming, stopping, several processes: the loop's promises."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from voxlume.errors import ModelFileError, VoxlumeError
from voxlume.training.checkpoint import read_state
from voxlume.training.journal import read_log
from voxlume.training.loop import CHECKPOINT
from voxlume.training.parallel import Processes
from voxlume.training.runs import Run, run_stage

ALONE = Processes(0, 1, torch.device("cpu"))
SHORT = {"loop.steps": "6", "loop.check_every": "1", "loop.looks": "2", "loop.log_seconds": "0"}


def weights(run: Run, stage: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run.checkpoint(stage))


@pytest.mark.parametrize("stage", ["structure_vae", "shape_vae"])
def test_resumed_is_bit_for_bit_the_same(stage: str, store: Path, tmp_path: Path) -> None:
    whole = Run("tiny", store, tmp_path / "whole", SHORT)
    run_stage(stage, whole, ALONE)  # type: ignore[arg-type]
    cut = Run("tiny", store, tmp_path / "cut", SHORT)

    def until_three(done: int, total: int, what: str) -> bool:
        return "step 3" not in what

    said = run_stage(stage, cut, ALONE, until_three)  # type: ignore[arg-type]
    assert said["step"] == 3
    assert not said["finished"]
    with pytest.raises(VoxlumeError, match="--resume"):
        run_stage(stage, cut, ALONE)  # type: ignore[arg-type]
    said = run_stage(stage, replace(cut, resume=True), ALONE)  # type: ignore[arg-type]
    assert said["step"] == 6
    assert said["finished"]
    one, other = weights(whole, stage), weights(cut, stage)
    assert one.keys() == other.keys()
    assert any(key.startswith("exp_avg_sq/") for key in one)
    for key in one:
        assert torch.equal(one[key], other[key]), key
    losses = [[r["loss"] for r in read_log(run.out / stage) if "loss" in r] for run in (whole, cut)]
    assert losses[0] == losses[1]


def test_profile_names_what_takes_time(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxlume.training.profile.AFTER", 1)
    run = Run("tiny", store, tmp_path / "run", SHORT | {"loop.profile": "2"})
    run_stage("structure_vae", run, ALONE)
    text = (run.out / "structure_vae" / "profile.txt").read_text()
    assert text.startswith("2 steps")
    assert "conv" in text


def command(run: Run, stage: str, *more: str) -> list[str]:
    words = [sys.executable, "-m", "voxlume.training", stage, "--preset", run.preset, "--device", "cpu"]
    words += ["--data", str(run.data), "--out", str(run.out), *more]
    for name, value in run.settings.items():
        words += ["--set", f"{name}={value}"]
    return words


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


def test_killed_at_any_moment(store: Path, tmp_path: Path) -> None:
    """SIGTERM saves at once; SIGKILL loses only what came after the last checkpoint."""
    settings = {"loop.steps": "100000", "loop.check_every": "1", "loop.looks": "0", "loop.save_seconds": "0"}
    run = Run("tiny", store, tmp_path / "run", settings)
    path = run.checkpoint("structure_vae")
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 3)):
        before = read_state(path)["step"] if path.exists() else 0
        process = subprocess.Popen(
            command(run, "structure_vae", "--resume"), env=environment(), stdout=subprocess.DEVNULL
        )
        limit = time.monotonic() + 120
        while not path.exists() or read_state(path)["step"] <= before + 1:
            assert time.monotonic() < limit
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == status
        assert read_state(path)["step"] > before
    steps = [record["step"] for record in read_log(run.out / "structure_vae")]
    assert steps == sorted(set(steps))


def together(run: Run, stage: str, *more: str) -> None:
    """Run a stage in two processes, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    running = [
        subprocess.Popen(
            command(run, stage, *more),
            env=environment(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE="2",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port,
            ),
            stdout=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    assert [process.wait(240) for process in running] == [0, 0]


def losses(run: Run, stage: str) -> list[float]:
    return [record["loss"] for record in read_log(run.out / stage) if "loss" in record]


def test_two_processes_learn_what_one_does(store: Path, tmp_path: Path) -> None:
    settings = SHORT | {"loop.lanes": "2", "loop.looks": "0"}
    one = Run("tiny", store, tmp_path / "one", settings)
    run_stage("structure_vae", one, ALONE)
    two = Run("tiny", store, tmp_path / "two", settings)
    together(two, "structure_vae")
    assert losses(two, "structure_vae") == pytest.approx(losses(one, "structure_vae"), rel=1e-4)
    found, expected = weights(two, "structure_vae"), weights(one, "structure_vae")
    worst = max(float((found[k] - expected[k]).abs().max()) for k in found if k.startswith("weights/"))
    assert worst < 1e-4
    # Divided weights are the same mathematics, and their checkpoint is a whole one.
    sharded = Run("tiny", store, tmp_path / "sharded", settings)
    together(sharded, "structure_vae", "--shard")
    assert losses(sharded, "structure_vae") == pytest.approx(losses(one, "structure_vae"), rel=1e-3)
    assert {k: v.shape for k, v in weights(sharded, "structure_vae").items()} == {
        k: v.shape for k, v in expected.items()
    }


def test_a_checkpoint_of_another_run(store: Path, tmp_path: Path) -> None:
    run = Run("tiny", store, tmp_path / "run", SHORT | {"loop.steps": "1", "loop.looks": "0"})
    run_stage("structure_vae", run, ALONE)
    other = run.checkpoint("shape_vae")
    other.parent.mkdir()
    other.write_bytes(run.checkpoint("structure_vae").read_bytes())
    with pytest.raises(ModelFileError, match="other networks"):
        run_stage("shape_vae", replace(run, resume=True), ALONE)
    other.write_bytes(run.checkpoint("structure_vae").read_bytes()[:5000])
    with pytest.raises(ModelFileError, match="truncated"):
        run_stage("shape_vae", replace(run, resume=True), ALONE)
    assert CHECKPOINT.endswith(".safetensors")
