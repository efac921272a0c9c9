"""Recipes for objects, and which of them training never sees."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.data_room.collection import write_collection
from voxlume.data.open_assets import read_collection
from voxlume.data.procedural import FAMILIES, HELD_OUT_FAMILIES
from voxlume.data.sources import (
    FIRST_SEED,
    MOST_SERIES,
    SPLITS,
    Split,
    mesh_sources,
    open_sources,
    procedural_sources,
    shuffled,
)
from voxlume.errors import VoxlumeError


def test_procedural_splits_share_nothing() -> None:
    splits = {split: procedural_sources(200, split) for split in SPLITS}
    seeds = [source.seed for sources in splits.values() for source in sources]
    assert len(set(seeds)) == 600
    families = {split: {source.name.split("/")[0] for source in sources} for split, sources in splits.items()}
    assert families["held_out_families"] == set(HELD_OUT_FAMILIES)
    for split in ("train", "held_out"):
        assert families[split] == set(FAMILIES) - set(HELD_OUT_FAMILIES)


def test_recipes_are_repeatable() -> None:
    for split in SPLITS:
        (source,) = procedural_sources(1, split)
        first, second = source.make(), source.make()
        assert first.name == source.name
        np.testing.assert_array_equal(first.meshes[0].vertices, second.meshes[0].vertices)


def test_dressing_keeps_the_shape(tmp_path: Path) -> None:
    write_collection(tmp_path, 10)
    plain, first, second = open_sources(tmp_path, dressed=2)[:3]
    assert (plain.kind, first.kind, second.kind) == ("open", "dressed", "dressed")
    assert first.seed != second.seed
    low, high = plain.make().bounds()
    for dressed in (first, second):
        np.testing.assert_allclose(dressed.make().bounds(), [low, high])


def test_warped_copies_are_for_training(tmp_path: Path) -> None:
    write_collection(tmp_path, 10)
    plain, dressed, first, second = open_sources(tmp_path, dressed=1, warped=2)[:4]
    assert [s.kind for s in (plain, dressed, first, second)] == ["open", "dressed", "warped", "warped"]
    bounds = [np.ptp(source.make().bounds(), 0) for source in (plain, first, second)]
    ratios = [b / np.linalg.norm(b) for b in bounds]
    assert min(np.abs(a - b).max() for a, b in combinations(ratios, 2)) > 0.01
    held_out = open_sources(tmp_path, "held_out", dressed=1, warped=2)
    assert {source.kind for source in held_out} <= {"open", "dressed"}


def test_composed_objects_hold_nothing_held_back(tmp_path: Path) -> None:
    write_collection(tmp_path, 40)
    held_back = {asset.path for asset in read_collection(tmp_path) if asset.held_back}
    assert held_back
    sources = open_sources(tmp_path, dressed=0, composed=3)
    composed = [source for source in sources if source.kind == "composed"]
    assert len(composed) == 3 * (40 - len(held_back)) == 3 * len(sources) // 4
    assert not held_back & {path for source in composed for path in (source.path, *source.others)}
    assert {len(source.others) for source in composed} == {1, 2, 3}
    assert len({source.others for source in composed}) > 0.9 * len(composed)
    assert {source.kind for source in open_sources(tmp_path, "held_out", composed=3)} == {"open", "dressed"}


def test_another_series_has_other_training_objects(tmp_path: Path) -> None:
    write_collection(tmp_path, 20)

    def names(split: Split, series: int) -> list[str]:
        sources = procedural_sources(50, split, series) + open_sources(tmp_path, split, 1, 1, 2, series)
        return [source.name for source in sources if source.kind != "open"]

    first, second, last = (names("train", series) for series in (0, 1, MOST_SERIES - 1))
    assert len(first) == len(second) == len(last)
    assert len({*first, *second, *last}) == 3 * len(first)
    assert procedural_sources(1, series=MOST_SERIES)[0].seed <= FIRST_SEED["held_out"]
    for split in ("held_out", "held_out_families"):
        assert names(split, 0) == names(split, 1) != []
    composed = [s for s in open_sources(tmp_path, composed=1, series=1) if s.kind == "composed"]
    before = [s for s in open_sources(tmp_path, composed=1) if s.kind == "composed"]
    assert [s.path for s in composed] == [s.path for s in before]
    assert [s.others for s in composed] != [s.others for s in before]


def test_composed_objects_are_repeatable(tmp_path: Path) -> None:
    write_collection(tmp_path, 10)
    sources = [s for s in open_sources(tmp_path, composed=1) if s.kind == "composed"]
    names = set()
    for source in sources[:6]:
        first, second = source.make(), source.make()
        assert first.name == source.name
        names |= {material.name for material in first.materials}
        for one, other in zip(first.meshes, second.meshes, strict=True):
            np.testing.assert_array_equal(one.vertices, other.vertices)
        assert np.isfinite(first.bounds()).all()
    assert {source.seed % 2 for source in sources} == {0, 1}
    assert len(names) > 1, "some are dressed"


def test_order() -> None:
    sources = procedural_sources(50)
    assert shuffled(sources) == shuffled(sources[::-1])
    assert shuffled(sources) != sources
    assert set(shuffled(sources)) == set(sources)


def test_mesh_folders(tmp_path: Path) -> None:
    write_collection(tmp_path, 4)
    with pytest.raises(VoxlumeError, match="no mesh file"):
        mesh_sources(tmp_path)  # they lie two folders below
    found = mesh_sources(tmp_path / "assets")
    assert [source.name for source in found] == sorted(source.name for source in found)
    assert len(found) == 4
    (one,) = mesh_sources(found[0].path or "")
    assert one.make().num_faces == found[0].make().num_faces
    entries = [{"file": found[0].name, "kind": "real"}, {"file": found[1].name, "kind": "hostile"}]
    (tmp_path / "assets" / "MANIFEST.json").write_text(json.dumps({"assets": entries}))
    assert [source.name for source in mesh_sources(tmp_path / "assets")] == [found[0].name]
    (tmp_path / "assets" / "MANIFEST.json").write_text("[]")
    with pytest.raises(VoxlumeError, match="damaged"):
        mesh_sources(tmp_path / "assets")
