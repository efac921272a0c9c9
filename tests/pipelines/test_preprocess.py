"""Any picture a user may bring: the right square comes out, or one clear line."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.paths import IMAGES_DIR
from voxlume.errors import ImageError, MissingDependencyError, VoxlumeError
from voxlume.pipelines import background
from voxlume.pipelines.preprocess import MAX_PIXELS, preprocess_image, read_image, to_rgba

MANIFEST = IMAGES_DIR / "MANIFEST.json"
REAL = json.loads(MANIFEST.read_text())["images"] if MANIFEST.is_file() else []


def disc(size: tuple[int, int] = (100, 80), radius: int = 20, inside: int = 255) -> Image.Image:
    """A red disc around (30, 40) on transparent white."""
    y, x = np.mgrid[: size[1], : size[0]]
    alpha = np.where((x - 30) ** 2 + (y - 40) ** 2 <= radius**2, inside, 0)
    rgb = np.where(alpha[..., None] > 0, [200, 10, 20], 255)
    return Image.fromarray(np.concatenate([rgb, alpha[..., None]], axis=2).astype(np.uint8))


@pytest.fixture
def without_rembg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rembg", None)


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(VoxlumeError) as raised:
        preprocess_image(source, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_square_around_the_object_on_black() -> None:
    square = preprocess_image(disc())
    assert square.shape == (41, 41, 3)
    assert square[20, 20].tolist() == [200, 10, 20]
    assert square[0, 0].tolist() == [0, 0, 0]  # white where transparent must not shine through


def test_almost_opaque_is_opaque() -> None:
    assert np.array_equal(preprocess_image(disc(inside=254)), preprocess_image(disc()))


def test_faint_pixels_do_not_widen_the_square() -> None:
    picture = disc()
    picture.putpixel((99, 0), (9, 9, 9, 200))
    assert preprocess_image(picture).shape == (41, 41, 3)
    picture.putpixel((99, 0), (9, 9, 9, 205))
    assert preprocess_image(picture).shape == (90, 90, 3)


def test_square_reaches_over_the_edge() -> None:
    square = preprocess_image(disc((51, 200), 20).crop((25, 0, 51, 200)))
    assert square.shape == (41, 41, 3)
    assert not square[:, 0].any()


def test_large_pictures_shrink() -> None:
    large = disc((2000, 1600)).resize((4000, 3200), Image.Resampling.NEAREST)
    square = preprocess_image(large.crop((0, 0, 2048, 200)))
    assert max(square.shape) <= 1024


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "P", "L-key", "RGB-key"])
def test_every_mode_that_carries_alpha(mode: str, tmp_path: Path, without_rembg: None) -> None:
    picture = disc()
    if mode == "P":
        path = tmp_path / "p.gif"
        picture.save(path)
        source: Any = path
    elif mode.endswith("key"):
        grey = Image.new(mode.removesuffix("-key"), (60, 60), 0 if mode == "L-key" else (0, 0, 0))
        grey.paste(180 if mode == "L-key" else (180, 180, 180), (10, 10, 50, 50))
        source = tmp_path / "key.png"
        grey.save(source, transparency=0 if mode == "L-key" else (0, 0, 0))
    else:
        source = picture.convert(mode)
    square = preprocess_image(source)
    assert square.shape[0] in (40, 41)
    assert square[20, 20].any()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "YCbCr", "I;16", "F"])
def test_modes_without_alpha_need_background_removal(mode: str, without_rembg: None) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.full((32, 32), 30000, np.uint16))
    elif mode == "F":
        picture = Image.fromarray(np.full((32, 32), 0.5, np.float32))
    else:
        picture = Image.new("RGB", (32, 32), (90, 90, 90)).convert(mode)
    assert "voxlume[rembg]" in refusal(picture)
    kept = preprocess_image(picture, "keep")
    assert kept.shape == (32, 32, 3)
    assert 80 <= kept[16, 16, 0] <= 130


def test_sixteen_bits_do_not_wrap_around() -> None:
    ramp = np.linspace(0, 65535, 32, dtype=np.uint16)[None].repeat(32, 0)
    grey = np.asarray(to_rgba(Image.fromarray(ramp)))[0, :, 0].astype(int)
    assert (np.diff(grey) >= 0).all()
    assert (grey[0], grey[-1]) == (0, 255)


def test_exif_rotation(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to view
    picture.save(tmp_path / "turned.png", exif=exif)
    upright = to_rgba(read_image(tmp_path / "turned.png"))
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[0] == 255  # type: ignore[index]


def test_nothing_to_see(without_rembg: None) -> None:
    assert "fully transparent" in refusal(Image.new("RGBA", (64, 64)))
    assert "nowhere opaque" in refusal(Image.new("RGBA", (64, 64), (9, 9, 9, 100)))
    assert "object is only" in refusal(disc(radius=3))
    assert "1 x 1" in refusal(Image.new("RGB", (1, 1)))
    assert "20000 x 1 " in refusal(Image.new("RGB", (20_000, 1)))


def test_huge_pictures(tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    Image.new("1", (20_000, 4_000), 1).save(wide)
    assert preprocess_image(wide, "keep").shape == (1024, 1024, 3)
    square = tmp_path / "square.png"
    Image.new("1", (20_000, 20_000)).save(square)
    assert MAX_PIXELS < 20_000**2
    message = refusal(square)
    assert "too many pixels" in message or "million" in message


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "absent.png")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    assert "not a picture" in refusal(tmp_path / "text.png")
    (tmp_path / "empty.png").touch()
    assert "empty.png" in refusal(tmp_path / "empty.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif", "tiff"])
def test_truncated_files(ending: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / f"whole.{ending}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for length in (10, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:length])
        with suppress(ImageError):  # some formats still show something
            preprocess_image(path, "keep")


# -- background removal ----------------------------------------------------------------------------


class FakeRembg:
    """Stands in for the package: everything left of the middle is the object."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def new_session(self, name: str) -> str:
        self.asked.append(name)
        return name

    def remove(self, picture: Image.Image, session: str, only_mask: bool) -> Image.Image:
        mask = Image.new("L", picture.size)
        mask.paste(255, (0, 0, picture.width // 2, picture.height))
        return mask


@pytest.fixture
def rembg(monkeypatch: pytest.MonkeyPatch) -> FakeRembg:
    fake = FakeRembg()
    monkeypatch.setitem(__import__("sys").modules, "rembg", fake)
    background._session.cache_clear()
    return fake


def test_a_named_model_removes_the_background(rembg: FakeRembg) -> None:
    square = preprocess_image(Image.new("RGB", (60, 60), (50, 60, 70)))
    assert rembg.asked == ["birefnet-general"]  # never the package's own default
    assert square.shape == (60, 60, 3)
    assert square[30, 20].tolist() == [50, 60, 70]
    assert not square[:, 50:].any()


def test_a_cut_out_is_left_alone(rembg: FakeRembg) -> None:
    preprocess_image(disc())
    assert rembg.asked == []
    preprocess_image(disc(), "remove")
    assert rembg.asked == ["birefnet-general"]


def test_only_models_for_any_use(rembg: FakeRembg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(background.MODEL_VARIABLE, "bria-rmbg")
    assert "no background removal model 'bria-rmbg'" in refusal(Image.new("RGB", (60, 60)))


def test_a_failing_package_is_one_line(rembg: FakeRembg, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("download\nfailed")

    monkeypatch.setattr(rembg, "remove", fail, raising=False)
    assert "download failed" in refusal(Image.new("RGB", (60, 60)))


# -- the collection --------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason=f"no picture collection at {IMAGES_DIR}")
@pytest.mark.parametrize("entry", REAL, ids=lambda entry: entry["file"])
def test_collection(entry: dict[str, Any], without_rembg: None) -> None:
    path = IMAGES_DIR / entry["file"]
    expected = entry.get("expect", "")
    if "error" in expected and "load or" not in expected:
        refusal(path)
    elif not entry.get("carries_alpha") or "without alpha" in expected:
        with pytest.raises(MissingDependencyError):
            preprocess_image(path)
        kept = preprocess_image(path, "keep")
        assert kept.std() > 1
    else:
        square = preprocess_image(path)
        assert square.shape[0] == square.shape[1] <= 1024
        assert square.shape[0] > 200
        assert square.std() > 1
