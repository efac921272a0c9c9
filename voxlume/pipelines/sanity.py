"""Does a decoded O-Voxel look like a surface? Wrong kernels and overflows make results that do not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxlume.mesh.components import face_components
from voxlume.ovoxel.extract import extract_quads
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.index import VoxelIndex, forward_neighbors

CONFETTI_COMPONENTS = 100
CONFETTI_SHARE = 0.1
"""More components than that, the largest with less than that share of the faces: no object, but crumbs."""

MARGIN = 0.5
"""How far a decoded vertex may lie outside its voxel."""


@dataclass(frozen=True)
class Connectivity:
    """How a surface hangs together: number of pieces, and the largest one's share of all faces."""

    components: int
    largest_share: float
    faces: int


def check_ovoxel(ovoxel: OVoxel) -> tuple[OVoxel, list[str]]:
    """Find, name and where possible mend what is wrong with a decoded O-Voxel.

    Returns
    -------
    ovoxel : values that are not finite replaced by the voxel's centre and by zero.
    warnings : one line each; none for a sound result.
    """
    warnings = []
    broken = _not_finite(ovoxel.dual_vertices)
    if broken.any():
        warnings.append(f"{_share(broken)} of the vertices are not numbers; try --dtype bfloat16 or float32")
        ovoxel = replace(ovoxel, dual_vertices=np.where(broken[:, None], 0.5, ovoxel.dual_vertices))
    farthest = 0.5 + MARGIN + 1e-3
    if len(ovoxel) and max(0.5 - ovoxel.dual_vertices.min(), ovoxel.dual_vertices.max() - 0.5) > farthest:
        outside = np.logical_or.reduce(np.abs(ovoxel.dual_vertices - 0.5) > farthest, axis=1)
        warnings.append(f"{_share(outside)} of the vertices lie outside of their voxels")
    if ovoxel.splitting_weights is not None and not np.isfinite(ovoxel.splitting_weights).all():
        ovoxel = replace(ovoxel, splitting_weights=None)
        warnings.append("some splitting weights are not numbers; diagonals follow the normals instead")
    if ovoxel.attributes is not None:
        broken = _not_finite(ovoxel.attributes)
        if broken.any():
            warnings.append(f"{_share(broken)} of the materials are not numbers; try --dtype bfloat16")
            ovoxel = replace(ovoxel, attributes=np.nan_to_num(ovoxel.attributes, posinf=1.0, neginf=0.0))
    surface = connectivity(ovoxel)
    if surface.faces == 0:
        warnings.append("the voxels form no surface: there is no face to write into a mesh")
    elif surface.components > CONFETTI_COMPONENTS and surface.largest_share < CONFETTI_SHARE:
        warnings.append(
            f"the surface is in {surface.components:,} pieces, the largest with "
            f"{100 * surface.largest_share:.1f} % of the faces: this is not an object; "
            "`voxlume doctor` checks the kernels of this device"
        )
    return ovoxel, warnings


def connectivity(ovoxel: OVoxel) -> Connectivity:
    """How the surface hangs together: its quads, before they are split. Each voxel is one vertex."""
    index = VoxelIndex(ovoxel.coords)
    crossed = ovoxel.intersected if index.order is None else ovoxel.intersected[index.order]
    quads, _ = extract_quads(forward_neighbors(index.keys), np.ascontiguousarray(crossed, np.bool_))
    if not len(quads):
        return Connectivity(0, 0.0, 0)
    label, components = face_components(quads, len(ovoxel))
    return Connectivity(components, float(np.bincount(label).max() / len(quads)), 2 * len(quads))


def _not_finite(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows (n, c) hold a value that is not a finite number."""
    finite = np.isfinite(rows)
    # The usual case first: along the short axis NumPy is slow.
    return np.zeros(len(rows), np.bool_) if finite.all() else np.logical_or.reduce(~finite, axis=1)


def _share(mask: NDArray[np.bool_]) -> str:
    return f"{100 * float(mask.mean()):.2g} %"
