"""Classifier-free guidance with an interval and a rescaled spread.

Ho & Salimans, "Classifier-Free Diffusion Guidance"; the interval after Kynkäänniemi et al., "Applying
Guidance in a Limited Interval"; the rescale after Lin et al., "Common Diffusion Noise Schedules and Sample
Steps are Flawed".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from voxlume.flow.schedule import SIGMA_MIN, clean_state, velocity_towards
from voxlume.flow.state import State, std_per_sample, values_of

Velocity = Callable[[State, float, bool], Tensor]
"""``(state, t, conditional)`` -> velocity values; t in [0, 1], False asks for the unconditional one."""

TIME_TOLERANCE = 1e-6
"""How far a time may lie outside the interval and still count as its end."""


@dataclass(frozen=True)
class Guidance:
    """How strongly to follow the condition, and when.

    Attributes
    ----------
    strength : w in w * conditional + (1 - w) * unconditional; 1 needs no unconditional velocity.
    rescale : 0 .. 1, how far the spread of the guided x0 is brought back to the conditional one's.
    interval : the times, both ends included, at which guidance acts.
    """

    strength: float = 1.0
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def acts_at(self, t: float) -> bool:
        low, high = self.interval
        return self.strength != 1.0 and low - TIME_TOLERANCE <= t <= high + TIME_TOLERANCE


def guided_velocity(
    velocity: Velocity[State], state: State, t: float, guidance: Guidance, sigma_min: float = SIGMA_MIN
) -> Tensor:
    """The velocity values to follow at time ``t``, of the shape of the state's values."""
    conditional = velocity(state, t, True)
    if not guidance.acts_at(t):
        return conditional
    unconditional = velocity(state, t, False)
    guided = guidance.strength * conditional + (1 - guidance.strength) * unconditional
    if guidance.rescale == 0:
        return guided
    x_t = values_of(state)
    x0_conditional = clean_state(x_t, conditional, t, sigma_min)
    x0_guided = clean_state(x_t, guided, t, sigma_min)
    ratio = std_per_sample(state, x0_conditional) / std_per_sample(state, x0_guided)
    x0 = x0_guided * (guidance.rescale * ratio + (1 - guidance.rescale))
    return velocity_towards(x_t, x0, t, sigma_min)
