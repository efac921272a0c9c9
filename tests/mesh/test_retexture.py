"""Texturing a mesh file: what must not change does not, to the bit; what is baked is the voxels' material."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.mesh.full_asset import plain_asset, triangles
from tests.mesh.gltf_builder import QUAD, QUAD_FACES, Gltf
from tests.paths import ASSETS_DIR, SHARED_MISSING
from tests.validator import validate
from voxlume.asset import Asset, Placement
from voxlume.errors import AssetError, VoxlumeError
from voxlume.mesh.gltf.accessors import Accessors
from voxlume.mesh.gltf.container import GltfFile
from voxlume.mesh.read import load
from voxlume.mesh.retexture import RetextureOptions, retexture
from voxlume.mesh.write_glb import write_glb
from voxlume.mesh.write_obj import write_obj
from voxlume.ovoxel.grid import OVoxel
from voxlume.texture import MaterialSampler

SMALL = RetextureOptions(texture_size=128, image_format="png")
NEW = RetextureOptions(texture_size=128, image_format="png", uvs="new")


def document_of(path: Path) -> dict[str, Any]:
    return GltfFile(path).root.fields


def stored(path: Path, mesh: int, primitive: int, name: str) -> NDArray[Any]:
    """An attribute or the indices exactly as they are in the file."""
    file = GltfFile(path)
    fields = file.root.fields["meshes"][mesh]["primitives"][primitive]
    return Accessors(file).read(fields["indices"] if name == "indices" else fields["attributes"][name]).data


def color_error(asset: Asset, ovoxel: OVoxel, textured: Asset, count: int = 2000) -> NDArray[np.float64]:
    """|difference| (n, 6) between the original material and the new one at random places of the mesh."""
    rng = np.random.default_rng(0)
    face = rng.integers(0, asset.num_faces, count)
    weights = rng.dirichlet(np.ones(3), count)
    voxel = 1 / (ovoxel.resolution * ovoxel.placement.scale)
    ours = MaterialSampler(asset).sample(face, weights, voxel)
    theirs = MaterialSampler(textured).sample(face, weights, voxel)
    return np.abs(ours - theirs).astype(np.float64)


def rich_scene() -> Gltf:
    """Nodes, an animation, extras, an unknown extension, three materials, a part outside the scene."""
    gltf = Gltf()
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = (200, 30, 30)
    pixels[:, 4:] = (30, 30, 200)
    texture = gltf.texture(pixels, wrapS=33071, wrapT=33071)
    for name in ("kept", "bare", "elsewhere"):
        gltf.add(
            "materials",
            name=name,
            doubleSided=True,
            extras={"id": name},
            emissiveFactor=[0.1, 0, 0],
            pbrMetallicRoughness={"baseColorTexture": {"index": texture}} if name == "kept" else {},
            extensions={"KHR_materials_clearcoat": {"clearcoatFactor": 1}},
        )
    kept = gltf.quad(material=0)
    colors = np.full((4, 4), 128, np.uint8)
    bare = {
        "attributes": {
            "POSITION": gltf.accessor(QUAD + np.float32([0, 0, 1.1]), min=[0, 0, 1.1], max=[1, 1, 1.1]),
            "COLOR_0": gltf.accessor(colors, normalized=True),
            "_ID": gltf.accessor(np.arange(4, dtype=np.float32)),
        },
        "indices": gltf.accessor(QUAD_FACES),
        "material": 1,
    }
    second = gltf.add("meshes", primitives=[bare], extras={"kept": [1, 2.5, None]})
    other = gltf.quad(material=2)
    nodes = [
        gltf.add("nodes", mesh=kept, name="a", scale=[2, 1, -1]),
        gltf.add("nodes", mesh=second, name="b", translation=[0.1, 0.2, 0.3]),
    ]
    gltf.add("nodes", mesh=other, name="hidden")
    gltf.scene(*nodes)
    times = gltf.accessor(np.float32([0, 1]), min=[0], max=[1])
    moves = gltf.accessor(np.float32([[0, 0, 0], [1, 0, 0]]))
    gltf.add(
        "animations",
        samplers=[{"input": times, "output": moves}],
        channels=[{"sampler": 0, "target": {"node": 1, "path": "translation"}}],
    )
    gltf.doc["extensionsUsed"] = ["KHR_materials_clearcoat", "VENDOR_thing"]
    gltf.doc["extensions"] = {"VENDOR_thing": {"x": 1.5}}
    return gltf


def test_all_else_in_the_file_is_untouched(tmp_path: Path) -> None:
    source = rich_scene().save(tmp_path, "in.glb")
    ovoxel = OVoxel.from_asset(load(source), 32)
    notes = retexture(source, ovoxel, tmp_path / "out.glb", SMALL)
    assert notes == ("vertex colours were dropped, they would tint the new textures",)
    before, after = document_of(source), document_of(tmp_path / "out.glb")
    for key in ("asset", "nodes", "scenes", "scene", "animations", "extensions", "extensionsUsed"):
        assert after[key] == before[key], key
    assert after["materials"][2] == before["materials"][2]
    assert after["meshes"][2] == before["meshes"][2]
    assert after["meshes"][1]["extras"] == before["meshes"][1]["extras"]
    # The primitive with UVs keeps everything; its material is new in its place.
    assert after["meshes"][0] == before["meshes"][0]
    new = after["materials"][0]
    assert {k: new[k] for k in ("name", "doubleSided", "extras")} == {
        "name": "kept",
        "doubleSided": True,
        "extras": {"id": "kept"},
    }
    assert set(new) == {"name", "doubleSided", "extras", "pbrMetallicRoughness"}
    for name in ("POSITION", "TEXCOORD_0", "indices"):
        np.testing.assert_array_equal(stored(tmp_path / "out.glb", 0, 0, name), stored(source, 0, 0, name))
    sampler = after["textures"][new["pbrMetallicRoughness"]["baseColorTexture"]["index"]]["sampler"]
    assert after["samplers"][sampler]["wrapS"] == 33071
    # The one without got a UV set; its vertices are copies.
    primitive = after["meshes"][1]["primitives"][0]
    assert set(primitive["attributes"]) == {"POSITION", "_ID", "TEXCOORD_0"}
    assert corner_bytes(tmp_path / "out.glb", 1) == corner_bytes(source, 1)
    known = {m["code"] for m in validate(source)["issues"]["messages"]}
    assert {m["code"] for m in validate(tmp_path / "out.glb")["issues"]["messages"]} <= known | {
        "UNUSED_OBJECT"
    }


def corner_bytes(path: Path, mesh: int, name: str = "POSITION") -> bytes:
    """What each corner of each triangle has for the attribute."""
    values, indices = stored(path, mesh, 0, name), stored(path, mesh, 0, "indices")
    return np.ascontiguousarray(values[indices[:, 0].astype(int)]).tobytes()


@pytest.mark.parametrize("options", [SMALL, NEW], ids=["keep", "new"])
def test_the_voxels_material_arrives(tmp_path: Path, options: RetextureOptions) -> None:
    asset = plain_asset()
    write_glb(asset, tmp_path / "in.glb")
    ovoxel = OVoxel.from_asset(asset, 96)
    assert retexture(tmp_path / "in.glb", ovoxel, tmp_path / "out.glb", options) == ()
    again = load(tmp_path / "out.glb")
    error = color_error(asset, ovoxel, again)
    # Nothing is exact at the borders of the checked texture; elsewhere it is.
    assert np.median(error) < 2 / 255
    assert error.mean() < 0.05
    texcoord = again.materials[0].base_color_texture.texcoord  # type: ignore[union-attr]
    assert texcoord == (options.uvs == "new")
    assert corner_bytes(tmp_path / "out.glb", 0) == corner_bytes(tmp_path / "in.glb", 0)
    for name in ("NORMAL", "TEXCOORD_0"):
        assert corner_bytes(tmp_path / "out.glb", 0, name) == corner_bytes(tmp_path / "in.glb", 0, name)


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    asset = plain_asset("BLEND")
    write_glb(asset, tmp_path / "in.glb")
    ovoxel = OVoxel.from_asset(asset, 32)
    for name in "ab":
        retexture(tmp_path / "in.glb", ovoxel, tmp_path / f"{name}.glb", NEW)
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()


@pytest.mark.parametrize("wrap", [10497, 33648])
def test_uvs_beyond_the_unit_square(tmp_path: Path, wrap: int) -> None:
    """A quad whose UVs start at 1.5: the texture must be right on both sides of the tile's border."""
    gltf = Gltf()
    pixels = np.kron(
        np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]]), np.ones((16, 16, 1))
    )
    texture = gltf.texture(pixels.astype(np.uint8), wrapS=wrap, wrapT=wrap)
    gltf.add("materials", pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    uv = np.float32([[0, 1], [1, 1], [1, 0], [0, 0]]) * 0.8 + np.float32([1.5, -2.4])
    attributes = {
        "POSITION": gltf.accessor(QUAD, min=[0, 0, 0], max=[1, 1, 0]),
        "TEXCOORD_0": gltf.accessor(uv),
    }
    gltf.add(
        "meshes", primitives=[{"attributes": attributes, "indices": gltf.accessor(QUAD_FACES), "material": 0}]
    )
    source = gltf.show(0).save(tmp_path, "in.glb")
    asset = load(source)
    ovoxel = OVoxel.from_asset(asset, 64)
    notes = retexture(source, ovoxel, tmp_path / "out.glb", SMALL)
    # Mirrored tiles show the same texels twice; repeated ones, at this size, do not.
    assert any("overlap" in note for note in notes) == (wrap == 33648)
    if wrap == 10497:
        error = color_error(asset, ovoxel, load(tmp_path / "out.glb"))
        assert np.median(error) < 2 / 255
        assert (error.max(axis=1) < 0.2).mean() > 0.9


def test_other_formats(tmp_path: Path) -> None:
    asset = plain_asset()
    write_obj(asset, tmp_path / "in.obj")
    ovoxel = OVoxel.from_asset(load(tmp_path / "in.obj"), 48)
    for ending in ("glb", "obj", "usdz"):
        retexture(tmp_path / "in.obj", ovoxel, tmp_path / f"out.{ending}", SMALL)
    for ending in ("glb", "obj"):
        again = load(tmp_path / f"out.{ending}")
        np.testing.assert_array_equal(triangles(again).astype(np.float32), triangles(asset))
        assert np.median(color_error(asset, ovoxel, again)) < 8 / 255


def test_alpha_is_decided_for_each_material(tmp_path: Path) -> None:
    pane = plain_asset("BLEND").meshes[0]
    opaque, glass = plain_asset().materials[0], plain_asset("BLEND").materials[0]
    glass = replace(glass, base_color_texture=None, base_color_factor=(0.2, 0.3, 0.4, 0.4))
    moved = replace(pane, vertices=pane.vertices + np.array([0, 0, 1.5]), material=1)
    asset = Asset((pane, moved), (opaque, glass))
    write_glb(asset, tmp_path / "in.glb")
    ovoxel = OVoxel.from_asset(asset, 48)
    retexture(tmp_path / "in.glb", ovoxel, tmp_path / "out.glb", SMALL)
    assert [m.alpha_mode for m in load(tmp_path / "out.glb").materials] == ["OPAQUE", "BLEND"]
    forced = RetextureOptions(texture_size=64, alpha_mode="MASK", image_format="jpeg")
    retexture(tmp_path / "in.glb", ovoxel, tmp_path / "out.glb", forced)
    assert [m.alpha_mode for m in load(tmp_path / "out.glb").materials] == ["MASK", "MASK"]


def test_wrong_input_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    asset = plain_asset()
    source = tmp_path / "in.glb"
    write_glb(asset, source)
    ovoxel = OVoxel.from_asset(asset, 16)
    out = tmp_path / "out.glb"
    elsewhere = replace(ovoxel, placement=Placement((50.0, 0, 0), ovoxel.placement.scale))
    for wrong, options, message in (
        (elsewhere, SMALL, "lie elsewhere"),
        (replace(ovoxel, attributes=None), SMALL, "no material"),
        (ovoxel, RetextureOptions(texture_size=7), "not possible"),
        (ovoxel, RetextureOptions(uvs="old"), "'keep' or 'new'"),  # type: ignore[arg-type]
        (ovoxel, RetextureOptions(image_format="gif"), "no image format"),  # type: ignore[arg-type]
    ):
        with pytest.raises(AssetError, match=message):
            retexture(source, wrong, out, options)
    with pytest.raises(VoxlumeError, match="must end in"):
        retexture(source, ovoxel, tmp_path / "out.fbx", SMALL)
    with pytest.raises(AssetError, match="does not exist"):
        retexture(tmp_path / "no.glb", ovoxel, out, SMALL)
    with pytest.raises(VoxlumeError, match="stopped"):
        retexture(source, ovoxel, out, SMALL, progress=lambda done, total, what: False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.glb"]


# Skinned and animated; compressed and instanced; with variants.
REAL = ["fox_skinned.glb", "ingenuity_meshopt.glb", "shoe_variants.glb"]


def with_contents(path: Path) -> dict[str, Any]:
    """The JSON with a checksum of what each accessor holds in the place of its number."""
    file = GltfFile(path)
    accessors, document = Accessors(file), file.root.fields

    def resolve(holder: dict[str, Any], *keys: str) -> None:
        for key in keys:
            if key in holder:
                data = np.ascontiguousarray(accessors.read(holder[key]).data)
                holder[key] = [str(data.dtype), list(data.shape), zlib.crc32(data.tobytes())]

    for animation in document.get("animations", []):
        for sampler in animation["samplers"]:
            resolve(sampler, "input", "output")
    for skin in document.get("skins", []):
        resolve(skin, "inverseBindMatrices")
    for node in document.get("nodes", []):
        instances = node.get("extensions", {}).get("EXT_mesh_gpu_instancing", {}).get("attributes", {})
        resolve(instances, *instances)
    return document


@pytest.mark.skipif(not ASSETS_DIR.is_dir(), reason=SHARED_MISSING)
@pytest.mark.parametrize("uvs", ["keep", "new"])
@pytest.mark.parametrize("name", REAL)
def test_real_files(tmp_path: Path, name: str, uvs: str) -> None:
    source = ASSETS_DIR / name
    asset = load(source)
    ovoxel = OVoxel.from_asset(asset, 48)
    options = RetextureOptions(texture_size=64, uvs=uvs)  # type: ignore[arg-type]
    retexture(source, ovoxel, tmp_path / "out.glb", options)
    again = load(tmp_path / "out.glb")
    assert not again.warnings
    assert again.num_faces == asset.num_faces
    for ours, theirs in zip(asset.meshes, again.meshes, strict=True):
        np.testing.assert_array_equal(theirs.vertices[theirs.faces], ours.vertices[ours.faces])
        for a, b in zip(ours.uvs, theirs.uvs, strict=False):
            np.testing.assert_array_equal(b[theirs.faces], a[ours.faces])
    before, after = with_contents(source), with_contents(tmp_path / "out.glb")
    for key in ("nodes", "scenes", "animations", "skins", "cameras"):
        assert json.dumps(after.get(key)) == json.dumps(before.get(key)), key
    report = validate(tmp_path / "out.glb")
    assert report["issues"]["numErrors"] == 0


def test_textures_that_lost_their_use_are_gone(tmp_path: Path) -> None:
    """The old pictures leave, with their bytes; what another material or nothing used stays."""
    gltf = Gltf()
    rng = np.random.default_rng(0)
    pictures = [gltf.texture(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(4)]
    for texture in pictures[:3]:  # nothing uses the last one
        gltf.add("materials", pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    gltf.doc["materials"][0]["normalTexture"] = {"index": pictures[2]}
    gltf.quad(material=0)
    gltf.quad(material=1)
    source = gltf.show(0).save(tmp_path, "in.glb")
    asset = load(source)
    retexture(source, OVoxel.from_asset(asset, 16), tmp_path / "out.glb", SMALL)
    after = document_of(tmp_path / "out.glb")
    assert len(after["images"]) == len(after["textures"]) == 3 + 2
    again = GltfFile(tmp_path / "out.glb")
    accessors = Accessors(again)
    old = GltfFile(source)
    stored_before = [bytes(Accessors(old).view_bytes(r)) for r in old.root.records("images")]
    stored_after = [bytes(accessors.view_bytes(r)) for r in again.root.records("images")]
    assert stored_after[:3] == stored_before[1:]
    number = {texture: new for new, texture in enumerate(pictures[1:])}
    assert after["materials"][1] == {
        "pbrMetallicRoughness": {"baseColorTexture": {"index": number[pictures[1]]}}
    }
    assert after["materials"][0]["normalTexture"] == {"index": number[pictures[2]]}
    assert corner_bytes(tmp_path / "out.glb", 1) == corner_bytes(source, 1)
    assert {m["code"] for m in validate(tmp_path / "out.glb")["issues"]["messages"]} <= {
        m["code"] for m in validate(source)["issues"]["messages"]
    }


def test_a_material_of_parts_with_and_without_uvs_is_split(tmp_path: Path) -> None:
    gltf = Gltf()
    rng = np.random.default_rng(0)
    old, normals = (gltf.texture(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(2))
    gltf.add(
        "materials",
        pbrMetallicRoughness={"baseColorTexture": {"index": old}},
        normalTexture={"index": normals, "scale": 0.5},
    )
    gltf.quad(material=0)
    bare = {"POSITION": gltf.accessor(QUAD + np.float32([0, 0, 1]), min=[0, 0, 1], max=[1, 1, 1])}
    gltf.add("meshes", primitives=[{"attributes": bare, "indices": gltf.accessor(QUAD_FACES), "material": 0}])
    source = gltf.show(0, 1).save(tmp_path, "in.glb")
    retexture(source, OVoxel.from_asset(load(source), 16), tmp_path / "out.glb", SMALL)
    after = document_of(tmp_path / "out.glb")
    assert len(after["materials"]) == 2
    assert len(after["textures"]) == 1 + 2 * 2  # the normal map and two new pairs
    assert [m["normalTexture"] for m in after["materials"]] == [{"index": 0, "scale": 0.5}] * 2
    used = [m["primitives"][0]["material"] for m in after["meshes"]]
    assert sorted(used) == [0, 1]
