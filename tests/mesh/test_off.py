"""OFF: keywords, comments, colours, normals, polygons, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from tests.mesh.damage import mutations, truncations
from voxlume.errors import AssetError
from voxlume.mesh.off import read_off
from voxlume.mesh.read import load
from voxlume.srgb import srgb_to_linear

PYRAMID = "0 0 0\n1 0 0\n1 0 1\n0 0 1\n.5 1 5e-1\n"
FACES = "4 0 1 2 3\n3 0 4 1\n3 1 4 2\n3 2 4 3\n3 3 4 0\n"


def read(tmp_path: Path, text: str) -> object:
    (tmp_path / "a.off").write_bytes(text.encode())
    return load(tmp_path / "a.off")


@pytest.mark.parametrize(
    "text",
    [
        f"OFF\n5 5 0\n{PYRAMID}{FACES}",
        f"OFF 5 5 8\n{PYRAMID}{FACES}",
        f"# made by hand\nOFF # the keyword\n\n5 5\n# vertices\n{PYRAMID}\n# faces\n{FACES}".replace(
            "\n", "\r\n"
        ),
        f"5 5 0\n{PYRAMID}{FACES}",
        "OFF\n5 5 0\n" + PYRAMID.replace("\n", " ") + "\n" + FACES.replace("\n", "  200 10 0 255 # red\n"),
        "OFF\n5 5 0\n" + PYRAMID.replace("\n", " 1 1 1\n") + FACES,
    ],
)
def test_ways_to_write_the_same(tmp_path: Path, text: str) -> None:
    asset = read(tmp_path, text)
    mesh = asset.meshes[0]
    assert (len(mesh.vertices), len(mesh.faces)) == (5, 6)
    np.testing.assert_array_equal(mesh.vertices[4], [0.5, 1, 0.5])
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).volume == pytest.approx(1 / 3)


@pytest.mark.parametrize("line", ["255 128 0 51", "1.0 0.50196078 0 0.2", "255 128 0"])
def test_colors(tmp_path: Path, line: str) -> None:
    vertices = PYRAMID.replace("\n", f" {line}\n")
    mesh = read(tmp_path, f"COFF\n5 5 0\n{vertices}{FACES}").meshes[0]
    alpha = 0.2 if line.count(" ") == 3 else 1.0
    expected = [1.0, float(srgb_to_linear(np.array(128 / 255))), 0.0, alpha]
    np.testing.assert_allclose(mesh.colors, np.tile(expected, (5, 1)), atol=1e-6)


def test_normals_and_texcoords(tmp_path: Path) -> None:
    vertices = PYRAMID.replace("\n", " 0 2 0 255 0 0 255 0.25 0.75\n")
    mesh = read(tmp_path, f"STCNOFF\n5 5 0\n{vertices}{FACES}").meshes[0]
    np.testing.assert_array_equal(mesh.normals, np.tile([0, 1, 0], (5, 1)))
    np.testing.assert_array_equal(mesh.uvs[0], np.tile(np.float32([0.25, 0.25]), (5, 1)))
    np.testing.assert_array_equal(mesh.colors, np.tile([1, 0, 0, 1], (5, 1)))


@pytest.mark.parametrize(
    "text",
    [
        "OFF",
        "OFF\n0 0 0\n",
        "4OFF\n5 5 0\n",
        "OFF BINARY\n5 5 0\n",
        "OFF\n999999999 5 0\n0 0 0\n",
        "OFF\n5 999999999 0\n" + PYRAMID,
        "OFF\n-5 5 0\n" + PYRAMID,
        f"OFF\n5 6 0\n{PYRAMID}{FACES}",
        f"OFF\n5 5 0\n{PYRAMID}{FACES}".replace("3 1 4 2", "3 1 4 5"),
        f"OFF\n5 5 0\n{PYRAMID}{FACES}".replace("3 1 4 2", "3 1 4 -1"),
        f"OFF\n5 5 0\n{PYRAMID}{FACES}".replace("3 1 4 2", "3333333333 1 4 2"),
        f"OFF\n5 5 0\n{PYRAMID}{FACES}".replace("5e-1", "5e-1x"),
    ],
)
def test_damaged(tmp_path: Path, text: str) -> None:
    with pytest.raises(AssetError):
        read(tmp_path, text)


def test_cut_off_and_fuzzed(tmp_path: Path) -> None:
    data = trimesh.creation.icosphere(subdivisions=2).export(file_type="off").encode()
    assert not any(truncations(read_off, tmp_path / "a.off", data)[:-1])
    assert not all(mutations(read_off, tmp_path / "a.off", data))
