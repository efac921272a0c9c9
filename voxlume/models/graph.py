"""Replay a flow network as one CUDA graph: with few tokens, launching kernels takes longer than running."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from voxlume.flow.state import values_of, with_values
from voxlume.models.flow_transformer import Condition, FlowTransformer, State, TokenLayout


class GraphedFlow:
    """A flow network recorded for one set of tokens and one condition; call it like the network.

    The object owns everything the recording refers to. Weights must not move while it is in use, and
    every call returns the same buffer, overwritten by the next.
    """

    def __init__(
        self, network: FlowTransformer, x: State, condition: Condition, layout: TokenLayout | None = None
    ) -> None:
        values = values_of(x)
        self._layout = layout or network.token_layout(x)
        self._condition = condition
        self._x: Any = with_values(x, values.clone())
        self._t = torch.zeros(len(self._layout.lengths), device=values.device)
        with torch.no_grad(), torch.cuda.device(values.device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # kernels are compiled and buffers allocated outside the recording
                network(self._x, self._t, condition, self._layout)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._velocity = network(self._x, self._t, condition, self._layout)

    def __call__(self, x: State, t_b: Tensor) -> State:
        """The velocity at times 0 .. 1000; x on the recorded places."""
        values_of(self._x).copy_(values_of(x))
        self._t.copy_(t_b)
        self._graph.replay()
        return with_values(x, values_of(self._velocity))
