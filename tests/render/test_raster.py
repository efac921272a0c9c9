"""The rasteriser against its slow twin, against rays, and against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from voxlume.render.raster import peel, rasterize, uv_clip_positions
from voxlume.render.raster_reference import rasterize_reference


def triangle_soup(seed: int, count: int = 60) -> tuple[NDArray, NDArray]:
    """Faces of all sizes around a camera at the origin: in view, outside, behind, through the near plane."""
    rng = np.random.default_rng(seed)
    centers = rng.normal((0, 0, 2), 1.5, (count, 1, 3))
    points = (centers + rng.normal(0, 1, (count, 3, 3)) * rng.choice([0.05, 0.5, 3], (count, 1, 1))).reshape(
        -1, 3
    )
    clip = np.stack([points[:, 0], points[:, 1], points[:, 2], points[:, 2]], axis=1)
    return clip, np.arange(3 * count).reshape(-1, 3)


def grid(n: int, seed: int) -> tuple[NDArray, NDArray]:
    """A jittered triangulated grid over more than the picture, some vertices exactly on pixel centres."""
    rng = np.random.default_rng(seed)
    steps = np.linspace(-1.25, 1.25, n)
    x, y = np.meshgrid(steps, steps)
    xy = np.stack([x, y], -1)
    xy[1:-1, 1:-1] += rng.uniform(-0.3, 0.3, (n - 2, n - 2, 2)) * (steps[1] - steps[0])
    xy[::3] = np.round(xy[::3] * 16) / 16 + 1 / 32
    vertices = np.concatenate([xy.reshape(-1, 2), np.zeros((n * n, 1)), np.ones((n * n, 1))], 1)
    index = np.arange(n * n).reshape(n, n)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return vertices, np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    )


@pytest.mark.parametrize("seed", range(6))
def test_equals_its_twin(seed: int) -> None:
    clip, faces = triangle_soup(seed)
    fast = rasterize(clip, faces, 37, 53, near=0.05)
    slow = rasterize_reference(clip, faces, 37, 53, near=0.05)
    np.testing.assert_array_equal(fast.face_index, slow.face_index)
    np.testing.assert_allclose(fast.depth, slow.depth, rtol=1e-5)
    np.testing.assert_allclose(fast.barycentric, slow.barycentric, atol=1e-5)
    assert (fast.face_index >= 0).mean() > 0.3


def test_layers_equal_those_of_the_twin() -> None:
    clip, faces = triangle_soup(11)
    limit = np.full((32, 32), 3.0, np.float32)
    layers = peel(clip, faces, 32, 32, 5, near=0.05, before=limit)
    assert len(layers) == 5
    previous = None
    for layer in layers:
        previous = rasterize_reference(clip, faces, 32, 32, near=0.05, beyond=previous, before=limit)
        np.testing.assert_array_equal(layer.face_index, previous.face_index)
        assert (layer.depth[layer.face_index >= 0] < 3).all()


def test_peeling_ends_and_finds_coincident_faces_once_each() -> None:
    clip, _ = uv_clip_positions(np.array([[-1.0, -1], [3, -1], [-1, 3]])), None
    faces = np.tile(np.arange(3), (4, 1))
    layers = peel(clip, faces, 4, 4, 10)
    assert [int(layer.face_index[1, 1]) for layer in layers] == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(4))
def test_shared_edges_are_covered_exactly_once(seed: int) -> None:
    clip, faces = grid(13, seed)
    times = np.zeros((32, 32), int)
    for layer in peel(clip, faces, 32, 32, 5):
        times += layer.face_index >= 0
    assert (times == 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_clipped_faces_meet_without_gap_or_overlap(seed: int) -> None:
    """A floor below the camera that reaches behind it and far beyond the guard band."""
    plan, faces = grid(9, seed)
    x, z = plan[:, 0] * 4000, plan[:, 1] * 4000
    clip = np.stack([x, np.full_like(x, -0.3), z, z], axis=1)
    layers = peel(clip, faces, 48, 48, 4, near=1e-4)
    times = sum((layer.face_index >= 0).astype(int) for layer in layers)
    assert (times[25:] == 1).all()
    assert (times[:24] == 0).all()
    row = np.arange(30, 48)
    expected = 0.3 / ((2 * row + 1) / 48 - 1)
    np.testing.assert_allclose(layers[0].depth[row, 10], expected, rtol=1e-6)


def test_interpolation_is_perspective_correct() -> None:
    """A strip that runs away from the camera: barycentrics give back the point the pixel looks at."""
    points = np.array([[-1.0, -1, 1], [1, -1, 1], [1, 3, 9], [-1, 3, 9]])
    clip = np.concatenate([points, points[:, 2:]], axis=1)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    seen = rasterize(clip, faces, 64, 64)
    shown = seen.face_index >= 0
    hit = np.einsum("nk,nkc->nc", seen.barycentric[shown], points[faces[seen.face_index[shown]]])
    row, column = np.nonzero(shown)
    np.testing.assert_allclose(hit[:, 0] / hit[:, 2], (2 * column + 1) / 64 - 1, atol=1e-6)
    np.testing.assert_allclose(hit[:, 1] / hit[:, 2], 1 - (2 * row + 1) / 64, atol=1e-6)
    np.testing.assert_allclose(seen.depth[shown], hit[:, 2], rtol=1e-5)
    assert shown.sum() > 1000


def test_uv_space_has_row_zero_at_v_zero() -> None:
    uv = np.array([[0.0, 0], [0.5, 0], [0.5, 0.25], [0, 0.25]])
    seen = rasterize(uv_clip_positions(uv), np.array([[0, 1, 2], [0, 2, 3]]), 8, 8)
    expected = np.zeros((8, 8), bool)
    expected[:2, :4] = True
    np.testing.assert_array_equal(seen.face_index >= 0, expected)


def test_unusable_faces_draw_nothing() -> None:
    clip = np.array(
        [[0, 0, 0, 1], [1, 1, 0, 1], [2, 2, 0, 1], [np.nan, 0, 0, 1], [np.inf, 1, 0, 1], [0, 1, 0, 1.0]]
    )
    seen = rasterize(clip, np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4], [0, 0, 5]]), 16, 16)
    assert (seen.face_index == -1).all()
    assert np.isinf(seen.depth).all()
    assert rasterize(clip, np.zeros((0, 3), np.int32), 3, 5).face_index.shape == (3, 5)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="does not exist"):
        rasterize(np.zeros((2, 4)), np.array([[0, 1, 2]]), 4, 4)
    with pytest.raises(ValueError, match="not within"):
        rasterize(np.zeros((3, 4)), np.array([[0, 1, 2]]), 0, 4)
