"""Building a store: resumable, and no bad object spoils the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data_room.collection import BadSource, BuggySource, DeadlySource, GoodSource, write_collection
from voxlume.data import build as build_module
from voxlume.data.build import BuildSettings, build
from voxlume.data.open_assets import read_collection
from voxlume.data.sources import Source, open_sources
from voxlume.data.store import VoxelStore
from voxlume.errors import Cancelled, VoxlumeError

SETTINGS = BuildSettings(resolution=16, procedural=0, held_out=0, dressed=0)
WITHOUT = BuildSettings(resolution=16, procedural=0, held_out=0, open_assets=False)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "SHARD_OBJECTS", 3)


def use_sources(monkeypatch: pytest.MonkeyPatch, sources: list[Source]) -> None:
    monkeypatch.setattr(BuildSettings, "sources", lambda *_: sources)


def good(count: int) -> list[Source]:
    return [GoodSource(f"good {i}", "procedural", i) for i in range(count)]


def test_open_assets(tmp_path: Path) -> None:
    names = write_collection(tmp_path / "open", 40)
    held_back = {asset.name for asset in read_collection(tmp_path / "open") if asset.held_back}
    assert held_back
    out = tmp_path / "store"
    assert build(out, SETTINGS, open_assets=tmp_path / "open") == []
    train, held_out = VoxelStore.load(out), VoxelStore.load(out, split="held_out")
    assert set(held_out.names) == held_back
    assert set(train.names) == set(names) - held_back
    assert set(train.kinds) == {"open"}
    assert (out / "ATTRIBUTION.md").is_file()
    credits = json.loads((out / "credits.json").read_text())
    assert credits == [{"name": names[0], "author": "someone", "licence": "CC-BY-4.0"}]


def test_dressed_copies_stay_with_their_model(tmp_path: Path) -> None:
    write_collection(tmp_path, 40)
    train, held_out = (open_sources(tmp_path, split, dressed=2) for split in ("train", "held_out"))  # type: ignore[arg-type]
    assert len(train) + len(held_out) == 3 * 40
    assert not {source.path for source in train} & {source.path for source in held_out}
    assert len({source.seed for source in train if source.kind == "dressed"}) > len(train) // 2


def test_composed_objects(tmp_path: Path) -> None:
    write_collection(tmp_path / "open", 6)
    settings = replace(SETTINGS, composed=1)
    assert build(tmp_path / "store", settings, open_assets=tmp_path / "open", splits=["train"]) == []
    train = VoxelStore.load(tmp_path / "store")
    assert train.kinds.count("composed") == train.kinds.count("open") == len(train) / 2
    composed = {name for name, kind in zip(train.names, train.kinds, strict=True) if kind == "composed"}
    assert {name.removesuffix("*0") for name in composed} == set(train.names) - composed


def test_bad_objects_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[Source] = good(7)
    sources.insert(2, BadSource("bad", "mesh"))
    sources.insert(5, BuggySource("bug", "mesh"))
    use_sources(monkeypatch, sources)
    bad = build(tmp_path, WITHOUT, splits=["train"])
    assert {(b.name, b.reason) for b in bad} == {("bad", "no surface"), ("bug", "ZeroDivisionError: oops")}
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert {line["name"] for line in lines} == {"bad", "bug"}
    assert VoxelStore.load(tmp_path).names == [f"good {i}" for i in range(7)]


def test_too_many_voxels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_sources(monkeypatch, good(2))
    settings = BuildSettings(resolution=16, procedural=0, held_out=0, open_assets=False, max_voxels=10)
    assert all("more than 10" in bad.reason for bad in build(tmp_path, settings, splits=["train"]))
    with pytest.raises(VoxlumeError, match="no split 'train'"):
        VoxelStore.load(tmp_path)


def test_processes_and_deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = good(8)
    sources.insert(4, DeadlySource("deadly", "mesh", path=tmp_path / "half"))
    use_sources(monkeypatch, sources)
    (bad,) = build(tmp_path, WITHOUT, splits=["train"], workers=2)
    assert bad.name == "deadly"
    assert "died" in bad.reason
    store = VoxelStore.load(tmp_path)
    assert store.names == [f"good {i}" for i in range(8)]
    alone = tmp_path / "alone"
    use_sources(monkeypatch, good(8))
    build(alone, WITHOUT, splits=["train"])
    here, there = store.batch(range(8)), VoxelStore.load(alone).batch(range(8))
    np.testing.assert_array_equal(here.coords, there.coords)
    np.testing.assert_array_equal(here.attributes, there.attributes)
    assert not list(tmp_path.glob(".*"))


def test_going_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_sources(monkeypatch, good(8))
    with pytest.raises(Cancelled):
        build(tmp_path, WITHOUT, splits=["train"], progress=lambda done, total, what: done < 3)
    first = tmp_path / "train-00000.safetensors"
    before = first.stat().st_mtime_ns
    (tmp_path / "train-00001.safetensors").write_bytes(b"cut off")
    (tmp_path / ".0123456789abcdef.part").write_bytes(b"written when the process was killed")
    seen: list[tuple[Any, ...]] = []
    build(tmp_path, WITHOUT, splits=["train"], progress=lambda *args: seen.append(args) is None)
    assert seen[0][:2] == (3, 8)
    assert first.stat().st_mtime_ns == before
    assert VoxelStore.load(tmp_path).names == [f"good {i}" for i in range(8)]
    assert not list(tmp_path.glob(".*"))


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_sources(monkeypatch, good(1))
    build(tmp_path / "a", WITHOUT, splits=["train"])
    with pytest.raises(VoxlumeError, match="other settings"):
        build(tmp_path / "a", BuildSettings(resolution=32, open_assets=False), splits=["train"])
    with pytest.raises(VoxlumeError, match="no voxel store"):
        build(tmp_path, WITHOUT)
    with pytest.raises(VoxlumeError, match="resolution 0"):
        BuildSettings(resolution=0)
    with pytest.raises(VoxlumeError, match="negative"):
        BuildSettings(composed=-1)
    with pytest.raises(VoxlumeError, match="negative"):
        BuildSettings(procedural=-1)
    with pytest.raises(VoxlumeError, match="series 100"):
        BuildSettings(series=100)


def test_bare_machine(tmp_path: Path) -> None:
    """Training machines have few packages: the build must not need the others."""
    write_collection(tmp_path / "open", 8)
    code = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("zstandard", "DracoPy", "igl", "trimesh", "tyro", "rich", "embreex",
                                      "huggingface_hub", "transformers", "manifold3d"):
            raise ImportError(name + " is not on this machine")

sys.meta_path.insert(0, Blocker())
from voxlume.data.__main__ import main
status = main(["build", {str(tmp_path / "store")!r}, "--resolution", "16", "--procedural", "2",
               "--held-out", "1", "--dressed", "1", "--open-assets", {str(tmp_path / "open")!r}])
from voxlume.data.store import VoxelStore
store = VoxelStore.load({str(tmp_path / "store")!r})
assert set(store.kinds) == {{"procedural", "open", "dressed"}}, store.kinds
assert len(VoxelStore.load({str(tmp_path / "store")!r}, split="held_out_families")) == 1
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "store" / "bad.jsonl").read_text() == ""
