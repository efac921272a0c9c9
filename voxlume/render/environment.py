"""The light around an object, as a picture of all directions filtered for every roughness.

Directions are in the glTF frame. The picture is equirectangular: column 0 looks to -x, turning through
+z (the camera's side) in the quarter that follows; row 0 looks up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel
from voxlume.render.brdf import ggx_half_vector, radical_inverse

_ROUGHNESS_LEVELS = 8


@dataclass(frozen=True, eq=False)
class Environment:
    """Light from all directions, ready for shading.

    Attributes
    ----------
    levels : float32, flat; the pictures for roughness 0, 1/7, ... 1 one after the other.
    level_size : int64 (8, 3) first element, height and width of each.
    irradiance : float32 (9, 3), spherical harmonics that give the irradiance / pi of a normal.
    key_direction : float64 (3,), unit, towards the light that casts shadows.
    key_radiance : float32 (3,), what a white matt surface that faces it sends back.
    """

    levels: NDArray[np.float32]
    level_size: NDArray[np.int64]
    irradiance: NDArray[np.float32]
    key_direction: NDArray[np.float64]
    key_radiance: NDArray[np.float32]

    @classmethod
    def from_radiance(
        cls,
        radiance: NDArray[np.float32],
        key_direction: tuple[float, float, float] = (0.0, 1.0, 0.0),
        key_radiance: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Environment:
        """Filter an equirectangular picture of linear light, float32 (h, 2h, 3)."""
        pictures = [np.ascontiguousarray(radiance, np.float32)]
        heights = [64, 64, 32, 32, 16, 16, 16]
        for i, height in enumerate(heights, start=1):
            source = _shrunk(radiance, max(height, 64))
            out = np.empty((height, 2 * height, 3), np.float32)
            _filter(source, (i / (_ROUGHNESS_LEVELS - 1)) ** 2, 256, out)
            pictures.append(out)
        start = np.cumsum([0] + [p.size for p in pictures[:-1]])
        direction = np.asarray(key_direction, np.float64)
        return cls(
            levels=np.concatenate([p.reshape(-1) for p in pictures]),
            level_size=np.array([[s, *p.shape[:2]] for s, p in zip(start, pictures, strict=True)], np.int64),
            irradiance=_irradiance(_shrunk(radiance, 32)),
            key_direction=direction / np.linalg.norm(direction),
            key_radiance=np.asarray(key_radiance, np.float32),
        )


def directions(height: int) -> NDArray[np.float64]:
    """(h, 2h, 3) unit vectors of the texel centres of an equirectangular picture."""
    polar = (np.arange(height) + 0.5) / height * np.pi
    azimuth = (np.arange(2 * height) + 0.5) / height * np.pi
    sin = np.sin(polar)[:, None]
    up = np.broadcast_to(np.cos(polar)[:, None], (height, 2 * height))
    return np.stack([-np.cos(azimuth) * sin, up, np.sin(azimuth) * sin], axis=-1)


@lru_cache(maxsize=1)
def studio() -> Environment:
    """A photographer's soft studio: light grey room, a large key box, a tall fill, a rim strip behind.

    The camera stands on the +z side. A white matt surface that faces it comes out just below white.
    """
    d = directions(128)
    y = d[..., 1]
    room = np.where(y > 0, 0.36 + 0.10 * y, 0.36 + 0.15 * y)[..., None]
    light = (
        room
        + _softbox(d, (-0.75, 0.85, 0.70), 0.50, 0.38, 3.0) * np.array([1.0, 0.985, 0.96])
        + _softbox(d, (1.0, 0.25, 0.55), 0.26, 0.80, 1.6) * np.array([0.96, 0.98, 1.0])
        + _softbox(d, (0.35, 0.55, -1.0), 0.75, 0.18, 2.8)
        + _softbox(d, (-1.0, 0.1, -0.3), 0.16, 0.70, 1.6)
    )
    return Environment.from_radiance(
        light.astype(np.float32), key_direction=(-0.62, 0.95, 0.70), key_radiance=(0.36, 0.35, 0.335)
    )


def _softbox(
    d: NDArray[np.float64],
    toward: tuple[float, float, float],
    half_width: float,
    half_height: float,
    level: float,
) -> NDArray[np.float64]:
    """A rectangular light with soft borders as (h, w, 1) radiance; sizes are tangents of half-angles."""
    center = np.asarray(toward) / np.linalg.norm(toward)
    right = np.cross((0.0, 1.0, 0.0), center)
    right /= np.linalg.norm(right)
    up = np.cross(center, right)
    depth = d @ center
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = np.abs(d @ right / depth), np.abs(d @ up / depth)
    edge = np.clip((half_width - x) / 0.08, 0, 1) * np.clip((half_height - y) / 0.08, 0, 1)
    edge = edge * edge * (3 - 2 * edge)
    # Brighter in the middle, as a bulb behind cloth is.
    glow = 0.75 + 0.25 * np.exp(-2 * ((x / half_width) ** 2 + (y / half_height) ** 2))
    return np.where(depth > 0, level * edge * glow, 0.0)[..., None]


def _shrunk(picture: NDArray[np.float32], height: int) -> NDArray[np.float32]:
    """Box-filtered to the given height where that divides, else as it is."""
    h = len(picture)
    if h <= height or h % height:
        return np.ascontiguousarray(picture, np.float32)
    k = h // height
    return np.ascontiguousarray(picture.reshape(height, k, 2 * height, k, 3).mean(axis=(1, 3)), np.float32)


def _harmonics(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first nine real spherical harmonics (..., 9) of unit vectors (..., 3)."""
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    return np.stack(
        [
            np.full_like(x, 0.28209479177387814),
            0.4886025119029199 * y,
            0.4886025119029199 * z,
            0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * z * z - 1),
            1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ],
        axis=-1,
    )


def _irradiance(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nine coefficients (9, 3) of irradiance / pi (Ramamoorthi and Hanrahan, 2001)."""
    height = len(picture)
    basis = _harmonics(directions(height))
    polar = np.arange(height + 1) / height * np.pi
    solid_angle = (np.cos(polar[:-1]) - np.cos(polar[1:])) * np.pi / height
    band = np.array([1.0, *[2 / 3] * 3, *[1 / 4] * 5])
    return (np.einsum("hwk,hwc,h->kc", basis, picture, solid_angle) * band[:, None]).astype(np.float32)


@inner_kernel
def look_up_irradiance(sh: NDArray[np.float32], x: float, y: float, z: float, c: int) -> float:
    """Irradiance / pi of channel c for the unit normal (x, y, z)."""
    value = (
        0.28209479177387814 * sh[0, c]
        + 0.4886025119029199 * (y * sh[1, c] + z * sh[2, c] + x * sh[3, c])
        + 1.0925484305920792 * (x * y * sh[4, c] + y * z * sh[5, c] + x * z * sh[7, c])
        + 0.31539156525252005 * (3 * z * z - 1) * sh[6, c]
        + 0.5462742152960396 * (x * x - y * y) * sh[8, c]
    )
    return max(value, 0.0)


@inner_kernel
def _place(x: float, y: float, z: float) -> tuple[float, float]:
    """Column and row, each in [0, 1], at which an equirectangular picture shows direction (x, y, z)."""
    azimuth = math.atan2(z, -x) * (0.5 / math.pi)
    return azimuth + 1.0 if azimuth < 0 else azimuth, math.acos(min(max(y, -1.0), 1.0)) / math.pi


@inner_kernel
def _fetch(
    data: NDArray[np.float32], start: int, height: int, width: int, s: float, t: float
) -> tuple[float, float, float]:
    """Bilinear value of an equirectangular picture at column s and row t in [0, 1]."""
    s, t = s * width - 0.5, t * height - 0.5
    i, j = math.floor(t), math.floor(s)
    ft, fs = t - i, s - j
    i0, i1 = max(i, 0), min(i + 1, height - 1)
    j0, j1 = j if j >= 0 else width - 1, j + 1 if j + 1 < width else 0
    a, b = start + (i0 * width + j0) * 3, start + (i0 * width + j1) * 3
    c, d = start + (i1 * width + j0) * 3, start + (i1 * width + j1) * 3
    wa, wb, wc, wd = (1 - ft) * (1 - fs), (1 - ft) * fs, ft * (1 - fs), ft * fs
    return (
        wa * data[a] + wb * data[b] + wc * data[c] + wd * data[d],
        wa * data[a + 1] + wb * data[b + 1] + wc * data[c + 1] + wd * data[d + 1],
        wa * data[a + 2] + wb * data[b + 2] + wc * data[c + 2] + wd * data[d + 2],
    )


@inner_kernel
def look_up_radiance(
    levels: NDArray[np.float32],
    level_size: NDArray[np.int64],
    x: float,
    y: float,
    z: float,
    roughness: float,
) -> tuple[float, float, float]:
    """Light from direction (x, y, z) as a lobe of the given roughness gathers it."""
    top = len(level_size) - 1
    level = min(max(roughness, 0.0), 1.0) * top
    i = min(int(level), top - 1)
    f = level - i
    s, t = _place(x, y, z)
    r0, g0, b0 = _fetch(levels, level_size[i, 0], level_size[i, 1], level_size[i, 2], s, t)
    i += 1
    r1, g1, b1 = _fetch(levels, level_size[i, 0], level_size[i, 1], level_size[i, 2], s, t)
    return r0 + f * (r1 - r0), g0 + f * (g1 - g0), b0 + f * (b1 - b0)


@parallel_kernel
def _filter(source: NDArray[np.float32], alpha: float, samples: int, out: NDArray[np.float32]) -> None:
    """Average the source over the GGX lobe about every direction, seen along the normal."""
    height, width, _ = out.shape
    flat = source.reshape(-1)
    for r in prange(height):
        polar = (r + 0.5) / height * math.pi
        for c in range(width):
            azimuth = (c + 0.5) / width * 2 * math.pi
            nx, ny, nz = (
                -math.cos(azimuth) * math.sin(polar),
                math.cos(polar),
                math.sin(azimuth) * math.sin(polar),
            )
            # Any frame about n will do.
            if abs(ny) < 0.9:
                tx, ty, tz = nz, 0.0, -nx
            else:
                tx, ty, tz = 0.0, -nz, ny
            length = math.sqrt(tx * tx + ty * ty + tz * tz)
            tx, ty, tz = tx / length, ty / length, tz / length
            bx, by, bz = ny * tz - nz * ty, nz * tx - nx * tz, nx * ty - ny * tx
            red, green, blue, total = 0.0, 0.0, 0.0, 0.0
            for i in range(samples):
                hx, hy, hz = ggx_half_vector((i + 0.5) / samples, radical_inverse(i), alpha)
                lz = 2.0 * hz * hz - 1.0
                if lz <= 0.0:
                    continue
                lx, ly = 2.0 * hz * hx, 2.0 * hz * hy
                dx = lx * tx + ly * bx + lz * nx
                dy = lx * ty + ly * by + lz * ny
                dz = lx * tz + ly * bz + lz * nz
                s, t = _place(dx, dy, dz)
                cr, cg, cb = _fetch(flat, 0, source.shape[0], source.shape[1], s, t)
                red, green, blue, total = red + lz * cr, green + lz * cg, blue + lz * cb, total + lz
            out[r, c, 0], out[r, c, 1], out[r, c, 2] = red / total, green / total, blue / total
