"""Fewer triangles for the same surface: parallel edge collapses in the order of their quadric error.

Every round takes the cheapest edges that do not touch each other (:mod:`voxlume.mesh.collapse`), so that the
result is close to the sequential algorithm's, the same for any number of threads, and on budget to the face.
Collapses keep the topology (link condition), never flip a face, and keep feature edges as lines: open
borders, edges of three and more faces, edges where the winding changes. Sharp creases need no mark, the
quadrics hold them; borders between materials get quadrics of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.mesh.collapse import (
    MAX_VERTICES,
    TANGLE,
    all_costs,
    all_keys,
    collapse_edges,
    color_quadrics,
    corner_rings,
    cost_limit,
    ends_of,
    face_quadrics,
    feature_kinds,
    feature_vertices,
    mark_chosen,
    mark_due,
    renew_keys,
    vertices_now,
)
from voxlume.mesh.edges import EdgeTable, edge_table
from voxlume.mesh.renumber import bounds_of, faces_now, mark_used
from voxlume.mesh.winding import flipped_faces
from voxlume.progress import Progress, report

SMALLEST_BUDGET = 4
"""The faces of a tetrahedron, the smallest closed surface."""

_CANDIDATES = 24  # vertices that compete in a round for each collapse that is still wanted
_FEWEST_CANDIDATES = 1024  # in a round at least: many of the cheapest edges are refused, one after another
_SHARE_PER_ROUND = 0.25  # of the vertices, the cheapest ones, compete in one round
_STUCK = 0.995  # more of the faces than this left since the last rebuild: nothing more will come
_REBUILD = 0.75  # lists are rebuilt when fewer than this share of their faces is left
_LAST = (
    0.05  # of the faces still to go: not rebuilt any more, as edges refused before would all be tried again
)


@dataclass(frozen=True, eq=False)
class Simplified:
    """A mesh with fewer faces.

    Attributes
    ----------
    vertices : float64 (k, 3), in the frame of the input; vertices that stayed are equal to the bit.
    faces : int32 (m, 3).
    origin : int32 (n,), for each vertex of the input the vertex it went into, -1 where that was dropped.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    origin: NDArray[np.int32]


def simplify(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    budget: int,
    *,
    colors: NDArray[np.floating] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Simplified:
    """Reduce a mesh to at most ``budget`` faces.

    Parameters
    ----------
    vertices : (n, 3), any frame and unit. Faces that share an edge must share its vertices (weld first).
    faces : (m, 3).
    colors : (n, c) values in [0, 1] per vertex, of which borders shall stay in place: a step of one in one
        channel across an edge holds its ends as firmly as the surface itself does.
    device : a CUDA device does the same with Triton; without Triton all is done on the CPU.

    Returns
    -------
    Simplified with ``budget`` faces or one less, where walls have grown together up to 1 % less; the mesh as
    it is if it has no more than that. Winding that was consistent stays so.

    Raises
    ------
    AssetError : a budget below four or out of reach, positions not finite, faces that name no vertex.
    Cancelled : by the callback.
    """
    points, corners = _checked(vertices, faces, budget)
    if len(corners) <= budget:
        used, number = _used(corners, len(points))
        return Simplified(points[used], number[corners], number)
    low, high = bounds_of(points, np.ones(len(points), np.bool_))
    center, extent = (low + high) / 2, float((high - low).max()) or 1.0
    work = _work_on(device)((points - center) / extent, corners, colors)
    total = len(corners) - budget
    while work.alive > budget:
        report(progress, total - (work.alive - budget), total, "simplifying")
        if not work.collapse_round(budget):
            break
    if work.alive > budget:
        raise AssetError(f"the mesh cannot be reduced below {work.alive} faces, ask for that many or more")
    report(progress, total, total, "simplifying")
    work.compact()
    found, kept_faces, moved, source, origin = work.arrays()
    kept = found * extent + center
    kept[~moved] = points[source[~moved]]
    # Where walls that have grown together collapse, the face that is left may be the one of the other side.
    flipped = flipped_faces(found, kept_faces, work.edges())
    kept_faces[flipped] = kept_faces[flipped][:, ::-1]
    return Simplified(kept, kept_faces, origin)


def _work_on(device: str) -> type[Reduction]:
    """How to reduce a mesh there."""
    if device.startswith("cuda"):
        from voxlume.backend import triton_installed, twins_forced

        if triton_installed() and not twins_forced():
            from voxlume.mesh.simplify_triton import reduction_on

            return reduction_on(device)
    return Reduction


def _checked(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], budget: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    if budget < SMALLEST_BUDGET:
        raise AssetError(f"a budget of {budget} faces is too small, ask for {SMALLEST_BUDGET} or more")
    points = np.ascontiguousarray(vertices, np.float64)
    if not np.isfinite(points).all():
        raise AssetError("the mesh has positions that are not finite numbers, clean it first")
    if len(faces) and not (faces.min() >= 0 and faces.max() < len(points)):
        raise AssetError(f"a face names a vertex that does not exist (there are {len(points)})")
    if len(points) > MAX_VERTICES:
        raise AssetError(f"{len(points)} vertices are too many to simplify, at most {MAX_VERTICES}")
    return points, np.ascontiguousarray(faces, np.int32)


class Reduction:
    """A mesh that is being simplified: arrays per vertex and per face, compacted now and then.

    ``source`` is the vertex of the input that each vertex was, ``origin`` the vertex that each one of the
    input went into as of the last compaction, ``parent`` the vertex that each vertex went into since then.
    """

    def __init__(
        self, points: NDArray[np.float64], faces: NDArray[np.int32], colors: NDArray[np.floating] | None
    ) -> None:
        n = len(points)
        self.points, self.faces = points, faces.copy()
        self.alive = len(faces)
        self.keep_topology = True
        self.quadrics = np.zeros((n, 10))
        self.moved = np.zeros(n, np.bool_)
        self.source = self.origin = np.arange(n, dtype=np.int32)
        self._list()
        face_quadrics(points, self.faces, self.feature, self.head, self.following, self.quadrics)
        if colors is not None:
            values = np.ascontiguousarray(colors, np.float32)
            color_quadrics(points, self.faces, values, self.head, self.following, self.quadrics)
        self._price()

    def arrays(self) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        """Points, faces, moved, source and origin."""
        return self.points, self.faces, self.moved, self.source, self.origin

    def edges(self) -> EdgeTable:
        """Which faces meet at each edge, after :meth:`compact`."""
        return edge_table(self.faces, len(self.points))

    def collapse_round(self, budget: int) -> bool:
        """Collapse the cheapest independent edges; False if none is left that may collapse."""
        # Half of what is missing, because a collapse in a tangle removes more than two faces.
        wanted = -(-(self.alive - budget) // 4)
        rank = min(_CANDIDATES * wanted + _FEWEST_CANDIDATES, int(_SHARE_PER_ROUND * self.alive / 2) + 256)
        chosen = self._choose(rank)
        if not len(chosen):
            return self._another_chance()
        if len(chosen) > wanted:
            chosen = chosen[self.keys[chosen].argsort()[:wanted]]
        self.alive -= self._collapse(chosen)
        if self.alive < _REBUILD * len(self.faces) and self.alive - budget > _LAST * self.alive:
            self._rebuild()
        return True

    def _list(self) -> None:
        """Corners around the vertices, and what is a feature."""
        n = len(self.points)
        self.parent = np.arange(n, dtype=np.int32)
        self.head = np.empty(n, np.int32)
        self.following = np.empty(3 * len(self.faces), np.int32)
        corner_rings(self.faces, self.head, self.following)
        table = edge_table(self.faces, n)
        self.feature = np.empty((len(self.faces), 3), np.uint8)
        feature_kinds(self.faces, table.start, table.half_edges, self.feature)
        self.on_feature = np.empty(n, np.uint8)
        feature_vertices(self.faces, self.feature, self.on_feature)
        if not self.keep_topology:
            self.on_feature[:] = TANGLE

    def _price(self) -> None:
        """What every edge costs, and the best one of every vertex."""
        self.cost = np.empty((len(self.faces), 3), np.float32)
        all_costs(self.quadrics, self.points, self.on_feature, self.faces, self.feature, self.cost)
        self.keys = np.empty(len(self.points), np.int64)
        bits = self.cost.view(np.int32)
        all_keys(self.faces, self.head, self.following, self.cost, bits, self.keys)
        self.chosen, self.due = (np.empty(len(self.points), np.bool_) for _ in range(2))

    def _choose(self, rank: int) -> NDArray[np.int64]:
        """One end of each of the independent edges among those at the ``rank`` cheapest vertices."""
        limit = cost_limit(self.keys, rank)
        mark_chosen(self.faces, self.head, self.following, self.keys, limit, self.chosen)
        return np.flatnonzero(self.chosen)

    def _collapse(self, chosen: NDArray[np.int64]) -> int:
        """Collapse the best edges of these vertices where that is allowed; the number of faces that went."""
        ends = ends_of(chosen, self.keys)
        removed = np.empty(len(chosen), np.int32)
        collapse_edges(
            chosen,
            self.quadrics,
            self.points,
            self.on_feature,
            self.faces,
            self.feature,
            self.head,
            self.following,
            self.cost,
            self.keys,
            self.parent,
            removed,
        )
        self.moved[chosen[removed > 0]] = True
        lists = self.faces, self.head, self.following, self.cost, self.cost.view(np.int32), self.keys
        self.due[:] = False
        mark_due(ends, removed, *lists, self.due)
        renew_keys(np.flatnonzero(self.due), *lists)
        return int(removed.sum())

    def _another_chance(self) -> bool:
        """Whether refused edges may be tried once more, in the end without regard to the topology."""
        if self.alive > _STUCK * len(self.faces):
            if not self.keep_topology:
                return False
            self.keep_topology = False
        self._rebuild()
        return True

    def _rebuild(self) -> None:
        """Drop what vanished; edges that were refused get another chance."""
        self.compact()
        self._list()
        self._price()

    def compact(self) -> None:
        """Only the faces that are left, and the vertices that they use."""
        kept = np.flatnonzero(self.faces[:, 0] >= 0)
        used, number = _used(self.faces, len(self.points))
        self.origin = vertices_now(self.origin, self.parent, number)
        self.faces = faces_now(self.faces, kept, number)
        self.points, self.quadrics = self.points[used], self.quadrics[used]
        self.moved, self.source = self.moved[used], self.source[used]


def _used(faces: NDArray[np.int32], num_vertices: int) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Which vertices the faces use, and their numbers without the others, -1 for those."""
    used = np.zeros(num_vertices, np.bool_)
    mark_used(faces, used)
    return used, np.where(used, np.cumsum(used, dtype=np.int32) - np.int32(1), np.int32(-1))
