"""The whole way from voxels to an asset: what comes out, what is refused, the same again and again."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch

from examples.lantern import lantern
from tests.mesh.uv_checks import chart_labels, overlapping_samples, own_texels_share
from tests.paths import ASSETS_DIR, manifest_assets
from tests.validator import assert_valid
from voxlume.asset import AlphaMode, Asset
from voxlume.errors import AssetError, Cancelled, VoxlumeError
from voxlume.evaluation.compare import compare
from voxlume.mesh import radix, textured, write_images
from voxlume.mesh.clean import CleanOptions
from voxlume.mesh.export import ExportOptions, export
from voxlume.mesh.from_voxels import surface_of
from voxlume.mesh.read import load
from voxlume.mesh.source_surface import SourceSurface
from voxlume.mesh.textured import TexturedOptions, source_alpha_mode, textured_asset
from voxlume.mesh.write import write_asset
from voxlume.mesh.write_images import ImageFile, TextureImage
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.voxelize import voxelize_asset

SMALL = TexturedOptions(faces=3000, texture_size=128)


@pytest.fixture(scope="module")
def voxels() -> OVoxel:
    return voxelize_asset(lantern(), 48)


def _one_line(error: pytest.ExceptionInfo[VoxlumeError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_asset_is_like_its_source(voxels: OVoxel) -> None:
    asset = textured_asset(voxels, TexturedOptions(faces=8000, texture_size=512), name="lantern")
    (mesh,), (material,) = asset.meshes, asset.materials
    assert 7900 <= asset.num_faces <= 8000
    assert material.alpha_mode == "BLEND"  # the panes are glass
    assert mesh.normals is not None
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)
    label = chart_labels(mesh.uvs[0], mesh.faces)
    assert overlapping_samples(mesh.uvs[0], mesh.faces, 1024)[0] == 0
    assert own_texels_share(mesh.uvs[0], mesh.faces, label, 512, samples=20_000) == 1
    found = compare(lantern(), asset, resolution=48, samples=20_000, detail="baked")
    raw = compare(lantern(), surface_of(voxels, exact_alpha=True), resolution=48, samples=20_000)
    assert max(found.a_to_b.p99, found.b_to_a.p99) <= 1
    for channel in ("base color", "metallic", "roughness", "alpha"):
        assert found.material[channel].mean <= raw.material[channel].mean + 2, channel


@pytest.mark.parametrize("maps", [False, True], ids=["plain", "with normal and occlusion maps"])
def test_file_is_valid_and_reads_back(voxels: OVoxel, tmp_path: Path, maps: bool) -> None:
    options = ExportOptions(replace(SMALL, normal_map=maps, occlusion=maps))
    written = export(voxels, tmp_path / "x.glb", options)
    back = load(tmp_path / "x.glb")
    assert back.num_faces == written.faces
    assert (back.materials[0].normal_texture is not None) is maps
    assert (back.materials[0].occlusion_texture is not None) is maps
    assert_valid(tmp_path / "x.glb")


@pytest.mark.parametrize("ending", [".obj", ".ply", ".stl", ".usdz", ".vxz", ".npz"])
def test_every_ending(voxels: OVoxel, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    export(voxels, path, ExportOptions(SMALL))
    assert path.stat().st_size > 1000
    if ending in (".obj", ".ply", ".stl"):
        assert 2900 <= load(path).num_faces <= 3000


def test_choices_are_kept(voxels: OVoxel) -> None:
    forced = textured_asset(voxels, replace(SMALL, alpha_mode="OPAQUE", double_sided=False)).materials[0]
    assert forced.alpha_mode == "OPAQUE"
    assert not forced.double_sided
    assert forced.base_color_texture is not None
    assert forced.base_color_texture.image.shape == (128, 128, 3)
    everything = textured_asset(voxels, replace(SMALL, faces=None, cleaning=None, textures=False))
    assert everything.num_faces == len(voxels.to_mesh().faces)
    assert everything.meshes[0].uvs == ()
    bare = textured_asset(replace(voxels, attributes=None), SMALL)
    assert bare.meshes[0].uvs == ()
    assert bare.materials[0].base_color_texture is None


def test_remeshed_is_closed(voxels: OVoxel) -> None:
    asset = textured_asset(voxels, replace(SMALL, remesh=True))
    mesh = asset.meshes[0]
    places, same = np.unique(mesh.vertices, axis=0, return_inverse=True)
    faces = same.reshape(-1)[mesh.faces]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward = np.unique(edges[:, 0] * np.int64(len(places)) + edges[:, 1])
    backward = np.unique(edges[:, 1] * np.int64(len(places)) + edges[:, 0])
    np.testing.assert_array_equal(forward, backward)
    assert not asset.materials[0].double_sided


def _random_options(random: np.random.Generator) -> ExportOptions:
    return ExportOptions(
        TexturedOptions(
            faces=int(random.choice([4, 50, 900, 4000])) if random.random() < 0.9 else None,
            texture_size=int(random.choice([64, 100, 256])),
            cleaning=None if random.random() < 0.2 else CleanOptions(remove_hidden=random.random() < 0.2),
            normal_map=bool(random.random() < 0.3),
            alpha_mode=[None, "OPAQUE", "MASK", "BLEND"][random.integers(4)],
            double_sided=[None, True, False][random.integers(3)],
        ),
        vertex_colors=bool(random.random() < 0.1),
        image_format=["webp", "png", "jpeg"][random.integers(3)],  # type: ignore[arg-type]
    )


def test_many_exports_in_one_process(tmp_path: Path) -> None:
    """Random objects and options: no crash, no growth of memory, the same bytes for the same input."""
    pytest.importorskip("resource")
    random = np.random.default_rng(0)
    objects = [voxelize_asset(lantern(), resolution) for resolution in (12, 20, 31)]
    grown = 0
    for number in range(36):
        if number == 12:
            grown = _peak_memory()
        voxels, options = objects[number % 3], _random_options(random)
        try:
            export(voxels, tmp_path / "a.glb", options)
        except AssetError as error:
            if "cannot be reduced below" not in str(error):
                raise
            continue
        if number % 4 == 0:
            first = (tmp_path / "a.glb").read_bytes()
            export(voxels, tmp_path / "a.glb", options)
            assert (tmp_path / "a.glb").read_bytes() == first
    assert _peak_memory() - grown < 60e6


def _peak_memory() -> float:
    """Bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _few(count: int) -> OVoxel:
    coords = np.arange(3 * count, dtype=np.int32).reshape(-1, 3) % 8
    return OVoxel(
        8,
        coords,
        np.full((count, 3), 0.5, np.float32),
        np.ones((count, 3), bool),
        np.ones((count, 6), np.float32),
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_voxels(count: int, tmp_path: Path) -> None:
    with pytest.raises(AssetError) as error:
        export(_few(count), tmp_path / "x.glb")
    assert "no surface" in _one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite(voxels: OVoxel, tmp_path: Path) -> None:
    assert voxels.attributes is not None
    attributes = voxels.attributes.copy()
    attributes[5, 1] = np.nan
    with pytest.raises(AssetError) as error:
        export(replace(voxels, attributes=attributes), tmp_path / "x.glb")
    assert "not finite" in _one_line(error)


@pytest.mark.parametrize("faces", [-1, 0, 3])
def test_impossible_budgets(voxels: OVoxel, tmp_path: Path, faces: int) -> None:
    with pytest.raises(AssetError) as error:
        export(voxels, tmp_path / "x.glb", ExportOptions(replace(SMALL, faces=faces)))
    assert f"a budget of {faces} faces is too small" in _one_line(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, -5, 63, 8193])
def test_impossible_texture_sizes(voxels: OVoxel, tmp_path: Path, size: int) -> None:
    with pytest.raises(AssetError) as error:
        export(voxels, tmp_path / "x.glb", ExportOptions(replace(SMALL, texture_size=size)))
    assert "is not possible" in _one_line(error)


@pytest.mark.parametrize("ending", [".glb", ".obj", ".usdz"])
def test_full_disk(voxels: OVoxel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"what was there before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(VoxlumeError) as error:
        export(voxels, path, ExportOptions(SMALL))
    assert "No space left" in _one_line(error)
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_cancelling_anywhere(voxels: OVoxel, tmp_path: Path) -> None:
    """Stopped at each of the moments when it asks, nothing is written."""
    stages: list[str] = []
    export(
        voxels, tmp_path / "x.glb", ExportOptions(SMALL), progress=lambda d, t, what: not stages.append(what)
    )
    (tmp_path / "x.glb").unlink()
    assert {"cleaning", "simplifying", "unwrapping", "baking"} <= set(stages)
    for stop in sorted({stages.index(what) for what in stages} | {len(stages) - 1}):
        left = iter(range(stop))
        with pytest.raises(Cancelled):
            export(
                voxels,
                tmp_path / "x.glb",
                ExportOptions(SMALL),
                progress=lambda d, t, what, left=left: next(left, None) is not None,  # type: ignore[misc]
            )
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("entry", manifest_assets("real"))
def test_alpha_mode_of_real_assets(entry: dict | None) -> None:
    """Glass blends, leaves are masked, everything else is opaque."""
    assert entry is not None
    if entry["faces"] > 100_000:
        pytest.skip("this asset takes too long for a test; `python -m benchmarks.export_quality` measures it")
    source = SourceSurface(voxelize_asset(load(ASSETS_DIR / entry["file"]), 128))
    glass = ("alpha_blend", "FlightHelmet", "neon", "sunglasses")
    expected = "BLEND" if any(name in entry["file"] for name in glass) else "OPAQUE"
    if "leafcards" in entry["file"]:
        expected = "MASK"
    assert source_alpha_mode(source) == expected


@pytest.mark.parametrize("alpha_mode", ["OPAQUE", "BLEND"])
def test_textures_are_encoded_once_and_as_if_at_the_end(
    voxels: OVoxel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alpha_mode: AlphaMode
) -> None:
    encode, encoded = write_images._encode, []

    def counted(image: TextureImage, *how: Any) -> ImageFile:
        encoded.append(image)
        return encode(image, *how)

    monkeypatch.setattr(write_images, "_encode", counted)
    options = ExportOptions(replace(SMALL, normal_map=True, occlusion=True, alpha_mode=alpha_mode))
    asset = export(voxels, tmp_path / "x.glb", options).asset
    assert asset is not None
    assert len(encoded) == 4
    write_asset(asset, tmp_path / "again.glb")
    assert len(encoded) == 8
    assert (tmp_path / "x.glb").read_bytes() == (tmp_path / "again.glb").read_bytes()


def test_what_a_device_has_no_memory_for_is_done_on_the_cpu(
    voxels: OVoxel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, devices = textured._made_on, []

    def full(device: str, *arguments: Any) -> Asset:
        devices.append(device)
        if device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made(device, *arguments)

    monkeypatch.setattr(textured, "_made_on", full)
    monkeypatch.setattr(textured, "chosen_device", lambda _: "cuda")
    with pytest.warns(UserWarning, match="cuda has too little free memory"):
        asset = textured_asset(voxels, SMALL)
    assert devices == ["cuda", "cpu"]
    assert asset.num_faces > 0


def test_threads_do_not_matter(voxels: OVoxel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        export(voxels, tmp_path / "x.glb", ExportOptions(replace(SMALL, device="cpu")))
        files.append((tmp_path / "x.glb").read_bytes())
        # What machines of many cores sort with.
        monkeypatch.setattr(radix, "_PART", 2)
        monkeypatch.setattr(radix, "_SMALL", 2)
    assert files[0] == files[1]
