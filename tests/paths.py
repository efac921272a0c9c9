"""Where the tests find their golden data and real assets."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUNDLED_PARITY = ROOT / "tests" / "golden"

_shared = ROOT.parent / "shared"
ASSETS_DIR = Path(os.environ.get("VOXLUME_ASSETS_DIR", _shared / "assets"))
PARITY_DIR = Path(os.environ.get("VOXLUME_PARITY_DIR", _shared / "parity"))
if not PARITY_DIR.is_dir():
    # A compact part of the golden data travels with the repository, so parity is proved anywhere.
    PARITY_DIR = BUNDLED_PARITY

SHARED_MISSING = f"no asset collection at {ASSETS_DIR}; set VOXLUME_ASSETS_DIR"
