"""Meshes of which everything is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.mesh.edges import edge_table

Triangles = tuple[NDArray[np.float64], NDArray[np.int32]]


def grid(n: int, m: int | None = None, wrap: bool = False) -> Triangles:
    """The unit square in the plane z = 0 as n x m quads, facing +z; ``wrap`` joins the sides along x."""
    m = m or n
    columns = n if wrap else n + 1
    x, y = np.meshgrid(np.arange(columns), np.arange(m + 1), indexing="ij")
    vertices = np.stack([x.ravel() / n, y.ravel() / m, np.zeros(x.size)], axis=1)
    i, j = np.meshgrid(np.arange(n), np.arange(m), indexing="ij")
    i, j = i.ravel(), j.ravel()

    def at(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        return (a % columns) * (m + 1) + b

    quad = np.stack([at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)], axis=1)
    faces = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    return vertices, faces.astype(np.int32)


def cube(n: int) -> Triangles:
    """The surface of [-0.5, 0.5]^3 with n x n quads a side, outward, one vertex per place."""
    square, faces = grid(n)
    vertices, all_faces = [], []
    for side in range(6):
        turned = np.roll(square - [0.5, 0.5, -0.5], side % 3, axis=1)
        if side >= 3:
            turned = -turned
        vertices.append(turned)
        all_faces.append((faces[:, ::-1] if side >= 3 else faces) + side * len(square))
    return joined(np.concatenate(vertices), np.concatenate(all_faces))


def sphere(n: int) -> Triangles:
    """Radius 0.5: a cube's grid moved outwards."""
    vertices, faces = cube(n)
    return 0.5 * vertices / np.linalg.norm(vertices, axis=1, keepdims=True), faces


def cylinder(n: int, m: int) -> Triangles:
    """The side of a cylinder of radius 0.2 and height 1, open at both ends, outward."""
    vertices, faces = grid(n, m, wrap=True)
    angle = 2 * np.pi * vertices[:, 0]
    return np.stack([0.2 * np.cos(angle), 0.2 * np.sin(angle), vertices[:, 1]], axis=1), faces


def joined(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> Triangles:
    """One vertex per place."""
    places, number = np.unique(np.round(vertices, 12), axis=0, return_inverse=True)
    return places, number.reshape(-1)[faces].astype(np.int32)


def together(*meshes: Triangles) -> Triangles:
    """Several meshes in one."""
    vertices, faces, n = [], [], 0
    for v, f in meshes:
        vertices.append(v)
        faces.append(f + n)
        n += len(v)
    return np.concatenate(vertices), np.concatenate(faces).astype(np.int32)


def area_vectors(mesh: Triangles) -> NDArray[np.float64]:
    p = mesh[0][mesh[1]]
    return np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]) / 2


def edge_counts(mesh: Triangles) -> dict[int, int]:
    """How many edges have 1, 2, 3, ... faces."""
    counts, numbers = np.unique(edge_table(mesh[1], len(mesh[0])).counts(), return_counts=True)
    return dict(zip(counts.tolist(), numbers.tolist(), strict=True))


def volume(mesh: Triangles) -> float:
    p = mesh[0][mesh[1]]
    return float((np.cross(p[:, 0], p[:, 1]) * p[:, 2]).sum() / 6)
