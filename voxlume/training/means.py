"""Material VAEs that begin by telling the mean material of every latent cell.

With pooling, what is in a voxel's first channels can reach the latent, and come back from it, through the
shortcuts alone, if these copy some channels on. Fresh weights mix all channels at random instead, and the
branches soon bury so little under what they try: after a thousand steps such a VAE still knew colours hardly
better than one mean for the whole object (`benchmarks/notes/training.md`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxlume.errors import VoxlumeError
from voxlume.models.sc_vae import NearestUp, PoolingDown, ScVaeDecoder, ScVaeEncoder
from voxlume.ovoxel.grid import ATTRIBUTE_CHANNELS

CHANNELS = len(ATTRIBUTE_CHANNELS)
"""Of the material; they come first, then two that are constant."""

CONSTANT = 8.0
"""The two are plus and minus this much. They fix the deviation that the last norm divides by, and their mean
is what it has taken away: so the norm can be undone by the linear layer behind it."""

CARRIED = CHANNELS + 2

OTHERS = 0.1
"""Of their fresh size: the other channels at the beginning, so that the norms hardly notice them."""

LOG_VARIANCE = -6.0
"""Of the latent's first channels at the beginning: little noise."""


@torch.no_grad()
def begin_as_means(encoder: ScVaeEncoder, decoder: ScVaeDecoder) -> None:
    """Let fresh networks encode and decode the means of the latent's cells.

    The mean of the latent has the material in its first channels. The other channels keep fresh weights, so
    that there is something for the branches to learn from.

    Raises
    ------
    VoxlumeError : the networks do not pool.
    """
    _carry(encoder.input, torch.eye(CHANNELS), torch.zeros(CHANNELS))
    for shortcut in _shortcuts(encoder, PoolingDown):
        _copy_on(shortcut)
    _read_out(encoder.to_latent)
    first = encoder.config.latent_channels
    encoder.to_latent.weight[first : first + CHANNELS] = 0
    encoder.to_latent.bias[first : first + CHANNELS] = LOG_VARIANCE
    decode_means(decoder, torch.eye(CHANNELS, decoder.config.latent_channels), torch.zeros(CHANNELS))


@torch.no_grad()
def decode_means(decoder: ScVaeDecoder, weight: Tensor, bias: Tensor) -> None:
    """Let a fresh decoder give every voxel the material that is linear in its cell's latent.

    Parameters
    ----------
    weight, bias : (6, c) and (6,), from a latent to twice the material minus one.

    Raises
    ------
    VoxlumeError : the decoder does not pool.
    """
    _carry(decoder.from_latent, weight, bias)
    for shortcut in _shortcuts(decoder, NearestUp):
        _copy_on(shortcut)
    _read_out(decoder.output)


def fitted_means(latents: Tensor, variances: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """The weight (6, c) and bias (6,) that tell the cells' material best from latents drawn at random.

    Parameters
    ----------
    latents, variances : (n, c), of the cells' distributions.
    means : (n, 6), twice the mean material minus one.
    """
    x = torch.cat([latents, latents.new_ones((len(latents), 1))], 1).double()
    # What the noise adds to the squares on average.
    noise = nn.functional.pad(variances.double().sum(0), (0, 1))
    solution = torch.linalg.solve(x.T @ x + noise.diag(), x.T @ means.double()).float()
    return solution[:-1].T.contiguous(), solution[-1]


def _shortcuts(network: ScVaeEncoder | ScVaeDecoder, kind: type[PoolingDown | NearestUp]) -> list[nn.Module]:
    steps = [level[-1] for level in network.blocks[:-1]]  # type: ignore[index]
    if not all(isinstance(step, kind) for step in steps):
        raise VoxlumeError(
            "only networks that pool carry means through their shortcuts; leave `means` off for these"
        )
    return [step.skip for step in steps if isinstance(step.skip, nn.Linear)]  # type: ignore[union-attr]


def _carry(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """The layer's first outputs are the material, then the two constants."""
    layer.weight.mul_(OTHERS)
    layer.bias.mul_(OTHERS)
    layer.weight[:CHANNELS] = weight
    layer.weight[CHANNELS:CARRIED] = 0
    layer.bias[:CHANNELS] = bias
    layer.bias[CHANNELS:CARRIED] = torch.tensor([CONSTANT, -CONSTANT])


def _copy_on(layer: nn.Module) -> None:
    """The layer's first outputs are its first inputs; the others take nothing of the constants."""
    assert isinstance(layer, nn.Linear)
    layer.weight[:, CHANNELS:CARRIED] = 0
    layer.weight[:CARRIED] = torch.eye(CARRIED, layer.in_features)
    if layer.bias is not None:
        layer.bias[:CARRIED] = 0


def _read_out(layer: nn.Linear) -> None:
    """The layer's first outputs are the material, as it was carried before the norm that comes before it."""
    # Of channels between -1 and 1 a third of the square is the mean; the others are small at the beginning.
    deviation = ((2 * CONSTANT**2 + CHANNELS / 3) / layer.in_features) ** 0.5
    layer.weight[:CHANNELS] = 0
    layer.weight[:CHANNELS, :CHANNELS] = deviation * torch.eye(CHANNELS)
    layer.weight[:CHANNELS, CHANNELS:CARRIED] = -deviation / 2
    if layer.bias is not None:
        layer.bias[:CHANNELS] = 0
