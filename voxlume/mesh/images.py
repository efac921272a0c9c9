"""Texture files to arrays, with limits checked before anything large is decoded.

Shared by all mesh readers. A texture that cannot be read is not an error of the asset: the caller drops
it, so that only the material's factor remains, and warns.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxlume.errors import AssetError

MAX_SIDE = 16384
"""Pixels along a side: what current graphics hardware takes."""

BUDGET_FLOOR = 256 * 2**20
"""Decoded bytes that the textures of any asset may take together, such as one of 8192 x 8192 RGBA."""

BUDGET_FACTOR = 100
"""Large texture files may unfold to this many times their size; photographs reach about 40."""

KTX2_MAGIC = b"\xabKTX 20\xbb\r\n\x1a\n"
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TGA", "BMP", "TIFF", "GIF")

Key = TypeVar("Key", bound=Hashable)


def decode_images(
    files: Mapping[Key, bytes | memoryview],
    formats: Iterable[str] = FORMATS,
    file_bytes: int | None = None,
) -> tuple[dict[Key, NDArray[np.uint8]], dict[Key, str]]:
    """Decode texture files in parallel.

    Parameters
    ----------
    files : the bytes of each file under any key.
    formats : names of the formats to accept, as Pillow calls them; KTX2 is always accepted.
    file_bytes : bytes on disk that justify the pixels; by default those of ``files``, equal ones once.

    Returns
    -------
    images : uint8 (h, w, c) with 1 to 4 channels, row 0 at the top, for each file that can be read;
        equal files share one array.
    problems : for every other key a phrase that says why not.
    """
    formats = tuple(formats)
    contents = {key: bytes(data) for key, data in files.items()}
    distinct = dict.fromkeys(contents.values())
    if file_bytes is None:
        file_bytes = sum(map(len, distinct))
    left = max(BUDGET_FLOOR, BUDGET_FACTOR * file_bytes)
    results: dict[bytes, NDArray[np.uint8] | str] = {}
    opened: dict[bytes, Image.Image | bytes] = {}
    for data in distinct:
        try:
            image, size = _open(data, formats)
            if size > left:
                raise AssetError(f"{size // 2**20} MiB of pixels are out of proportion to the files' size")
            left -= size
            opened[data] = image
        except AssetError as error:
            results[data] = str(error)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        results |= zip(opened, pool.map(_decode, opened.values()), strict=True)
    images = {key: r for key, data in contents.items() if not isinstance(r := results[data], str)}
    problems = {key: r for key, data in contents.items() if isinstance(r := results[data], str)}
    return images, problems


def _open(data: bytes, formats: tuple[str, ...]) -> tuple[Image.Image | bytes, int]:
    """Read the header only: a decodable object and the bytes that it will take."""
    if data.startswith(KTX2_MAGIC):
        if len(data) < 28:
            raise AssetError("KTX2 file is cut off inside its header")
        width, height = np.frombuffer(data, "<u4", 2, 20).tolist()
        _check_size(width, max(height, 1))
        return data, width * max(height, 1) * 4
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=formats)
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged headers
        raise AssetError(_reason(error)) from error
    _check_size(image.width, image.height)
    return image, image.width * image.height * _channels(image)


def _check_size(width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise AssetError(f"{width} x {height} pixels exceed the limit of {MAX_SIDE} x {MAX_SIDE}")


def _channels(image: Image.Image) -> int:
    return {"1": 1, "L": 1, "I;16": 1, "I;16B": 1, "I": 1, "F": 1, "LA": 2, "RGB": 3}.get(image.mode, 4)


def _decode(image: Image.Image | bytes) -> NDArray[np.uint8] | str:
    """Pixels (h, w, c), or what went wrong."""
    try:
        if isinstance(image, bytes):
            from voxlume.mesh.ktx2 import decode_ktx2

            return decode_ktx2(image, max_pixels=MAX_SIDE**2)
        with image:
            return _to_bytes(image)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        return _reason(error)


def _to_bytes(image: Image.Image) -> NDArray[np.uint8]:
    """Any Pillow mode to 1 to 4 channels of 8 bits; transparency of palettes and colour keys kept."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return ((values.clip(0, 65535) + 128) // 257).astype(np.uint8)[..., None]
    if image.mode == "F":
        return (np.nan_to_num(np.asarray(image)).clip(0, 1) * 255 + 0.5).astype(np.uint8)[..., None]
    transparent = image.has_transparency_data
    if image.mode in ("1", "L", "LA"):
        wanted = "LA" if transparent else "L"
    else:
        wanted = "RGBA" if transparent else "RGB"
    pixels = np.asarray(image if image.mode == wanted else image.convert(wanted))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image of a known format"
    text = str(error).splitlines()
    return text[0][:120] if text else type(error).__name__
