"""``voxlume texture``: the look of a picture onto a mesh."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from voxlume.app.console import progress_bar, say, show
from voxlume.app.model_options import ModelOptions
from voxlume.app.paths import check_output
from voxlume.app.sampler_options import Sampler
from voxlume.errors import VoxlumeError


@dataclass
class Texture:
    """Make material voxels for a given mesh from a picture, or several, of the same object."""

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="MESH IMAGE... OUT")]
    """Mesh (glTF, GLB, OBJ, PLY, STL, OFF), pictures, then what to write: .vxz, .npz or .glb."""
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = field(default_factory=ModelOptions)
    resolution: Annotated[int | None, tyro.conf.arg(aliases=["-r"])] = None
    """Voxels along the longest side: 512 or 1024 (default)."""
    seed: int = 42
    """Of the noise."""
    steps: int | None = None
    """Of the sampler."""
    tex_slat: Sampler = field(default_factory=Sampler)
    views: Literal["cycle", "average"] = "cycle"
    """Several pictures: one per step in turn, or all in every step."""
    background: Literal["auto", "remove", "keep"] = "auto"
    """Remove the background of pictures without transparency, of all, or of none."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> None:
        from voxlume.mesh.read import load
        from voxlume.pipelines.export import ENDINGS, export
        from voxlume.pipelines.texturing import Texturing, TexturingOptions

        if len(self.files) < 3:
            raise VoxlumeError("give a mesh, a picture and the file to write: MESH IMAGE... OUT.vxz")
        mesh, *pictures, output = self.files
        check_output(output, ENDINGS)
        began = time.perf_counter()
        pipeline = Texturing.from_pretrained(self.model.model, **self.model.arguments())
        options = TexturingOptions(
            resolution=self.resolution,
            seed=self.seed,
            views=self.views,
            background=self.background,
            material_sampler=self.tex_slat.options(self.steps),
        )
        asset = load(mesh)
        for warning in asset.warnings:
            say(f"warning: {warning}")
        with progress_bar() as progress:
            result = pipeline.run(asset, pictures, options, progress=progress)
        for warning in result.warnings:
            say(f"warning: {warning}")
        export(result.ovoxel, output)
        facts = {
            "output": str(output),
            "resolution": result.ovoxel.resolution,
            "tokens": len(result.material),
            "voxels": len(result.ovoxel),
            "bytes": output.stat().st_size,
            "seconds": time.perf_counter() - began,
        }
        show(facts, f"{mesh.name} with the look of {pictures[0].name}", self.json)
