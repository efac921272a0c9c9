"""Optimiser steps of every stage at its real size: ``python -m benchmarks.training_sizes --keep NAME``.

A few procedural objects are voxelised at the preset's resolution. Then every stage takes steps in the real
loop (AdamW, averaged weights, clipping, the preset's precision and checkpointing; rendering losses from the
first step on), each in a process of its own: peak memory is that of one stage, and a failure stops no other.
Weights are fresh everywhere, also those of the frozen image encoder and of the encoders that make the flows'
latents. No checkpoints are written. Processes make their networks side by side but train in turn, one at a
time on each card.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import RESULTS, environment, keep
from voxlume.data.build import BuildSettings, build
from voxlume.data.store import VoxelStore
from voxlume.models import published
from voxlume.pipelines import stages
from voxlume.pipelines.model_folder import IMAGE_ENCODER
from voxlume.training.config import overridden
from voxlume.training.data import Share
from voxlume.training.flow import FlowStage
from voxlume.training.journal import read_log
from voxlume.training.latents import Encoders, LatentStore, encode_split
from voxlume.training.loop import train
from voxlume.training.parallel import Processes, processes
from voxlume.training.pictures import PictureSource
from voxlume.training.presets import (
    MATERIAL_ENCODER,
    PRESETS,
    STRUCTURE_ENCODER,
    TrainingPreset,
)
from voxlume.training.runs import VAE_KEYS
from voxlume.training.sc_vae import MaterialVaeStage, ShapeVaeStage
from voxlume.training.stage import Stage
from voxlume.training.structure_vae import StructureVaeStage

OBJECTS = {
    "shape_vae": 2,
    "material_vae": 2,
    "structure_vae": 8,
    "structure_flow": 8,
    "shape_flow": 8,
    "material_flow": 8,
}
"""The stages, and how many objects a step of each takes unless told otherwise."""

LATENTS = "latents"

ERROR_CHARACTERS = 1000
"""Of a failed stage's message that are kept: some begin with what differs and end with general advice."""

VIEWS = 2
"""Pictures of each object for the flows; drawing more takes longer than the steps."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a stage failed."""
    options = _parser().parse_args(arguments)
    if options.stage:
        try:
            row, failed = _in_this_process(options), 0
        except Exception as error:  # whatever it is, it is this stage's result
            traceback.print_exc()
            row, failed = {"error": told_error(error)}, 1
        print(json.dumps(row))
        return failed
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(options, Path(scratch))
    result = {"preset": options.preset} | environment(options.device) | {"stages": rows}
    if options.keep:
        print(f"wrote {keep(result, options.keep, options.folder)}")
    return int(any("error" in row for row in rows.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--preset", default="published", choices=sorted(PRESETS))
    add("--stages", nargs="+", choices=list(OBJECTS), default=list(OBJECTS))
    add("--steps", type=int, default=5)
    add("--objects", type=int, help="in a step of every stage; by default " + str(OBJECTS))
    add("--data", type=Path, metavar="STORE", help="take these voxels instead of making some")
    add("--workers", type=int, default=1, help="processes that make voxels; each compiles its kernels")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--set", action="append", default=[], metavar="STAGE:NAME=VALUE", help="change a stage's setting")
    add("--keep", metavar="NAME", help="name under which the result is kept")
    add("--folder", type=Path, default=RESULTS)
    for name in ("--stage", "--scratch", "--turn"):  # how this command calls itself
        add(name, help=argparse.SUPPRESS)
    return parser


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, dict[str, Any]]:
    """All wanted stages, and the latents before the flows; what each did, or its ``error``."""
    sizes = PRESETS[options.preset]()
    began = time.perf_counter()
    if options.data is None:
        options.data = scratch / "store"
        count = max(options.objects or OBJECTS[stage] for stage in options.stages)
        settings = BuildSettings(
            sizes.model.base_resolution, procedural=count, held_out=0, open_assets=False, dressed=0
        )
        build(options.data, settings, splits=("train",), workers=options.workers)
        print(f"{count} objects as voxels: {time.perf_counter() - began:.1f} s", flush=True)
    cards = _cards(options.device)

    def measured(stage: str, number: int) -> dict[str, Any]:
        known = {} if stage == LATENTS else states(sizes, stage)
        row = known | _in_a_process(stage, options, scratch, cards[number % len(cards)])
        print(f"{stage:15s} {json.dumps(row)}", flush=True)
        return row

    with ThreadPoolExecutor(len(OBJECTS) + 1) as pool:
        first = [LATENTS] if any(stage not in VAE_KEYS for stage in options.stages) else []
        first += [stage for stage in options.stages if stage in VAE_KEYS]
        rows = {stage: pool.submit(measured, stage, number) for number, stage in enumerate(first)}
        # The flows learn the latents, and their weights, waiting on the card, would crowd the SC-VAEs.
        wait(rows.values())
        flows = [stage for stage in options.stages if stage not in VAE_KEYS]
        rows |= {stage: pool.submit(measured, stage, number) for number, stage in enumerate(flows)}
    print(f"all together: {time.perf_counter() - began:.1f} s")
    return {stage: row.result() for stage, row in rows.items()}


def states(sizes: TrainingPreset, stage: str) -> dict[str, Any]:
    """Weights of a stage, and the memory that they, gradients, moments and averages take without sharding.

    Learning weights need 20 bytes each (five times float32), frozen ones 4.
    """

    def count(keys: Sequence[str]) -> int:
        networks = (published.build(sizes.config(key), "meta") for key in keys)
        return sum(p.numel() for network in networks for p in network.parameters())

    if stage in VAE_KEYS:
        learning, frozen = count(VAE_KEYS[stage]), 0
    else:
        learning, frozen = count([_flow_keys()[stage]]), count([IMAGE_ENCODER])
        if not sizes.flows.freeze_encoder:
            learning, frozen = learning + frozen, 0
    gigabytes = round((20 * learning + 4 * frozen) / 1e9, 2)
    return {"weights": learning, "frozen_weights": frozen, "states_gb": gigabytes}


def _flow_keys() -> dict[str, str]:
    """The flows of the base resolution."""
    return {
        "structure_flow": stages.STRUCTURE_FLOW,
        "shape_flow": stages.SHAPE_FLOWS[0],
        "material_flow": stages.MATERIAL_FLOWS[0],
    }


# -- processes -------------------------------------------------------------------------------------


def _cards(device: str) -> list[str | None]:
    """The cards to share the stages among; None is the CPU, or the one card that is named."""
    if device != "cuda":
        return [None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return list(visible.split(",")) if visible else [str(i) for i in range(torch.cuda.device_count())]


def _in_a_process(stage: str, options: argparse.Namespace, scratch: Path, card: str | None) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.training_sizes", "--stage", stage]
    words += ["--preset", options.preset, "--steps", str(options.steps), "--device", options.device]
    words += ["--data", str(options.data), "--scratch", str(scratch), "--turn", str(scratch / f"turn-{card}")]
    if options.objects:
        words += ["--objects", str(options.objects)]
    for text in options.set:
        words += ["--set", text]
    environment = dict(os.environ)
    if card is not None:
        environment["CUDA_VISIBLE_DEVICES"] = card
    ended = subprocess.run(words, env=environment, capture_output=True, text=True)
    if ended.returncode >= 0 and ended.stdout.strip():
        return dict(json.loads(ended.stdout.splitlines()[-1]))
    # Killed, or it could not even start.
    said = [line for line in ended.stderr.splitlines() if line.strip()]
    return {"error": f"ended with status {ended.returncode}" + (f": {said[-1]}" if said else "")}


def told_error(error: Exception) -> str:
    """The beginning of what an exception says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:ERROR_CHARACTERS]


@contextmanager
def _turn(path: str) -> Iterator[None]:
    """Wait until no other process works on the card."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _in_this_process(options: argparse.Namespace) -> dict[str, Any]:
    """One stage from its fresh networks to what its log says."""
    began = time.perf_counter()
    sizes, scratch = PRESETS[options.preset](), Path(options.scratch)
    torch.manual_seed(0)
    with processes(options.device) as who:
        share = Share(options.data, "train", who, max(options.objects or 0, *OBJECTS.values()))
        if options.stage == LATENTS:
            return _encode(sizes, share.voxels(), scratch / LATENTS, who, options.turn)
        settings = {
            "loop.batch_size": str(options.objects or OBJECTS[options.stage]),
            "loop.steps": str(options.steps),
            "loop.looks": "0",
            "loop.check_every": "1",  # and a line of the log for every step
            "loop.log_seconds": "0",
        }
        prefix = f"{options.stage}:"
        chosen = (text.removeprefix(prefix) for text in options.set if text.startswith(prefix))
        settings |= dict(text.split("=", 1) for text in chosen)
        stage, loop = _stage(options.stage, sizes, share, scratch / LATENTS, who, settings)
        made = time.perf_counter() - began
        with _turn(options.turn):
            train(stage, loop, scratch / options.stage, who, save=False)
    return _told(read_log(scratch / options.stage)) | {
        "making_networks_s": round(made, 1),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def _told(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What a log with a record for every step says."""
    seconds = [1 / record["steps_per_second"] for record in records]
    facts = {
        "steps": records[-1]["step"],
        "objects": round(records[-1]["objects_per_second"] * seconds[-1]),
        "rows": round(records[-1]["rows_per_second"] * seconds[-1]),
        "first_step_s": round(seconds[0], 3),
        "step_s": round(statistics.median(seconds[1:] or seconds), 3),
        "loss_first": records[0]["loss"],
        "loss_last": records[-1]["loss"],
        "skipped": sum(record["skipped"] for record in records),
    }
    return facts | ({"peak_gb": records[-1]["peak_gb"]} if "peak_gb" in records[-1] else {})


# -- stages of fresh networks ----------------------------------------------------------------------


def _encode(
    sizes: TrainingPreset, store: VoxelStore, folder: Path, who: Processes, turn: str
) -> dict[str, Any]:
    """Latents by encoders that have learned nothing."""
    keys = (stages.SHAPE_ENCODER, MATERIAL_ENCODER, STRUCTURE_ENCODER)
    fresh: list[Any] = [published.build(sizes.config(key)) for key in keys]
    with _turn(turn):
        encoders = Encoders(*fresh, sizes.structure_grid).ready_on(who.device)
        encode_split(encoders, store, folder, "train", who)
    return {"objects": len(store)}


def _stage(
    name: str,
    sizes: TrainingPreset,
    share: Share,
    latents: Path,
    who: Processes,
    settings: dict[str, str],
) -> tuple[Stage, Any]:
    """A stage as the training command makes it, and the settings of its loop."""
    if name not in VAE_KEYS:
        part = name.removesuffix("_flow")
        flow = overridden(sizes.flows, {"train": part, "views": str(VIEWS)} | settings)
        encoded = LatentStore.load(latents, who.device)
        source = PictureSource(VIEWS, flow.picture_size, 0, share.numbers, share.total)
        return FlowStage(sizes.model, flow, encoded, share, None, who, source), flow.loop
    config, store = getattr(sizes, name), share.voxels()
    if name != "structure_vae":
        settings = {"rendering.share_from": "0"} | settings
    config = overridden(config, settings)
    encoder, decoder = (sizes.config(key) for key in VAE_KEYS[name])
    arguments = (encoder, decoder, VAE_KEYS[name], config, store, None, who)
    if name == "structure_vae":
        return StructureVaeStage(*arguments, sizes.structure_grid), config.loop
    return (ShapeVaeStage if name == "shape_vae" else MaterialVaeStage)(*arguments), config.loop


if __name__ == "__main__":
    sys.exit(main())
