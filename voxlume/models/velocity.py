"""A flow network as the velocity that a sampler follows, with everything a run needs computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from voxlume.flow.guidance import Velocity
from voxlume.flow.state import State, values_of, with_values
from voxlume.models.flow_transformer import Condition, FlowTransformer
from voxlume.models.graph import GraphedFlow

GRAPH_TOKENS = 6000
"""Up to this many tokens a CUDA graph saves more launching time than recording it costs."""


def flow_velocity(
    network: FlowTransformer,
    places: State,
    condition: Tensor | Sequence[Tensor],
    fixed: Tensor | None = None,
) -> Velocity[State]:
    """The velocity of one sampling run.

    Token positions, the condition's keys and values and, with few tokens on CUDA, a recording of the
    network are made here or on first use and live as long as the returned function: nothing is shared
    between runs. The network's weights must stay where they are meanwhile.

    Parameters
    ----------
    network : in inference mode, on the device of ``places``.
    places : any state on the run's places, usually the noise.
    condition : image tokens (b, m, c), or one (m_i, c) per sample. The unconditional input is zeros.
    fixed : channels (n, c') that do not flow, put after the state's own in every step: the normalised
        shape latent, for the material network. For sparse states.
    """
    samples = len(condition)
    layout = network.token_layout(places)
    conditions: dict[bool, Condition] = {}
    graphs: dict[bool, GraphedFlow] = {}
    equal_lengths = len(set(layout.lengths)) == 1
    graphed = values_of(places).is_cuda and equal_lengths and sum(layout.lengths) <= GRAPH_TOKENS

    @torch.no_grad()
    def velocity(state: State, t: float, conditional: bool) -> Tensor:
        values = values_of(state)
        x = with_values(state, values if fixed is None else torch.cat([values, fixed], dim=1))
        times = torch.full((samples,), 1000 * t, device=values.device)
        if conditional not in conditions:
            prepared = (
                network.prepare_condition(condition) if conditional else network.null_condition(samples)
            )
            conditions[conditional] = prepared
            if graphed:
                graphs[conditional] = GraphedFlow(network, x, prepared, layout)
        if graphed:
            # The recording writes every result to the same place.
            return values_of(graphs[conditional](x, times)).clone()
        return values_of(network(x, times, conditions[conditional], layout))

    return velocity
