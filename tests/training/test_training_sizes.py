"""The benchmark that takes optimiser steps of every stage, on the tiny preset."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError, checkpoint

from benchmarks import training_sizes
from voxlume.training.presets import published

CARD_GB = 80
"""Memory of the smaller of the cards that the published sizes are meant for."""


def test_every_stage_takes_steps_and_one_that_fails_stops_no_other(store: Path, tmp_path: Path) -> None:
    words = ["--preset", "tiny", "--device", "cpu", "--steps", "2", "--objects", "3", "--data", str(store)]
    words += ["--stages", "structure_vae", "shape_flow", "--set", "structure_vae:occupancy=much"]
    words += ["--keep", "sizes", "--folder", str(tmp_path)]
    assert training_sizes.main(words) == 1
    stages = json.loads((tmp_path / "sizes.json").read_text())["stages"]
    row = stages["shape_flow"]
    assert (row["steps"], row["objects"], row["skipped"]) == (2, 3, 0)
    assert math.isfinite(row["loss_first"])
    assert row["loss_first"] != row["loss_last"]
    assert row["step_s"] > 0
    assert row["weights"] > 100_000
    assert "occupancy = 'much' is not a value" in stages["structure_vae"]["error"]


def test_an_error_tells_what_differs_before_any_advice() -> None:
    layer, calls = torch.nn.Linear(3, 3), []

    def unlike_the_first_time(x: Tensor) -> Tensor:
        calls.append(x)
        return layer(x[: len(calls)]).sin().sum()

    x = torch.ones(4, 3, requires_grad=True)
    with pytest.raises(CheckpointError) as caught:
        checkpoint(unlike_the_first_time, x, use_reentrant=False).backward()
    told = training_sizes.told_error(caught.value)
    assert told.startswith("CheckpointError: ")
    assert "\n" not in told
    assert told.index("metadata") < training_sizes.ERROR_CHARACTERS / 2
    assert len(training_sizes.told_error(RuntimeError("long " * 1000))) == training_sizes.ERROR_CHARACTERS


@pytest.mark.parametrize("stage", training_sizes.OBJECTS)
def test_the_states_of_published_sizes_leave_half_of_a_card(stage: str) -> None:
    needed = training_sizes.states(published(), stage)
    assert needed["states_gb"] < CARD_GB / 2
    assert (needed["frozen_weights"] > 0) == stage.endswith("_flow")
