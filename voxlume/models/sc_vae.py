"""The sparse-compression VAE: O-Voxel features <-> latent, 16 times coarser (TRELLIS.2, section 3.2).

Shape and material use the same networks with other channels in and out. Legend: n voxels, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxlume.models.layers import (
    NORM_EPS,
    final_norm,
    in_chunks,
    layer_norm,
    silu_mlp,
    silu_norm,
    zero_initialized,
)
from voxlume.models.precision import Precision, block_dtype
from voxlume.sparse.conv import SubmanifoldConv3d
from voxlume.sparse.epilogue import Norm, Residual
from voxlume.sparse.lineage import children_of
from voxlume.sparse.resample import (
    Subdivision,
    mean_pool,
    nearest_upsample,
    space_to_channel,
    subdivide,
)
from voxlume.sparse.tensor import SparseTensor

Content = Literal["shape", "material"]
ResidualKind = Literal["convnext", "plain"]
"""``convnext``: one convolution and a wide MLP; ``plain``: two convolutions (the paper's ablation)."""
ResampleKind = Literal["autoencoding", "pooling"]
"""``autoencoding``: space-to-channel with its parameter-free shortcut; ``pooling``: the ablation without."""


@dataclass(frozen=True)
class EncoderConfig:
    """Levels from fine to coarse; the defaults are the published encoder.

    ``residual`` has one kind per level, ``resample`` one per step between levels.
    """

    content: Content = "shape"
    in_channels: int = 6
    latent_channels: int = 32
    channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    blocks: tuple[int, ...] = (0, 4, 8, 16, 4)
    residual: tuple[ResidualKind, ...] = ("convnext",) * 5
    resample: tuple[ResampleKind, ...] = ("autoencoding",) * 4
    precision: Precision = "float16"

    def __post_init__(self) -> None:
        check_levels(self.channels, self.blocks, self.residual, self.resample)


@dataclass(frozen=True)
class DecoderConfig:
    """Levels from coarse to fine; the defaults are the published shape decoder.

    Attributes
    ----------
    predicts_masks : whether it has logits of its own for the children to keep.
    vertex_margin : how far a dual vertex may leave its voxel, in voxels.
    resolution : the grid it was trained on; kept for its file, sizes nothing.
    """

    content: Content = "shape"
    out_channels: int = 7
    latent_channels: int = 32
    channels: tuple[int, ...] = (1024, 512, 256, 128, 64)
    blocks: tuple[int, ...] = (4, 16, 8, 4, 0)
    residual: tuple[ResidualKind, ...] = ("convnext",) * 5
    resample: tuple[ResampleKind, ...] = ("autoencoding",) * 4
    predicts_masks: bool = True
    vertex_margin: float = 0.5
    resolution: int = 512
    precision: Precision = "float16"

    def __post_init__(self) -> None:
        check_levels(self.channels, self.blocks, self.residual, self.resample)


def check_levels(
    channels: Sequence[int], blocks: Sequence[int], residual: Sequence[str], resample: Sequence[str]
) -> None:
    """Raise ``ValueError`` where the lists of a configuration do not belong together."""
    levels = len(channels)
    if levels == 0 or len(blocks) != levels or len(residual) != levels or len(resample) != levels - 1:
        raise ValueError(
            f"{levels} channel counts, {len(blocks)} block counts, {len(residual)} block kinds and "
            f"{len(resample)} resampling kinds do not make a network; n, n, n and n - 1 are needed"
        )
    pairs = list(pairwise(channels))
    for kind, (first, second) in zip(resample, pairs, strict=True):
        fine, coarse = min(first, second), max(first, second)
        if kind == "autoencoding" and (coarse % 8 or (8 * fine) % coarse):
            raise ValueError(f"space-to-channel cannot join {fine} and {coarse} channels")


def normed(convolution: Callable[[Norm | None], SparseTensor], norm: nn.LayerNorm | None) -> SparseTensor:
    """LN with the parameters of ``norm``, or SiLU(LN) without any, of what a convolution makes.

    ``convolution`` is handed the norm where it can apply it by itself: in inference.
    """
    if torch.is_grad_enabled():
        h = convolution(None)
        return h.with_features(silu_norm(h.features) if norm is None else layer_norm(h.features, norm))
    return convolution(Norm(NORM_EPS, silu=True) if norm is None else Norm(norm.eps, norm.weight, norm.bias))


class ConvNextBlock(nn.Module):
    """x + mlp(LN(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SubmanifoldConv3d(channels, channels)
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.SiLU(), zero_initialized(nn.Linear(4 * channels, channels))
        )

    def forward(self, x: SparseTensor) -> SparseTensor:
        h = normed(partial(self.conv, x), self.norm).features
        widen, _, narrow = self.mlp
        return x.with_features(silu_mlp(h, widen, narrow, x.features))  # type: ignore[arg-type]


class PlainResidualBlock(nn.Module):
    """x + conv2(silu(LN(conv1(silu(LN(x)))))), the inner norm without parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.conv1 = SubmanifoldConv3d(channels, channels)
        self.conv2 = zero_initialized(SubmanifoldConv3d(channels, channels))

    def forward(self, x: SparseTensor) -> SparseTensor:
        h = x.with_features(silu_norm(x.features, self.norm1))
        h = normed(partial(self.conv1, h), None)
        return self.conv2(h, Residual(x.features))


class SpaceToChannelDown(nn.Module):
    """Halve the grid with residual autoencoding: children move into channels, on both branches."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels_in, eps=NORM_EPS)
        self.conv1 = SubmanifoldConv3d(channels_in, channels_out // 8)
        self.conv2 = zero_initialized(SubmanifoldConv3d(channels_out, channels_out))

    def forward(self, x: SparseTensor) -> SparseTensor:
        h = space_to_channel(self.conv1(x.with_features(silu_norm(x.features, self.norm1))))
        # Averaging groups of channels commutes with moving children into channels, and is cheaper first.
        groups = x.with_features(mean_of_groups(x.features, h.channels // 8))
        shortcut = space_to_channel(groups).features
        return self.conv2(h.with_features(silu_norm(h.features)), Residual(shortcut))


def mean_of_groups(features: Tensor, groups: int) -> Tensor:
    """Mean over consecutive channels: (n, c) -> (n, groups)."""
    # A product with a fixed matrix: far faster than a reduction over a few adjacent values.
    average = _averages(groups, features.shape[1] // groups, features.dtype, features.device)
    with torch.autocast(features.device.type, enabled=False):  # as in Skip
        return features @ average


@cache
def _averages(groups: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (groups * size, groups) that takes a row of channels to the means of its groups."""
    with torch.inference_mode(False):  # what is kept may serve a backward pass later
        return (torch.eye(groups, dtype=dtype, device=device) / size).repeat_interleave(size, dim=0)


class Skip(nn.Linear):
    """A linear layer on the sum that runs through the blocks, which autocast leaves in its own precision."""

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features)


class PoolingDown(nn.Module):
    """Halve the grid by the mean over existing children (the ablation without residual autoencoding)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels_in, eps=NORM_EPS)
        self.conv1 = SubmanifoldConv3d(channels_in, channels_out)
        self.conv2 = zero_initialized(SubmanifoldConv3d(channels_out, channels_out))
        self.skip = Skip(channels_in, channels_out) if channels_in != channels_out else nn.Identity()

    def forward(self, x: SparseTensor) -> SparseTensor:
        h = mean_pool(x.with_features(silu_norm(x.features, self.norm1)))
        h = normed(partial(self.conv1, h), None)
        return self.conv2(h, Residual(self.skip(mean_pool(x).features)))


class ChannelToSpaceUp(nn.Module):
    """Double the grid with residual autoencoding: channels move out to the kept children.

    ``subdivision`` gives the logits (n, 8) of the children to keep, from the block's input.
    """

    def __init__(self, channels_in: int, channels_out: int, predicts_masks: bool) -> None:
        super().__init__()
        self.subdivision = nn.Linear(channels_in, 8) if predicts_masks else None
        self.norm1 = nn.LayerNorm(channels_in, eps=NORM_EPS)
        self.conv1 = SubmanifoldConv3d(channels_in, 8 * channels_out)
        self.conv2 = zero_initialized(SubmanifoldConv3d(channels_out, channels_out))

    def forward(self, x: SparseTensor, kept: Subdivision) -> SparseTensor:
        h = x.with_features(silu_norm(x.features, self.norm1))
        h = normed(partial(self.conv1.to_children, h, kept), None)
        return self.conv2(h, Residual(x.features, kept.lineage))


class NearestUp(nn.Module):
    """Double the grid by copying to the kept children (the ablation without residual autoencoding)."""

    def __init__(self, channels_in: int, channels_out: int, predicts_masks: bool) -> None:
        super().__init__()
        self.subdivision = nn.Linear(channels_in, 8) if predicts_masks else None
        self.norm1 = nn.LayerNorm(channels_in, eps=NORM_EPS)
        self.conv1 = SubmanifoldConv3d(channels_in, channels_out)
        self.conv2 = zero_initialized(SubmanifoldConv3d(channels_out, channels_out))
        self.skip = Skip(channels_in, channels_out) if channels_in != channels_out else nn.Identity()

    def forward(self, x: SparseTensor, kept: Subdivision) -> SparseTensor:
        h = nearest_upsample(x.with_features(silu_norm(x.features, self.norm1)), kept)
        h = normed(partial(self.conv1, h), None)
        # A row-wise layer on copies is the copies of its rows.
        shortcut = nearest_upsample(x.with_features(self.skip(x.features)), kept)
        return self.conv2(h, Residual(shortcut.features))


def residual_block(kind: ResidualKind, channels: int) -> nn.Module:
    return ConvNextBlock(channels) if kind == "convnext" else PlainResidualBlock(channels)


class ScVaeEncoder(nn.Module):
    """Voxel features (n, 6) -> mean and log-variance of the latent on the grid ``levels - 1`` times halved.

    Use :func:`shape_features` or :func:`material_features` for the input. Latent voxels are in
    lexicographic order. ``checkpointing`` recomputes the blocks in the backward pass.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.input = nn.Linear(config.in_channels, config.channels[0])
        self.blocks = nn.ModuleList()
        for level, (channels, blocks) in enumerate(zip(config.channels, config.blocks, strict=True)):
            parts = [residual_block(config.residual[level], channels) for _ in range(blocks)]
            if level + 1 < len(config.channels):
                down = SpaceToChannelDown if config.resample[level] == "autoencoding" else PoolingDown
                parts.append(down(channels, config.channels[level + 1]))
            self.blocks.append(nn.ModuleList(parts))
        self.to_latent = nn.Linear(config.channels[-1], 2 * config.latent_channels)

    def forward(self, x: SparseTensor) -> tuple[SparseTensor, SparseTensor]:
        h = x.with_features(entry(self.input, x.features, block_dtype(self)))
        for level in self.blocks:
            for block in level:  # type: ignore[attr-defined]
                h = run(block, h, self.checkpointing)
        mean, log_variance = head(self.to_latent, h.features).chunk(2, dim=-1)
        return h.with_features(mean), h.with_features(log_variance)


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a decoder returns.

    Attributes
    ----------
    output : raw channels, float32; see :func:`dual_grid_channels` and :func:`material_attributes`.
    masks : bool (n_level, 8) per subdivision, coarse to fine: the children that were kept. They steer the
        material decoder (``guide``).
    logits : the predicted logits (n_level, 8) on the voxels they belong to, one per subdivision; empty
        for a decoder that predicts none.
    """

    output: SparseTensor
    masks: tuple[Tensor, ...]
    logits: tuple[SparseTensor, ...]


class ScVaeDecoder(nn.Module):
    """Latent -> voxel channels on the grid ``levels - 1`` times doubled, computing only kept children.

    Voxels come out parent by parent, x the fastest bit of a child's slot: match them by coordinate.
    ``checkpointing`` recomputes the blocks in the backward pass.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.from_latent = nn.Linear(config.latent_channels, config.channels[0])
        self.blocks = nn.ModuleList()
        for level, (channels, blocks) in enumerate(zip(config.channels, config.blocks, strict=True)):
            parts = [residual_block(config.residual[level], channels) for _ in range(blocks)]
            if level + 1 < len(config.channels):
                up = ChannelToSpaceUp if config.resample[level] == "autoencoding" else NearestUp
                parts.append(up(channels, config.channels[level + 1], config.predicts_masks))
            self.blocks.append(nn.ModuleList(parts))
        self.output = nn.Linear(config.channels[-1], config.out_channels)

    def forward(
        self, latent: SparseTensor, guide: Sequence[Tensor] | Sequence[Subdivision] | None = None
    ) -> Decoded:
        """Decode.

        Parameters
        ----------
        latent : (n, latent channels).
        guide : the masks to follow instead of the predicted ones, bool (n_level, 8) per subdivision,
            coarse to fine, rows in this decoder's order: another decoder's ``masks`` on the same latent
            voxels, or :func:`voxlume.models.subdivision.subdivision_masks`. Or subdivisions whose parents
            are the latent's own coordinate set, :func:`voxlume.models.subdivision.subdivisions_to`.
        """
        steps = len(self.blocks) - 1
        if guide is not None and len(guide) != steps:
            raise ValueError(f"the guide has {len(guide)} masks, the decoder {steps} subdivisions")
        if guide is None and not self.config.predicts_masks:
            raise ValueError("this decoder predicts no masks; pass those of the shape decoder")
        # Known subdivisions are made at once: each waits for its number of voxels, here for nothing else.
        subdivisions = [] if guide is None else _follow(guide, latent)
        masks = [step.kept if isinstance(step, Subdivision) else step for step in guide or ()]
        h, logits = self._enter(latent), []
        for level, parts in enumerate(self.blocks):
            for block in parts[: self.config.blocks[level]]:  # type: ignore[index]
                h = run(block, h, self.checkpointing)
            if level == steps:
                break
            up = parts[-1]  # type: ignore[index]
            if self.config.predicts_masks:
                logits.append(h.with_features(up.subdivision(h.features)))
            if guide is None:
                masks.append(logits[-1].features > 0)
                subdivisions.append(subdivide(h, masks[-1]))
            h = run(up, h, self.checkpointing, subdivisions[level])
        return Decoded(h.with_features(head(self.output, h.features)), tuple(masks), tuple(logits))

    def upsample(self, latent: SparseTensor, times: int) -> Tensor:
        """Coordinates int32 (n, 4) after ``times`` predicted subdivisions; features stop one step earlier.

        The cascade asks for the voxels of a finer grid this way without the finest levels' work.
        """
        if not self.config.predicts_masks:
            raise ValueError("this decoder predicts no masks, so it cannot find the finer voxels")
        if not 1 <= times < len(self.blocks):
            raise ValueError(f"times must be 1 to {len(self.blocks) - 1}, not {times}")
        h = self._enter(latent)
        for level in range(times):
            parts = self.blocks[level]
            for block in parts[: self.config.blocks[level]]:  # type: ignore[index]
                h = block(h)
            up = parts[-1]  # type: ignore[index]
            kept = subdivide(h, up.subdivision(h.features) > 0)
            if level + 1 < times:
                h = up(h, kept)
        return kept.children.coords

    def _enter(self, latent: SparseTensor) -> SparseTensor:
        return latent.with_features(entry(self.from_latent, latent.features, block_dtype(self)))


def _follow(guide: Sequence[Tensor] | Sequence[Subdivision], latent: SparseTensor) -> list[Subdivision]:
    """The subdivisions of a guide that begins at the voxels of ``latent``."""
    steps: list[Subdivision] = []
    for kept in guide:
        here = steps[-1].children if steps else latent.cache
        steps.append(kept if isinstance(kept, Subdivision) else Subdivision(children_of(here, kept)))
    return steps


def entry(layer: nn.Linear, features: Tensor, dtype: torch.dtype) -> Tensor:
    """The input layer in float32, its result in the dtype of the blocks."""
    return in_chunks(lambda rows: layer(rows.float()).to(dtype), features, 8 * layer.out_features)


def head(layer: nn.Linear, features: Tensor) -> Tensor:
    """Norm and output layer in float32."""

    def project(rows: Tensor) -> Tensor:
        return layer(final_norm(rows))

    return in_chunks(project, features, 8 * layer.in_features)


def run(block: nn.Module, x: SparseTensor, checkpointing: bool, *args: Subdivision) -> SparseTensor:
    """One block, its activations recomputed in the backward pass if asked for."""
    if not (checkpointing and torch.is_grad_enabled()):
        return block(x, *args)
    # Checkpointing looks for tensors among the arguments, so the features are passed as one.
    coordinates: list[SparseTensor] = []

    def on_features(features: Tensor) -> Tensor:
        out = block(x.with_features(features), *args)
        coordinates[:] = [out.with_features(out.features.detach())]
        return out.features

    features = checkpoint(on_features, x.features, use_reentrant=False)
    return coordinates[0].with_features(features)


def shape_features(dual_vertices: Tensor, intersected: Tensor) -> Tensor:
    """Encoder input float32 (n, 6): dual vertices (n, 3) in the voxel and flags (n, 3), each minus 0.5."""
    return torch.cat([dual_vertices.float(), intersected.float()], dim=1) - 0.5


def material_features(attributes: Tensor) -> Tensor:
    """Encoder input float32 (n, 6) from attributes in [0, 1]: 2 a - 1."""
    return 2 * attributes.float() - 1


def material_attributes(raw: Tensor) -> Tensor:
    """Attributes (n, 6) of the material decoder's raw channels; nominally in [0, 1], not clamped."""
    return 0.5 * raw + 0.5


@dataclass(frozen=True, eq=False)
class DualGridChannels:
    """Dual-grid geometry as decoded, differentiable.

    Attributes
    ----------
    dual_vertices : (n, 3) in voxels from the voxel's minimum corner, within ``vertex_margin`` of it.
    intersected_logits : (n, 3); the edge is crossed where they are above zero.
    splitting_weights : (n,), positive.
    """

    dual_vertices: Tensor
    intersected_logits: Tensor
    splitting_weights: Tensor


def dual_grid_channels(raw: Tensor, vertex_margin: float) -> DualGridChannels:
    """Read the seven raw channels (n, 7) of a shape decoder."""
    vertices = (1 + 2 * vertex_margin) * raw[:, :3].sigmoid() - vertex_margin
    return DualGridChannels(vertices, raw[:, 3:6], F.softplus(raw[:, 6]))
