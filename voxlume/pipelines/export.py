"""From a pipeline's O-Voxel to the file that a user asked for."""

from __future__ import annotations

from pathlib import Path

from voxlume.mesh.from_voxels import surface_of
from voxlume.mesh.write_glb import write_glb
from voxlume.ovoxel.grid import OVoxel

ENDINGS = (".glb", ".vxz", ".npz")


def export(ovoxel: OVoxel, path: str | Path) -> None:
    """Write ``.glb`` (surface with vertex colours), ``.vxz`` or ``.npz``, by the name's ending.

    Raises
    ------
    VoxlumeError : another ending, an empty surface, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() == ".glb":
        write_glb(surface_of(ovoxel, path.stem), path)
    else:
        ovoxel.save(path)
