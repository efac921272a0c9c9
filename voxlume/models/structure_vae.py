"""The sparse-structure VAE: 64^3 occupancy <-> 8 x 16^3 latent, with dense convolutions (TRELLIS, stage 1).

Shape suffix bcxyz: batch, channels, and the three axes of the grid in that order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxlume.models.layers import zero_initialized
from voxlume.models.precision import Precision, block_dtype

CHANNEL_NORM_EPS = 1e-5


@dataclass(frozen=True)
class StructureEncoderConfig:
    """``channels`` run from the finest level to the coarsest; each step halves the grid."""

    in_channels: int = 1
    latent_channels: int = 8
    channels: tuple[int, ...] = (32, 128, 512)
    blocks_per_level: int = 2
    middle_blocks: int = 2
    precision: Precision = "float32"


@dataclass(frozen=True)
class StructureDecoderConfig:
    """``channels`` run from the coarsest level to the finest; each step doubles the grid."""

    out_channels: int = 1
    latent_channels: int = 8
    channels: tuple[int, ...] = (512, 128, 32)
    blocks_per_level: int = 2
    middle_blocks: int = 2
    precision: Precision = "float32"


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every voxel, computed in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=CHANNEL_NORM_EPS)

    def forward(self, x_bcxyz: Tensor) -> Tensor:
        return super().forward(x_bcxyz.movedim(1, -1)).movedim(-1, 1)


def conv3(channels_in: int, channels_out: int) -> nn.Conv3d:
    return nn.Conv3d(channels_in, channels_out, kernel_size=3, padding=1)


class ResidualBlock(nn.Module):
    """x + conv2(silu(norm2(conv1(silu(norm1(x))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.conv1 = conv3(channels, channels)
        self.norm2 = ChannelNorm(channels)
        self.conv2 = zero_initialized(conv3(channels, channels))

    def forward(self, x_bcxyz: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x_bcxyz)))
        return x_bcxyz + self.conv2(F.silu(self.norm2(h)))


class Downsample(nn.Module):
    """Halve the grid with a strided convolution; the sum goes on in its own precision under autocast."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, kernel_size=2, stride=2)

    def forward(self, x_bcxyz: Tensor) -> Tensor:
        return self.conv(x_bcxyz).to(x_bcxyz.dtype)


class Upsample(nn.Module):
    """Double the grid: a convolution to eight times the channels, then pixel shuffle.

    As in :class:`Downsample`, the sum goes on in its own precision.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = conv3(channels_in, channels_out * 8)

    def forward(self, x_bcxyz: Tensor) -> Tensor:
        return pixel_shuffle_3d(self.conv(x_bcxyz).to(x_bcxyz.dtype))


def pixel_shuffle_3d(x_bcxyz: Tensor) -> Tensor:
    """(b, 8c, x, y, z) -> (b, c, 2x, 2y, 2z); the source channel is 8c + 4dx + 2dy + dz."""
    b, c8, x, y, z = x_bcxyz.shape
    split = x_bcxyz.reshape(b, c8 // 8, 2, 2, 2, x, y, z)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c8 // 8, 2 * x, 2 * y, 2 * z)


class StructureEncoder(nn.Module):
    """Occupancy (b, 1, n, n, n) -> mean and log-variance of the latent, each (b, 8, n/4, n/4, n/4)."""

    def __init__(self, config: StructureEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.input = conv3(config.in_channels, channels[0])
        blocks: list[nn.Module] = []
        for level, width in enumerate(channels):
            blocks += [ResidualBlock(width) for _ in range(config.blocks_per_level)]
            if level + 1 < len(channels):
                blocks.append(Downsample(width, channels[level + 1]))
        self.blocks = nn.ModuleList(blocks)
        self.middle = nn.ModuleList(ResidualBlock(channels[-1]) for _ in range(config.middle_blocks))
        self.output_norm = ChannelNorm(channels[-1])
        self.output = conv3(channels[-1], config.latent_channels * 2)

    def forward(self, occupancy_bcxyz: Tensor) -> tuple[Tensor, Tensor]:
        h = self.input(occupancy_bcxyz.float()).to(block_dtype(self))
        # Channels last lets the norms run over contiguous memory and the tensor cores take the convolutions.
        h = h.contiguous(memory_format=torch.channels_last_3d)
        for block in (*self.blocks, *self.middle):
            h = block(h)
        mean, log_variance = self.output(F.silu(self.output_norm(h.float()))).chunk(2, dim=1)
        return mean, log_variance


class StructureDecoder(nn.Module):
    """Latent (b, 8, n, n, n) -> occupancy logits (b, 1, 4n, 4n, 4n); above zero is occupied."""

    def __init__(self, config: StructureDecoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.input = conv3(config.latent_channels, channels[0])
        self.middle = nn.ModuleList(ResidualBlock(channels[0]) for _ in range(config.middle_blocks))
        blocks: list[nn.Module] = []
        for level, width in enumerate(channels):
            blocks += [ResidualBlock(width) for _ in range(config.blocks_per_level)]
            if level + 1 < len(channels):
                blocks.append(Upsample(width, channels[level + 1]))
        self.blocks = nn.ModuleList(blocks)
        self.output_norm = ChannelNorm(channels[-1])
        self.output = conv3(channels[-1], config.out_channels)

    def forward(self, latent_bcxyz: Tensor) -> Tensor:
        h = self.input(latent_bcxyz.float()).to(block_dtype(self))
        h = h.contiguous(memory_format=torch.channels_last_3d)
        for block in (*self.middle, *self.blocks):
            h = block(h)
        return self.output(F.silu(self.output_norm(h.float())))
