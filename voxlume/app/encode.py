"""``voxlume encode``: any textured asset to O-Voxel."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from voxlume.app.console import progress_bar, say, show
from voxlume.app.paths import check_output


@dataclass
class Encode:
    """Voxelise a textured mesh (glTF, GLB, OBJ, PLY, STL, OFF) into a .vxz or .npz file."""

    input: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MESH")]
    """Mesh file to read."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Voxel file to write: .vxz (compact, 8 bits a channel) or .npz (lossless)."""
    resolution: Annotated[int, tyro.conf.arg(aliases=["-r"])] = 512
    """Voxels along the longest side, 1 to 2048."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, ..."""
    weld: bool = False
    """Take vertices at the same place for one when looking for open edges (default: as published)."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> None:
        from voxlume.mesh.read import load
        from voxlume.ovoxel.files import save_ovoxel
        from voxlume.ovoxel.voxelize import voxelize_asset

        check_output(self.output, (".vxz", ".npz"))
        began = time.perf_counter()
        asset = load(self.input)
        for warning in asset.warnings:
            say(f"warning: {warning}")
        with progress_bar() as progress:
            voxels = voxelize_asset(
                asset, self.resolution, weld=self.weld, device=self.device, progress=progress
            )
            save_ovoxel(voxels, self.output)
        facts = {
            "output": str(self.output),
            "resolution": voxels.resolution,
            "faces": asset.num_faces,
            "voxels": len(voxels),
            "bytes": self.output.stat().st_size,
            "bytes_per_voxel": self.output.stat().st_size / len(voxels),
            "seconds": time.perf_counter() - began,
        }
        show(facts, f"{self.input.name} to O-Voxel", self.json)
