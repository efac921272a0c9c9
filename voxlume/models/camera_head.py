"""Where a picture was taken from, told from the tokens of an image encoder.

A small head of ours beside the published networks: attention pools the tokens, two layers tell the camera.
Which way an object faces is often a matter of convention, so the direction is told as probabilities.

Shape suffixes: b pictures, m tokens, c width, q queries, v values, a directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxlume.models.precision import Precision
from voxlume.render.batch_camera import BatchCameras, focal_at, orbit_cameras

NUMBERS = 5
"""Of a camera besides its direction: elevation, 1 / distance, and three of the window."""


@dataclass(frozen=True)
class CameraHeadConfig:
    """``directions`` divide the full turn about the vertical axis; ``values`` are pooled by each query."""

    condition_width: int
    queries: int = 8
    values: int = 32
    hidden: int = 128
    directions: int = 36
    precision: Precision = "float16"


@dataclass(frozen=True, eq=False)
class CameraTold:
    """What is told of the cameras of pictures.

    Attributes
    ----------
    logits : float32 (b, a) of the azimuth being ``360 i / a - 180`` degrees, with what lies between shared by
        both neighbours.
    elevation : float32 (b,) radians.
    nearness : float32 (b,), 1 / distance from the origin.
    window : float32 (b, 3), the middle x, y of the square that is drawn and half its side, as lengths at the
        distance of the origin: unlike in the picture plane they hardly depend on the distance.
    """

    logits: Tensor
    elevation: Tensor
    nearness: Tensor
    window: Tensor

    def cameras(self, azimuth: Tensor) -> BatchCameras:
        """The cameras of the first picture from directions (k,) in radians."""
        count = len(azimuth)
        distance = 1 / self.nearness[:1].clamp(0.05, 0.8).expand(count)
        elevation = self.elevation[:1].clamp(-1.5, 1.5).expand(count)
        focal = focal_at(distance)
        cameras = orbit_cameras(torch.rad2deg(azimuth), torch.rad2deg(elevation), distance, focal)
        middle = self.window[:1, :2] * (focal / distance)[:, None]
        half = self.window[:1, 2:].clamp(min=0.02) * (focal / distance)[:, None]
        return cameras.cropped(torch.cat([middle - half, middle + half], 1))


class CameraHead(nn.Module):
    """Tokens (b, m, c) -> :class:`CameraTold`, in float32."""

    def __init__(self, config: CameraHeadConfig) -> None:
        super().__init__()
        self.config = config
        pooled = config.queries * config.values
        self.attention = nn.Linear(config.condition_width, config.queries)
        self.value = nn.Linear(config.condition_width, config.values)
        self.hidden = nn.Linear(pooled, config.hidden)
        self.output = nn.Linear(config.hidden, config.directions + NUMBERS)

    def forward(self, tokens_bmc: Tensor) -> CameraTold:
        weights_bmq = self.attention(tokens_bmc).float().softmax(1)
        pooled_bqv = weights_bmq.transpose(1, 2) @ self.value(tokens_bmc).float()
        told = self.output(F.gelu(self.hidden(pooled_bqv.flatten(1)))).float()
        logits, elevation, nearness, window = told.split([self.config.directions, 1, 1, 3], 1)
        # Around what is usual, so that a fresh head is not far off.
        usual = window.new_tensor([0.0, 0.0, 0.5])
        return CameraTold(logits, 0.4 + elevation[:, 0], 0.4 + nearness[:, 0], usual + window)


@dataclass(frozen=True, eq=False)
class CameraTrue:
    """What a head should tell: azimuth and elevation in radians (b,), and the rest as in
    :class:`CameraTold`."""

    azimuth: Tensor
    elevation: Tensor
    nearness: Tensor
    window: Tensor

    @classmethod
    def of(cls, numbers: Tensor) -> CameraTrue:
        """Of cameras (b, 8) that look at the origin: position, focal length and window."""
        position, focal, window = numbers.split([3, 1, 4], 1)
        distance = position.norm(dim=1)
        low, high = (window * (distance[:, None] / focal)).chunk(2, 1)
        return cls(
            torch.atan2(position[:, 0], -position[:, 1]),
            torch.asin((position[:, 2] / distance).clamp(-1, 1)),
            1 / distance,
            torch.cat([(low + high) / 2, (high - low)[:, :1] / 2], 1),
        )

    def mirrored(self, which: Tensor) -> CameraTrue:
        """With the pictures (b,) that are chosen, and their objects, in a mirror on the plane x = 0."""
        sign = 1 - 2 * which.float()
        window = torch.cat([self.window[:, :1] * sign[:, None], self.window[:, 1:]], 1)
        return CameraTrue(self.azimuth * sign, self.elevation, self.nearness, window)

    def shares(self, directions: int) -> Tensor:
        """The azimuth as probabilities (b, a) of the two directions that it lies between."""
        place = (self.azimuth / (2 * math.pi) + 0.5) * directions
        first = place.floor()
        rest = (place - first)[:, None]
        lower = F.one_hot(first.long() % directions, directions)
        upper = F.one_hot((first.long() + 1) % directions, directions)
        return lower * (1 - rest) + upper * rest
