"""How much of the surrounding light reaches a visible point, judged from the depth picture.

Screen-space ambient occlusion after McGuire et al., "The Alchemy screen-space ambient obscurance
algorithm" (2011): neighbours that rise above a point's tangent plane hide light.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel

_SAMPLES = 11
_LARGEST_REACH = 96.0  # pixels; keeps close-ups fast


@inner_kernel
def spin(row: int, column: int) -> float:
    """An angle that differs over every block of 4 x 4 pixels."""
    return ((row & 3) * 4 + (column & 3)) * 2.399963229728653


@parallel_kernel
def ambient_occlusion(
    depth: NDArray[np.float32],
    pixel: NDArray[np.int64],
    face_normal: NDArray[np.float32],
    face: NDArray[np.int32],
    axes: NDArray[np.float64],
    slope_x: float,
    slope_y: float,
    reach: float,
) -> NDArray[np.float32]:
    """Share of ambient light at each pixel, float32 (h, w), 1 where nothing is near.

    Parameters
    ----------
    depth : float32 (h, w), distance along the viewing axis, infinity where nothing is.
    pixel, face : (n,) flat indices of the pixels that are asked for and the faces seen there.
    face_normal : float32 (m, 3), world axes.
    axes : float64 (3, 3), rows right, up, forward of the camera in world axes.
    slope_x, slope_y : tangents of half the horizontal and vertical field of view.
    reach : distance up to which things hide each other.
    """
    height, width = depth.shape
    raw = np.ones((height, width), np.float32)
    for n in prange(len(pixel)):
        r, c = pixel[n] // width, pixel[n] % width
        z = float(depth[r, c])
        px = (2 * (c + 0.5) / width - 1) * slope_x * z
        py = (1 - 2 * (r + 0.5) / height) * slope_y * z
        gx, gy, gz = face_normal[face[n], 0], face_normal[face[n], 1], face_normal[face[n], 2]
        nx = gx * axes[0, 0] + gy * axes[0, 1] + gz * axes[0, 2]
        ny = gx * axes[1, 0] + gy * axes[1, 1] + gz * axes[1, 2]
        nz = gx * axes[2, 0] + gy * axes[2, 1] + gz * axes[2, 2]
        if nx * px + ny * py + nz * z > 0:
            nx, ny, nz = -nx, -ny, -nz
        pixels = min(reach / (z * slope_y) * 0.5 * height, _LARGEST_REACH)
        if pixels < 1.5:
            continue
        hidden = 0.0
        turn = spin(r, c)
        for s in range(_SAMPLES):
            distance = pixels * math.sqrt((s + 0.5) / _SAMPLES)
            angle = turn + s * 2.399963229728653
            rr, cc = r + int(distance * math.sin(angle)), c + int(distance * math.cos(angle))
            if rr < 0 or cc < 0 or rr >= height or cc >= width:
                continue
            q = depth[rr, cc]
            if not q < np.inf:
                continue
            dx = (2 * (cc + 0.5) / width - 1) * slope_x * q - px
            dy = (1 - 2 * (rr + 0.5) / height) * slope_y * q - py
            dz = q - z
            square = dx * dx + dy * dy + dz * dz
            rise = dx * nx + dy * ny + dz * nz - 0.02 * reach
            if rise > 0 and square < reach * reach:
                falloff = 1.0 - square / (reach * reach)
                hidden += falloff * rise / math.sqrt(square)
        raw[r, c] = max(0.0, 1.0 - 2.0 * hidden / _SAMPLES)
    out = np.ones((height, width), np.float32)
    for n in prange(len(pixel)):
        r, c = pixel[n] // width, pixel[n] % width
        z = depth[r, c]
        total, count = 0.0, 0
        for rr in range(max(r - 2, 0), min(r + 2, height)):
            for cc in range(max(c - 2, 0), min(c + 2, width)):
                if abs(depth[rr, cc] - z) < 0.2 * reach:
                    total += raw[rr, cc]
                    count += 1
        out[r, c] = total / count if count else 1.0
    return out
