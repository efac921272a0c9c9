"""OBJ and MTL: all ways to write a face, colours, materials, textures only from the folder, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from tests.mesh.damage import mutations, truncations
from voxlume.asset import Asset
from voxlume.errors import AssetError
from voxlume.mesh.obj import read_obj
from voxlume.mesh.read import load
from voxlume.srgb import srgb_to_linear

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nvn 0 0 2\n"


def read(folder: Path, text: str, library: str | None = None) -> Asset:
    (folder / "a.obj").write_bytes(text.encode())
    if library is not None:
        (folder / "a.mtl").write_text(library)
    return load(folder / "a.obj")


def material(folder: Path, library: str) -> Asset:
    return read(folder, f"mtllib a.mtl\n{SQUARE}usemtl m\nf 1/1 2/2 3/3 4/4\n", f"newmtl m\n{library}\n")


def picture(folder: Path, name: str, channels: int = 3, size: tuple[int, int] = (4, 6)) -> np.ndarray:
    shape = size if channels == 1 else (*size, channels)
    pixels = np.random.default_rng(len(name)).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return pixels.reshape(*size, channels)


@pytest.mark.parametrize(
    "face",
    [
        "f 1 2 3 4",
        "f 1/1 2/2 3/3 4/4",
        "f 1//1 2//1 3//1 4//1",
        "f 1/1/1 2/2/1 3/3/1 4/4/1",
        "f -4/-4/-1 -3/-3/-1 -2/-2/-1 -1/-1/-1",
        "  f\t1/1/ 2/2/ 3/3/ 4/4/ # a comment\r",
        "f 1/1 \\\n2/2 3/3\\\n 4/4",
        "f 1 2 3\nf 1 3 4",
        "g group\ns off\nl 1 2\np 1\nf 1/9 2/9 3/9 4/9",
    ],
)
def test_ways_to_write_a_face(tmp_path: Path, face: str) -> None:
    mesh = read(tmp_path, f"{SQUARE}{face}\n").meshes[0]
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    if ("/1 " in face and "//" not in face) or "-4/" in face:
        np.testing.assert_array_equal(mesh.uvs[0], [[0, 1], [1, 1], [1, 0], [0, 0]])
    if "/1/1" in face or "//1" in face or "-1/" in face:
        np.testing.assert_array_equal(mesh.normals, np.tile([0, 0, 1], (4, 1)))


def test_corners_split_only_where_they_differ(tmp_path: Path) -> None:
    mesh = read(tmp_path, f"{SQUARE}f 1/1 2/2 3/3\nf 1/1 3/4 4/4\n").meshes[0]
    assert len(mesh.vertices) == 5
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 3, 4]]


def test_some_corners_without_uv_and_normal(tmp_path: Path) -> None:
    mesh = read(tmp_path, f"{SQUARE}f 1/2/1 2 3//1\n").meshes[0]
    np.testing.assert_array_equal(mesh.uvs[0], [[1, 1], [0, 0], [0, 0]])
    np.testing.assert_array_equal(mesh.normals, np.tile([0, 0, 1], (3, 1)))


@pytest.mark.parametrize("line", ["0.2 0.4 1", "51 102 255", "1.0 0.2 0.4 1"])
def test_vertex_colors(tmp_path: Path, line: str) -> None:
    text = "".join(f"v {x} 0 {y} {line}\n" for x, y in ((0, 0), (0, 1), (1, 0)))
    mesh = read(tmp_path, text + "f 1 2 3\n").meshes[0]
    if line.startswith("1.0"):
        expected = [1.0, *srgb_to_linear(np.array([0.2, 0.4])), 1.0]  # the seventh number is not alpha
    else:
        expected = [*srgb_to_linear(np.array([0.2, 0.4])), 1.0, 1.0]
    np.testing.assert_allclose(mesh.colors, np.tile(expected, (3, 1)), atol=1e-6)


def test_agrees_with_trimesh_on_a_real_shape(tmp_path: Path) -> None:
    shape = trimesh.creation.torus(2.0, 0.5)
    shape.export(tmp_path / "a.obj")
    mesh = load(tmp_path / "a.obj").meshes[0]
    assert (len(mesh.vertices), len(mesh.faces)) == (len(shape.vertices), len(shape.faces))
    theirs = trimesh.load_mesh(tmp_path / "a.obj", process=False)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], theirs.triangles, rtol=0, atol=1e-12)


def test_too_many_materials(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="materials"):
        read(tmp_path, SQUARE + "".join(f"usemtl {i}\nf 1 2 3\n" for i in range(20000)))


def test_one_mesh_per_material(tmp_path: Path) -> None:
    faces = "f 1 2 3\nusemtl b\nf 2 3 4\nusemtl a\nf 1 2 4\nusemtl b\nf 1 3 4\nusemtl lost\nf 1 2 3\n"
    text = f"mtllib a.mtl\n{SQUARE}{faces}"
    asset = read(tmp_path, text, "newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 .5 0\nnewmtl unused\nmap_Kd none.png\n")
    assert [(m.name, m.material, len(m.faces)) for m in asset.meshes] == [
        ("", -1, 1), ("b", 0, 2), ("a", 1, 1), ("lost", -1, 1),
    ]  # fmt: skip
    assert [m.name for m in asset.materials] == ["b", "a"]
    assert asset.materials[0].base_color_factor == (0, 0.5, 0, 1)
    assert len(asset.warnings) == 1
    assert "'lost'" in asset.warnings[0]


def test_values(tmp_path: Path) -> None:
    m = material(tmp_path, "Kd .1 .2 .3\nKe 2 0 1\nd .25\nTr 0\nPm .5\nPr .75\nNs 10").materials[0]
    assert m.base_color_factor == (0.1, 0.2, 0.3, 0.25)
    assert m.emissive_factor == (2, 0, 1)
    assert (m.metallic_factor, m.roughness_factor, m.alpha_mode) == (0.5, 0.75, "BLEND")
    m = material(tmp_path, "kd 0.5\nTr 0.25\nNs 30\nKd one two\nPr nan").materials[0]
    assert m.base_color_factor == (0.5, 0.5, 0.5, 0.75)
    assert (m.metallic_factor, m.roughness_factor) == (0.0, 0.5)


def test_textures(tmp_path: Path) -> None:
    color = picture(tmp_path, "the color.png", 4)
    alpha, rough = picture(tmp_path, "alpha.png", 1, (8, 12)), picture(tmp_path, "rough.png", 1)
    metal, normal = picture(tmp_path, "metal.png", 3, (8, 12)), picture(tmp_path, "normal.png")
    m = material(
        tmp_path,
        "Kd 0 0 0\nmap_Kd -s 2 3 1 -o .5 .25 -clamp on the color.png\nmap_d alpha.png\n"
        "map_Pr rough.png\nPr 0\nmap_Pm metal.png\nnorm -bm 1.0 normal.png\nmap_Ke the color.png",
    ).materials[0]
    assert m.base_color_factor == (1, 1, 1, 1)
    assert m.base_color_texture is not None
    np.testing.assert_array_equal(m.base_color_texture.image[:, :, :3], color[:, :, :3])
    assert m.base_color_texture.image.shape == (4, 6, 4)
    assert abs(m.base_color_texture.image[:, :, 3].mean() - alpha.mean()) < 8
    assert m.base_color_texture.wrap == ("clamp", "clamp")
    # (0, 0) of OBJ is the lower left: (u, v up) -> (2 u + 0.5, 3 v + 0.25).
    np.testing.assert_allclose(m.base_color_texture.transform @ [0.1, 1 - 0.2, 1], [0.7, 1 - 0.85])
    assert m.alpha_mode == "BLEND"
    assert m.metallic_roughness_texture is not None
    np.testing.assert_array_equal(m.metallic_roughness_texture.image[:, :, 2], metal[:, :, 0])
    assert m.metallic_roughness_texture.image.shape == (8, 12, 3)
    assert abs(m.metallic_roughness_texture.image[:, :, 1].mean() - rough.mean()) < 8
    assert (m.metallic_factor, m.roughness_factor) == (1, 1)
    assert m.normal_texture is not None
    np.testing.assert_array_equal(m.normal_texture.image, normal)
    assert m.emissive_factor == (1, 1, 1)


def test_transparency_needs_its_own_key(tmp_path: Path) -> None:
    pixels = picture(tmp_path, "leaf.png", 4)
    opaque = material(tmp_path, "map_Kd leaf.png").materials[0]
    assert opaque.alpha_mode == "OPAQUE"
    assert opaque.base_color_texture is not None
    assert opaque.base_color_texture.image.shape[2] == 3
    leaf = material(tmp_path, "map_Kd leaf.png\nmap_d leaf.png").materials[0]
    assert leaf.alpha_mode == "BLEND"
    assert leaf.base_color_texture is not None
    np.testing.assert_array_equal(leaf.base_color_texture.image, pixels)


def test_one_file_for_metal_and_roughness(tmp_path: Path) -> None:
    pixels = picture(tmp_path, "orm.png")
    m = material(tmp_path, "map_Pr orm.png\nmap_Pm orm.png").materials[0]
    assert m.metallic_roughness_texture is not None
    np.testing.assert_array_equal(m.metallic_roughness_texture.image, pixels)


def test_materials_share_arrays(tmp_path: Path) -> None:
    picture(tmp_path, "t.png", 4)
    text = f"mtllib a.mtl\n{SQUARE}usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 1/1 3/3 4/4\n"
    a, b = read(tmp_path, text, "newmtl a\nmap_Kd t.png\nnewmtl b\nKd 0 1 0\nmap_Kd t.png\n").materials
    assert a.base_color_texture is not None
    assert b.base_color_texture is not None
    assert a.base_color_texture.image is b.base_color_texture.image


@pytest.mark.parametrize(
    "name", ["../secret.png", "{outside}", "C:\\\\art\\\\secret.png", "http://host/secret.png"]
)
def test_textures_come_only_from_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    picture(tmp_path, "secret.png")
    name = name.format(outside=tmp_path / "secret.png")
    asset = material(folder, f"map_Kd {name}")
    assert asset.materials[0].base_color_texture is None
    assert "texture left out" in asset.warnings[0]
    # Of a path that leads elsewhere the file's name counts, if it lies in the folder.
    inside = picture(folder, "secret.png")
    texture = material(folder, f"map_Kd {name}").materials[0].base_color_texture
    assert texture is not None
    np.testing.assert_array_equal(texture.image, inside)


def test_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    picture(tmp_path, "secret.png")
    try:
        (folder / "t.png").symlink_to(tmp_path / "secret.png")
    except OSError:
        pytest.skip("links cannot be made here")
    assert material(folder, "map_Kd t.png").materials[0].base_color_texture is None


def test_one_texture_under_many_names(tmp_path: Path) -> None:
    pixels = picture(tmp_path, "t.png")
    names = ["t.png", "./t.png", "x/../t.png", '"t.png"', "-bm 1 " * 5000 + "t.png"]
    library = "".join(f"newmtl m{i}\nmap_Kd {name}\n" for i, name in enumerate(names))
    faces = "".join(f"usemtl m{i}\nf 1/1 2/2 3/3\n" for i in range(len(names)))
    asset = read(tmp_path, f"mtllib a.mtl\n{SQUARE}{faces}", library)
    *textures, skipped = (m.base_color_texture for m in asset.materials)
    assert skipped is None  # the line is too long to make sense
    for texture in textures:
        assert texture is not None
        np.testing.assert_array_equal(texture.image, pixels)


def test_missing_library(tmp_path: Path) -> None:
    asset = read(tmp_path, f"mtllib none.mtl\n{SQUARE}usemtl m\nf 1 2 3\n")
    assert asset.meshes[0].material == -1
    assert len(asset.warnings) == 2


def test_texture_without_uvs_gets_zeros(tmp_path: Path) -> None:
    picture(tmp_path, "t.png")
    asset = read(tmp_path, f"mtllib a.mtl\n{SQUARE}usemtl m\nf 1 2 3\n", "newmtl m\nmap_Kd t.png\n")
    np.testing.assert_array_equal(asset.meshes[0].uvs[0], np.zeros((3, 2)))
    assert "no UVs" in asset.warnings[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        SQUARE,
        SQUARE + "f 1 2\n",
        SQUARE + "f 1 2 5\n",
        SQUARE + "f 1 2 -5\n",
        SQUARE + "f 0 1 2\n",
        SQUARE + "f 1 2 3.5\n",
        SQUARE + "f 1/1/1/1 2 3\n",
        SQUARE + "f 1 2 99999999999999999999\n",
        SQUARE + "v 1 2\nf 1 2 3\n",
        SQUARE + "v 1 2 x\nf 1 2 3\n",
        SQUARE + "v inf 0 0\nf 1 2 5\n",
        "v 1 1 1\n" * 3 + "f 1 2 3\n",
    ],
)
def test_damaged(tmp_path: Path, text: str) -> None:
    with pytest.raises(AssetError):
        read(tmp_path, text)


def test_errors_name_the_line(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"a\.obj: line 10 "):
        read(tmp_path, SQUARE + "f 1 2 x\n")


def test_cut_off_and_fuzzed(tmp_path: Path) -> None:
    data = (f"mtllib a.mtl\n{SQUARE}usemtl m\n" + "f 1/1/1 2/2 3//1 -1\nf 2 3 4\n" * 20).encode()
    picture(tmp_path, "t.png")
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd t.png\n")
    truncations(read_obj, tmp_path / "a.obj", data)
    assert not all(mutations(read_obj, tmp_path / "a.obj", data))
    library = b"newmtl m\nKd .1 .2 .3\nmap_Kd -s 1 2 3 t.png\nmap_d t.png\nmap_Pr t.png\nTr .5\nNs 30\n"
    (tmp_path / "a.obj").write_bytes(data)
    assert all(mutations(lambda _: read_obj(tmp_path / "a.obj"), tmp_path / "a.mtl", library))
