"""Make an extracted or foreign mesh sound: one vertex per place, no double faces, no dust, no small holes.

All tolerances are relative to the longest side of the bounding box or to the voxel, never absolute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.jit import kernel, parallel_kernel
from voxlume.mesh.components import face_components
from voxlume.mesh.edges import RUN, edge_table, vertex_shares, vertex_spans, with_reversed
from voxlume.mesh.holes import filling
from voxlume.mesh.manifold import split_nonmanifold
from voxlume.mesh.normals import face_areas
from voxlume.mesh.renumber import bounds_of, mark_used, renumbered, rows_of
from voxlume.mesh.visibility import DIRECTIONS, visible_faces
from voxlume.mesh.weld import weld_by_position
from voxlume.mesh.winding import flipped_faces
from voxlume.progress import Progress, report

SAME_PLACE = 1e-7
"""Of the longest side: vertices that round to the same multiple of it are one."""

_DUST_SHARE = 1e-3  # of the whole area: no larger component is dust, however small its box
_PIT_SHARE = 1e-3  # of the whole area: hidden parts of a visible surface below this are only crevices


@dataclass(frozen=True)
class CleanOptions:
    """What to clean; the defaults suit the surface of an O-Voxel.

    Attributes
    ----------
    dust_voxels : components whose longest side is below this many voxels are dropped; 0 keeps all.
    largest_hole : perimeter in voxels up to which holes are filled; 0 fills none.
    remove_hidden : drop surfaces that cannot be seen from outside.
    manifold : cut the mesh open along edges where more than two faces meet.
    """

    dust_voxels: float = 2.0
    largest_hole: float = 24.0
    remove_hidden: bool = False
    manifold: bool = False


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A clean mesh, and what was done.

    Attributes
    ----------
    vertices : float64 (k, 3), each one of the input's. faces : int32 (m, 3).
    origin : int32 (k,), which vertex of the input each one is.
    degenerate, duplicate, hidden, dust : faces dropped because two corners coincide, because they are there
        twice, because they cannot be seen, with small components. filled : faces added in holes. flipped :
        faces reversed. split : vertices added where non-manifold edges were cut.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    origin: NDArray[np.int32]
    degenerate: int = 0
    duplicate: int = 0
    hidden: int = 0
    dust: int = 0
    flipped: int = 0
    filled: int = 0
    split: int = 0


def clean(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    options: CleanOptions | None = None,
    *,
    voxel: float | None = None,
    progress: Progress | None = None,
) -> Cleaned:
    """Clean a mesh.

    Parameters
    ----------
    vertices : (n, 3), any frame and unit. faces : (m, 3).
    voxel : edge of a voxel in that unit; 1/512 of the longest side if not given.

    Raises
    ------
    AssetError : no faces, positions that are not finite, faces that name no vertex, all faces degenerate.
    Cancelled : by the callback.
    """
    options = options or CleanOptions()
    points = np.ascontiguousarray(vertices, np.float64)
    corners = np.ascontiguousarray(faces, np.int32)
    _check(points, corners)
    used = np.zeros(len(points), np.bool_)
    mark_used(corners, used)
    low, high = bounds_of(points, used)
    extent = float((high - low).max())
    if not extent > 0:
        raise AssetError("all vertices coincide, there is no surface to clean")
    voxel = voxel or extent / 512
    counts: dict[str, int] = {}

    report(progress, 0, 5, "cleaning")
    first = weld_by_position(_rounded(points, low, extent * SAME_PLACE))
    corners = renumbered(corners, first)
    corners, counts["degenerate"] = _kept(corners, ~_degenerate(corners))
    corners, counts["duplicate"] = _kept(
        corners, ~_repeated(corners, vertex_spans(corners), vertex_shares(len(points)))
    )
    if not len(corners):
        raise AssetError("all triangles are degenerate, there is no surface to clean")
    report(progress, 1, 5, "cleaning")
    if options.remove_hidden:
        corners, counts["hidden"] = _kept(corners, ~hidden_parts(points, corners))
    report(progress, 2, 5, "cleaning")
    if options.dust_voxels > 0:
        corners, counts["dust"] = _kept(corners, ~_dust(points, corners, options.dust_voxels * voxel))
    report(progress, 3, 5, "cleaning")
    table = edge_table(corners, len(points))
    flipped = flipped_faces(points, corners, table)
    counts["flipped"] = int(flipped.sum())
    if counts["flipped"]:
        corners[flipped] = corners[flipped][:, ::-1]
        table = with_reversed(table, flipped)
    report(progress, 4, 5, "cleaning")
    if options.largest_hole > 0:
        filled = filling(points, corners, options.largest_hole * voxel, table)
        counts["filled"] = len(filled)
        corners = np.concatenate([corners, filled]) if len(filled) else corners
    source = np.arange(len(points), dtype=np.int32)
    if options.manifold:
        corners, source = split_nonmanifold(corners, len(points))
        counts["split"] = len(source) - len(points)
    report(progress, 5, 5, "cleaning")
    is_used = np.zeros(len(source), np.bool_)
    mark_used(corners, is_used)
    number = np.cumsum(is_used, dtype=np.int32) - np.int32(1)
    origin = source[is_used]
    return Cleaned(rows_of(points, origin), renumbered(corners, number), origin, **counts)


def hidden_parts(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int32],
    *,
    directions: int = DIRECTIONS,
    progress: Progress | None = None,
) -> NDArray[np.bool_]:
    """Faces of surfaces inside others, bool (m,): components, and large parts of them, that no ray leaves.

    Small hidden patches of a visible surface, the bottoms of its crevices, do not count.
    """
    seen = visible_faces(vertices, faces, directions=directions, progress=progress)
    hidden = np.flatnonzero(~seen)
    if not len(hidden):
        return ~seen
    area = face_areas(vertices, faces)
    label, count = face_components(faces[hidden], len(vertices))
    patch = np.bincount(label, area[hidden], count)
    touches = np.zeros(len(vertices), np.bool_)
    touches[faces[seen]] = True
    attached = np.bincount(label, touches[faces[hidden]].any(axis=1), count) > 0
    drop = ~attached | (patch >= _PIT_SHARE * area.sum())
    parts = np.zeros(len(faces), np.bool_)
    parts[hidden] = drop[label]
    return parts


def _check(points: NDArray[np.float64], faces: NDArray[np.int32]) -> None:
    if not len(faces):
        raise AssetError("no geometry: there is no triangle to clean")
    spans = vertex_spans(faces)
    if not (spans[:, 0].min() >= 0 and spans[:, 1].max() < len(points)):
        raise AssetError(f"a face names a vertex that does not exist (there are {len(points)})")
    # What is not finite shows in the sum; that of finite numbers may overflow.
    if not np.isfinite(points.sum()) and not np.isfinite(points).all():
        raise AssetError("the mesh has positions that are not finite numbers")


def _kept(faces: NDArray[np.int32], keep: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    return (faces, 0) if keep.all() else (rows_of(faces, np.flatnonzero(keep)), int(len(faces) - keep.sum()))


@parallel_kernel
def _degenerate(faces: NDArray[np.int32]) -> NDArray[np.bool_]:
    degenerate = np.empty(len(faces), np.bool_)
    for f in prange(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        degenerate[f] = a == b or b == c or c == a
    return degenerate


def _dust(vertices: NDArray[np.float64], faces: NDArray[np.int32], size: float) -> NDArray[np.bool_]:
    """Faces of components that are smaller than ``size``; none where most of the surface is dust."""
    label, count = face_components(faces, len(vertices))
    if count == 1:
        return np.zeros(len(faces), np.bool_)
    area = np.bincount(label, face_areas(vertices, faces), count)
    dust = area < _DUST_SHARE * area.sum()
    dust &= _extents(vertices, faces, label, dust) < size
    if area[dust].sum() > area.sum() / 2:
        dust[:] = False
    return dust[label]


@parallel_kernel
def _rounded(points: NDArray[np.float64], low: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Multiples of ``step``, counted from ``low``."""
    rounded = np.empty_like(points)
    for v in prange(len(points)):
        for c in range(3):
            rounded[v, c] = np.round((points[v, c] - low[c]) / step)
    return rounded


@kernel
def _extents(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int32],
    label: NDArray[np.int32],
    wanted: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """The longest side of each wanted component's bounding box, 0 of others."""
    count = len(wanted)
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    for f in range(len(faces)):
        if not wanted[label[f]]:
            continue
        for k in range(3):
            for axis in range(3):
                at = vertices[faces[f, k], axis]
                low[label[f], axis] = min(low[label[f], axis], at)
                high[label[f], axis] = max(high[label[f], axis], at)
    extent = np.zeros(count)
    for i in range(count):
        for axis in range(3):
            extent[i] = max(extent[i], high[i, axis] - low[i, axis])
    return extent


@parallel_kernel
def _repeated(
    faces: NDArray[np.int32], spans: NDArray[np.int32], bounds: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Faces with the same three corners, in any order, as an earlier one.

    ``spans`` and ``bounds`` share the vertices out (:mod:`voxlume.mesh.edges`), a face goes with its lowest.
    """
    last = np.full(bounds[-1], -1, np.int32)
    previous = np.empty(len(faces), np.int32)
    repeated = np.zeros(len(faces), np.bool_)
    for share in prange(len(bounds) - 1):
        low, high = bounds[share], bounds[share + 1]
        for run in range(len(spans)):
            if spans[run, 0] >= high or spans[run, 1] < low:
                continue
            for f in range(run * RUN, min((run + 1) * RUN, len(faces))):
                lowest = min(faces[f, 0], faces[f, 1], faces[f, 2])
                if lowest < low or lowest >= high:
                    continue
                highest = max(faces[f, 0], faces[f, 1], faces[f, 2])
                total = np.int64(faces[f, 0]) + faces[f, 1] + faces[f, 2]
                g = last[lowest]
                while g >= 0 and not repeated[f]:
                    # The smallest is the same: the largest and the sum settle the rest.
                    same = max(faces[g, 0], faces[g, 1], faces[g, 2]) == highest
                    repeated[f] = same and np.int64(faces[g, 0]) + faces[g, 1] + faces[g, 2] == total
                    g = previous[g]
                previous[f] = last[lowest]
                last[lowest] = f
    return repeated
