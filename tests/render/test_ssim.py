"""Structural similarity against a slow twin and what can be said without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from voxlume.render.ssim import ssim


def slow_ssim(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    """Channel by channel, in double precision, on the windows that lie inside the picture."""
    weights = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    weights /= weights.sum()

    def mean(x: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            x = correlate1d(x, weights, axis=axis)
        return x[5:-5, 5:-5]

    values = []
    for c in range(a.shape[2]):
        x, y = a[..., c].astype(np.float64), b[..., c].astype(np.float64)
        mx, my = mean(x), mean(y)
        vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        values.append((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_equals_the_slow_twin(data_range: float) -> None:
    rng = np.random.default_rng(0)
    a = rng.random((2, 30, 25, 3)).astype(np.float32) * data_range
    b = np.clip(a + rng.normal(0, 0.2, a.shape), 0, data_range).astype(np.float32)
    found = ssim(torch.from_numpy(a), torch.from_numpy(b), data_range=data_range)
    expected = [slow_ssim(x, y, data_range) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_equal_pictures_are_similar_and_others_less() -> None:
    picture = torch.rand((1, 32, 32, 1), generator=torch.Generator().manual_seed(0))
    assert float(ssim(picture, picture)) == pytest.approx(1, abs=1e-5)
    assert float(ssim(picture, 1 - picture)) < 0
    assert float(ssim(torch.zeros(1, 16, 16, 1), torch.zeros(1, 16, 16, 1))) == 1


def test_its_gradient_leads_to_the_other_picture() -> None:
    random = torch.Generator().manual_seed(1)
    goal = torch.rand((1, 16, 16, 3), generator=random)
    picture = torch.rand((1, 16, 16, 3), generator=random).requires_grad_()
    before = ssim(picture, goal)
    (gradient,) = torch.autograd.grad(before.sum(), picture)
    step = 1e-3 * gradient / gradient.norm()
    gained = ssim(picture.detach() + step, goal) - before.detach()
    assert float(gained) == pytest.approx(1e-3 * float(gradient.norm()), rel=0.1)


def test_half_precision_is_computed_in_single() -> None:
    picture = torch.rand((1, 16, 16, 3), generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        assert float(ssim(picture, picture * 0.9)) == pytest.approx(float(ssim(picture, picture * 0.9)))
        assert ssim(picture.bfloat16(), picture.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shapes", [((1, 16, 16, 3), (1, 16, 16, 1)), ((1, 10, 16, 3), (1, 10, 16, 3))])
def test_wrong_shapes_are_refused(shapes: tuple) -> None:
    with pytest.raises(ValueError, match="pictures"):
        ssim(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
