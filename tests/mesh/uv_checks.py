"""What a UV layout must fulfil, measured by brute force."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from voxlume.mesh.texels import assign_texels


def overlapping_samples(uvs: NDArray[np.floating], faces: NDArray[np.integer], size: int) -> tuple[int, int]:
    """How many of the centres of a ``size`` x ``size`` raster lie inside two triangles or more; and in any.

    Inside is by more than a millionth of the raster's cell, so that neighbours do not share their border.
    """
    counts = np.zeros((size, size), np.uint8)
    _count(np.ascontiguousarray(uvs, np.float64)[faces] * size, counts)
    return int((counts > 1).sum()), int((counts > 0).sum())


@njit(cache=True)
def _count(corners: NDArray[np.float64], counts: NDArray[np.uint8]) -> None:
    size = len(counts)
    for t in range(len(corners)):
        p = corners[t]
        if (p[1, 0] - p[0, 0]) * (p[2, 1] - p[0, 1]) < (p[1, 1] - p[0, 1]) * (p[2, 0] - p[0, 0]):
            p = p[::-1]
        low_y, high_y = max(int(p[:, 1].min()), 0), min(int(p[:, 1].max()) + 1, size - 1)
        low_x, high_x = max(int(p[:, 0].min()), 0), min(int(p[:, 0].max()) + 1, size - 1)
        for row in range(low_y, high_y + 1):
            for column in range(low_x, high_x + 1):
                x, y = column + 0.5, row + 0.5
                inside = True
                for k in range(3):
                    dx, dy = p[(k + 1) % 3, 0] - p[k, 0], p[(k + 1) % 3, 1] - p[k, 1]
                    inside &= dx * (y - p[k, 1]) - dy * (x - p[k, 0]) > 1e-6 * (abs(dx) + abs(dy))
                if inside and counts[row, column] < 255:
                    counts[row, column] += 1


def chart_labels(uvs: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.int32]:
    """The chart int32 (m,) of each face: faces that hang together by equal UVs."""
    _, same = np.unique(uvs, axis=0, return_inverse=True)
    links = same.reshape(-1)[faces]
    ends = np.concatenate([links[:, :2], links[:, 1:]])
    graph = coo_matrix((np.ones(len(ends), np.bool_), ends.T), shape=(len(uvs), len(uvs)))
    _, label = np.unique(connected_components(graph, directed=False)[1][links[:, 0]], return_inverse=True)
    return label.astype(np.int32)


def own_texels_share(
    uvs: NDArray[np.floating],
    faces: NDArray[np.integer],
    chart: NDArray[np.integer],
    size: int,
    *,
    samples: int = 100_000,
    seed: int = 0,
) -> float:
    """Share of points drawn on the layout whose four texels of bilinear look-up all belong to their chart."""
    random = np.random.default_rng(seed)
    corners = np.asarray(uvs, np.float64)[faces] * size
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    cumulative = np.cumsum(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]))
    face = np.minimum(np.searchsorted(cumulative, random.random(samples) * cumulative[-1]), len(faces) - 1)
    r, s = np.sqrt(random.random(samples)), random.random(samples)
    weights = np.stack([1 - r, r * (1 - s), r * s], axis=1)
    points = np.einsum("nk,nkc->nc", weights, corners[face])
    owner, _ = assign_texels(np.asarray(uvs, np.float32), np.asarray(faces, np.int32), size)
    own = np.ones(samples, np.bool_)
    first = np.floor(points - 0.5).astype(np.int64)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = np.clip(first + np.array((dx, dy)), 0, size - 1).T
        found = owner[row, column]
        own &= (found >= 0) & (chart[found] == chart[face])
    return float(own.mean())
