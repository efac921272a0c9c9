"""Speed and memory of mesh -> O-Voxel -> mesh.

python -m benchmarks.ovoxel [--asset FILE] [--device cpu] [--keep NAME]

Measures one asset (default: the flight helmet of the asset collection, 94,722 faces): conversion with
materials at several resolutions, warm medians; the first call of a new process, its kernels compiled
before and cached on disk; peak memory of a process that does just this; growth with the number of
triangles (the same surface, subdivided); extraction of the mesh. Reading the file is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import RESULTS, environment, keep
from voxlume.asset import Asset, Mesh
from voxlume.mesh.read import load
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.voxelize import voxelize_asset

PUBLISHED = {512: 1.9 + 2.3, 1024: 11.2 + 9.3}
"""Seconds of the published converter on one CPU thread, geometry plus materials (the slower machine)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--asset", type=Path, default=_default_asset())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[256, 512, 1024, 1536])
    parser.add_argument("--keep", help="name under which the result is kept")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    parser.add_argument("--single", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    asset = load(options.asset)
    if options.single:
        print(json.dumps(_single(asset, options.single, options.device)))
        return
    result: dict[str, Any] = {"asset": options.asset.name, "faces": asset.num_faces}
    result |= environment(options.device)
    result["resolutions"] = {}
    for resolution in options.resolutions:
        result["resolutions"][resolution] = row = _measure(asset, resolution, options.device)
        command = [sys.executable, "-m", "benchmarks.ovoxel", "--asset", str(options.asset)]
        command += ["--device", options.device, "--single", str(resolution)]
        row |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(_line(resolution, row), flush=True)
    result["triangles"] = {}
    fine = asset
    for _ in range(3):
        seconds = _median(lambda: voxelize_asset(fine, 512, device=options.device), 3)  # noqa: B023
        result["triangles"][fine.num_faces] = seconds
        print(f"512, {fine.num_faces:,} faces: {seconds:.2f} s", flush=True)
        fine = _subdivide(fine)
    if options.keep:
        print(f"kept {keep(result, options.keep, options.folder).name}")


def _default_asset() -> Path:
    from tests.paths import ASSETS_DIR

    return ASSETS_DIR / "flight_helmet" / "FlightHelmet.gltf"


def _measure(asset: Asset, resolution: int, device: str) -> dict[str, Any]:
    voxels = voxelize_asset(asset, resolution, device=device)
    return {
        "voxels": len(voxels),
        "convert_s": _median(lambda: voxelize_asset(asset, resolution, device=device), 5),
        "extract_s": _median(_extraction(voxels, device), 5),
    }


def _extraction(voxels: OVoxel, device: str) -> Callable[[], object]:
    """Dual grid to triangles: winding as it comes, as a pipeline on the same device would call it."""
    if device == "cpu":
        from voxlume.ovoxel.extract import extract_mesh

        return lambda: extract_mesh(
            voxels.coords, voxels.dual_vertices, voxels.intersected, voxels.resolution, orient=False
        )
    import torch

    from voxlume.ovoxel.extract_torch import extract_mesh_torch

    arrays = [torch.as_tensor(a, device=device) for a in (voxels.coords, voxels.dual_vertices)]
    flags = torch.as_tensor(voxels.intersected, device=device)

    def run() -> None:
        extract_mesh_torch(*arrays, flags, voxels.resolution, orient=False)
        torch.cuda.synchronize()

    return run


def _single(asset: Asset, resolution: int, device: str) -> dict[str, Any]:
    """First call and peak memory, in a process of its own."""
    import resource

    began = time.perf_counter()
    voxelize_asset(asset, resolution, device=device)
    first = time.perf_counter() - began
    facts = {"first_call_s": first, "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    if device != "cpu":
        import torch

        facts["peak_gpu_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return facts


def _median(work: Callable[[], object], runs: int) -> float:
    times = []
    work()
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _subdivide(asset: Asset) -> Asset:
    """The same surface with four times the triangles (edge midpoints)."""
    return replace(asset, meshes=tuple(_subdivide_mesh(m) for m in asset.meshes))


def _subdivide_mesh(mesh: Mesh) -> Mesh:
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    m = (inverse.reshape(-1, 3) + len(mesh.vertices)).astype(np.int32)
    a, b, c = mesh.faces.T
    ab, bc, ca = m.T
    faces = [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]

    def grow(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, values[unique].mean(1, dtype=values.dtype)])

    return replace(
        mesh,
        vertices=grow(mesh.vertices),
        faces=np.concatenate([np.stack(f, 1) for f in faces]),
        normals=None,
        uvs=tuple(grow(uv) for uv in mesh.uvs),
        colors=None if mesh.colors is None else grow(mesh.colors),
    )


def _line(resolution: int, row: dict[str, Any]) -> str:
    line = f"{resolution}: {row['voxels']:,} voxels, convert {row['convert_s']:.3f} s"
    if resolution in PUBLISHED:
        line += f" ({PUBLISHED[resolution] / row['convert_s']:.1f}x published)"
    line += f", first call {row['first_call_s']:.2f} s, peak {row['peak_rss_gb']:.2f} GB"
    if "peak_gpu_gb" in row:
        line += f" + {row['peak_gpu_gb']:.2f} GB on the GPU"
    return line + f", extract {row['extract_s']:.3f} s"


if __name__ == "__main__":
    main()
