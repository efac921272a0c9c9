"""Random light for conditioning pictures: studios, rooms and skies, filtered for every roughness at once.

The light's frame is the Z-up model frame with the camera on the -y side; a picture turns it about z to
where its camera stands. Pictures of all directions are laid out as in :mod:`voxlume.render.environment`.

Legend for shapes: e environments, l roughness levels, (h, 2 h) pixels of an environment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from voxlume.render.environment import directions

_HEIGHT = 64
_LEVELS = 5
"""Filtered for roughness 0, 1/4, ... 1."""

_SAMPLES = (0, 48, 96, 128, 128)
_LEVEL_HEIGHT = (64, 64, 32, 16, 16)
_BOXES = 5
_PANELS = 7


@dataclass(frozen=True, eq=False)
class Lights:
    """A pool of environments on one device, ready for shading.

    Attributes
    ----------
    levels : float32 (1, 3, e l, h, 2 h + 2), radiance filtered by the lobe of each roughness; one column of
        the other end is repeated on either side.
    irradiance : float32 (e, 9, 3), spherical harmonics that give the irradiance / pi of a normal.
    key_direction : float32 (e, 3), unit, towards the light that casts shadows.
    key_radiance : float32 (e, 3), what a white matt surface that faces it sends back.
    key_softness : float32 (e,), radius of the borders of its shadows, in the model frame's units.
    backdrop : float32 (e, 2, 3), linear light from above and from below behind glass.
    """

    levels: Tensor
    irradiance: Tensor
    key_direction: Tensor
    key_radiance: Tensor
    key_softness: Tensor
    backdrop: Tensor

    def __len__(self) -> int:
        return len(self.irradiance)

    @classmethod
    def from_radiance(
        cls,
        radiance: Tensor,
        key_direction: Tensor,
        key_radiance: Tensor,
        key_softness: Tensor,
        backdrop: Tensor,
    ) -> Lights:
        """Filter pictures of linear light, float32 (e, 64, 128, 3)."""
        e = len(radiance)
        source = radiance.permute(0, 3, 1, 2).reshape(1, 3 * e, _HEIGHT, 2 * _HEIGHT)
        levels = [_filtered(source, level).reshape(e, 3, _HEIGHT, 2 * _HEIGHT) for level in range(_LEVELS)]
        stacked = _wrapped(torch.stack(levels, 1)).permute(2, 0, 1, 3, 4)
        weights = _harmonics_of_picture(radiance.device)
        return cls(
            stacked.reshape(1, 3, e * _LEVELS, _HEIGHT, 2 * _HEIGHT + 2).contiguous(),
            torch.einsum("hwk,ehwc->ekc", weights, radiance),
            key_direction,
            key_radiance,
            key_softness,
            backdrop,
        )

    def radiance(self, environment: Tensor, directions: Tensor, roughness: Tensor) -> Tensor:
        """Light (p, 3) from directions (p, 3) as lobes of roughness (p,) gather it in environments (p,)."""
        column, row = _place(directions)
        # The level axis holds all environments; the last level of one must not mix with the next one's first.
        level = environment * _LEVELS + roughness.clamp(0, 1) * (_LEVELS - 1)
        x = (column * 2 * _HEIGHT + 0.5) / (2 * _HEIGHT + 1) * 2 - 1
        y = (row * _HEIGHT - 0.5).clamp(0, _HEIGHT - 1) / (_HEIGHT - 1) * 2 - 1
        z = level / max(self.levels.shape[2] - 1, 1) * 2 - 1
        grid = torch.stack([x, y, z], 1).reshape(1, 1, 1, -1, 3)
        return F.grid_sample(self.levels, grid, padding_mode="border", align_corners=True)[0, :, 0, 0].T

    def matt(self, environment: Tensor, normals: Tensor) -> Tensor:
        """Irradiance / pi (p, 3) of unit normals (p, 3) in environments (p,), without the key light."""
        return (_harmonics(normals)[:, :, None] * self.irradiance[environment]).sum(1).clamp(min=0)


def random_lights(
    count: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Lights:
    """Environments with a key light, softboxes, a tinted sky and ground, dark and bright panels.

    Exposed more or less as by a photographer: a white matt surface that faces the camera comes out between
    0.55 and 1.1 in linear light.
    """
    with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
        draw = _Draw(count, generator, torch.device(device))
        d = _directions(torch.device(device))  # (h, w, 3)
        up = d[:, :, 2]

        # Sky and ground that meet in a more or less sharp horizon.
        warmth = draw.normal() * 0.07
        tint = torch.stack([1 + warmth, torch.ones_like(warmth), 1 - warmth], 1)
        sky, ground = draw.uniform(0.12, 0.9), draw.uniform(0.03, 0.5)
        blend = torch.sigmoid(up[None] / draw.uniform(0.05, 0.5)[:, None, None] * 2)
        level = ground[:, None, None] + (sky - ground)[:, None, None] * blend
        radiance = level[..., None] * tint[:, None, None]

        # What else stands in a room: it shows in polished metal.
        for _ in range(_PANELS):
            direction = _unit_vector(draw.uniform(-180, 180), draw.uniform(-50, 60))
            panel = _softbox(d, direction, draw.uniform(0.1, 0.7), draw.uniform(0.1, 0.7), 0.05)
            factor = torch.exp(draw.normal() * 0.7)
            radiance = radiance * (1 + panel * (factor[:, None, None] - 1))[..., None]

        # Softboxes and windows; the first is the key light's.
        key_direction = _unit_vector(draw.normal() * 50, draw.uniform(15, 75))
        key_tint = _tint(draw, 0.08)
        for i in range(_BOXES):
            width, height = draw.log_uniform(0.08, 0.9), draw.log_uniform(0.12, 0.9)
            direction = _unit_vector(draw.uniform(-180, 180), draw.uniform(-15, 80)) if i else key_direction
            level = draw.log_uniform(0.15, 1.2) / (width * height).clamp(min=0.05)
            level = level * (draw.uniform(0, 1) < 0.6) if i else level
            box = _softbox(d, direction, width, height, 0.08) * level[:, None, None]
            radiance = radiance + box[..., None] * (_tint(draw, 0.06) if i else key_tint)[:, None, None]

        key_radiance = (draw.uniform(0.0, 1.3) * (draw.uniform(0, 1) < 0.85))[:, None] * key_tint
        exposure = draw.uniform(0.55, 1.1) / _brightness(radiance, key_direction, key_radiance)
        backdrop = draw.log_uniform(0.03, 0.9)[:, None, None] * torch.stack(
            [_tint(draw, 0.1) for _ in range(2)], 1
        )
        backdrop = backdrop * torch.stack([draw.uniform(0.5, 1.3), draw.uniform(0.5, 1.3)], 1)[..., None]
        return Lights.from_radiance(
            radiance * exposure[:, None, None, None],
            key_direction,
            key_radiance * exposure[:, None],
            draw.log_uniform(0.004, 0.05),
            backdrop.clamp(max=1.0),
        )


class _Draw:
    """Random values (e,), drawn where the generator is and used where the lights are."""

    def __init__(self, count: int, generator: torch.Generator | None, device: torch.device) -> None:
        self.count, self.generator, self.device = count, generator, device

    def uniform(self, low: float, high: float) -> Tensor:
        source = "cpu" if self.generator is None else self.generator.device
        u = torch.rand(self.count, generator=self.generator, device=source)
        return low + u.to(self.device) * (high - low)

    def log_uniform(self, low: float, high: float) -> Tensor:
        return self.uniform(math.log(low), math.log(high)).exp()

    def normal(self) -> Tensor:
        # By the inverse of the distribution, cut at 2.5 standard deviations.
        return torch.erfinv(self.uniform(-0.9876, 0.9876)) * math.sqrt(2)


def _tint(draw: _Draw, strength: float) -> Tensor:
    """(e, 3) around white: warm or cool, with a little of any hue."""
    warmth = draw.normal() * strength
    hue = torch.stack([draw.normal() for _ in range(3)], 1) * strength / 3
    warm = torch.stack([warmth, torch.zeros_like(warmth), -warmth], 1)
    return (1 + warm + hue).clamp(min=0.3)


def _unit_vector(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """(e, 3) from degrees; azimuth 0 is the camera's side."""
    a, t = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    return torch.stack([a.sin() * t.cos(), -a.cos() * t.cos(), t.sin()], 1)


def _softbox(d: Tensor, toward: Tensor, half_width: Tensor, half_height: Tensor, border: float) -> Tensor:
    """Rectangles seen at directions d (h, w, 3), (e, h, w) in [0, 1]; sizes are tangents of half-angles."""
    right = F.normalize(torch.stack([-toward[:, 1], toward[:, 0], torch.zeros_like(toward[:, 0])], 1), dim=1)
    up = torch.linalg.cross(toward, right)
    depth, x, y = (torch.einsum("hwc,ec->ehw", d, axis) for axis in (toward, right, up))
    depth = torch.where(depth > 0.05, depth, torch.inf)
    in_x = (half_width[:, None, None] - (x / depth).abs()) / border
    in_y = (half_height[:, None, None] - (y / depth).abs()) / border
    edge = in_x.clamp(0, 1) * in_y.clamp(0, 1) * torch.isfinite(depth)
    return edge * edge * (3 - 2 * edge)


def _brightness(radiance: Tensor, key_direction: Tensor, key_radiance: Tensor) -> Tensor:
    """(e,) light that white matt surfaces send back, one to the camera and one halfway to the zenith."""
    coefficients = torch.einsum("hwk,ehwc->ekc", _harmonics_of_picture(radiance.device), radiance)
    normals = torch.tensor([[0.0, -1, 0], [0, -0.7071, 0.7071]], device=radiance.device)
    matt = torch.einsum("nk,ekc->enc", _harmonics(normals), coefficients)
    lambert = (key_direction @ normals.T).clamp(min=0)
    return (matt + lambert[:, :, None] * key_radiance[:, None]).mean((1, 2)).clamp(min=1e-3)


@lru_cache(maxsize=4)
def _directions(device: torch.device) -> Tensor:
    """(h, 2 h, 3) unit vectors of the pixels, Z-up."""
    d = torch.from_numpy(directions(_HEIGHT)).float().to(device)
    return torch.stack([d[..., 0], -d[..., 2], d[..., 1]], -1)


@lru_cache(maxsize=4)
def _harmonics_of_picture(device: torch.device) -> Tensor:
    """(h, 2 h, 9): what pixels add to coefficients of irradiance / pi (Ramamoorthi and Hanrahan, 2001)."""
    polar = torch.arange(_HEIGHT + 1, device=device) / _HEIGHT * math.pi
    solid_angle = (polar[:-1].cos() - polar[1:].cos()) * math.pi / _HEIGHT
    band = torch.tensor([1.0, *[2 / 3] * 3, *[1 / 4] * 5], device=device)
    return _harmonics(_directions(device)) * solid_angle[:, None, None] * band


def _harmonics(d: Tensor) -> Tensor:
    """The first nine real spherical harmonics (..., 9) of unit vectors (..., 3)."""
    x, y, z = d.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, 0.28209479177387814),
            0.4886025119029199 * y,
            0.4886025119029199 * z,
            0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * z * z - 1),
            1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ],
        -1,
    )


def _place(d: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row, each in [0, 1], at which a picture shows directions (..., 3)."""
    column = torch.atan2(-d[..., 1], -d[..., 0]) * (0.5 / math.pi)
    return torch.where(column < 0, column + 1, column), torch.acos(d[..., 2].clamp(-1, 1)) / math.pi


def _wrapped(pictures: Tensor) -> Tensor:
    """One column of the other end on either side."""
    return torch.cat([pictures[..., -1:], pictures, pictures[..., :1]], -1)


def _filtered(source: Tensor, level: int) -> Tensor:
    """Pictures (1, c, 64, 128) averaged over the GGX lobe about every direction, seen along the normal."""
    if not level:
        return source
    height, device = _LEVEL_HEIGHT[level], source.device
    # Wide lobes are sampled from a coarse picture, so that few samples are enough.
    shrunk = F.avg_pool2d(source, 2) if level > 1 else source
    local, weight = _lobe((level / (_LEVELS - 1)) ** 2, _SAMPLES[level], device)
    normal = torch.from_numpy(directions(height)).float().to(device).reshape(-1, 3)
    normal = torch.stack([normal[:, 0], -normal[:, 2], normal[:, 1]], 1)
    other = torch.tensor([[0.0, 0, 1], [1, 0, 0]], device=device)[(normal[:, 2].abs() > 0.9).long()]
    tangent = F.normalize(torch.linalg.cross(other, normal), dim=1)
    frame = torch.stack([tangent, torch.linalg.cross(normal, tangent), normal], 1)
    padded = _wrapped(shrunk)
    h = shrunk.shape[2]
    rows = []
    for part in frame.split(512):
        column, row = _place((local[None, :, :, None] * part[:, None]).sum(2))
        x = (column * 2 * h + 0.5) / (2 * h + 1) * 2 - 1
        y = (row * h - 0.5).clamp(0, h - 1) / (h - 1) * 2 - 1
        grid = torch.stack([x, y], -1)[None]
        found = F.grid_sample(padded, grid, padding_mode="border", align_corners=True)
        rows.append((found * weight).sum(-1))
    filtered = torch.cat(rows, 2).reshape(1, -1, height, 2 * height)
    if height == _HEIGHT:
        return filtered
    scale = _HEIGHT // height
    return F.interpolate(_wrapped(filtered), scale_factor=scale, mode="bilinear")[..., scale:-scale]


def _lobe(alpha: float, samples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Directions (k, 3) about +z in which the GGX lobe reflects it, and their weights (k,)."""
    i = torch.arange(samples, dtype=torch.float64)
    u, v = (i + 0.5) / samples, i * 0.6180339887498949 % 1.0
    cos2 = (1 - u) / (1 + (alpha * alpha - 1) * u)
    cos, sin, phi = cos2.sqrt(), (1 - cos2).sqrt(), 2 * math.pi * v
    half = torch.stack([sin * phi.cos(), sin * phi.sin(), cos], 1)
    light = 2 * cos[:, None] * half
    light[:, 2] -= 1
    weight = light[:, 2].clamp(min=0)
    return light.float().to(device), (weight / weight.sum()).float().to(device)
