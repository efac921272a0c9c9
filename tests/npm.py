"""Packages of npm that the tests use, installed beside the tests the first time one is needed."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE / "node_modules"


@functools.cache
def npm_missing(package: str) -> str | None:
    """None if a package of ``package.json`` is there or could be installed; otherwise the reason why not."""
    if (MODULES / package).is_dir():
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    # Installed aside and moved, so that test processes running at once do not meet half of it.
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".npm-") as folder:
        for name in ("package.json", ".npmrc"):
            shutil.copy(HERE / name, folder)
        try:
            done = subprocess.run([npm, "install"], cwd=folder, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            return f"npm could not install {package} within two minutes"
        if done.returncode:
            return f"npm could not install {package}: {done.stderr.strip()[-200:]}"
        MODULES.mkdir(exist_ok=True)
        try:
            (Path(folder) / "node_modules" / package).rename(MODULES / package)
        except OSError:
            if not (MODULES / package).is_dir():
                raise
    return None
