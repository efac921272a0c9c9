"""One picture of a scene: layers of surfaces, shaded and laid over each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import kernel, parallel_kernel
from voxlume.render.brdf import reflectance_table
from voxlume.render.camera import Camera
from voxlume.render.environment import Environment, studio
from voxlume.render.occlusion import ambient_occlusion
from voxlume.render.raster import Fragments
from voxlume.render.scene import Part, Scene
from voxlume.render.shade import CHANNELS, LightArrays, shade_points
from voxlume.render.shadow import ShadowMap, lit_share, shadow_map
from voxlume.render.tonemap import neutral

_MOST_LAYERS = 32
_OPAQUE_ENOUGH = 0.01  # less light than this from behind is not worth another layer
_FRAME_CHANNELS = 17
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
        self.scene, self.camera = scene, replace(camera, position=camera.position - scene.center)
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
        self.clip = self.camera.clip_positions(scene.vertices, width / height)
        self.color = np.zeros((height * width, 3), np.float32)
        self.passed = np.ones((height * width, 3), np.float32)
        self.maps = np.empty((height * width, CHANNELS - 6), np.float32)  # read only where covered
        self.covered = np.zeros(height * width, np.float32)

    def draw(self) -> None:
        scene = self.scene
        shadows = self._shadows()
        solid = self._rasterize(scene.solid)
        if len(scene.see_through):
            self._lay_see_through(solid.depth.copy(), shadows)
        pixel = _seen_pixels(solid.face_index, self.passed)
        face = scene.solid.index[solid.face_index.reshape(-1)[pixel]]
        self._lay(pixel, face, solid, shadows, self._occlusion(solid, pixel, face))

    def _lay_see_through(self, before: NDArray[np.float32], shadows: ShadowMap | None) -> None:
        """Peel the surfaces that may let light pass, front to back, until no pixel needs another."""
        layer: Fragments | None = None
        for _ in range(_MOST_LAYERS):
            layer = self._rasterize(self.scene.see_through, beyond=layer, before=before)
            pixel = _seen_pixels(layer.face_index, self.passed)
            if not len(pixel):
                break
            face = self.scene.see_through.index[layer.face_index.reshape(-1)[pixel]]
            self._lay(pixel, face, layer, shadows, np.zeros(0, np.float32))
            _close_pixels(pixel, self.passed, before.reshape(-1))

    def _rasterize(
        self, part: Part, beyond: Fragments | None = None, before: NDArray[np.float32] | None = None
    ) -> Fragments:
        return part.rasterize(
            self.clip, self.height, self.width, near=self.camera.near, beyond=beyond, before=before
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
        share = ambient_occlusion(
            solid.depth,
            pixel,
            self.scene.shading.face_normal,
            face,
            self.camera.axes,
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
                scene.vertices,
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
            scene.vertices,
            face,
            barycentric,
            self.camera.position,
            self.camera.axes[2],
            2 * self.slope / self.height,
            lit,
            occlusion,
            self.light,
            out,
        )
        glass = sampler.table.see_through[sampler.surface.material[face]]
        _lay_under(pixel, out, glass, self.color, self.passed, self.maps, self.covered)

    def frame(self, supersampling: int) -> Frame:
        """Tone-map the samples and average them to pixels."""
        height, width = self.height // supersampling, self.width // supersampling
        out = np.empty((height, width, _FRAME_CHANNELS), np.float32)
        _resolve(self.color, self.passed, self.maps, self.covered, supersampling, self.width, out)
        return Frame(
            color=out[..., 0:3],
            passed=out[..., 3:6],
            base_color=out[..., 6:9],
            metallic=out[..., 9],
            roughness=out[..., 10],
            alpha=out[..., 11],
            normal=out[..., 12:15],
            depth=out[..., 15],
            covered=out[..., 16],
        )


@kernel
def _seen_pixels(face_index: NDArray[np.int32], passed: NDArray[np.float32]) -> NDArray[np.int64]:
    """Flat indices of the pixels that have a face which can still be seen."""
    faces = face_index.reshape(-1)
    found = np.empty(len(faces), np.int64)
    count = 0
    for p in range(len(faces)):
        if faces[p] >= 0 and max(passed[p, 0], passed[p, 1], passed[p, 2]) >= _OPAQUE_ENOUGH:
            found[count] = p
            count += 1
    return found[:count].copy()


@kernel
def _close_pixels(pixel: NDArray[np.int64], passed: NDArray[np.float32], before: NDArray[np.float32]) -> None:
    """Let no further layer be drawn where nothing would shine through."""
    for p in pixel:
        if max(passed[p, 0], passed[p, 1], passed[p, 2]) < _OPAQUE_ENOUGH:
            before[p] = -np.inf


@parallel_kernel
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


@parallel_kernel
def _resolve(
    color: NDArray[np.float32],
    passed: NDArray[np.float32],
    maps: NDArray[np.float32],
    covered: NDArray[np.float32],
    k: int,
    sample_width: int,
    out: NDArray[np.float32],
) -> None:
    """Average k x k samples to a pixel, colour after tone mapping, maps over the covered samples."""
    height, width, _ = out.shape
    for r in prange(height):
        for c in range(width):
            total = np.zeros(_FRAME_CHANNELS)
            total[15] = np.inf
            for i in range(k):
                for j in range(k):
                    p = (r * k + i) * sample_width + c * k + j
                    red, green, blue = neutral(
                        max(color[p, 0], 0.0), max(color[p, 1], 0.0), max(color[p, 2], 0.0)
                    )
                    total[0] += red
                    total[1] += green
                    total[2] += blue
                    for m in range(3):
                        total[3 + m] += passed[p, m]
                    if covered[p] > 0:
                        for m in range(9):
                            total[6 + m] += maps[p, m]
                        total[15] = min(total[15], maps[p, 9])
                        total[16] += 1
            for m in range(6):
                out[r, c, m] = total[m] / (k * k)
            for m in range(6, 12):
                out[r, c, m] = total[m] / max(total[16], 1.0)
            length = math.sqrt(total[12] ** 2 + total[13] ** 2 + total[14] ** 2)
            for m in range(12, 15):
                out[r, c, m] = total[m] / max(length, 1e-6)
            out[r, c, 15] = total[15]
            out[r, c, 16] = total[16] / (k * k)
