"""Where the tests find their golden data and real assets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import zstandard
from numpy.typing import NDArray
from safetensors.numpy import load

ROOT = Path(__file__).resolve().parent.parent
BUNDLED_PARITY = ROOT / "tests" / "golden"

_shared = ROOT.parent / "shared"
ASSETS_DIR = Path(os.environ.get("VOXLUME_ASSETS_DIR", _shared / "assets"))
IMAGES_DIR = Path(os.environ.get("VOXLUME_IMAGES_DIR", _shared / "images"))
PARITY_DIR = Path(os.environ.get("VOXLUME_PARITY_DIR", _shared / "parity"))
if not PARITY_DIR.is_dir():
    # A compact part of the golden data travels with the repository, so parity is proved anywhere.
    PARITY_DIR = BUNDLED_PARITY

SHARED_MISSING = f"no asset collection at {ASSETS_DIR}; set VOXLUME_ASSETS_DIR"


def golden_tensors(name: str) -> dict[str, NDArray] | None:
    """The arrays of one golden file, plain or as the repository keeps it (zstandard); None if missing."""
    plain = PARITY_DIR / f"{name}.safetensors"
    if plain.is_file():
        return load(plain.read_bytes())
    packed = plain.with_name(plain.name + ".zst")
    return load(zstandard.decompress(packed.read_bytes())) if packed.is_file() else None


def manifest_assets(*kinds: str) -> list[Any]:
    """The manifest's entries of these kinds, for ``parametrize``; one that skips where there is none."""
    path = ASSETS_DIR / "MANIFEST.json"
    if not path.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(SHARED_MISSING), id="missing")]
    entries = json.loads(path.read_text())["assets"]
    return [pytest.param(e, id=e["file"]) for e in entries if e["kind"] in kinds]
