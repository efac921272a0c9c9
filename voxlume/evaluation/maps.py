"""What surfaces look like without light: maps of normals and materials from fixed views.

Drawn by the exact rasteriser of :mod:`voxlume.render.raster` with the assets' own textures, so that a source
and its reconstruction are measured alike, on any machine. Every surface that is not cut away hides what is
behind it, also glass: the maps show which material is there, not what shines through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset
from voxlume.errors import AssetError
from voxlume.render.camera import FIXED_VIEWS, Camera, View, orbit
from voxlume.render.raster import Fragments, rasterize
from voxlume.texture import MaterialSampler

VISIBLE_ALPHA = 0.05
"""A surface with less is not there."""

_SUPERSAMPLING = 2
_MOST_LAYERS = 8


@dataclass(frozen=True, eq=False)
class Maps:
    """Pictures of b views, float32, averaged over the samples of a pixel; zero where nothing is.

    Attributes
    ----------
    covered : (b, s, s), share of the pixel that shows the surface.
    normal : (b, s, s, 3), (n + 1) / 2 of the face normals n, in world axes, turned to the camera.
    attributes : (b, s, s, 6), in the order of ``ATTRIBUTE_CHANNELS``.
    """

    covered: NDArray[np.float32]
    normal: NDArray[np.float32]
    attributes: NDArray[np.float32]


def framing(asset: Asset, views: Sequence[View] = FIXED_VIEWS) -> list[Camera]:
    """Cameras that see the whole asset from these sides.

    Raises
    ------
    AssetError : there is no geometry.
    """
    low, high = asset.bounds()
    center = low / 2 + high / 2
    used = [mesh.vertices[np.unique(mesh.faces)] for mesh in asset.meshes if len(mesh.faces)]
    radius = max(float(np.linalg.norm(points - center, axis=1).max()) for points in used)
    if not 0 < radius < np.inf:
        raise AssetError(f"{asset.name or 'asset'}: all vertices coincide, there is nothing to draw")
    return [orbit(center, radius, view) for view in views]


def draw_maps(asset: Asset, cameras: Sequence[Camera], size: int = 256) -> Maps:
    """Draw an asset from each camera into square pictures.

    An asset without a face gives empty pictures.
    """
    fine = size * _SUPERSAMPLING
    covered = np.zeros((len(cameras), fine, fine), np.float32)
    normal = np.zeros((len(cameras), fine, fine, 3), np.float32)
    attributes = np.zeros((len(cameras), fine, fine, 6), np.float32)
    if asset.num_faces:
        surface = _Surface(asset, cameras[0].position)
        for i, camera in enumerate(cameras):
            surface.draw(camera, covered[i], normal[i], attributes[i])
    return Maps(_averaged(covered[..., None])[..., 0], _averaged(normal), _averaged(attributes))


class _Surface:
    """An asset's faces, relative to an origin so that far-away ones lose no digits."""

    def __init__(self, asset: Asset, origin: NDArray[np.float64]) -> None:
        self.sampler = MaterialSampler(asset)
        self.origin = origin
        self.vertices = self.sampler.vertices - origin
        self.faces = self.sampler.surface.faces

    def draw(
        self,
        camera: Camera,
        covered: NDArray[np.float32],
        normal: NDArray[np.float32],
        attributes: NDArray[np.float32],
    ) -> None:
        """Fill one picture of samples (s, s), (s, s, 3), (s, s, 6)."""
        camera = replace(camera, position=camera.position - self.origin)
        size = len(covered)
        clip = camera.clip_positions(self.vertices)
        distance = float(np.linalg.norm(camera.position - self.vertices.mean(axis=0)))
        pixel = 2 * math.tan(camera.fov / 2) / size * distance
        layer: Fragments | None = None
        before: NDArray[np.float32] | None = None
        for _ in range(_MOST_LAYERS):
            layer = rasterize(clip, self.faces, size, size, near=camera.near, beyond=layer, before=before)
            row, column = np.nonzero((layer.face_index >= 0) & (covered == 0))
            if not len(row):
                return
            face = layer.face_index[row, column]
            values = self.sampler.sample(face, layer.barycentric[row, column], pixel)
            there = values[:, 5] > VISIBLE_ALPHA
            row, column, face = row[there], column[there], face[there]
            covered[row, column] = 1
            attributes[row, column] = values[there]
            normal[row, column] = 0.5 + 0.5 * self._normals(face, camera)
            if there.all():
                return
            before = np.where(covered > 0, -np.inf, np.inf).astype(np.float32)

    def _normals(self, face: NDArray[np.int32], camera: Camera) -> NDArray[np.float64]:
        """Unit normals (n, 3) of faces, turned to the camera."""
        a, b, c = np.moveaxis(self.vertices[self.faces[face]], 1, 0)
        normal = np.cross(b - a, c - a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.finfo(float).tiny)
        away = np.einsum("nc,nc->n", normal, camera.position - a)
        return np.where(away[:, None] < 0, -normal, normal)


def _averaged(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(b, s k, s k, c) -> (b, s, s, c)."""
    b, fine, _, channels = samples.shape
    size = fine // _SUPERSAMPLING
    blocks = samples.reshape(b, size, _SUPERSAMPLING, size, _SUPERSAMPLING, channels)
    return blocks.mean(axis=(2, 4), dtype=np.float32)
