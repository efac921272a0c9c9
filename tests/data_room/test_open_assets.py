"""The collection of open models: reading it, unpacking it, and who is held back."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
import zstandard

from tests.data_room.collection import write_collection
from voxlume.data.open_assets import group_variants, is_held_back, read_collection, stem_of, unpack
from voxlume.errors import VoxlumeError


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("pack/house1", "house"),
        ("pack/tree_2_b", "tree"),
        ("pack/building_home_a_blue", "building_home"),
        ("pack/flag-Red", "flag"),
        ("pack/orange", "orange"),
        ("pack/7", "7"),
        ("pack/potion4full", "potion4full"),
        ("deep/pack/chair", "chair"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert stem_of(name) == (name.rpartition("/")[0], stem)


def test_variants_are_one_object() -> None:
    faces = {
        "a/flag_blue": 10, "a/flag_red": 12,  # by name
        "a/ketchup": 30, "a/mustard": 30,  # by number of faces in one pack
        "a/pillar": 50, "b/pillar": 50,  # by both in two packs
        "b/ketchup": 31, "b/tree": 60, "c/tree": 61, "c/bush": 60,
    }  # fmt: skip
    group = group_variants(faces)
    assert group["a/flag_blue"] == group["a/flag_red"]
    assert group["a/ketchup"] == group["a/mustard"]
    assert group["a/pillar"] == group["b/pillar"]
    assert len(set(group.values())) == len(faces) - 3
    backwards = group_variants(dict(reversed(faces.items())))
    assert backwards == group


def test_share_held_back() -> None:
    names = [f"pack{i % 90}/object{'x' * (i % 7)}{i}y" for i in range(20_000)]
    held = sum(map(is_held_back, names)) / len(names)
    assert 0.075 < held < 0.085


def test_the_split_stays() -> None:
    """Weights are judged by objects held back when they were trained: the choice must never move."""
    names = [f"pack/object {i}" for i in range(100)]
    assert [i for i, name in enumerate(names) if is_held_back(name)] == [32, 39, 43, 56, 62, 84]


def test_reading(tmp_path: Path) -> None:
    names = write_collection(tmp_path, 4)
    assets = read_collection(tmp_path)
    assert [asset.name for asset in assets] == sorted(names)
    assert all(asset.path.is_file() for asset in assets)
    assert {asset.licence for asset in assets} == {"CC-BY-4.0", "CC0-1.0"}


@pytest.mark.parametrize("ending", [".tar.zst", ".tar.xz", ".tar"])
def test_unpacking(tmp_path: Path, ending: str) -> None:
    source = tmp_path / "source"
    names = write_collection(source, 2)
    archive = tmp_path / f"set{ending}"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz" if ending == ".tar.xz" else "w") as tar:
        for path in sorted(source.rglob("*")):
            tar.add(path, path.relative_to(source), recursive=False)
    raw = data.getvalue()
    archive.write_bytes(zstandard.compress(raw) if ending == ".tar.zst" else raw)
    folder = unpack(archive, tmp_path / "out" / "open")
    assert [asset.name for asset in read_collection(folder)] == sorted(names)
    assert unpack(archive, folder) == folder
    assert [path.name for path in folder.parent.iterdir()] == ["open"]


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(VoxlumeError, match="no collection"):
        read_collection(tmp_path)
    with pytest.raises(VoxlumeError, match="does not exist"):
        unpack(tmp_path / "none.tar", tmp_path / "x")
    (tmp_path / "damaged.tar.zst").write_bytes(b"no archive")
    with pytest.raises(VoxlumeError, match=r"damaged|unpacked"):
        unpack(tmp_path / "damaged.tar.zst", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    for content in (
        "{",
        '{"assets": []}',
        '{"count": 1}',
        json.dumps({"assets": [{"file": "../../etc/passwd", "faces": 1}]}),
        json.dumps({"assets": [{"faces": 1}]}),
    ):
        (tmp_path / "MANIFEST.json").write_text(content)
        with pytest.raises(VoxlumeError, match=r"damaged|lists no asset"):
            read_collection(tmp_path)
