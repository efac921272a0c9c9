"""Connected parts of a triangle mesh."""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel


@inner_kernel
def find_root(parents: NDArray[np.int32], item: int) -> int:
    """Root of an item in a union-find forest; halves the path on the way."""
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = parents[item]
    return item


def face_components(faces: NDArray[np.int32], num_vertices: int) -> tuple[NDArray[np.int32], int]:
    """The component of each face int32 (m,), where faces that share a vertex are connected; their number.

    Faces (m, k) may be triangles or other polygons. Components are numbered in the order of their first
    faces.
    """
    faces = np.ascontiguousarray(faces, np.int32)
    parents = np.arange(num_vertices, dtype=np.int32)
    parts = get_num_threads()
    crossing = _join_within(faces, np.arange(parts + 1) * num_vertices // parts, parents)
    _join_faces(faces, np.flatnonzero(crossing), parents)
    number, count = _number_roots(faces, parents)
    return _label_faces(faces, parents, number), count


@inner_kernel
def _join_corners(faces: NDArray[np.int32], f: int, parents: NDArray[np.int32]) -> None:
    a = find_root(parents, faces[f, 0])
    for k in range(1, faces.shape[1]):
        b = find_root(parents, faces[f, k])
        if a != b:
            a, b = min(a, b), max(a, b)
            parents[b] = a


@parallel_kernel
def _join_within(
    faces: NDArray[np.int32], bounds: NDArray[np.int64], parents: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Join the faces whose vertices all lie in one of the ranges between ``bounds``; which ones do not.

    Meshes mostly come in an order in which neighbours are near each other. Each thread has a range of its
    own, of the vertices and of the forest.
    """
    crossing = np.empty(len(faces), np.bool_)
    home = np.empty(len(faces), np.int16)
    for f in prange(len(faces)):
        low = high = faces[f, 0]
        for k in range(1, faces.shape[1]):
            low, high = min(low, faces[f, k]), max(high, faces[f, k])
        part = np.searchsorted(bounds, low, side="right") - 1
        crossing[f] = high >= bounds[part + 1]
        home[f] = -1 if crossing[f] else part
    for part in prange(len(bounds) - 1):
        for f in range(len(faces)):
            if home[f] == part:
                _join_corners(faces, f, parents)
    return crossing


@kernel
def _join_faces(faces: NDArray[np.int32], chosen: NDArray[np.int64], parents: NDArray[np.int32]) -> None:
    for f in chosen:
        _join_corners(faces, f, parents)


@kernel
def _number_roots(faces: NDArray[np.int32], parents: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    """Let every vertex point at its root, and number the roots by the first faces of their components."""
    for v in range(len(parents)):  # roots are the smallest of their components
        parents[v] = parents[parents[v]]
    number = np.full(len(parents), -1, np.int32)
    count = 0
    for f in range(len(faces)):
        root = parents[faces[f, 0]]
        if number[root] < 0:
            number[root] = count
            count += 1
    return number, count


@parallel_kernel
def _label_faces(
    faces: NDArray[np.int32], parents: NDArray[np.int32], number: NDArray[np.int32]
) -> NDArray[np.int32]:
    label = np.empty(len(faces), np.int32)
    for f in prange(len(faces)):
        label[f] = number[parents[faces[f, 0]]]
    return label
