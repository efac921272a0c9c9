"""Every picture of the collection, and any other that lies there, goes through a small model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.paths import IMAGES_DIR
from voxlume.errors import MissingDependencyError, VoxlumeError
from voxlume.ovoxel.grid import OVoxel
from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions

SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".avif", ".gif", ".bmp", ".tif", ".tiff"}


def pictures() -> Iterator[Any]:
    """The files, each with its entry in the manifest if it has one."""
    files = sorted(path for path in IMAGES_DIR.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        missing = f"no picture collection at {IMAGES_DIR}; set VOXLUME_IMAGES_DIR"
        yield pytest.param(None, {}, marks=pytest.mark.skip(missing), id="missing")
    manifest = IMAGES_DIR / "MANIFEST.json"
    entries = json.loads(manifest.read_text())["images"] if manifest.is_file() else []
    known = {entry["file"]: entry for entry in entries}
    for path in files:
        name = path.relative_to(IMAGES_DIR).as_posix()
        yield pytest.param(path, known.get(name, {}), id=name)


@pytest.mark.parametrize(("path", "entry"), list(pictures()))
def test_an_object_or_one_clear_line(
    path: Path,
    entry: dict[str, Any],
    pipeline: ImageTo3D,
    quick: Callable[..., ImageTo3DOptions],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rembg", None)
    expected = entry.get("expect", "")
    made, problem = outcome(pipeline, path, quick())
    if isinstance(problem, MissingDependencyError):
        # A picture without cut-out: its background counts as part of the object where the user says so.
        assert "voxlume[rembg]" in str(problem)
        assert not entry.get("carries_alpha") or "without alpha" in expected
        made, problem = outcome(pipeline, path, quick(background="keep"))
    assert (problem is None) != ("error" in expected and "load or" not in expected) or not entry
    if problem is not None:
        assert path.name in str(problem)
        assert "\n" not in str(problem)
        return
    assert made is not None
    assert len(made) > 0
    assert made.attributes is not None
    assert np.isfinite(made.attributes).all()
    assert np.isfinite(made.dual_vertices).all()


def outcome(
    pipeline: ImageTo3D, path: Path, options: ImageTo3DOptions
) -> tuple[OVoxel | None, VoxlumeError | None]:
    """What a picture gives: an object or an error."""
    try:
        return pipeline.run([path], options)[0].ovoxel, None
    except VoxlumeError as error:
        return None, error
