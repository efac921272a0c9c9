"""Cameras for many pictures at once, in the Z-up model frame: where training looks at its objects from.

Legend for shapes: b pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

HALF_DIAGONAL = math.sqrt(3) / 2
"""Radius of the sphere about the model frame's cube, which every camera sees whole."""

PHOTO_ELEVATION = (-10.0, 60.0)
"""Degrees above the horizon from which people photograph things on a table or on the ground."""

ALL_ELEVATIONS = (-90.0, 90.0)


@dataclass(frozen=True, eq=False)
class BatchCameras:
    """Pinhole cameras, one a picture, in the Z-up model frame; pictures are square.

    Attributes
    ----------
    position : float32 (b, 3).
    axes : float32 (b, 3, 3), unit rows right, up, forward.
    focal : float32 (b,), 1 / tan(fov / 2): a point at (x, y, z) along the axes is seen at focal * (x, y) / z
        in the picture plane, whose square [-1, 1]^2 is the whole picture, y upwards.
    window : float32 (b, 4), left, bottom, right, top of the part of the picture plane that is drawn, or
        None for the whole picture.
    """

    position: Tensor
    axes: Tensor
    focal: Tensor
    window: Tensor | None = None

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, rows: slice) -> BatchCameras:
        window = None if self.window is None else self.window[rows]
        return BatchCameras(self.position[rows], self.axes[rows], self.focal[rows], window)

    def to(self, device: torch.device | str) -> BatchCameras:
        window = None if self.window is None else self.window.to(device)
        return BatchCameras(self.position.to(device), self.axes.to(device), self.focal.to(device), window)

    def cropped(self, window: Tensor | None) -> BatchCameras:
        """The same cameras that draw another part (b, 4) of their picture planes."""
        return replace(self, window=window)

    def matrix(self) -> Tensor:
        """float32 (b, 3, 4): model frame (x, y, z, 1) -> (X, Y, W).

        The point is seen at (X, Y) / W, in [-1, 1]^2 inside the drawn window; W is the distance along the
        viewing axis.
        """
        # Double precision keeps the offsets of cameras a hundred units away exact.
        axes, focal = self.axes.double(), self.focal.double()[:, None]
        right, up, forward = axes[:, 0] * focal, axes[:, 1] * focal, axes[:, 2]
        if self.window is not None:
            left, bottom, end, top = self.window.double()[:, :, None].unbind(1)
            right = (2 * right - (left + end) * forward) / (end - left)
            up = (2 * up - (bottom + top) * forward) / (top - bottom)
        rows = torch.stack([right, up, forward], 1)
        offset = -(rows * self.position.double()[:, None]).sum(-1, keepdim=True)
        return torch.cat([rows, offset], 2).float()

    def plane_positions(self, size: int) -> tuple[Tensor, Tensor]:
        """Where the pixel centres of pictures of ``size`` lie in the picture plane: x (b, s), y (b, s)."""
        device = self.position.device
        x = (2 * torch.arange(size, device=device) + 1) / size - 1
        x, y = x.expand(len(self), size), -x.expand(len(self), size)
        if self.window is not None:
            left, bottom, right, top = self.window[:, :, None].unbind(1)
            x, y = (left + right + x * (right - left)) / 2, (bottom + top + y * (top - bottom)) / 2
        return x, y


def orbit_cameras(azimuth: Tensor, elevation: Tensor, radius: Tensor, focal: Tensor) -> BatchCameras:
    """Cameras that look at the origin.

    Parameters
    ----------
    azimuth, elevation : (b,) degrees, as in :class:`voxlume.render.camera.View`: azimuth 0 looks at an
        asset's front (it stands on the -y side), 90 stands on the +x side; elevation is above the horizon.
    radius, focal : (b,) distance from the origin, and as in :class:`BatchCameras`.
    """
    a, e = torch.deg2rad(azimuth.double()), torch.deg2rad(elevation.double())
    zero = torch.zeros_like(a)
    away = torch.stack([a.sin() * e.cos(), -a.cos() * e.cos(), e.sin()], 1)
    right = torch.stack([a.cos(), a.sin(), zero], 1)
    up = torch.stack([-a.sin() * e.sin(), a.cos() * e.sin(), e.cos()], 1)
    return BatchCameras(
        (away * radius.double()[:, None]).float(),
        torch.stack([right, up, -away], 1).float(),
        focal.float(),
    )


def focal_at(distance: Tensor) -> Tensor:
    """The focal length with which a camera so far (b,) from the origin sees just the whole cube."""
    return (distance**2 - HALF_DIAGONAL**2).clamp(min=1e-6).sqrt() / HALF_DIAGONAL


def random_cameras(
    count: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    radius_range: tuple[float, float] | None = None,
    *,
    elevation: tuple[float, float] = PHOTO_ELEVATION,
    azimuth: tuple[float, float] = (-180.0, 180.0),
) -> BatchCameras:
    """Cameras on a sphere that look at the origin and see the whole unit cube, drawn as in TRELLIS.2.

    The distance r is drawn so that 1 / r^2 is uniform; the field of view belongs to it by
    r = (sqrt(3) / 2) / sin(fov / 2).

    Parameters
    ----------
    generator : source of chance, on any device; PyTorch's own by default.
    radius_range : distances; by default those of fields of view of 70 to 10 degrees (1.51 to 9.94).
    elevation : degrees. Directions are uniform over this band of the sphere. The default is the band from
        which people photograph things, since conditioning pictures stand for photographs; rendering losses,
        which must see every side, use :data:`ALL_ELEVATIONS`.
    azimuth : degrees, see :func:`orbit_cameras`.
    """
    source = "cpu" if generator is None else generator.device
    u = torch.rand((3, count), generator=generator, device=source, dtype=torch.float64).to(device)
    near, far = radius_range or tuple(HALF_DIAGONAL / math.sin(math.radians(fov) / 2) for fov in (70, 10))
    radius = (far**-2 + u[0] * (near**-2 - far**-2)) ** -0.5
    low, high = (math.sin(math.radians(e)) for e in elevation)
    return orbit_cameras(
        azimuth[0] + u[1] * (azimuth[1] - azimuth[0]),
        torch.rad2deg(torch.asin(low + u[2] * (high - low))),
        radius,
        focal_at(radius),
    )
