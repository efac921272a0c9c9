"""Consistent winding of a triangle mesh."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.mesh.edges import EdgeTable
from voxlume.mesh.normals import face_areas, face_normals
from voxlume.ovoxel.orient import parity_root

SMOOTH = 0.5
"""Cosine between two planes above which the faces across an edge surely belong to one side."""


def flipped_faces(
    vertices: NDArray[np.float64], faces: NDArray[np.int32], table: EdgeTable
) -> NDArray[np.bool_]:
    """Which faces to reverse so that faces across an edge agree, bool (m,).

    Only edges of exactly two faces connect. Where a component is not orientable some edge stays wrong; where
    sheets have grown together that is often one of a few sharp edges. So faces are joined across smooth edges
    first, and the patches that these form by the majority of the sharp edges between them, the clearest
    first. The side on which most of a component's area lies already is kept, so that an oriented mesh stays
    as it is.
    """
    if not _disagreements(faces, table.start, table.half_edges):
        return np.zeros(len(faces), np.bool_)
    patch, parity, sharp, relation = _join_faces(
        faces, table.start, table.half_edges, face_normals(vertices, faces)
    )
    pairs, number = np.unique(sharp, axis=0, return_inverse=True)
    majority = np.bincount(number.reshape(-1), np.where(relation, -1, 1), len(pairs))
    order = np.argsort(-np.abs(majority), kind="stable")
    area = face_areas(vertices, faces)
    return _join_patches(pairs[order], majority[order] < 0, patch, parity, area)


@parallel_kernel
def _disagreements(faces: NDArray[np.int32], start: NDArray[np.int32], half_edges: NDArray[np.int32]) -> int:
    """How many edges have two faces of opposite windings."""
    count = 0
    for edge in prange(len(start) - 1):
        if start[edge + 1] - start[edge] == 2:
            h, g = half_edges[start[edge]], half_edges[start[edge] + 1]
            if faces[h // 3, h % 3] == faces[g // 3, g % 3]:
                count += 1
    return count


@inner_kernel
def _join(parents: NDArray[np.int64], a: int, b: int, relation: int) -> None:
    i, i_parity = parity_root(parents, a)
    j, j_parity = parity_root(parents, b)
    if i != j:
        parents[max(i, j)] = 2 * min(i, j) + (i_parity ^ j_parity ^ relation)


@kernel
def _join_faces(
    faces: NDArray[np.int32],
    start: NDArray[np.int32],
    half_edges: NDArray[np.int32],
    normals: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
    """Patches of faces across smooth edges: the patch of each face, and whether it is the other way around.

    Then the sharp edges between patches: the two patches int64 (k, 2), the smaller first, and whether one of
    them should be reversed.
    """
    parents = 2 * np.arange(len(faces))
    num_sharp = 0
    # Edges whose faces agree come first: what has to disagree somewhere keeps the seam that it has.
    for relation in range(2):
        for edge in range(len(start) - 1):
            if start[edge + 1] - start[edge] == 2:
                h, g = half_edges[start[edge]], half_edges[start[edge] + 1]
                f, e = h // 3, g // 3
                same_way = faces[f, h % 3] == faces[e, g % 3]
                if same_way == (relation == 1):
                    cosine = np.float32(0)
                    for c in range(3):
                        cosine += normals[f, c] * normals[e, c]
                    if abs(cosine) >= SMOOTH:
                        _join(parents, f, e, relation)
                    else:
                        num_sharp += 1
    patch, parity = np.empty(len(faces), np.int64), np.empty(len(faces), np.bool_)
    for f in range(len(faces)):
        root, odd = parity_root(parents, f)
        patch[f], parity[f] = root, odd == 1
    sharp, reverse = np.empty((num_sharp, 2), np.int64), np.empty(num_sharp, np.bool_)
    count = 0
    for edge in range(len(start) - 1):
        if start[edge + 1] - start[edge] == 2:
            h, g = half_edges[start[edge]], half_edges[start[edge] + 1]
            f, e = h // 3, g // 3
            if patch[f] != patch[e]:
                sharp[count, 0], sharp[count, 1] = min(patch[f], patch[e]), max(patch[f], patch[e])
                same_way = faces[f, h % 3] == faces[e, g % 3]
                reverse[count] = same_way ^ parity[f] ^ parity[e]
                count += 1
    return patch, parity, sharp[:count].copy(), reverse[:count].copy()


@kernel
def _join_patches(
    pairs: NDArray[np.int64],
    reverse: NDArray[np.bool_],
    patch: NDArray[np.int64],
    parity: NDArray[np.bool_],
    area: NDArray[np.float64],
) -> NDArray[np.bool_]:
    parents = 2 * np.arange(len(patch))
    for i in range(len(pairs)):
        _join(parents, pairs[i, 0], pairs[i, 1], 1 if reverse[i] else 0)
    vote = np.zeros(len(patch))
    flipped = np.empty(len(patch), np.bool_)
    for f in range(len(patch)):
        root, odd = parity_root(parents, patch[f])
        flipped[f] = parity[f] ^ (odd == 1)
        vote[root] += -area[f] if flipped[f] else area[f]
    for f in range(len(patch)):
        if vote[parity_root(parents, patch[f])[0]] < 0:
            flipped[f] = not flipped[f]
    return flipped
