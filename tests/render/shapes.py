"""Small meshes whose pictures and distances are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh, Texture


def sphere(n: int = 64, radius: float = 1.0, center: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    """A sphere of n x 2n quads, outward winding, no normals, shared vertices."""
    polar = np.linspace(0, np.pi, n + 1)[:, None]
    around = np.linspace(0, 2 * np.pi, 2 * n + 1)[None, :-1]
    points = np.stack(
        [
            np.sin(polar) * np.sin(around),
            np.cos(polar) * np.ones_like(around),
            np.sin(polar) * np.cos(around),
        ],
        -1,
    )
    index = np.arange((n + 1) * 2 * n).reshape(n + 1, 2 * n)
    a, b = index[:-1], np.roll(index, -1, axis=1)[:-1]
    c, d = np.roll(index, -1, axis=1)[1:], index[1:]
    faces = np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, c, b], -1).reshape(-1, 3)])
    return Mesh(points.reshape(-1, 3) * radius + np.array(center), faces.astype(np.int32))


def quad(size: float = 1.0, z: float = 0.0, material: int = -1) -> Mesh:
    """A square about the z axis that faces +z, with UV (0, 0) at its upper left corner."""
    corners = np.array([[-1.0, 1, 0], [-1, -1, 0], [1, -1, 0], [1, 1, 0]]) * size / 2 + [0, 0, z]
    uv = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], np.float32)
    return Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), uvs=(uv,), material=material)


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Mesh:
    """An axis-aligned box with eight vertices, outward winding."""
    corners = np.array(
        [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
    )
    rings = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [f for a, b, c, d in rings for f in ((a, b, c), (a, c, d))]
    return Mesh(corners.astype(np.float64), np.array(faces, np.int32))


def painted(mesh: Mesh, image: NDArray[np.uint8], **material: object) -> Asset:
    """The mesh with a base-colour texture, matt and not metal unless told."""
    values: dict = {"metallic_factor": 0.0, "roughness_factor": 1.0, "base_color_texture": Texture(image)}
    return Asset(
        (Mesh(mesh.vertices, mesh.faces, uvs=mesh.uvs, material=0),), (Material(**(values | material)),)
    )


def plain(mesh: Mesh, **material: object) -> Asset:
    """The mesh in one material, matt and not metal unless told."""
    values: dict = {"metallic_factor": 0.0, "roughness_factor": 1.0}
    return Asset((Mesh(mesh.vertices, mesh.faces, material=0),), (Material(**(values | material)),))
