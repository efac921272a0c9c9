"""Consistent winding of a triangle mesh."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.mesh.edges import EdgeTable
from voxlume.mesh.normals import face_areas, face_normals
from voxlume.mesh.radix import run_starts, stable_order
from voxlume.ovoxel.orient import parity_root

SMOOTH = 0.5
"""Cosine between two planes above which the faces across an edge surely belong to one side."""

_AGREEING, _DISAGREEING, _SHARP = 1, 2, 3  # windings across a smooth edge, or an edge that is not smooth


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
    kind = _kinds_of_edges(faces, table.start, table.half_edges, face_normals(vertices, faces))
    patch, parity = _join_faces(kind, table.start, table.half_edges, len(faces))
    keys, relation = _sharp_pairs(faces, np.flatnonzero(kind == _SHARP), table, patch, parity)
    order = stable_order(keys)
    starts = run_starts(keys, order)
    pairs = keys[order[starts[:-1]]]
    majority = np.add.reduceat(np.where(relation, -1, 1)[order], starts[:-1]) if len(keys) else keys
    clearest = np.argsort(-np.abs(majority), kind="stable")
    pairs = np.stack([pairs // len(faces), pairs % len(faces)], axis=1)
    area = face_areas(vertices, faces)
    return _join_patches(pairs[clearest], majority[clearest] < 0, patch, parity, area)


def _sharp_pairs(
    faces: NDArray[np.int32],
    edges: NDArray[np.int64],
    table: EdgeTable,
    patch: NDArray[np.int64],
    parity: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The two patches on either side of each of these edges as one number, the smaller first.

    Edges within a patch are left out. Then whether one of the two should be reversed.
    """
    f, g = table.half_edges[table.start[edges]], table.half_edges[table.start[edges] + 1]
    same_way = faces.reshape(-1)[f] == faces.reshape(-1)[g]
    f, g = f // 3, g // 3
    one, other = patch[f], patch[g]
    between = np.flatnonzero(one != other)
    keys = np.minimum(one, other) * len(faces) + np.maximum(one, other)
    return keys[between], (same_way ^ parity[f] ^ parity[g])[between]


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


@parallel_kernel
def _kinds_of_edges(
    faces: NDArray[np.int32],
    start: NDArray[np.int32],
    half_edges: NDArray[np.int32],
    normals: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """What joins the two faces of every edge; nothing where there are not just two."""
    kind = np.zeros(len(start) - 1, np.uint8)
    for edge in prange(len(start) - 1):
        if start[edge + 1] - start[edge] == 2:
            h, g = half_edges[start[edge]], half_edges[start[edge] + 1]
            f, e = h // 3, g // 3
            cosine = np.float32(0)
            for c in range(3):
                cosine += normals[f, c] * normals[e, c]
            if not abs(cosine) >= SMOOTH:
                kind[edge] = _SHARP
            else:
                kind[edge] = _DISAGREEING if faces[f, h % 3] == faces[e, g % 3] else _AGREEING
    return kind


@kernel
def _join_faces(
    kind: NDArray[np.uint8], start: NDArray[np.int32], half_edges: NDArray[np.int32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Patches of faces across smooth edges: that of each face, and whether it is the other way around."""
    parents = 2 * np.arange(count)
    # Edges whose faces agree come first: what has to disagree somewhere keeps the seam that it has.
    for relation in range(2):
        wanted = _DISAGREEING if relation == 1 else _AGREEING
        for edge in range(len(kind)):
            if kind[edge] == wanted:
                f, e = half_edges[start[edge]] // 3, half_edges[start[edge] + 1] // 3
                _join(parents, f, e, relation)
    patch, parity = np.empty(count, np.int64), np.empty(count, np.bool_)
    for f in range(count):
        root, odd = parity_root(parents, f)
        patch[f], parity[f] = root, odd == 1
    return patch, parity


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
