"""STL: millimetres, Z-up, on the floor, normals that agree with the corners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from tests.mesh.full_asset import plain_asset, square
from voxlume.asset import Asset, Mesh
from voxlume.errors import AssetError
from voxlume.mesh.write_stl import write_stl


@pytest.mark.parametrize("millimetres", [100.0, 0.5])
def test_stands_on_the_floor(tmp_path: Path, millimetres: float) -> None:
    asset = plain_asset()
    write_stl(asset, tmp_path / "a.stl", longest_side_mm=millimetres)
    other = trimesh.load(tmp_path / "a.stl", process=False)
    low, high = other.bounds
    assert max(high - low) == pytest.approx(millimetres, rel=1e-6)
    np.testing.assert_allclose([low[2], *(low + high)[:2]], 0, atol=1e-5 * millimetres)
    # Up is y in the asset and z in the file, and handedness is kept.
    x, y, z = (asset.meshes[0].vertices[asset.meshes[0].faces] * millimetres / 3).reshape(-1, 3).T
    turned = np.stack([x - x.mean(), -z + z.mean(), y - y.min()], 1)
    found = other.triangles.reshape(-1, 3)
    found = found - [found[:, 0].mean(), found[:, 1].mean(), 0]
    np.testing.assert_allclose(found, turned, atol=1e-5 * millimetres)
    stored = other.face_normals
    computed = np.cross(*(other.triangles[:, 1:] - other.triangles[:, :1]).transpose(1, 0, 2))
    computed /= np.linalg.norm(computed, axis=1, keepdims=True)
    np.testing.assert_allclose(stored, computed, atol=1e-4)


@pytest.mark.parametrize("size", [0, -1, np.inf, np.nan])
def test_impossible_sizes(tmp_path: Path, size: float) -> None:
    with pytest.raises(AssetError, match="not possible"):
        write_stl(plain_asset(), tmp_path / "a.stl", longest_side_mm=size)


def test_extremes(tmp_path: Path) -> None:
    huge = Asset((Mesh(square().vertices * 1e300, square().faces),))
    write_stl(huge, tmp_path / "a.stl")
    assert max(np.ptp(trimesh.load(tmp_path / "a.stl").bounds, axis=0)) == pytest.approx(100)
    with pytest.raises(AssetError, match="too large"):
        write_stl(huge, tmp_path / "b.stl", longest_side_mm=None)
    point = Asset((Mesh(np.ones((3, 3)), np.array([[0, 1, 2]], np.int32)),))
    with pytest.raises(AssetError, match="coincide"):
        write_stl(point, tmp_path / "b.stl")
    assert not (tmp_path / "b.stl").exists()
