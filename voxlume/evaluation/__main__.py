"""``python -m voxlume.evaluation reconstruction|generation``: a model on objects that it has never seen."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from voxlume.data.sources import Source, mesh_sources, open_sources, procedural_sources, shuffled
from voxlume.errors import VoxlumeError
from voxlume.progress import Progress
from voxlume.threads import sleep_while_waiting

if TYPE_CHECKING:
    from voxlume.evaluation.report import Report, Tile


PARTIAL = ".measured"
"""Folder in the output that holds what is measured until the report is written."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    sleep_while_waiting()
    options = _parser().parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        options.run(options)
    except VoxlumeError as error:
        print(f"voxlume.evaluation: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"voxlume.evaluation: cannot use {options.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("voxlume.evaluation: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _reconstruction(options: argparse.Namespace) -> None:
    from voxlume.evaluation import reconstruction as task

    if options.run_folder is not None:
        options.model = options.out / "autoencoder"
        task.write_autoencoder(options.run_folder, options.preset, options.model)
    autoencoder = task.Autoencoder.open(options.model, options.encoders, options.device)
    report, tiles = task.evaluate_reconstruction(
        autoencoder,
        _groups(options),
        resolution=options.resolution,
        samples=options.samples,
        size=options.size,
        conversion=options.conversion,
        pictures=options.pictures,
        about={"model": str(options.model), "encoders": str(options.encoders or options.model)},
        kept_in=options.out / PARTIAL,
        progress=_lines(),
    )
    _write(options.out, report, tiles, task.SHEET_HEADS)


def _generation(options: argparse.Namespace) -> None:
    from voxlume.evaluation import generation as task
    from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions, SamplerOptions

    pipeline = ImageTo3D.from_pretrained(options.model, device=options.device)
    sampler = SamplerOptions(steps=options.steps, votes=options.votes)
    report, tiles = task.evaluate_generation(
        pipeline,
        _groups(options),
        options=ImageTo3DOptions(
            pipeline_type=options.type,
            seed=options.seed,
            structure_sampler=sampler,
            shape_sampler=replace(sampler, guidance_strength=options.shape_guidance),
            material_sampler=sampler,
            outline=options.outline,
        ),
        samples=options.samples,
        size=options.size,
        pictures=options.pictures,
        about={
            "model": str(options.model),
            "seed": options.seed,
            "steps": options.steps,
            "outline": options.outline,
        },
        kept_in=options.out / PARTIAL,
        progress=_lines(),
    )
    _write(options.out, report, tiles, task.SHEET_HEADS)


def _groups(options: argparse.Namespace) -> dict[str, list[Source]]:
    """The objects that training never sees, by group."""
    groups = {
        "held-out procedural": procedural_sources(options.procedural, "held_out"),
        "held-out families": procedural_sources(options.families, "held_out_families"),
    }
    if options.open_assets is not None:
        held_back = open_sources(options.open_assets, "held_out", dressed=0)
        groups["held-back open assets"] = shuffled(held_back)
    for folder in options.data:
        groups[folder.name] = mesh_sources(folder)
    if options.limit is not None:
        groups = {name: sources[: options.limit] for name, sources in groups.items()}
    groups = {name: sources for name, sources in groups.items() if sources}
    if not groups:
        raise VoxlumeError("there is nothing to measure; see --procedural, --families, --open-assets, --data")
    return groups


def _write(out: Path, report: Report, tiles: Sequence[Tile], heads: Sequence[str]) -> None:
    from voxlume.evaluation.report import save_sheet, sheet

    report.save(out / f"{report.task}.json")
    (out / f"{report.task}.txt").write_text(report.table() + "\n")
    if tiles:
        save_sheet(sheet(tiles, heads), out / f"{report.task}.jpg")
    shutil.rmtree(out / PARTIAL, ignore_errors=True)
    print(report.table())
    for name, reason in report.about.get("unusable", {}).items():
        print(f"not measured: {name}: {reason}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m voxlume.evaluation", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, text: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        formatter = argparse.ArgumentDefaultsHelpFormatter
        added = commands.add_parser(name, help=text, description=text, formatter_class=formatter)
        added.set_defaults(run=run)
        _shared_arguments(added, name)
        return added

    task = command("reconstruction", "what the SC-VAE keeps: voxels to latents and back", _reconstruction)
    task.add_argument("--encoders", type=Path, help="folder with the encoders that the model lacks")
    task.add_argument(
        "--run", type=Path, dest="run_folder", help="the SC-VAE of a training run instead of --model"
    )
    task.add_argument("--preset", default="nano", help="that the run was trained with")
    task.add_argument("--resolution", type=int, help="of the voxels; the model's base resolution by default")
    task.add_argument(
        "--conversion", action="store_true", help="also measure the voxels before they are encoded"
    )
    task = command("generation", "from one picture of an object to the object", _generation)
    task.add_argument("--type", help="pipeline type; the model's own by default")
    task.add_argument("--seed", type=int, default=42, help="of the samplers")
    task.add_argument("--steps", type=int, help="of the samplers; the model's own by default")
    task.add_argument(
        "--votes", type=int, help="samples that decide on one in every stage; the model's own by default"
    )
    task.add_argument(
        "--no-outline", dest="outline", action="store_false", help="do not keep structures in the outline"
    )
    task.add_argument("--shape-guidance", type=float, help="1 is none; the model's own by default")
    return parser


def _shared_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--model", default="bundled", help="folder, hub id or bundled")
    parser.add_argument("--out", type=Path, default=Path("out"), help=f"folder for {name}.json, .txt, .jpg")
    parser.add_argument("--procedural", type=int, default=64, help="held-out procedural objects")
    parser.add_argument("--families", type=int, default=32, help="objects of families never trained on")
    parser.add_argument("--open-assets", type=Path, help="the open collection's folder; its held-back part")
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], help="further groups: folders of mesh files"
    )
    parser.add_argument("--limit", type=int, help="of objects in each group")
    parser.add_argument("--samples", type=int, default=100_000, help="points on each surface")
    parser.add_argument("--size", type=int, default=256, help="side of the maps in pixels")
    parser.add_argument("--pictures", type=int, default=24, help="objects in the picture")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")


def _lines() -> Progress:
    """Progress as a line every ten seconds."""
    said = time.monotonic()

    def callback(done: int, total: int, what: str) -> bool:
        nonlocal said
        if time.monotonic() - said >= 10:
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)
            said = time.monotonic()
        return True

    return callback


if __name__ == "__main__":
    sys.exit(main())
