from __future__ import annotations

import numpy as np
import pytest

from voxlume.mesh.radix import float_keys, radix_order, stable_order

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    "keys",
    [
        RANDOM.integers(0, 2**63, 100_000, dtype=np.uint64) * np.uint64(2),
        RANDOM.integers(0, 50, 100_000).astype(np.int32),  # many equal ones
        RANDOM.integers(0, 2**52, 40_000),
        np.zeros(40_000, np.int64),
        np.arange(10)[::-1].copy(),
        np.zeros(1, np.int64),
    ],
)
def test_the_order_is_numpys(keys: np.ndarray) -> None:
    expected = np.argsort(keys, kind="stable")
    np.testing.assert_array_equal(radix_order(keys), expected)
    np.testing.assert_array_equal(stable_order(keys), expected)


def test_floats_as_integers_keep_their_order() -> None:
    values = np.concatenate([RANDOM.random(50_000) * 10.0 ** RANDOM.integers(-30, 30, 50_000), [0.0, np.inf]])
    values = values.astype(np.float32)
    np.testing.assert_array_equal(radix_order(float_keys(values)), np.argsort(values, kind="stable"))
