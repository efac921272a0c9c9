"""Schedule, guidance, noise, sampler and forecast, on flows whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from voxlume.errors import Cancelled
from voxlume.flow.forecast import Forecast
from voxlume.flow.guidance import Guidance, guided_velocity
from voxlume.flow.sampler import (
    PUBLISHED_MATERIAL,
    PUBLISHED_SHAPE,
    PUBLISHED_STRUCTURE,
    SamplingParameters,
    sample,
)
from voxlume.flow.schedule import clean_state, noisy_state, sampling_times, velocity_target, velocity_towards
from voxlume.flow.state import gaussian_noise, noise_like, std_per_sample
from voxlume.sparse import SparseTensor

UNGUIDED = SamplingParameters(guidance_strength=1.0)


def sparse_state(lengths: tuple[int, ...] = (5, 3), channels: int = 4) -> SparseTensor:
    coords = [torch.stack([torch.arange(n)] * 3, 1) for n in lengths]
    return SparseTensor.from_samples([(c, torch.randn(len(c), channels)) for c in coords])


def test_times_are_exact_where_the_interval_ends() -> None:
    times = sampling_times(12, 3.0)
    assert (times[0], times[-1], len(times)) == (1.0, 0.0, 13)
    assert times[8] == pytest.approx(0.6, abs=1e-15)
    assert times[3] == pytest.approx(0.9, abs=1e-15)
    assert sampling_times(4, 1.0) == [1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(ValueError, match="steps"):
        sampling_times(0, 1.0)


def test_both_ends_of_the_interval_count() -> None:
    guidance = Guidance(strength=2.0, interval=(0.6, 0.9))
    inside = [guidance.acts_at(t) for t in sampling_times(12, 3.0)]
    assert inside == [3 <= step <= 8 for step in range(13)]
    assert not Guidance(strength=1.0).acts_at(0.5)


def test_states_and_velocities_agree() -> None:
    x0, noise = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    x_t, v = noisy_state(x0, noise, 0.3, 1e-5), velocity_target(x0, noise, 1e-5)
    assert torch.allclose(clean_state(x_t, v, 0.3, 1e-5), x0)
    assert torch.allclose(velocity_towards(x_t, x0, 0.3, 1e-5), v)
    assert torch.allclose(x_t - (0.3 - 0.1) * v, noisy_state(x0, noise, 0.1, 1e-5))


def test_a_straight_flow_arrives_in_one_step() -> None:
    x0, noise = torch.randn(2, 3, 2, 2, 2), torch.randn(2, 3, 2, 2, 2)
    for steps in (1, 7):
        end = sample(
            lambda x, t, c: velocity_target(x0, noise), noise, SamplingParameters(steps, guidance_strength=1)
        )
        assert torch.allclose(end, x0, atol=1e-4)


def test_guidance_without_rescale_is_a_mixture() -> None:
    state, on, off = torch.randn(1, 2, 2, 2, 2), torch.randn(1, 2, 2, 2, 2), torch.randn(1, 2, 2, 2, 2)
    calls = []

    def velocity(x: Tensor, t: float, conditional: bool) -> Tensor:
        calls.append(conditional)
        return on if conditional else off

    v = guided_velocity(velocity, state, 0.7, Guidance(3.0, 0.0, (0.6, 1.0)))
    assert torch.allclose(v, 3 * on - 2 * off)
    assert torch.equal(guided_velocity(velocity, state, 0.5, Guidance(3.0, 0.0, (0.6, 1.0))), on)
    assert calls == [True, False, True]


@pytest.mark.parametrize("dense", [True, False])
def test_full_rescale_restores_the_spread_of_each_sample(dense: bool) -> None:
    state = torch.randn(2, 4, 3, 3, 3) if dense else sparse_state((40, 7))
    values = state if isinstance(state, Tensor) else state.features
    on, off = torch.randn_like(values), 5 * torch.randn_like(values)
    v = guided_velocity(lambda x, t, c: on if c else off, state, 0.8, Guidance(7.0, 1.0, (0.0, 1.0)))
    spread = [std_per_sample(state, clean_state(values, x, 0.8)) for x in (v, on)]
    assert torch.allclose(*spread, rtol=1e-4)


def test_spread_is_over_all_elements_of_a_sample() -> None:
    state = sparse_state((5, 3))
    stds = std_per_sample(state, state.features)
    first, second = state.samples()
    assert stds.shape == (8, 1)
    assert torch.allclose(stds[0], first[1].std())
    assert torch.allclose(stds[-1], second[1].std())


def test_noise_belongs_to_seed_and_sample() -> None:
    batch = noise_like(sparse_state((5, 3)), 6, [1, 2])
    alone = noise_like(sparse_state((3,)), 6, [2])
    assert torch.equal(batch.samples()[1][1], alone.features)
    dense = noise_like(torch.zeros(2, 1, 4, 4, 4), 8, [1, 2])
    assert dense.shape == (2, 8, 4, 4, 4)
    assert torch.equal(dense[1], noise_like(torch.zeros(1, 1, 4, 4, 4), 8, [2])[0])
    assert not torch.equal(gaussian_noise((9,), 1), gaussian_noise((9,), 1, stream=1))
    assert math.isclose(float(gaussian_noise((100_000,), 3).std()), 1.0, rel_tol=0.01)
    with pytest.raises(ValueError, match="1 seeds for 2 samples"):
        noise_like(torch.zeros(2, 1, 4, 4, 4), 8, [1])


def test_noise_of_a_seed_never_changes() -> None:
    assert gaussian_noise((20,), 42)[:3].tolist() == pytest.approx([1.9269, 1.4873, 0.9007], abs=1e-4)


def test_progress_preview_and_cancellation() -> None:
    seen, previews = [], []

    def progress(done: int, total: int, what: str) -> bool:
        seen.append((done, total, what))
        return done < 3

    x0, noise = torch.randn(1, 2, 2, 2, 2), torch.randn(1, 2, 2, 2, 2)
    with pytest.raises(Cancelled):
        sample(
            lambda x, t, c: velocity_target(x0, noise),
            noise,
            UNGUIDED,
            progress=progress,
            what="sampling structure",
            preview=lambda step, x: previews.append((step, x)),
        )
    assert seen == [(i, 12, "sampling structure") for i in range(4)]
    assert [step for step, _ in previews] == [1, 2, 3]
    assert torch.allclose(previews[0][1], x0, atol=1e-3)


def test_temperature_is_the_size_of_the_noise() -> None:
    """Where the velocity leads every noise to half of it, the sample is so much nearer to the middle."""

    def velocity(x: Tensor, t: float, conditional: bool) -> Tensor:
        return x / (1 + t)

    noise = torch.randn(1, 2, 2, 2, 2)
    warm, cool, none = (
        sample(velocity, noise, replace(UNGUIDED, temperature=size)) for size in (1.0, 0.8, 0.0)
    )
    assert torch.equal(warm, sample(velocity, noise, UNGUIDED))
    assert torch.allclose(cool, 0.8 * warm, atol=1e-6)
    assert float(cool.norm()) > 0.1
    assert not none.any()


def test_published_defaults() -> None:
    assert {p.temperature for p in (PUBLISHED_STRUCTURE, PUBLISHED_SHAPE, PUBLISHED_MATERIAL)} == {1.0}
    assert (PUBLISHED_STRUCTURE.rescale_t, PUBLISHED_STRUCTURE.guidance_rescale) == (5.0, 0.7)
    assert (PUBLISHED_SHAPE.guidance_strength, PUBLISHED_SHAPE.guidance_interval) == (7.5, (0.6, 1.0))
    assert (PUBLISHED_MATERIAL.guidance_strength, PUBLISHED_MATERIAL.guidance_interval) == (1.0, (0.6, 0.9))


# -- forecast --------------------------------------------------------------------------------------


def test_forecast_evaluates_fewer_steps_and_the_last() -> None:
    calls: list[tuple[float, bool]] = []

    def velocity(x: Tensor, t: float, conditional: bool) -> Tensor:
        calls.append((t, conditional))
        return (2.0 if conditional else 1.0) * (1 + t) * torch.ones_like(x)

    noise = torch.randn(1, 2, 2, 2, 2)
    parameters = SamplingParameters(guidance_rescale=0.0)
    full = sample(velocity, noise, parameters)
    evaluated = len(calls)
    calls.clear()
    forecast = sample(velocity, noise, parameters, forecast=Forecast(first=4, interval=2))
    assert (evaluated, len(calls)) == (12 + 9, 8 + 6)
    assert calls[-1][0] == sampling_times(12, 3.0)[11]
    # This velocity is a straight line in t, which extrapolation continues exactly.
    assert torch.allclose(forecast, full, atol=1e-5)


def test_forecast_of_a_curved_flow_is_close() -> None:
    """Towards a Gaussian target of spread 0.5 the exact velocity is known and curved."""

    def velocity(x: Tensor, t: float, conditional: bool) -> Tensor:
        variance = (1 - t) ** 2 * 0.25 + t**2
        return x * (t - (1 - t) * 0.25) / variance

    noise = torch.randn(1, 8, 4, 4, 4)
    full = sample(velocity, noise, UNGUIDED)
    quick = sample(velocity, noise, UNGUIDED, forecast=Forecast())
    coarse = sample(velocity, noise, SamplingParameters(8, guidance_strength=1.0))
    error = (quick - full).norm() / full.norm()
    assert error < 0.05
    assert error < (coarse - full).norm() / full.norm()  # better than as many plain steps
