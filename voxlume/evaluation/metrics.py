"""Measures of one surface against another, in the units in which they are published.

Distances are in units of the truth's longest side. All measures of one pair come as one flat dictionary,
None where a measure has no meaning (the alpha IoU of an object without glass); :data:`MEASURES` says what
they are.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from voxlume.asset import Asset, Placement
from voxlume.errors import VoxlumeError
from voxlume.evaluation.maps import Maps, draw_maps, framing
from voxlume.evaluation.surface import Surface, f_score
from voxlume.mesh.edges import edge_table
from voxlume.mesh.from_voxels import surface_of
from voxlume.ovoxel.grid import OVoxel
from voxlume.render.ssim import ssim

Scores = dict[str, float | None]

F_DISTANCES = (0.1, 0.05, 0.01, 1e-3, 1e-4)
"""Thresholds of the F-score. All but 0.05 are the square roots of 1e-2, 1e-4, 1e-6, 1e-8."""

TRANSLUCENT = 0.9
"""Below this alpha a pixel is glass."""

MOST_DB = 60.0
"""The PSNR of pictures that are the same, or nearly: more would only spoil the means over objects."""

MEASURES: dict[str, str] = {
    "mesh_distance": "mean distance of points of either surface to the other, mean of both ways",
    "truth_to_result": "mean distance of the truth's points to the result",
    "result_to_truth": "mean distance of the result's points to the truth",
    **{f"f_score_{d:g}": f"F-score, points within {d:g} of the longest side" for d in F_DISTANCES},
    "normal_psnr": "dB, maps of face normals, whole pictures",
    "normal_ssim": "of the same",
    "normal_psnr_object": "dB, only pixels that show one of the two",
    "silhouette_iou": "of the pixels that show the surface",
    **{
        f"{name}_psnr": f"dB, maps of {name.replace('_', ' ')}, whole pictures"
        for name in ("base_color", "metallic", "roughness", "alpha")
    },
    **{
        f"{name}_error": f"mean absolute error of {name.replace('_', ' ')} where both surfaces show"
        for name in ("base_color", "metallic", "roughness", "alpha")
    },
    "alpha_iou": "of the translucent pixels, for objects that have some",
}

_CHANNELS = {
    "base_color": slice(0, 3),
    "metallic": slice(3, 4),
    "roughness": slice(4, 5),
    "alpha": slice(5, 6),
}
_SOME = 0.002  # share of the surface's pixels that makes an object one with glass


class Truth:
    """An object that results are measured against; what belongs to it alone is computed once.

    Parameters
    ----------
    samples : points drawn from each surface.
    size : side of the maps in pixels.

    Raises
    ------
    AssetError : no surface.
    """

    def __init__(self, asset: Asset, *, samples: int = 100_000, size: int = 256) -> None:
        self.asset, self.samples, self.size = asset, samples, size
        self.placement = asset.placement()
        self.cameras = framing(asset)
        self.maps = draw_maps(asset, self.cameras, size)
        self._surface = model_surface(asset, self.placement)
        self._points = self._surface.draw(samples, seed=0).position

    def score(self, result: OVoxel) -> Scores:
        """All measures of a result that lies in the model frame.

        A result without a surface scores zero where that is the worst, and None elsewhere.
        """
        asset = self.placed(result)
        scores = dict.fromkeys(MEASURES) | self.distances(asset)
        maps = draw_maps(asset, self.cameras, self.size)
        return (
            scores
            | normal_scores(self.maps, maps)
            | (material_scores(self.maps, maps) if result.attributes is not None else {})
        )

    def placed(self, result: OVoxel) -> Asset:
        """The result's surface in the truth's own frame."""
        return surface_of(replace(result, placement=self.placement), "result", exact_alpha=True)

    def distances(self, result: Asset) -> Scores:
        """Distances and F-scores."""
        try:
            other = model_surface(result, self.placement)
        except VoxlumeError:
            return {f"f_score_{d:g}": 0.0 for d in F_DISTANCES}
        there, _ = other.nearest(self._points)
        back, _ = self._surface.nearest(other.draw(self.samples, seed=1).position)
        scores: Scores = {
            "mesh_distance": float(there.mean() + back.mean()) / 2,
            "truth_to_result": float(there.mean()),
            "result_to_truth": float(back.mean()),
        }
        return scores | {f"f_score_{d:g}": f_score(there, back, d) for d in F_DISTANCES}


def model_surface(asset: Asset, placement: Placement) -> Surface:
    """All triangles of an asset in a placement's model frame, where the longest side is 1.

    Raises
    ------
    AssetError : no surface.
    """
    meshes = [mesh for mesh in asset.meshes if len(mesh.faces)]
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    vertices = [placement.to_model(mesh.vertices) for mesh in meshes]
    faces = [mesh.faces.astype(np.int64) + start for mesh, start in zip(meshes, starts, strict=False)]
    return Surface(
        np.concatenate([np.zeros((0, 3)), *vertices]),
        np.concatenate([np.zeros((0, 3), np.int64), *faces]),
        asset.name or "asset",
    )


def normal_scores(truth: Maps, result: Maps) -> Scores:
    """PSNR and SSIM of the normal maps, and the silhouettes' IoU."""
    object_pixels = (truth.covered > 0) | (result.covered > 0)
    return {
        "normal_psnr": psnr(truth.normal, result.normal),
        "normal_ssim": mean_ssim(truth.normal, result.normal),
        "normal_psnr_object": psnr(truth.normal[object_pixels], result.normal[object_pixels]),
        "silhouette_iou": iou(truth.covered > 0.5, result.covered > 0.5),
    }


def material_scores(truth: Maps, result: Maps) -> Scores:
    """PSNR and error of each channel's maps, and the glass's IoU."""
    both = (truth.covered > 0.99) & (result.covered > 0.99)
    scores: Scores = {}
    for name, channels in _CHANNELS.items():
        a, b = truth.attributes[..., channels], result.attributes[..., channels]
        scores[f"{name}_psnr"] = psnr(a, b)
        scores[f"{name}_error"] = float(np.abs(a[both] - b[both]).mean()) if both.any() else None
    glass_a, glass_b = (
        (maps.covered > 0.99) & (maps.attributes[..., 5] < TRANSLUCENT) for maps in (truth, result)
    )
    has_glass = glass_a.sum() > _SOME * max(1, int((truth.covered > 0.99).sum()))
    scores["alpha_iou"] = iou(glass_a, glass_b) if has_glass else None
    return scores


def psnr(a: NDArray[np.floating], b: NDArray[np.floating]) -> float | None:
    """Peak signal-to-noise ratio in dB of values in [0, 1], at most :data:`MOST_DB`; None of nothing."""
    if not a.size:
        return None
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return min(MOST_DB, -10 * math.log10(error)) if error > 0 else MOST_DB


def mean_ssim(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Structural similarity of pictures (b, s, s, c) with values in [0, 1], mean over all."""
    first, second = (torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (a, b))
    return float(ssim(first, second).mean())


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    """Intersection over union; None where both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else None


def open_edges(voxels: OVoxel) -> float | None:
    """Share of the surface's edges at which one face ends alone, as at holes and rims; None of no surface."""
    mesh = voxels.to_mesh()
    edges = edge_table(mesh.faces, len(mesh.vertices))
    return float((edges.counts() == 1).mean()) if len(edges) else None
