"""Where objects come from: seeds, the open collection, folders of meshes; and which of them training sees.

A source is a small recipe; :meth:`Source.make` follows it. The same recipe gives the same object on every
machine, so a data set is a list of recipes, and evaluation takes the ones that training never gets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from voxlume.asset import Asset
from voxlume.data.open_assets import MANIFEST, read_collection
from voxlume.errors import VoxlumeError

Kind = Literal["procedural", "open", "dressed", "warped", "composed", "mesh"]
"""Made from a seed; from the open collection as it is; from there in a procedural material; from there in
other proportions, half of them in a procedural material; put together of several from there, half of them in
procedural materials and a quarter in other proportions; a user's file."""

Split = Literal["train", "held_out", "held_out_families"]
SPLITS: tuple[Split, ...] = ("train", "held_out", "held_out_families")

FIRST_SEED: dict[Split, int] = {"train": 0, "held_out": 1_000_000_000, "held_out_families": 2_000_000_000}
"""Seeds of one split follow from here; no data set is large enough to reach the next."""

SERIES_SEEDS, SERIES_VARIANTS = 10_000_000, 1000
"""From a series of training objects to the next: seeds, and numbers of what is done to open models."""

MOST_SERIES = 100
"""So that the last one's seeds end before the next split's."""

MESH_ENDINGS = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")


@dataclass(frozen=True)
class Source:
    """A recipe for one object.

    Attributes
    ----------
    name : unique in a data set.
    seed : of a procedural object, or of what was done to a dressed, warped or composed one.
    family : of a procedural object; None lets the seed draw it.
    path : of the file, for the other kinds.
    others : further files, of which a composed object has parts.
    """

    name: str
    kind: Kind
    seed: int = 0
    family: str | None = None
    path: Path | None = None
    others: tuple[Path, ...] = ()

    def make(self) -> Asset:
        """The object, in its own units in the glTF frame.

        Raises
        ------
        AssetError : a file cannot be read.
        """
        from voxlume.data.procedural import compose, dress, make_object, warp
        from voxlume.mesh.read import load

        asset = make_object(self.seed, self.family) if self.path is None else load(self.path)
        if self.kind == "composed":
            asset = compose([asset, *(load(path) for path in self.others)], self.seed)
        if self.kind == "warped" or (self.kind == "composed" and self.seed % 4 == 0):
            asset = warp(asset, self.seed)
        if self.kind == "dressed" or (self.kind in ("warped", "composed") and self.seed % 2):
            asset = dress(asset, self.seed)
        return replace(asset, name=self.name)


def procedural_sources(count: int, split: Split = "train", series: int = 0) -> list[Source]:
    """``count`` procedural objects of a split; held-out families take turns.

    Parameters
    ----------
    series : of the training split's seeds, 0 to :data:`MOST_SERIES` - 1.
    """
    from voxlume.data.procedural import HELD_OUT_FAMILIES, family_of

    sources = []
    first = FIRST_SEED[split] + (SERIES_SEEDS * series if split == "train" else 0)
    for seed in range(first, first + count):
        if split == "held_out_families":
            family: str | None = HELD_OUT_FAMILIES[seed % len(HELD_OUT_FAMILIES)]
        else:
            family = None
        sources.append(Source(f"{family or family_of(seed)}/{seed}", "procedural", seed, family))
    return sources


def open_sources(
    folder: str | Path,
    split: Split = "train",
    dressed: int = 1,
    warped: int = 0,
    composed: int = 0,
    series: int = 0,
) -> list[Source]:
    """The open collection's part of a split: every model as it is, and ``dressed`` times in other materials.

    Parameters
    ----------
    warped : copies of every model in other proportions, in the training split alone.
    composed : objects put together of every model and one to three others, in the training split alone and
        of its models alone.
    series : other numbers give other materials, proportions and compositions; of the training split alone.

    Raises
    ------
    VoxlumeError : the folder is no collection.
    """
    if split == "held_out_families":
        return []
    sources = []
    first = SERIES_VARIANTS * series if split == "train" else 0
    assets = [asset for asset in read_collection(folder) if asset.held_back == (split == "held_out")]
    for asset in assets:
        sources.append(Source(asset.name, "open", path=asset.path))
        for variant in range(first, first + dressed):
            seed = _hash(asset.name, variant)
            sources.append(Source(f"{asset.name}+{variant}", "dressed", seed, path=asset.path))
        for variant in range(first, first + (warped if split == "train" else 0)):
            name = f"{asset.name}~{variant}"
            sources.append(Source(name, "warped", _hash(name, variant), path=asset.path))
        for variant in range(first, first + (composed if split == "train" else 0)):
            name = f"{asset.name}*{variant}"
            seed = _hash(name, variant)
            numbers = [_hash(name, variant + 1 + i) for i in range(1 + seed // 4 % 3)]
            others = tuple(assets[number % len(assets)].path for number in numbers)
            sources.append(Source(name, "composed", seed, path=asset.path, others=others))
    return sources


def mesh_sources(folder: str | Path) -> list[Source]:
    """Mesh files of a folder, sorted by name; or the one file given.

    If the folder has a ``MANIFEST.json`` that lists ``assets`` with a ``file`` and a ``kind``, these are the
    files of kind ``real``; otherwise every mesh file in the folder and one below.

    Raises
    ------
    VoxlumeError : there is none, or the manifest is damaged.
    """
    folder = Path(folder)
    if folder.is_file():
        return [Source(folder.stem, "mesh", path=folder)]
    meshes = _listed_as_real(folder)
    if not meshes:
        found = [path for pattern in ("*", "*/*") for path in folder.glob(pattern)]
        meshes = [path for path in found if path.suffix.lower() in MESH_ENDINGS and path.is_file()]
    if not meshes:
        raise VoxlumeError(f"{folder} holds no mesh file ({', '.join(MESH_ENDINGS)})")
    return [Source(str(path.relative_to(folder)), "mesh", path=path) for path in sorted(meshes)]


def _listed_as_real(folder: Path) -> list[Path]:
    path = folder / MANIFEST
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["assets"]
        return [folder / entry["file"] for entry in entries if entry.get("kind") == "real"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VoxlumeError(f"{path} is damaged: {error}") from error


def shuffled(sources: Sequence[Source]) -> list[Source]:
    """In an order that is random but the same everywhere, so that any first part is a fair choice."""
    return sorted(sources, key=lambda source: _hash(source.name, 0))


def _hash(name: str, number: int) -> int:
    """31 bits."""
    return int.from_bytes(hashlib.sha256(f"{name} {number}".encode()).digest()[:4], "big") >> 1
