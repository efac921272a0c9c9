"""One door for writing assets, the counterpart of :mod:`voxlume.mesh.read`."""

from __future__ import annotations

from pathlib import Path

from voxlume.asset import Asset
from voxlume.errors import VoxlumeError
from voxlume.mesh.write_glb import Compression, write_glb
from voxlume.mesh.write_images import QUALITY, ImageEncoding, ImageFormat
from voxlume.mesh.write_obj import write_obj
from voxlume.mesh.write_ply import write_ply
from voxlume.mesh.write_stl import LONGEST_SIDE_MM, write_stl
from voxlume.mesh.write_usdz import write_usdz

ENDINGS = (".glb", ".obj", ".ply", ".stl", ".usdz")
"""Endings that :func:`write_asset` knows."""


def write_asset(
    asset: Asset,
    path: str | Path,
    *,
    image_format: ImageFormat = "webp",
    quality: int = QUALITY,
    compression: Compression | None = None,
    longest_side_mm: float | None = LONGEST_SIDE_MM,
    encoding: ImageEncoding | None = None,
) -> tuple[str, ...]:
    """Write an asset in the format that the name's ending says.

    Parameters
    ----------
    asset : in the glTF frame.
    path : the file to write; it appears only when it is complete.
    image_format, quality : of textures; OBJ and USDZ take PNG in the place of WebP.
    compression : of the geometry in GLB, see :func:`voxlume.mesh.write_glb.write_glb`.
    longest_side_mm : of STL, see :func:`voxlume.mesh.write_stl.write_stl`.
    encoding : of GLB, where its textures have been begun with; its format and quality count.

    Returns
    -------
    A line for everything that the format cannot hold or that was not stored as asked.

    Raises
    ------
    VoxlumeError : another ending, an asset that cannot be written, or the file cannot be.
    """
    ending = Path(path).suffix.lower()
    if ending == ".glb":
        return write_glb(
            asset,
            path,
            image_format=image_format,
            quality=quality,
            compression=compression,
            encoding=encoding,
        )
    if ending == ".obj":
        return write_obj(asset, path, image_format=image_format, quality=quality)
    if ending == ".ply":
        return write_ply(asset, path)
    if ending == ".stl":
        return write_stl(asset, path, longest_side_mm=longest_side_mm)
    if ending == ".usdz":
        return write_usdz(asset, path, image_format=image_format, quality=quality)
    raise VoxlumeError(f"cannot write {path}: the name must end in {' or '.join(ENDINGS)}")
