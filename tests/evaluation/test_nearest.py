"""The nearest point of a mesh: the tree against every triangle, and against libigl."""

from __future__ import annotations

import numpy as np
import pytest

from tests.render.shapes import sphere
from voxlume.evaluation.nearest import NearestTree, nearest_reference


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 37, 300])
def test_twin(count: int) -> None:
    rng = np.random.default_rng(count)
    triangles = rng.normal(size=(count, 1, 3)) + rng.normal(size=(count, 3, 3)) * rng.uniform(
        0.01, 1, (count, 1, 1)
    )
    points = 1.5 * rng.normal(size=(200, 3))
    found, expected = NearestTree(triangles).query(points), nearest_reference(triangles, points)
    np.testing.assert_allclose(found.distance, expected.distance, atol=1e-12)
    np.testing.assert_array_equal(found.triangle, expected.triangle)
    np.testing.assert_allclose(found.barycentric, expected.barycentric, atol=1e-9)
    on_it = np.einsum("nk,nkc->nc", found.barycentric, triangles[found.triangle])
    np.testing.assert_allclose(np.linalg.norm(on_it - points, axis=1), found.distance, atol=1e-12)


def test_needles_planes_and_copies() -> None:
    """Shapes that trees of boxes do not like."""
    rng = np.random.default_rng(0)
    flat = rng.uniform(size=(100, 3, 3)) * [1, 1, 0]
    needles = np.repeat(rng.uniform(size=(50, 1, 3)), 3, axis=1) + rng.normal(size=(50, 3, 3)) * [1e-3, 10, 0]
    copies = np.repeat(rng.uniform(size=(1, 3, 3)), 60, axis=0)
    points = rng.normal(size=(100, 3))
    for triangles in (flat, needles, copies, np.concatenate([flat, needles, copies])):
        found, expected = NearestTree(triangles).query(points), nearest_reference(triangles, points)
        np.testing.assert_allclose(found.distance, expected.distance, atol=1e-9)


def test_against_libigl() -> None:
    igl = pytest.importorskip("igl")
    mesh = sphere(48)
    faces = mesh.faces.astype(np.int64)
    area = np.linalg.norm(
        np.cross(*(mesh.vertices[faces[:, i]] - mesh.vertices[faces[:, 0]] for i in (1, 2))), axis=1
    )
    faces = faces[area > 0]
    points = np.random.default_rng(1).normal(size=(3000, 3))
    squared, _, _ = igl.point_mesh_squared_distance(points, mesh.vertices, faces)
    found = NearestTree(mesh.vertices[faces]).query(points)
    np.testing.assert_allclose(found.distance, np.sqrt(squared), atol=1e-12)


def test_no_point() -> None:
    found = NearestTree(np.eye(3)[None]).query(np.zeros((0, 3)))
    assert found.barycentric.shape == (0, 3)
