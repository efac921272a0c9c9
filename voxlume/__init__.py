"""Voxlume: one picture to a 3D asset with true PBR materials.

>>> import voxlume
>>> asset = voxlume.load("chair.glb")
>>> voxels = voxlume.OVoxel.from_asset(asset, resolution=512)
>>> voxels.save("chair.vxz")
"""

from pathlib import Path

from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.errors import VoxlumeError
from voxlume.ovoxel.grid import OVoxel

__version__ = "0.1.0"

__all__ = ["Asset", "Material", "Mesh", "OVoxel", "Texture", "VoxlumeError", "__version__", "load"]


def load(path: str | Path) -> Asset:
    """Read a mesh file with its materials; see :func:`voxlume.mesh.read.load`."""
    from voxlume.mesh.read import load as read

    return read(path)
