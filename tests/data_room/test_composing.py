"""Objects put together of several models' pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.render.shapes import box, sphere
from voxlume.asset import Asset, Material, Mesh
from voxlume.data.procedural import compose, composing

SEEDS = range(40)
WAYS = {way.__name__: way for way in composing._WAYS}


def with_everything(mesh: Mesh, material: int = 0) -> Mesh:
    """A mesh with every per-vertex field; UVs and colours tell the vertices' numbers."""
    number = np.arange(len(mesh.vertices), dtype=np.float32)
    return replace(
        mesh,
        normals=np.ones((len(number), 3), np.float32),
        uvs=(np.stack([number, -number], 1), np.stack([number, number], 1)),
        colors=np.stack([number] * 4, 1),
        attributes={"METALLIC": number},
        material=material,
    )


def joined(meshes: Sequence[Mesh]) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces).astype(np.int32))


def table() -> Asset:
    """A top and four legs that stand apart from it by nothing, of two materials."""
    legs = [box((x, 0, z), (x + 0.2, 1, z + 0.2)) for x in (-0.9, 0.7) for z in (-0.4, 0.2)]
    meshes = (with_everything(box((-1, 1, -0.5), (1, 1.2, 0.5))), with_everything(joined(legs), 1))
    return Asset(meshes, (Material("top"), Material("legs")), "table")


def ball() -> Asset:
    return Asset((with_everything(sphere(8)),), (Material("ball"),), "ball")


def crates() -> Asset:
    """Two boxes of different sizes, far larger than the table; without material."""
    return Asset((box((10, 0, 0), (30, 10, 10)), box((10, 10, 0), (20, 20, 10))), name="crates")


def volume(meshes: Sequence[Mesh]) -> float:
    return sum(float(np.linalg.det(mesh.vertices[mesh.faces]).sum()) / 6 for mesh in meshes)


def test_pieces_are_what_hangs_together() -> None:
    pieces = composing._model(list(table().meshes)).pieces
    assert [len(piece) for piece in pieces] == [1] * 5
    assert [len(piece[0].faces) for piece in pieces] == [12] * 5
    assert pieces[0][0].material == 0, "the largest comes first"
    for piece in pieces:
        (mesh,) = piece
        assert mesh.colors is not None
        number = mesh.colors[:, 0]
        np.testing.assert_array_equal(mesh.uvs[0], np.stack([number, -number], 1))
        np.testing.assert_array_equal(mesh.attributes["METALLIC"], number)


def test_meshes_that_share_places_are_one_piece() -> None:
    # A box whose faces are of six meshes, as files have them that do not share vertices.
    whole = box((0, 0, 0), (1, 1, 1))
    sides = [
        Mesh(
            whole.vertices[whole.faces[2 * i : 2 * i + 2].ravel()], np.arange(6, dtype=np.int32).reshape(2, 3)
        )
        for i in range(6)
    ]
    (piece,) = composing._model(sides).pieces
    assert len(piece) == 6


def test_crumbs_go_with_what_is_near() -> None:
    buttons = [box((x, y, 1), (x + 0.01, y + 0.01, 1.01)) for x in (0.2, 0.8) for y in np.arange(30) / 30]
    meshes = [box((0, 0, 0), (0.45, 1, 1)), box((0.55, 0, 0), (1, 1, 1)), joined(buttons)]
    pieces = composing._model(meshes).pieces
    assert [sum(len(mesh.faces) for mesh in piece) for piece in pieces] == [12 * 31] * 2
    row = composing._model([box((i, 0, 0), (i + 0.9, 20, 1)) for i in range(20)]).pieces
    assert len(row) <= 12
    assert sum(len(mesh.faces) for piece in row for mesh in piece) == 20 * 12


@pytest.mark.parametrize("seed", SEEDS)
def test_composing(seed: int) -> None:
    assets = [table(), ball(), crates()]
    made = compose(assets, seed)
    again = compose(assets, seed)
    for one, other in zip(made.meshes, again.meshes, strict=True):
        assert one.vertices.tobytes() == other.vertices.tobytes()
        assert one.faces.tobytes() == other.faces.tobytes()
        assert one.material == other.material
    assert made.name == "table"
    low, high = made.bounds()
    assert 0.2 < (high - low).max() < 5
    names = {made.material_of(mesh).name for mesh in made.meshes}
    assert {material.name for material in made.materials} == names - {"default"}
    for mesh in made.meshes:
        assert mesh.normals is None
        assert volume([mesh]) > 0, "faces look outwards"
        assert len(np.unique(mesh.faces)) == len(mesh.vertices)
        if mesh.material >= 0:
            assert mesh.colors is not None
            np.testing.assert_array_equal(mesh.uvs[0][:, 0], mesh.colors[:, 0])
            assert len(mesh.uvs[1]) == len(mesh.attributes["METALLIC"]) == len(mesh.vertices)
        else:
            assert mesh.uvs == ()


def test_seeds_differ() -> None:
    assets = [table(), ball(), crates()]
    assert len({tuple(np.round(compose(assets, seed).bounds().ravel(), 3)) for seed in SEEDS}) > 20


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_taken(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "_WAYS", (WAYS[way],))
    monkeypatch.setattr(composing, "_exchange", WAYS["_exchange"])
    for seed in range(10):
        made = compose([table(), ball()], seed)
        names = {material.name for material in made.materials}
        faces = {
            name: sum(len(m.faces) for m in made.meshes if made.material_of(m).name == name) for name in names
        }
        if way == "_exchange":
            assert "ball" in names
            assert names & {"top", "legs"}
            assert faces.get("legs") in (None, 48), "the legs go together"
        elif way == "_attach":
            assert names == {"top", "legs", "ball"}
            assert faces["top"] + faces["legs"] == 60
        elif way == "_group":
            assert {"top", "legs"} <= names
            assert made.bounds()[0, 1] == 0
        else:
            assert "ball" not in names
            assert sum(faces.values()) > 12


def test_what_is_put_on_top_touches() -> None:
    (ground,) = (mesh for mesh in [box((-1, 0, -1), (1, 0.5, 1))])
    step = box((-1, 0.5, -1), (-0.5, 1, 1))
    base, ball = (ground, step), (sphere(16, 0.2),)
    for x, height in ((0.4, 0.5), (-0.75, 1.0)):
        moved = composing._placed(ball, 1, np.array([x, 0.0, 0.1]))
        (down,) = composing._pushed(base, moved, 1, 1, 0.0)
        assert down.vertices[:, 1].min() == pytest.approx(height, abs=0.01)
        (side,) = composing._pushed(
            (ground,), composing._placed(ball, 1, np.array([x, 0.2, 0.1])), 0, -1, 0.1
        )
        assert side.vertices[:, 0].max() == pytest.approx(-1.1, abs=0.01)


def test_mirrored_bodies_are_not_inside_out() -> None:
    body = (box((1, 0, 0), (2, 3, 1)),)
    mirrored = composing._mirrored(body)
    np.testing.assert_allclose(composing._box(mirrored), [[-2, 0, 0], [-1, 3, 1]])
    assert volume(mirrored) == pytest.approx(volume(body))


def test_turns_keep_left_and_right() -> None:
    body = (box((1, 0, 0), (2, 3, 1)),)
    turned = composing._turned(body, 0.0, 1.0)
    np.testing.assert_allclose(composing._box(turned), [[0, 0, -2], [1, 3, -1]])
    assert volume(turned) == pytest.approx(volume(body))


@pytest.mark.parametrize("seed", range(8))
def test_poor_input(seed: int) -> None:
    empty = Asset((Mesh(np.zeros((3, 3)), np.zeros((0, 3), np.int32)),), name="empty")
    point = Asset((Mesh(np.ones((3, 3)), np.array([[0, 1, 2]], np.int32)),), name="point")
    sheet = Asset((Mesh(np.eye(3) * (1, 0, 1), np.array([[0, 1, 2]], np.int32)),), name="sheet")
    assert compose([empty, point], seed) is empty
    for assets in (
        [ball()],
        [ball(), sheet],
        [sheet, ball()],
        [sheet],
        [empty, ball(), point],
        [point, table()],
    ):
        made = compose(assets, seed)
        assert made.name == assets[0].name
        assert np.isfinite(made.bounds()).all()
        assert made.num_faces >= 1


def test_faces_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "MOST_FACES", 300)
    for seed in SEEDS:
        assert compose([table(), ball(), crates()], seed).num_faces <= 300
        assert compose([replace(ball(), meshes=ball().meshes * 2)], seed).num_faces == 512
