"""Cutting polygons into triangles."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from voxlume.mesh.polygons import triangulate

RNG = np.random.default_rng(3)


def outline(points: list[tuple[float, float]]) -> NDArray[np.float64]:
    """A flat outline, tilted in space so that no axis is special."""
    u, v = np.array([2.0, 1, 0.5]), np.array([-0.3, 1, 2.0])
    u, v = u / np.linalg.norm(u), v - u * (v @ u) / (u @ u)
    v /= np.linalg.norm(v)
    return np.array(points) @ np.stack([u, v])


def cut(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """(t, 3, 3) triangles of one polygon over all vertices in order."""
    n = len(vertices)
    triangles = triangulate(vertices, np.arange(n, dtype=np.int32), np.array([0, n]))
    assert triangles.shape == (n - 2, 3)
    return vertices[triangles]


def areas(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]) / 2


ARROW = [(0, 0), (2, 2), (0, 1), (-2, 2)]
COMB = [(0, 0), (9, 0), (9, 3), (8, 3), (8, 1), (6, 1), (6, 3), (5, 3), (5, 1), (3, 1), (3, 3), (0, 3)]
STAR = [((1 + i % 2) * np.cos(i * np.pi / 20), (1 + i % 2) * np.sin(i * np.pi / 20)) for i in range(40)]
RING = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)]
SQUARE_WITH_POINT_ON_EDGE = [(0, 0), (1, 0), (2, 0), (2, 2), (0, 2)]


@pytest.mark.parametrize("points", [ARROW, COMB, STAR, RING, SQUARE_WITH_POINT_ON_EDGE])
@pytest.mark.parametrize("turn", [0, 1, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_concave_outlines_keep_their_area(
    points: list[tuple[float, float]], turn: int, reverse: bool
) -> None:
    points = points[::-1] if reverse else points
    x, y = np.array(points).T
    expected = abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    parts = areas(cut(outline(points[turn:] + points[:turn])))
    # No triangle is turned over, so the sum of sizes is the size of the sum only if none overlap.
    assert np.linalg.norm(parts.sum(0)) == pytest.approx(expected)
    assert np.linalg.norm(parts, axis=1).sum() == pytest.approx(expected)


def test_many_sizes_keep_order_and_winding() -> None:
    sizes = np.array([3, 4, 2, 0, 6, 3, 1, 5])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rings = [np.stack([np.cos(a), np.sin(a), np.full(len(a), i)], 1) for i, n in enumerate(sizes)
             if (a := np.arange(n) * 2 * np.pi / max(n, 1)) is not None]  # fmt: skip
    vertices = np.concatenate(rings)
    triangles = triangulate(vertices, np.arange(len(vertices), dtype=np.int32), starts)
    polygon = np.searchsorted(starts, triangles[:, 0], side="right") - 1
    assert np.bincount(polygon, minlength=8).tolist() == [1, 2, 0, 0, 4, 1, 0, 3]
    assert (np.diff(polygon) >= 0).all()
    assert (areas(vertices[triangles])[:, 2] > 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_nonsense_outlines_end(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cut(rng.random((60, 3)))
    cut(np.zeros((50, 3)))
    cut(rng.integers(0, 3, (80, 3)).astype(np.float64))
    cut(np.full((9, 3), np.nan))
