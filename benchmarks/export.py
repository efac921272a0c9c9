"""Speed and memory of O-Voxel -> textured GLB, step by step.

python -m benchmarks.export [--asset FILE] [--resolution 512] [--faces 200000] [--texture-size 2048]
                            [--growth] [--keep NAME]

Measures one asset (default: the flight helmet of the asset collection). The first call of a process is shown
beside the later ones, whose median counts. Every step is given in seconds on the clock and in seconds of CPU
over all cores: on a machine that others use, the second is what the step costs. Then each of voxels, faces
and texture size is doubled or halved in turn, to show what the steps grow with.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.ovoxel import _default_asset
from benchmarks.report import environment, keep
from voxlume.mesh.export import ExportOptions, export
from voxlume.mesh.read import load
from voxlume.mesh.textured import TexturedOptions
from voxlume.ovoxel.grid import OVoxel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--asset", type=Path, default=_default_asset())
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--faces", type=int, default=200_000)
    parser.add_argument("--texture-size", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3, help="warm runs")
    parser.add_argument("--growth", action="store_true", help="also with other sizes")
    parser.add_argument("--keep", help="name under which the result is kept")
    options = parser.parse_args()
    asset = load(options.asset)
    voxels = OVoxel.from_asset(asset, options.resolution)
    chosen = TexturedOptions(faces=options.faces, texture_size=options.texture_size)
    result: dict[str, Any] = {**environment(), "asset": options.asset.name, "resolution": options.resolution}
    result |= {"voxels": len(voxels), "faces": options.faces, "texture_size": options.texture_size}
    result["first"] = _timed(voxels, chosen)
    _show("first call", result["first"])
    result["warm"] = _median([_timed(voxels, chosen) for _ in range(options.runs)])
    _show("warm", result["warm"])
    result["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {result['peak_rss_gb']:.2f} GB, voxelising included")
    if options.growth:
        half = OVoxel.from_asset(asset, options.resolution // 2)
        others = {
            f"{options.resolution // 2}^3 voxels": (half, chosen),
            f"{2 * options.faces:,} faces": (voxels, replace(chosen, faces=2 * options.faces)),
            f"{2 * options.texture_size}^2 texels": (
                voxels,
                replace(chosen, texture_size=2 * options.texture_size),
            ),
        }
        result["growth"] = {}
        for name, (other, settings) in others.items():
            result["growth"][name] = _timed(other, settings)
            _show(name, result["growth"][name])
    if options.keep:
        print(f"kept {keep(result, options.keep).name}")


def _timed(voxels: OVoxel, options: TexturedOptions) -> dict[str, dict[str, float]]:
    """Seconds per step, on the clock and of CPU; a step lasts until the next one reports."""
    marks = [("extracting", time.perf_counter(), time.process_time())]

    def listen(done: int, total: int, what: str) -> bool:
        if what != marks[-1][0]:
            marks.append((what, time.perf_counter(), time.process_time()))
        elif done == total:
            marks.append(("after " + what, time.perf_counter(), time.process_time()))
        return True

    with tempfile.TemporaryDirectory() as folder:
        export(voxels, Path(folder) / "x.glb", ExportOptions(options), progress=listen)
    marks.append(("end", time.perf_counter(), time.process_time()))
    # What follows a step without a name of its own: shading normals and sides, alpha and the file.
    names = {"after simplifying": "normals and sides", "after baking": "writing"}
    steps: dict[str, dict[str, float]] = {}
    for (name, clock, cpu), (_, next_clock, next_cpu) in pairwise(marks):
        step = steps.setdefault(names.get(name, name.removeprefix("after ")), {"clock": 0.0, "cpu": 0.0})
        step["clock"] += next_clock - clock
        step["cpu"] += next_cpu - cpu
    steps["total"] = {kind: sum(step[kind] for step in steps.values()) for kind in ("clock", "cpu")}
    return steps


def _median(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        step: {kind: statistics.median(run[step][kind] for run in runs) for kind in ("clock", "cpu")}
        for step in runs[0]
    }


def _show(title: str, steps: dict[str, dict[str, float]]) -> None:
    parts = ", ".join(f"{name} {step['clock']:.2f} ({step['cpu']:.2f})" for name, step in steps.items())
    print(f"{title}: seconds on the clock (of CPU): {parts}", flush=True)


if __name__ == "__main__":
    main()
