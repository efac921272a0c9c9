"""How much of the sky each texel of a mesh sees: a map for glTF's occlusion texture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.mesh.fill import fill_gaps
from voxlume.mesh.texels import assign_texels
from voxlume.mesh.visibility import Blocked, even_directions, ray_tracer
from voxlume.progress import Progress, report

DIRECTIONS = 48
"""Rays per texel, over the whole sphere; half of them leave its surface."""

_OFFSET = 2e-3  # of the longest side: where rays begin, about a voxel above the surface


def occlusion_map(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int32],
    uvs: NDArray[np.float32],
    normals: NDArray[np.float32],
    size: int,
    *,
    directions: int = DIRECTIONS,
    blocked: Blocked | None = None,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """Ambient occlusion uint8 (size, size, 1): 255 where the whole hemisphere is free, weighted by cosine.

    Parameters
    ----------
    vertices : float64 (n, 3), any unit. faces : int32 (m, 3). uvs : float32 (n, 2). normals : float32 (n, 3).
    blocked : how to trace rays from points of the mesh scaled to a unit about its centre; the fastest
        installed by default.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    points = (vertices - (low + high) / 2) / (float((high - low).max()) or 1.0)
    blocked = blocked or ray_tracer(points, faces)
    face, weights = assign_texels(uvs, faces, size)
    covered = face >= 0
    corners, two = faces[face[covered]], weights[covered]
    full = np.column_stack([two, 1 - two.sum(axis=1)]).astype(np.float64)
    normal = np.einsum("kc,kcd->kd", full, normals[corners].astype(np.float64))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    start = np.einsum("kc,kcd->kd", full, points[corners]) + _OFFSET * normal
    seen, total = np.zeros(len(start)), np.zeros(len(start))
    for number, direction in enumerate(even_directions(directions)):
        report(progress, number, directions, "measuring occlusion")
        cosine = normal @ direction
        up = np.flatnonzero(cosine > 0.02)
        if not len(up):
            continue
        rays = np.ascontiguousarray(np.broadcast_to(direction, (len(up), 3)))
        free = ~blocked(np.ascontiguousarray(start[up]), rays)
        total[up] += cosine[up]
        seen[up] += cosine[up] * free
    report(progress, directions, directions, "measuring occlusion")
    image = np.zeros((size, size, 1), np.uint8)
    share = np.divide(seen, total, out=np.ones_like(seen), where=total > 0)
    image[covered, 0] = np.rint(255 * share)
    fill_gaps(image, covered)
    return image
