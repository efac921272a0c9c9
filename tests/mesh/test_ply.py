"""PLY: text and both byte orders, every type, colours, UVs, polygons, foreign elements, damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from tests.mesh.damage import mutations, truncations
from voxlume.errors import AssetError
from voxlume.mesh.ply import read_ply
from voxlume.mesh.read import load
from voxlume.srgb import srgb_to_linear

VERTICES = [(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1), (0.5, 1, 0.5)]
FACES = [(0, 1, 2, 3), (0, 4, 1), (1, 4, 2), (2, 4, 3), (3, 4, 0)]
COLORS = [(255, 128, 0, 51)] * 5

HEADER = """ply
format {order} 1.0
comment made by hand
element camera 2
property list uchar double pose
property int id
element vertex 5
property {real} x
property {real} y
property {real} z
property uchar red
property uchar green
property uchar blue
property uchar alpha
property float s
property float t
property short quality
element face 5
property uchar flags
property list {count} {index} vertex_indices
property list uchar float weights
end_header
"""


def pyramid(order: str, real: str = "float", count: str = "uchar", index: str = "int") -> bytes:
    """A pyramid with properties and an element that are of no interest, in any form."""
    rows: list[tuple[str, tuple[float, ...]]] = [("B2di", (2, 0.5, 1.5, 7)), ("Bi", (0, 8))]
    rows += [
        (f"3{code(real)}4B2fh", (*xyz, *rgba, 0.25, 0.75, -3))
        for xyz, rgba in zip(VERTICES, COLORS, strict=True)
    ]
    rows += [(f"B{code(count)}{len(f)}{code(index)}Bf", (1, len(f), *f, 1, 0.5)) for f in FACES]
    text = HEADER.format(order=order, real=real, count=count, index=index).encode()
    if order == "ascii":
        return text + "".join(" ".join(map(str, values)) + "\n" for _, values in rows).encode()
    mark = ">" if order == "binary_big_endian" else "<"
    return text + b"".join(struct.pack(mark + layout, *values) for layout, values in rows)


def code(name: str) -> str:
    return {
        "float": "f",
        "double": "d",
        "uchar": "B",
        "char": "b",
        "short": "h",
        "ushort": "H",
        "int": "i",
        "uint": "I",
    }[name]


ORDERS = ["ascii", "binary_little_endian", "binary_big_endian"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "types",
    [
        ("float", "uchar", "int"),
        ("double", "int", "uchar"),
        ("float", "ushort", "short"),
        ("double", "uint", "uint"),
    ],
)
def test_every_form(tmp_path: Path, order: str, types: tuple[str, str, str]) -> None:
    (tmp_path / "a.ply").write_bytes(pyramid(order, *types))
    mesh = load(tmp_path / "a.ply").meshes[0]
    np.testing.assert_array_equal(mesh.vertices, VERTICES)
    assert mesh.faces.tolist()[-4:] == [list(f) for f in FACES[1:]]
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).volume == pytest.approx(1 / 3)
    expected = [1.0, float(srgb_to_linear(np.array(128 / 255))), 0.0, 0.2]
    np.testing.assert_allclose(mesh.colors, np.tile(expected, (5, 1)), atol=1e-6)
    np.testing.assert_array_equal(mesh.uvs[0], np.tile(np.float32([0.25, 0.25]), (5, 1)))


def test_carriage_returns_and_float_colors(tmp_path: Path) -> None:
    text = (
        pyramid("ascii")
        .replace(b"\n", b"\r\n")
        .replace(b"uchar", b"float")
        .replace(b"list float", b"list uchar")
    )
    text = text.replace(b" 255 128 0 51 ", b" 1.0 0.5 0 0.2 ")
    (tmp_path / "a.ply").write_bytes(text)
    mesh = load(tmp_path / "a.ply").meshes[0]
    expected = [1.0, float(srgb_to_linear(np.array(0.5))), 0.0, 0.2]
    np.testing.assert_allclose(mesh.colors, np.tile(expected, (5, 1)), atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_vertices_that_are_not_finite(tmp_path: Path, order: str) -> None:
    data = pyramid(order)
    nan = struct.pack(">f" if "big" in order else "<f", np.nan)
    half = struct.pack(">f" if "big" in order else "<f", 0.5)
    data = data.replace(b"0.5 1 0.5", b"nan 1 0.5") if order == "ascii" else data.replace(half, nan, 1)
    (tmp_path / "a.ply").write_bytes(data)
    asset = load(tmp_path / "a.ply")
    assert asset.num_faces == 2
    assert "4 faces dropped" in asset.warnings[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"element vertex 5", b"element vertex 2000000000"),
        (b"element vertex 5", b"element vertex 99999999999999999999"),
        (b"element vertex 5", b"element vertex -5"),
        (b"element face 5", b"element face 2000000000"),
        (b"property float y", b"property float why"),
        (b"property float y", b"property quaternion y"),
        (b"vertex_indices", b"corners"),
        (b"format ", b"fromat "),
        (b"end_header", b"end_hat"),
        (b"uchar int vertex_indices", b"float int vertex_indices"),
        (b"property float y", b"property list uchar float y"),
        (b"element camera 2\n", b""),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_damaged_headers(tmp_path: Path, order: str, old: bytes, new: bytes) -> None:
    data = pyramid(order)
    assert old in data
    (tmp_path / "a.ply").write_bytes(data.replace(old, new))
    with pytest.raises(AssetError):
        read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("order", ORDERS)
def test_cut_off_and_fuzzed(tmp_path: Path, order: str) -> None:
    data = pyramid(order)
    assert not any(truncations(read_ply, tmp_path / "a.ply", data)[:-2])
    assert not all(mutations(read_ply, tmp_path / "a.ply", data))
