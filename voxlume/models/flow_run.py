"""A flow network on one set of tokens, recorded as CUDA graphs where launching its kernels dominates."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from voxlume.flow.state import State, values_of, with_values
from voxlume.models.flow_transformer import Condition, FlowTransformer, FlowTransformerConfig, TokenLayout

RECORDED_TOKENS = 6000
"""Up to this many tokens a CUDA graph saves more launching time than recording it costs."""

RECORDED_CALLS = 8
"""From so many calls of a condition on a recording that is not kept is worth its time: on an H200 that is 10
to 30 ms for each of the bundled model's flows, and a call that is not recorded takes some 5 ms longer."""

KEPT_VALUES = 1 << 20
"""Tokens times width up to which recordings are kept for the next run: they work in some 50 MB."""

_MOST_KEPT = 4  # sets of recordings of one network, as its grids come in few batch sizes


def records(device: torch.device, lengths: Sequence[int], calls: int, *, kept: bool = False) -> bool:
    """Whether a run on samples of so many tokens each, of so many calls of a condition, is recorded.

    ``kept``: what is recorded serves later runs too (:func:`keeps`).
    """
    # Samples of unlike lengths need a host-to-device copy, which no graph may hold.
    alike = device.type == "cuda" and len(set(lengths)) == 1
    return alike and sum(lengths) <= RECORDED_TOKENS and (kept or calls >= RECORDED_CALLS)


def keeps(config: FlowTransformerConfig, lengths: Sequence[int]) -> bool:
    """Whether recordings on these tokens are kept: dense grids are the same in every run."""
    return config.grid == "dense" and sum(lengths) * config.width <= KEPT_VALUES


class FlowRun:
    """Calls a flow network for one sampling run; call it like the network, with prepared conditions.

    Positions are computed here, once. With few tokens and many calls on CUDA the network is recorded the
    first time a condition is used and replayed afterwards. Used as a context, recordings of small dense grids
    are left to the next run of the same kind, and with them their memory; runs beside each other have their
    own. The network's weights must stay where they are meanwhile.
    """

    def __init__(self, network: FlowTransformer, places: Tensor | Any, calls: int = RECORDED_CALLS) -> None:
        """``places`` is any state on the run's places, usually the noise; ``calls`` are the most to expect of
        a condition."""
        self.network = network
        values = values_of(places)
        self._kind: _Kind = (values.device, *values.shape[:1], *values.shape[2:])
        left = self._take() if network.config.grid == "dense" else None
        self.layout = left.layout if left else network.token_layout(places)
        self._keeps = keeps(network.config, self.layout.lengths)
        self._recordings: Recordings | None = None
        if records(values.device, self.layout.lengths, calls, kept=self._keeps):
            self._recordings = left or Recordings(network, self.layout, self._keeps)

    def __enter__(self) -> FlowRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self._keeps and self._recordings is not None:
            sets = _idle.setdefault(self.network, [])
            sets.append((self._kind, self._recordings))
            del sets[:-_MOST_KEPT]
        self._recordings = None

    @torch.no_grad()
    def __call__(self, x: State, t_b: Tensor, condition: Condition) -> State:
        """The velocity at times 0 .. 1000; x on the run's places."""
        if self._recordings is None:
            return self.network(x, t_b, condition, self.layout)
        return with_values(x, self._recordings(self.network, x, t_b, condition))

    def _take(self) -> Recordings | None:
        """What an earlier run left, if the weights are still where they were."""
        sets = _idle.get(self.network, [])
        for item in reversed(sets):
            kind, recordings = item
            if kind == self._kind:
                sets.remove(item)
                if recordings.weights == _places_of_weights(self.network):
                    return recordings
        return None


def _places_of_weights(network: FlowTransformer) -> tuple[int, ...]:
    return tuple(parameter.data_ptr() for parameter in network.parameters())


class Recordings:
    """The recordings of a network on one token set, one for each condition.

    One after another they work in the same memory, as each result is copied before the next runs. They do not
    hold the network, which is theirs only as long as somebody else does.

    Attributes
    ----------
    weights : where the network's weights were.
    """

    def __init__(self, network: FlowTransformer, layout: TokenLayout, kept: bool) -> None:
        """``kept`` recordings read conditions from buffers of their own, which others can be copied to."""
        self.layout, self._kept = layout, kept
        self.weights = _places_of_weights(network)
        self._pool = torch.cuda.graph_pool_handle()
        self._of: dict[Condition, Recording] = {}
        self._buffers: dict[tuple[tuple[int, ...], bool], tuple[Condition, ref[Condition]]] = {}

    def __call__(self, network: FlowTransformer, x: State, t_b: Tensor, condition: Condition) -> Tensor:
        """The velocity's values."""
        if self._kept:
            condition = self._buffered(condition)
        if condition not in self._of:
            self._of[condition] = Recording(network, x, condition, self.layout, self._pool)
        return self._of[condition](values_of(x), t_b)

    def _buffered(self, condition: Condition) -> Condition:
        """A condition of our own with the same values, the same one for all that are alike in shape."""
        shape = condition.lengths, condition.keys_values is not None
        if shape in self._buffers:
            own, shown = self._buffers[shape]
            if shown() is not condition:
                for buffer, given in zip(_tensors_of(own), _tensors_of(condition), strict=True):
                    buffer.copy_(given)
        else:
            own = _copy_of(condition)
        self._buffers[shape] = own, ref(condition)
        return own


_Kind = tuple[torch.device | int, ...]
"""Of a dense grid: its device, batch and size."""

_idle: WeakKeyDictionary[FlowTransformer, list[tuple[_Kind, Recordings]]] = WeakKeyDictionary()
"""What runs have left, by the network; whoever goes on with it takes it away meanwhile."""


def _copy_of(condition: Condition) -> Condition:
    pairs = condition.keys_values
    copied = None if pairs is None else tuple((keys.clone(), values.clone()) for keys, values in pairs)
    return Condition(condition.tokens.clone(), condition.lengths, copied)


def _tensors_of(condition: Condition) -> list[Tensor]:
    return [condition.tokens, *(tensor for pair in condition.keys_values or () for tensor in pair)]


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
