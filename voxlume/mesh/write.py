"""One door for writing assets, the counterpart of :mod:`voxlume.mesh.read`."""

from __future__ import annotations

from pathlib import Path

from voxlume.asset import Asset
from voxlume.errors import VoxlumeError
from voxlume.mesh.write_images import QUALITY, ImageFormat

ENDINGS = (".glb",)
"""Endings that :func:`write_asset` knows."""


def write_asset(
    asset: Asset, path: str | Path, *, image_format: ImageFormat = "webp", quality: int = QUALITY
) -> tuple[str, ...]:
    """Write an asset in the format that the name's ending says.

    Parameters
    ----------
    asset : in the glTF frame.
    path : the file to write; it appears only when it is complete.
    image_format, quality : of the textures.

    Returns
    -------
    A line for everything that the format cannot hold or that was not stored as asked.

    Raises
    ------
    VoxlumeError : another ending, an asset that cannot be written, or the file cannot be.
    """
    from voxlume.mesh.write_glb import write_glb

    ending = Path(path).suffix.lower()
    if ending == ".glb":
        return write_glb(asset, path, image_format=image_format, quality=quality)
    raise VoxlumeError(f"cannot write {path}: the name must end in {' or '.join(ENDINGS)}")
