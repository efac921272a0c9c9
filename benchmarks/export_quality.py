"""What the export keeps of an asset: geometry, colours, materials, alpha; whether the file is sound.

python -m benchmarks.export_quality [--resolution 512] [--faces 500000 50000] [--keep NAME]
                                    [--only TEXT ...] [--skip TEXT ...] [--processes N]

Each valid asset is voxelised, exported at every budget and compared with its source; one line an export.
The source's textures are averaged over a voxel, which is what the voxels hold; the result's are looked up
at full resolution. The result is kept after every asset. An asset that fails does not stop the others; at
1024, one of 5 million voxels takes 3 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numba import get_num_threads

from benchmarks.report import environment, keep
from tests.mesh.uv_checks import chart_labels, overlapping_samples, own_texels_share
from tests.paths import ASSETS_DIR
from tests.validator import problems, validator_missing
from voxlume.asset import Asset, Mesh
from voxlume.evaluation.compare import compare
from voxlume.mesh.read import load
from voxlume.mesh.textured import TexturedOptions, textured_asset
from voxlume.mesh.weld import weld_by_position
from voxlume.mesh.write import write_asset
from voxlume.ovoxel.grid import OVoxel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--faces", type=int, nargs="+", default=[500_000, 50_000])
    parser.add_argument("--texture-size", type=int, default=2048)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of file names")
    parser.add_argument("--skip", nargs="*", default=[], help="parts of file names")
    parser.add_argument("--processes", type=int, default=1, help="assets at once, each in its own process")
    parser.add_argument("--keep", help="name under which the result is kept")
    parser.add_argument("--folder", type=Path, help="where to leave the GLBs")
    options = parser.parse_args()
    entries = json.loads((ASSETS_DIR / "MANIFEST.json").read_text())["assets"]
    files = [e["file"] for e in entries if e["kind"] in ("real", "derived")]
    files = [file for file in files if any(part in file for part in options.only)]
    files = [file for file in files if not any(part in file for part in options.skip)]
    print(
        "p99 distances in voxels both ways; mean errors of base colour, metallic, roughness, alpha in 255ths"
    )
    result: dict[str, Any] = {**environment(), "threads": get_num_threads(), "processes": options.processes}
    result |= {"resolution": options.resolution, "texture_size": options.texture_size}
    result |= {"samples": options.samples, "assets": {}}
    measured: dict[str, dict[str, Any]] = {}
    threads = ThreadPoolExecutor(options.processes)
    begin = _asset if options.processes == 1 else _asset_apart
    waiting = {threads.submit(begin, file, options): file for file in files}
    try:
        for done in as_completed(waiting):
            file = waiting[done]
            try:
                measured[file] = done.result()
            except Exception:
                print(f"{file}: failed\n{traceback.format_exc()}", flush=True)
                continue
            result["assets"] = {file: measured[file] for file in files if file in measured}
            if options.keep:
                keep(result, options.keep)
    finally:
        threads.shutdown(cancel_futures=True)
    if len(measured) < len(files):
        sys.exit(f"{len(files) - len(measured)} of {len(files)} assets failed")


def _asset_apart(file: str, options: argparse.Namespace) -> dict[str, Any]:
    """As :func:`_asset`, in a process of its own, so that one which is killed takes nothing along."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_asset, file, options).result()


def _asset(file: str, options: argparse.Namespace) -> dict[str, Any]:
    """The rows of one asset, one a budget."""
    source = load(ASSETS_DIR / file)
    voxels = OVoxel.from_asset(source, options.resolution)
    rows: dict[str, Any] = {"voxels": len(voxels)}
    for faces in options.faces:
        row = _measure(source, voxels, faces, options, Path(file).stem)
        rows[str(faces)] = row
        print(_line(file, faces, row), flush=True)
    return rows


def _measure(
    source: Asset, voxels: OVoxel, faces: int, options: argparse.Namespace, name: str
) -> dict[str, Any]:
    began = time.perf_counter()
    cpu = time.process_time()
    asset = textured_asset(voxels, TexturedOptions(faces=faces, texture_size=options.texture_size), name=name)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    (mesh,), (material,) = asset.meshes, asset.materials
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        path = folder / f"{name}_{options.resolution}_{faces}.glb"
        write_asset(asset, path)
        found = None if validator_missing() else problems(path)
        size = path.stat().st_size
        written = load(path)
    difference = compare(
        source, written, resolution=options.resolution, samples=options.samples, detail="baked"
    )
    overlap, inside = overlapping_samples(mesh.uvs[0], mesh.faces, 4096)
    chart = chart_labels(mesh.uvs[0], mesh.faces)
    own = own_texels_share(mesh.uvs[0], mesh.faces, chart, options.texture_size)
    return {
        "faces": asset.num_faces,
        "vertices": asset.num_vertices,
        "faces_without_budget": 2 * int(voxels.intersected.sum()),
        "alpha_mode": material.alpha_mode,
        "double_sided": material.double_sided,
        "winding_conflicts": _winding_conflicts(mesh),
        "charts": int(chart.max()) + 1,
        "uv_fill": inside / 4096**2,
        "overlapping_samples": overlap,
        "own_texels_share": own,
        "validator": found,
        "bytes": size,
        "seconds": seconds,
        "cpu_seconds": cpu,
        **difference.to_dict(),
    }


def _winding_conflicts(mesh: Mesh) -> int:
    """How many edges between two faces both faces run through in the same direction."""
    faces = weld_by_position(mesh.vertices)[mesh.faces].astype(np.int64)
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    edge = np.minimum(start, end) * len(mesh.vertices) + np.maximum(start, end)
    _, number, count = np.unique(edge, return_inverse=True, return_counts=True)
    forward = np.bincount(number, weights=start < end)
    return int(((count == 2) & (forward != 1)).sum())


def _line(file: str, faces: int, row: dict[str, Any]) -> str:
    channels = ("base color", "metallic", "roughness", "alpha")
    errors = " ".join(f"{row['material'].get(c, {'mean': np.nan})['mean']:5.2f}" for c in channels)
    return (
        f"{file[-32:]:<32} {row['faces']:>7} of {faces:>7} faces, p99 {row['a_to_b']['p99']:.3f} "
        f"{row['b_to_a']['p99']:.3f}, errors {errors}, {row['alpha_mode']}, "
        f"{'double' if row['double_sided'] else 'single'}-sided, "
        f"{row['winding_conflicts']} winding conflicts, {row['charts']} charts fill "
        f"{row['uv_fill']:.2f}, {row['overlapping_samples']} overlaps, "
        f"own texels {row['own_texels_share']:.5f}, "
        f"validator {row['validator']}, {row['seconds']:.1f} s ({row['cpu_seconds']:.1f} s of CPU)"
    )


if __name__ == "__main__":
    main()
