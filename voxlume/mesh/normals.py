"""Shading normals of meshes that bring none: smooth over curved parts, hard at creases.

Adjacency is found by position, so meshes that repeat their vertices (STL, UV seams) are smooth too.
A corner's normal is the angle-weighted mean over the faces at its vertex whose own normal lies within the
crease angle of this face's, whatever their winding (Thuermer and Wuethrich, 1998, for the weights).
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.mesh.weld import weld_by_position

CREASE_ANGLE = math.radians(40)
"""Faces that meet at a larger angle keep a hard edge."""

_MOST_CORNERS = 256  # looked at per vertex: the hub of a huge fan must not stop the picture


@parallel_kernel
def face_normals(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """Unit normals float32 (m, 3) by the right-hand rule; zero for faces without area."""
    out = np.zeros((len(faces), 3), np.float32)
    for f in prange(len(faces)):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        # Scaled first, because the product of tiny lengths underflows.
        size = max(abs(ux), abs(uy), abs(uz), abs(vx), abs(vy), abs(vz))
        if size > 0:
            ux, uy, uz, vx, vy, vz = ux / size, uy / size, uz / size, vx / size, vy / size, vz / size
            nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            length = math.sqrt(nx * nx + ny * ny + nz * nz)
            if length > 0:
                out[f, 0], out[f, 1], out[f, 2] = nx / length, ny / length, nz / length
    return out


@parallel_kernel
def face_areas(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Areas float64 (m,)."""
    out = np.empty(len(faces))
    for f in prange(len(faces)):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        out[f] = math.sqrt(nx * nx + ny * ny + nz * nz) / 2
    return out


@parallel_kernel
def _corner_angles(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    out = np.zeros((len(faces), 3), np.float32)
    for f in prange(len(faces)):
        for k in range(3):
            o = vertices[faces[f, k]]
            a, b = vertices[faces[f, (k + 1) % 3]], vertices[faces[f, (k + 2) % 3]]
            aa, bb, ab = 0.0, 0.0, 0.0
            for c in range(3):
                x, y = a[c] - o[c], b[c] - o[c]
                aa, bb, ab = aa + x * x, bb + y * y, ab + x * y
            if aa > 0 and bb > 0:
                out[f, k] = math.acos(min(max(ab / math.sqrt(aa) / math.sqrt(bb), -1.0), 1.0))
    return out


@kernel
def _corners_at(
    faces: NDArray[np.int32], same: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Corners 3 f + k by vertex: ``corners[start[v] : start[v + 1]]``."""
    start = np.zeros(len(same) + 1, np.int32)
    for f in range(len(faces)):
        for k in range(3):
            start[same[faces[f, k]] + 1] += 1
    for v in range(len(same)):
        start[v + 1] += start[v]
    cursor = start[:-1].copy()
    corners = np.empty(3 * len(faces), np.int32)
    for f in range(len(faces)):
        for k in range(3):
            v = same[faces[f, k]]
            corners[cursor[v]] = 3 * f + k
            cursor[v] += 1
    return start, corners


class CreaseNormals:
    """Corner normals on demand: only what a picture shows is ever computed.

    Attributes
    ----------
    same, start, corners : vertex -> welded vertex -> the corners 3 f + k that lie there.
    angle : float32 (m, 3), the faces' inner angles.
    """

    def __init__(self, vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> None:
        self.same = weld_by_position(vertices)
        self.start, self.corners = _corners_at(faces, self.same)
        self.angle = _corner_angles(vertices, faces)


@inner_kernel
def corner_normal(
    face: int,
    vertex: int,
    normals: NDArray[np.float32],
    same: NDArray[np.int32],
    start: NDArray[np.int32],
    corners: NDArray[np.int32],
    angle: NDArray[np.float32],
    cos_crease: float,
) -> tuple[float, float, float]:
    """The (not normalised) smooth normal of one face at one of its vertices."""
    nx, ny, nz = normals[face, 0], normals[face, 1], normals[face, 2]
    sx, sy, sz = 1e-3 * nx, 1e-3 * ny, 1e-3 * nz
    v = same[vertex]
    for e in range(start[v], min(start[v + 1], start[v] + _MOST_CORNERS)):
        f, k = corners[e] // 3, corners[e] % 3
        dot = nx * normals[f, 0] + ny * normals[f, 1] + nz * normals[f, 2]
        if abs(dot) >= cos_crease:
            weight = angle[f, k] if dot > 0 else -angle[f, k]
            sx += weight * normals[f, 0]
            sy += weight * normals[f, 1]
            sz += weight * normals[f, 2]
    return sx, sy, sz


def split_at_creases(
    vertices: NDArray[np.float64], faces: NDArray[np.int32], crease: float = CREASE_ANGLE
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Vertices repeated where the surface has a crease, so that each has one normal.

    Parameters
    ----------
    vertices : float64 (n, 3). faces : int32 (m, 3), consistent winding.
    crease : angle in radians above which two faces keep a hard edge.

    Returns
    -------
    source : int32 (k,), the vertex that each new vertex is a copy of, ascending; unused ones are left out.
    faces : int32 (m, 3), the same faces in the new vertices.
    normals : float32 (k, 3), unit; zero only at vertices whose faces have no area.
    """
    own = face_normals(vertices, faces)
    around = CreaseNormals(vertices, faces)
    corner = np.empty((len(faces), 3, 3), np.float32)
    _corner_normals(
        faces, own, around.same, around.start, around.corners, around.angle, math.cos(crease), corner
    )
    start, corners = _corners_at(faces, np.arange(len(vertices), dtype=np.int32))
    group, count = _group_corners(corner, start, corners, math.cos(crease / 2))
    base = np.concatenate([[0], np.cumsum(count, dtype=np.int64)])
    return _vertices_of_groups(faces, corner, start, corners, group, base)


@parallel_kernel
def _corner_normals(
    faces: NDArray[np.int32],
    normals: NDArray[np.float32],
    same: NDArray[np.int32],
    start: NDArray[np.int32],
    corners: NDArray[np.int32],
    angle: NDArray[np.float32],
    cos_crease: float,
    out: NDArray[np.float32],
) -> None:
    for f in prange(len(faces)):
        for k in range(3):
            x, y, z = corner_normal(f, faces[f, k], normals, same, start, corners, angle, cos_crease)
            length = max(math.sqrt(x * x + y * y + z * z), 1e-30)
            out[f, k, 0], out[f, k, 1], out[f, k, 2] = x / length, y / length, z / length


@parallel_kernel
def _group_corners(
    corner: NDArray[np.float32], start: NDArray[np.int32], corners: NDArray[np.int32], cos_apart: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Corners at a vertex whose normals agree: the group of each of ``corners``, how many each vertex has."""
    group, first = np.empty(len(corners), np.int32), np.empty(len(corners), np.int32)
    count = np.zeros(len(start) - 1, np.int32)
    for v in prange(len(start) - 1):
        groups = np.int32(0)
        for e in range(start[v], start[v + 1]):
            f, k = corners[e] // 3, corners[e] % 3
            chosen = np.int32(0)
            while chosen < groups:
                h, i = first[start[v] + chosen] // 3, first[start[v] + chosen] % 3
                along = corner[f, k, 0] * corner[h, i, 0] + corner[f, k, 1] * corner[h, i, 1]
                if along + corner[f, k, 2] * corner[h, i, 2] >= cos_apart:
                    break
                chosen += 1
            if chosen == groups:
                first[start[v] + groups] = corners[e]
                groups += 1
            group[e] = chosen
        count[v] = groups
    return group, count


@parallel_kernel
def _vertices_of_groups(
    faces: NDArray[np.int32],
    corner: NDArray[np.float32],
    start: NDArray[np.int32],
    corners: NDArray[np.int32],
    group: NDArray[np.int32],
    base: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """One vertex for every group, from ``base`` on; it gets the mean of the normals."""
    source = np.empty(base[-1], np.int32)
    out, normals = np.empty_like(faces), np.zeros((base[-1], 3), np.float32)
    for v in prange(len(start) - 1):
        for e in range(start[v], start[v + 1]):
            f, k = corners[e] // 3, corners[e] % 3
            new = base[v] + group[e]
            out[f, k] = new
            for c in range(3):
                normals[new, c] += corner[f, k, c]
        for new in range(base[v], base[v + 1]):
            source[new] = v
            x, y, z = normals[new, 0], normals[new, 1], normals[new, 2]
            length = math.sqrt(x * x + y * y + z * z)
            if length > 0:
                for c in range(3):
                    normals[new, c] /= length
    return source, out, normals
