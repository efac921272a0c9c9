"""What flows: a dense grid (b, c, x, y, z) or a sparse tensor with features (n, c), handled alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from voxlume.sparse.tensor import SparseTensor

State = TypeVar("State", Tensor, SparseTensor)


def values_of(state: Tensor | SparseTensor) -> Tensor:
    """The numbers of a state."""
    return state.features if isinstance(state, SparseTensor) else state


def with_values(state: State, values: Tensor) -> State:
    """A state of the same kind, on the same places, with other numbers."""
    return state.with_features(values) if isinstance(state, SparseTensor) else values


def std_per_sample(state: Tensor | SparseTensor, values: Tensor) -> Tensor:
    """Standard deviation of ``values`` over all elements of each sample, broadcastable to ``values``.

    ``values`` belong to the places of ``state``.
    """
    if not isinstance(state, SparseTensor):
        return values.flatten(1).std(dim=1).reshape(-1, *[1] * (values.ndim - 1))
    lengths = state.batch_lengths
    if len(lengths) == 1:
        return values.std()
    stds = torch.stack([sample.std() for sample in values.split(lengths)])
    return stds[state.coords[:, 0].long()].unsqueeze(1)


def gaussian_noise(shape: Sequence[int], seed: int, stream: int = 0) -> Tensor:
    """Standard normal float32 values of one sample, on the CPU: a seed means the same everywhere.

    ``stream`` gives the stages of one run (structure, shape, material) independent noise.
    """
    generator = torch.Generator("cpu").manual_seed((seed + 0x9E3779B97F4A7C15 * stream) % 2**63)
    return torch.randn(tuple(shape), generator=generator)


def noise_like(state: State, channels: int, seeds: Sequence[int], stream: int = 0) -> State:
    """Noise on the places of a state, each sample's from its own seed, on the state's device.

    A sample gets the same noise in every batch.

    Parameters
    ----------
    state : any state; only its places count (batch and grid, or coordinates).
    channels : c of the result.
    seeds : one per sample.
    """
    if isinstance(state, SparseTensor):
        lengths = state.batch_lengths
        drawn = [gaussian_noise((n, channels), s, stream) for n, s in zip(lengths, seeds, strict=True)]
        return state.with_features(torch.cat(drawn).to(state.device))
    shape = (channels, *state.shape[2:])
    if len(seeds) != len(state):
        raise ValueError(f"{len(seeds)} seeds for {len(state)} samples")
    return torch.stack([gaussian_noise(shape, seed, stream) for seed in seeds]).to(state.device)
