"""Procedural objects: reproducible anywhere, sound, varied; the shapes they are built from, exactly."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.paths import ROOT
from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.data.procedural import FAMILIES, HELD_OUT_FAMILIES, dress, family_of, implicit, make_object, warp
from voxlume.data.procedural.__main__ import main
from voxlume.data.procedural.shapes import (
    Shape,
    blocks,
    box,
    circle,
    cylinder,
    ellipsoid,
    plate,
    ring_plate,
    slab,
    torus,
    tube,
    vessel,
)
from voxlume.errors import VoxlumeError
from voxlume.ovoxel.grid import OVoxel

MOST_FACES = 60_000


def arrays(asset: Asset) -> Iterator[bytes]:
    """Everything an asset holds, as bytes."""
    for mesh in asset.meshes:
        yield from (x.tobytes() for x in (mesh.vertices, mesh.faces, *mesh.uvs))
        yield str(mesh.material).encode()
    for material in asset.materials:
        plain = (material.name, material.base_color_factor, material.metallic_factor)
        yield repr((*plain, material.roughness_factor, material.alpha_mode, material.double_sided)).encode()
        for texture in (material.base_color_texture, material.metallic_roughness_texture):
            if texture is not None:
                yield texture.image.tobytes() + texture.transform.tobytes()


def digest(assets: list[Asset]) -> str:
    """One number for all bytes of some assets."""
    state = hashlib.sha256()
    for asset in assets:
        for part in arrays(asset):
            state.update(part)
    return state.hexdigest()


def sample_digest() -> str:
    """Of one object of every family; run in other processes too."""
    return digest([make_object(7, family) for family in FAMILIES])


def test_families_cover_the_brief() -> None:
    assert len(set(FAMILIES) - set(HELD_OUT_FAMILIES)) >= 16
    assert len(HELD_OUT_FAMILIES) == 2
    assert set(HELD_OUT_FAMILIES) <= set(FAMILIES)


def test_seed_draws_the_family() -> None:
    drawn = [family_of(seed) for seed in range(400)]
    assert set(drawn) == set(FAMILIES) - set(HELD_OUT_FAMILIES)
    counts = np.unique(drawn, return_counts=True)[1]
    assert counts.min() > 0.3 * counts.mean()
    asset = make_object(11)
    assert asset.name == f"{family_of(11)}-11"
    assert digest([asset]) == digest([make_object(11, family_of(11))])


def test_same_bytes_after_other_objects_and_on_a_plainer_machine() -> None:
    """Another process, whose numpy may use no vector instructions, makes the same bytes."""
    here = sample_digest()
    assert here == sample_digest()
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    dispatched = [f for f in np._core._multiarray_umath.__cpu_dispatch__ if features[f]]  # type: ignore[attr-defined]
    plain = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(dispatched), "OPENBLAS_CORETYPE": "Prescott"}
    code = "from tests.data_room.test_procedural import sample_digest; print(sample_digest())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=plain, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == here


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_sound_and_varied(family: str) -> None:
    assets = [make_object(seed, family) for seed in range(10)]
    assert len({digest([a]) for a in assets}) == len(assets)
    shapes, looks = [], set()
    for asset in assets:
        assert 100 <= asset.num_faces <= MOST_FACES
        for mesh in asset.meshes:
            assert np.isfinite(mesh.vertices).all()
            assert np.isfinite(mesh.uvs[0]).all()
            assert mesh.uvs[0].shape == (len(mesh.vertices), 2)
            a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
            assert (np.cross(b - a, c - a) != 0).any(axis=1).all(), "a face without area"
        for material in asset.materials:
            for texture in (material.base_color_texture, material.metallic_roughness_texture):
                if texture is not None:
                    assert 64 <= min(texture.image.shape[:2]) <= max(texture.image.shape[:2]) <= 256
            alpha = material.base_color_factor[3]
            assert (material.alpha_mode == "BLEND") == (alpha < 1 or material.name.startswith("glass"))
        size = np.diff(asset.bounds(), axis=0)[0]
        assert 0.1 < size.max() < 6
        shapes.append(np.sort(size / size.max()))
        looks |= {m.name.rsplit(" ", 1)[0] for m in asset.materials}
    assert np.ptp(shapes, axis=0).max() > 0.08, "all have the same proportions"
    assert len(looks) >= 4, "all are made of the same things"


@pytest.mark.parametrize("family", FAMILIES)
def test_family_becomes_voxels(family: str) -> None:
    voxels = OVoxel.from_asset(make_object(3, family), 128)
    assert 500 < len(voxels) < 128**3 / 8
    assert voxels.attributes is not None
    assert np.isfinite(voxels.attributes).all()
    assert np.isfinite(voxels.dual_vertices).all()


def test_materials_cover_the_representation() -> None:
    """Over many objects: metal and not, rough and smooth, glass, cut-outs, and textures that vary."""
    materials = [m for seed in range(80) for m in make_object(seed).materials]
    modes = {m.alpha_mode for m in materials}
    assert modes == {"OPAQUE", "MASK", "BLEND"}
    alphas = [_mean_alpha(m) for m in materials if m.name.startswith("glass")]
    assert 0.14 < min(alphas) < max(alphas) < 0.61
    metallic, roughness = zip(*(_mean_metal_rough(m) for m in materials), strict=True)
    assert 0.1 < np.mean(np.array(metallic) > 0.9) < 0.4
    assert np.any((np.array(metallic) > 0.2) & (np.array(metallic) < 0.8)), "no rust, no chipped paint"
    assert np.quantile(roughness, 0.1) < 0.3
    assert np.quantile(roughness, 0.9) > 0.75
    textured = [m for m in materials if m.base_color_texture is not None]
    assert len(textured) > 0.7 * len(materials)
    assert np.mean([np.ptp(m.base_color_texture.image) > 5 for m in textured]) > 0.95  # type: ignore[union-attr]


def _mean_alpha(material: Material) -> float:
    texture = material.base_color_texture
    has_alpha = texture is not None and texture.image.shape[2] == 4
    return material.base_color_factor[3] * (float(texture.image[..., 3].mean()) / 255 if has_alpha else 1.0)  # type: ignore[union-attr]


def _mean_metal_rough(material: Material) -> tuple[float, float]:
    texture = material.metallic_roughness_texture
    if texture is None:
        return material.metallic_factor, material.roughness_factor
    _, rough, metal = texture.image.reshape(-1, 3).mean(0) / 255
    return float(metal) * material.metallic_factor, float(rough) * material.roughness_factor


def test_wrong_input_is_one_clear_line() -> None:
    with pytest.raises(VoxlumeError, match="no family of objects is called 'spoon'; there are: chair"):
        make_object(0, "spoon")
    with pytest.raises(VoxlumeError, match="seed -1 is not possible"):
        make_object(-1)


def test_sheet_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["x", str(out), "--count", "2", "--size", "48", "--family", "mug"])
    assert main() == 0
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (48, 96, 3)
    assert all(np.ptp(sheet[:, i * 48 + 8 : i * 48 + 40]) > 60 for i in range(2))
    monkeypatch.setattr(sys, "argv", ["x", str(out), "--count", "0"])
    assert main() == 1
    assert "--count must be at least 1" in capsys.readouterr().err


# --- shapes -------------------------------------------------------------------------------------------


def volume(shape: Shape) -> float:
    """By the divergence theorem: positive where faces are counter-clockwise seen from outside."""
    a, b, c = (shape.vertices[shape.faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def open_edges(shape: Shape) -> int:
    """Edges not used once in each direction, vertices at one place being one."""
    _, same = np.unique(np.round(shape.vertices, 9), axis=0, return_inverse=True)
    faces = same.reshape(-1)[shape.faces]
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward, count = np.unique(pairs, axis=0, return_counts=True)
    return int((count != 1).sum()) + len(set(map(tuple, forward)) ^ {(b, a) for a, b in forward.tolist()})


N = 96
POLYGON = N / (2 * math.pi) * math.sin(2 * math.pi / N)  # share of its circle that an N-gon covers
STAR = np.where(np.arange(10) % 2, 0.5, 1.0)[:, None] * circle(10)
FRAME = np.ones((3, 3, 1), bool)
FRAME[1, 1] = False
CLOSED = {
    "box": (box((1, 2, 3)), 6.0),
    # Twelve edge prisms and what the cuts take off the eight corner cubes.
    "chamfered box": (box((1, 1, 1), bevel=0.1), 1 - 12 * 0.005 * 0.8 - 8 * 0.001 * 5 / 6),
    "cylinder": (cylinder(0.5, 2.0, N), 2 * math.pi / 4 * POLYGON),
    "cone": (cylinder(1.0, 3.0, N, top=0.0), math.pi * POLYGON),
    "ellipsoid": (ellipsoid((1, 2, 3), segments=N, rows=80), math.pi),
    "torus": (torus(1.0, 0.25, N, N), 2 * math.pi**2 * 0.0625),
    "tube": (tube([(0, 0, 0), (1, 2, 2)], 0.1, N), 3 * math.pi * 0.01 * POLYGON),
    "plate": (plate(STAR, 0.5), 0.5 * 5 * 0.5 * math.sin(math.pi / 5)),
    "ring plate": (ring_plate(circle(N, 1.0), circle(N, 0.5), 2.0), 1.5 * math.pi * POLYGON),
    "blocks": (blocks([0, 1, 2, 3], [0, 1, 2, 3], [0, 2], FRAME), 16.0),
    "slab": (slab(np.stack([*np.meshgrid([0.0, 1, 2], [3.0, 1, 0, -1]), np.zeros((4, 3))], -1), 0.5), 4.0),
    "vessel": (
        vessel(np.array([[0.5, 0.0], [0.5, 1.0]]), 0.1, N),
        # The wall, the floor of 1.6 walls, and the rim, a ridge of 0.4 walls.
        math.pi * POLYGON * (0.25 * 1.0 - 0.16 * (1 - 0.16) + 2 * 0.45 * 0.5 * 0.1 * 0.04),
    ),
    "implicit ball": (implicit.surface(implicit.ball((0, 0, 0), 1.6), (-1,) * 3, (1,) * 3, 40), 2.14466),
    "implicit cut": (
        implicit.surface(
            implicit.cut(
                implicit.block((0, 0, 0), (1.5, 1.5, 1.5)), [implicit.block((0.0, 0, 0), (0.63, 0.63, 4))]
            ),
            (-1,) * 3,
            (1,) * 3,
            40,
        ),
        1.5**3 - 1.5 * 0.63**2,
    ),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_shapes(name: str) -> None:
    shape, expected = CLOSED[name]
    assert volume(shape) == pytest.approx(expected, rel=0.012)
    assert open_edges(shape) == 0


def test_cuts_keep_their_edges_sharp() -> None:
    """Dual contouring puts vertices onto the edges and corners of a box that no grid line meets."""
    shape = implicit.surface(implicit.block((0.01, 0.02, 0.03), (1.1, 1.2, 1.3)), (-1,) * 3, (1,) * 3, 24)
    corners = np.array([0.01, 0.02, 0.03]) + np.array([0.55, 0.6, 0.65]) * [[1, 1, 1], [-1, 1, -1]]
    for corner in corners:
        assert np.abs(shape.vertices - corner).max(1).min() < 0.01


# --- dressing -----------------------------------------------------------------------------------------


def palette_asset() -> Asset:
    """A box and a ball that take two colours from a palette texture, and a leaf that is cut out."""
    palette = np.zeros((4, 4, 3), np.uint8)
    palette[:, :2], palette[:, 2:] = (200, 30, 30), (30, 60, 200)
    painted = Material("painted", base_color_texture=Texture(palette, nearest=True), metallic_factor=0.0)
    card = np.full((8, 8, 4), 255, np.uint8)
    card[:4, :, 3] = 0
    leaf = Material("leaf", base_color_texture=Texture(card), alpha_mode="MASK", metallic_factor=0.0)
    meshes = []
    for shape, u in ((box((1, 1, 1)), 0.1), (ellipsoid(1.0).moved(y=1.2), 0.9)):
        uv = np.full((len(shape.vertices), 2), u, np.float32)
        meshes.append(Mesh(shape.vertices, shape.faces.astype(np.int32), uvs=(uv,), material=0))
    quad = np.array([[2.0, 0, 0], [3, 0, 0], [3, 1, 0], [2, 1, 0]])
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    meshes.append(Mesh(quad, np.array([[0, 1, 2], [0, 2, 3]], np.int32), uvs=(uv,), material=1))
    return Asset(tuple(meshes), (painted, leaf), "toy")


def soup(asset: Asset) -> np.ndarray:
    """All triangles' corners, sorted."""
    corners = np.concatenate([m.vertices[m.faces].reshape(-1, 9) for m in asset.meshes if len(m.faces)])
    return corners[np.lexsort(corners.T)]


@pytest.mark.parametrize("seed", range(12))
def test_dressing_changes_materials_only(seed: int) -> None:
    asset = palette_asset()
    dressed = dress(asset, seed)
    np.testing.assert_array_equal(soup(dressed), soup(asset))
    assert digest([dressed]) == digest([dress(asset, seed)])
    leaf = [m for m in dressed.materials if m.alpha_mode == "MASK"]
    assert len(leaf) == 1
    assert leaf[0].base_color_texture is asset.materials[1].base_color_texture
    assert len(dressed.materials) == 3, "the palette's two colours are two regions"
    voxels = OVoxel.from_asset(dressed, 64)
    assert voxels.attributes is not None
    assert np.isfinite(voxels.attributes).all()


@pytest.mark.parametrize("seed", range(8))
def test_warping_changes_proportions_only(seed: int) -> None:
    asset = palette_asset()
    warped = warp(asset, seed)
    assert digest([warped]) == digest([warp(asset, seed)])
    assert warped.materials is asset.materials
    for before, after in zip(asset.meshes, warped.meshes, strict=True):
        np.testing.assert_array_equal(after.faces, before.faces)
        assert after.uvs is before.uvs
        volume = [np.linalg.det(m.vertices[m.faces] - (0.1, 0.2, 0.3)).sum() for m in (before, after)]
        if len(before.faces) > 2:
            assert volume[1] > 0.1 * volume[0] > 0, "faces look outwards still"
    size = np.ptp(warped.bounds(), 0) / np.ptp(asset.bounds(), 0)
    assert size.max() / size.min() > 1.02


def test_warping_keeps_what_is_symmetric() -> None:
    shape = ellipsoid(1.0)
    mesh = Mesh(shape.vertices, shape.faces.astype(np.int32))
    mirrored = replace(mesh, vertices=mesh.vertices * (-1, 1, 1))
    for seed in range(8):
        one, other = (warp(Asset((m,)), seed).meshes[0].vertices for m in (mesh, mirrored))
        np.testing.assert_allclose(other, one * (-1, 1, 1), atol=1e-12)


def test_half_keep_their_colours() -> None:
    asset = palette_asset()
    texture = asset.materials[0].base_color_texture
    kept = 0
    for seed in range(60):
        first = dress(asset, seed).materials[0]
        kept += first.base_color_texture is texture
        if first.base_color_texture is texture and first.alpha_mode == "OPAQUE":
            assert first.metallic_roughness_texture is not None
            assert first.metallic_roughness_texture.texcoord == 1
    assert 18 <= kept <= 42


def test_dressing_needs_no_uvs() -> None:
    shape = ellipsoid(1.0)
    bare = Asset((Mesh(shape.vertices, shape.faces.astype(np.int32)),), name="bare")
    looks = [OVoxel.from_asset(dress(bare, seed), 32).attributes for seed in range(5)]
    assert len({look.mean(0).round(3).tobytes() for look in looks if look is not None}) == 5
    assert dress(Asset(()), 0).meshes == ()
