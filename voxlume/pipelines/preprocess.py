"""From any picture of an object to the square RGB picture that the image encoder takes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from voxlume.errors import ImageError

Background = Literal["auto", "remove", "keep"]
"""``auto`` removes the background of a picture without transparency, ``remove`` of every picture, ``keep``
of none."""

LONGEST_SIDE = 1024
SMALLEST_SIDE = 16
"""In a smaller picture nobody can tell what it shows."""

MAX_PIXELS = 100_000_000
"""More are not decoded; a JPEG is decoded at a fraction of its size where that is enough."""

OPAQUE_FROM = 254
"""Cut-outs often have 254 inside: as good as 255."""

FOREGROUND_ALPHA = 0.8 * 255

OUTLINE_ALPHA = 0.1 * 255
"""From here on a pixel shows something of the object, or something through it. What is left of a background
that was removed is fainter."""


def preprocess_image(source: str | Path | Image.Image, background: Background = "auto") -> NDArray[np.uint8]:
    """The object in the middle of a square, on black.

    Parameters
    ----------
    source : a file of any format and mode that Pillow reads, or an image. EXIF rotation is honoured.
    background : what to do about a background; see :data:`Background`.

    Returns
    -------
    uint8 (s, s, 3), RGB premultiplied with alpha, s at most 1024.

    Raises
    ------
    ImageError : unreadable, too large, too small, or nothing opaque in it.
    MissingDependencyError : the background must be removed and the extra for that is not installed.
    """
    return preprocess_with_outline(source, background)[0]


def preprocess_with_outline(
    source: str | Path | Image.Image, background: Background = "auto"
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """As :func:`preprocess_image`, and where the object is seen, bool (s, s)."""
    picture = source if isinstance(source, Image.Image) else read_image(source)
    name = str(source) if not isinstance(source, Image.Image) else "the picture"
    square = square_of_object(cut_out(fit(to_rgba(picture), name), background), name)
    return _premultiplied(square), alpha_of(square) > OUTLINE_ALPHA


def read_image(path: str | Path) -> Image.Image:
    """Decode a picture file.

    Raises
    ------
    ImageError : missing, no picture, damaged, or of too many pixels.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; a picture is needed"
        )
    try:
        with warnings.catch_warnings():
            # Pillow's own warning about large pictures; the limit below is ours.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
            picture.draft("RGB", (2 * LONGEST_SIDE, 2 * LONGEST_SIDE))
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{path} has {width} x {height} pixels, more than {MAX_PIXELS // 10**6} million; "
                    f"scale it down first ({LONGEST_SIDE} pixels are enough)"
                )
            picture.load()
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path} has far too many pixels; scale it down first ({LONGEST_SIDE} pixels are enough)"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{path} is not a picture that can be read") from error
    # Decoders of damaged files raise nearly anything.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path} cannot be read: {reason}") from error
    return picture


def to_rgba(picture: Image.Image) -> Image.Image:
    """Upright, 8 bits a channel, RGBA; every mode and every kind of transparency is understood."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bit(np.asarray(picture))).convert("RGBA")
    return picture.convert("RGBA")


def fit(picture: Image.Image, name: str = "the picture") -> Image.Image:
    """The same picture, its longest side at most 1024 (Lanczos).

    Raises
    ------
    ImageError : it is too small to show anything.
    """
    width, height = picture.size
    if min(width, height) < SMALLEST_SIDE:
        raise ImageError(f"{name} has only {width} x {height} pixels; at least {SMALLEST_SIDE} are needed")
    scale = LONGEST_SIDE / max(width, height)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def cut_out(picture: Image.Image, background: Background = "auto") -> Image.Image:
    """An RGBA picture whose alpha tells the object from the background."""
    opaque = bool((alpha_of(picture) >= OPAQUE_FROM).all())
    if background == "keep" or (background == "auto" and not opaque):
        return picture
    from voxlume.pipelines.background import remove_background

    return remove_background(picture)


def crop_to_object(picture: Image.Image, name: str = "the picture") -> NDArray[np.uint8]:
    """The square around the pixels of alpha > 0.8, premultiplied onto black, uint8 (s, s, 3).

    Raises
    ------
    ImageError : as :func:`square_of_object`.
    """
    return _premultiplied(square_of_object(picture, name))


def square_of_object(picture: Image.Image, name: str = "the picture") -> Image.Image:
    """The square around the pixels of alpha > 0.8, RGBA.

    Raises
    ------
    ImageError : there are no such pixels, or too few.
    """
    alpha = alpha_of(picture)
    rows, columns = (np.flatnonzero((alpha > FOREGROUND_ALPHA).any(axis)) for axis in (1, 0))
    if not len(rows):
        what = "fully transparent" if not alpha.any() else "nowhere opaque (alpha above 0.8)"
        raise ImageError(f"{name} is {what}: there is no object to see")
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    size = int(max(bottom - top, right - left))
    if size < SMALLEST_SIDE:
        raise ImageError(
            f"{name}: the object is only {size} pixels large; at least {SMALLEST_SIDE} are needed"
        )
    x, y = int(left + right - size) // 2, int(top + bottom - size) // 2
    return picture.crop((x, y, x + size, y + size))


def _premultiplied(square: Image.Image) -> NDArray[np.uint8]:
    """An RGBA picture on black, uint8 (h, w, 3)."""
    rgba = np.asarray(square, np.float32)
    weight = np.where(rgba[..., 3:] >= OPAQUE_FROM, 1.0, rgba[..., 3:] / 255)
    return (rgba[..., :3] * weight + 0.5).astype(np.uint8)


def alpha_of(picture: Image.Image) -> NDArray[np.uint8]:
    """The alpha channel (h, w) of an RGBA picture."""
    return np.asarray(picture.getchannel("A"))


def _to_8_bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of 16-bit, 32-bit or floating-point pictures, by the range that they use."""
    grey = np.nan_to_num(values.astype(np.float64))
    largest = float(grey.max(initial=0.0))
    if np.issubdtype(values.dtype, np.floating):
        unit = 255.0 if largest <= 1 else 1.0
    else:
        unit = 255 / 65535 if largest > 255 else 1.0
    return (np.clip(grey * unit, 0, 255) + 0.5).astype(np.uint8)
