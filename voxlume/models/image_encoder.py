"""The image encoder: a vision transformer with the architecture of DINOv3 (Siméoni et al., 2025).

Shape suffixes: b images, m tokens (class, registers, patches), h heads, d channels of a head, c width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxlume.models.initial import normal_parameter
from voxlume.models.layers import (
    final_norm,
    gated_residual,
    gated_residual_norm,
    layer_norm,
    sinusoidal_positions,
)
from voxlume.models.precision import Precision, block_dtype

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PATCHES_ACROSS = 16
"""Absolute positions count a picture's side as so many steps, whatever its size."""


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Sizes of the vision transformer; the defaults are ViT-L/16, the published encoder.

    ``rope_base`` is the base of the rotary periods, ``gated_mlp`` a SwiGLU instead of the GELU MLP. Two
    things DINOv3 does not do: with ``absolute_positions`` sines of a patch's place are added to it, and
    with ``stem`` convolutions of so many channels, each of stride 2, come before the embedding, which takes
    less data to learn from (Xiao et al., "Early convolutions help transformers see better", 2021).
    """

    width: int = 1024
    blocks: int = 24
    heads: int = 16
    mlp_width: int = 4096
    patch: int = 16
    registers: int = 4
    gated_mlp: bool = False
    rope_base: float = 100.0
    norm_eps: float = 1e-5
    absolute_positions: bool = False
    stem: tuple[int, ...] = ()
    precision: Precision = "float32"


class Attention(nn.Module):
    """Self attention over an image's tokens; only patch tokens are rotated."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x_bmc: Tensor, cos_pd: Tensor, sin_pd: Tensor) -> Tensor:
        q, k, v = self.qkv(x_bmc).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = rotate_patches(q, cos_pd, sin_pd), rotate_patches(k, cos_pd, sin_pd)
        # Float16 has the 11 bits of the factors of quick float32 products, and kernels many times as fast.
        quick = q.is_cuda and torch.get_float32_matmul_precision() == "high"
        dtype = torch.float16 if quick and q.dtype == torch.float32 else q.dtype
        attended = F.scaled_dot_product_attention(q.to(dtype), k.to(dtype), v.to(dtype))
        return self.out(attended.to(q.dtype).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """down(gelu(up(x))), or down(silu(gate(x)) * up(x)) when gated."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.mlp_width) if config.gated_mlp else None
        self.up = nn.Linear(config.width, config.mlp_width)
        self.down = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(F.gelu(self.up(x)))
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a learned scale per channel."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config)
        self.scale1 = nn.Parameter(torch.ones(config.width))
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = Mlp(config)
        self.scale2 = nn.Parameter(torch.ones(config.width))

    def forward(self, x_bmc: Tensor, cos_pd: Tensor, sin_pd: Tensor) -> Tensor:
        batch, x_nc = len(x_bmc), x_bmc.flatten(0, 1)
        h = layer_norm(x_nc, self.norm1).unflatten(0, (batch, -1))
        h = self.attention(h, cos_pd, sin_pd).flatten(0, 1)
        x_nc, h = gated_residual_norm(x_nc, h, self.scale1[None], None, self.norm2)
        return gated_residual(x_nc, self.mlp(h), self.scale2[None], None).unflatten(0, (batch, -1))


class Stem(nn.Module):
    """Images (b, 3, h, w) -> (b, channels[-1], h / 2^n, w / 2^n): n times a 3 x 3 convolution of stride 2, a
    LayerNorm over the channels and GELU."""

    def __init__(self, channels: tuple[int, ...], eps: float) -> None:
        super().__init__()
        pairs = zip((3, *channels[:-1]), channels, strict=True)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.norms = nn.ModuleList(nn.LayerNorm(c, eps=eps) for c in channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolution(x).permute(0, 2, 3, 1).float())).permute(0, 3, 1, 2)
        return x


class ImageEncoder(nn.Module):
    """Normalised images (b, 3, height, width) -> condition tokens (b, m, c), float32.

    Height and width are multiples of the patch size; 512 gives 1029 tokens with the published sizes. The
    tokens are those of the last block through a LayerNorm without parameters; DINOv3's own final norm is
    not part of the condition. ``checkpointing`` recomputes the blocks in the backward pass.
    """

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.class_token = normal_parameter(1, 1, config.width, std=0.02)
        self.register_tokens = normal_parameter(1, config.registers, config.width, std=0.02)
        self.stem = Stem(config.stem, config.norm_eps) if config.stem else None
        cell = config.patch >> len(config.stem)
        self.patch_embedding = nn.Conv2d((3, *config.stem)[-1], config.width, kernel_size=cell, stride=cell)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))

    def forward(self, images_b3hw: Tensor) -> Tensor:
        patches, (rows, columns) = self._embedded(images_b3hw.float())
        cos, sin = patch_rotation(rows, columns, self.config, patches.device)
        if self.config.absolute_positions:
            patches = patches + sinusoidal_positions(
                PATCHES_ACROSS / 2 * patch_centres(rows, columns, patches.device), self.config.width
            )
        batch = len(patches)
        first = [token.expand(batch, -1, -1) for token in (self.class_token, self.register_tokens)]
        x = torch.cat([*first, patches], dim=1).to(block_dtype(self))
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, cos, sin, use_reentrant=False)
            else:
                x = block(x, cos, sin)
        return final_norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _embedded(self, images_b3hw: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patches (b, rows * columns, c), and how many rows and columns there are.

        The convolution's kernels lie side by side, so it is a product; as such its gradient is one too.
        """
        if self.stem is not None:
            images_b3hw = self.stem(images_b3hw)
        embedding = self.patch_embedding
        size = embedding.kernel_size[0]
        cut = images_b3hw.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # b, k, rows, size, columns, size
        pixels = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return F.linear(pixels, embedding.weight.flatten(1), embedding.bias), (cut.shape[2], cut.shape[4])


def patch_rotation(
    rows: int, columns: int, config: ImageEncoderConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosine and sine (rows * columns, d) of DINOv3's rotary patch positions.

    Patch centres are scaled to [-1, 1] on each axis, whatever the image's size. A quarter of a head's
    channels holds the angles of the row, a quarter those of the column, and the second half repeats them.
    """
    quarter = config.width // config.heads // 4
    frequencies = config.rope_base ** -(torch.arange(quarter, dtype=torch.float32, device=device) / quarter)
    centres = patch_centres(rows, columns, device)
    angles = (2 * math.pi * centres[:, :, None] * frequencies).flatten(1).repeat(1, 2)
    return angles.cos(), angles.sin()


def patch_centres(rows: int, columns: int, device: torch.device) -> Tensor:
    """Row and column (rows * columns, 2) of every patch's centre, each axis scaled to [-1, 1]."""
    y, x = (
        (torch.arange(count, dtype=torch.float32, device=device) + 0.5) / count * 2 - 1
        for count in (rows, columns)
    )
    return torch.cartesian_prod(y, x)


def rotate_patches(x_bhmd: Tensor, cos_pd: Tensor, sin_pd: Tensor) -> Tensor:
    """Rotate the last p of the m tokens, channel i together with channel i + d / 2."""
    others = x_bhmd.shape[2] - len(cos_pd)
    patches = x_bhmd[:, :, others:].float()
    first, second = patches.chunk(2, dim=-1)
    rotated = patches * cos_pd + torch.cat([-second, first], dim=-1) * sin_pd
    return torch.cat([x_bhmd[:, :, :others], rotated.to(x_bhmd.dtype)], dim=2)


def normalized_image(image: NDArray[np.uint8], size: int) -> Tensor:
    """A square picture as the encoder takes it.

    Parameters
    ----------
    image : uint8 (height, width, 3), RGB premultiplied onto black.
    size : 512 or 1024 for the published encoder; a multiple of the patch size.

    Returns
    -------
    float32 (3, size, size), resized with Lanczos, ImageNet mean and deviation removed.
    """
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)
    unit = torch.from_numpy(np.asarray(resized, np.float32) / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (unit - mean) / std
