"""A small collection of models, and sources that misbehave."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tests.render.shapes import box, plain, sphere
from voxlume.asset import Asset, Mesh
from voxlume.data.sources import Source
from voxlume.errors import AssetError
from voxlume.files import atomic_write
from voxlume.mesh.write_glb import write_glb


def write_collection(folder: Path, count: int) -> list[str]:
    """Write ``count`` models of different shapes in two packs; returns their names ``PACK/NAME``."""
    names, entries = [], []
    for i in range(count):
        name = f"{'ab'[i % 2]}/{'thing' * (i // 2 + 1)}"
        path = folder / "assets" / f"{name}.glb"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_glb(asset(i), path)
        names.append(name)
        licence = "CC-BY-4.0" if i == 0 else "CC0-1.0"
        entries.append(
            {"file": f"assets/{name}.glb", "licence": licence, "author": "someone", "faces": 100 + i}
        )
    (folder / "MANIFEST.json").write_text(json.dumps({"count": count, "assets": entries}))
    (folder / "ATTRIBUTION.md").write_text("Made by someone.\n")
    return names


def asset(number: int) -> Asset:
    """A box or a ball, each of another size and colour."""
    side = 0.2 + 0.1 * (number % 7)
    shape: Mesh = box((0, 0, 0), (1, side, 1)) if number % 2 else sphere(8)
    return plain(shape, base_color_factor=(0.1 * (number % 10), 0.5, 0.2, 1.0), roughness_factor=0.25)


@dataclass(frozen=True)
class GoodSource(Source):
    def make(self) -> Asset:
        return asset(self.seed)


@dataclass(frozen=True)
class BadSource(Source):
    def make(self) -> Asset:
        raise AssetError("no surface")


@dataclass(frozen=True)
class BuggySource(Source):
    def make(self) -> Asset:
        raise ZeroDivisionError("oops")


@dataclass(frozen=True)
class DeadlySource(Source):
    """Takes its process down, as a crash in native code does, while it writes ``path``."""

    def make(self) -> Asset:
        assert self.path is not None
        with atomic_write(self.path) as file:
            file.write(b"half")
            os._exit(9)
