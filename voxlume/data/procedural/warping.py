"""Real models bent out of shape: a few thousand of them are few shapes to learn what shapes there can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset

_STRETCH = 0.35
"""Most by which an axis grows or shrinks, as a logarithm."""

_STRENGTH = 0.3
"""Most by which the other changes move a point, in halves of the longest side."""


def warp(asset: Asset, seed: int) -> Asset:
    """The same model with other proportions.

    Every axis is stretched; half of the seeds also taper, swell, lean or bow the model, each by chance.
    All of it is one smooth map of space that keeps what touches together, the front in front, and the left
    and right of what is symmetric alike. It is a polynomial, so machines agree on the bytes.

    Parameters
    ----------
    asset : anything with a face; glTF frame.
    seed : 0 or greater; the same asset and seed give the same result.

    Returns
    -------
    Asset of the same faces, UVs and materials with new vertices, without vertex normals.
    """
    rng = np.random.default_rng([3, seed])
    stretch = np.round(np.exp(_STRETCH * (2 * rng.random(3) - 1)), 4)
    amounts = np.round(_STRENGTH * (2 * rng.random(4) - 1), 4) * (rng.random(4) < 0.5) * (rng.random() < 0.5)
    if not any(len(mesh.faces) for mesh in asset.meshes):
        return asset
    low, high = asset.bounds()
    center, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-300)

    def moved(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
        taper, swell, lean, bow = amounts
        x, y, z = ((vertices - center) / half).T
        wider = 1 + taper * y + swell * (1 - y * y)
        x, z = x * wider, z * wider + lean * y
        y = y + bow * x * x
        return np.stack([x, y, z], 1) * stretch * half + center

    meshes = tuple(
        replace(mesh, vertices=moved(mesh.vertices), normals=None) if len(mesh.faces) else mesh
        for mesh in asset.meshes
    )
    return replace(asset, meshes=meshes)
