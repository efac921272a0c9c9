"""UV coordinates for any mesh: charts, flattened, packed into one square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.jit import parallel_kernel
from voxlume.mesh.adjacency import opposite_edges
from voxlume.mesh.charts import cluster_faces, vector_lengths
from voxlume.mesh.flatten import flatten, group
from voxlume.mesh.packing import pack
from voxlume.mesh.radix import run_starts, stable_order
from voxlume.mesh.renumber import bounds_of, mark_used, renumbered
from voxlume.mesh.weld import weld_by_position
from voxlume.progress import Progress, report

TEXTURE_SIZES = (64, 8192)
"""Smallest and largest side of a square texture."""

_CELLS = 2048  # the packing's own grid is not finer than this

_SMALL_TEXELS = 16.0  # charts below this many texels show no texture worth a gap of their own
_EXPECTED_FILL = 0.5  # of the texture by charts, near enough to know how large a texel will be


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """A mesh cut along the seams of its charts.

    Attributes
    ----------
    vertex : int32 (k,), the vertex of the given mesh that each new vertex is a copy of.
    faces : int32 (m, 3) over the new vertices, in the given order.
    uvs : float32 (k, 2) in [0, 1], v downwards; charts are not mirrored and do not overlap.
    chart : int32 (m,), the chart of each face.
    gap : texels between charts, at least; between small ones half of that, but never less than bilinear
        look-up needs.
    """

    vertex: NDArray[np.int32]
    faces: NDArray[np.int32]
    uvs: NDArray[np.float32]
    chart: NDArray[np.int32]
    gap: int

    @property
    def num_charts(self) -> int:
        return int(self.chart.max(initial=-1)) + 1


def default_gap(texture_size: int) -> int:
    """Texels between charts that keep two mip levels clean at 2048."""
    return max(2, texture_size // 512)


def unwrap(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    *,
    texture_size: int = 2048,
    gap: int | None = None,
    progress: Progress | None = None,
) -> Unwrapped:
    """Unwrap a mesh of any kind: open, non-manifold, with degenerate faces, in any number of parts.

    Charts are cut where normals turn (see :mod:`voxlume.mesh.charts`): a face's lengths shrink to 0.47
    of the chart's scale at worst, and every chart has the texels that its area in space deserves. The
    result depends on nothing but the input.

    Parameters
    ----------
    vertices : (n, 3), any frame. Vertices at exactly the same place count as one.
    faces : (m, 3).
    texture_size : side of the square texture in texels, for the width of the gaps.
    gap : texels to keep free between charts; :func:`default_gap` if not given.

    Raises
    ------
    AssetError : no face, a vertex that is not finite, a texture size outside :data:`TEXTURE_SIZES`, or so
        many separate pieces that the texture has no room for them.
    """
    check_texture_size(texture_size)
    gap = default_gap(texture_size) if gap is None else gap
    points, tris = np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int32)
    if not len(tris):
        raise AssetError("there is no triangle to unwrap")
    if tris.min() < 0 or tris.max() >= len(points):
        raise AssetError("a face names a vertex that does not exist")
    used = np.zeros(len(points), np.bool_)
    mark_used(tris, used)
    low, high = bounds_of(points, used)
    extent = float((high / 2 - low / 2).max()) * 2
    if not (np.isfinite(low).all() and np.isfinite(high).all() and np.isfinite(extent)):
        raise AssetError("a vertex coordinate is not a finite number")
    report(progress, 0, 3, "unwrapping")
    unit = (points - low) / (extent or 1.0)
    welded = renumbered(tris, weld_by_position(unit))
    corners, area_vectors, lengths, normals = _measure(unit, tris)
    opposite = opposite_edges(welded, normals)
    texel = float(vector_lengths(area_vectors).sum()) / (_EXPECTED_FILL * texture_size**2)
    charts, axes = cluster_faces(area_vectors, opposite, lengths, _SMALL_TEXELS * texel)
    report(progress, 1, 3, "unwrapping")
    flat, charts = flatten(corners, area_vectors, opposite, welded, charts, axes)
    report(progress, 2, 3, "unwrapping")
    order, starts = group(charts, int(charts.max()) + 1)
    cells = min(texture_size, _CELLS)
    per_cell = texture_size / cells
    placed = pack(flat, charts, order, starts, cells, int(np.ceil(gap / per_cell)))
    vertex, new_faces, first = _cut(tris, charts)
    uvs = (placed.reshape(-1, 2)[first] / cells).astype(np.float32)
    report(progress, 3, 3, "unwrapping")
    return Unwrapped(vertex, new_faces, uvs, charts, gap)


def check_texture_size(size: int) -> None:
    """Refuse what no texture can be.

    Raises
    ------
    AssetError : the side is outside :data:`TEXTURE_SIZES`.
    """
    low, high = TEXTURE_SIZES
    if not low <= size <= high:
        raise AssetError(f"a texture of {size} x {size} is not possible; choose a size from {low} to {high}")


def _cut(
    faces: NDArray[np.int32], charts: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Vertices (k,), faces (m, 3) over them, and for each new vertex one corner 3 f + k that uses it."""
    keys = _corner_keys(faces, charts, int(charts.max()) + 1)
    order = stable_order(keys)
    starts = run_starts(keys, order)
    new = np.empty_like(faces)
    _number_runs(order, starts, new.reshape(-1))
    first = order[starts[:-1]]
    return faces.reshape(-1)[first], new, first


@parallel_kernel
def _corner_keys(faces: NDArray[np.int32], charts: NDArray[np.int32], num_charts: int) -> NDArray[np.int64]:
    """The vertex and the chart of each corner as one number, int64 (3 m,)."""
    keys = np.empty(3 * len(faces), np.int64)
    for f in prange(len(faces)):
        for k in range(3):
            keys[3 * f + k] = np.int64(faces[f, k]) * num_charts + charts[f]
    return keys


@parallel_kernel
def _number_runs(order: NDArray[np.int64], starts: NDArray[np.int64], new: NDArray[np.int32]) -> None:
    for run in prange(len(starts) - 1):
        for i in range(starts[run], starts[run + 1]):
            new[order[i]] = run


@parallel_kernel
def _measure(
    points: NDArray[np.float64], faces: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Corners (m, 3, 3), area vectors (m, 3), edge lengths (3 m,) and unit normals (m, 3) or zeros."""
    corners, lengths = np.empty((len(faces), 3, 3)), np.empty(3 * len(faces))
    area_vectors, normals = np.empty((len(faces), 3)), np.zeros((len(faces), 3))
    for f in prange(len(faces)):
        for k in range(3):
            for c in range(3):
                corners[f, k, c] = points[faces[f, k], c]
        p = corners[f]
        ux, uy, uz = p[1, 0] - p[0, 0], p[1, 1] - p[0, 1], p[1, 2] - p[0, 2]
        vx, vy, vz = p[2, 0] - p[0, 0], p[2, 1] - p[0, 1], p[2, 2] - p[0, 2]
        wx, wy, wz = vx - ux, vy - uy, vz - uz
        nx, ny, nz = (uy * vz - uz * vy) / 2, (uz * vx - ux * vz) / 2, (ux * vy - uy * vx) / 2
        area_vectors[f, 0], area_vectors[f, 1], area_vectors[f, 2] = nx, ny, nz
        area = np.sqrt(nx * nx + ny * ny + nz * nz)
        if area > 0:
            normals[f, 0], normals[f, 1], normals[f, 2] = nx / area, ny / area, nz / area
        lengths[3 * f] = np.sqrt(ux * ux + uy * uy + uz * uz)
        lengths[3 * f + 1] = np.sqrt(wx * wx + wy * wy + wz * wz)
        lengths[3 * f + 2] = np.sqrt(vx * vx + vy * vy + vz * vz)
    return corners, area_vectors, lengths, normals
