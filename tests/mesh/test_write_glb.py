"""The GLB writer: valid by the Khronos validator, and what is read back is what was written."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.mesh.full_asset import full_asset, image, plain_asset, rotated, square
from tests.paths import ASSETS_DIR, SHARED_MISSING
from tests.validator import assert_valid
from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.errors import AssetError, VoxlumeError
from voxlume.mesh.read import load
from voxlume.mesh.write_glb import Compression, write_glb

RNG = np.random.default_rng(7)


def read_glb(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    magic, version, total, length, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, total, kind) == (b"glTF", 2, len(data), b"JSON")
    assert struct.unpack_from("<4s", data, 24 + length) == (b"BIN\0",)
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def accessor(document: dict[str, Any], binary: bytes, index: int) -> NDArray[Any]:
    a = document["accessors"][index]
    dtype = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}[a["componentType"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[a["type"]]
    start = document["bufferViews"][a["bufferView"]]["byteOffset"]
    return np.frombuffer(binary, dtype, a["count"] * width, start).reshape(-1, width)


def test_everything_is_valid_and_exact(tmp_path: Path) -> None:
    asset = full_asset()
    write_glb(asset, tmp_path / "a.glb")
    document, binary = read_glb(tmp_path / "a.glb")
    mesh, primitive = asset.meshes[0], document["meshes"][0]["primitives"][0]
    got = {k: accessor(document, binary, v) for k, v in primitive["attributes"].items()}
    np.testing.assert_array_equal(got["POSITION"], mesh.vertices)
    np.testing.assert_array_equal(got["TEXCOORD_1"], mesh.uvs[1])
    np.testing.assert_array_equal(got["_METALLIC"][:, 0], mesh.attributes["METALLIC"])
    np.testing.assert_allclose(got["COLOR_0"] / 65535, mesh.colors, atol=0.5 / 65535)
    indices = accessor(document, binary, primitive["indices"])
    assert indices.dtype == np.uint8
    np.testing.assert_array_equal(indices.reshape(-1, 3), mesh.faces)
    # The shared picture is stored once, the unused material not at all, the missing one is explicit.
    assert len(document["images"]) == 5
    assert [m["name"] for m in document["materials"]] == ["everything", "default"]
    assert document["materials"][1]["pbrMetallicRoughness"] == {"metallicFactor": 0.0}
    assert_valid(tmp_path / "a.glb")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_survive_bit_for_bit(tmp_path: Path, channels: int) -> None:
    pixels = image(channels)
    material = Material(base_color_texture=Texture(pixels))
    write_glb(Asset((square(material=0),), (material,)), tmp_path / "a.glb")
    document, binary = read_glb(tmp_path / "a.glb")
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    stored = Image.open(io.BytesIO(binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]))
    np.testing.assert_array_equal(np.asarray(stored).reshape(pixels.shape), pixels)
    # The mesh has no UVs although its material looks some up: the file must be valid nevertheless.
    assert_valid(tmp_path / "a.glb")


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.5, np.pi])
@pytest.mark.parametrize("scale", [(1, 1), (2.0, -0.5), (-1.5, -1), (0, 3), (2, 0)])
def test_texture_transform(tmp_path: Path, angle: float, scale: tuple[float, float]) -> None:
    matrix = rotated(angle, scale, (0.25, -1))
    material = Material(base_color_texture=Texture(image(3), transform=matrix))
    write_glb(Asset((square(material=0),), (material,)), tmp_path / "a.glb")
    document, _ = read_glb(tmp_path / "a.glb")
    info = document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
    t = info["extensions"]["KHR_texture_transform"]
    again = rotated(t.get("rotation", 0), t.get("scale", (1, 1)), t.get("offset", (0, 0)))
    np.testing.assert_allclose(again, matrix, atol=1e-12)
    assert document["extensionsUsed"] == ["KHR_texture_transform"]


def test_sheared_texture_transform_is_refused(tmp_path: Path) -> None:
    material = Material(base_color_texture=Texture(image(3), transform=np.array([[1, 0.5, 0], [0, 1, 0.0]])))
    with pytest.raises(AssetError, match="shear"):
        write_glb(Asset((square(material=0),), (material,)), tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())


def test_bad_normals_are_repaired(tmp_path: Path) -> None:
    normals = np.array([[0, 0, 0], [np.nan, 0, 1], [0, 0, 5], [1e-38, 0, 0]], np.float32)
    mesh = square(normals=normals)
    loose = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]], np.int32), normals=np.zeros((3, 3), np.float32))
    write_glb(Asset((mesh, loose)), tmp_path / "a.glb")
    document, binary = read_glb(tmp_path / "a.glb")
    stored = accessor(document, binary, document["meshes"][0]["primitives"][0]["attributes"]["NORMAL"])
    np.testing.assert_array_equal(stored, np.tile([0, 0, 1], (4, 1)))
    assert_valid(tmp_path / "a.glb")


@pytest.mark.parametrize("offset", [0.0, 0.5, 4.2e6, -6.4e6, 1e12])
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-9])
def test_far_and_tiny_coordinates(tmp_path: Path, offset: float, size: float) -> None:
    if offset and size / abs(offset) < 1e-11:
        pytest.skip("an object so small so far from the origin is beyond double precision")
    points = RNG.random((60, 3)) * size + np.array([offset, -offset / 2, 0])
    mesh = Mesh(points, np.arange(60, dtype=np.int32).reshape(20, 3))
    write_glb(Asset((mesh, mesh)), tmp_path / "a.glb")
    document, binary = read_glb(tmp_path / "a.glb")
    local = accessor(document, binary, document["meshes"][0]["primitives"][0]["attributes"]["POSITION"])
    moved = document["nodes"][-1].get("translation", (0, 0, 0))
    error = np.abs(local.astype(np.float64) + moved - points).max()
    assert error <= 2.0**-22 * size + np.spacing(abs(offset)) * 2
    assert ("translation" in document["nodes"][-1]) == (abs(offset) > 100 * size)
    assert_valid(tmp_path / "a.glb")


@pytest.mark.parametrize(
    ("count", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.uint32)]
)
def test_index_types_leave_the_restart_mark_free(tmp_path: Path, count: int, dtype: type) -> None:
    mesh = Mesh(RNG.random((count, 3)), np.array([[0, 1, count - 1]], np.int32))
    write_glb(Asset((mesh,)), tmp_path / "a.glb")
    document, binary = read_glb(tmp_path / "a.glb")
    indices = accessor(document, binary, document["meshes"][0]["primitives"][0]["indices"])
    assert indices.dtype == dtype
    assert indices.max() == count - 1
    assert_valid(tmp_path / "a.glb")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.full((4, 3), np.nan)}, "not a finite"),
        ({"vertices": np.eye(4, 3) * 1e300}, "too large"),
        ({"faces": np.array([[0, 1, 4]], np.int32)}, "does not exist"),
        ({"faces": np.array([[0, 1, -1]], np.int32)}, "does not exist"),
        ({"uvs": (np.zeros((3, 2), np.float32),)}, "UV set 0"),
        ({"uvs": (np.full((4, 2), np.inf, np.float32),)}, "not a finite"),
        ({"colors": np.zeros((4, 3), np.float32)}, "colours"),
        ({"attributes": {"X": np.zeros((4, 5), np.float32)}}, "attribute X"),
        ({"faces": np.zeros((0, 3), np.int32)}, "no triangle"),
    ],
)
def test_unwritable_assets(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(AssetError, match=message):
        write_glb(Asset((replace(square(), **change),)), tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(VoxlumeError, match="does not exist"):
        write_glb(Asset((square(),)), tmp_path / "no" / "a.glb")


def _assert_same_mesh(a: Mesh, b: Mesh) -> None:
    extent = float(np.ptp(a.vertices, axis=0).max())
    np.testing.assert_allclose(b.vertices, a.vertices, rtol=0, atol=max(extent, 1e-30) * 2e-6)
    np.testing.assert_array_equal(b.faces, a.faces)
    assert (a.normals is None) == (b.normals is None)
    assert len(a.uvs) <= len(b.uvs)
    for ours, theirs in zip(a.uvs, b.uvs, strict=False):
        np.testing.assert_array_equal(theirs, ours)
    if a.colors is not None:
        assert b.colors is not None
        np.testing.assert_allclose(b.colors, np.clip(a.colors, 0, 1), atol=1e-5)
    assert a.attributes.keys() == b.attributes.keys()
    for name, values in a.attributes.items():
        np.testing.assert_array_equal(b.attributes[name], values)


def _assert_same_texture(a: Texture | None, b: Texture | None) -> None:
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        np.testing.assert_array_equal(b.image, a.image)
        assert (b.wrap, b.nearest, b.texcoord) == (a.wrap, a.nearest, a.texcoord)
        np.testing.assert_allclose(b.transform, a.transform, atol=1e-9)


def _assert_same_material(a: Material, b: Material) -> None:
    for name in Material.__dataclass_fields__:
        ours, theirs = getattr(a, name), getattr(b, name)
        if name.endswith("_texture"):
            _assert_same_texture(ours, theirs)
        elif name == "alpha_cutoff":
            assert a.alpha_mode != "MASK" or theirs == pytest.approx(ours)
        elif isinstance(ours, float | tuple):
            assert theirs == pytest.approx(ours, abs=1e-6), name
        else:
            assert theirs == ours, name


def _assert_round_trip(asset: Asset, path: Path) -> None:
    write_glb(asset, path)
    assert_valid(path)
    again = load(path)
    kept = [m for m in asset.meshes if len(m.faces)]
    assert len(again.meshes) == len(kept)
    for a, b in zip(kept, again.meshes, strict=True):
        _assert_same_mesh(a, b)
        _assert_same_material(asset.material_of(a), again.material_of(b))


def test_round_trip_through_the_reader(tmp_path: Path) -> None:
    _assert_round_trip(full_asset(), tmp_path / "a.glb")


def _with_small_images(asset: Asset) -> Asset:
    """The same asset with textures of at most 64 texels a side; shared images stay shared."""
    small: dict[int, NDArray[np.uint8]] = {}

    def shrink(texture: Texture) -> Texture:
        h, w, _ = texture.image.shape
        image = small.setdefault(id(texture.image), texture.image[:: -(-h // 64), :: -(-w // 64)].copy())
        return replace(texture, image=image)

    materials = []
    for material in asset.materials:
        textures = {k: v for k, v in vars(material).items() if isinstance(v, Texture)}
        materials.append(replace(material, **{k: shrink(v) for k, v in textures.items()}))
    return replace(asset, materials=tuple(materials))


def _valid_assets() -> list[str]:
    manifest = ASSETS_DIR / "MANIFEST.json"
    if not manifest.is_file():
        return []
    entries = json.loads(manifest.read_text())["assets"]
    return [e["file"] for e in entries if e["kind"] != "hostile"]


@pytest.mark.skipif(not ASSETS_DIR.is_dir(), reason=SHARED_MISSING)
@pytest.mark.parametrize("name", _valid_assets())
def test_real_assets_survive(tmp_path: Path, name: str) -> None:
    _assert_round_trip(_with_small_images(load(ASSETS_DIR / name)), tmp_path / "a.glb")


def _sorted_corners(asset: Asset, values: str) -> NDArray[np.float64]:
    """The mean over each face's corners of positions, UVs or colours, sorted: encoders reorder faces."""
    found = []
    for mesh in asset.meshes:
        array = {"vertices": mesh.vertices, "uvs": mesh.uvs[0] if mesh.uvs else None, "colors": mesh.colors}[
            values
        ]
        assert array is not None
        found.append(array[mesh.faces].mean(axis=1))
    return np.sort(np.concatenate(found).astype(np.float64), axis=0)


@pytest.mark.parametrize("compression", get_args(Compression))
@pytest.mark.parametrize("asset", [full_asset(), plain_asset("BLEND")])
def test_compressed_geometry(tmp_path: Path, asset: Asset, compression: Compression) -> None:
    write_glb(asset, tmp_path / "a.glb", compression=compression)
    assert_valid(tmp_path / "a.glb")
    again = load(tmp_path / "a.glb")
    assert again.num_faces == asset.num_faces
    extent = np.ptp(np.concatenate([m.vertices for m in asset.meshes]), axis=0).max()
    np.testing.assert_allclose(
        _sorted_corners(again, "vertices"), _sorted_corners(asset, "vertices"), atol=2.0**-15 * extent
    )
    for a, b in zip(asset.meshes, again.meshes, strict=True):
        assert (a.normals is None) == (b.normals is None)
        assert a.attributes.keys() == b.attributes.keys()
        if a.uvs:
            ours, theirs = (_sorted_corners(replace(asset, meshes=(m,)), "uvs") for m in (a, b))
            np.testing.assert_allclose(theirs, ours, atol=2.0**-13)
        if a.colors is not None:
            ours, theirs = (_sorted_corners(replace(asset, meshes=(m,)), "colors") for m in (a, b))
            np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_unknown_compression(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no compression 'zip'"):
        write_glb(full_asset(), tmp_path / "a.glb", compression="zip")  # type: ignore[arg-type]
