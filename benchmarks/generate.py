"""From a picture to a GLB with the bundled model or another one: ``python -m benchmarks.generate PICTURE``.

Time of networks and export (warm medians and the first run of the process), peak memory, sizes of what came
out; before that the whole command ``voxlume generate --picture`` in a process of its own, start and all.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import RESULTS, environment, keep
from voxlume.mesh.export import ExportOptions, export, fitting_sizes
from voxlume.mesh.textured import TexturedOptions
from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--faces", type=int, help="those that fit the grid by default")
    parser.add_argument("--texture-size", type=int, help="as above")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", help="name under which the result is kept")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    options = parser.parse_args()
    command = _command(options.picture, options.model, options.device)
    began = time.perf_counter()
    pipeline = ImageTo3D.from_pretrained(options.model, device=options.device)
    loading = time.perf_counter() - began
    given = options.faces, options.texture_size
    runs = [_run(pipeline, options.picture, *given) for _ in range(1 + options.runs)]
    warm = runs[1:]
    result: dict[str, Any] = {"picture": options.picture.name, "model": str(options.model)}
    result |= environment(options.device) | {"command": command, "loading_s": loading, "first_run": runs[0]}
    result["warm"] = {key: statistics.median(run[key] for run in warm) for key in warm[0]}
    result["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if options.device.startswith("cuda"):
        result["peak_gpu_gb"] = torch.cuda.max_memory_allocated() / 1e9
    print("whole command: {seconds:.1f} s, {cpu_s:.1f} s of all cores, {peak_gb:.2f} GB".format(**command))
    for key, value in result["warm"].items():
        print(f"{key:14s} {value:10.2f}   (first {runs[0][key]:.2f})")
    print(f"peak memory {result['peak_rss_gb']:.2f} GB, loading {loading:.2f} s")
    if options.keep:
        print(f"wrote {keep(result, options.keep, options.folder)}")


def _command(picture: Path, model: str, device: str) -> dict[str, float]:
    """The command line from its start to the end, once."""
    with tempfile.TemporaryDirectory() as folder:
        out, sheet = Path(folder) / "out.glb", Path(folder) / "out.png"
        arguments = ["generate", str(picture), str(out), "--picture", str(sheet)]
        arguments += ["--model", model, "--device", device]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-m", "voxlume.app.cli", *arguments], check=True)
        seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_s": cpu, "peak_gb": after.ru_maxrss / 1e6}


def _run(pipeline: ImageTo3D, picture: Path, faces: int | None, texture_size: int | None) -> dict[str, float]:
    """Seconds of each part, and how much there is of everything."""
    marks = [time.perf_counter()]
    generated = pipeline.run([picture], ImageTo3DOptions())[0]
    marks.append(time.perf_counter())
    fitting = fitting_sizes(generated.ovoxel.resolution)
    sizes = ExportOptions(TexturedOptions(faces=faces or fitting[0], texture_size=texture_size or fitting[1]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.glb"
        export(generated.ovoxel, path, sizes)
        marks.append(time.perf_counter())
        size = path.stat().st_size
    return {
        "networks_s": marks[1] - marks[0],
        "export_s": marks[2] - marks[1],
        "total_s": marks[2] - marks[0],
        "tokens": float(len(generated.shape)),
        "voxels": float(len(generated.ovoxel)),
        "glb_mb": size / 1e6,
    }


if __name__ == "__main__":
    main()
