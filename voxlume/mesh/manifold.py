"""Cut a mesh open where more than two faces meet at an edge, for steps that need two-manifolds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.jit import kernel
from voxlume.mesh.components import find_root
from voxlume.mesh.edges import edge_table


def split_nonmanifold(
    faces: NDArray[np.int32], num_vertices: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Repeat vertices so that at most two faces share an edge and a vertex has one fan of faces.

    Nothing moves: cut edges become open borders that lie on each other.

    Returns
    -------
    faces : int32 (m, 3).
    source : int32 (k,), the vertex that each vertex is a copy of; the first ``num_vertices`` are themselves.
    """
    faces = np.ascontiguousarray(faces, np.int32)
    source = np.arange(num_vertices, dtype=np.int32)
    while True:
        table = edge_table(faces, len(source))
        faces, copies = _separate_fans(faces, table.start, table.half_edges, len(source))
        source = np.concatenate([source, source[copies]])
        table = edge_table(faces, len(source))
        crowded = table.start[:-1][table.counts() > 2]
        if not len(crowded):
            return faces, source
        # Fans that reach both sides of such an edge hold it together: its third face lets go of one end.
        loose = table.half_edges[crowded + 2]
        faces = faces.copy()
        copies = faces[loose // 3, loose % 3]
        faces[loose // 3, loose % 3] = len(source) + np.arange(len(loose), dtype=np.int32)
        source = np.concatenate([source, source[copies]])


@kernel
def _separate_fans(
    faces: NDArray[np.int32], start: NDArray[np.int32], half_edges: NDArray[np.int32], num_vertices: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """One vertex per fan: corners stay together across edges of exactly two faces."""
    parents = np.arange(3 * len(faces)).astype(np.int32)
    for edge in range(len(start) - 1):
        if start[edge + 1] - start[edge] == 2:
            h, g = half_edges[start[edge]], half_edges[start[edge] + 1]
            h_end, g_end = h - h % 3 + (h % 3 + 1) % 3, g - g % 3 + (g % 3 + 1) % 3
            if faces[h // 3, h % 3] != faces[g // 3, g % 3]:
                g, g_end = g_end, g
            a, b = find_root(parents, h), find_root(parents, g)
            parents[max(a, b)] = min(a, b)
            a, b = find_root(parents, h_end), find_root(parents, g_end)
            parents[max(a, b)] = min(a, b)
    taken = np.zeros(num_vertices, np.bool_)
    number = np.full(3 * len(faces), -1, np.int32)
    copies = np.empty(3 * len(faces), np.int32)
    out = np.empty_like(faces)
    count = 0
    for corner in range(3 * len(faces)):
        root, v = find_root(parents, corner), faces[corner // 3, corner % 3]
        if number[root] < 0:
            if taken[v]:
                number[root] = num_vertices + count
                copies[count] = v
                count += 1
            else:
                number[root], taken[v] = v, True
        out[corner // 3, corner % 3] = number[root]
    return out, copies[:count].copy()
