from __future__ import annotations

import numpy as np
import pytest

from tests.mesh.shapes import grid
from voxlume.asset import AlphaMode
from voxlume.mesh.alpha import CLEAR_MASS, alpha_mode_of, cut_outs, cut_outs_reference


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


def _pierced(holes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A square sheet with holes x holes square holes in its alpha, a quarter of its area in all."""
    vertices, faces = grid(240)
    inside = ((vertices[:, :2] * holes) % 1 > 0.25) & ((vertices[:, :2] * holes) % 1 < 0.75)
    return vertices, faces, np.where(inside.all(axis=1), 0.0, 1.0)


@pytest.mark.parametrize(("holes", "mode"), [(2, "BLEND"), (20, "MASK")])
def test_a_few_clear_panes_are_glass_and_many_holes_a_mask(holes: int, mode: AlphaMode) -> None:
    vertices, faces, alpha = _pierced(holes)
    cuts = cut_outs(100 * vertices, faces, alpha)
    assert cuts == pytest.approx(cut_outs_reference(100 * vertices, faces, alpha), rel=1e-12)
    assert holes**2 / 2 < cuts < holes**2 * 2
    assert alpha_mode_of(alpha, cuts=cuts) == mode


def test_no_hole_is_no_cut() -> None:
    vertices, faces, alpha = _pierced(2)
    assert cut_outs(vertices, faces, np.ones_like(alpha)) == 0
