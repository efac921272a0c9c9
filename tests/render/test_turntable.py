"""Turntables: what their frames show, and the files they become."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.render.shapes import box, plain
from voxlume.asset import Asset
from voxlume.errors import Cancelled, MissingDependencyError, VoxlumeError
from voxlume.render.turntable import render_turntable, turntable

OBJ = """v 0 0 0
v 1 0 0
v 0 1 0
v 0 0 3
f 1 2 3
f 1 2 4
f 1 3 4
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.obj"
    path.write_text(OBJ)
    return path


def rod() -> Asset:
    """Long along z: narrow from the front, wide from the side."""
    return plain(box((-0.2, -0.2, -1), (0.2, 0.2, 1)), base_color_factor=(0.6, 0.1, 0.1, 1))


def red(frame: np.ndarray) -> np.ndarray:
    return frame[..., 0].astype(int) - frame[..., 1] > 40


def test_it_turns_once_and_is_framed_once() -> None:
    frames = list(turntable(rod(), 64, 4))
    assert [f.shape for f in frames] == [(64, 64, 3)] * 4
    widths = [np.flatnonzero(red(f).any(0)).size for f in frames]
    assert widths[1] > 2 * widths[0]
    # Opposite views of the rod look alike, in place and in size.
    for a, b in ((0, 2), (1, 3)):
        assert (red(frames[a]) != red(frames[b])).mean() < 0.01


def test_tiles_stand_beside_it() -> None:
    (frame,) = turntable(rod(), 96, 1, tiles=True)
    assert frame.shape == (96, 160, 3)
    (alone,) = turntable(rod(), 96, 1)
    np.testing.assert_array_equal(frame[:, :96], alone)
    assert red(frame[:32, 96:128]).any()  # base colour
    assert not red(frame[64:, 96:128]).any()  # alpha


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_animated_pictures(ending: str, model: Path) -> None:
    out = model.with_name(f"out.{ending}")
    from voxlume.app.cli import main

    assert main(["render", str(model), str(out), "--size", "48", "--frames", "3"]) == 0
    picture = Image.open(out)
    assert picture.n_frames == 3  # type: ignore[attr-defined]
    assert picture.size == (48, 48)


def test_video(model: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    out = model.with_name("out.mp4")
    render_turntable(model, out, 50, 4)
    video = cv2.VideoCapture(str(out))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    assert [f.shape for f in frames] == [(50, 50, 3)] * 4
    expected = next(turntable(_loaded(model), 50, 4))
    assert np.abs(frames[0][..., ::-1].astype(int) - expected).mean() < 6


def test_without_opencv_the_extra_is_named_and_nothing_written(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependencyError, match=r"voxlume\[video\]"):
        render_turntable(model, model.with_name("out.mp4"), 32, 2)
    assert [p.name for p in model.parent.iterdir()] == ["model.obj"]


def test_it_can_be_cancelled(model: Path) -> None:
    with pytest.raises(Cancelled):
        render_turntable(model, model.with_name("o.gif"), 32, 9, progress=lambda done, *_: done < 2)
    assert [p.name for p in model.parent.iterdir()] == ["model.obj"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["out.avi"], "must end in"),
        (["out.gif", "--frames", "0"], "--frames"),
        (["out.gif", "--size", "1"], "--size"),
    ],
)
def test_what_is_not_possible_is_one_line(
    arguments: list[str], word: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, *options = arguments
    from voxlume.app.cli import main

    assert main(["render", str(model), str(model.with_name(out)), *options]) == 1
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1
    with pytest.raises(VoxlumeError, match="turntable is one of"):
        render_turntable(model, model.with_name("out.png"))


def _loaded(path: Path) -> Asset:
    from voxlume.mesh.read import load

    return load(path)
