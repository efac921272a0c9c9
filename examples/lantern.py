"""A garden lantern, made from scratch: painted iron, a brass ring, glass panes, a candle on a wooden base.

    python -m examples.lantern out/lantern.glb

Small, but it has what the representation is for: metal and non-metal, textures, sheets without a
thickness, and something behind glass.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.mesh.write_glb import write_glb

Points = NDArray[np.float64]


def revolve(profile: list[tuple[float, float]], segments: int, material: int) -> Mesh:
    """Turn a profile of (radius, height) points around the y axis; u runs around, v along the profile."""
    radius, height = np.array(profile).T
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    x, z = np.outer(np.sin(angle), radius), np.outer(np.cos(angle), radius)
    vertices = np.stack([x, np.broadcast_to(height, x.shape), z], -1).reshape(-1, 3)
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(radius), np.diff(height)))])
    u, v = np.broadcast_arrays(angle[:, None] / (2 * np.pi), 1 - length / length[-1])
    i, j = (a.ravel() for a in np.meshgrid(np.arange(segments), np.arange(len(profile) - 1), indexing="ij"))
    corner = i * len(profile) + j
    quads = np.stack([corner, corner + len(profile), corner + len(profile) + 1, corner + 1], 1)
    return mesh_of_quads(vertices, quads, np.stack([u, v], -1).reshape(-1, 2), material)


def mesh_of_quads(vertices: Points, quads: NDArray[np.integer], uv: Points, material: int) -> Mesh:
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return Mesh(vertices, faces[area > 1e-12], uvs=(uv.astype(np.float32),), material=material)


def box(low: tuple[float, float, float], high: tuple[float, float, float], material: int) -> Mesh:
    """An axis-aligned box whose six sides each show the whole texture."""
    vertices, quads = [], []
    size, start = np.subtract(high, low), np.array(low)
    for axis in range(3):
        u, v = np.eye(3)[(axis + 1) % 3] * size, np.eye(3)[(axis + 2) % 3] * size
        for side, (first, second) in ((1, (u, v)), (0, (v, u))):
            corner = start + side * np.eye(3)[axis] * size
            quads.append(np.arange(4) + 4 * len(vertices))
            vertices.append([corner, corner + first, corner + first + second, corner + second])
    uv = np.tile([[0, 1], [1, 1], [1, 0], [0, 0]], (6, 1))
    return mesh_of_quads(np.array(vertices).reshape(-1, 3), np.array(quads), uv.astype(np.float64), material)


def noise(shape: tuple[int, int], stretch: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Smooth noise in [0, 1] that tiles, with features of ``stretch`` texels."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(shape[0])[:, None] * stretch[0], np.fft.fftfreq(shape[1])[None] * stretch[1]
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * np.exp(-40 * (fx**2 + fy**2))).real
    return (field - field.min()) / np.ptp(field)


def texture(values: NDArray[np.float64]) -> Texture:
    return Texture(np.round(255 * np.clip(values, 0, 1)).astype(np.uint8))


def wood() -> Material:
    grain = noise((256, 256), (6, 90), 1)
    rings = 0.5 + 0.5 * np.sin(40 * noise((256, 256), (20, 160), 2) + 6 * grain)
    tone = (0.6 * grain + 0.4 * rings)[..., None]
    color = np.array([0.32, 0.18, 0.09]) * (1 - tone) + np.array([0.66, 0.44, 0.25]) * tone
    rough = np.stack([np.ones_like(grain), 0.55 + 0.3 * grain, np.zeros_like(grain)], -1)
    return Material("wood", base_color_texture=texture(color), metallic_roughness_texture=texture(rough))


def painted_iron() -> Material:
    """Dark green paint, worn through to bare metal in places."""
    worn = np.clip((noise((256, 256), (14, 14), 3) - 0.68) * 25, 0, 1)
    color = (
        np.array([0.10, 0.30, 0.24]) * (1 - worn[..., None]) + np.array([0.62, 0.60, 0.57]) * worn[..., None]
    )
    rough = np.stack([np.ones_like(worn), 0.38 + 0.2 * noise((256, 256), (8, 8), 4), worn], -1)
    return Material(
        "painted iron", base_color_texture=texture(color), metallic_roughness_texture=texture(rough)
    )


def ring(radius: float, thickness: float, center: tuple[float, float, float], material: int) -> Mesh:
    """A torus that stands upright."""
    around = np.linspace(0, 2 * np.pi, 25)
    profile = [(radius + thickness * float(np.cos(a)), thickness * float(np.sin(a))) for a in around]
    lying = revolve(profile, 64, material)
    standing = lying.vertices[:, [0, 2, 1]] * [1, 1, -1] + np.array(center)
    return Mesh(standing, lying.faces, uvs=lying.uvs, material=material)


def lantern() -> Asset:
    """The whole lantern, about 0.4 m tall."""
    iron, brass, glass, wax, flame, wooden = range(6)
    parts = [box((-0.13, 0.0, -0.13), (0.13, 0.03, 0.13), wooden)]
    parts.append(box((-0.105, 0.03, -0.105), (0.105, 0.045, 0.105), iron))
    parts.append(box((-0.105, 0.255, -0.105), (0.105, 0.27, 0.105), iron))
    for x in (-0.1, 0.085):
        for z in (-0.1, 0.085):
            parts.append(box((x, 0.045, z), (x + 0.015, 0.255, z + 0.015), iron))
    for axis in (0, 2):
        for side in (-0.092, 0.092):
            # A pane is a single sheet: two triangles, seen from both sides.
            across = np.array([-0.085, 0.085, 0.085, -0.085])
            pane = np.empty((4, 3))
            pane[:, axis], pane[:, 2 - axis] = side, across
            pane[:, 1] = [0.045, 0.045, 0.255, 0.255]
            uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float64)
            parts.append(mesh_of_quads(pane, np.array([[0, 1, 2, 3]]), uv, glass))
    roof = [(0.135, 0.27), (0.135, 0.277), (0.08, 0.315), (0.045, 0.335), (0.04, 0.352), (0.0, 0.358)]
    parts.append(revolve([(0.0, 0.27), *roof], 4 * 16, iron))
    parts.append(ring(0.035, 0.0055, (0.0, 0.392, 0.0), brass))
    parts.append(revolve([(0.0, 0.045), (0.05, 0.045), (0.055, 0.055), (0.0, 0.056)], 48, brass))
    parts.append(revolve([(0.0, 0.056), (0.03, 0.056), (0.03, 0.14), (0.025, 0.146), (0.0, 0.14)], 48, wax))
    parts.append(revolve([(0.0, 0.146), (0.009, 0.16), (0.006, 0.178), (0.0, 0.195)], 24, flame))
    materials = (
        painted_iron(),
        Material("brass", base_color_factor=(0.78, 0.56, 0.22, 1.0), roughness_factor=0.25),
        Material(
            "glass",
            base_color_factor=(0.75, 0.92, 0.95, 0.25),
            metallic_factor=0.0,
            roughness_factor=0.05,
            alpha_mode="BLEND",
            double_sided=True,
        ),
        Material("wax", base_color_factor=(0.86, 0.80, 0.64, 1.0), metallic_factor=0.0, roughness_factor=0.5),
        Material("flame", base_color_factor=(1.0, 0.45, 0.08, 1.0), metallic_factor=0.0),
        wood(),
    )
    return Asset(tuple(parts), materials, name="lantern")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.lantern OUT.glb")
    write_glb(lantern(), sys.argv[1])
