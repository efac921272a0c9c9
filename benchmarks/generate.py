"""From a picture to a GLB with the bundled model or another one: ``python -m benchmarks.generate PICTURE``.

Time of every stage (warm medians and the first run of the process), peak memory, sizes of what came out.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import RESULTS, environment, keep
from voxlume.mesh.export import ExportOptions, export
from voxlume.mesh.textured import TexturedOptions
from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--faces", type=int, default=TexturedOptions().faces)
    parser.add_argument("--texture-size", type=int, default=TexturedOptions().texture_size)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", help="name under which the result is kept")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    options = parser.parse_args()
    began = time.perf_counter()
    pipeline = ImageTo3D.from_pretrained(options.model, device=options.device)
    loading = time.perf_counter() - began
    sizes = ExportOptions(TexturedOptions(faces=options.faces, texture_size=options.texture_size))
    runs = [_run(pipeline, options.picture, sizes) for _ in range(1 + options.runs)]
    warm = runs[1:]
    result: dict[str, Any] = {"picture": options.picture.name, "model": str(options.model)}
    result |= environment(options.device) | {"loading_s": loading, "first_run": runs[0]}
    result["warm"] = {key: statistics.median(run[key] for run in warm) for key in warm[0]}
    result["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if options.device.startswith("cuda"):
        result["peak_gpu_gb"] = torch.cuda.max_memory_allocated() / 1e9
    for key, value in result["warm"].items():
        print(f"{key:14s} {value:10.2f}   (first {runs[0][key]:.2f})")
    print(f"peak memory {result['peak_rss_gb']:.2f} GB, loading {loading:.2f} s")
    if options.keep:
        print(f"wrote {keep(result, options.keep, options.folder)}")


def _run(pipeline: ImageTo3D, picture: Path, sizes: ExportOptions) -> dict[str, float]:
    """Seconds of each part, and how much there is of everything."""
    marks = [time.perf_counter()]
    generated = pipeline.run([picture], ImageTo3DOptions())[0]
    marks.append(time.perf_counter())
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
