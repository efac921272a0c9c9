"""From noise to a sample: Euler steps along the guided velocity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from voxlume.flow.forecast import Forecast, forecast_velocity
from voxlume.flow.guidance import Guidance, Velocity, guided_velocity
from voxlume.flow.schedule import SIGMA_MIN, clean_state, sampling_times
from voxlume.flow.state import State, values_of, with_values
from voxlume.progress import Progress, report

MOST_VOTES = 64
"""Samples that may decide on one result."""

MOST_TEMPERATURE = 4.0
"""Of the noise that a sample begins from; networks know nothing of more."""


@dataclass(frozen=True)
class SamplingParameters:
    """The parameters of one sampling run, under the names that model folders and users give them.

    Ours are ``votes``, so many samples are drawn and decide on one result together, ``mirrored``, every
    second of a structure's votes sees the pictures in a mirror (see :mod:`voxlume.pipelines.stages`), and
    ``temperature``, by which the noise is multiplied that a sample begins from: below 1 the sample stays
    nearer to what is likeliest (Kingma and Dhariwal, "Glow", 2018, section 6).
    """

    steps: int = 12
    rescale_t: float = 3.0
    guidance_strength: float = 7.5
    guidance_rescale: float = 0.5
    guidance_interval: tuple[float, float] = (0.6, 1.0)
    sigma_min: float = SIGMA_MIN
    votes: int = 1
    mirrored: bool = False
    temperature: float = 1.0

    @property
    def looks_in_mirror(self) -> bool:
        """Whether any vote does; the first, and so a sample alone, does not."""
        return self.mirrored and self.votes > 1

    @property
    def guidance(self) -> Guidance:
        low, high = self.guidance_interval
        return Guidance(self.guidance_strength, self.guidance_rescale, (low, high))


PUBLISHED_STRUCTURE = SamplingParameters(rescale_t=5.0, guidance_rescale=0.7)
PUBLISHED_SHAPE = SamplingParameters()
PUBLISHED_MATERIAL = SamplingParameters(
    guidance_strength=1.0, guidance_rescale=0.0, guidance_interval=(0.6, 0.9)
)
"""What the published model folder says for its three samplers."""


def sample(
    velocity: Velocity[State],
    noise: State,
    parameters: SamplingParameters,
    *,
    progress: Progress | None = None,
    what: str = "sampling",
    preview: Callable[[int, State], None] | None = None,
    forecast: Forecast | None = None,
) -> State:
    """Follow the velocity from noise at t = 1 to a sample at t = 0.

    Parameters
    ----------
    velocity : see :data:`voxlume.flow.guidance.Velocity`.
    noise : the state at t = 1, dense or sparse, of unit size.
    progress : called after every step, may stop the run.
    what : the phrase that ``progress`` shows.
    preview : called after every step with the number of steps done and the sample as it now promises to
        become, of the same kind as ``noise``.
    forecast : replace some evaluations of the network by extrapolation; None evaluates every step.

    Raises
    ------
    Cancelled : ``progress`` returned False.
    """
    times = sampling_times(parameters.steps, parameters.rescale_t)
    if forecast is not None:
        velocity = forecast_velocity(velocity, times, forecast)
    state, total = with_values(noise, parameters.temperature * values_of(noise)), parameters.steps
    report(progress, 0, total, what)
    for step, (t, t_next) in enumerate(pairwise(times), start=1):
        v = guided_velocity(velocity, state, t, parameters.guidance, parameters.sigma_min)
        x = values_of(state)
        if preview is not None:
            preview(step, with_values(state, clean_state(x, v, t, parameters.sigma_min)))
        state = with_values(state, x - (t - t_next) * v)
        report(progress, step, total, what)
    return state
