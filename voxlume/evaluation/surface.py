"""Points on surfaces: drawn evenly, and the nearest to given ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.evaluation.nearest import NearestTree

_R2 = (0.7548776662466927, 0.5698402909980532)  # 1 / g and 1 / g^2 with g^3 = g + 1 (Roberts, 2018)


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """n points on a triangle mesh.

    Attributes
    ----------
    position : float64 (n, 3).
    face : int64 (n,).
    barycentric : float64 (n, 3).
    normal : float64 (n, 3), unit normal of the face by the right-hand rule.
    """

    position: NDArray[np.float64]
    face: NDArray[np.int64]
    barycentric: NDArray[np.float64]
    normal: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.face)


class Surface:
    """A triangle mesh that points can be drawn from and looked up on.

    Faces without area carry no surface: nothing is drawn from them and no point is nearest to them.

    Parameters
    ----------
    vertices : float64 (n, 3).
    faces : int (m, 3).
    name : what error messages call it.

    Raises
    ------
    AssetError : no face, no area, or positions that are not finite.
    """

    def __init__(
        self, vertices: NDArray[np.float64], faces: NDArray[np.integer], name: str = "asset"
    ) -> None:
        if not len(faces):
            raise AssetError(f"{name}: no geometry (no triangle) to compare")
        self.vertices = np.ascontiguousarray(vertices, np.float64)
        self.faces = np.ascontiguousarray(faces, np.int64)
        corners = self.vertices[self.faces]
        if not np.isfinite(corners).all():
            raise AssetError(f"{name}: the positions are not finite numbers")
        # Lengths near 1e-160 would underflow when squared.
        scale = max(float(np.abs(corners - corners[0, 0]).max()), np.finfo(float).tiny)
        cross = np.cross((corners[:, 1] - corners[:, 0]) / scale, (corners[:, 2] - corners[:, 0]) / scale)
        double_area = np.linalg.norm(cross, axis=1)
        self.area = double_area / 2 * scale * scale
        self.normal = cross / np.where(double_area > 0, double_area, 1)[:, None]
        self._relative_area = double_area
        if not double_area.sum() > 0:
            raise AssetError(f"{name}: all triangles are degenerate, there is no surface to compare")
        self._solid = np.flatnonzero(double_area > 0)
        self._tree: NearestTree | None = None

    def draw(self, count: int, seed: int) -> SurfacePoints:
        """``count`` points, uniform by area and stratified along the faces' order; the same for a seed."""
        random = np.random.default_rng(seed)
        cumulative = np.cumsum(self._relative_area)
        place = (np.arange(count) + random.random(count)) / count * cumulative[-1]
        face = np.searchsorted(cumulative, place, side="right")
        face = self._solid[np.clip(np.searchsorted(self._solid, face), 0, len(self._solid) - 1)]
        # A face's points follow each other, and this sequence fills the square evenly from any start.
        start, index = random.random(2), np.arange(count)
        r, s = np.sqrt((start[0] + index * _R2[0]) % 1), (start[1] + index * _R2[1]) % 1
        barycentric = np.stack([1 - r, r * (1 - s), r * s], axis=1)
        return self.at(face, barycentric)

    def at(self, face: NDArray[np.integer], barycentric: NDArray[np.float64]) -> SurfacePoints:
        """The points (n,) faces, (n, 3) weights."""
        position = np.einsum("nk,nkc->nc", barycentric, self.vertices[self.faces[face]])
        return SurfacePoints(position, np.asarray(face, np.int64), barycentric, self.normal[face])

    def nearest(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], SurfacePoints]:
        """For (n, 3) points the distances float64 (n,) to the surface and the points on it."""
        if self._tree is None:
            self._tree = NearestTree(self.vertices[self.faces[self._solid]])
        distance, triangle, barycentric = self._tree.query(points)
        return distance, self.at(self._solid[triangle], barycentric)

    def forget_tree(self) -> None:
        """Free the search tree, which takes more memory than the mesh."""
        self._tree = None


def f_score(a: NDArray[np.float64], b: NDArray[np.float64], threshold: float) -> float:
    """Harmonic mean of the shares of distances within a threshold, of either side."""
    precision, recall = float((b <= threshold).mean()), float((a <= threshold).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
