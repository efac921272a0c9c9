"""The surface of an O-Voxel as something to ask: the nearest point on it, the material there.

The sparse voxels are the search structure: the quad of a crossed edge belongs to one voxel and reaches no
farther than the next, so the faces near a point are those of the voxels near it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.mesh.normals import face_areas, split_at_creases
from voxlume.ovoxel.extract import extract_mesh
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.index import AXIS_BITS, VoxelIndex, lower_bound

FARTHEST = 8.0
"""Voxels within which the surface is searched; what lies farther off takes the nearest voxel's material."""

PATIENCE = 4.0
"""How much farther than the nearest face one that faces the right way may be."""

FIRST_RADIUS = 0.25
"""Voxels that are searched first; doubles until something is found."""

LARGEST_POINT = 1e7
"""Sum of coordinates from which on a point is not looked up."""

_PROBES = 256  # faces of each part of a mesh, about, that tell its winding
_TRUSTED = 0.8  # agreement, from -1 to 1, from which on windings choose between the sides of a wall

Point = tuple[float, float, float]


class SourceSurface:
    """Surface and material of an O-Voxel, prepared for look-up.

    Attributes
    ----------
    resolution : of the voxels. All points below are in voxel units, (model frame + 0.5) * resolution.
    vertices : float64 (n, 3), one per voxel.
    faces : int32 (m, 3), by the voxel that they belong to.
    attributes : float32 (n, 6) in [0, 1], or None for bare geometry.
    index : of the voxels, in the order of their keys.
    starts : int64 (n + 1,), where each voxel's faces begin.
    overshoot : how far a vertex lies outside its voxel at most.
    """

    def __init__(self, ovoxel: OVoxel, device: str = "cpu") -> None:
        """Extract the surface, on a CUDA device if that is asked for.

        Raises
        ------
        AssetError : there is no surface, or a value that is not finite.
        """
        if ovoxel.attributes is not None and not np.isfinite(_ends(ovoxel.attributes)).all():
            raise AssetError(
                "the voxels' material holds values that are not finite numbers; remake the voxels"
            )
        if not np.isfinite(_ends(ovoxel.dual_vertices)).all():
            raise AssetError(
                "the voxels' surface holds values that are not finite numbers; remake the voxels"
            )
        index = VoxelIndex(ovoxel.coords)
        order = slice(None) if index.order is None else index.order
        weights = None if ovoxel.splitting_weights is None else ovoxel.splitting_weights[order]
        dual = np.ascontiguousarray(ovoxel.dual_vertices[order], np.float32)
        self.index = index if index.order is None else VoxelIndex(index.coords[order])
        extract = _extract_on(device) if device.startswith("cuda") else _extract
        self.faces = extract(self.index.coords, dual, ovoxel.intersected[order], ovoxel.resolution, weights)
        if not len(self.faces):
            raise AssetError("the voxels hold no surface: nowhere are four of them around a crossed edge")
        self.resolution = ovoxel.resolution
        self.vertices = _positions(self.index.coords, dual)
        self.attributes: NDArray[np.float32] | None = None
        if ovoxel.attributes is not None:
            # Writable, because kernels for other arrays would be compiled anew.
            self.attributes = np.require(ovoxel.attributes[order], np.float32, ["C", "W"])
            low, high = _ends(self.attributes)
            if low < 0 or high > 1:
                self.attributes = np.clip(self.attributes, 0, 1)
        self.starts = _first_faces(self.faces, len(self.index))
        self._corner_normals: tuple[NDArray[np.int32], NDArray[np.float32]] | None = None
        low, high = _ends(dual)
        self.overshoot = max(0.0, -low, high - 1)

    def nearest(
        self, points: NDArray[np.float64], normals: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The nearest face to each point.

        Parameters
        ----------
        points : float64 (k, 3).
        normals : float64 (k, 3); with them, the nearest face on the same side (at less than a right angle),
            unless only others are near: a point near one side of a thin wall does not find the other. One
            of zeros has no side.

        Returns
        -------
        face : int32 (k,), -1 where none is within :data:`FARTHEST`.
        weights : float64 (k, 3), barycentrics of the nearest point.
        """
        face, weights = np.full(len(points), -1, np.int32), np.zeros((len(points), 3))
        facing = np.zeros((0, 3)) if normals is None else np.ascontiguousarray(normals, np.float64)
        _nearest_faces(
            self.index.keys, self.index.slabs, self.index.first_x, self.starts, self.overshoot,
            self.vertices, self.faces, np.ascontiguousarray(points, np.float64), facing, face, weights,
        )  # fmt: skip
        return face, weights

    def winding(
        self, points: NDArray[np.float64], normals: NDArray[np.float64], part: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """Whether parts of another mesh are wound like this one.

        Parameters
        ----------
        points, normals : float64 (k, 3), the middle of each of its faces, and any vector along its normal.
        part : int32 (k,), the part of each, from 0.

        Returns
        -------
        float64, one per part: 1 if its normals look the way of the nearest faces', -1 if the other way, 0
        if they do not agree, so that sides mean nothing.
        """
        size = np.bincount(part)
        order = np.argsort(part, kind="stable")
        rank = np.arange(len(part)) - (np.cumsum(size) - size)[part[order]]
        some = order[rank % np.maximum(size // _PROBES, 1)[part[order]] == 0]
        face, _ = self.nearest(points[some])
        some, face = some[face >= 0], face[face >= 0]
        corners = self.vertices[self.faces[face]]
        own = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        agrees = np.sign(np.einsum("nc,nc->n", own, normals[some]))
        number = np.maximum(np.bincount(part[some], minlength=len(size)), 1)
        mean = np.bincount(part[some], agrees, len(size)) / number
        return np.where(np.abs(mean) >= _TRUSTED, np.sign(mean), 0.0)

    def vertex_areas(self) -> NDArray[np.float64]:
        """The area float64 (n,) of the surface that belongs to each vertex: a third of its faces'."""
        return _corner_sums(self.faces, face_areas(self.vertices, self.faces) / 3, len(self.vertices))

    def normals(self, face: NDArray[np.int32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
        """Unit normals float32 (k, 3) at points that :meth:`nearest` found, zero where it found none.

        Smooth over curved parts, hard at creases, by the winding of the faces.
        """
        if self._corner_normals is None:
            _, faces, normals = split_at_creases(self.vertices, self.faces)
            self._corner_normals = faces, normals
        faces, normals = self._corner_normals
        smooth = np.einsum("kc,kcd->kd", weights.astype(np.float32), normals[faces[face]])
        smooth[face < 0] = 0
        length = np.linalg.norm(smooth, axis=1, keepdims=True)
        return np.divide(smooth, length, out=np.zeros_like(smooth), where=length > 1e-6)

    def material(
        self, points: NDArray[np.float64], face: NDArray[np.int32], weights: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Channels float32 (k, 6) at the points that :meth:`nearest` found for ``points``.

        Interpolated over the corners of the face, never over other voxels that happen to be near: layers
        within a voxel of each other, such as a glass around a lamp, do not mix. Points without a face get
        the nearest voxel's value.

        Raises
        ------
        AssetError : the voxels carry no material.
        """
        if self.attributes is None:
            raise AssetError("the voxels carry no material; there is nothing to bake")
        values = np.empty((len(points), 6), np.float32)
        _materials(self.attributes, self.faces, face, weights, values)
        lost = np.flatnonzero(face < 0)
        if len(lost):
            values[lost] = self.attributes[self.index.tree().query(points[lost] - 0.5)[1]]
        return values


def _ends(values: NDArray[np.floating]) -> tuple[float, float]:
    """The lowest and the highest, NaN if one of them is; zeros for none."""
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


@parallel_kernel
def _positions(coords: NDArray[np.int32], dual: NDArray[np.float32]) -> NDArray[np.float64]:
    vertices = np.empty(coords.shape)
    for v in prange(len(coords)):
        for c in range(3):
            vertices[v, c] = np.float64(coords[v, c]) + np.float64(dual[v, c])
    return vertices


def _extract(
    coords: NDArray[np.int32],
    dual: NDArray[np.float32],
    intersected: NDArray[np.bool_],
    resolution: int,
    weights: NDArray[np.float32] | None,
) -> NDArray[np.int32]:
    """The faces of :func:`extract_mesh`."""
    return extract_mesh(coords, dual, intersected, resolution, weights)[1]


def _extract_on(device: str) -> Callable[..., NDArray[np.int32]]:
    """:func:`_extract` of arrays, on a device."""
    import torch

    from voxlume.ovoxel.extract_torch import extract_mesh_torch

    def moved(array: NDArray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(array)).to(device)

    def extract(
        coords: NDArray[np.int32],
        dual: NDArray[np.float32],
        intersected: NDArray[np.bool_],
        resolution: int,
        weights: NDArray[np.float32] | None,
    ) -> NDArray[np.int32]:
        own = None if weights is None else moved(weights)
        _, faces = extract_mesh_torch(moved(coords), moved(dual), moved(intersected), resolution, own)
        return faces.cpu().numpy()

    return extract


@inner_kernel
def _lowest(faces: NDArray[np.int32], quad: int) -> int:
    f, g = 2 * quad, 2 * quad + 1
    return min(faces[f, 0], faces[f, 1], faces[f, 2], faces[g, 0], faces[g, 1], faces[g, 2])


@parallel_kernel
def _first_faces(faces: NDArray[np.int32], num_voxels: int) -> NDArray[np.int64]:
    """Where the faces of each voxel begin, int64 (n + 1,)."""
    starts = np.empty(num_voxels + 1, np.int64)
    quads = len(faces) // 2
    for quad in prange(quads + 1):
        before, here = -1, num_voxels
        # A quad's own voxel is the first of its four in the order of keys.
        if quad > 0:
            before = _lowest(faces, quad - 1)
        if quad < quads:
            here = _lowest(faces, quad)
        for voxel in range(before + 1, here + 1):
            starts[voxel] = 2 * quad
    return starts


@kernel
def _corner_sums(
    faces: NDArray[np.int32], values: NDArray[np.float64], num_vertices: int
) -> NDArray[np.float64]:
    sums = np.zeros(num_vertices)
    for f in range(len(faces)):
        for k in range(3):
            sums[faces[f, k]] += values[f]
    return sums


@inner_kernel
def _area_vector(vertices: NDArray[np.float64], i: int, j: int, k: int) -> Point:
    ux, uy, uz = (
        vertices[j, 0] - vertices[i, 0],
        vertices[j, 1] - vertices[i, 1],
        vertices[j, 2] - vertices[i, 2],
    )
    vx, vy, vz = (
        vertices[k, 0] - vertices[i, 0],
        vertices[k, 1] - vertices[i, 1],
        vertices[k, 2] - vertices[i, 2],
    )
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@inner_kernel
def _nearest_in_face(
    vertices: NDArray[np.float64], i: int, j: int, k: int, x: float, y: float, z: float
) -> tuple[float, float, float]:
    """Squared distance to a triangle and the weights of its second and third corner at the nearest point.

    By the region of the plane that the point lies over (Ericson, "Real-time collision detection", 5.1.5).
    """
    ax, ay, az = vertices[i, 0], vertices[i, 1], vertices[i, 2]
    ux, uy, uz = vertices[j, 0] - ax, vertices[j, 1] - ay, vertices[j, 2] - az
    wx, wy, wz = vertices[k, 0] - ax, vertices[k, 1] - ay, vertices[k, 2] - az
    px, py, pz = x - ax, y - ay, z - az
    uu, uw, ww = ux * ux + uy * uy + uz * uz, ux * wx + uy * wy + uz * wz, wx * wx + wy * wy + wz * wz
    d1, d2 = ux * px + uy * py + uz * pz, wx * px + wy * py + wz * pz
    d3, d4, d5, d6 = d1 - uu, d2 - uw, d1 - uw, d2 - ww
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if d1 <= 0 and d2 <= 0:
        s, t = 0.0, 0.0
    elif d3 >= 0 and d4 <= d3:
        s, t = 1.0, 0.0
    elif d6 >= 0 and d5 <= d6:
        s, t = 0.0, 1.0
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        s, t = (d1 / (d1 - d3) if d1 > d3 else 0.0), 0.0
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        s, t = 0.0, (d2 / (d2 - d6) if d2 > d6 else 0.0)
    elif va <= 0 and d4 >= d3 and d5 >= d6:
        span = (d4 - d3) + (d5 - d6)
        t = (d4 - d3) / span if span > 0 else 0.0
        s = 1 - t
    else:
        total = va + vb + vc
        s, t = vb / total, vc / total
    qx, qy, qz = px - s * ux - t * wx, py - s * uy - t * wy, pz - s * uz - t * wz
    return qx * qx + qy * qy + qz * qz, s, t


@parallel_kernel
def _nearest_faces(
    keys: NDArray[np.int64],
    slabs: NDArray[np.int64],
    first_x: int,
    starts: NDArray[np.int64],
    overshoot: float,
    vertices: NDArray[np.float64],
    faces: NDArray[np.int32],
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    face: NDArray[np.int32],
    weights: NDArray[np.float64],
) -> None:
    for row in prange(len(points)):
        x, y, z = points[row, 0], points[row, 1], points[row, 2]
        if not abs(x) + abs(y) + abs(z) < LARGEST_POINT:
            continue
        # Without a direction no face looks its way, and the nearest one is the answer.
        facing = len(normals) > 0 and (normals[row, 0] != 0 or normals[row, 1] != 0 or normals[row, 2] != 0)
        near_any, near_facing = np.inf, np.inf
        any_face, facing_face = -1, -1
        any_s, any_t, facing_s, facing_t = 0.0, 0.0, 0.0, 0.0
        radius = FIRST_RADIUS
        while radius <= FARTHEST:
            # A voxel's quads end before the voxel after the next.
            back, ahead = radius + 2 + overshoot, radius + overshoot
            y0, y1 = max(math.ceil(y - back), 0), math.floor(y + ahead)
            z0, z1 = max(math.ceil(z - back), 0), math.floor(z + ahead)
            for i in range(math.ceil(x - back), math.floor(x + ahead) + 1):
                slab = i - first_x
                if slab < 0 or slab >= len(slabs) - 1:
                    continue
                position, end = slabs[slab], slabs[slab + 1]
                for j in range(y0, y1 + 1):
                    base = (i << 2 * AXIS_BITS) | (j << AXIS_BITS)
                    position = lower_bound(keys, position, end, base + z0)
                    while position < end and keys[position] <= base + z1:
                        for f in range(starts[position], starts[position + 1]):
                            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                            distance, s, t = _nearest_in_face(vertices, a, b, c, x, y, z)
                            if distance < near_any:
                                near_any, any_face, any_s, any_t = distance, f, s, t
                            if facing and distance < near_facing:
                                n = _area_vector(vertices, a, b, c)
                                dot = n[0] * normals[row, 0] + n[1] * normals[row, 1] + n[2] * normals[row, 2]
                                if dot > 0:
                                    near_facing, facing_face, facing_s, facing_t = distance, f, s, t
                        position += 1
            best = near_facing if facing else near_any
            if best <= radius * radius:
                break
            if facing and near_any < np.inf and radius >= max(2.0, PATIENCE * math.sqrt(near_any)):
                break
            radius *= 2
        limit = min(max(2.0, PATIENCE * math.sqrt(near_any)), FARTHEST)
        if facing_face >= 0 and near_facing <= limit * limit:
            face[row], s, t = facing_face, facing_s, facing_t
        else:
            face[row], s, t = any_face, any_s, any_t
            if near_any > FARTHEST * FARTHEST:
                face[row] = -1
        weights[row, 0] = 1 - s - t
        weights[row, 1] = s
        weights[row, 2] = t


@parallel_kernel
def _materials(
    attributes: NDArray[np.float32],
    faces: NDArray[np.int32],
    face: NDArray[np.int32],
    weights: NDArray[np.float64],
    values: NDArray[np.float32],
) -> None:
    for row in prange(len(face)):
        f = face[row]
        if f >= 0:
            a, b, c = attributes[faces[f, 0]], attributes[faces[f, 1]], attributes[faces[f, 2]]
            u, v, w = weights[row, 0], weights[row, 1], weights[row, 2]
            for channel in range(6):
                values[row, channel] = u * a[channel] + v * b[channel] + w * c[channel]
