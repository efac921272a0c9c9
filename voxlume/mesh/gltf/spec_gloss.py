"""KHR_materials_pbrSpecularGlossiness converted to metallic-roughness, texel by texel."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxlume.asset import Material, Texture
from voxlume.mesh.gltf.budget import Budget
from voxlume.srgb import linear_to_srgb, srgb_to_linear

DIELECTRIC_SPECULAR = 0.04
"""Reflectance at normal incidence of every non-metal in the metallic-roughness model (index 1.5)."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_ROWS_AT_ONCE = 64
CONVERSION_BYTES = 16
"""Budget per texel: more than the 7 bytes that are made, because converting takes time too."""


@dataclass(frozen=True, eq=False)
class SpecularGlossiness:
    """The extension's values: linear factors and textures.

    Attributes
    ----------
    diffuse : linear RGBA factor; its texture is sRGB-encoded with linear alpha.
    specular, glossiness : linear factors; their texture has sRGB-encoded specular colour and linear
        glossiness in alpha.
    """

    diffuse: NDArray[np.float64]
    specular: NDArray[np.float64]
    glossiness: float
    diffuse_texture: Texture | None = None
    specular_texture: Texture | None = None


def to_metallic_roughness(
    material: Material, values: SpecularGlossiness, budget: Budget, warn: Callable[[str], None]
) -> Material:
    """The material with base colour, metallic and roughness in place of specular-glossiness.

    Metallic solves the quadratic that keeps the perceived brightness of diffuse and specular colour under
    the metallic-roughness model, with a reflectance of 0.04 for non-metals; base colour mixes what diffuse
    and specular ask for. Alpha is the diffuse alpha, roughness is 1 - glossiness.
    """
    lookup = values.diffuse_texture or values.specular_texture
    if lookup is None:
        base, metallic = convert(values.diffuse[:3], values.specular)
        return replace(
            material,
            base_color_factor=(*base.tolist(), float(values.diffuse[3])),
            metallic_factor=float(metallic),
            roughness_factor=1 - values.glossiness,
        )
    diffuse, specular = _aligned(values.diffuse_texture, values.specular_texture, warn, material.name)
    base_image, surface_image = _convert_images(diffuse, specular, values, budget)
    return replace(
        material,
        base_color_factor=(1.0, 1.0, 1.0, 1.0),
        base_color_texture=replace(lookup, image=base_image),
        metallic_factor=1.0,
        roughness_factor=1.0,
        metallic_roughness_texture=replace(lookup, image=surface_image),
    )


def convert(
    diffuse: NDArray[np.floating], specular: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Linear diffuse and specular (..., 3) to linear base colour (..., 3) and metallic (...)."""
    f0 = DIELECTRIC_SPECULAR
    diffuse_left = 1 - specular.max(axis=-1)
    diffuse_brightness = np.sqrt(diffuse**2 @ _LUMA)
    specular_brightness = np.sqrt(specular**2 @ _LUMA)
    b = diffuse_brightness * diffuse_left / (1 - f0) + specular_brightness - 2 * f0
    c = f0 - specular_brightness
    root = np.sqrt(np.maximum(b * b - 4 * f0 * c, 0))
    metallic = np.where(specular_brightness < f0, 0, ((root - b) / (2 * f0)).clip(0, 1))

    part = metallic[..., None]
    from_diffuse = diffuse * (diffuse_left[..., None] / (1 - f0)) / np.maximum(1 - part, 1e-6)
    from_specular = (specular - f0 * (1 - part)) / np.maximum(part, 1e-6)
    return (from_diffuse + (from_specular - from_diffuse) * part**2).clip(0, 1), metallic


def _convert_images(
    diffuse: NDArray[np.uint8], specular: NDArray[np.uint8], values: SpecularGlossiness, budget: Budget
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Base-colour (h, w, 4) and metallic-roughness (h, w, 3) images; one source may be 1 x 1."""
    height, width = np.broadcast_shapes(diffuse.shape[:2], specular.shape[:2])
    budget.spend(height * width * CONVERSION_BYTES, "converting specular-glossiness textures")
    base_image = np.empty((height, width, 4), np.uint8)
    surface_image = np.full((height, width, 3), 255, np.uint8)
    decoded = srgb_to_linear(np.arange(256) / 255).astype(np.float32)
    encoded = _to_uint8(linear_to_srgb(np.arange(65536) / 65535))
    diffuse_factor, specular_factor = values.diffuse.astype(np.float32), values.specular.astype(np.float32)

    def convert_rows(start: int) -> None:
        rows = slice(start, start + _ROWS_AT_ONCE)
        diffuse_rows = diffuse if len(diffuse) == 1 else diffuse[rows]
        specular_rows = specular if len(specular) == 1 else specular[rows]
        base, metallic = convert(
            decoded[diffuse_rows[..., :3]] * diffuse_factor[:3],
            decoded[specular_rows[..., :3]] * specular_factor,
        )
        base_image[rows, :, :3] = encoded[(base * 65535 + 0.5).astype(np.uint16)]
        base_image[rows, :, 3] = _to_uint8(diffuse_rows[..., 3] / 255 * diffuse_factor[3])
        surface_image[rows, :, 1] = _to_uint8(1 - specular_rows[..., 3] / 255 * values.glossiness)
        surface_image[rows, :, 2] = _to_uint8(metallic)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(convert_rows, range(0, height, _ROWS_AT_ONCE)))
    return base_image, surface_image


def _aligned(
    diffuse: Texture | None, specular: Texture | None, warn: Callable[[str], None], name: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both images as RGBA over the same texels; one of them may be a single texel that stands for all."""
    white = np.full((1, 1, 4), 255, np.uint8)
    first = white if diffuse is None else _rgba(diffuse.image)
    second = white if specular is None else _rgba(specular.image)
    if diffuse is None or specular is None:
        return first, second
    if not _same_lookup(diffuse, specular):
        warn(f"material {name!r}: diffuse and specular textures are placed differently, specular averaged")
        return first, second.mean(axis=(0, 1), keepdims=True).round().astype(np.uint8)
    height, width = max(len(first), len(second)), max(first.shape[1], second.shape[1])
    return _resized(first, width, height), _resized(second, width, height)


def _same_lookup(a: Texture, b: Texture) -> bool:
    return a.texcoord == b.texcoord and a.wrap == b.wrap and np.array_equal(a.transform, b.transform)


def _rgba(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = image[..., -1:] if image.shape[2] in (2, 4) else np.full((*image.shape[:2], 1), 255, np.uint8)
    color = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    return np.concatenate([color, alpha], axis=2)


def _resized(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Each channel by itself: alpha is no coverage here, so it must not weigh the colours."""
    if image.shape[:2] == (height, width):
        return image
    bands = [
        Image.fromarray(image[..., c]).resize((width, height), Image.Resampling.BILINEAR) for c in range(4)
    ]
    return np.stack([np.asarray(band) for band in bands], axis=2)


def _to_uint8(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
