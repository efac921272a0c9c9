"""Contact sheets and the files they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.paths import ASSETS_DIR, SHARED_MISSING
from tests.render.shapes import plain, sphere
from voxlume.errors import VoxlumeError
from voxlume.mesh.read import load
from voxlume.render.picture import contact_sheet, render_file, render_views, save_png, side_by_side


def test_views_have_a_light_paper_or_none() -> None:
    asset = plain(sphere(16), base_color_factor=(0.7, 0.1, 0.1, 1))
    for picture in render_views(asset, 64):
        assert picture.shape == (64, 64, 3)
        assert picture[0, 0].min() > 220
        assert picture[32, 32, 0] > picture[32, 32, 1] + 50
    for picture in render_views(asset, 64, transparent=True):
        assert picture.shape == (64, 64, 4)
        assert picture[0, 0, 3] == 0
        assert picture[32, 32, 3] == 255


def test_sheet_and_pair_have_their_sizes() -> None:
    asset = plain(sphere(12))
    assert contact_sheet(asset, 80).shape == (80 + 64, 320, 3)
    assert side_by_side(asset, asset, ("a", "b"), 80).shape == (160, 320, 3)


def test_png_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    save_png(picture, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    with pytest.raises(VoxlumeError, match="does not exist"):
        save_png(picture, tmp_path / "missing" / "a.png")


@pytest.mark.skipif(not ASSETS_DIR.is_dir(), reason=SHARED_MISSING)
@pytest.mark.parametrize("path", sorted(ASSETS_DIR.glob("*.gl*")), ids=lambda p: p.name)
def test_every_real_asset_makes_a_picture(path: Path) -> None:
    sheet = contact_sheet(load(path), 64)
    paper = sheet[0, -1].astype(int)
    assert (np.abs(sheet.astype(int) - paper).max(axis=-1) > 25).mean() > 0.02


@pytest.mark.skipif(not ASSETS_DIR.is_dir(), reason=SHARED_MISSING)
def test_file_to_file(tmp_path: Path) -> None:
    path = sorted(ASSETS_DIR.glob("*.glb"))[0]
    render_file(path, tmp_path / "out.png", 64)
    assert Image.open(tmp_path / "out.png").size[0] == 256


def test_a_sheet_begins_with_the_picture_that_was_given() -> None:
    asset = plain(sphere(12), base_color_factor=(0.1, 0.1, 0.8, 1))
    given = np.zeros((30, 60, 4), np.uint8)
    given[:, 30:] = (255, 0, 0, 255)
    sheet = contact_sheet(asset, 80, before=given)
    assert sheet.shape == (80 + 64, 320, 3)
    assert sheet[40, 20].min() > 220  # clear: the paper shows
    np.testing.assert_array_equal(sheet[40, 60], [255, 0, 0])
    assert sheet[70, 40].min() > 220  # wider than high
    np.testing.assert_array_equal(sheet[:80, 160:], contact_sheet(asset, 80)[:80, 80:240])
