from __future__ import annotations

import math

import numpy as np
import pytest

from tests.mesh.shapes import Triangles, cube, cylinder, grid, sphere
from tests.mesh.uv_checks import chart_labels, overlapping_samples, own_texels_share
from voxlume.errors import AssetError, Cancelled
from voxlume.mesh.charts import MAX_SMALL_TILT
from voxlume.mesh.unwrap import Unwrapped, unwrap


def soup(count: int) -> Triangles:
    """Random triangles between few points: edges of many faces, every winding, some without area."""
    random = np.random.default_rng(count)
    faces = random.integers(0, count // 8, (count, 3)).astype(np.int32)
    return random.random((count // 8, 3)), faces


def crumpled(n: int) -> Triangles:
    """A sphere with noise: folds, slivers, normals of all directions."""
    vertices, faces = sphere(n)
    return vertices + np.random.default_rng(n).normal(0, 0.6 / n, vertices.shape), faces


def helix(n: int) -> Triangles:
    """A ramp of three turns: flat everywhere, yet its projection along the axis covers itself."""
    vertices, faces = grid(n, 4)
    angle, radius = 6 * np.pi * vertices[:, 0], 0.3 + 0.7 * vertices[:, 1]
    turned = [radius * np.cos(angle), radius * np.sin(angle), 0.3 * angle / (2 * np.pi)]
    return np.stack(turned, axis=1), faces


def fan(n: int) -> Triangles:
    """One vertex of n faces."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    rim = np.stack([np.cos(angle), np.sin(angle), 0.2 * np.cos(9 * angle)], axis=1)
    i = np.arange(n)
    faces = np.stack([np.full(n, n), i, (i + 1) % n], axis=1).astype(np.int32)
    return np.concatenate([rim, np.zeros((1, 3))]), faces


def loose(n: int) -> Triangles:
    """Triangles that share nothing, of sizes from 1 to 1e-4."""
    random = np.random.default_rng(n)
    size = 10.0 ** random.uniform(-4, 0, (n, 1, 1))
    corners = random.random((n, 1, 3)) + size * random.normal(size=(n, 3, 3))
    return corners.reshape(-1, 3), np.arange(3 * n, dtype=np.int32).reshape(-1, 3)


SHAPES = {
    "cube": cube(6),
    "sphere": sphere(10),
    "cylinder": cylinder(24, 10),
    "square": grid(4),
    "soup": soup(800),
    "crumpled": crumpled(10),
    "helix": helix(200),
    "ribbon": (grid(60, 2)[0] * [30, 1, 1], grid(60, 2)[1]),
    "fan": fan(500),
    "loose": loose(300),
    "triangle": (np.eye(3), np.array([[0, 1, 2]], np.int32)),
    "point": (np.zeros((3, 3)), np.array([[0, 1, 2]], np.int32)),
}


def _corners(shape: Triangles, cut: Unwrapped) -> tuple[np.ndarray, np.ndarray]:
    """Corners in space (m, 3, 3) and in the plane (m, 3, 2), the latter up to scale."""
    return shape[0][cut.vertex][cut.faces], cut.uvs.astype(np.float64)[cut.faces]


@pytest.mark.parametrize("name", SHAPES)
def test_charts_do_not_overlap_and_own_the_texels_that_look_up_needs(name: str) -> None:
    shape = SHAPES[name]
    cut = unwrap(*shape, texture_size=256)
    np.testing.assert_array_equal(cut.vertex[cut.faces], shape[1])
    assert cut.uvs.min() >= 0
    assert cut.uvs.max() <= 1
    overlapping, inside = overlapping_samples(cut.uvs, cut.faces, 1024)
    assert overlapping == 0
    if name != "point":
        assert inside > 0
        assert own_texels_share(cut.uvs, cut.faces, cut.chart, 256, samples=20_000) == 1


@pytest.mark.parametrize("name", ["cube", "sphere", "cylinder", "crumpled", "helix", "fan", "soup"])
def test_stretch_is_bounded_and_nothing_is_mirrored(name: str) -> None:
    """Singular values of each face's map to the plane, relative to its chart's own scale."""
    shape = SHAPES[name]
    cut = unwrap(*shape, texture_size=512)
    space, plane = _corners(shape, cut)
    u, v = space[:, 1] - space[:, 0], space[:, 2] - space[:, 0]
    area = np.linalg.norm(np.cross(u, v), axis=1)
    sound = area > 1e-9 * area.max()
    x = np.linalg.norm(u, axis=1)[sound]
    unit = u[sound] / x[:, None]
    along = np.einsum("nc,nc->n", v[sound], unit)
    across = np.linalg.norm(v[sound] - along[:, None] * unit, axis=1)
    local = np.stack([np.stack([x, along], 1), np.stack([np.zeros_like(x), across], 1)], 1)
    edges = np.stack([plane[:, 1] - plane[:, 0], plane[:, 2] - plane[:, 0]], axis=2)[sound]
    jacobian = edges @ np.linalg.inv(local)
    # Seen from outside, with v downwards, a face that is not mirrored runs clockwise in the plane.
    assert (np.linalg.det(jacobian) < 1e-12).all()
    large, small = np.linalg.svd(jacobian, compute_uv=False).T
    # One direction of a projected face keeps its length, up to the chart's scale of 2 at most.
    assert large.max() <= 2.05 * np.median(large)
    assert (small >= 0.95 * math.cos(MAX_SMALL_TILT) * large).all()


def test_density_is_even() -> None:
    """Every large chart gets the texels that its area in space deserves."""
    shape = SHAPES["sphere"]
    cut = unwrap(*shape, texture_size=512)
    space, plane = _corners(shape, cut)
    area = np.linalg.norm(np.cross(space[:, 1] - space[:, 0], space[:, 2] - space[:, 0]), axis=1)
    a, b = plane[:, 1] - plane[:, 0], plane[:, 2] - plane[:, 0]
    texels = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    density = np.bincount(cut.chart, texels) / np.bincount(cut.chart, area)
    np.testing.assert_allclose(density, density.mean(), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "least"), [("square", 0.9), ("ribbon", 0.7), ("cube", 0.6), ("sphere", 0.5), ("crumpled", 0.3)]
)
def test_texture_is_filled(name: str, least: float) -> None:
    cut = unwrap(*SHAPES[name], texture_size=512)
    assert overlapping_samples(cut.uvs, cut.faces, 1024)[1] / 1024**2 >= least


def test_a_smooth_surface_has_few_charts() -> None:
    for name, most in (("square", 1), ("cube", 6), ("sphere", 16)):
        assert unwrap(*SHAPES[name], texture_size=256).num_charts <= most


def test_charts_hang_together() -> None:
    cut = unwrap(*SHAPES["crumpled"], texture_size=256)
    label = chart_labels(cut.uvs, cut.faces)
    assert label.max() == cut.chart.max()
    assert len(np.unique(np.stack([label, cut.chart]), axis=1).T) == cut.num_charts


def test_frame_and_order_of_magnitude_do_not_matter() -> None:
    vertices, faces = SHAPES["sphere"]
    near = unwrap(vertices, faces, texture_size=256)
    for other in (1e6 + 1e-3 * vertices, 1e-7 * vertices, 1e30 * vertices):
        far = unwrap(other, faces, texture_size=256)
        assert abs(far.num_charts - near.num_charts) <= 2
        assert overlapping_samples(far.uvs, far.faces, 1024)[0] == 0


def test_same_input_same_bytes() -> None:
    first, second = (unwrap(*SHAPES["crumpled"], texture_size=256) for _ in range(2))
    assert first.uvs.tobytes() == second.uvs.tobytes()
    assert first.faces.tobytes() == second.faces.tobytes()


def test_bad_input_is_one_line() -> None:
    vertices, faces = SHAPES["cube"]
    with pytest.raises(AssetError, match="no triangle"):
        unwrap(vertices, faces[:0])
    with pytest.raises(AssetError, match="does not exist"):
        unwrap(vertices, faces + len(vertices))
    with pytest.raises(AssetError, match="finite"):
        unwrap(np.where(vertices == vertices[0], np.nan, vertices), faces)
    with pytest.raises(AssetError, match="from 64 to 8192"):
        unwrap(vertices, faces, texture_size=32)
    with pytest.raises(AssetError, match="do not fit"):
        unwrap(*loose(20_000), texture_size=64)
    with pytest.raises(Cancelled):
        unwrap(vertices, faces, progress=lambda done, total, what: False)
