"""Consistent winding of a triangle mesh."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel
from voxlume.mesh.edges import EdgeTable
from voxlume.mesh.normals import face_areas


def flipped_faces(
    vertices: NDArray[np.float64], faces: NDArray[np.int32], table: EdgeTable
) -> NDArray[np.bool_]:
    """Which faces to reverse so that faces across an edge agree, bool (m,).

    Only edges of exactly two faces connect. The side on which most of a component's area lies already is
    kept, so that an oriented mesh stays as it is. Where a component is not orientable, some edge stays wrong.
    """
    return _propagate(faces, table.start, table.half_edges, face_areas(vertices, faces))


@inner_kernel
def _find_root(parents: NDArray[np.int64], item: int) -> tuple[int, int]:
    """Root of an item and its parity to it; a parent is stored as 2 * parent + parity."""
    parity = 0
    while parents[item] >> 1 != item:
        above = parents[item]
        parents[item] = parents[above >> 1] ^ (above & 1)  # halve the path
        parity ^= parents[item] & 1
        item = parents[item] >> 1
    return item, parity


@kernel
def _propagate(
    faces: NDArray[np.int32],
    start: NDArray[np.int32],
    half_edges: NDArray[np.int32],
    area: NDArray[np.float64],
) -> NDArray[np.bool_]:
    parents = 2 * np.arange(len(faces))
    for edge in range(len(start) - 1):
        if start[edge + 1] - start[edge] == 2:
            h, g = half_edges[start[edge]], half_edges[start[edge] + 1]
            same_way = faces[h // 3, h % 3] == faces[g // 3, g % 3]
            i, i_parity = _find_root(parents, h // 3)
            j, j_parity = _find_root(parents, g // 3)
            if i != j:
                relation = i_parity ^ j_parity ^ (1 if same_way else 0)
                parents[max(i, j)] = 2 * min(i, j) + relation
    vote = np.zeros(len(faces))
    flipped = np.empty(len(faces), np.bool_)
    for f in range(len(faces)):
        root, parity = _find_root(parents, f)
        vote[root] += -area[f] if parity else area[f]
        flipped[f] = parity == 1
    for f in range(len(faces)):
        if vote[_find_root(parents, f)[0]] < 0:
            flipped[f] = not flipped[f]
    return flipped
