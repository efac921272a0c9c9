"""Connected parts of a mesh, found by ranges of vertices on all cores."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from voxlume.mesh.components import face_components


def _expected(faces: NDArray[np.int32], num_vertices: int) -> NDArray[np.int64]:
    """Labels by SciPy, numbered in the order of their first faces."""
    a, b = faces[:, :-1].reshape(-1), faces[:, 1:].reshape(-1)
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(num_vertices, num_vertices))
    label = connected_components(graph, directed=False)[1][faces[:, 0]]
    _, first, number = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


@pytest.mark.parametrize("spread", [2, 50, 3000])
@pytest.mark.parametrize("corners", [3, 4])
def test_same_as_scipy_however_far_apart_the_corners_are(corners: int, spread: int) -> None:
    random = np.random.default_rng(spread)
    middle = random.integers(0, 3000, 1200)
    faces = (middle[:, None] + random.integers(0, spread, (1200, corners))) % 3000
    faces = faces.astype(np.int32)
    label, count = face_components(faces, 3000)
    expected = _expected(faces, 3000)
    np.testing.assert_array_equal(label, expected)
    assert count == expected.max() + 1


def test_fewer_vertices_than_cores_and_no_face() -> None:
    label, count = face_components(np.array([[0, 1, 2]], np.int32), 3)
    assert label.tolist() == [0]
    assert count == 1
    label, count = face_components(np.empty((0, 3), np.int32), 0)
    assert len(label) == count == 0
