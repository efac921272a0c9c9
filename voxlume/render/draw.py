"""One picture of a scene: layers of surfaces, shaded and laid over each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from voxlume.render.brdf import reflectance_table
from voxlume.render.camera import Camera
from voxlume.render.environment import Environment, studio
from voxlume.render.occlusion import ambient_occlusion
from voxlume.render.raster import Fragments, rasterize
from voxlume.render.scene import Scene
from voxlume.render.shade import CHANNELS, LightArrays, shade_points
from voxlume.render.shadow import ShadowMap, lit_share, shadow_map
from voxlume.render.tonemap import neutral

_MOST_LAYERS = 32
_OPAQUE_ENOUGH = 0.01
_OCCLUSION_REACH = 0.16  # in scene radii


@dataclass(frozen=True, eq=False)
class Frame:
    """A drawn picture before it is put on a background. All (h, w, ...), float32, row 0 at the top.

    Attributes
    ----------
    color : (h, w, 3) linear display light, premultiplied by coverage.
    passed : (h, w, 3) share of the background that shines through.
    base_color : (h, w, 3) sRGB-encoded; metallic, roughness, alpha : (h, w); normal : (h, w, 3), unit, in
        world axes; depth : (h, w), distance from the eye, infinity where nothing is. They belong to the
        first surface that is not cut away; ``covered`` (h, w) is the share of the pixel that has one.
    """

    color: NDArray[np.float32]
    passed: NDArray[np.float32]
    base_color: NDArray[np.float32]
    metallic: NDArray[np.float32]
    roughness: NDArray[np.float32]
    alpha: NDArray[np.float32]
    normal: NDArray[np.float32]
    depth: NDArray[np.float32]
    covered: NDArray[np.float32]


def draw(
    scene: Scene,
    camera: Camera,
    height: int,
    width: int,
    *,
    environment: Environment | None = None,
    light_azimuth: float | None = None,
    supersampling: int = 2,
) -> Frame:
    """Draw the scene.

    Parameters
    ----------
    environment : the light; the soft studio by default.
    light_azimuth : radians by which the light is turned about y; by default it turns with the camera, so
        that every view is lit from the photographer's side.
    supersampling : samples per pixel and axis.
    """
    environment = environment or studio()
    if light_azimuth is None:
        away = -camera.axes[2]
        light_azimuth = math.atan2(away[0], away[2]) if math.hypot(away[0], away[2]) > 1e-6 else 0.0
    canvas = _Canvas(scene, camera, height * supersampling, width * supersampling, environment, light_azimuth)
    canvas.draw()
    return canvas.frame(supersampling)


class _Canvas:
    """The samples of one picture while it is being drawn."""

    def __init__(
        self,
        scene: Scene,
        camera: Camera,
        height: int,
        width: int,
        environment: Environment,
        light_azimuth: float,
    ) -> None:
        self.scene, self.camera = scene, camera
        self.height, self.width = height, width
        self.slope = math.tan(camera.fov / 2)
        self.light = LightArrays(
            environment.levels,
            environment.level_size,
            environment.irradiance,
            environment.key_direction,
            environment.key_radiance,
            np.array([math.cos(light_azimuth), math.sin(light_azimuth)]),
            reflectance_table(),
        )
        self.clip = camera.clip_positions(scene.sampler.vertices, width / height)
        self.color = np.zeros((height * width, 3), np.float32)
        self.passed = np.ones((height * width, 3), np.float32)
        self.maps = np.zeros((height * width, CHANNELS - 6), np.float32)
        self.maps[:, 9] = np.inf
        self.covered = np.zeros(height * width, np.float32)

    def draw(self) -> None:
        scene = self.scene
        faces = scene.sampler.surface.faces
        shadows = self._shadows()
        solid_faces = faces[scene.solid] if len(scene.see_through) else faces
        solid = self._rasterize(solid_faces)
        if len(scene.see_through):
            before = solid.depth.copy()
            layer: Fragments | None = None
            for _ in range(_MOST_LAYERS):
                layer = self._rasterize(faces[scene.see_through], beyond=layer, before=before)
                pixel = np.flatnonzero(layer.face_index.reshape(-1) >= 0)
                if not len(pixel):
                    break
                face = scene.see_through[layer.face_index.reshape(-1)[pixel]]
                self._lay(pixel, face, layer, shadows, np.zeros(0, np.float32))
                before[(self.passed.max(axis=1) < _OPAQUE_ENOUGH).reshape(before.shape)] = -np.inf
        pixel = np.flatnonzero(
            (solid.face_index.reshape(-1) >= 0) & (self.passed.max(axis=1) >= _OPAQUE_ENOUGH)
        )
        local = solid.face_index.reshape(-1)[pixel]
        face = scene.solid[local] if len(scene.see_through) else local
        self._lay(pixel, face, solid, shadows, self._occlusion(solid, pixel, face))

    def _rasterize(
        self,
        faces: NDArray[np.int32],
        beyond: Fragments | None = None,
        before: NDArray[np.float32] | None = None,
    ) -> Fragments:
        return rasterize(
            self.clip, faces, self.height, self.width, near=self.camera.near, beyond=beyond, before=before
        )

    def _shadows(self) -> ShadowMap | None:
        if not self.light.key_radiance.any():
            return None
        x, y, z = self.light.key_direction
        cos, sin = self.light.turn
        return shadow_map(self.scene, np.array([cos * x + sin * z, y, cos * z - sin * x]))

    def _occlusion(
        self, solid: Fragments, pixel: NDArray[np.int64], face: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        normal = np.zeros((self.height * self.width, 3), np.float32)
        view_normal = self.scene.shading.face_normal[face] @ self.camera.axes.T.astype(np.float32)
        row, column = np.divmod(pixel, self.width)
        x = (2 * (column + 0.5) / self.width - 1) * self.slope * self.width / self.height
        y = (1 - 2 * (row + 0.5) / self.height) * self.slope
        away = view_normal[:, 0] * x + view_normal[:, 1] * y + view_normal[:, 2] > 0
        view_normal[away] *= -1
        normal[pixel] = view_normal
        share = ambient_occlusion(
            solid.depth,
            normal.reshape(self.height, self.width, 3),
            self.slope * self.width / self.height,
            self.slope,
            _OCCLUSION_REACH * self.scene.radius,
        )
        return share.reshape(-1)[pixel]

    def _lay(
        self,
        pixel: NDArray[np.int64],
        face: NDArray[np.int32],
        layer: Fragments,
        shadows: ShadowMap | None,
        occlusion: NDArray[np.float32],
    ) -> None:
        """Shade a layer's points and put them behind what has been drawn so far."""
        scene = self.scene
        sampler, shading = scene.sampler, scene.shading
        barycentric = layer.barycentric.reshape(-1, 3)[pixel]
        lit = np.zeros(0, np.float32)
        if shadows is not None:
            lit = lit_share(
                shadows.depth,
                shadows.to_map,
                sampler.vertices,
                sampler.surface.faces,
                shading.face_normal,
                face,
                barycentric,
                pixel,
                self.width,
                0.006 * scene.radius,
            )
        out = np.empty((len(face), CHANNELS), np.float32)
        shade_points(
            sampler.pack,
            sampler.table,
            sampler.surface,
            shading,
            scene.detail_pack,
            sampler.vertices,
            face,
            barycentric,
            self.camera.position,
            2 * self.slope / self.height,
            lit,
            occlusion,
            self.light,
            out,
        )
        glass = shading.glass[sampler.surface.material[face]]
        _lay_under(pixel, out, glass, self.color, self.passed, self.maps, self.covered)

    def frame(self, supersampling: int) -> Frame:
        """Tone-map the samples and average them to pixels."""
        height, width, k = self.height // supersampling, self.width // supersampling, supersampling
        _tone_map(self.color)

        def shrink(
            samples: NDArray[np.float32], weight: NDArray[np.float32] | None = None
        ) -> NDArray[np.float32]:
            blocks = samples.reshape(height, k, width, k, -1)
            if weight is None:
                return blocks.mean(axis=(1, 3))
            w = weight.reshape(height, k, width, k, 1)
            return (blocks * w).sum(axis=(1, 3)) / np.maximum(w.sum(axis=(1, 3)), 1e-6)

        maps = shrink(self.maps[:, :9], self.covered)
        depth = self.maps[:, 9].reshape(height, k, width, k).min(axis=(1, 3))
        normal = maps[..., 6:9]
        length = np.linalg.norm(normal, axis=-1, keepdims=True)
        return Frame(
            color=shrink(self.color),
            passed=shrink(self.passed),
            base_color=maps[..., :3],
            metallic=maps[..., 3],
            roughness=maps[..., 4],
            alpha=maps[..., 5],
            normal=normal / np.maximum(length, 1e-6),
            depth=depth,
            covered=shrink(self.covered)[..., 0],
        )


@njit(cache=True, parallel=True)
def _lay_under(
    pixel: NDArray[np.int64],
    shaded: NDArray[np.float32],
    glass: NDArray[np.bool_],
    color: NDArray[np.float32],
    passed: NDArray[np.float32],
    maps: NDArray[np.float32],
    covered: NDArray[np.float32],
) -> None:
    """Front-to-back compositing; the first surface that is not cut away also fills the maps."""
    for n in prange(len(pixel)):
        p = pixel[n]
        for c in range(3):
            color[p, c] += passed[p, c] * shaded[n, c]
            passed[p, c] *= shaded[n, 3 + c]
        if covered[p] == 0 and (shaded[n, 11] > 0.004 or glass[n]):
            covered[p] = 1
            for c in range(maps.shape[1]):
                maps[p, c] = shaded[n, 6 + c]


@njit(cache=True, parallel=True)
def _tone_map(color: NDArray[np.float32]) -> None:
    for p in prange(len(color)):
        color[p, 0], color[p, 1], color[p, 2] = neutral(
            max(color[p, 0], 0.0), max(color[p, 1], 0.0), max(color[p, 2], 0.0)
        )
