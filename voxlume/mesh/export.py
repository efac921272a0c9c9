"""From an O-Voxel to the file that a user asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from voxlume.asset import Asset
from voxlume.mesh import write
from voxlume.mesh.from_voxels import surface_of
from voxlume.mesh.textured import DEFAULT_FACES, DEFAULT_TEXTURE_SIZE, TexturedOptions, textured_asset
from voxlume.mesh.write_glb import Compression
from voxlume.mesh.write_images import ImageEncoding, ImageFormat
from voxlume.mesh.write_stl import LONGEST_SIDE_MM
from voxlume.ovoxel.grid import OVoxel
from voxlume.progress import Progress

ENDINGS = (*write.ENDINGS, ".vxz", ".npz")
"""Endings of the files that :func:`export` writes."""

SMALL_RESOLUTION, SMALL_FACES, SMALL_TEXTURE_SIZE = 256, 100_000, 1024


@dataclass(frozen=True)
class ExportOptions:
    """What goes into the file; nothing of it matters for ``.vxz`` and ``.npz``.

    Attributes
    ----------
    vertex_colors : the surface as extracted, all of it, with its material at the vertices; no textures.
    textured : otherwise, how to make the textured asset.
    image_format : of the textures.
    compression : of the geometry in GLB.
    longest_side_mm : of STL.
    """

    textured: TexturedOptions = field(default_factory=TexturedOptions)
    vertex_colors: bool = False
    image_format: ImageFormat = "webp"
    compression: Compression | None = None
    longest_side_mm: float | None = LONGEST_SIDE_MM


@dataclass(frozen=True)
class Exported:
    """What was written: the numbers of the mesh (0 for voxel files) and what the format could not hold.

    Attributes
    ----------
    asset : what was written; None for voxel files.
    """

    vertices: int = 0
    faces: int = 0
    notes: tuple[str, ...] = ()
    asset: Asset | None = field(default=None, repr=False)


def fitting_sizes(resolution: int) -> tuple[int, int]:
    """Faces and texture size that show what a grid of this resolution holds without slowing a small one."""
    if resolution <= SMALL_RESOLUTION:
        return SMALL_FACES, SMALL_TEXTURE_SIZE
    return DEFAULT_FACES, DEFAULT_TEXTURE_SIZE


def export(
    ovoxel: OVoxel,
    path: str | Path,
    options: ExportOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Exported:
    """Write an asset or voxel file, by the name's ending.

    Raises
    ------
    VoxlumeError : another ending, an empty surface, options that are not possible, or the file cannot be
        written; nothing is left behind.
    Cancelled : by the callback.
    """
    options = options or ExportOptions()
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in write.ENDINGS:
        ovoxel.save(path)
        return Exported()
    with ImageEncoding(options.image_format) as encoding:
        if options.vertex_colors:
            asset = surface_of(ovoxel, path.stem)
        else:
            textured = options.textured
            if ending == ".stl":  # holds no material
                textured = replace(textured, textures=False)
            asset = textured_asset(
                ovoxel,
                textured,
                name=path.stem,
                encoding=encoding if ending == ".glb" else None,  # others choose the format themselves
                progress=progress,
            )
        notes = write.write_asset(
            asset,
            path,
            image_format=options.image_format,
            compression=options.compression,
            longest_side_mm=options.longest_side_mm,
            encoding=encoding,
        )
    return Exported(asset.num_vertices, asset.num_faces, notes, asset)
