"""``python -m voxlume.data build OUT ...``: training data as voxels."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from voxlume.data.build import BAD, BuildSettings, build
from voxlume.data.shards import read_index
from voxlume.data.sources import SPLITS
from voxlume.errors import VoxlumeError
from voxlume.progress import Progress


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    try:
        settings = BuildSettings(
            resolution=options.resolution,
            procedural=options.procedural,
            held_out=options.held_out,
            open_assets=options.open_assets is not None,
            dressed=options.dressed,
            warped=options.warped,
            composed=options.composed,
            max_voxels=options.max_voxels,
            series=options.series,
        )
        bad = build(
            options.out,
            settings,
            open_assets=options.open_assets,
            splits=options.splits,
            workers=options.workers,
            progress=_lines(),
        )
        splits = read_index(options.out)["splits"]
    except VoxlumeError as error:
        print(f"voxlume.data: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("voxlume.data: interrupted; the same command goes on", file=sys.stderr)
        return 130
    counts = {
        split: {
            "objects": sum(len(shard["samples"]) for shard in shards),
            "voxels": sum(sample[2] for shard in shards for sample in shard["samples"]),
        }
        for split, shards in splits.items()
    }
    facts = {"seconds": round(time.monotonic() - began, 1), "splits": counts, "left_out": len(bad)}
    print(json.dumps(facts, indent=2))
    if bad:
        print(f"{len(bad)} objects were left out; the reasons are in {options.out / BAD}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m voxlume.data", description="Training data.")
    command = parser.add_subparsers(required=True).add_parser(
        "build",
        help="make a store of voxelised objects, or go on making it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    defaults = BuildSettings()
    command.add_argument("out", type=Path, metavar="OUT", help="folder of the store")
    command.add_argument("--resolution", type=int, default=defaults.resolution, help="of the voxel grid")
    command.add_argument(
        "--procedural", type=int, default=defaults.procedural, help="objects from seeds to train on"
    )
    command.add_argument(
        "--held-out", type=int, default=defaults.held_out, help="objects from seeds in each held-out split"
    )
    command.add_argument("--open-assets", type=Path, help="the open collection: its folder, or its archive")
    command.add_argument(
        "--dressed",
        type=int,
        default=defaults.dressed,
        help="copies of every open asset in procedural materials, beside the one in its own",
    )
    command.add_argument(
        "--warped",
        type=int,
        default=defaults.warped,
        help="copies of every open asset to train on in other proportions",
    )
    command.add_argument(
        "--composed",
        type=int,
        default=defaults.composed,
        help="objects put together of every open asset to train on and some others",
    )
    command.add_argument(
        "--max-voxels", type=int, default=0, help="leave larger objects out (0: 12 resolution^2)"
    )
    command.add_argument(
        "--series",
        type=int,
        default=defaults.series,
        help="of objects to train on: another number makes others of the same kinds",
    )
    command.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help="what to build")
    command.add_argument("--workers", type=int, default=1, help="processes, each on one core")
    return parser


def _lines() -> Progress:
    """Progress as a line every ten seconds, with the speed."""
    what_now, began, first, said = "", 0.0, 0, 0.0

    def callback(done: int, total: int, what: str) -> bool:
        nonlocal what_now, began, first, said
        now = time.monotonic()
        if what != what_now:
            what_now, began, first, said = what, now, done, now
        elif now - said >= 10 or done == total:
            rate = (done - first) / max(now - began, 1e-9)
            print(f"{what}: {done:,} of {total:,} objects, {rate:.1f} a second", file=sys.stderr, flush=True)
            said = now
        return True

    return callback


if __name__ == "__main__":
    sys.exit(main())
