"""The flow transformer: one architecture for structure, shape latents and material latents.

Tokens of all samples lie one after another in one (n, c) tensor, whether they come from a dense grid or
from a sparse tensor; attention runs per sample. Shape suffixes: n tokens, m condition tokens, b samples,
h heads, d channels of a head, c width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxlume.flow.state import State
from voxlume.models.initial import normal, normal_parameter
from voxlume.models.layers import (
    NORM_EPS,
    RotaryPhases,
    final_norm,
    gated_residual,
    gated_residual_norm,
    gelu_linear,
    modulated_layer_norm,
    normalized_heads,
    residual_modulated_norm,
    rotary_phases,
    sinusoidal_positions,
    zero_initialized,
)
from voxlume.models.precision import Precision, block_dtype
from voxlume.sparse.attention import attention
from voxlume.sparse.tensor import SparseTensor

TIME_FREQUENCIES = 256
"""Width of the sinusoidal time embedding."""


@dataclass(frozen=True)
class FlowTransformerConfig:
    """Sizes of a flow transformer; the defaults are the published shape model's.

    ``grid`` says what it is fed with; ``resolution`` is the grid it was trained on and sizes nothing,
    positions being plain integers. With ``shared_modulation`` one projection of the time serves all
    blocks, each of which adds a learned offset; without, every block has its own projection. With
    ``absolute_positions`` tokens are also told where they are, by sines added to them at the beginning;
    the published networks find out from their neighbours, which takes longer to learn.
    """

    grid: Literal["dense", "sparse"] = "sparse"
    in_channels: int = 32
    out_channels: int = 32
    width: int = 1536
    condition_width: int = 1024
    blocks: int = 30
    heads: int = 12
    mlp_ratio: float = 5.3334
    shared_modulation: bool = True
    resolution: int = 32
    absolute_positions: bool = False
    precision: Precision = "bfloat16"

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)


@dataclass(frozen=True, eq=False)
class TokenLayout:
    """What depends only on where the tokens are: made once per token set, valid for every step.

    Attributes
    ----------
    lengths : tokens of each sample, on the host, so that no step waits for the device.
    sample : int64 (n,) the sample of each token, or None for a single sample.
    phases : the rotary angles of the positions.
    absolute : what is added to the tokens (n, c), or None.
    """

    lengths: tuple[int, ...]
    sample: Tensor | None
    phases: RotaryPhases
    absolute: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Condition:
    """Condition tokens as the blocks read them.

    Attributes
    ----------
    tokens : (m, condition width), the samples one after another.
    lengths : condition tokens of each sample, on the host.
    keys_values : every block's keys and values (m, h, d), or None to compute them in every forward pass;
        they do not depend on the time, so a sampler computes them once.
    """

    tokens: Tensor
    lengths: tuple[int, ...]
    keys_values: tuple[tuple[Tensor, Tensor], ...] | None = None


Pending = tuple[Tensor, Tensor]
"""An update (n, c) of the tokens and its gate (b, c), not yet added."""


def pack_condition(condition: Tensor | Sequence[Tensor]) -> Condition:
    """(b, m, c), or one (m_i, c) per sample, as packed tokens."""
    samples = list(condition)
    return Condition(torch.cat(samples), tuple(len(s) for s in samples))


class TimeEmbedding(nn.Sequential):
    """Sinusoid of the time (0 .. 1000), Linear, SiLU, Linear."""

    def __init__(self, width: int) -> None:
        first, second = nn.Linear(TIME_FREQUENCIES, width), nn.Linear(width, width)
        for layer in (first, second):
            normal(layer.weight, std=0.02)
        super().__init__(first, nn.SiLU(), second)

    def forward(self, t_b: Tensor) -> Tensor:
        half = TIME_FREQUENCIES // 2
        index = torch.arange(half, dtype=torch.float32, device=t_b.device)
        angles = t_b.float()[:, None] * torch.exp(-math.log(10000.0) * index / half)
        return super().forward(torch.cat([angles.cos(), angles.sin()], dim=-1))


class HeadNorm(nn.Module):
    """The learned scale ``gamma`` (h, d) of a per-head RMS norm."""

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_width))


class SelfAttention(nn.Module):
    """Attention among the tokens of each sample, with normed and rotated queries and keys."""

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.q_norm = HeadNorm(config.heads, config.head_width)
        self.k_norm = HeadNorm(config.heads, config.head_width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x_nc: Tensor, layout: TokenLayout) -> Tensor:
        q, k, v = self.qkv(x_nc).unflatten(-1, (3, self.heads, -1)).unbind(1)
        q = normalized_heads(q, self.q_norm.gamma, layout.phases)
        k = normalized_heads(k, self.k_norm.gamma, layout.phases)
        return self.out(attention(q, k, v, layout.lengths, layout.lengths).flatten(1))


class CrossAttention(nn.Module):
    """Attention from the tokens of each sample to its condition."""

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q = nn.Linear(config.width, config.width)
        self.kv = nn.Linear(config.condition_width, 2 * config.width)
        self.q_norm = HeadNorm(config.heads, config.head_width)
        self.k_norm = HeadNorm(config.heads, config.head_width)
        self.out = nn.Linear(config.width, config.width)

    def keys_values(self, condition_mc: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (m, h, d) of the condition tokens."""
        kv = self.kv(condition_mc.to(self.kv.weight.dtype))
        k, v = kv.unflatten(-1, (2, self.heads, -1)).unbind(1)
        return normalized_heads(k, self.k_norm.gamma, None), v

    def forward(
        self, x_nc: Tensor, layout: TokenLayout, keys_values: tuple[Tensor, Tensor], lengths: tuple[int, ...]
    ) -> Tensor:
        k, v = keys_values
        if len(layout.lengths) == 1 and lengths == (1,):
            # One condition token has all the weight whatever the query is: a constant row.
            return self.out(v.flatten(1))
        q = self.q(x_nc).unflatten(-1, (self.heads, -1))
        q = normalized_heads(q, self.q_norm.gamma, None)
        return self.out(attention(q, k, v, layout.lengths, lengths).flatten(1))


class Modulation(nn.Sequential):
    """SiLU and a projection of the time embedding to shift, scale and gate of attention and MLP."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.SiLU(), zero_initialized(nn.Linear(width, 6 * width)))


class Block(nn.Module):
    """Self attention and MLP, both modulated and gated by the time, with cross attention in between."""

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__()
        width = config.width
        if config.shared_modulation:
            self.modulation_offset = normal_parameter(6 * width, std=width**-0.5)
        else:
            self.modulation = Modulation(width)
        self.self_attention = SelfAttention(config)
        self.cross_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.cross_attention = CrossAttention(config)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_width),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.mlp_width, width),
        )

    def forward(
        self,
        x_nc: Tensor,
        pending: Pending | None,
        time_b: Tensor,
        layout: TokenLayout,
        keys_values: tuple[Tensor, Tensor] | None,
        condition: Condition,
    ) -> tuple[Tensor, Pending]:
        """Tokens and the MLP's gated update of them, which the next block adds in one pass with its norm.

        ``time_b`` is the shared modulation (b, 6c), or the time embedding (b, c) without one.
        """
        if hasattr(self, "modulation_offset"):
            modulation = time_b + self.modulation_offset
        else:
            modulation = self.modulation(time_b)
        attn_shift, attn_scale, attn_gate, mlp_shift, mlp_scale, mlp_gate = modulation.chunk(6, dim=-1)
        sample = layout.sample
        if pending is None:
            h = modulated_layer_norm(x_nc, attn_shift, attn_scale, sample)
        else:
            x_nc, h = residual_modulated_norm(x_nc, *pending, attn_shift, attn_scale, sample)
        h = self.self_attention(h, layout)
        x_nc, h = gated_residual_norm(x_nc, h, attn_gate, sample, self.cross_norm)
        if keys_values is None:
            keys_values = self.cross_attention.keys_values(condition.tokens)
        h = self.cross_attention(h, layout, keys_values, condition.lengths)
        x_nc, h = residual_modulated_norm(x_nc, h, None, mlp_shift, mlp_scale, sample)
        return x_nc, (self.mlp[2](gelu_linear(h, self.mlp[0])), mlp_gate)  # type: ignore[arg-type]

    def closed(self, x_nc: Tensor, time_b: Tensor, layout: TokenLayout, condition: Condition) -> Tensor:
        """The block with its update added: tokens to tokens, all that training has to keep between blocks."""
        x_nc, (update, gate) = self(x_nc, None, time_b, layout, None, condition)
        return gated_residual(x_nc, update, gate, layout.sample)


class FlowTransformer(nn.Module):
    """Velocity (1 - s) noise - x0 of a noisy state under a condition.

    The blocks may be in half precision (:func:`voxlume.models.precision.set_block_dtype`); everything
    else and the result are float32. ``checkpointing`` recomputes the blocks in the backward pass instead
    of keeping their activations.
    """

    def __init__(self, config: FlowTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        width = config.width
        self.time_embedding = TimeEmbedding(width)
        self.modulation = Modulation(width) if config.shared_modulation else None
        self.input = nn.Linear(config.in_channels, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.output = zero_initialized(nn.Linear(width, config.out_channels))

    def token_layout(self, x: Tensor | SparseTensor) -> TokenLayout:
        """Positions and lengths of a state's tokens, to be passed to every step of a sampling run."""
        if isinstance(x, SparseTensor):
            lengths, positions = tuple(x.batch_lengths), x.coords[:, 1:]
            sample = x.coords[:, 0].long() if len(lengths) > 1 else None
        else:
            batch, grid = len(x), x.shape[2:]
            cells = torch.cartesian_prod(*(torch.arange(size, device=x.device) for size in grid))
            lengths, positions = (len(cells),) * batch, cells.repeat(batch, 1)
            index = torch.arange(batch, device=x.device)
            sample = index.repeat_interleave(len(cells), output_size=len(positions)) if batch > 1 else None
        absolute = (
            sinusoidal_positions(positions, self.config.width) if self.config.absolute_positions else None
        )
        return TokenLayout(lengths, sample, rotary_phases(positions, self.config.head_width), absolute)

    def prepare_condition(self, condition: Tensor | Sequence[Tensor]) -> Condition:
        """Every block's keys and values of a condition, (b, m, c) or one (m_i, c) per sample.

        Worth it whenever the same condition is used more than once; costs 2 * blocks * m * width values.
        """
        packed = pack_condition(condition)
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        pairs = (block.cross_attention.keys_values(packed.tokens) for block in blocks)
        # The values are a view of a product that holds the keys before their norm too: half again as much.
        keys_values = tuple((keys, values.contiguous()) for keys, values in pairs)
        return Condition(packed.tokens, packed.lengths, keys_values)

    def null_condition(self, batch_size: int) -> Condition:
        """The unconditional input, prepared.

        The published system feeds as many zero tokens as there are image tokens. All of them have the
        same key and value, so attention returns that value for any number: one token per sample will do.
        """
        device = self.input.weight.device
        return self.prepare_condition(torch.zeros(batch_size, 1, self.config.condition_width, device=device))

    def forward(
        self,
        x: State,
        t_b: Tensor,
        condition: Condition | Tensor | Sequence[Tensor],
        layout: TokenLayout | None = None,
    ) -> State:
        """The velocity, of the same kind and on the same coordinates as ``x``.

        Parameters
        ----------
        x : dense (b, c, r, r, r), or sparse with features (n, c).
        t_b : float32 (b,), times 0 .. 1000.
        condition : (b, m, c), one (m_i, c) per sample, or the result of :meth:`prepare_condition`.
        layout : the result of :meth:`token_layout` for this token set; computed here if not given.
        """
        if not isinstance(condition, Condition):
            condition = pack_condition(condition)
        layout = layout or self.token_layout(x)
        dtype = block_dtype(self)
        tokens = x.features if isinstance(x, SparseTensor) else grid_to_tokens(x)
        h = self.input(tokens.float())
        if layout.absolute is not None:
            h = h + layout.absolute
        h = h.to(dtype)
        time = self.time_embedding(t_b)
        time = (time if self.modulation is None else self.modulation(time)).to(dtype)
        pending: Pending | None = None
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            if self.checkpointing and torch.is_grad_enabled():
                h = checkpoint(block.closed, h, time, layout, condition, use_reentrant=False)
            else:
                keys_values = condition.keys_values[index] if condition.keys_values else None
                h, pending = block(h, pending, time, layout, keys_values, condition)
        if pending is not None:
            h = gated_residual(h, *pending, layout.sample)
        velocity = self.output(final_norm(h))
        if isinstance(x, SparseTensor):
            return x.with_features(velocity)
        return tokens_to_grid(velocity, x)


def grid_to_tokens(x_bcxyz: Tensor) -> Tensor:
    """(b, c, x, y, z) -> (b * x * y * z, c), x slowest and z fastest within a sample."""
    return x_bcxyz.flatten(2).transpose(1, 2).flatten(0, 1)


def tokens_to_grid(tokens_nc: Tensor, like_bcxyz: Tensor) -> Tensor:
    """The inverse of :func:`grid_to_tokens`; batch and grid are those of ``like_bcxyz``."""
    return tokens_nc.unflatten(0, (len(like_bcxyz), -1)).transpose(1, 2).unflatten(2, like_bcxyz.shape[2:])
