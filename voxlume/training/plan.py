"""All stages in their order within one budget, on all GPUs of a machine.

First the three VAEs beside each other, each on its own GPUs; then the image encoder and the camera head, if
the preset trains them, the latents and the flows on all of them; then the finished model. Every stage is a
process (group) of its own, so nothing of one is in the memory of the next, and a plan that was cut off goes
on with ``resume``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxlume.errors import VoxlumeError
from voxlume.training.presets import PRESETS

VAES = ("shape_vae", "material_vae", "structure_vae")

VAE_SPLIT = {"shape_vae": 0.55, "material_vae": 0.35, "structure_vae": 0.10}
"""How one GPU, or a CPU, divides the VAEs' time; the structure VAE is small."""

ENCODER_SHARE = 0.15
"""Part of the seconds that an image encoder of our own gets before the flows."""

HEAD_SHARE = 0.05
"""And a camera head after it."""

LATENTS_SECONDS, EXPORT_SECONDS = 45.0, 20.0
"""Kept free for stages that have no budget of their own."""

STOPPED = 3
"""Exit status of a stage that was asked to stop and can be resumed."""


@dataclass(frozen=True)
class Plan:
    """What `all` is to do.

    Attributes
    ----------
    seconds : for everything together.
    vae_share : part of them that the VAEs get.
    settings : texts ``STAGE:NAME=VALUE``.
    """

    preset: str
    data: Path
    out: Path
    seconds: float | None
    resume: bool = False
    limit: int | None = None
    device: str = "auto"
    vae_share: float = 0.4
    encoders: bool = False
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """One stage on some GPUs; none for a CPU."""

    stage: str
    gpus: tuple[int, ...]
    seconds: float | None


def run_all(plan: Plan) -> int:
    """Run a plan; returns the exit status of the first stage that did not finish, or 0.

    Raises
    ------
    VoxlumeError : no time was given.
    """
    if plan.seconds is None:
        raise VoxlumeError("`all` needs a budget: --seconds")
    for text in plan.settings:
        if text.partition(":")[0] not in (*VAES, "image_encoder", "camera_head", "flows") or "=" not in text:
            raise VoxlumeError(f"--set {text}: with `all` write STAGE:NAME=VALUE")
    began = time.monotonic()
    gpus = _gpus(plan.device)
    groups = vae_groups(gpus, plan.vae_share * plan.seconds)
    preset = PRESETS[plan.preset]()
    encoder = ENCODER_SHARE if preset.image_encoder else 0.0
    head = HEAD_SHARE if preset.camera_head else 0.0
    if encoder:
        groups.append([Job("image_encoder", gpus, encoder * plan.seconds)])
    if head:
        groups.append([Job("camera_head", gpus, head * plan.seconds)])
    groups.append([Job("latents", gpus, None)])
    if plan.resume and (plan.out / "latents" / "statistics.json").exists():
        groups = []  # the flows learn these latents: what made them must not change any more
    for jobs in groups:
        status = _together(plan, jobs)
        if status:
            return status
    left = plan.seconds - (time.monotonic() - began) - EXPORT_SECONDS
    if plan.resume:
        # What an earlier call trained counts: seconds of a stage are those of all its parts.
        others = plan.seconds * (plan.vae_share + encoder + head) + LATENTS_SECONDS + EXPORT_SECONDS
        left = max(left, plan.seconds - others)
    status = _together(plan, [Job("flows", gpus, max(1.0, left))])
    return status or _together(plan, [Job("export", (), None)])


def vae_groups(gpus: Sequence[int], seconds: float) -> list[list[Job]]:
    """The VAEs' jobs: groups one after another, the jobs of a group beside each other."""
    if len(gpus) < 2:
        return [[Job(stage, tuple(gpus), VAE_SPLIT[stage] * seconds)] for stage in VAES]
    if len(gpus) == 2:
        other = VAE_SPLIT["structure_vae"] / (VAE_SPLIT["structure_vae"] + VAE_SPLIT["material_vae"])
        first, second = tuple(gpus[:1]), tuple(gpus[1:])
        # The second card does the two smaller ones in turn, while the first is at work all the time.
        return [
            [Job("shape_vae", first, seconds), Job("structure_vae", second, other * seconds)],
            [Job("material_vae", second, (1 - other) * seconds)],
        ]
    material = max(1, (len(gpus) - 1) // 3)
    shape = tuple(gpus[: len(gpus) - 1 - material])
    return [
        [
            Job("shape_vae", shape, seconds),
            Job("material_vae", tuple(gpus[len(shape) : len(shape) + material]), seconds),
            Job("structure_vae", (gpus[-1],), seconds),
        ]
    ]


def _gpus(device: str) -> tuple[int, ...]:
    if device == "cpu":
        return ()
    import torch

    return tuple(range(torch.cuda.device_count()))


def command(plan: Plan, job: Job) -> list[str]:
    """The command line of a job."""
    launcher = [sys.executable]
    if len(job.gpus) > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(job.gpus)}"]
    words = [*launcher, "-m", "voxlume.training", job.stage]
    words += ["--preset", plan.preset, "--data", str(plan.data), "--out", str(plan.out)]
    words += ["--device", "cuda" if job.gpus else "cpu"]
    if job.seconds is not None:
        words += ["--seconds", f"{job.seconds:.1f}"]
    if plan.limit is not None:
        words += ["--limit", str(plan.limit)]
    if plan.resume:
        words.append("--resume")
    if plan.encoders:
        words.append("--encoders")
    for text in plan.settings:
        stage, _, setting = text.partition(":")
        if stage == job.stage:
            words += ["--set", setting]
    return words


def _together(plan: Plan, jobs: Sequence[Job]) -> int:
    """Run jobs beside each other; SIGTERM reaches all of them. Returns the first status that is not 0."""
    running = []
    for job in jobs:
        environment = dict(os.environ)
        if job.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, job.gpus))
        print(f"voxlume.training: {job.stage} on {_place(job)}", file=sys.stderr, flush=True)
        running.append(subprocess.Popen(command(plan, job), env=environment))

    def forward(number: int, frame: Any) -> None:
        for process in running:
            process.send_signal(signal.SIGTERM)

    kept = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return next((status for status in [process.wait() for process in running] if status), 0)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _place(job: Job) -> str:
    seconds = "" if job.seconds is None else f", {job.seconds:.0f} s"
    if not job.gpus:
        return f"the CPU{seconds}"
    return f"GPU {', '.join(map(str, job.gpus))}{seconds}"
