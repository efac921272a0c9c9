"""The one door for writing: endings, what is read back, all or nothing."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.mesh.full_asset import full_asset, plain_asset, square, triangles
from tests.paths import ASSETS_DIR, SHARED_MISSING
from voxlume.asset import Asset, Mesh
from voxlume.errors import AssetError, VoxlumeError
from voxlume.mesh.read import load
from voxlume.mesh.write import ENDINGS, write_asset

READABLE = [".glb", ".obj", ".ply"]
REAL = ["flight_helmet/FlightHelmet.gltf", "sunglasses.glb", "scallop_vertex_colors.glb", "avocado.glb"]


@pytest.mark.parametrize("ending", [e.upper() for e in ENDINGS])
def test_every_ending_writes_the_same_bytes_again(tmp_path: Path, ending: str) -> None:
    names = ("a", "b")
    for name in names:
        (tmp_path / name).mkdir()
        write_asset(full_asset_without_chance(), tmp_path / name / f"x{ending}")
    first, second = (sorted((tmp_path / name).iterdir()) for name in names)
    assert [p.name for p in first] == [p.name for p in second]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()


def full_asset_without_chance() -> Asset:
    return plain_asset("BLEND", emissive_factor=(0.1, 0.2, 0.3))


def test_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(VoxlumeError, match=r"must end in \.glb or "):
        write_asset(plain_asset(), tmp_path / "a.fbx")


@pytest.mark.skipif(not ASSETS_DIR.is_dir(), reason=SHARED_MISSING)
@pytest.mark.parametrize("ending", READABLE)
@pytest.mark.parametrize("name", REAL)
def test_real_assets_read_back_equal(tmp_path: Path, name: str, ending: str) -> None:
    asset = load(ASSETS_DIR / name)
    small = replace(asset, materials=tuple(replace(m, base_color_texture=None) for m in asset.materials))
    write_asset(small, tmp_path / f"a{ending}")
    if ending == ".obj":  # comes back as one mesh for each material
        order = [mesh.material for mesh in asset.meshes]
        asset = replace(asset, meshes=tuple(sorted(asset.meshes, key=lambda m: order.index(m.material))))
    ours, theirs = triangles(asset), triangles(load(tmp_path / f"a{ending}"))
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=2.0**-23 * np.abs(ours).max())


@pytest.mark.parametrize("ending", [*READABLE, ".stl"])
@pytest.mark.parametrize("offset", [0.0, 4.2e6])
def test_geometry_reads_back_equal(tmp_path: Path, ending: str, offset: float) -> None:
    mesh = plain_asset().meshes[0]
    asset = Asset((replace(mesh, vertices=mesh.vertices + offset, material=-1, normals=None),))
    options = {"longest_side_mm": None} if ending == ".stl" else {}
    write_asset(asset, tmp_path / f"a{ending}", **options)  # type: ignore[arg-type]
    ours, theirs = triangles(asset), triangles(load(tmp_path / f"a{ending}"))
    if not offset:
        np.testing.assert_array_equal(theirs.astype(np.float32), ours)
    else:  # STL has nothing but float32
        atol = 2.0**-23 * offset if ending == ".stl" else 2.0**-22 * 3
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=atol)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("asset", "message"),
    [
        (Asset(()), "no triangle"),
        (Asset((square(),), name="x"), None),
        (Asset((Mesh(np.full((3, 3), np.nan), np.array([[0, 1, 2]], np.int32)),)), "not a finite"),
        (Asset((Mesh(np.eye(3), np.array([[0, 1, 3]], np.int32)),)), "does not exist"),
    ],
)
def test_bad_assets_leave_nothing_behind(
    tmp_path: Path, asset: Asset, message: str | None, ending: str
) -> None:
    if message is None:
        write_asset(asset, tmp_path / f"a{ending}")
        return
    with pytest.raises(AssetError, match=message):
        write_asset(asset, tmp_path / f"a{ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("syncs", [0, 1, 4])
def test_disk_full_leaves_nothing_behind(
    tmp_path: Path, ending: str, syncs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the bytes of the first, the second, the fifth file must be on it."""
    sync, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > syncs:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    if ending != ".obj" and syncs:
        write_asset(full_asset(), tmp_path / f"a{ending}")
        return
    with pytest.raises(VoxlumeError, match=r"cannot write .*a.*: No space left"):
        write_asset(full_asset(), tmp_path / f"a{ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quality", [0, 101])
def test_impossible_image_options(tmp_path: Path, quality: int) -> None:
    with pytest.raises(AssetError, match="quality"):
        write_asset(plain_asset(), tmp_path / "a.glb", quality=quality)
    with pytest.raises(AssetError, match="no image format"):
        write_asset(plain_asset(), tmp_path / "a.glb", image_format="gif")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
