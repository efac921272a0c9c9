"""Imports between rooms point only downwards, and importing the package costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

ROOMS = [
    "app",
    "evaluation",
    "training",
    "data",
    "pipelines",
    "models",
    "flow",
    "sparse",
    "render",
    "mesh",
    "ovoxel",
]
FILES = sorted((ROOT / "voxlume").rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=[str(f.relative_to(ROOT)) for f in FILES])
def test_imports_point_downwards(path: Path) -> None:
    room = path.relative_to(ROOT / "voxlume").parts[0]
    if room == "__init__.py":
        return  # the package's front door may reach every room
    # Modules beside the rooms lie below them all.
    own = ROOMS.index(room) if room in ROOMS else len(ROOMS)
    for name in imported(ast.parse(path.read_text())):
        other = name.split(".")[1] if name.startswith("voxlume.") else ""
        if other in ROOMS:
            assert ROOMS.index(other) >= own, f"{path.name} imports {name}, which lies above it"


def test_importing_is_light() -> None:
    """No network, no torch, no compilation behind ``import voxlume``."""
    code = "import sys, voxlume; print([m for m in ('torch', 'numba', 'igl', 'trimesh') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_networks_leaves_the_compiler_alone() -> None:
    """PyTorch's compiler takes two seconds to import; parts of PyTorch that look harmless pull it in."""
    code = (
        "import sys; from voxlume.pipelines.presets import tiny; from voxlume.models.published import build; "
        "[build(c, 'meta') for c in tiny().networks.values()]; print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
