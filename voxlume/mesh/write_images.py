"""Textures as image files: PNG, JPEG or WebP, many at once."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxlume.asset import Material, Texture
from voxlume.errors import AssetError

ImageFormat = Literal["webp", "png", "jpeg"]

QUALITY = 90
"""Of lossy files, 1 to 100."""

_LARGEST_WEBP = 16383


@dataclass(frozen=True)
class ImageFile:
    """An encoded image.

    Attributes
    ----------
    format : what it became, which is PNG where the format asked for cannot hold the image.
    """

    data: bytes
    format: ImageFormat

    @property
    def mime_type(self) -> str:
        return f"image/{self.format}"

    @property
    def ending(self) -> str:
        return ".jpg" if self.format == "jpeg" else f".{self.format}"


@dataclass(frozen=True, eq=False)
class _Use:
    """An image, and what must survive of it: every value as it is, and its alpha."""

    pixels: NDArray[np.uint8]
    exact: bool
    alpha: bool


def encode_textures(
    materials: Iterable[Material], image_format: ImageFormat = "png", quality: int = QUALITY
) -> tuple[dict[int, ImageFile], list[str]]:
    """Files of all images that materials use, each distinct array once, made in parallel.

    PNG keeps everything. WebP and JPEG are lossy for colours; WebP stays lossless for data (normals,
    metalness, roughness, occlusion), because it halves the resolution of chroma, which in data means
    that channels blur into each other. JPEG, at full chroma resolution, cannot hold alpha: an image whose
    alpha a material uses becomes PNG.

    Returns
    -------
    files : by the id() of the image's array.
    notes : a line for everything that did not become what was asked for.

    Raises
    ------
    AssetError : an image that is not uint8 (h, w, 1 to 4); an unknown format or quality.
    """
    if image_format not in get_args(ImageFormat):
        raise AssetError(
            f"there is no image format '{image_format}'; choose {', '.join(get_args(ImageFormat))}"
        )
    if not 1 <= quality <= 100:
        raise AssetError(f"an image quality of {quality} is not possible; choose 1 to 100")
    uses: dict[int, _Use] = {}
    for material in materials:
        for texture, is_color in _textures_with_kind(material):
            alpha = is_color and texture is material.base_color_texture and material.alpha_mode != "OPAQUE"
            before = uses.get(id(texture.image))
            uses[id(texture.image)] = _Use(
                texture.image,
                not is_color or (before is not None and before.exact),
                alpha or (before is not None and before.alpha),
            )
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        files = list(pool.map(lambda use: _encode(use, image_format, quality), uses.values()))
    fallbacks = sum(file.format != image_format for file in files)
    notes = []
    if fallbacks:
        name = {"jpeg": "JPEG", "webp": "WebP"}[image_format]
        notes.append(f"{fallbacks} of {len(files)} textures stored as PNG, {name} cannot hold them")
    return dict(zip(uses, files, strict=True)), notes


def _textures_with_kind(material: Material) -> list[tuple[Texture, bool]]:
    """The textures of a material, and whether they are colours."""
    slots = [
        (material.base_color_texture, True),
        (material.emissive_texture, True),
        (material.metallic_roughness_texture, False),
        (material.normal_texture, False),
        (material.occlusion_texture, False),
        (material.transmission_texture, False),
    ]
    return [(texture, is_color) for texture, is_color in slots if texture is not None]


def _encode(use: _Use, image_format: ImageFormat, quality: int) -> ImageFile:
    pixels = use.pixels
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or not 1 <= pixels.shape[2] <= 4 or 0 in pixels.shape:
        raise AssetError(f"a texture is {pixels.dtype} {pixels.shape}; expected uint8 (h, w, 1 to 4)")
    has_alpha = pixels.shape[2] in (2, 4)
    if image_format == "jpeg":
        if has_alpha and use.alpha and (pixels[:, :, -1] < 255).any():
            image_format = "png"
        elif has_alpha:
            pixels = pixels[:, :, :-1]
    elif image_format == "webp" and max(pixels.shape[:2]) > _LARGEST_WEBP:
        image_format = "png"
    return ImageFile(encode_image(pixels, image_format, quality=quality, exact=use.exact), image_format)


def encode_image(
    pixels: NDArray[np.uint8], image_format: ImageFormat, *, quality: int = QUALITY, exact: bool = False
) -> bytes:
    """The file of one image uint8 (h, w, 1 to 4), with settings that favour speed.

    Parameters
    ----------
    exact : every value must survive; JPEG then is as good as it gets.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    buffer = io.BytesIO()
    if image_format == "png":
        image.save(buffer, "PNG", compress_level=1)
    elif image_format == "jpeg":
        image.save(buffer, "JPEG", quality=max(quality, 95) if exact else quality, subsampling=0)
    elif exact:
        image.save(buffer, "WEBP", lossless=True, quality=0, method=0, exact=True)
    else:
        # The colour of transparent texels is kept, because texture filters reach it.
        image.save(buffer, "WEBP", quality=quality, method=0, exact=True)
    return buffer.getvalue()
