"""Texture files: what each format keeps, and how far off the others are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.mesh.full_asset import full_asset, plain_asset
from tests.validator import assert_valid
from voxlume.asset import Asset, Material, Texture
from voxlume.errors import AssetError
from voxlume.mesh.read import load
from voxlume.mesh.write_glb import write_glb
from voxlume.mesh.write_images import ImageFile, ImageFormat, TextureImage, encode_images, encode_textures

FORMATS: list[ImageFormat] = ["webp", "png", "jpeg"]


def gradient(channels: int, size: int = 64) -> NDArray[np.uint8]:
    """Smooth, with transparent parts of any colour."""
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    all_four = np.stack([x, y, 0.5 + 0.4 * np.sin(6 * x), np.round(y)], -1)
    return np.rint(all_four[:, :, {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]] * 255).astype(
        np.uint8
    )


def decoded(file: ImageFile) -> NDArray[np.uint8]:
    picture = Image.open(io.BytesIO(file.data))
    assert picture.format == file.format.upper()
    return np.atleast_3d(np.asarray(picture))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("image_format", FORMATS)
def test_what_survives(image_format: ImageFormat, exact: bool, channels: int) -> None:
    pixels = gradient(channels)
    (file,) = encode_images([TextureImage(pixels, exact=exact, alpha=True)], image_format)
    assert file.format == ("png" if image_format == "jpeg" and channels in (2, 4) else image_format)
    result = decoded(file)
    if file.format == "webp" and channels < 3:  # WebP has no grey
        pixels = pixels[:, :, [0, 0, 0, 1][: 2 + channels]]
    error = np.abs(result.astype(int) - pixels)
    if file.format == "png" or (file.format == "webp" and exact):
        assert not error.any()
    else:
        assert error.mean() < 2.5
    if channels in (2, 4):
        assert not error[:, :, -1].any()


def test_alpha_that_nothing_uses_does_not_keep_jpeg_away() -> None:
    (file,) = encode_images([TextureImage(gradient(4))], "jpeg")
    assert file.format == "jpeg"
    opaque = gradient(4)
    opaque[:, :, 3] = 255
    (file,) = encode_images([TextureImage(opaque, alpha=True)], "jpeg")
    assert file.format == "jpeg"


def test_roles_of_a_shared_image_add_up() -> None:
    pixels = gradient(4)
    blended = Material(base_color_texture=Texture(pixels), alpha_mode="BLEND")
    data = Material(metallic_roughness_texture=Texture(pixels))
    files, notes = encode_textures([data, blended], "webp")
    assert (decoded(files[id(pixels)]) == pixels).all()
    assert notes == []
    files, notes = encode_textures([blended, data], "jpeg")
    assert files[id(pixels)].format == "png"
    assert notes == ["1 of 1 textures stored as PNG: JPEG has no alpha"]


def test_too_large_for_webp() -> None:
    (file,) = encode_images([TextureImage(np.zeros((1, 16384, 3), np.uint8))], "webp")
    assert file.format == "png"


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("asset", [full_asset(), plain_asset("BLEND"), plain_asset()])
def test_glb_is_valid_and_read_back(tmp_path: Path, asset: Asset, image_format: ImageFormat) -> None:
    write_glb(asset, tmp_path / "a.glb", image_format=image_format)
    assert_valid(tmp_path / "a.glb")
    again = load(tmp_path / "a.glb")
    assert not again.warnings
    ours, theirs = asset.materials[0].base_color_texture, again.materials[0].base_color_texture
    assert ours is not None
    assert theirs is not None
    assert theirs.image.shape[:2] == ours.image.shape[:2]
    if asset.materials[0].alpha_mode != "OPAQUE":
        np.testing.assert_array_equal(theirs.image[:, :, 3], ours.image[:, :, 3])


def weave(size: int = 256) -> NDArray[np.uint8]:
    """Threads of two colours, one texel wide."""
    over = np.add.outer(np.arange(size), np.arange(size)) % 2 == 0
    return np.where(over[..., None], np.uint8([180, 70, 60]), np.uint8([60, 80, 170]))


@pytest.mark.parametrize("alpha", [False, True])
def test_webp_keeps_colors_that_change_from_texel_to_texel(alpha: bool) -> None:
    pixels = weave()
    if alpha:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        pixels[:9, :, 3] = 0
    fine, small = (encode_images([TextureImage(pixels, alpha=alpha)], "webp", q)[0] for q in (90, 80))
    assert np.abs(decoded(fine).astype(int) - pixels).mean() < 2
    # Whoever asks for small files gets what that costs.
    assert np.abs(decoded(small)[:, :, :3].astype(int) - pixels[:, :, :3]).mean() > 20


def test_hidden_colors_do_not_make_a_webp_large() -> None:
    pixels = np.dstack([weave(), np.zeros((256, 256), np.uint8)])
    pixels[:, :128] = gradient(4, 256)[:, :128]
    pixels[:, :128, 3] = 255
    (file,) = encode_images([TextureImage(pixels, alpha=True)], "webp")
    assert (decoded(file) != pixels).any()


@pytest.mark.parametrize("smooth", [False, True])
def test_the_number_of_threads_changes_no_webp(smooth: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One finds out what would be lost before it encodes, many do both at once."""
    image = TextureImage(gradient(3) if smooth else weave())
    files = []
    for threads in (1, 8):
        monkeypatch.setattr("os.cpu_count", lambda threads=threads: threads)
        files += encode_images([image], "webp")
    assert files[0] == files[1]
    assert (decoded(files[0]) == image.pixels).mean() < 0.9 if smooth else b"VP8L" in files[0].data


def test_bad_textures_are_refused_in_every_format() -> None:
    for image_format in FORMATS:
        with pytest.raises(AssetError, match="expected uint8"):
            encode_images([TextureImage(np.zeros((4, 4, 5), np.uint8))], image_format)
