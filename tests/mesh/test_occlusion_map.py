from __future__ import annotations

import numpy as np
import pytest

from tests.mesh.shapes import Triangles, grid, sphere
from voxlume.errors import Cancelled
from voxlume.mesh.occlusion_map import occlusion_map
from voxlume.mesh.soundness import vertex_normals
from voxlume.mesh.unwrap import Unwrapped, unwrap

SIZE = 64


def _mapped(shape: Triangles) -> tuple[np.ndarray, Unwrapped]:
    vertices, faces = shape
    cut = unwrap(vertices, faces, texture_size=SIZE)
    normals = vertex_normals(vertices, faces)[cut.vertex]
    return occlusion_map(vertices[cut.vertex], cut.faces, cut.uvs, normals, SIZE), cut


def test_nothing_covers_a_sphere() -> None:
    image, _ = _mapped(sphere(8))
    assert image.shape == (SIZE, SIZE, 1)
    # Flat faces with smooth normals: a ray or two along the surface may meet the face beside.
    assert image.min() >= 254
    assert (image == 255).mean() > 0.999


def test_the_foot_of_a_wall_sees_half_of_the_sky() -> None:
    """A floor with a high wall on one side: cosine-weighted, half of the sky near it, more farther off."""
    floor, faces = grid(8)
    wall = floor[:, [2, 1, 0]]  # stands on the line x = 0, facing +x or -x alike
    # Not welded, so that the normals at the foot are those of the floor.
    shape = np.concatenate([floor, wall]), np.concatenate([faces, faces + np.int32(len(floor))])
    image, cut = _mapped(shape)
    middle = shape[0][cut.vertex][cut.faces].mean(axis=1)
    at = (cut.uvs[cut.faces].mean(axis=1) * SIZE).astype(int)
    value = image[at[:, 1], at[:, 0], 0] / 255
    on_floor = (middle[:, 2] < 1e-6) & (np.abs(middle[:, 1] - 0.5) < 0.3)
    near, far = on_floor & (middle[:, 0] < 0.1), on_floor & (middle[:, 0] > 0.8)
    assert value[near].mean() == pytest.approx(0.55, abs=0.12)
    assert value[far].mean() > 0.8


def test_cancelling() -> None:
    vertices, faces = sphere(2)
    cut = unwrap(vertices, faces, texture_size=SIZE)
    normals = vertex_normals(vertices, faces)[cut.vertex]
    placed = vertices[cut.vertex]
    with pytest.raises(Cancelled):
        occlusion_map(placed, cut.faces, cut.uvs, normals, SIZE, progress=lambda done, total, what: done < 5)
