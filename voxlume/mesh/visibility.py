"""Which faces of a surface can be seen from outside: rays from each face, some of which must escape.

Embree traces the rays where it is installed (``pip install 'voxlume[rays]'``), libigl otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from voxlume.mesh.solid import OUTSIDE, reached_nodes
from voxlume.ovoxel.voxelize import voxelize_surface
from voxlume.progress import Progress, report

DIRECTIONS = 48
"""Rays per face; most faces need one or two, because those that see the outside are done."""

ENCLOSURE = 256
"""Resolution of the grid that finds what is closed in."""

_OFFSET = 1e-4  # of the mesh's longest side: where rays begin above a face
_BATCH = 2**18

Blocked = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]
"""Origins (n, 3) and directions (n, 3) -> which rays hit the surface, bool (n,)."""


def visible_faces(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int32],
    *,
    directions: int = DIRECTIONS,
    blocked: Blocked | None = None,
    progress: Progress | None = None,
) -> NDArray[np.bool_]:
    """Faces with a ray to the outside from either side, bool (m,); the same in every run.

    Parameters
    ----------
    vertices : float64 (n, 3), any unit. faces : int32 (m, 3), any winding.
    directions : rays per face, spread evenly over the sphere; each serves the side it points to.
    blocked : how to trace rays; the fastest installed by default.
    """
    seen = np.zeros(len(faces), np.bool_)
    if not len(faces):
        return seen
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    points = (vertices - (low + high) / 2) / (float((high - low).max()) or 1.0)
    blocked = blocked or ray_tracer(points, faces)
    hidden = np.flatnonzero(~enclosed_faces(points, faces))
    for number, direction in enumerate(even_directions(directions)):
        report(progress, number, directions, "looking from outside")
        for part in np.array_split(hidden, -(-len(hidden) // _BATCH)):
            corners = points[faces[part]]
            normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            length = np.linalg.norm(normal, axis=1, keepdims=True)
            along = normal @ direction
            offset = _OFFSET * np.sign(along)[:, None] * normal / np.where(length > 0, length, 1)
            rays = np.broadcast_to(direction, corners.mean(axis=1).shape)
            seen[part] = ~blocked(corners.mean(axis=1) + offset, np.ascontiguousarray(rays))
        hidden = hidden[~seen[hidden]]
        if not len(hidden):
            break
    return seen


def enclosed_faces(points: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Faces whose middle no way leads to from outside, bool (m,): those need no rays.

    ``points`` lie in [-0.5, 0.5]^3; gaps narrower than a voxel count as closed.
    """
    size = ENCLOSURE + 6
    scaled = points * (ENCLOSURE / size)
    coords, _, intersected, _ = voxelize_surface(scaled.astype(np.float32), faces, size)
    kind, _ = reached_nodes(coords, intersected, size)
    middle = ((scaled[faces].mean(axis=1) + 0.5) * size).astype(np.int64)
    enclosed = np.ones(len(faces), np.bool_)
    for corner in range(8):
        x, y, z = (middle + np.array([corner & 1, corner >> 1 & 1, corner >> 2])).T
        enclosed &= kind[x, y, z] != OUTSIDE
    return enclosed


def even_directions(count: int) -> NDArray[np.float64]:
    """Unit vectors (count, 3), a Fibonacci lattice in an order that covers the sphere early."""
    i = np.arange(count)
    z = 1 - (2 * i + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * i
    r = np.sqrt(1 - z * z)
    lattice = np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)
    return lattice[np.argsort((i * 0.6180339887498949) % 1, kind="stable")]


def ray_tracer(points: NDArray[np.float64], faces: NDArray[np.int32]) -> Blocked:
    """The fastest tracer that is installed, for a mesh within about a unit of the origin."""
    try:
        return embree_tracer(points, faces)
    except ImportError:
        return igl_tracer(points, faces)


def embree_tracer(points: NDArray[np.float64], faces: NDArray[np.int32]) -> Blocked:
    """Rays through Embree.

    Raises
    ------
    ImportError : embreex is not installed.
    """
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, points.astype(np.float32), faces)

    def blocked(origins: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.bool_]:
        return scene.run(origins.astype(np.float32), rays.astype(np.float32), query="INTERSECT") >= 0

    return blocked


def igl_tracer(points: NDArray[np.float64], faces: NDArray[np.int32]) -> Blocked:
    """Rays through libigl's tree of boxes: the same answers, more slowly."""
    import igl

    wide = np.ascontiguousarray(faces, np.int64)
    tree = igl.AABB()
    tree.init(points, wide)

    def blocked(origins: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.bool_]:
        face = tree.intersect_ray_first(points, wide, np.ascontiguousarray(origins), rays)[0]
        return np.atleast_1d(face) >= 0

    return blocked
