"""Triangles as a primitive stores them, before any node places them in the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Mesh


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles with per-vertex data in the mesh's own frame; all arrays have n rows.

    Attributes
    ----------
    positions : float64 (n, 3).
    faces : int32 (m, 3), all below n.
    joints, weights : int64 and float64 (n, k), or None where there is no skin.
    """

    positions: NDArray[np.float64]
    faces: NDArray[np.int32]
    normals: NDArray[np.float32] | None = None
    uvs: tuple[NDArray[np.float32], ...] = ()
    colors: NDArray[np.float32] | None = None
    attributes: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    joints: NDArray[np.int64] | None = None
    weights: NDArray[np.float64] | None = None

    @property
    def num_bytes(self) -> int:
        """Memory of the arrays that a placed copy needs."""
        per_vertex = 24 + 8 * len(self.uvs) + sum(4 * a[0].size for a in self.attributes.values() if len(a))
        per_vertex += 12 * (self.normals is not None) + 16 * (self.colors is not None)
        return per_vertex * len(self.positions) + 12 * len(self.faces)


# Extreme transforms may overflow: the reader drops what is not finite afterwards.
@np.errstate(over="ignore", invalid="ignore")
def place(surface: Surface, matrices: NDArray[np.float64], material: int, name: str) -> Mesh:
    """Copies of the surface under k affine transforms (k, 4, 4), as one mesh.

    A transform with negative determinant flips the winding, so that faces stay counter-clockwise seen
    from outside; normals follow the inverse transpose.
    """
    copies = len(matrices)
    linear, shift = matrices[:, :3, :3], matrices[:, :3, 3]
    vertices = surface.positions @ linear.transpose(0, 2, 1) + shift[:, None]
    signs = determinant_signs(linear)
    faces = np.where((signs < 0)[:, None, None], surface.faces[:, [0, 2, 1]], surface.faces)
    faces += (np.arange(copies, dtype=np.int32) * len(surface.positions))[:, None, None]
    normals = None
    if surface.normals is not None:
        normals = unit(surface.normals @ normal_matrices(linear, signs).transpose(0, 2, 1)).reshape(-1, 3)
    tiled = _per_vertex(surface, lambda a: a if copies == 1 else np.tile(a, (copies,) + (1,) * (a.ndim - 1)))
    return Mesh(
        vertices=vertices.reshape(-1, 3),
        faces=faces.reshape(-1, 3),
        normals=normals,
        uvs=tiled.uvs,
        colors=tiled.colors,
        attributes=tiled.attributes,
        material=material,
        name=name,
    )


@np.errstate(over="ignore", invalid="ignore")
def pose(surface: Surface, joint_matrices: NDArray[np.float64], material: int, name: str) -> Mesh:
    """The surface under its skin: vertices move by the weighted mean of joint matrices (j, 4, 4)."""
    assert surface.joints is not None
    assert surface.weights is not None
    blended = np.zeros((len(surface.positions), 3, 4))
    for joint, weight in zip(surface.joints.T, surface.weights.T, strict=True):
        blended += weight[:, None, None] * joint_matrices[joint, :3]
    linear = blended[:, :, :3]
    vertices = np.einsum("nij,nj->ni", linear, surface.positions) + blended[:, :, 3]
    signs = determinant_signs(linear)
    normals = None
    if surface.normals is not None:
        normals = unit(np.einsum("nij,nj->ni", normal_matrices(linear, signs), surface.normals))
    mirrored = signs[surface.faces].sum(axis=1) < 0
    faces = np.where(mirrored[:, None], surface.faces[:, [0, 2, 1]], surface.faces)
    return Mesh(
        vertices,
        faces,
        normals,
        surface.uvs,
        surface.colors,
        surface.attributes,
        material=material,
        name=name,
    )


def determinant_signs(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """-1, 0 or 1 for each of (k, 3, 3) matrices, whatever their scale."""
    size = np.abs(linear).max(axis=(1, 2), keepdims=True)
    return np.sign(np.linalg.det(np.divide(linear, size, where=size > 0, out=np.zeros_like(linear))))


def normal_matrices(linear: NDArray[np.float64], signs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse transpose up to a positive factor (k, 3, 3): cofactors exist where no inverse does."""
    size = np.abs(linear).max(axis=(1, 2), keepdims=True)
    m = np.divide(linear, size, where=size > 0, out=np.zeros_like(linear))
    cofactors = np.stack(
        [np.cross(m[:, 1], m[:, 2]), np.cross(m[:, 2], m[:, 0]), np.cross(m[:, 0], m[:, 1])], axis=1
    )
    return cofactors * np.where(signs < 0, -1.0, 1.0)[:, None, None]


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors (..., 3) scaled to length 1; those without a direction become zero."""
    size = np.abs(vectors).max(axis=-1, keepdims=True)
    usable = (size > 0) & np.isfinite(size)
    scaled = np.divide(vectors, size, where=usable, out=np.zeros(vectors.shape))
    length = np.sqrt(np.einsum("...i,...i->...", scaled, scaled))[..., None]
    return np.divide(scaled, length, where=length > 0, out=scaled).astype(np.float32)


def _per_vertex(surface: Surface, change: Callable[[NDArray], NDArray]) -> Surface:
    """The surface with ``change`` applied to its UVs, colours and further attributes."""
    return replace(
        surface,
        uvs=tuple(change(uv) for uv in surface.uvs),
        colors=None if surface.colors is None else change(surface.colors),
        attributes={key: change(value) for key, value in surface.attributes.items()},
    )
