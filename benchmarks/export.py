"""Speed and memory of O-Voxel -> textured GLB, step by step.

python -m benchmarks.export [--asset FILE] [--resolution 512] [--faces 200000] [--texture-size 2048]
                            [--device auto] [--growth] [--keep NAME] [--folder FOLDER]
python -m benchmarks.export --large ...        # 1024^3 voxels, 1,000,000 faces, 4096^2 texels

Measures one asset (default: the flight helmet of the asset collection). The first call of a process is shown
beside the later ones, whose median counts. Every step is given in seconds on the clock and in seconds of CPU
over all cores: on a machine that others use, the second is what the step costs. Then each of voxels, faces
and texture size is doubled or halved in turn, to show what the steps grow with. The result is kept again
after every run. A glTF file as ``--asset`` needs nothing but PyTorch, Triton, numba, SciPy, Pillow and a ray
tracer (embreex or libigl).
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

from numba import get_num_threads

from benchmarks.ovoxel import _default_asset
from benchmarks.report import RESULTS, environment, keep
from voxlume.devices import chosen_device
from voxlume.mesh.export import ExportOptions, export
from voxlume.mesh.read import load
from voxlume.mesh.textured import TexturedOptions
from voxlume.ovoxel.grid import OVoxel

LARGE = 1024, 1_000_000, 4096
"""Voxels along a side, faces and texels along a side of the large case."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--asset", type=Path, help="default: the flight helmet of the asset collection")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--faces", type=int, default=200_000)
    parser.add_argument("--texture-size", type=int, default=2048)
    parser.add_argument("--large", action="store_true", help="1024^3 voxels, 1,000,000 faces, 4096^2 texels")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--runs", type=int, default=3, help="warm runs")
    parser.add_argument("--growth", action="store_true", help="also with other sizes")
    parser.add_argument("--keep", help="name under which the result is kept")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where it is kept")
    options = parser.parse_args()
    if options.large:
        options.resolution, options.faces, options.texture_size = LARGE
    device = chosen_device(options.device)
    path = options.asset or _default_asset()
    asset = load(path)
    began = time.perf_counter()
    voxels = OVoxel.from_asset(asset, options.resolution, device=device)
    chosen = TexturedOptions(faces=options.faces, texture_size=options.texture_size, device=device)
    result: dict[str, Any] = {**environment(device), "device": device, "threads": get_num_threads()}
    result |= {"asset": path.name, "resolution": options.resolution, "voxels": len(voxels)}
    result |= {"faces": options.faces, "texture_size": options.texture_size}
    result["voxelising_seconds"] = time.perf_counter() - began  # with the compilation of its kernels

    def add(name: str, steps: dict[str, dict[str, float]]) -> None:
        result[name] = steps
        result["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        if device.startswith("cuda"):
            import torch

            result["peak_gpu_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        _show(name, steps)
        if options.keep:
            keep(result, options.keep, options.folder)

    add("first", _timed(voxels, chosen))
    runs = []
    for _ in range(options.runs):
        runs.append(_timed(voxels, chosen))
        add("warm", _median(runs))
    result["warm_totals"] = [run["total"]["clock"] for run in runs]
    print(f"peak memory {result['peak_rss_gb']:.2f} GB, voxelising included", end="")
    print(f", {result['peak_gpu_gb']:.2f} GB on the device" if "peak_gpu_gb" in result else "")
    if options.growth:
        half = OVoxel.from_asset(asset, options.resolution // 2, device=device)
        others = {
            f"{options.resolution // 2}^3 voxels": (half, chosen),
            f"{2 * options.faces:,} faces": (voxels, replace(chosen, faces=2 * options.faces)),
            f"{2 * options.texture_size}^2 texels": (
                voxels,
                replace(chosen, texture_size=2 * options.texture_size),
            ),
        }
        grown = {}
        for name, (other, settings) in others.items():
            grown[name] = _timed(other, settings)
            _show(name, grown[name])
        result["growth"] = grown
    if options.keep:
        print(f"kept {keep(result, options.keep, options.folder).name}")


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
    names = {"after simplifying": "normals and sides", "after baking": "alpha and writing"}
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
