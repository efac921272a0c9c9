"""One entry to everything that can be drawn or compared: mesh files and voxel files."""

from __future__ import annotations

from pathlib import Path

from voxlume.asset import Asset
from voxlume.mesh.from_voxels import surface_of
from voxlume.mesh.read import load
from voxlume.ovoxel.grid import OVoxel

VOXEL_ENDINGS = (".vxz", ".npz")


def load_surface(path: str | Path) -> tuple[Asset, int | None]:
    """The surface in a file, and the resolution of the grid it was made from (None for mesh files).

    Voxel files become meshes with vertex colours, in the frame of the asset they were made from.

    Raises
    ------
    AssetError, VoxelFileError : the file is missing, damaged, of no known type, or holds no geometry.
    """
    path = Path(path)
    if path.suffix.lower() in VOXEL_ENDINGS:
        ovoxel = OVoxel.load(path)
        return surface_of(ovoxel, path.name, exact_alpha=True), ovoxel.resolution
    return load(path), None
