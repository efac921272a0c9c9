"""Many exports in one process: nothing crashes, memory stays, the same input gives the same bytes.

python -m benchmarks.export_many [--count 200] [--seed 0] [--keep NAME]

Every export is of a random asset of the collection at a random resolution, with random options and format.
Every fifth is made twice and compared byte for byte. What an export may refuse (a budget that the surface
cannot be reduced to) is counted apart from crashes. The result is kept after every 20.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import get_num_threads

from benchmarks.report import environment, keep
from tests.paths import ASSETS_DIR
from voxlume.errors import VoxlumeError
from voxlume.mesh.clean import CleanOptions
from voxlume.mesh.export import ExportOptions, export
from voxlume.mesh.read import load
from voxlume.mesh.textured import TexturedOptions
from voxlume.ovoxel.grid import OVoxel

RESOLUTIONS = (32, 64, 128, 192)
SUFFIXES = (".glb", ".glb", ".glb", ".obj", ".ply", ".stl", ".usdz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="name under which the result is kept")
    options = parser.parse_args()
    entries = json.loads((ASSETS_DIR / "MANIFEST.json").read_text())["assets"]
    files = [e["file"] for e in entries if e["kind"] in ("real", "derived")]
    random = np.random.default_rng(options.seed)
    result: dict[str, Any] = {**environment(), "threads": get_num_threads(), "seed": options.seed}
    refused: dict[str, int] = {}
    compared, memory, began = 0, [], time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.count):
            file = files[random.integers(len(files))]
            voxels = _voxels(file, int(random.choice(RESOLUTIONS)))
            chosen = _random_options(random)
            path = Path(scratch) / f"asset{random.choice(SUFFIXES)}"
            try:
                export(voxels, path, chosen)
                if number % 5 == 0:
                    before = path.read_bytes()
                    export(voxels, path, chosen)
                    if path.read_bytes() != before:
                        sys.exit(f"export {number}, {file}: other bytes for the same input: {chosen}")
                    compared += 1
            except VoxlumeError as error:
                reason = str(error).split(":")[0].translate(str.maketrans("0123456789", "#" * 10))
                refused[reason] = refused.get(reason, 0) + 1
            if (number + 1) % 20 == 0 or number + 1 == options.count:
                memory.append(_memory_gb())
                now, peak = memory[-1]
                print(
                    f"{number + 1} exports, {sum(refused.values())} refused, {now} GB, peak {peak} GB",
                    flush=True,
                )
                result |= {"count": number + 1, "seconds": round(time.perf_counter() - began)}
                result |= {"made_twice": compared, "refused": refused}
                result["gb_and_peak_gb_after_every_20"] = memory
                if options.keep:
                    keep(result, options.keep)
    print(json.dumps({key: result[key] for key in ("refused", "made_twice")}))


@lru_cache(maxsize=16)
def _voxels(file: str, resolution: int) -> OVoxel:
    return OVoxel.from_asset(load(ASSETS_DIR / file), resolution)


def _random_options(random: np.random.Generator) -> ExportOptions:
    def chance(share: float) -> bool:
        return bool(random.random() < share)

    return ExportOptions(
        TexturedOptions(
            faces=None if chance(0.1) else int(random.choice([4, 200, 5_000, 50_000, 200_000])),
            texture_size=int(random.choice([64, 256, 1000, 1024, 2048])),
            cleaning=None if chance(0.1) else CleanOptions(remove_hidden=chance(0.1)),
            remesh=chance(0.1),
            normal_map=chance(0.2),
            alpha_mode=[None, None, "OPAQUE", "MASK", "BLEND"][random.integers(5)],
            double_sided=[None, True, False][random.integers(3)],
        ),
        vertex_colors=chance(0.1),
        image_format=["webp", "png", "jpeg"][random.integers(3)],  # type: ignore[arg-type]
    )


def _memory_gb() -> tuple[float, float]:
    """What the process has now (where the system tells), and the most that it ever had."""
    gc.collect()
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    status = Path("/proc/self/statm")
    now = int(status.read_text().split()[1]) * resource.getpagesize() if status.exists() else peak
    return round(now / 1e9, 3), round(peak / 1e9, 3)


if __name__ == "__main__":
    main()
