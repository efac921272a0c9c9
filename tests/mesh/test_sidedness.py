from __future__ import annotations

import numpy as np
import pytest

from tests.mesh.shapes import Triangles, cube, cylinder, grid, sphere
from voxlume.mesh.sidedness import needs_both_sides
from voxlume.mesh.visibility import embree_tracer, igl_tracer


def _cup() -> Triangles:
    """A cube whose top has a bowl pressed into it: closed, with a large hollow."""
    vertices, faces = cube(12)
    radius = np.hypot(vertices[:, 0], vertices[:, 1])
    top = (vertices[:, 2] > 0.49) & (radius < 0.4)
    vertices = vertices.copy()
    vertices[top, 2] -= 0.6 * (1 - (radius[top] / 0.4) ** 2)
    return vertices, faces


def _inside_out(shape: Triangles) -> Triangles:
    return shape[0], shape[1][:, ::-1]


def _without(shape: Triangles, share: float) -> Triangles:
    vertices, faces = shape
    return vertices, faces[vertices[faces].mean(axis=1)[:, 2] < 0.5 - share]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (cube(6), False),
        (sphere(12), False),
        (_cup(), False),
        (grid(4), True),
        (cylinder(24, 8), True),
        (_inside_out(sphere(12)), True),
        (_without(cube(6), 0.01), True),
        (_without(sphere(24), 0.05), True),
    ],
    ids=["cube", "sphere", "cup", "sheet", "tube", "inside out", "open box", "sphere with a hole"],
)
def test_open_surfaces_need_both_sides(shape: Triangles, expected: bool) -> None:
    for scale in (1.0, 1e6):
        assert needs_both_sides(scale * (shape[0] + 3), shape[1]) is expected
    pytest.importorskip("embreex")
    for tracer in (embree_tracer, igl_tracer):
        assert needs_both_sides(*shape, blocked=tracer(*shape)) is expected


def test_without_area_or_faces() -> None:
    vertices, faces = grid(2)
    assert needs_both_sides(vertices, faces[:0]) is False
    assert needs_both_sides(0 * vertices, faces) is True
