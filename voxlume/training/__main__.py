"""``python -m voxlume.training STAGE --data STORE --out RUN``: train one stage, or ``all`` of them.

Alone or under ``torchrun``; see :mod:`voxlume.training.runs` for the stages.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from voxlume.errors import VoxlumeError
from voxlume.progress import Progress
from voxlume.training.plan import STOPPED, Plan, run_all
from voxlume.training.presets import PRESETS

STAGES = (
    "shape_vae",
    "material_vae",
    "structure_vae",
    "image_encoder",
    "camera_head",
    "latents",
    "flows",
    "export",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 done, 1 an error, 3 stopped and resumable."""
    began = time.monotonic()
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options)
        if options.stage == "all":
            _refuse_for_all(options)
            plan = Plan(
                options.preset,
                options.data,
                options.out,
                options.seconds,
                options.resume,
                options.limit,
                options.device,
                options.vae_share,
                options.encoders,
                tuple(options.set),
            )
            return run_all(plan)
        # Only now: reading this file costs no torch.
        from voxlume.training.parallel import processes
        from voxlume.training.runs import Run, run_stage, tell

        run = Run(
            options.preset,
            options.data,
            options.out,
            settings,
            options.resume,
            options.limit,
            options.image_encoder,
            tuple(options.initial),
            options.encoders,
            options.share,
        )
        with processes(options.device) as who:
            said = run_stage(options.stage, run, who, _lines(began) if who.first else None, began)
            if who.first:
                print(tell({"stage": options.stage} | said), flush=True)
        return 0 if said.get("finished", True) else STOPPED
    except VoxlumeError as error:
        print(f"voxlume.training: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m voxlume.training", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("stage", choices=(*STAGES, "all"))
    add("--preset", default="nano", choices=sorted(PRESETS))
    add("--data", type=Path, required=True, metavar="STORE", help="folder of `python -m voxlume.data build`")
    add("--out", type=Path, required=True, metavar="RUN", help="folder of the run, all stages together")
    add("--seconds", type=float, help="budget in time, all resumed parts together")
    add("--steps", type=int, help="budget in steps")
    add("--resume", action="store_true", help="go on from the last checkpoint")
    add("--batch-size", type=int, help="objects in a step, over all processes")
    add("--learning-rate", type=float)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    add("--limit", type=int, help="take only so many training objects")
    add("--checkpointing", action="store_true", help="recompute activations: less memory, a third slower")
    add("--shard", action="store_true", help="divide weights and optimiser among the processes (FSDP)")
    add("--image-encoder", type=Path, metavar="FOLDER", help="ready-made DINOv3 encoder for the flows")
    add(
        "--initial",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="weights to begin with: a checkpoint or a model folder; may be given again, the last one counts",
    )
    add("--encoders", action="store_true", help="export also the encoders that only evaluation needs")
    add(
        "--share",
        type=float,
        default=1.0,
        help="export so much of the new weights of flows, the rest from the model they began with",
    )
    add("--vae-share", type=float, default=0.4, help="part of the seconds of `all` that the VAEs get")
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any field of the stage's configuration, as ema=0.999 or rendering.size=128; with `all` "
        "STAGE:NAME=VALUE",
    )
    return parser


NOT_FOR_ALL = (
    "steps",
    "batch_size",
    "learning_rate",
    "checkpointing",
    "shard",
    "image_encoder",
    "initial",
    "share",
)
"""Options of single stages."""


def _refuse_for_all(options: argparse.Namespace) -> None:
    """Say which options `all` would have to leave unheard."""
    usual = _parser().parse_args(["all", "--data", "", "--out", ""])
    for name in NOT_FOR_ALL:
        if getattr(options, name) != getattr(usual, name):
            raise VoxlumeError(
                f"`all` takes no --{name.replace('_', '-')}: run the stages one by one, "
                "or write --set STAGE:NAME=VALUE"
            )


def _settings(options: argparse.Namespace) -> dict[str, str]:
    settings: dict[str, str] = {}
    if options.stage == "all":
        return settings
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise VoxlumeError(f"--set {text}: write NAME=VALUE")
        settings[name] = value
    for name in ("seconds", "steps", "batch_size", "learning_rate"):
        if getattr(options, name) is not None:
            settings[f"loop.{name}"] = str(getattr(options, name))
    for name in ("checkpointing", "shard"):
        if getattr(options, name):
            settings[f"loop.{name}"] = "true"
    return settings


def _lines(began: float, every: float = 10.0) -> Progress:
    """A progress callback that prints a line now and then."""
    last: dict[str, float] = {}

    def callback(done: int, total: int, what: str) -> bool:
        kind, now = what.split(",")[0], time.monotonic()
        if now - last.get(kind, began) >= every:
            last[kind] = now
            print(
                f"[{now - began:6.0f} s] {what}: {100 * done / max(1, total):.1f} %",
                file=sys.stderr,
                flush=True,
            )
        return True

    return callback


if __name__ == "__main__":
    sys.exit(main())
