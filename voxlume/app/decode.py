"""``voxlume decode``: O-Voxel back to an asset."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from voxlume.app.console import progress_bar, say, show
from voxlume.app.export_options import ExportOptions
from voxlume.app.paths import check_output


@dataclass
class Decode:
    """Make a textured asset of a voxel file, in the original's coordinates."""

    input: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VOXELS")]
    """Voxel file (.vxz or .npz)."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.glb")]
    """What to write: .glb, .obj, .ply, .stl, .usdz."""
    export: Annotated[ExportOptions, tyro.conf.arg(name="")] = field(default_factory=ExportOptions)
    resolution: int | None = None
    """Grid size of a .vxz file made elsewhere, which does not say it itself."""
    device: str = "auto"
    """Where to simplify and bake: auto, cpu, cuda, cuda:1."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> None:
        from voxlume.mesh.export import export
        from voxlume.mesh.write import ENDINGS
        from voxlume.ovoxel.files import load_ovoxel

        check_output(self.output, ENDINGS)
        self.export.options(device=self.device)  # refuses what is not possible before anything is read
        began = time.perf_counter()
        voxels = load_ovoxel(self.input, self.resolution)
        options = self.export.options(voxels.resolution, self.device)
        with progress_bar() as progress:
            written = export(voxels, self.output, options, progress=progress)
        for note in written.notes:
            say(f"note: {note}")
        facts = {
            "output": str(self.output),
            "voxels": len(voxels),
            "vertices": written.vertices,
            "faces": written.faces,
            "bytes": self.output.stat().st_size,
            "seconds": time.perf_counter() - began,
        }
        show(facts, f"{self.input.name} to a mesh", self.json)
