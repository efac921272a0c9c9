"""Two assets side by side in numbers: how far apart their surfaces and materials are, what got lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from voxlume.asset import Asset
from voxlume.errors import AssetError
from voxlume.evaluation.components import LostComponent, is_oriented, lost_components
from voxlume.evaluation.surface import Surface, SurfacePoints, f_score
from voxlume.ovoxel.grid import ATTRIBUTE_CHANNELS
from voxlume.progress import Progress, report
from voxlume.render.source import load_surface
from voxlume.texture import MaterialSampler

Detail = Literal["voxel", "texel", "baked"]
"""How textures are sampled: averaged over a voxel's edge, or at full resolution.

``baked`` averages A over a voxel and takes B at full resolution: what a texture made of voxels holds,
whatever its mip-maps mix across the borders of its charts.
"""

DEFAULT_RESOLUTION = 512
_INVISIBLE = 0.5 / 255  # below this alpha nothing else about a material shows
_SMOOTH = 4 / 255  # a texture that changes less than this when averaged over _WIDE voxels is smooth
_WIDE = 4.0
_LISTED = 10


@dataclass(frozen=True)
class DistanceStats:
    """Distances from points of one surface to the other, in voxels and in per cent of the longest side."""

    mean: float
    p95: float
    p99: float
    max: float
    mean_percent: float
    p95_percent: float
    p99_percent: float
    max_percent: float


@dataclass(frozen=True)
class ChannelError:
    """Absolute difference of a material channel at corresponding points, in 255ths."""

    mean: float
    p95: float


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes
    ----------
    a_to_b, b_to_a : distances from points of A to B and back.
    f_score : harmonic mean of the two shares of points that lie within a distance of the other surface.
    normal_consistency : mean |cos| between the normals of corresponding points, both ways.
    normal_same_side : share of corresponding points whose normals point to the same side; None where one
        of the two surfaces has no consistent winding.
    material : error by channel, and "base color" over red, green and blue; points that are fully
        transparent on either side count for alpha only. Empty where no point is left.
    base_color_smooth : the base-colour error where A's texture hardly varies over four voxels; None where
        that is nowhere. smooth_share : the share of the points.
    components : how many components of A are larger than two voxels; lost : those that B lacks.
    detail : how textures were sampled.
    voxel : the voxel's edge in the units of A; resolution_assumed : nobody gave a resolution.
    """

    resolution: int
    resolution_assumed: bool
    voxel: float
    longest_side: float
    samples: int
    seed: int
    a_to_b: DistanceStats
    b_to_a: DistanceStats
    f_score: dict[str, float]
    normal_consistency: float
    normal_same_side: float | None
    material: dict[str, ChannelError]
    base_color_smooth: ChannelError | None
    smooth_share: float
    detail: Detail
    components: int
    lost_count: int
    lost: tuple[LostComponent, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def table(self) -> Table:
        """The figures for a terminal."""
        assumed = " (assumed)" if self.resolution_assumed else ""
        table = Table(title=f"{self.samples:,} points each way, voxel = 1/{self.resolution}{assumed}")
        table.add_column("measure")
        for head in ("mean", "p95", "p99", "max"):
            table.add_column(head, justify="right")
        for name, d in (("A to B", self.a_to_b), ("B to A", self.b_to_a)):
            table.add_row(f"{name}, voxels", *(f"{v:.4f}" for v in (d.mean, d.p95, d.p99, d.max)))
            percent = (d.mean_percent, d.p95_percent, d.p99_percent, d.max_percent)
            table.add_row(f"{name}, % of longest side", *(f"{v:.5f}" for v in percent))
        table.add_section()
        for name, score in self.f_score.items():
            table.add_row(f"F-score within {name}", f"{score:.5f}")
        table.add_row("normals, mean |cos|", f"{self.normal_consistency:.4f}")
        if self.normal_same_side is not None:
            table.add_row("normals, same side", f"{self.normal_same_side:.4f}")
        table.add_section()
        for name, error in self.material.items():
            table.add_row(f"{name}, /255 ({self.detail} detail)", f"{error.mean:.2f}", f"{error.p95:.2f}")
        if self.base_color_smooth is not None:
            smooth = self.base_color_smooth
            label = f"base color where smooth ({self.smooth_share:.0%})"
            table.add_row(label, f"{smooth.mean:.2f}", f"{smooth.p95:.2f}")
        table.add_section()
        table.add_row("components lost", f"{self.lost_count} of {self.components}")
        for note in self.notes:
            table.add_row(f"[yellow]{note}")
        return table


def compare(
    a: Asset,
    b: Asset,
    *,
    resolution: int | None = None,
    samples: int = 200_000,
    seed: int = 0,
    detail: Detail | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two assets that lie in the same frame.

    Parameters
    ----------
    resolution : of the voxel grid whose voxels are the unit; 512 along A's longest side if not given.
    samples : points drawn from each surface, uniform by area.
    detail : texture sampling; by default ``voxel`` where a resolution is given, because a grid cannot
        hold finer texture than its voxels, else ``texel``.

    Raises
    ------
    AssetError : one of the two has no surface.
    """
    if samples < 1:
        raise ValueError("at least one sample is needed")
    assumed = resolution is None
    resolution = resolution or DEFAULT_RESOLUTION
    detail = detail or ("texel" if assumed else "voxel")
    for side, asset in (("A", a), ("B", b)):
        if not asset.num_faces:
            raise AssetError(f"{asset.name or side}: no geometry (no triangle) to compare")
    placement = a.placement()
    bounds = a.bounds()
    longest = float((bounds[1] - bounds[0]).max())
    voxel = 1 / (placement.scale * resolution)
    notes = _frame_notes(bounds, b.bounds())

    sampler_a, sampler_b = MaterialSampler(a), MaterialSampler(b)
    # About A's centre and in units of its longest side, so that far-away and tiny assets lose no digits.
    center = np.array(placement.center)
    surface_a, surface_b = (
        Surface((s.vertices - center) / longest, s.surface.faces, asset.name or side)
        for s, asset, side in ((sampler_a, a, "A"), (sampler_b, b, "B"))
    )
    unit = voxel / longest
    signed = is_oriented(surface_a) and is_oriented(surface_b)

    report(progress, 0, 3, "comparing")
    points_a = surface_a.draw(samples, seed)
    distance_a, match_a = _corresponding(points_a, surface_b, unit, signed)
    components, lost = lost_components(surface_a, surface_b, unit)
    surface_b.forget_tree()
    report(progress, 1, 3, "comparing")
    points_b = surface_b.draw(samples, seed + 1)
    distance_b, match_b = _corresponding(points_b, surface_a, unit, signed)
    surface_a.forget_tree()
    report(progress, 2, 3, "comparing")

    on_a = _joined(points_a, match_b)
    on_b = _joined(match_a, points_b)
    cos = np.einsum("nc,nc->n", on_a.normal, on_b.normal)
    footprints = (0.0 if detail == "texel" else voxel, voxel if detail == "voxel" else 0.0)
    material, smooth, share = _material_errors(sampler_a, sampler_b, on_a, on_b, footprints, voxel)
    report(progress, 3, 3, "comparing")
    return Comparison(
        resolution=resolution,
        resolution_assumed=assumed,
        voxel=voxel,
        longest_side=longest,
        samples=samples,
        seed=seed,
        a_to_b=_distance_stats(distance_a, unit),
        b_to_a=_distance_stats(distance_b, unit),
        f_score={
            name: f_score(distance_a, distance_b, threshold)
            for name, threshold in {
                "0.5 voxel": 0.5 * unit,
                "1 voxel": unit,
                "0.1 %": 1e-3,
                "1 %": 1e-2,
                "5 %": 5e-2,
            }.items()
        },
        normal_consistency=float(np.abs(cos).mean()),
        normal_same_side=float((cos > 0).mean()) if signed else None,
        material=material,
        base_color_smooth=smooth,
        smooth_share=share,
        detail=detail,
        components=components,
        lost_count=len(lost),
        lost=tuple(_in_frame(part, center, longest) for part in lost[:_LISTED]),
        notes=notes,
    )


def compare_files(
    a: str | Path,
    b: str | Path,
    *,
    resolution: int | None = None,
    samples: int = 200_000,
    seed: int = 0,
    detail: Detail | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """:func:`compare` of two files; the resolution is that of the voxel file, if one of them is one.

    Raises
    ------
    AssetError, VoxelFileError : a file cannot be read or has no surface.
    """
    (asset_a, resolution_a), (asset_b, resolution_b) = load_surface(a), load_surface(b)
    return compare(
        asset_a,
        asset_b,
        resolution=resolution or resolution_b or resolution_a,
        samples=samples,
        seed=seed,
        detail=detail,
        progress=progress,
    )


def _frame_notes(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[str, ...]:
    """A warning where the bounding boxes (2, 3) say that the two are not in the same frame."""
    side_a, side_b = float((a[1] - a[0]).max()), float((b[1] - b[0]).max())
    apart = (np.maximum(a[0], b[0]) > np.minimum(a[1], b[1]) + 1e-9 * side_a).any()
    if apart or not 0.5 < side_b / side_a < 2:
        return ("the bounding boxes differ much: are both in the same frame and units?",)
    return ()


def _corresponding(
    points: SurfacePoints, other: Surface, voxel: float, signed: bool
) -> tuple[NDArray[np.float64], SurfacePoints]:
    """Distances to the other surface, and the point there that each point corresponds to.

    That is the nearest one, except where two sheets lie back to back within half a voxel: there it is
    the one whose normal fits.
    """

    def fit(found: SurfacePoints, normal: NDArray[np.float64]) -> NDArray[np.float64]:
        cos = np.einsum("nc,nc->n", normal, found.normal)
        return cos if signed else np.abs(cos)

    distance, best = other.nearest(points.position)
    score = fit(best, points.normal)
    doubtful = np.flatnonzero(score < 0.5)
    position, face = best.position, best.face
    barycentric, normal = best.barycentric, best.normal
    for side in (0.5, -0.5):
        start = points.position[doubtful]
        _, candidate = other.nearest(start + side * voxel * points.normal[doubtful])
        reach = np.linalg.norm(candidate.position - start, axis=1)
        gain = fit(candidate, points.normal[doubtful])
        better = (gain > score[doubtful] + 0.1) & (reach <= distance[doubtful] + 0.5 * voxel)
        chosen = doubtful[better]
        score[chosen] = gain[better]
        position[chosen], face[chosen] = candidate.position[better], candidate.face[better]
        barycentric[chosen], normal[chosen] = candidate.barycentric[better], candidate.normal[better]
    return distance, best


def _joined(first: SurfacePoints, second: SurfacePoints) -> SurfacePoints:
    return SurfacePoints(
        np.concatenate([first.position, second.position]),
        np.concatenate([first.face, second.face]),
        np.concatenate([first.barycentric, second.barycentric]),
        np.concatenate([first.normal, second.normal]),
    )


def _distance_stats(distance: NDArray[np.float64], voxel: float) -> DistanceStats:
    """``distance`` and ``voxel`` in units of the longest side."""
    p95, p99 = np.quantile(distance, [0.95, 0.99])
    values = (float(distance.mean()), float(p95), float(p99), float(distance.max()))
    return DistanceStats(*(v / voxel for v in values), *(100 * v for v in values))


def _material_errors(
    a: MaterialSampler,
    b: MaterialSampler,
    on_a: SurfacePoints,
    on_b: SurfacePoints,
    footprints: tuple[float, float],
    voxel: float,
) -> tuple[dict[str, ChannelError], ChannelError | None, float]:
    """Errors by channel; the base colour's where A's texture is smooth, and the share of such points."""
    value_a = a.sample(on_a.face, on_a.barycentric, footprints[0])
    value_b = b.sample(on_b.face, on_b.barycentric, footprints[1])
    error = np.abs(value_a - value_b)
    visible = np.minimum(value_a[:, 5], value_b[:, 5]) > _INVISIBLE
    errors: dict[str, ChannelError] = {}
    smooth: ChannelError | None = None
    share = 0.0
    if visible.any():
        errors["base color"] = _channel_error(error[visible, :3].mean(axis=1))
        for c, name in enumerate(ATTRIBUTE_CHANNELS[:5]):
            errors[name] = _channel_error(error[visible, c])
        fine = a.sample(on_a.face, on_a.barycentric, 0.0)
        wide = a.sample(on_a.face, on_a.barycentric, _WIDE * voxel)
        even = visible & (np.abs(fine - wide)[:, :3].max(axis=1) < _SMOOTH)
        share = float(even.mean())
        if even.any():
            smooth = _channel_error(error[even, :3].mean(axis=1))
    errors["alpha"] = _channel_error(error[:, 5])
    return errors, smooth, share


def _channel_error(error: NDArray[np.floating]) -> ChannelError:
    return ChannelError(mean=float(error.mean() * 255), p95=float(np.quantile(error, 0.95) * 255))


def _in_frame(part: LostComponent, center: NDArray[np.float64], longest: float) -> LostComponent:
    """The lost component's place in A's own coordinates."""
    x, y, z = (np.array(part.center) * longest + center).tolist()
    return LostComponent((x, y, z), part.size_voxels, part.faces, part.mean_distance_voxels)
