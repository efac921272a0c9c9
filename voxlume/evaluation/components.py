"""Connected parts of a surface, and which of them another surface has lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from voxlume.evaluation.surface import Surface
from voxlume.mesh.weld import weld_by_position

_MOST_QUERIES = 200_000
_MOST_FACES = 48  # looked at per component


@dataclass(frozen=True)
class LostComponent:
    """A part of A without counterpart in B: where it is, how large, how far from B (voxels)."""

    center: tuple[float, float, float]
    size_voxels: float
    faces: int
    mean_distance_voxels: float


def face_components(surface: Surface) -> NDArray[np.int32]:
    """Number of the connected component of each face, int32 (m,); vertices at one place are one vertex."""
    same = weld_by_position(surface.vertices)
    faces = same[surface.faces]
    n = len(same)
    rows = np.concatenate([faces[:, 0], faces[:, 1]])
    columns = np.concatenate([faces[:, 1], faces[:, 2]])
    links = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(n, n))
    _, label = connected_components(links.tocsr(), directed=False)
    return np.unique(label[faces[:, 0]], return_inverse=True)[1].astype(np.int32)


def lost_components(a: Surface, b: Surface, voxel: float) -> tuple[int, list[LostComponent]]:
    """Components of A larger than two voxels of which less than half lies within a voxel of B.

    Returns
    -------
    How many components were looked at, and the lost ones, largest first.
    """
    label = face_components(a)
    order = np.argsort(label, kind="stable")
    start = np.flatnonzero(np.diff(label[order], prepend=-1))
    count = np.diff(start, append=len(order))
    corners = a.vertices[a.faces[order]]
    low = np.minimum.reduceat(corners.min(axis=1), start)
    high = np.maximum.reduceat(corners.max(axis=1), start)
    size = (high - low).max(axis=1) / voxel
    large = np.flatnonzero(size > 2)
    if not len(large):
        return 0, []

    per_component = int(np.clip(_MOST_QUERIES // (4 * len(large)), 1, _MOST_FACES))
    looked_at = np.minimum(count[large], per_component)
    owner = np.repeat(np.arange(len(large)), looked_at)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(looked_at) - looked_at, looked_at)
    # Spread evenly over the component's faces.
    face = start[large][owner] + (place * count[large][owner]) // looked_at[owner]
    picked = corners[face]
    # Corners, drawn in a little so that a neighbour which only touches does not count, and the middle.
    middle = picked.mean(axis=1, keepdims=True)
    points = np.concatenate([middle, middle + 0.8 * (picked - middle)], axis=1).reshape(-1, 3)
    distance, _ = b.nearest(points)
    distance = distance.reshape(-1, 4) / voxel
    near = np.bincount(owner, (distance <= 1).mean(axis=1), len(large)) / looked_at
    mean = np.bincount(owner, distance.mean(axis=1), len(large)) / looked_at
    lost = [
        LostComponent(
            center=tuple(((low[c] + high[c]) / 2).tolist()),
            size_voxels=float(size[c]),
            faces=int(count[c]),
            mean_distance_voxels=float(mean[i]),
        )
        for i, c in enumerate(large)
        if near[i] < 0.5
    ]
    return len(large), sorted(lost, key=lambda part: -part.size_voxels)


def is_oriented(surface: Surface) -> bool:
    """Whether faces that share an edge agree about the outside (on at least 99.9 % of such edges)."""
    faces = weld_by_position(surface.vertices)[surface.faces].astype(np.int64)
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    key = np.minimum(start, end) * len(surface.vertices) + np.maximum(start, end)
    forward = start < end
    order = np.argsort(key, kind="stable")
    key, forward = key[order], forward[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    pairs = first[np.diff(first, append=len(key)) == 2]
    if not len(pairs):
        return True
    return bool((forward[pairs] != forward[pairs + 1]).mean() >= 0.999)
