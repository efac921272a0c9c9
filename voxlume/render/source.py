"""One entry to everything that can be drawn or compared: mesh files and voxel files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from voxlume.asset import Asset, Material
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
        return surface_of(ovoxel, path.name), ovoxel.resolution
    return load(path), None


def surface_of(ovoxel: OVoxel, name: str = "") -> Asset:
    """An O-Voxel as an asset of one mesh: vertex attributes carry the material, both sides are shown."""
    mesh = ovoxel.to_mesh()
    if ovoxel.attributes is None:
        return Asset(meshes=(mesh,), name=name)
    translucent = bool((ovoxel.attributes[:, 5] < 0.998).any())
    material = Material(
        name="voxels",
        metallic_factor=1.0,
        roughness_factor=1.0,
        alpha_mode="BLEND" if translucent else "OPAQUE",
        double_sided=True,
    )
    return Asset(meshes=(replace(mesh, material=0),), materials=(material,), name=name)
