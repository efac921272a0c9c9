"""Where a picture is taken from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import parallel_kernel


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera in the glTF frame.

    Attributes
    ----------
    position : float64 (3,).
    axes : float64 (3, 3), unit rows right, up, forward in world coordinates.
    fov : the full vertical field of view in radians.
    near : distance before which nothing is drawn.
    """

    position: NDArray[np.float64]
    axes: NDArray[np.float64]
    fov: float
    near: float

    def clip_positions(self, points: NDArray[np.floating], aspect: float = 1.0) -> NDArray[np.float64]:
        """Points (n, 3) as (n, 4) for :func:`voxlume.render.raster.rasterize`; z and w are the distance."""
        focal = 1.0 / math.tan(self.fov / 2)
        rows = self.axes[[0, 1, 2, 2]] * [[focal / aspect], [focal], [1.0], [1.0]]
        return transform(np.ascontiguousarray(points, np.float64), self.position, rows, np.zeros(4))


@parallel_kernel
def transform(
    points: NDArray[np.float64],
    origin: NDArray[np.float64],
    rows: NDArray[np.float64],
    offset: NDArray[np.float64],
) -> NDArray[np.float64]:
    """``rows @ (point - origin) + offset`` for each of (n, 3) points, (n, 4); exact for far-away origins."""
    out = np.empty((len(points), 4), np.float64)
    for i in prange(len(points)):
        x, y, z = points[i, 0] - origin[0], points[i, 1] - origin[1], points[i, 2] - origin[2]
        for k in range(4):
            out[i, k] = rows[k, 0] * x + rows[k, 1] * y + rows[k, 2] * z + offset[k]
    return out


def look_at(
    position: NDArray[np.floating] | tuple[float, float, float],
    target: NDArray[np.floating] | tuple[float, float, float],
    fov: float,
    near: float,
) -> Camera:
    """A camera at ``position`` that looks at ``target``; +y is up, +z where one looks along y."""
    eye = np.asarray(position, np.float64)
    forward = np.asarray(target, np.float64) - eye
    forward = forward / np.linalg.norm(forward)
    up = np.array([0.0, 1.0, 0.0]) if abs(forward[1]) < 0.9999 else np.array([0.0, 0.0, -np.sign(forward[1])])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    return Camera(eye, np.stack([right, np.cross(right, forward), forward]), fov, near)


@dataclass(frozen=True)
class View:
    """A direction to look from: degrees around the y axis from +z towards +x, and above the horizon."""

    name: str
    azimuth: float
    elevation: float


FIXED_VIEWS = (
    View("front", 30.0, 18.0),
    View("side", 100.0, 12.0),
    View("back", 210.0, 18.0),
    View("top", 0.0, 75.0),
)
"""The views of a contact sheet; an asset's front looks to +z."""


def orbit(center: NDArray[np.float64], radius: float, view: View, fov: float = math.radians(28)) -> Camera:
    """The camera that sees the whole sphere about ``center`` from the given direction."""
    azimuth, elevation = math.radians(view.azimuth), math.radians(view.elevation)
    direction = np.array(
        [
            math.sin(azimuth) * math.cos(elevation),
            math.sin(elevation),
            math.cos(azimuth) * math.cos(elevation),
        ]
    )
    distance = 1.03 * radius / math.sin(fov / 2)
    return look_at(center + distance * direction, center, fov, near=0.01 * distance)
