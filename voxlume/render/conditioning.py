"""Pictures that stand for photographs: objects with materials under random light, cut out and cropped.

Shading is that of :mod:`voxlume.render.shade` (metallic-roughness, image-based light, one key light with
shadows, screen-space occlusion), for many pictures at once on any device. Surfaces that let light pass are
peeled front to back; what shines through them at last is a smooth backdrop.

Legend for shapes: b pictures of s x s pixels; m faces; p shaded samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from voxlume.render.batch import Points, Projection, Surfaces, vertex_normals
from voxlume.render.batch_camera import BatchCameras, random_cameras
from voxlume.render.batch_raster import NO_FACE, key_depth, key_face
from voxlume.render.batch_voxels import surfaces_of_voxels
from voxlume.render.brdf import DIELECTRIC_F0, reflectance_table
from voxlume.render.lights import Lights, random_lights
from voxlume.render.tonemap_torch import linear_to_srgb_torch, neutral_torch, srgb_to_linear_torch

__all__ = [
    "SEEN",
    "SEEN_PARTS",
    "SEEN_SIDEWAYS",
    "Lighting",
    "Pictures",
    "Seen",
    "condition_pictures",
    "crop_to_surfaces",
    "random_lighting",
    "surfaces_of_voxels",
]

VISIBLE_ALPHA = 0.05
"""A surface with less is not there: it neither shows nor counts for the mask."""

_OPAQUE_ALPHA = 0.95
_LAYERS = 4
"""Translucent surfaces that are peeled before the nearest opaque one."""

_OPAQUE_ENOUGH = 0.01
_SAMPLES_AT_ONCE = {"cuda": 1 << 23, "cpu": 1 << 20}
_SHADOW_SIZE = 384
_SHADOW_TAPS = 8
_SHADOW_DISTANCE = 20.0
_OCCLUSION_TAPS = 8
_OCCLUSION_REACH = 0.14
_GOLDEN_ANGLE = 2.399963229728653


SEEN_PARTS = {"place": 3, "aside": 2, "normal": 3, "attributes": 6}
"""What the bytes that tell what a pixel shows are of, in this order."""

SEEN = sum(SEEN_PARTS.values())

SEEN_SIDEWAYS = (0, 3, 5)
"""Those of them that a mirror on the plane x = 0 turns: a byte b becomes 256 - b."""

_ASIDE = 0.71
"""No place of the unit cube is further from its axis."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What pixels show, read from :attr:`Pictures.seen`; float32 (..., k).

    Attributes
    ----------
    shown : bool (...), whether they show anything.
    place : (..., 3) in the unit cube about the origin of the model frame, to 1 / 254.
    aside : (..., 2) how far to the right of the vertical axis, as seen from the camera, and how far beyond
        it. That can be told even of what looks the same from all sides.
    normal : (..., 3) smooth unit normals of the model frame, turned to the camera, to 1 / 127.
    attributes : (..., 6) in [0, 1].
    """

    shown: Tensor
    place: Tensor
    aside: Tensor
    normal: Tensor
    attributes: Tensor

    @classmethod
    def read(cls, seen: Tensor) -> Seen:
        """Of bytes (..., 14)."""
        place, aside, normal, attributes = seen.float().split(list(SEEN_PARTS.values()), -1)
        return cls(
            seen[..., 0] > 0,
            (place - 1) / 254 - 0.5,
            (aside - 128) / 127 * _ASIDE,
            (normal - 128) / 127,
            attributes / 255,
        )


@dataclass(frozen=True, eq=False)
class Pictures:
    """Cut-out pictures as the image encoder takes them.

    Attributes
    ----------
    rgb : uint8 (b, s, s, 3), sRGB, premultiplied onto black.
    mask : float32 (b, s, s), the share of the pixel that the object covers. Glass covers what it is before.
    cameras : that they were taken with; their windows are the crops.
    seen : uint8 (b, s / k, s / k, 14), what the middle of every k-th pixel shows first, or None; see
        :class:`Seen`. All zero where it shows nothing.
    """

    rgb: Tensor
    mask: Tensor
    cameras: BatchCameras
    seen: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Lighting:
    """Which light each picture is taken in.

    Attributes
    ----------
    lights : the pool.
    environment : int64 (b,), row of the pool.
    turn : float32 (b,), radians by which it is turned about z from where the camera stands at -y.
    """

    lights: Lights
    environment: Tensor
    turn: Tensor


def condition_pictures(
    surfaces: Surfaces,
    generator: torch.Generator | None = None,
    size: int = 256,
    cameras: BatchCameras | None = None,
    *,
    lighting: Lighting | Lights | None = None,
    supersampling: int = 2,
    crop: bool = True,
    seen_every: int = 0,
) -> Pictures:
    """Photograph each sample once.

    The square around the object is drawn at full size, as
    :func:`voxlume.pipelines.preprocess.crop_to_object` would cut it out of a photograph.

    Parameters
    ----------
    surfaces : with the six attributes of an O-Voxel (sRGB-encoded base colour, metallic, roughness, alpha).
    generator : source of chance for cameras and light.
    cameras : one for each sample; by default :func:`voxlume.render.batch_camera.random_cameras`.
    lighting : a pool of lights to draw from, which is worth keeping for many calls, or the light of each
        picture; by default a new pool of up to 64.
    supersampling : samples per pixel and axis.
    crop : False draws the cameras' own windows.
    seen_every : also tell what every so-manieth pixel of each row and column shows; 0 does not.

    Raises
    ------
    ValueError : the surfaces have not six attributes, or the number of cameras is not that of the samples.
    """
    if surfaces.attributes is None or surfaces.attributes.shape[1] != 6:
        raise ValueError("condition pictures need the six attributes of an O-Voxel")
    device, b = surfaces.vertices.device, len(surfaces)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        if cameras is None:
            cameras = random_cameras(b, generator, device)
        if lighting is None:
            lighting = random_lights(min(max(b, 1), 64), generator, device)
        if isinstance(lighting, Lights):
            lighting = random_lighting(lighting, cameras, generator)
        visible = face_alpha(surfaces) > VISIBLE_ALPHA
        if crop:
            cameras = crop_to_surfaces(surfaces, cameras, visible)
        studio = _Studio(surfaces, cameras, lighting, size, supersampling, visible, seen_every)
        at_once = max(1, _SAMPLES_AT_ONCE.get(device.type, 1 << 20) // (size * supersampling) ** 2)
        parts = [studio.photograph(i, min(i + at_once, b)) for i in range(0, b, at_once)]
        if not parts:
            return Pictures(
                torch.zeros((0, size, size, 3), dtype=torch.uint8, device=device),
                torch.zeros((0, size, size), device=device),
                cameras,
            )
        rgb, mask, told = zip(*parts, strict=True)
        seen = [part for part in told if part is not None]
    return Pictures(torch.cat(rgb), torch.cat(mask), cameras, torch.cat(seen) if seen else None)


def random_lighting(
    lights: Lights, cameras: BatchCameras, generator: torch.Generator | None = None
) -> Lighting:
    """A light of the pool for each picture, turned with its camera and up to 40 degrees further."""
    source = "cpu" if generator is None else generator.device
    u = torch.rand((2, len(cameras)), generator=generator, device=source).to(cameras.position.device)
    x, y = cameras.position[:, 0], cameras.position[:, 1]
    turn = torch.atan2(x, -y) + torch.deg2rad(80 * u[1] - 40)
    return Lighting(lights, (u[0] * len(lights)).long().clamp(max=len(lights) - 1), turn)


def face_alpha(surfaces: Surfaces) -> Tensor:
    """The largest alpha (m,) at the corners of each face of surfaces with O-Voxel attributes."""
    if surfaces.attributes is None:
        raise ValueError("the surfaces have no attributes")
    alpha = surfaces.attributes[:, 5].contiguous()
    return alpha.index_select(0, surfaces.faces.flatten()).reshape(-1, 3).amax(1)


def crop_to_surfaces(
    surfaces: Surfaces, cameras: BatchCameras, visible: Tensor | None = None
) -> BatchCameras:
    """The cameras with the square window around what they see of each sample.

    Parameters
    ----------
    visible : bool (m,), the faces that count; all by default. Samples without any keep the whole picture.
    """
    with torch.no_grad():
        projection = Projection(surfaces, cameras.cropped(None), 1)
        place = projection.clip[:, :2] / projection.clip[:, 2:].clamp(min=1e-3)
        # Corners at which a visible face is; low and high ends as one minimum of both signs.
        counted = torch.zeros(len(place), dtype=torch.bool, device=place.device)
        faces = surfaces.faces if visible is None else surfaces.faces[visible]
        counted[faces.flatten().long()] = True
        ends = torch.cat([place, -place], 1).masked_fill(~counted[:, None], torch.inf)
        # 256 counters a sample, so that atomic minima of neighbours do not wait for each other.
        row = torch.arange(len(place), device=place.device) % 256
        bucket = surfaces.vertex_sample * 256 + row
        low = torch.full((len(surfaces) * 256, 4), torch.inf, device=place.device)
        low.scatter_reduce_(0, bucket[:, None].expand(-1, 4), ends, "amin")
        low = low.reshape(len(surfaces), 256, 4).amin(1)
        low = torch.where(torch.isfinite(low), low, -1.0)
        middle, half = (low[:, :2] - low[:, 2:]) / 2, (-low[:, 2:] - low[:, :2]).amax(1, keepdim=True) / 2
        half = half.clamp(min=1e-4)
    return cameras.cropped(torch.cat([middle - half, middle + half], 1))


class _Studio:
    """Everything that the pictures of one call share."""

    def __init__(
        self,
        surfaces: Surfaces,
        cameras: BatchCameras,
        lighting: Lighting,
        size: int,
        supersampling: int,
        visible: Tensor,
        seen_every: int = 0,
    ) -> None:
        self.surfaces, self.cameras, self.lighting = surfaces, cameras, lighting
        self.seen_every = seen_every
        self.size, self.supersampling = size, supersampling
        self.fine = size * supersampling
        self.visible = visible
        self.opaque = visible & (face_alpha(surfaces) >= _OPAQUE_ALPHA)
        self.projection = Projection(surfaces, cameras, self.fine)
        self.starts = surfaces.face_starts.tolist()
        self.normals = vertex_normals(surfaces, cameras.position)
        sample, passing = surfaces.face_sample, visible & ~self.opaque
        glassy = torch.zeros(len(surfaces), dtype=torch.bool, device=visible.device)
        glassy[sample[passing].long()] = True
        self.glassy = bool(glassy.any())
        # What is behind the first layer shows in these samples only.
        self.behind = glassy[sample.long()]
        lights, environment, turn = lighting.lights, lighting.environment, lighting.turn
        self.key_direction = _turned_about_z(lights.key_direction[environment], turn)
        self.shadow = Projection(surfaces, _shadow_cameras(self.key_direction), _SHADOW_SIZE)

    def photograph(self, first: int, last: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """``rgb``, ``mask`` and ``seen`` of :class:`Pictures`, of the samples from ``first`` to ``last``."""
        where = {"samples": (first, last), "face_rows": (self.starts[first], self.starts[last])}
        count, device = (last - first) * self.fine**2, self.surfaces.vertices.device
        color = torch.zeros((count, 3), device=device)
        passed = torch.ones((count, 3), device=device)
        covered = torch.zeros(count, dtype=torch.bool, device=device)
        shadow = key_depth(self.shadow.nearest(drawn=self.opaque, **where))  # type: ignore[arg-type]
        keys: Tensor | None = None
        depth: Tensor | None = None
        seen: Tensor | None = None
        for layer in range(_LAYERS + 1 if self.glassy else 1):
            # Behind the last translucent layer only what is opaque still counts.
            drawn = self.opaque if layer == _LAYERS else self.visible
            drawn = drawn & self.behind if layer else drawn
            keys = self.projection.nearest(keys, drawn=drawn, **where)  # type: ignore[arg-type]
            depth = key_depth(keys) if depth is None else depth
            pixel = (keys != NO_FACE).nonzero()[:, 0]
            face = key_face(keys[pixel]) + self.starts[first]
            points = Points(self.projection, face, pixel, first)
            if self.seen_every and layer == 0:
                seen = self._seen(points, pixel, first, last)
            shaded, through, alpha = self._shade(points, shadow, depth if layer == 0 else None, first)
            color[pixel] += passed[pixel] * shaded
            passed[pixel] *= through
            covered[pixel] |= alpha > VISIBLE_ALPHA
            if layer < _LAYERS and self.glassy:
                closed = passed.amax(1) < _OPAQUE_ENOUGH
                keys = keys.masked_fill(closed, NO_FACE)
                if not bool((keys != NO_FACE).any()):
                    break
        color += passed * self._backdrop(first, last)
        return *self._develop(color, covered, last - first), seen

    def _seen(self, points: Points, pixel: Tensor, first: int, last: int) -> Tensor:
        """What the points at flat pixels (p,) in the middle of every so-manieth pixel show."""
        assert self.surfaces.attributes is not None
        step = self.seen_every * self.supersampling
        side, middle = self.fine // step, step // 2
        chosen = ((points.row % step == middle) & (points.column % step == middle)).nonzero()[:, 0]
        few = Points(self.projection, points.face[chosen], pixel[chosen], first)
        sample = few.sample
        place = few.interpolate(self.surfaces.vertices).clamp(-0.5, 0.5)
        normal, values = few.smooth_normals(self.normals), few.interpolate(self.surfaces.attributes)
        x, y = self.cameras.position[sample, 0], self.cameras.position[sample, 1]
        aside = _turned_about_z(place, -torch.atan2(x, -y))[:, :2]
        told = [
            254 * (place + 0.5) + 1,
            127 * aside / _ASIDE + 128,
            127 * normal + 128,
            255 * values.clamp(0, 1),
        ]
        seen = torch.zeros(((last - first) * side * side, SEEN), dtype=torch.uint8, device=place.device)
        cell = ((sample - first) * side + few.row // step) * side + few.column // step
        seen[cell] = (torch.cat(told, 1) + 0.5).byte()
        return seen.reshape(last - first, side, side, SEEN)

    def _shade(
        self, points: Points, shadow: Tensor, depth: Tensor | None, first: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Light sent to the camera (p, 3), share of the light from behind (p, 3), and alpha (p,)."""
        assert self.surfaces.attributes is not None
        values = points.interpolate(self.surfaces.attributes).clamp(0, 1)
        base, metallic, roughness, alpha = values.split([3, 1, 1, 1], 1)
        base = srgb_to_linear_torch(base)
        away = points.away
        normal = _bent_to(points.smooth_normals(self.normals), away)
        nv = (normal * away).sum(1, keepdim=True)
        lighting, sample = self.lighting, points.sample
        environment, turn = lighting.environment[sample], lighting.turn[sample]
        lights = lighting.lights
        facing = _turned_about_z(normal, -turn)
        mirrored = _turned_about_z(2 * nv * normal - away, -turn)

        ambient = torch.ones_like(nv) if depth is None else self._occlusion(points, depth, first)
        lambert = (normal * self.key_direction[sample]).sum(1, keepdim=True).clamp(min=0)
        lit = lambert * self._lit(points, normal, away, shadow, first)
        matt = ambient * lights.matt(environment, facing) + lit * lights.key_radiance[environment]
        # A crevice hides less of what a glancing or polished surface mirrors (Lagarde, 2014).
        seen = ((nv + ambient) ** torch.exp2(-16 * roughness - 1) - 1 + ambient).clamp(0, 1)
        reflected = seen * lights.radiance(environment, mirrored, roughness[:, 0])

        single, multiple, lambertian = _image_based_weights(base, metallic, roughness, nv)
        # A pane mirrors fully even where it hides little.
        shine = (alpha / VISIBLE_ALPHA - 1).clamp(0, 1)
        color = alpha * (lambertian + multiple) * matt + shine * single * reflected
        # Glass tints what it lets through, other translucent surfaces do not; voxels do not say which it was.
        through = (1 - alpha) * (1 + base) / 2 * (1 - shine * single)
        gone = alpha <= VISIBLE_ALPHA
        return color.masked_fill(gone, 0.0), torch.where(gone, 1.0, through), alpha[:, 0]

    def _lit(self, points: Points, normal: Tensor, away: Tensor, shadow: Tensor, first: int) -> Tensor:
        """Share (p, 1) of the key light that is not in the shadow of something opaque."""
        cameras, sample = self.cameras, points.sample
        axial = -(away * cameras.axes[sample, 2]).sum(1, keepdim=True)
        place = cameras.position[sample] - away * (points.depth[:, None] / axial)
        direction = self.key_direction[sample]
        lift = torch.where((normal * direction).sum(1, keepdim=True) < 0, -0.008, 0.008)
        matrix = self.shadow.cameras.matrix()[sample]
        x, y, w = ((matrix[:, :, :3] * (place + lift * normal)[:, None]).sum(-1) + matrix[:, :, 3]).unbind(1)
        column, row = (x / w + 1) * (_SHADOW_SIZE / 2), (1 - y / w) * (_SHADOW_SIZE / 2)
        softness = self.lighting.lights.key_softness[self.lighting.environment[sample]]
        texels = softness * self.shadow.cameras.focal[sample] / w * (_SHADOW_SIZE / 2)
        start = (sample - first) * _SHADOW_SIZE**2
        turn = _spin(points)
        reached = torch.zeros_like(x)
        for tap in range(_SHADOW_TAPS):
            distance = texels * math.sqrt((tap + 0.5) / _SHADOW_TAPS)
            angle = turn + tap * _GOLDEN_ANGLE
            r = (row + distance * angle.sin()).long().clamp(0, _SHADOW_SIZE - 1)
            c = (column + distance * angle.cos()).long().clamp(0, _SHADOW_SIZE - 1)
            reached += shadow[start + r * _SHADOW_SIZE + c] > w - 0.005
        return reached[:, None] / _SHADOW_TAPS

    def _occlusion(self, points: Points, depth: Tensor, first: int) -> Tensor:
        """Share (p, 1) of the ambient light, see :mod:`voxlume.render.occlusion`."""
        size, sample, cameras = self.fine, points.sample, self.cameras
        x, y = cameras.plane_positions(size)
        focal = cameras.focal[:, None]
        x, y = x / focal, y / focal
        normal = (cameras.axes[sample] * points.face_normals()[:, None]).sum(-1)
        z = points.depth
        px, py = x[sample, points.column] * z, y[sample, points.row] * z
        step = (x[:, 1] - x[:, 0])[sample] * z
        pixels = (_OCCLUSION_REACH / step).clamp(max=96.0 * size / 512)
        turn = _spin(points)
        hidden = torch.zeros_like(z)
        start = (sample - first) * size * size
        for tap in range(_OCCLUSION_TAPS):
            distance = pixels * math.sqrt((tap + 0.5) / _OCCLUSION_TAPS)
            angle = turn + tap * _GOLDEN_ANGLE
            r = points.row + (distance * angle.sin()).long()
            c = points.column + (distance * angle.cos()).long()
            inside = (r >= 0) & (c >= 0) & (r < size) & (c < size)
            r, c = r.clamp(0, size - 1), c.clamp(0, size - 1)
            q = depth[start + r * size + c]
            inside &= torch.isfinite(q)
            q = torch.where(inside, q, z)
            dx, dy, dz = x[sample, c] * q - px, y[sample, r] * q - py, q - z
            square = dx * dx + dy * dy + dz * dz
            rise = dx * normal[:, 0] + dy * normal[:, 1] + dz * normal[:, 2] - 0.02 * _OCCLUSION_REACH
            falloff = (1 - square / _OCCLUSION_REACH**2).clamp(min=0)
            hidden += inside * falloff * rise.clamp(min=0) / square.clamp(min=1e-12).sqrt()
        return (1 - 2 * hidden / _OCCLUSION_TAPS).clamp(min=0)[:, None]

    def _backdrop(self, first: int, last: int) -> Tensor:
        """Light behind everything, (b s s, 3): a smooth change from top to bottom."""
        colors = self.lighting.lights.backdrop[self.lighting.environment[first:last]]
        t = torch.linspace(0, 1, self.fine, device=colors.device)[None, :, None]
        rows = colors[:, None, 0] * (1 - t) + colors[:, None, 1] * t
        return rows[:, :, None].expand(-1, -1, self.fine, -1).reshape(-1, 3)

    def _develop(self, color: Tensor, covered: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Tone-map the samples, average them to pixels, encode."""
        light = neutral_torch(color.clamp(min=0)) * covered[:, None]
        stacked = torch.cat([light, covered[:, None].float()], 1).reshape(count, self.fine, self.fine, 4)
        mean = F.avg_pool2d(stacked.permute(0, 3, 1, 2), self.supersampling).permute(0, 2, 3, 1)
        mask = mean[..., 3]
        # Edges are mixed as in the file of a cut-out: encoded colours times alpha.
        encoded = linear_to_srgb_torch((mean[..., :3] / mask[..., None].clamp(min=1e-6)).clamp(0, 1))
        return (encoded * mask[..., None] * 255 + 0.5).byte(), mask


def _image_based_weights(
    base: Tensor, metallic: Tensor, roughness: Tensor, nv: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`voxlume.render.brdf.image_based_weights`; (p, 3) each."""
    grid = torch.cat([nv, roughness], 1) * 2 - 1
    table = _reflectance(base.device)
    # Border padding keeps cuDNN out, whose sampler is not made for a row of millions.
    scale, bias = F.grid_sample(table, grid[None, None], padding_mode="border", align_corners=True)[
        0, :, 0, :, None
    ]
    escaped = 1 - (scale + bias)
    metal, dielectric = base * scale + bias, DIELECTRIC_F0 * scale + bias
    metal_multiple = _bounced(metal, base, escaped)
    dielectric_multiple = _bounced(dielectric, torch.full_like(nv, DIELECTRIC_F0), escaped)
    return (
        dielectric + (metal - dielectric) * metallic,
        dielectric_multiple + (metal_multiple - dielectric_multiple) * metallic,
        base * (1 - metallic) * (1 - dielectric - dielectric_multiple),
    )


def _bounced(single: Tensor, f0: Tensor, escaped: Tensor) -> Tensor:
    average = f0 + (1 - f0) / 21
    return single * average * escaped / (1 - average * escaped)


@lru_cache(maxsize=4)
def _reflectance(device: torch.device) -> Tensor:
    """float32 (1, 2, 48, 48) over roughness and n.v."""
    return torch.from_numpy(reflectance_table()).permute(2, 0, 1)[None].contiguous().to(device)


def _shadow_cameras(direction: Tensor) -> BatchCameras:
    """Cameras that look from far away along directions (b, 3) at the whole unit cube."""
    other = torch.tensor([[0.0, 0, 1], [1, 0, 0]], device=direction.device)
    right = F.normalize(torch.linalg.cross(other[(direction[:, 2].abs() > 0.9).long()], direction), dim=1)
    axes = torch.stack([right, torch.linalg.cross(direction, right), -direction], 1)
    focal = torch.full_like(direction[:, 0], (_SHADOW_DISTANCE - 0.9) / 0.9)
    return BatchCameras(direction * _SHADOW_DISTANCE, axes, focal)


def _spin(points: Points) -> Tensor:
    """An angle (p,) that differs over every block of 4 x 4 samples."""
    return ((points.row & 3) * 4 + (points.column & 3)) * _GOLDEN_ANGLE


def _bent_to(normal: Tensor, away: Tensor) -> Tensor:
    """Normals (p, 3), those that look away from the camera bent back to the horizon."""
    nv = (normal * away).sum(1, keepdim=True)
    return F.normalize(normal + (0.02 - nv).clamp(min=0) * away, dim=1)


def _turned_about_z(vectors: Tensor, angle: Tensor) -> Tensor:
    x, y, z = vectors.unbind(1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y, z], 1)
