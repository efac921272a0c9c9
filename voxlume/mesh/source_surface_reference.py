"""The slow, obvious twins of the look-ups in :mod:`voxlume.mesh.source_surface`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.mesh.source_surface import FARTHEST, PATIENCE, SourceSurface


def nearest_reference(
    source: SourceSurface, points: NDArray[np.float64], normals: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every point asks every face.

    Returns
    -------
    distance : float64 (k,), to the face that :meth:`SourceSurface.nearest` has to choose, infinite where
        there is none.
    at : float64 (k, 3), the nearest point there.
    """
    a, b, c = np.moveaxis(source.vertices[source.faces], 1, 0)
    area_vectors = np.cross(b - a, c - a)
    distance, at = np.full(len(points), np.inf), np.zeros((len(points), 3))
    for i, point in enumerate(points):
        close = _nearest_in_triangles(a, b, c, point)
        far = np.linalg.norm(close - point, axis=1)
        chosen = int(far.argmin())
        if normals is not None:
            facing = np.flatnonzero(area_vectors @ normals[i] > 0)
            if len(facing):
                candidate = facing[far[facing].argmin()]
                if far[candidate] <= min(max(2.0, PATIENCE * far[chosen]), FARTHEST):
                    chosen = int(candidate)
        if far[chosen] <= FARTHEST:
            distance[i], at[i] = far[chosen], close[chosen]
    return distance, at


def _nearest_in_triangles(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], point: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The point (m, 3) of each triangle that is nearest to ``point``: inside, or on the nearest edge."""
    normal = np.cross(b - a, c - a)
    squared = np.maximum(np.einsum("mc,mc->m", normal, normal), 1e-300)[:, None]
    best = point - np.einsum("mc,mc->m", normal, point - a)[:, None] * normal / squared
    inside = np.ones(len(a), np.bool_)
    for p, q in ((a, b), (b, c), (c, a)):
        inside &= np.einsum("mc,mc->m", np.cross(q - p, best - p), normal) >= 0
    off = np.where(inside, 0.0, np.inf)
    for p, q in ((a, b), (b, c), (c, a)):
        edge = q - p
        t = np.einsum("mc,mc->m", point - p, edge) / np.maximum(np.einsum("mc,mc->m", edge, edge), 1e-300)
        on_edge = p + np.clip(t, 0, 1)[:, None] * edge
        far = np.where(inside, np.inf, np.linalg.norm(on_edge - point, axis=1))
        closer = far < off
        best[closer], off[closer] = on_edge[closer], far[closer]
    return best


def material_reference(
    source: SourceSurface, face: NDArray[np.int32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The corners' values, weighted."""
    assert source.attributes is not None
    return np.einsum("nk,nkc->nc", weights, source.attributes[source.faces[face]])
