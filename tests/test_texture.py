from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh, Texture, Wrap
from voxlume.srgb import linear_to_srgb, srgb_to_linear
from voxlume.texture import MaterialSampler, pack_textures
from voxlume.texture_torch import sample_material, to_device

UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
QUAD = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]], np.float64)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def quad(material: Material, **fields: object) -> MaterialSampler:
    mesh = dataclasses.replace(Mesh(QUAD, FACES, uvs=(UV,), material=0), **fields)  # type: ignore[arg-type]
    return MaterialSampler(Asset((mesh,), (material,)))


def random_image(height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def reference_bilinear(image: NDArray, wrap: tuple[Wrap, Wrap], u: float, v: float) -> NDArray:
    """Four texels by hand, RGBA in [0, 1]."""
    height, width, channels = image.shape
    rgba = np.ones((height, width, 4))
    color = image[..., :3] if channels >= 3 else image[..., :1]
    rgba[..., :3] = color / 255
    if channels in (2, 4):
        rgba[..., 3] = image[..., -1] / 255

    def index(i: int, n: int, mode: Wrap) -> int:
        if mode == "repeat":
            return i % n
        if mode == "clamp":
            return min(max(i, 0), n - 1)
        return list(range(n)) [i % n] if (i // n) % 2 == 0 else n - 1 - i % n  # fmt: skip

    x, y = u * width - 0.5, v * height - 0.5
    i, j = int(np.floor(x)), int(np.floor(y))
    total = np.zeros(4)
    for di in range(2):
        for dj in range(2):
            weight = (1 - abs(x - i - di)) * (1 - abs(y - j - dj))
            total += weight * rgba[index(j + dj, height, wrap[1]), index(i + di, width, wrap[0])]
    return total


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("wrap", [("repeat", "mirror"), ("mirror", "clamp"), ("clamp", "repeat")])
def test_bilinear_and_wrap(channels: int, wrap: tuple[Wrap, Wrap]) -> None:
    image = random_image(5, 7, channels)
    transform = np.array([[5.0, 0, -2.0], [0, 5.0, -2.0]])  # UVs from -2 to 3: every wrap is met
    material = Material(base_color_texture=Texture(image, wrap=wrap, transform=transform), alpha_mode="BLEND")
    sampler = quad(material)
    weights = np.random.default_rng(1).dirichlet([1, 1, 1], 200)
    out = sampler.sample(np.zeros(200, int), weights)
    for w, value in zip(weights, out, strict=True):
        u, v = transform @ [*(w @ UV[FACES[0]]), 1]
        expected = reference_bilinear(image, wrap, u, v)
        np.testing.assert_allclose(value[[0, 1, 2, 5]], expected, atol=2e-5)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 9), (3, 1)])
def test_pyramid_keeps_the_mean(size: tuple[int, int]) -> None:
    """Every level of the box filter averages to the image's mean, odd sides included."""
    image = random_image(*size, 3)
    pack = pack_textures([Texture(image)])
    width, height = size[1], size[0]
    for level in range(1, int(pack.num_levels[0])):
        width, height = max(1, width // 2), max(1, height // 2)
        start = pack.start[0, level]
        texels = pack.mips[start : start + width * height * 3].reshape(height, width, 3) / 65535
        np.testing.assert_allclose(texels.mean((0, 1)), image.mean((0, 1)) / 255, atol=1e-4)
    assert (width, height) == (1, 1)


def test_level_follows_the_footprint() -> None:
    """A footprint of one texel reads level 0, of two texels level 1, of the whole image its mean."""
    image = random_image(64, 64, 3)
    sampler = quad(Material(base_color_texture=Texture(image)))
    at = np.array([[0.2, 0.5, 0.3]])
    texel = 2 / 64
    sharp = sampler.sample(np.array([0]), at)
    np.testing.assert_allclose(sampler.sample(np.array([0]), at, texel), sharp, atol=1e-6)
    coarse = image.reshape(32, 2, 32, 2, 3).mean((1, 3))
    halved = quad(Material(base_color_texture=Texture(np.round(coarse).astype(np.uint8))))
    two = sampler.sample(np.array([0]), at, 2 * texel)
    np.testing.assert_allclose(two, halved.sample(np.array([0]), at), atol=0.6 / 255)
    flat = sampler.sample(np.array([0]), at, 100.0)
    np.testing.assert_allclose(flat[0, :3], image.mean((0, 1)) / 255, atol=1e-3)


def test_texture_without_factor_is_stored_as_it_is() -> None:
    image = np.full((4, 4, 3), (10, 100, 200), np.uint8)
    out = quad(Material(base_color_texture=Texture(image))).sample(np.array([0]), np.array([[0.3, 0.3, 0.4]]))
    np.testing.assert_allclose(out[0, :3] * 255, [10, 100, 200], atol=1e-4)


def test_factors_are_linear() -> None:
    """Decoded texture, linear factor and linear vertex colour multiply; the encoded product is stored."""
    image = np.full((2, 2, 4), (188, 188, 188, 128), np.uint8)
    colors = np.tile(np.array([0.5, 1, 0.25, 0.5], np.float32), (4, 1))
    material = Material(
        base_color_factor=(0.5, 0.2, 1.0, 0.5), base_color_texture=Texture(image), alpha_mode="BLEND"
    )
    out = quad(material, colors=colors).sample(np.array([1]), np.array([[0.2, 0.2, 0.6]]))[0]
    linear = srgb_to_linear(np.array(188 / 255)) * [0.25, 0.2, 0.25]
    np.testing.assert_allclose(out[:3], linear_to_srgb(linear), atol=1e-5)
    assert out[5] == pytest.approx(128 / 255 * 0.25, abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "alpha"),
    [
        ({"alpha_mode": "OPAQUE", "base_color_factor": (1, 1, 1, 0.3)}, 1.0),
        ({"alpha_mode": "BLEND", "base_color_factor": (1, 1, 1, 0.3)}, 0.3),
        ({"alpha_mode": "MASK", "base_color_factor": (1, 1, 1, 0.3)}, 0.0),
        ({"alpha_mode": "MASK", "base_color_factor": (1, 1, 1, 0.3), "alpha_cutoff": 0.3}, 1.0),
        ({"transmission_factor": 0.8}, 0.2),
        ({"transmission_factor": 0.8, "alpha_mode": "BLEND"}, 0.2),
        ({"transmission_factor": 0.8, "alpha_mode": "BLEND", "base_color_factor": (1, 1, 1, 0.5)}, 0.5),
    ],
)
def test_alpha_rules(fields: dict, alpha: float) -> None:
    out = quad(Material(**fields)).sample(np.array([0]), np.array([[1.0, 0, 0]]))
    assert out[0, 5] == pytest.approx(alpha, abs=1e-6)


def test_metallic_roughness_channels() -> None:
    image = np.full((2, 2, 3), (7, 51, 204), np.uint8)
    material = Material(metallic_factor=0.5, roughness_factor=0.5, metallic_roughness_texture=Texture(image))
    attributes = {"METALLIC": np.full(4, 0.5, np.float32)}
    out = quad(material, attributes=attributes).sample(np.array([0]), np.array([[1.0, 0, 0]]))
    np.testing.assert_allclose(out[0, 3:5], [204 / 255 * 0.25, 51 / 255 * 0.5], atol=1e-5)


def test_mesh_without_material_is_white_and_rough() -> None:
    sampler = MaterialSampler(Asset((Mesh(QUAD, FACES),)))
    np.testing.assert_allclose(sampler.sample(np.array([0]), np.array([[1.0, 0, 0]]))[0], [1, 1, 1, 0, 1, 1])


def test_wild_uvs_do_not_read_outside() -> None:
    uvs = np.array([[np.nan, 1e30], [np.inf, 0], [-1e38, 3], [0, 0]], np.float32)
    sampler = quad(Material(base_color_texture=Texture(random_image(4, 4, 3))), uvs=(uvs,))
    out = sampler.sample(np.array([0, 1]), np.array([[0.3, 0.3, 0.4], [0.1, 0.1, 0.8]]), 0.1)
    assert np.isfinite(out).all()


def test_torch_twin() -> None:
    rng = np.random.default_rng(5)
    meshes, materials = [], []
    for i in range(12):
        texture = Texture(
            random_image(int(rng.integers(1, 40)), int(rng.integers(1, 40)), 1 + i % 4, i),
            wrap=(("repeat", "mirror", "clamp")[i % 3], ("clamp", "repeat", "mirror")[i % 3]),
            nearest=i % 5 == 0,
            texcoord=i % 2,
            transform=rng.normal(size=(2, 3)) * 3,
        )
        materials.append(
            Material(
                base_color_factor=(*rng.random(3), 0.7) if i % 2 else (1, 1, 1, 1),  # type: ignore[arg-type]
                base_color_texture=texture if i % 3 else None,
                metallic_roughness_texture=texture if i % 4 else None,
                metallic_factor=float(rng.random()),
                transmission_factor=0.5 if i % 6 == 1 else 0.0,
                transmission_texture=texture,
                alpha_mode=("OPAQUE", "MASK", "BLEND")[i % 3],  # type: ignore[arg-type]
            )
        )
        uvs = tuple(rng.normal(size=(4, 2)).astype(np.float32) for _ in range(2))
        colors = rng.random((4, 4), np.float32) if i % 5 == 2 else None
        meshes.append(Mesh(QUAD + i, FACES, uvs=uvs, colors=colors, material=i))
    sampler = MaterialSampler(Asset(tuple(meshes), tuple(materials)))
    face = rng.integers(0, 24, 3000)
    weights = rng.dirichlet([1, 1, 1], 3000)
    for footprint in (0.0, 0.03, 0.4, 50.0):
        fast = sampler.sample(face, weights, footprint)
        log2 = np.log2(footprint) if footprint else -1e9
        moved = to_device(sampler, "cpu")
        slow = sample_material(moved, torch.as_tensor(face), torch.as_tensor(weights), float(log2))
        np.testing.assert_allclose(fast, slow.numpy(), rtol=0, atol=1e-6)
