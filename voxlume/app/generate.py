"""``voxlume generate``: pictures of an object to a 3D asset."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from voxlume.app.console import progress_bar, say, show
from voxlume.app.export_options import ExportOptions
from voxlume.app.model_options import ModelOptions
from voxlume.app.paths import check_output
from voxlume.app.sampler_options import Sampler, StructureSampler
from voxlume.errors import VoxlumeError

if TYPE_CHECKING:
    from voxlume.asset import Asset
    from voxlume.pipelines.image_to_3d import Generated, ImageTo3DOptions


@dataclass
class Generate:
    """Make a 3D asset of one picture, or of several pictures of the same object."""

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE... OUT")]
    """Pictures, best with transparent background, then what to write: .glb, .obj, .ply, .stl, .usdz, .vxz
    or .npz."""
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = field(default_factory=ModelOptions)
    pipeline_type: str | None = None
    """512, 1024, 1024_cascade, 1536_cascade, ... (default: the model's, usually 1024_cascade)."""
    resolution: Annotated[int | None, tyro.conf.arg(aliases=["-r"])] = None
    """The same as a number: 512, 1024 (cascade), 1536 (cascade)."""
    seed: int | None = None
    """Of the first sample (default: 42)."""
    num_samples: int = 1
    """How many different objects; OUT gets a number before its ending."""
    max_num_tokens: int = 49152
    """A cascade lowers its resolution until it has fewer cells."""
    refine: int = 0
    """How often to sample the shape again on the decoded shape."""
    steps: int | None = None
    """Of all three samplers."""
    ss: StructureSampler = field(default_factory=StructureSampler)
    shape_slat: Sampler = field(default_factory=Sampler)
    tex_slat: Sampler = field(default_factory=Sampler)
    views: Literal["cycle", "average"] = "cycle"
    """Several pictures: one per step in turn, or all in every step (as many times slower)."""
    background: Literal["auto", "remove", "keep"] = "auto"
    """Remove the background of pictures without transparency, of all, or of none."""
    texture: bool = True
    """Also make the material."""
    outline: bool = True
    """Keep the shape inside the object's outline, with a model that tells where pictures are taken from."""
    mend: bool | None = None
    """Close small holes that the decoder leaves; by default what the model says."""
    forecast: bool = False
    """Extrapolate about half of the steps: faster, slightly different."""
    export: Annotated[ExportOptions, tyro.conf.arg(name="")] = field(default_factory=ExportOptions)
    picture: Path | None = None
    """Also draw the result beside its picture, with the maps of its material, into this PNG."""
    save_latents: Path | None = None
    """Folder for the result of every stage."""
    from_latents: Path | None = None
    """Go on from such a folder; needs no picture."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> None:
        from voxlume.mesh.export import ENDINGS, export
        from voxlume.pipelines.image_to_3d import ImageTo3D

        *pictures, output = self._files()
        check_output(output, ENDINGS)
        if self.picture is not None:
            check_output(self.picture, (".png",))
        options = self._options()
        self.export.options()  # refuses what is not possible before anything is loaded
        began = time.perf_counter()
        pipeline = ImageTo3D.from_pretrained(self.model.model, **self.model.arguments())
        options = self._with_type(options, pipeline)
        with progress_bar() as progress:
            results = pipeline.run(
                pictures,
                options,
                save_to=self.save_latents,
                resume_from=self.from_latents,
                progress=progress,
            )
        samples = []
        for index, result in enumerate(results):
            path = _numbered(output, index, len(results))
            for warning in result.warnings:
                say(f"warning: {path.name}: {warning}")
            with progress_bar() as progress:
                export_options = self.export.options(result.ovoxel.resolution, self.model.device)
                written = export(result.ovoxel, path, export_options, progress=progress)
            for note in written.notes:
                say(f"note: {path.name}: {note}")
            facts = _facts(result, path)
            if self.picture is not None:
                drawn = _numbered(self.picture, index, len(results))
                _draw(written.asset, result, pictures[0] if pictures else None, drawn)
                facts["picture"] = str(drawn)
            samples.append(facts)
        seconds = {"seconds": time.perf_counter() - began}
        if self.json and len(samples) != 1:
            show({"samples": samples} | seconds, "", True)
            return
        for facts in samples:
            show(facts | seconds, f"{output.name}", self.json)

    def _files(self) -> tuple[Path, ...]:
        if not self.files:
            raise VoxlumeError("nothing to do: give pictures and the file to write, IMAGE... OUT.glb")
        if len(self.files) == 1 and self.from_latents is None:
            raise VoxlumeError(f"{self.files[0]}: give pictures and the file to write, IMAGE... OUT.glb")
        return self.files

    def _options(self) -> ImageTo3DOptions:
        from voxlume.flow.forecast import Forecast
        from voxlume.pipelines.image_to_3d import ImageTo3DOptions

        options = ImageTo3DOptions(
            pipeline_type=self.pipeline_type,
            seed=self.seed,
            num_samples=self.num_samples,
            max_num_tokens=self.max_num_tokens,
            refine=self.refine,
            material=self.texture,
            outline=self.outline,
            mend=self.mend,
            views=self.views,
            background=self.background,
            forecast=Forecast() if self.forecast else None,
            structure_sampler=self.ss.options(self.steps),
            shape_sampler=self.shape_slat.options(self.steps),
            material_sampler=self.tex_slat.options(self.steps),
        )
        options.check()
        return options

    def _with_type(self, options: ImageTo3DOptions, pipeline: Any) -> ImageTo3DOptions:
        from dataclasses import replace

        from voxlume.pipelines.pipeline_type import type_of_resolution

        if self.resolution is None:
            return options
        if self.pipeline_type is not None:
            raise VoxlumeError("give --resolution or --pipeline-type, not both")
        base = pipeline.folder.config.base_resolution
        return replace(options, pipeline_type=type_of_resolution(self.resolution, base).name)


def _numbered(path: Path, index: int, count: int) -> Path:
    return path if count == 1 else path.with_stem(f"{path.stem}_{index}")


def _draw(asset: Asset | None, result: Generated, picture: Path | None, out: Path) -> None:
    """A sheet of the asset, or of the voxels themselves, with the picture that it was made from."""
    import numpy as np

    from voxlume.mesh.from_voxels import surface_of
    from voxlume.pipelines.preprocess import fit, read_image, to_rgba
    from voxlume.render.picture import contact_sheet, save_png

    before = None if picture is None else np.asarray(fit(to_rgba(read_image(picture))))
    asset = asset or surface_of(result.ovoxel, exact_alpha=True)
    save_png(contact_sheet(asset, before=before), out)


def _facts(result: Generated, path: Path) -> dict[str, Any]:
    return {
        "output": str(path),
        "seed": result.seed,
        "resolution": result.ovoxel.resolution,
        "tokens": len(result.shape),
        "voxels": len(result.ovoxel),
        "bytes": path.stat().st_size,
        "warnings": list(result.warnings),
    }
