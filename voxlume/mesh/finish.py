"""What the readers of OBJ, PLY, STL and OFF share: the way in and the last checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh
from voxlume.errors import AssetError
from voxlume.mesh.gltf.container import read_file
from voxlume.mesh.soundness import drop_broken_vertices, require_area, with_sound_normals
from voxlume.srgb import srgb_to_linear

_MAX_BYTES = 2**34


def read_asset(path: str | Path, read: Callable[[Path, bytes], Asset]) -> Asset:
    """Run a reader on a file's bytes and put the file's name before whatever is wrong with it."""
    path = Path(path)
    data = read_file(path, _MAX_BYTES)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is dropped in the end
            return read(path, data)
    except AssetError as error:
        raise AssetError(f"{path.name}: {error}") from error


def finish(
    path: Path, meshes: Sequence[Mesh], materials: Sequence[Material] = (), warnings: Sequence[str] = ()
) -> Asset:
    """The asset without broken vertices and with unit normals.

    Raises
    ------
    AssetError : nothing with a surface is left.
    """
    notes = list(warnings)
    sound_meshes = []
    for mesh in meshes:
        sound, dropped = drop_broken_vertices(mesh)
        if dropped:
            notes.append(f"{dropped} faces dropped that touch NaN or infinite vertices")
        if len(sound.faces):
            sound_meshes.append(with_sound_normals(sound))
    if not sound_meshes:
        raise AssetError("no geometry: there is no triangle in the file")
    require_area(sound_meshes)
    return Asset(tuple(sound_meshes), tuple(materials), path.name, tuple(notes))


def check_corners(corners: NDArray[np.integer], num_vertices: int) -> NDArray[np.int32]:
    """Vertex indices of polygon corners as int32.

    Raises
    ------
    AssetError : one of them is out of range.
    """
    if len(corners) and not (corners.min() >= 0 and corners.max() < num_vertices):
        raise AssetError(f"a face names a vertex that does not exist (the file has {num_vertices})")
    return corners.astype(np.int32)


def vertex_colors(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Linear RGBA float32 (n, 4) of sRGB-encoded RGB or RGBA (n, 3 or 4) in [0, 1]; alpha is linear."""
    colors = np.ones((len(values), 4), np.float32)
    colors[:, :3] = srgb_to_linear(np.clip(values[:, :3], 0, 1))
    if values.shape[1] > 3:
        colors[:, 3] = np.clip(values[:, 3], 0, 1)
    return colors


def number_colors(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The same of colours written as plain numbers: 0 to 255 if any exceeds 1, otherwise 0 to 1."""
    return vertex_colors(values / 255 if values.max(initial=0) > 1 else values)


def unit_normals(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors (n, 3) at unit length, float32; those without a direction become zero."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    usable = (length > 0) & np.isfinite(length)
    return np.divide(values, length, where=usable, out=np.zeros(values.shape)).astype(np.float32)
