"""``voxlume decode``: O-Voxel back to a mesh."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from voxlume.app.console import show
from voxlume.app.paths import check_output


@dataclass
class Decode:
    """Extract the surface of a voxel file as a GLB with vertex colours, in the original's coordinates."""

    input: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VOXELS")]
    """Voxel file (.vxz or .npz)."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.glb")]
    """GLB to write."""
    resolution: int | None = None
    """Grid size of a .vxz file made elsewhere, which does not say it itself."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> None:
        from voxlume.mesh.from_voxels import surface_of
        from voxlume.mesh.write_glb import write_glb
        from voxlume.ovoxel.files import load_ovoxel

        check_output(self.output, (".glb",))
        began = time.perf_counter()
        voxels = load_ovoxel(self.input, self.resolution)
        asset = surface_of(voxels, self.input.stem)
        write_glb(asset, self.output)
        facts = {
            "output": str(self.output),
            "voxels": len(voxels),
            "vertices": asset.num_vertices,
            "faces": asset.num_faces,
            "bytes": self.output.stat().st_size,
            "seconds": time.perf_counter() - began,
        }
        show(facts, f"{self.input.name} to a mesh", self.json)
