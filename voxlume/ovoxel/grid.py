"""The O-Voxel object: active voxels, their dual-grid geometry and their material."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Placement

if TYPE_CHECKING:
    from voxlume.asset import Mesh
    from voxlume.progress import Progress

ATTRIBUTE_CHANNELS = ("red", "green", "blue", "metallic", "roughness", "alpha")
"""The six material channels in storage order; colour is sRGB-encoded, the rest linear, all in [0, 1]."""


@dataclass(frozen=True, eq=False)
class OVoxel:
    """A sparse voxel grid that carries a surface and its material (TRELLIS.2, section 3.1).

    Frame: the Z-up model frame, cube [-0.5, 0.5]^3, N^3 voxels of edge 1/N; voxel (i, j, k) spans
    [i/N - 0.5, (i+1)/N - 0.5) on x and likewise on y and z.

    Attributes
    ----------
    resolution : N, any positive integer.
    coords : int32 (n, 3), unique, in lexicographic order (x slowest) when made by this package.
    dual_vertices : float32 (n, 3), in voxel units from the voxel's minimum corner; in [0, 1] when
        converted from a mesh, a decoder may go up to half a voxel outside.
    intersected : bool (n, 3); flag a says that the surface crosses the voxel's edge that is parallel to
        axis a and starts at the voxel's maximum corner in the two other axes.
    attributes : float32 (n, 6) in the order of :data:`ATTRIBUTE_CHANNELS`, or None for bare geometry.
    splitting_weights : float32 (n,), positive, or None; only a decoder predicts it.
    placement : maps the model frame to the coordinates of the asset it was made from.
    """

    resolution: int
    coords: NDArray[np.int32]
    dual_vertices: NDArray[np.float32]
    intersected: NDArray[np.bool_]
    attributes: NDArray[np.float32] | None = None
    splitting_weights: NDArray[np.float32] | None = None
    placement: Placement = field(default_factory=Placement)

    def __len__(self) -> int:
        return len(self.coords)

    @classmethod
    def from_asset(
        cls, asset: Asset, resolution: int, *, device: str = "cpu", progress: Progress | None = None
    ) -> OVoxel:
        """Voxelise a textured asset; see :func:`voxlume.ovoxel.voxelize.voxelize_asset`."""
        from voxlume.ovoxel.voxelize import voxelize_asset

        return voxelize_asset(asset, resolution, device=device, progress=progress)

    def to_mesh(self) -> Mesh:
        """The surface with vertex colours; see :func:`voxlume.ovoxel.extract.ovoxel_to_mesh`."""
        from voxlume.ovoxel.extract import ovoxel_to_mesh

        return ovoxel_to_mesh(self)

    def save(self, path: str | Path) -> None:
        """Write ``.vxz`` or ``.npz``, by the name's ending; see :mod:`voxlume.ovoxel.files`."""
        from voxlume.ovoxel.files import save_ovoxel

        save_ovoxel(self, path)

    @classmethod
    def load(cls, path: str | Path) -> OVoxel:
        """Read ``.vxz`` or ``.npz``; see :mod:`voxlume.ovoxel.files`."""
        from voxlume.ovoxel.files import load_ovoxel

        return load_ovoxel(path)
