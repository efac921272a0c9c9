"""Textures as image files: PNG, JPEG or WebP, many at once."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
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

_LARGEST_LOSS = 2.5
"""Mean error of lossy WebP, in 255ths, above which colours are stored without loss: chroma that changes from
texel to texel is lost at any quality, as it has half the resolution. Most textures lose 0.7 to 2."""

_BLOCK = 16  # side of the squares that WebP codes
_ONE_OF = 8  # rows of such squares, one is encoded to tell the loss


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
class TextureImage:
    """An image to encode, and what must survive of it.

    Attributes
    ----------
    pixels : uint8 (h, w, 1 to 4).
    exact : it holds data, not colours.
    alpha : its alpha is used.
    """

    pixels: NDArray[np.uint8]
    exact: bool = False
    alpha: bool = False


def encode_images(
    images: Sequence[TextureImage], image_format: ImageFormat, quality: int = QUALITY
) -> list[ImageFile]:
    """Image files, made in parallel, with settings that favour speed.

    PNG keeps everything. WebP and JPEG are lossy for colours; WebP stays lossless for data (normals,
    metalness, roughness, occlusion), because it halves the resolution of chroma, which in data means
    that channels blur into each other, and for colours that would blur as much, such as a fine weave's,
    unless a quality below :data:`QUALITY` asks for small files. JPEG, at full chroma resolution, cannot
    hold alpha: an image whose alpha is used becomes PNG.

    Raises
    ------
    AssetError : an image that is not uint8 (h, w, 1 to 4); an unknown format or quality.
    """
    with ImageEncoding(image_format, quality) as encoding:
        for image in images:
            encoding.begin(image)
        return [encoding.file(image) for image in images]


class ImageEncoding:
    """The work of :func:`encode_images` in threads beside the caller's: whoever has an image begins with it.

    Leaving the block drops what nobody waits for.

    Attributes
    ----------
    image_format : what was asked for.
    """

    def __init__(self, image_format: ImageFormat, quality: int = QUALITY) -> None:
        if image_format not in get_args(ImageFormat):
            known = ", ".join(get_args(ImageFormat))
            raise AssetError(f"there is no image format '{image_format}'; choose {known}")
        if not 1 <= quality <= 100:
            raise AssetError(f"an image quality of {quality} is not possible; choose 1 to 100")
        self.image_format, self._quality = image_format, quality
        self._pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
        # The image is kept, so that no other array gets its id.
        self._begun: dict[tuple[int, bool, bool], tuple[TextureImage, Future[ImageFile]]] = {}

    def __enter__(self) -> ImageEncoding:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def begin(self, image: TextureImage) -> None:
        """Begin with an image whose pixels stay as they are from now on, unless that was done before."""
        key = id(image.pixels), image.exact, image.alpha
        if key not in self._begun:
            self._begun[key] = image, self._pool.submit(_encode, image, self.image_format, self._quality)

    def file(self, image: TextureImage) -> ImageFile:
        """The file of an image that was begun with, as soon as it is there."""
        return self._begun[id(image.pixels), image.exact, image.alpha][1].result()


def encode_textures(
    materials: Iterable[Material], image_format: ImageFormat = "png", quality: int = QUALITY
) -> tuple[dict[int, ImageFile], list[str]]:
    """Files of all images that materials use, each distinct array once; see :func:`encode_images`.

    Returns
    -------
    files : by the id() of the image's array.
    notes : a line for everything that did not become what was asked for.
    """
    with ImageEncoding(image_format, quality) as encoding:
        textures = TextureEncoding(materials, encoding)
        return textures.files, textures.notes


class TextureEncoding:
    """The work of :func:`encode_textures`, begun in threads beside the caller's."""

    def __init__(self, materials: Iterable[Material], encoding: ImageEncoding) -> None:
        images: dict[int, TextureImage] = {}
        for material in materials:
            for texture, is_color in _textures_with_kind(material):
                key = id(texture.image)
                alpha = texture is material.base_color_texture and material.alpha_mode != "OPAQUE"
                before = images.get(key, TextureImage(texture.image))
                images[key] = TextureImage(texture.image, before.exact or not is_color, before.alpha or alpha)
        for image in images.values():
            encoding.begin(image)
        self._images, self._encoding = images, encoding

    @cached_property
    def files(self) -> dict[int, ImageFile]:
        """The files by the id() of the image's array, as soon as all are there."""
        return {key: self._encoding.file(image) for key, image in self._images.items()}

    @property
    def notes(self) -> list[str]:
        """A line for everything that did not become what was asked for."""
        wanted = self._encoding.image_format
        fallbacks = sum(file.format != wanted for file in self.files.values())
        if not fallbacks:
            return []
        what = {"jpeg": "JPEG has no alpha", "webp": f"WebP ends at {_LARGEST_WEBP} pixels"}[wanted]
        return [f"{fallbacks} of {len(self.files)} textures stored as PNG: {what}"]


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


def _is_image(pixels: NDArray[np.uint8]) -> bool:
    return (
        pixels.ndim == 3 and pixels.dtype == np.uint8 and 1 <= pixels.shape[2] <= 4 and 0 not in pixels.shape
    )


def _may_blur(image: TextureImage, image_format: ImageFormat, quality: int) -> bool:
    """Whether lossy WebP is what the image becomes unless that loses too much."""
    if image_format != "webp" or image.exact or quality < QUALITY or not _is_image(image.pixels):
        return False
    return max(image.pixels.shape[:2]) <= _LARGEST_WEBP


def _encode(image: TextureImage, image_format: ImageFormat, quality: int) -> ImageFile:
    pixels = image.pixels
    if not _is_image(pixels):
        raise AssetError(f"a texture is {pixels.dtype} {pixels.shape}; expected uint8 (h, w, 1 to 4)")
    if image_format == "jpeg" and pixels.shape[2] in (2, 4):
        if image.alpha and (pixels[:, :, -1] < 255).any():
            image_format = "png"
        else:
            pixels = pixels[:, :, :-1]
    elif image_format == "webp" and max(pixels.shape[:2]) > _LARGEST_WEBP:
        image_format = "png"
    loss = _webp_loss(pixels, quality) if _may_blur(image, image_format, quality) else 0.0
    picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    buffer = io.BytesIO()
    if image_format == "png":
        picture.save(buffer, "PNG", compress_level=1)
    elif image_format == "jpeg":
        picture.save(buffer, "JPEG", quality=max(quality, 95) if image.exact else quality, subsampling=0)
    else:
        # The colour of transparent texels is kept, because texture filters reach it.
        if image.exact or loss > _LARGEST_LOSS:
            picture.save(buffer, "WEBP", lossless=True, quality=0, method=0, exact=True)
        else:
            picture.save(buffer, "WEBP", quality=quality, method=0, exact=True)
    return ImageFile(buffer.getvalue(), image_format)


def _webp_loss(pixels: NDArray[np.uint8], quality: int) -> float:
    """Mean error of visible colours, in 255ths, that lossy WebP makes of uint8 (h, w, 3 or 4); 0 for grey.

    A part is encoded and decoded: every eighth row of the squares that are coded on their own.
    """
    block = np.arange(len(pixels)) // _BLOCK
    part = np.ascontiguousarray(pixels[block % _ONE_OF == min(len(pixels) // _BLOCK, _ONE_OF) // 2])
    if pixels.shape[2] < 3 or not len(part):
        return 0.0
    buffer = io.BytesIO()
    Image.fromarray(part).save(buffer, "WEBP", quality=quality, method=0, exact=True)
    with Image.open(buffer) as picture:
        decoded = np.asarray(picture.convert("RGB"), np.int16)
    error = np.abs(decoded - part[:, :, :3])
    if pixels.shape[2] == 4:
        error = error[part[:, :, 3] > 0]
    return float(error.mean()) if error.size else 0.0
