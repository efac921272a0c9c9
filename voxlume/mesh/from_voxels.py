"""The surface of an O-Voxel as an asset that any viewer shows: vertex colours, no textures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.ovoxel.grid import OVoxel

TRANSLUCENT_SHARE = 0.005
"""Share of the vertices that must be clearly translucent before the whole mesh is blended."""


def surface_of(ovoxel: OVoxel, name: str = "", *, exact_alpha: bool = False) -> Asset:
    """One mesh in the frame of the asset that the voxels were made from.

    Base colour and alpha are vertex colours. glTF has no standard place for metallic and roughness of a
    vertex: the material gets their means, so that any viewer shows about the right surface, and the
    attributes ``_METALLIC`` and ``_ROUGHNESS`` hold the exact values relative to these.

    Parameters
    ----------
    exact_alpha : blend as soon as one voxel is translucent, for measuring. Otherwise a few stray voxels
        do not turn an opaque object into one that viewers must sort and blend.
    """
    mesh = ovoxel.to_mesh()
    if ovoxel.attributes is None:
        return Asset(meshes=(mesh,), name=name)
    factors, relative = {}, {}
    for key, values in mesh.attributes.items():
        factors[key] = float(values.mean()) if len(values) else 1.0
        relative[key] = (values / max(factors[key], 1e-6)).astype(np.float32)
    alpha = ovoxel.attributes[:, 5]
    translucent = bool((alpha < 0.998).any() if exact_alpha else (alpha < 0.95).mean() >= TRANSLUCENT_SHARE)
    material = Material(
        name="voxels",
        metallic_factor=factors["METALLIC"],
        roughness_factor=factors["ROUGHNESS"],
        alpha_mode="BLEND" if translucent else "OPAQUE",
        double_sided=True,
    )
    return Asset(meshes=(replace(mesh, material=0, attributes=relative),), materials=(material,), name=name)
