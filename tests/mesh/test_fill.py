from __future__ import annotations

import numpy as np
import pytest

from voxlume.mesh.fill import fill_gaps, fill_gaps_reference


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (16, 16), (33, 20)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_kernel_equals_its_twin(shape: tuple[int, int], share: float) -> None:
    random = np.random.default_rng(3)
    image = random.integers(0, 256, (*shape, 4), np.uint8)
    covered = random.random(shape) < share
    filled = image.copy()
    fill_gaps(filled, covered)
    np.testing.assert_array_equal(filled, fill_gaps_reference(image, covered))
    np.testing.assert_array_equal(filled[covered], image[covered])


def test_gaps_take_what_is_around_them() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    covered = np.zeros((32, 32), bool)
    image[4:8, 4:8], covered[4:8, 4:8] = (200, 10, 30), True
    fill_gaps(image, covered)
    assert (image == (200, 10, 30)).all()
