from __future__ import annotations

import math

import numpy as np
import pytest

from voxlume.mesh import packing
from voxlume.mesh.flatten import group
from voxlume.mesh.packing import pack


def rectangles(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Flat charts of two triangles each, (2 n, 3, 2), up to 3 times as high as wide, and their numbers."""
    random = np.random.default_rng(seed)
    width = 0.2 + random.random(count) ** 3
    height = width * random.uniform(1, 3, count)
    zero = np.zeros(count)
    corners = np.stack([zero, zero, width, zero, width, height, zero, height], axis=1).reshape(-1, 4, 2)
    flat = np.ascontiguousarray(corners[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 2))
    return flat, np.repeat(np.arange(count, dtype=np.int32), 2)


def packed(flat: np.ndarray, charts: np.ndarray, cells: int, gap: int) -> np.ndarray:
    return pack(flat, charts, *group(charts, int(charts.max()) + 1), cells, gap)


@pytest.mark.parametrize(("count", "cells"), [(7, 128), (60, 256), (1500, 512)])
def test_boxes_keep_their_gap_in_every_turn(count: int, cells: int) -> None:
    flat, charts = rectangles(count)
    placed = packed(flat, charts, cells, 2).reshape(count, -1, 2)
    low, high = placed.min(axis=1), placed.max(axis=1)
    assert low.min() >= 1
    assert high.max() <= cells - 1
    apart = np.maximum(low[:, None] - high, low - high[:, None]).max(axis=2)
    assert apart[~np.eye(count, dtype=bool)].min() >= 2
    # All alike, whether turned or not.
    sizes = np.sort(high - low) / np.sort(flat.reshape(count, -1, 2).max(axis=1))
    np.testing.assert_allclose(sizes, sizes[0, 0])


def test_many_charts_need_few_packings(monkeypatch: pytest.MonkeyPatch) -> None:
    place, tried = packing._place_charts, []

    def counted(*shapes: object) -> object:
        tried.append(place(*shapes))
        return tried[-1]

    monkeypatch.setattr(packing, "_place_charts", counted)
    for seed in range(3):
        tried.clear()
        flat, charts = rectangles(2000, seed)
        placed = packed(flat, charts, 512, 2)
        assert len(tried) <= 4
        low, high = placed.reshape(2000, -1, 2).min(axis=1), placed.reshape(2000, -1, 2).max(axis=1)
        # With the gap around them they take nearly all of the square.
        assert np.prod(high - low + 3, axis=1).sum() > 0.85 * 512**2


def test_one_chart_fills_the_square() -> None:
    flat = np.array([[[0.0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]])
    placed = packed(flat, np.zeros(2, np.int32), 256, 2)
    assert math.isclose(np.ptp(placed), 252, abs_tol=1)
