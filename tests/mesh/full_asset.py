"""A small asset that uses everything an asset can hold, for the tests of all writers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh, Texture

RNG = np.random.default_rng(7)


def square(offset: NDArray[np.float64] | None = None, **fields: Any) -> Mesh:
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float64)
    vertices = corners if offset is None else corners + offset
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]], np.int32), **fields)


def image(channels: int, height: int = 5, width: int = 7) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def rotated(angle: float, scale: tuple[float, float], offset: tuple[float, float]) -> NDArray[np.float64]:
    sin, cos = np.sin(angle), np.cos(angle)
    matrix = np.array([[cos, sin], [-sin, cos]]) @ np.diag(scale)
    return np.column_stack([matrix, offset])


def full_asset() -> Asset:
    shared = image(4)
    material = Material(
        name="everything",
        base_color_factor=(0.5, 0.25, 1.0, 0.75),
        base_color_texture=Texture(shared, wrap=("mirror", "clamp"), texcoord=1),
        metallic_factor=0.3,
        roughness_factor=0.6,
        metallic_roughness_texture=Texture(image(3), transform=rotated(0.7, (2, -0.5), (0.1, 0.2))),
        alpha_mode="MASK",
        alpha_cutoff=0.3,
        double_sided=True,
        emissive_factor=(0.5, 4.0, 1.0),
        emissive_texture=Texture(shared, nearest=True),
        normal_texture=Texture(image(3, 64, 64)),
        normal_scale=0.5,
        occlusion_texture=Texture(image(1)),
        transmission_factor=0.5,
        transmission_texture=Texture(image(2)),
    )
    full = square(
        normals=np.tile(np.float32([0, 0, 1]), (4, 1)),
        uvs=(RNG.random((4, 2), np.float32), RNG.random((4, 2), np.float32)),
        colors=RNG.random((4, 4), np.float32),
        attributes={"METALLIC": RNG.random(4, np.float32), "ROUGHNESS": RNG.random(4, np.float32)},
        material=0,
        name="full",
    )
    plain = square(np.array([3.0, 0, 0]), name="plain")
    return Asset((full, plain), (material, Material(name="unused")), name="test scene")


def plain_asset(alpha_mode: str = "OPAQUE", **fields: Any) -> Asset:
    """What an exporter makes: one mesh with normals and one UV set, base colour with alpha, surface."""
    rng = np.random.default_rng(3)
    n = 12
    u, v = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij")
    vertices = np.stack([3 * u, 0.4 * np.sin(5 * u) * np.cos(4 * v), v], -1).reshape(-1, 3)
    i = np.arange(n * n).reshape(n, n)
    quads = np.stack([i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]], -1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
    normals = np.tile(np.float32([0, 1, 0]), (n * n, 1))
    uvs = np.stack([u, v], -1).reshape(-1, 2).astype(np.float32)
    smooth = np.kron(rng.integers(0, 256, (8, 8, 4), np.uint8), np.ones((8, 8, 1), np.uint8))
    material = Material(
        name="baked",
        base_color_texture=Texture(smooth),
        metallic_roughness_texture=Texture(np.ascontiguousarray(smooth[:, :, [3, 1, 2]])),
        alpha_mode=alpha_mode,  # type: ignore[arg-type]
        **fields,
    )
    mesh = Mesh(vertices.astype(np.float32).astype(np.float64), faces, normals, (uvs,), material=0)
    return Asset((mesh,), (material,), name="plain")


def triangles(asset: Asset) -> NDArray[np.float64]:
    """The corners (m, 3, 3) of all faces."""
    return np.concatenate([mesh.vertices[mesh.faces] for mesh in asset.meshes])
