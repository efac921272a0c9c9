from __future__ import annotations

import numpy as np
import pytest

from voxlume.asset import AlphaMode
from voxlume.mesh.alpha import CLEAR_MASS, alpha_mode_of


def _values(*parts: tuple[float, float]) -> np.ndarray:
    """So much of 10,000 points with such an alpha; the rest is opaque."""
    values = np.ones(10_000)
    start = 0
    for share, alpha in parts:
        values[start : start + round(share * 10_000)] = alpha
        start += round(share * 10_000)
    return values


@pytest.mark.parametrize(
    ("parts", "mode"),
    [
        ([], "OPAQUE"),
        ([(0.5, 0.97)], "OPAQUE"),  # a network's noise
        ([(CLEAR_MASS / 2, 0.0)], "OPAQUE"),
        ([(CLEAR_MASS / 2, 0.4)], "OPAQUE"),
        ([(0.05, 0.3)], "BLEND"),  # a window
        ([(1.0, 0.5)], "BLEND"),
        ([(0.4, 0.0)], "MASK"),  # leaves
        ([(0.4, 0.0), (0.05, 0.5)], "MASK"),  # with soft borders
        ([(0.2, 0.0), (0.2, 0.5)], "BLEND"),
    ],
)
def test_distribution_decides(parts: list[tuple[float, float]], mode: AlphaMode) -> None:
    assert alpha_mode_of(_values(*parts)) == mode


def test_area_counts_not_the_number_of_points() -> None:
    alpha = np.concatenate([np.full(900, 0.3), np.ones(100)])
    assert alpha_mode_of(alpha) == "BLEND"
    assert alpha_mode_of(alpha, np.concatenate([np.full(900, 1e-8), np.ones(100)])) == "OPAQUE"


def test_nothing_is_opaque() -> None:
    assert alpha_mode_of(np.empty(0)) == "OPAQUE"
