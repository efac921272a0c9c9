"""Shadows: of the key light on the object, and of the object on the floor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from voxlume.jit import parallel_kernel
from voxlume.render.camera import transform
from voxlume.render.occlusion import spin
from voxlume.render.raster import rasterize
from voxlume.render.scene import Scene

_MAP_SIZE = 1024
_FLOOR_SIZE = 256
_FLOOR_SPREAD = 1.6  # side of the floor's shadow picture in object diameters
_TAPS = 12
_MASK_LAYERS = 4


@dataclass(frozen=True, eq=False)
class ShadowMap:
    """The scene as a parallel light sees it.

    Attributes
    ----------
    depth : float32 (size, size), along the light's direction, in scene radii; infinity where nothing is.
    to_map : float64 (3, 3): position about the scene's centre -> picture x, y in [-1, 1] and depth.
    """

    depth: NDArray[np.float32]
    to_map: NDArray[np.float64]


def shadow_map(scene: Scene, direction: NDArray[np.float64]) -> ShadowMap:
    """What a light from the unit ``direction`` reaches; cut-out textures let it through."""
    side = np.cross(direction, (0.0, 1.0, 0.0) if abs(direction[1]) < 0.99 else (1.0, 0.0, 0.0))
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(side, direction), -direction]) / (1.001 * scene.radius)
    rows = np.concatenate([axes, np.zeros((1, 3))])
    clip = transform(scene.vertices, np.zeros(3), rows, np.array([0.0, 0, 0, 1]))
    depth = scene.solid.rasterize(clip, _MAP_SIZE, _MAP_SIZE).depth
    layer = None
    for _ in range(_MASK_LAYERS if len(scene.see_through) else 0):
        layer = scene.see_through.rasterize(clip, _MAP_SIZE, _MAP_SIZE, beyond=layer, before=depth)
        hit = layer.face_index >= 0
        if not hit.any():
            break
        sampled = scene.sampler.sample(
            scene.see_through.index[layer.face_index[hit]], layer.barycentric[hit], scene.radius / _MAP_SIZE
        )
        opaque = np.zeros(hit.shape, bool)
        opaque[hit] = sampled[:, 5] > 0.5
        depth = np.where(opaque, np.minimum(depth, layer.depth), depth)
    return ShadowMap(depth, axes)


@parallel_kernel
def lit_share(
    depth: NDArray[np.float32],
    to_map: NDArray[np.float64],
    vertices: NDArray[np.float64],
    faces: NDArray[np.int32],
    face_normal: NDArray[np.float32],
    face: NDArray[np.int32],
    barycentric: NDArray[np.float32],
    pixel: NDArray[np.int64],
    width: int,
    offset: float,
) -> NDArray[np.float32]:
    """Share of the key light that reaches n surface points, float32 (n,), with soft borders.

    ``pixel`` (n,) is the points' place in a picture of the given width (it only varies the pattern);
    ``offset`` is the distance by which points are lifted towards the light's side of their face.
    """
    size = len(depth)
    out = np.empty(len(face), np.float32)
    for n in prange(len(face)):
        f = face[n]
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        w0, w1, w2 = barycentric[n, 0], barycentric[n, 1], barycentric[n, 2]
        # The light's direction is the negated depth row; lift the point to the side that it sees.
        toward = -(
            face_normal[f, 0] * to_map[2, 0]
            + face_normal[f, 1] * to_map[2, 1]
            + face_normal[f, 2] * to_map[2, 2]
        )
        lift = offset if toward >= 0 else -offset
        x = w0 * vertices[i, 0] + w1 * vertices[j, 0] + w2 * vertices[k, 0] + lift * face_normal[f, 0]
        y = w0 * vertices[i, 1] + w1 * vertices[j, 1] + w2 * vertices[k, 1] + lift * face_normal[f, 1]
        z = w0 * vertices[i, 2] + w1 * vertices[j, 2] + w2 * vertices[k, 2] + lift * face_normal[f, 2]
        u = to_map[0, 0] * x + to_map[0, 1] * y + to_map[0, 2] * z
        v = to_map[1, 0] * x + to_map[1, 1] * y + to_map[1, 2] * z
        d = to_map[2, 0] * x + to_map[2, 1] * y + to_map[2, 2] * z - 0.004
        column, row = (u + 1) * 0.5 * size, (1 - v) * 0.5 * size
        turn = spin(pixel[n] // width, pixel[n] % width)
        reached = 0
        for s in range(_TAPS):
            distance, angle = 5.0 * math.sqrt((s + 0.5) / _TAPS), turn + s * 2.399963229728653
            r, c = int(row + distance * math.sin(angle)), int(column + distance * math.cos(angle))
            if r < 0 or c < 0 or r >= size or c >= size or not depth[r, c] < d:
                reached += 1
        out[n] = reached / _TAPS
    return out


def floor_shadow(scene: Scene) -> NDArray[np.float32]:
    """Darkness of the floor below the object, float32 (256, 256): 0 open, 1 touched everywhere.

    The picture covers 1.6 diameters about the object's centre, rows along z, columns along x. Height
    blurs and weakens what it shows, as it does under a large light.
    """
    extent = _FLOOR_SPREAD * scene.radius
    rows = np.array([[1, 0, 0], [0, 0, -1], [0, extent / scene.radius, 0], [0, 0, 0]]) / extent
    lift = (scene.center[1] - scene.floor) / scene.radius
    clip = transform(scene.vertices, np.zeros(3), rows, np.array([0.0, 0, lift, 1]))
    seen = rasterize(clip, scene.sampler.surface.faces, _FLOOR_SIZE, _FLOOR_SIZE)
    hit = seen.face_index >= 0
    if len(scene.see_through):
        sampled = scene.sampler.sample(
            seen.face_index[hit], seen.barycentric[hit], scene.radius / _FLOOR_SIZE
        )
        weight = np.zeros(hit.shape, np.float32)
        weight[hit] = sampled[:, 5]
    else:
        weight = hit.astype(np.float32)
    height = np.where(hit, seen.depth, 0)
    contact = gaussian_filter(weight * np.exp(-14 * height), 1.6)
    wide = gaussian_filter(weight * np.exp(-2.2 * height), 11)
    return np.clip(0.45 * contact + 0.55 * wide, 0, 1).astype(np.float32)


@parallel_kernel
def floor_darkness(
    shadow: NDArray[np.float32],
    eye: NDArray[np.float64],
    axes: NDArray[np.float64],
    slope_x: float,
    slope_y: float,
    floor: float,
    extent: float,
    height: int,
    width: int,
) -> NDArray[np.float32]:
    """:func:`floor_shadow` as a camera sees it, float32 (h, w); 0 where its ray misses the floor.

    ``eye`` and the height ``floor`` are relative to the scene's centre.
    """
    out = np.zeros((height, width), np.float32)
    size = len(shadow)
    for r in prange(height):
        for c in range(width):
            x, y = (2 * (c + 0.5) / width - 1) * slope_x, (1 - 2 * (r + 0.5) / height) * slope_y
            dx = axes[2, 0] + x * axes[0, 0] + y * axes[1, 0]
            dy = axes[2, 1] + x * axes[0, 1] + y * axes[1, 1]
            dz = axes[2, 2] + x * axes[0, 2] + y * axes[1, 2]
            if dy >= -1e-6:
                continue
            t = (floor - eye[1]) / dy
            if t <= 0:
                continue
            column = ((eye[0] + t * dx) / extent + 1) * 0.5 * size - 0.5
            row = ((eye[2] + t * dz) / extent + 1) * 0.5 * size - 0.5
            i, j = math.floor(row), math.floor(column)
            if i < 0 or j < 0 or i + 1 >= size or j + 1 >= size:
                continue
            fr, fc = row - i, column - j
            low = shadow[i, j] * (1 - fc) + shadow[i, j + 1] * fc
            high = shadow[i + 1, j] * (1 - fc) + shadow[i + 1, j + 1] * fc
            out[r, c] = low * (1 - fr) + high * fr
    return out
