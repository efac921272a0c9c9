from __future__ import annotations

import numpy as np
import pytest

from tests.mesh.shapes import Triangles, cube, grid, sphere
from voxlume.mesh.parallel_rays import parallel_tracer
from voxlume.mesh.visibility import even_directions, igl_tracer


def _crumbs() -> Triangles:
    """Faces of all sizes in all places, slivers among them."""
    random = np.random.default_rng(1)
    middle, size = random.random((400, 1, 3)) - 0.5, 10.0 ** random.uniform(-3, -0.5, (400, 1, 1))
    vertices = middle + size * random.normal(size=(400, 3, 3))
    return vertices.reshape(-1, 3), np.arange(1200, dtype=np.int32).reshape(-1, 3)


@pytest.mark.parametrize(
    "shape", [cube(6), sphere(12), grid(4), _crumbs()], ids=["cube", "ball", "sheet", "crumbs"]
)
def test_the_same_rays_are_blocked_as_for_a_tree(shape: Triangles) -> None:
    random = np.random.default_rng(0)
    origins = 1.6 * (random.random((2000, 3)) - 0.5)
    fast, slow = parallel_tracer(*shape), igl_tracer(*shape)
    for direction in even_directions(6):
        rays = np.tile(direction, (len(origins), 1))
        found, expected = fast(origins, rays), slow(origins, rays)
        assert 0 < expected.sum() < len(expected)
        assert (found != expected).mean() <= 1e-3


def test_few_rays() -> None:
    tracer = parallel_tracer(*cube(2))
    assert not len(tracer(np.zeros((0, 3)), np.zeros((0, 3))))
    up = np.array([[0.0, 0.0, 1.0]])
    for height, expected in ((-2.0, True), (0.0, True), (2.0, False)):
        assert tracer(np.array([[0.1, 0.2, height]]), up).tolist() == [expected]
