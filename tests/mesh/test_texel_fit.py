"""Texels fitted to what lies between them, against the solution of the whole system."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from voxlume.mesh.texel_fit import error_between, fit_texels

SIZE = 12


def bilinear_rows(size: int) -> NDArray[np.float64]:
    """(4 size^2, size^2) weights of the texels at the texel centres of an image twice as fine."""
    axis = np.zeros((2 * size, size))
    for fine in range(2 * size):
        at = (fine + 0.5) / 2 - 0.5
        low = int(np.floor(at))
        for texel, weight in ((low, 1 - at + low), (low + 1, at - low)):
            axis[fine, min(max(texel, 0), size - 1)] += weight
    return np.kron(axis, axis)


@pytest.fixture
def points() -> NDArray[np.uint8]:
    """A random pattern as fine as the texels, two channels."""
    return np.random.default_rng(0).integers(60, 200, (2 * SIZE, 2 * SIZE, 2), np.uint8)


def at_centers(points: NDArray[np.uint8]) -> NDArray[np.uint8]:
    blocks = points.reshape(SIZE, 2, SIZE, 2, -1).astype(float)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def test_nearly_the_least_squares(points: NDArray[np.uint8]) -> None:
    everywhere, known = np.ones((SIZE, SIZE), bool), np.ones((2 * SIZE, 2 * SIZE), bool)
    image = at_centers(points)
    rows, wanted = bilinear_rows(SIZE), points.reshape(-1, 2).astype(float)
    best = np.linalg.lstsq(rows, wanted, rcond=None)[0]

    def misfit(texels: NDArray) -> float:
        return float(((rows @ texels.reshape(-1, 2).astype(float) - wanted) ** 2).sum())

    fitted = fit_texels(image, everywhere, points, known)
    # Of what can be gained over the values at the centres, most is.
    assert misfit(image) - misfit(fitted) > 0.8 * (misfit(image) - misfit(best))


def test_a_constant_and_what_is_not_covered_stay(points: NDArray[np.uint8]) -> None:
    known = np.ones((2 * SIZE, 2 * SIZE), bool)
    covered = np.zeros((SIZE, SIZE), bool)
    covered[2:9, 3:11] = True
    image = at_centers(points)
    fitted = fit_texels(image, covered, points, known)
    np.testing.assert_array_equal(fitted[~covered], image[~covered])
    assert (fitted[covered] != image[covered]).mean() > 0.5
    # What lies in gaps or in no chart has no say.
    points[np.kron(~covered, np.ones((2, 2), bool))] = 0
    image[~covered] = 0
    points[np.kron(covered, np.ones((2, 2), bool))] = image[covered] = 77
    np.testing.assert_array_equal(fit_texels(image, covered, points, known), image)
    np.testing.assert_array_equal(fit_texels(image, ~covered, points, np.zeros_like(known)), image)


def test_the_error_between(points: NDArray[np.uint8]) -> None:
    everywhere, known = np.ones((SIZE, SIZE), bool), np.zeros((2 * SIZE, 2 * SIZE), bool)
    known[5:9] = True
    image = at_centers(points)
    wanted = points.reshape(-1, 2).astype(float)
    error = np.abs(bilinear_rows(SIZE) @ image.reshape(-1, 2) - wanted)[known.reshape(-1)].mean()
    assert error_between(image, everywhere, points, known) == pytest.approx(error, rel=1e-5)
    assert error_between(image, everywhere, points, np.zeros_like(known)) == 0
