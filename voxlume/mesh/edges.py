"""The edges of a triangle mesh: which faces meet at each of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel

RUN = 1 << 12
"""Faces that one look at their vertices may skip together, see :func:`vertex_spans`."""


class EdgeTable(NamedTuple):
    """The half-edges of m faces, grouped by the edge they lie on.

    Half-edge 3 f + k runs from corner k of face f to corner (k + 1) % 3.

    Attributes
    ----------
    start : int32 (e + 1,).
    half_edges : int32 (3 m,); those of edge i are ``half_edges[start[i] : start[i + 1]]``, ascending.
        Edges are in the order of their smaller vertex, then of the larger one.
    """

    start: NDArray[np.int32]
    half_edges: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.start) - 1

    def counts(self) -> NDArray[np.int32]:
        """How many faces meet at each edge, int32 (e,)."""
        return np.diff(self.start)

    def of_half_edges(self) -> NDArray[np.int32]:
        """The edge of each half-edge, int32 (3 m,)."""
        edges = np.empty(len(self.half_edges), np.int32)
        edges[self.half_edges] = np.repeat(np.arange(len(self), dtype=np.int32), self.counts())
        return edges


def edge_table(faces: NDArray[np.int32], num_vertices: int) -> EdgeTable:
    """The table of faces int32 (m, 3) in O(m)."""
    buckets, half_edges = _by_lower_vertex(faces, vertex_spans(faces), vertex_shares(num_vertices))
    distinct = np.zeros(num_vertices + 1, np.int64)
    _sort_buckets(faces, buckets, half_edges, distinct[1:])
    first = np.cumsum(distinct, out=distinct)
    start = np.empty(int(first[-1]) + 1, np.int32)
    start[-1] = len(half_edges)
    _write_starts(faces, buckets, half_edges, first, start)
    return EdgeTable(start, half_edges)


def with_reversed(table: EdgeTable, flipped: NDArray[np.bool_]) -> EdgeTable:
    """The table of the same faces after those that are ``flipped``, bool (m,), have been reversed.

    None of them may have two corners alike: the order of two half-edges of a face on one edge would change.
    """
    return EdgeTable(table.start, _reversed(table.half_edges, flipped))


@parallel_kernel
def _reversed(half_edges: NDArray[np.int32], flipped: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The first two edges of (a, b, c) are those of (c, b, a) in the other order; the last one stays."""
    result = np.empty_like(half_edges)
    for i in prange(len(half_edges)):
        f, k = half_edges[i] // 3, half_edges[i] % 3
        result[i] = 3 * f + 1 - k if flipped[f] and k < 2 else half_edges[i]
    return result


def vertex_shares(num_vertices: int) -> NDArray[np.int64]:
    """Bounds of ranges of vertices for parallel work: few, because faces are read for each of them."""
    return np.linspace(0, num_vertices, 4 * get_num_threads() + 1).astype(np.int64)


@inner_kernel
def upper_vertex(faces: NDArray[np.int32], half_edge: int) -> int:
    """The larger of the two vertices of a half-edge."""
    f, k = half_edge // 3, half_edge % 3
    return max(faces[f, k], faces[f, (k + 1) % 3])


@inner_kernel
def lower_vertex(faces: NDArray[np.int32], half_edge: int) -> int:
    """The smaller of the two vertices of a half-edge."""
    f, k = half_edge // 3, half_edge % 3
    return min(faces[f, k], faces[f, (k + 1) % 3])


@parallel_kernel
def vertex_spans(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Smallest and largest vertex of every run of :data:`RUN` faces, int32 (r, 2)."""
    spans = np.empty(((len(faces) + RUN - 1) // RUN, 2), np.int32)
    for run in prange(len(spans)):
        low, high = faces[run * RUN, 0], faces[run * RUN, 0]
        for f in range(run * RUN, min((run + 1) * RUN, len(faces))):
            for k in range(3):
                low, high = min(low, faces[f, k]), max(high, faces[f, k])
        spans[run, 0], spans[run, 1] = low, high
    return spans


@parallel_kernel
def _by_lower_vertex(
    faces: NDArray[np.int32], spans: NDArray[np.int32], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Half-edges by their smaller vertex: starts (n + 1,) and half-edges (3 m,).

    Vertices are shared out by ``bounds``; each share reads the runs of faces that may have some of them.
    """
    num_vertices = bounds[-1]
    start = np.zeros(num_vertices + 2, np.int32)
    for share in prange(len(bounds) - 1):
        low, high = bounds[share], bounds[share + 1]
        for run in range(len(spans)):
            if spans[run, 0] < high and spans[run, 1] >= low:
                for f in range(run * RUN, min((run + 1) * RUN, len(faces))):
                    for k in range(3):
                        v = min(faces[f, k], faces[f, (k + 1) % 3])
                        if low <= v < high:
                            start[v + 2] += 1
    for v in range(2, num_vertices + 2):
        start[v] += start[v - 1]
    half_edges = np.empty(3 * len(faces), np.int32)
    for share in prange(len(bounds) - 1):
        low, high = bounds[share], bounds[share + 1]
        for run in range(len(spans)):
            if spans[run, 0] < high and spans[run, 1] >= low:
                for f in range(run * RUN, min((run + 1) * RUN, len(faces))):
                    for k in range(3):
                        v = min(faces[f, k], faces[f, (k + 1) % 3])
                        if low <= v < high:
                            half_edges[start[v + 1]] = 3 * f + k
                            start[v + 1] += 1
    return start[:-1], half_edges


@parallel_kernel
def _sort_buckets(
    faces: NDArray[np.int32],
    buckets: NDArray[np.int32],
    half_edges: NDArray[np.int32],
    distinct: NDArray[np.int64],
) -> None:
    """Order each bucket by the larger vertex and count its distinct edges."""
    for v in prange(len(buckets) - 1):
        low, high = buckets[v], buckets[v + 1]
        if high - low > 64:
            keys = np.empty(high - low, np.int64)
            for i in range(low, high):
                keys[i - low] = (np.int64(upper_vertex(faces, half_edges[i])) << 32) | half_edges[i]
            keys.sort()
            for i in range(low, high):
                half_edges[i] = np.int32(keys[i - low] & 0xFFFFFFFF)
        else:
            for i in range(low + 1, high):
                moved = half_edges[i]
                upper = upper_vertex(faces, moved)
                j = i - 1
                while j >= low and upper_vertex(faces, half_edges[j]) > upper:
                    half_edges[j + 1] = half_edges[j]
                    j -= 1
                half_edges[j + 1] = moved
        count = 0
        for i in range(low, high):
            if i == low or upper_vertex(faces, half_edges[i]) != upper_vertex(faces, half_edges[i - 1]):
                count += 1
        distinct[v] = count


@parallel_kernel
def _write_starts(
    faces: NDArray[np.int32],
    buckets: NDArray[np.int32],
    half_edges: NDArray[np.int32],
    first: NDArray[np.int64],
    start: NDArray[np.int32],
) -> None:
    for v in prange(len(buckets) - 1):
        low = buckets[v]
        edge = first[v]
        for i in range(low, buckets[v + 1]):
            if i == low or upper_vertex(faces, half_edges[i]) != upper_vertex(faces, half_edges[i - 1]):
                start[edge] = i
                edge += 1
