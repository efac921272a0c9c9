"""Every file of the asset collection: real and derived ones load as measured, hostile ones do as expected."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.paths import ASSETS_DIR, ROOT, SHARED_MISSING
from voxlume.asset import Asset, Texture
from voxlume.errors import AssetError
from voxlume.mesh.read import load

MANIFEST = ASSETS_DIR / "MANIFEST.json"
ENTRIES: list[dict[str, Any]] = json.loads(MANIFEST.read_text())["assets"] if MANIFEST.is_file() else []
VALID = [e for e in ENTRIES if e["kind"] != "hostile" and Path(e["file"]).suffix in (".glb", ".gltf")]
HOSTILE = [e for e in ENTRIES if e["kind"] == "hostile" and Path(e["file"]).suffix in (".glb", ".gltf")]
MEMORY_LIMIT = 3 * 2**29  # 1.5 GiB
SECONDS_LIMIT = 10

pytestmark = pytest.mark.skipif(not ENTRIES, reason=SHARED_MISSING)


def entries(found: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("entry", found, ids=[e["file"] for e in found])


@cache
def loaded(file: str) -> Asset:
    return load(ASSETS_DIR / file)


def surface_area(asset: Asset) -> float:
    total = 0.0
    for mesh in asset.meshes:
        corners = mesh.vertices[mesh.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        total += float(np.linalg.norm(cross, axis=1).sum() / 2)
    return total


@entries(VALID)
def test_shape_as_measured(entry: dict[str, Any]) -> None:
    asset = loaded(entry["file"])
    assert asset.num_faces >= entry["faces"]
    if not entry.get("gpu_instanced"):  # the manifest does not expand instances
        assert asset.num_faces == entry["faces"]
        extent = max(np.subtract(entry["bbox_max"], entry["bbox_min"]))
        np.testing.assert_allclose(
            asset.bounds(), [entry["bbox_min"], entry["bbox_max"]], rtol=0, atol=1e-5 * extent
        )
        assert surface_area(asset) == pytest.approx(entry["surface_area"], rel=1e-5)
    has_uv = [bool(mesh.uvs) for mesh in asset.meshes]
    if not any("TEXCOORD" in line for line in asset.warnings):  # none were made up for a texture
        some = any(has_uv) and not all(has_uv)
        assert {"all": all(has_uv), "none": not any(has_uv), "some": some}[entry["uv"]]
    assert any(mesh.colors is not None for mesh in asset.meshes) == (entry["vertex_colors"] != "none")
    modes = {asset.materials[m.material].alpha_mode for m in asset.meshes if m.material >= 0}
    assert modes <= set(entry["alpha_modes"])  # the manifest counts unused materials too
    masks = {m.alpha_cutoff for m in asset.materials if m.alpha_mode == "MASK"}
    assert masks <= set(entry.get("mask_cutoffs") or masks)


@entries(VALID)
def test_arrays_are_sound(entry: dict[str, Any]) -> None:
    asset = loaded(entry["file"])
    for mesh in asset.meshes:
        assert mesh.vertices.dtype == np.float64
        assert mesh.faces.dtype == np.int32
        assert np.isfinite(mesh.vertices).all()
        assert mesh.faces.min() >= 0
        assert mesh.faces.max() < len(mesh.vertices)
        for array in (*mesh.uvs, *mesh.attributes.values()):
            assert array.dtype == np.float32
            assert len(array) == len(mesh.vertices)
        if mesh.colors is not None:
            assert mesh.colors.shape == (len(mesh.vertices), 4)
        if mesh.normals is not None:
            assert mesh.normals.dtype == np.float32
            np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)
    for material in asset.materials:
        for texture in vars(material).values():
            if isinstance(texture, Texture):
                assert texture.image.dtype == np.uint8
                assert texture.image.ndim == 3
                assert texture.image.shape[2] in (1, 2, 3, 4)


@entries([e for e in VALID if e.get("trimesh_area_ratio") == 1.0 and not e.get("skinned")])
def test_agrees_with_trimesh(entry: dict[str, Any]) -> None:
    """Where the manifest says that trimesh reads the file right, corner by corner."""
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.load_scene(ASSETS_DIR / entry["file"])
    theirs = np.concatenate([m.triangles for m in scene.dump() if isinstance(m, trimesh.Trimesh)])
    asset = loaded(entry["file"])
    measured = np.array([entry["bbox_min"], entry["bbox_max"]])
    if not np.allclose(scene.bounds, measured, rtol=0, atol=1e-4 * np.ptp(measured, axis=0).max()):
        pytest.skip("trimesh places it elsewhere than the manifest says")
    ours = np.concatenate([mesh.vertices[mesh.faces] for mesh in asset.meshes])
    assert len(ours) == len(theirs)
    low, extent = asset.bounds()[0], np.ptp(asset.bounds(), axis=0).max()
    # The sum over corners of smooth functions of the position tells sets of triangles apart without sorting.
    waves = np.array([[3.1, 1.7, -2.3], [-5.9, 7.3, 4.1], [11.3, -2.9, 6.1]]).T
    mine, other = (np.sin((corners - low) / extent @ waves).sum(axis=(0, 1)) for corners in (ours, theirs))
    np.testing.assert_allclose(mine, other, atol=2e-6 * len(ours))


@entries([e for e in VALID if "KHR_materials_pbrSpecularGlossiness" in e["extensions_used"]])
def test_specular_glossiness_matches_its_metallic_roughness_twin(entry: dict[str, Any]) -> None:
    """Where a file shows one object under both models, as the collection's bottle does."""
    materials = {m.name.lower(): m for m in loaded(entry["file"]).materials}
    pairs = [
        (materials.get(n.replace("specgloss", "mr")), m) for n, m in materials.items() if "specgloss" in n
    ]
    pairs = [(twin, m) for twin, m in pairs if twin is not None and twin is not m]
    if not pairs:
        pytest.skip("no pair of materials named ..SpecGloss and ..MR")
    for twin, converted in pairs:
        assert twin is not None
        for name, used in (("base_color_texture", slice(0, 3)), ("metallic_roughness_texture", slice(1, 3))):
            first, second = (getattr(m, name).image[..., used].astype(int) for m in (converted, twin))
            difference = np.abs(first - second)
            assert difference.mean() < 2
            assert np.median(difference) <= 1


@entries([e for e in VALID if "KHR_texture_basisu" in e["extensions_used"]])
def test_ktx2_matches_the_plain_images(entry: dict[str, Any], tmp_path: Path) -> None:
    """With the plain images made unreadable, the KTX2 ones are used and look alike."""
    source = ASSETS_DIR / entry["file"]
    if entry["file"] in [e["file"] for e in VALID if "KHR_texture_basisu" in e["extensions_required"]]:
        pytest.skip("no plain images to compare with")
    data = source.read_bytes().replace(b"\x89PNG\r\n", b"\x89XXX\r\n").replace(b"\xff\xd8\xff", b"\0\0\0")
    copy = tmp_path / source.name
    copy.write_bytes(data)
    plain, compressed = loaded(entry["file"]), load(copy)
    compared = 0
    for a, b in zip(plain.materials, compressed.materials, strict=True):
        for name in ("base_color_texture", "metallic_roughness_texture", "normal_texture"):
            first, second = getattr(a, name), getattr(b, name)
            if first is not None:
                assert second is not None
                difference = np.abs(first.image[..., :3].astype(int) - second.image[..., :3])
                assert 0 < difference.mean() < 6
                compared += 1
    assert compared > 0


@entries([e for e in VALID if "KHR_materials_transmission" in e["extensions_used"]])
def test_transmission_is_read(entry: dict[str, Any]) -> None:
    assert max(m.transmission_factor for m in loaded(entry["file"]).materials) > 0


# -- hostile files -------------------------------------------------------------------------------------------

_PROBE = """
import json, resource, sys, time
from voxlume.errors import VoxlumeError
from voxlume.mesh.read import load
import numpy as np
import PIL.Image
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
for path in sys.argv[2:]:
    start, result = time.perf_counter(), {}
    try:
        asset = load(path)
        result["warnings"] = asset.warnings
        result["faces"] = asset.num_faces
        result["finite"] = all(bool(np.isfinite(m.vertices).all()) for m in asset.meshes)
        asset.placement()
    except VoxlumeError as error:
        result["error"] = str(error)
    result["seconds"] = time.perf_counter() - start
    # Not ru_maxrss, which begins with that of the process that started this one.
    (peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    result["peak"] = int(peak.split()[1]) * 1024
    print(json.dumps(result), flush=True)
"""


@cache
def probed() -> dict[str, dict[str, Any]]:
    """What happens to each hostile file in a process whose address space is limited."""
    paths = [str(ASSETS_DIR / e["file"]) for e in HOSTILE]
    command = [sys.executable, "-c", _PROBE, str(MEMORY_LIMIT), *paths]
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment, cwd=ROOT
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == len(paths), run.stderr[-2000:]
    return {e["file"]: line for e, line in zip(HOSTILE, lines, strict=True)}


@entries(HOSTILE)
def test_hostile_files_do_as_expected(entry: dict[str, Any]) -> None:
    expected, result = entry["expect"], probed()[entry["file"]]
    assert result["seconds"] < SECONDS_LIMIT
    assert result["peak"] < MEMORY_LIMIT
    if "error" in result:
        assert not expected.startswith("load (valid")
        assert "\n" not in result["error"]
        assert len(result["error"]) < 300
        if "naming the extension" in expected:
            assert any(name in result["error"] for name in entry_extensions(entry["file"]))
    else:
        assert not expected.startswith(("refuse:", "clear", "error naming"))
        assert "must fail" not in expected or "or load" in expected
        assert result["finite"]
        assert result["faces"] > 0
        if any(word in expected for word in ("warning", "say so")):
            assert result["warnings"]


def entry_extensions(file: str) -> list[str]:
    data = (ASSETS_DIR / file).read_bytes()
    start = data.index(b"{")
    text = data[start:].decode("utf-8", "ignore")
    return json.JSONDecoder().raw_decode(text)[0]["extensionsRequired"]


@entries(sorted((e for e in VALID if e["file"].endswith(".glb")), key=lambda e: e["bytes"])[:2])
def test_truncations(entry: dict[str, Any], tmp_path: Path) -> None:
    """A GLB cut at a hundred places is refused with one line every time."""
    data = (ASSETS_DIR / entry["file"]).read_bytes()
    path = tmp_path / "cut.glb"
    for length in np.unique(np.linspace(0, len(data) - 1, 100).astype(int)):
        path.write_bytes(data[:length])
        with pytest.raises(AssetError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
