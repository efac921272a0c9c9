"""USDZ: the package's layout, and what OpenUSD finds in the layer, in both of its forms."""

from __future__ import annotations

import importlib.util
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mesh.full_asset import full_asset, plain_asset, square
from voxlume.asset import Asset, Material
from voxlume.mesh.write_usdz import write_usdz

FORMS = [".usda", ".usdc"]


def openusd() -> Any:
    return pytest.importorskip("pxr", reason="OpenUSD (usd-core) is not installed")


def write(asset: Asset, path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    if form == ".usdc":
        openusd()
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    notes = write_usdz(asset, path)
    monkeypatch.undo()
    with zipfile.ZipFile(path) as package:
        assert package.namelist()[0] == f"asset{form}"
    return notes


@pytest.mark.parametrize("form", FORMS)
def test_files_are_stored_and_aligned(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(full_asset(), tmp_path / "a.usdz", form, monkeypatch)
    data = (tmp_path / "a.usdz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.usdz") as package:
        assert package.testzip() is None
        assert len(package.infolist()) == 6  # five distinct images
        for entry in package.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
            assert (entry.header_offset + 30 + name + extra) % 64 == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("asset", [full_asset(), plain_asset("BLEND"), plain_asset("MASK"), plain_asset()])
def test_openusd_validates_it(
    tmp_path: Path, asset: Asset, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    openusd()
    from pxr import Sdf, Usd, UsdValidation

    write(asset, tmp_path / "a.usdz", form, monkeypatch)
    stage = Usd.Stage.Open(str(tmp_path / "a.usdz"))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [e.GetErrorAsString() for e in errors] == []
    files = [a.Get() for prim in stage.Traverse() for a in prim.GetAttributes()]
    files = [f for f in files if isinstance(f, Sdf.AssetPath)]
    assert files
    assert all(f.resolvedPath for f in files)


@pytest.mark.parametrize("form", FORMS)
def test_geometry_is_exact(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    openusd()
    from pxr import Usd, UsdGeom, UsdShade

    asset = plain_asset("MASK", double_sided=True, alpha_cutoff=0.25)
    assert write(asset, tmp_path / "a.usdz", form, monkeypatch) == ()
    stage = Usd.Stage.Open(str(tmp_path / "a.usdz"))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    (prim,) = (p for p in stage.Traverse() if p.IsA(UsdGeom.Mesh))
    found, ours = UsdGeom.Mesh(prim), asset.meshes[0]
    np.testing.assert_array_equal(found.GetPointsAttr().Get(), ours.vertices)
    np.testing.assert_array_equal(found.GetNormalsAttr().Get(), ours.normals)
    np.testing.assert_array_equal(np.reshape(found.GetFaceVertexIndicesAttr().Get(), (-1, 3)), ours.faces)
    assert set(found.GetFaceVertexCountsAttr().Get()) == {3}
    uv = np.asarray(UsdGeom.PrimvarsAPI(prim).GetPrimvar("st").Get())
    np.testing.assert_allclose(1 - uv[:, 1], ours.uvs[0][:, 1], atol=1e-7)
    assert found.GetDoubleSidedAttr().Get()
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    surface = material.ComputeSurfaceSource()[0]
    assert surface.GetInput("opacityThreshold").Get() == pytest.approx(0.25)
    sources = {i.GetBaseName(): i.GetConnectedSources()[0] for i in surface.GetInputs()}
    outputs = {name: s[0].sourceName for name, s in sources.items() if s}
    assert outputs == {"diffuseColor": "rgb", "opacity": "a", "roughness": "g", "metallic": "b"}


def test_far_coordinates_keep_their_detail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openusd()
    from pxr import Usd, UsdGeom

    mesh = plain_asset().meshes[0]
    far = np.array([4.2e6, -6.4e6, 1e5])
    asset = Asset((replace(mesh, vertices=mesh.vertices + far, material=-1),))
    write(asset, tmp_path / "a.usdz", ".usda", monkeypatch)
    stage = Usd.Stage.Open(str(tmp_path / "a.usdz"))
    (prim,) = (p for p in stage.Traverse() if p.IsA(UsdGeom.Mesh))
    matrix = UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(Usd.TimeCode.Default())
    points = np.asarray(UsdGeom.Mesh(prim).GetPointsAttr().Get()) + np.asarray(matrix)[3, :3]
    np.testing.assert_allclose(points - far, mesh.vertices, atol=3e-6)


def test_vertex_colors_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openusd()
    from pxr import Usd, UsdGeom

    colors = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    meshes = (square(colors=colors, material=0, name="1 ü"), square(material=1, name="1 ü"))
    materials = (
        Material("a", base_color_factor=(0.5, 1, 1, 0.5), alpha_mode="BLEND"),
        Material("a", base_color_texture=plain_asset().materials[0].base_color_texture),
    )
    assert write(Asset(meshes, materials), tmp_path / "a.usdz", ".usda", monkeypatch) == ()
    stage = Usd.Stage.Open(str(tmp_path / "a.usdz"))
    prims = [p for p in stage.Traverse() if p.IsA(UsdGeom.Mesh)]
    assert len({p.GetName() for p in prims}) == 2
    found = UsdGeom.PrimvarsAPI(prims[0]).GetPrimvar("displayColor").Get()
    np.testing.assert_allclose(found, colors[:, :3] * [0.5, 1, 1], atol=1e-6)
    opacity = UsdGeom.PrimvarsAPI(prims[0]).GetPrimvar("displayOpacity").Get()
    np.testing.assert_allclose(opacity, colors[:, 3] * 0.5, atol=1e-6)


def test_losses_are_told(tmp_path: Path) -> None:
    notes = " / ".join(write_usdz(full_asset(), tmp_path / "a.usdz"))
    assert "vertex colours beside a texture" in notes
    assert "of vertices are left out" in notes
