"""Write binary STL files for printing: millimetres, Z-up, standing on the floor."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset
from voxlume.errors import AssetError
from voxlume.files import atomic_write
from voxlume.mesh.write_checks import sound_meshes

LONGEST_SIDE_MM = 100.0

_HEADER = b"binary STL, Z-up, written by Voxlume"  # must not begin with "solid", which marks text
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def write_stl(
    asset: Asset, path: str | Path, *, longest_side_mm: float | None = LONGEST_SIDE_MM
) -> tuple[str, ...]:
    """Write the shape alone as one solid.

    The glTF frame is turned Z-up, (x, y, z) -> (x, -z, y); the lowest point comes to z = 0 and the middle
    of the box to x = y = 0.

    Parameters
    ----------
    longest_side_mm : what the longest side of the box is scaled to; None keeps the asset's own units
        and place.

    Returns
    -------
    Nothing to say: STL holds no material by its nature.

    Raises
    ------
    AssetError : nothing to write, a size that is not possible, coordinates too large for float32.
    VoxlumeError : the file cannot be written.
    """
    if longest_side_mm is not None and not 0 < longest_side_mm < np.inf:
        raise AssetError(f"a longest side of {longest_side_mm:g} mm is not possible; give a positive number")
    corners = np.concatenate([mesh.vertices[mesh.faces] for mesh in sound_meshes(asset)])
    corners = np.stack([corners[..., 0], -corners[..., 2], corners[..., 1]], axis=-1)
    if longest_side_mm is not None:
        corners = _on_the_floor(corners, longest_side_mm)
    facets = np.zeros(len(corners), _FACET)
    facets["normal"] = _facet_normals(corners)
    with np.errstate(over="ignore"):
        facets["corners"] = corners
    if not np.isfinite(facets["corners"]).all():
        raise AssetError("coordinates are too large for float32; give a size in millimetres")
    with atomic_write(path) as file:
        file.write(_HEADER.ljust(80) + struct.pack("<I", len(facets)))
        file.write(facets.data)
    return ()


def _on_the_floor(corners: NDArray[np.float64], longest_side: float) -> NDArray[np.float64]:
    low, high = corners.min((0, 1)), corners.max((0, 1))
    extent = float((high / 2 - low / 2).max()) * 2
    if not extent > 0:
        raise AssetError("all vertices coincide, there is nothing to print")
    origin = low / 2 + high / 2
    origin[2] = low[2]
    return (corners - origin) * (longest_side / extent)


def _facet_normals(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit normals (m, 3) of corners (m, 3, 3); zero for facets without area, as is the custom."""
    edges = corners[:, 1:] - corners[:, :1]
    size = np.abs(edges).max(axis=(1, 2), keepdims=True)
    edges = np.divide(edges, size, out=np.zeros_like(edges), where=size > 0)
    normals = np.cross(edges[:, 0], edges[:, 1])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
