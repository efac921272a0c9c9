"""STL: both forms, telling them apart, Z-up to Y-up, welding, damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from tests.mesh.damage import mutations, truncations
from voxlume.errors import AssetError
from voxlume.mesh.read import load
from voxlume.mesh.stl import read_stl

SHAPE = trimesh.creation.torus(2.0, 0.5, major_sections=12, minor_sections=8)


def export(form: str, header: bytes = b"solid but binary") -> bytes:
    data = SHAPE.export(file_type=form)
    if form == "stl_ascii":
        return data.encode() if isinstance(data, str) else data
    return header.ljust(80)[:80] + data[80:]


@pytest.mark.parametrize("form", ["stl", "stl_ascii"])
def test_shape_is_welded_and_turned(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.stl").write_bytes(export(form))
    mesh = load(tmp_path / "a.stl").meshes[0]
    assert len(mesh.vertices) == len(SHAPE.vertices)
    ours = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert ours.is_watertight
    assert ours.volume == pytest.approx(SHAPE.volume, rel=1e-5)
    # The torus lies in the xy plane: up is z there and y here.
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [5, 1, 5], atol=1e-5)
    np.testing.assert_allclose(mesh.vertices[:, 2].min(), -SHAPE.vertices[:, 1].max(), atol=1e-5)


def test_text_with_odd_names_and_spacing(tmp_path: Path) -> None:
    path = tmp_path / "a.stl"
    path.write_bytes(
        b"\n solid vertex 1 # not a comment's end\r\nFACET NORMAL 0 0 1\r\n outer loop\r\n"
        b"\tVERTEX 0 0 0\r\n vertex 1.0E0 -0 .0\r\nvertex 0 +1e-0 0\r\nendloop endfacet\r\nendsolid facet\r\n"
    )
    np.testing.assert_array_equal(read_stl(path).meshes[0].vertices, [[0, 0, 0], [1, 0, 0], [0, 0, -1]])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"solid\nendsolid\n",
        b"solid x\nfacet\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nendloop\nendsolid",
        b"solid x\nfacet\nouter loop\nvertex 0 0 zero\nendloop\nendsolid",
        bytes(80) + struct.pack("<I", 2**32 - 1) + bytes(500),
        bytes(84),
    ],
)
def test_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.stl").write_bytes(data)
    with pytest.raises(AssetError):
        load(tmp_path / "a.stl")


@pytest.mark.parametrize("form", ["stl", "stl_ascii"])
def test_cut_off_and_fuzzed(tmp_path: Path, form: str) -> None:
    outcomes = truncations(read_stl, tmp_path / "a.stl", export(form))
    assert form == "stl_ascii" or not any(outcomes)
    assert not all(mutations(read_stl, tmp_path / "a.stl", export(form)))


def test_cut_off_text_is_mentioned(tmp_path: Path) -> None:
    data = export("stl_ascii")
    (tmp_path / "a.stl").write_bytes(data[: data.index(b"endfacet", len(data) // 2)])
    assert "cut off" in read_stl(tmp_path / "a.stl").warnings[0]
