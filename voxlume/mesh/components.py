"""Connected parts of a triangle mesh."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel


@inner_kernel
def find_root(parents: NDArray[np.int32], item: int) -> int:
    """Root of an item in a union-find forest; halves the path on the way."""
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = parents[item]
    return item


def face_components(faces: NDArray[np.int32], num_vertices: int) -> tuple[NDArray[np.int32], int]:
    """The component of each face int32 (m,), where faces that share a vertex are connected; their number.

    Components are numbered in the order of their first faces.
    """
    return _label_faces(np.ascontiguousarray(faces, np.int32), num_vertices)


@kernel
def _label_faces(faces: NDArray[np.int32], num_vertices: int) -> tuple[NDArray[np.int32], int]:
    parents = np.arange(num_vertices).astype(np.int32)
    for f in range(len(faces)):
        a = find_root(parents, faces[f, 0])
        for k in range(1, 3):
            b = find_root(parents, faces[f, k])
            if a != b:
                low, high = min(a, b), max(a, b)
                parents[high] = low
                a = low
    number = np.full(num_vertices, -1, np.int32)
    label = np.empty(len(faces), np.int32)
    count = 0
    for f in range(len(faces)):
        root = find_root(parents, faces[f, 0])
        if number[root] < 0:
            number[root] = count
            count += 1
        label[f] = number[root]
    return label, count
