"""``voxlume texture``: the look of a picture, or the material of voxels, onto a mesh."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from voxlume.app.console import progress_bar, say, show
from voxlume.app.model_options import ModelOptions
from voxlume.app.paths import check_output
from voxlume.app.sampler_options import Sampler
from voxlume.errors import VoxlumeError

if TYPE_CHECKING:
    from voxlume.mesh.retexture import RetextureOptions
    from voxlume.pipelines.texturing import Textured


@dataclass
class Texture:
    """Give a mesh new textures: from pictures of the object, or from voxels that lie where it lies.

    In a .glb everything but the textures stays as it is in the mesh's own file: vertices, UVs, hierarchy,
    animations.
    """

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="MESH SOURCE... OUT")]
    """Mesh (glTF, GLB, OBJ, PLY, STL, OFF), then pictures or one voxel file (.vxz, .npz), then what to write:
    .glb, .obj, .ply, .usdz, or .vxz and .npz for the voxels of the new material."""
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
    texture_size: int = 2048
    """Side of the textures in texels, 64 to 8192."""
    uvs: Literal["keep", "new"] = "keep"
    """Bake into the UVs that the mesh has, or unwrap it into a further UV set."""
    alpha_mode: Literal["auto", "opaque", "mask", "blend"] = "auto"
    """auto: for each material by how much of its surface is translucent."""
    image_format: Literal["webp", "png", "jpeg"] = "webp"
    """Of the textures in the file."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> None:
        from voxlume.ovoxel.files import ENDINGS as VOXEL_ENDINGS
        from voxlume.ovoxel.files import load_ovoxel
        from voxlume.pipelines.texturing import ENDINGS, write_textured

        if len(self.files) < 3:
            raise VoxlumeError("give a mesh, a picture and the file to write: MESH IMAGE... OUT.glb")
        mesh, *sources, output = self.files
        check_output(output, ENDINGS)
        options = self._mesh_options()
        began = time.perf_counter()
        facts: dict[str, Any] = {"output": str(output)}
        if sources[0].suffix.lower() in VOXEL_ENDINGS:
            if len(sources) > 1:
                raise VoxlumeError("give one voxel file, or pictures, not several or both")
            ovoxel = load_ovoxel(sources[0])
        else:
            result = self._from_pictures(mesh, sources)
            ovoxel = result.ovoxel
            facts["tokens"] = len(result.material)
        with progress_bar() as progress:
            notes = write_textured(ovoxel, mesh, output, options, progress=progress)
        for note in notes:
            say(f"note: {note}")
        facts |= {
            "resolution": ovoxel.resolution,
            "voxels": len(ovoxel),
            "bytes": output.stat().st_size,
            "seconds": time.perf_counter() - began,
        }
        show(facts, f"{mesh.name} with the look of {sources[0].name}", self.json)

    def _from_pictures(self, mesh: Path, pictures: Sequence[Path]) -> Textured:
        from voxlume.mesh.read import load
        from voxlume.pipelines.texturing import Texturing, TexturingOptions

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
        return result

    def _mesh_options(self) -> RetextureOptions:
        from voxlume.asset import AlphaMode
        from voxlume.mesh.retexture import RetextureOptions

        modes: dict[str, AlphaMode] = {"opaque": "OPAQUE", "mask": "MASK", "blend": "BLEND"}
        options = RetextureOptions(
            texture_size=self.texture_size,
            uvs=self.uvs,
            alpha_mode=modes.get(self.alpha_mode),
            image_format=self.image_format,
        )
        options.check()
        return options
