"""What a round trip through O-Voxel costs in quality, for every asset of a collection.

python -m benchmarks.reconstruction [--resolution 512] [--keep NAME] [--only TEXT]

Each valid asset is voxelised, extracted again and compared with its source; one line an asset.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.report import environment, keep
from tests.paths import ASSETS_DIR
from voxlume.evaluation.compare import compare
from voxlume.mesh.from_voxels import surface_of
from voxlume.mesh.read import load
from voxlume.ovoxel.grid import OVoxel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--only", default="", help="part of the file name")
    parser.add_argument("--weld", action="store_true")
    parser.add_argument("--keep", help="name under which the result is kept")
    options = parser.parse_args()
    entries = json.loads((ASSETS_DIR / "MANIFEST.json").read_text())["assets"]
    files = [e["file"] for e in entries if e["kind"] in ("real", "derived") and options.only in e["file"]]
    print("file                                  mean a>b   b>a    p99 a>b   b>a   F@0.5   lost  smooth base")
    result: dict[str, Any] = {**environment(), "resolution": options.resolution, "assets": {}}
    for file in files:
        result["assets"][file] = row = _round_trip(file, options.resolution, options.weld)
        a, b = row["a_to_b"], row["b_to_a"]
        smooth = "-" if row["base_color_smooth"] is None else f"{row['base_color_smooth']['mean']:.2f}"
        print(
            f"{file:<36} {a['mean']:9.4f} {b['mean']:7.4f} {a['p99']:8.3f} {b['p99']:7.3f}"
            f" {row['f_score']['0.5 voxel']:8.5f} {row['lost_count']:>3}/{row['components']:<4} {smooth:>6}",
            flush=True,
        )
    if options.keep:
        print(f"kept {keep(result, options.keep).name}")


def _round_trip(file: str, resolution: int, weld: bool) -> dict[str, Any]:
    from voxlume.ovoxel.voxelize import voxelize_asset

    asset = load(ASSETS_DIR / file)
    voxels: OVoxel = voxelize_asset(asset, resolution, weld=weld)
    row = compare(asset, surface_of(voxels, exact_alpha=True), resolution=resolution).to_dict()
    return {"voxels": len(voxels), "faces": asset.num_faces, **row}


if __name__ == "__main__":
    main()
