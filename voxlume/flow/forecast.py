"""Training-free acceleration: extrapolate the velocity on some steps instead of evaluating the network.

Along a well-trained rectified flow the velocity changes slowly, so on every other step a straight line
through its last two evaluated values replaces the network (first-order Taylor forecasting, as Liu et al.,
"From Reusing to Forecasting: Accelerating Diffusion Models with TaylorSeers", do with features). The
result differs from the full run; nothing uses it unless asked to.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from voxlume.flow.guidance import Velocity
from voxlume.flow.state import State


@dataclass(frozen=True)
class Forecast:
    """Which steps to evaluate.

    Attributes
    ----------
    first : how many steps at the beginning are always evaluated; they decide the large forms.
    interval : after those, every ``interval``-th step is evaluated, and the last one.
    """

    first: int = 4
    interval: int = 2

    def evaluates(self, step: int, steps: int) -> bool:
        return step < self.first or (step - self.first + 1) % self.interval == 0 or step == steps - 1


def forecast_velocity(velocity: Velocity[State], times: list[float], forecast: Forecast) -> Velocity[State]:
    """A velocity that evaluates ``velocity`` on some of the steps and extrapolates on the others.

    The conditional and the unconditional velocity are forecast apart, so guidance may begin or end
    anywhere. The result belongs to one run over ``times``.
    """
    step_of = {t: step for step, t in enumerate(times)}
    steps = len(times) - 1
    history: dict[bool, list[tuple[float, Tensor]]] = {True: [], False: []}

    def forecasting(state: State, t: float, conditional: bool) -> Tensor:
        known: list[tuple[float, Tensor]] = history[conditional]
        if len(known) == 2 and not forecast.evaluates(step_of[t], steps):
            (t_a, v_a), (t_b, v_b) = known
            return v_b + (t - t_b) / (t_b - t_a) * (v_b - v_a)
        v = velocity(state, t, conditional)
        history[conditional] = [*known[-1:], (t, v)]
        return v

    return forecasting
