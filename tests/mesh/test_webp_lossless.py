from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from voxlume.errors import AssetError
from voxlume.mesh.webp_lossless import encode_webp_lossless


def _decoded(data: bytes, channels: int) -> NDArray[np.uint8]:
    """What libwebp reads."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    with Image.open(io.BytesIO(data)) as picture:
        rgba = np.asarray(picture.convert("RGBA"))
        assert picture.format == "WEBP"
    if mode in ("L", "LA"):
        assert (rgba[..., 0] == rgba[..., 1]).all()
        assert (rgba[..., 0] == rgba[..., 2]).all()
    return {"L": rgba[..., :1], "LA": rgba[..., [0, 3]], "RGB": rgba[..., :3], "RGBA": rgba}[mode]


def _pictures(height: int, width: int, channels: int) -> dict[str, NDArray[np.uint8]]:
    random = np.random.default_rng(height * width + channels)
    shape = height, width, channels
    slope = np.add.outer(np.arange(height), 2 * np.arange(width))[..., None] // 3 + np.arange(channels)
    patches = random.integers(0, 256, ((height + 15) // 16, (width + 15) // 16, channels))
    # Counts that double make codes longer than the format has.
    rare = np.minimum(random.geometric(0.5, shape) + 16 * (random.random(shape) < 1e-4), 255)
    return {
        "noise": random.integers(0, 256, shape),
        "one colour": np.full(shape, 7),
        "white": np.full(shape, 255),
        "slope": slope % 256,
        "patches": patches.repeat(16, 0).repeat(16, 1)[:height, :width],
        "rare values": np.cumsum(rare, axis=1) % 256,
        "two values": 255 * random.integers(0, 2, shape),
    }


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 5), (97, 130), (530, 600)])
def test_libwebp_reads_the_same_pixels(size: tuple[int, int], channels: int) -> None:
    for name, picture in _pictures(*size, channels).items():
        pixels = picture.astype(np.uint8)
        data = encode_webp_lossless(pixels)
        np.testing.assert_array_equal(_decoded(data, channels), pixels, err_msg=name)
        assert data == encode_webp_lossless(pixels)


def test_files_are_about_as_small_as_those_of_libwebp() -> None:
    pictures = _pictures(530, 600, 3)
    for name, limit in (("noise", 1.01), ("rare values", 1.1), ("patches", 2.5)):
        pixels = pictures[name].astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=0, method=0)
        assert len(encode_webp_lossless(pixels)) <= limit * len(buffer.getvalue()) + 500, name


def test_what_is_no_picture_is_refused() -> None:
    for pixels in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(AssetError, match="expected uint8"):
            encode_webp_lossless(pixels)  # type: ignore[arg-type]
    with pytest.raises(AssetError, match="along a side"):
        encode_webp_lossless(np.zeros((1, 16385, 1), np.uint8))
