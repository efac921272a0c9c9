"""A flow network on one set of tokens, recorded as CUDA graphs where launching its kernels dominates."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor

from voxlume.flow.state import State, values_of, with_values
from voxlume.models.flow_transformer import Condition, FlowTransformer, TokenLayout

RECORDED_TOKENS = 6000
"""Up to this many tokens a CUDA graph saves more launching time than recording it costs."""

RECORDED_CALLS = 8
"""From so many calls of a condition on: recording the bundled model's flows takes 20 to 30 ms each on an
H200, a call of them that is not recorded some 4 ms longer."""


def records(device: torch.device, lengths: Sequence[int], calls: int) -> bool:
    """Whether a run on samples of so many tokens each, of so many calls of a condition, is recorded."""
    # Samples of unlike lengths need a host-to-device copy, which no graph may hold.
    alike = device.type == "cuda" and len(set(lengths)) == 1
    return alike and sum(lengths) <= RECORDED_TOKENS and calls >= RECORDED_CALLS


class FlowRun:
    """Calls a flow network for one sampling run; call it like the network, with prepared conditions.

    Positions are computed here, once. With few tokens and many calls on CUDA the network is recorded the
    first time a condition is used and replayed afterwards. All of it belongs to this object and goes with
    it: nothing is shared between runs. The network's weights must stay where they are meanwhile.
    """

    def __init__(self, network: FlowTransformer, places: Tensor | Any, calls: int = RECORDED_CALLS) -> None:
        """``places`` is any state on the run's places, usually the noise; ``calls`` are the most to expect of
        a condition."""
        self.network = network
        self.layout = network.token_layout(places)
        self._records = records(values_of(places).device, self.layout.lengths, calls)
        self._recordings: dict[Condition, Recording] = {}
        # One after another they can work in the same memory, as each result is copied before the next runs.
        self._pool = torch.cuda.graph_pool_handle() if self._records else None

    @torch.no_grad()
    def __call__(self, x: State, t_b: Tensor, condition: Condition) -> State:
        """The velocity at times 0 .. 1000; x on the run's places."""
        if not self._records:
            return self.network(x, t_b, condition, self.layout)
        if condition not in self._recordings:
            self._recordings[condition] = Recording(self.network, x, condition, self.layout, self._pool)
        return with_values(x, self._recordings[condition](values_of(x), t_b))


def with_two_blocks(network: FlowTransformer) -> FlowTransformer:
    """The network less its third and further blocks, weights shared: it launches all kinds of its kernels.

    One block would not do: what a block hands on is added in the next one.
    """
    short = copy(network)
    short._modules = {**network._modules, "blocks": network.blocks[:2]}
    return short


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream of a device for recording: cuBLAS keeps a work space for every stream it has met."""
    return torch.cuda.Stream(device)


class Recording:
    """A CUDA graph of one network, token set and condition, with the buffers it reads and writes.

    ``pool`` is the memory that it shares with others that never run at the same time.
    """

    def __init__(
        self, network: FlowTransformer, x: Tensor | Any, condition: Condition, layout: TokenLayout, pool: Any
    ) -> None:
        self._values = values_of(x).clone()
        self._t = torch.zeros(len(layout.lengths), device=self._values.device)
        static: Any = with_values(x, self._values)
        with torch.cuda.device(self._values.device):
            side = _recording_stream(self._values.device)
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # kernels are compiled and chosen outside the recording
                with_two_blocks(network)(static, self._t, condition, layout)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, stream=side):
                self._velocity = values_of(network(static, self._t, condition, layout))

    def __call__(self, values: Tensor, t_b: Tensor) -> Tensor:
        self._values.copy_(values)
        self._t.copy_(t_b)
        self._graph.replay()
        return self._velocity.clone()  # the next replay writes to the same place
