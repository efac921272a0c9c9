"""UVs that come with a mesh: tiles, mirrors, overlaps."""

from __future__ import annotations

import numpy as np
import pytest

from voxlume.mesh.uv_layout import into_unit_square, overlap, survey, uv_areas, without_hidden

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


@pytest.mark.parametrize("wrap", ["repeat", "mirror"])
def test_a_square_across_tiles_covers_what_it_shows(wrap: str) -> None:
    """Half a texture, moved by 1.75: repeated it lies at the border on both sides, mirrored at one end."""
    uvs = SQUARE * [0.5, 1] + [1.75, -3]
    layout = into_unit_square(uvs, FACES, (wrap, wrap))  # type: ignore[arg-type]
    grid = survey(layout)
    columns = np.flatnonzero((grid >= 0).all(axis=0)) / grid.shape[1]
    if wrap == "repeat":
        assert {round(4 * c) for c in (columns[0], columns[-1])} == {0, 4}
        assert not ((columns > 0.26) & (columns < 0.74)).any()
        assert (grid >= 0).mean() == pytest.approx(0.5, abs=0.01)
    else:
        assert columns.max() < 0.26
        assert (grid >= 0).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(layout.vertex, FACES[layout.origin].reshape(-1))


def test_clamped_and_broken_uvs() -> None:
    uvs = SQUARE * 3 - 1
    assert np.abs(into_unit_square(uvs, FACES, ("clamp", "clamp")).uvs - 0.5).max() <= 0.5
    uvs[1] = np.nan
    assert into_unit_square(uvs, FACES, ("repeat", "repeat")).origin.tolist() == [1] * 9


def test_overlap_is_measured() -> None:
    uvs = np.concatenate([SQUARE / 2, SQUARE / 2])
    both = np.concatenate([FACES, FACES + 4]).astype(np.int32)
    for faces, expected in ((FACES, 0.0), (both, 0.5)):
        grid = survey(into_unit_square(uvs, faces, ("repeat", "repeat")))
        assert overlap(grid, uv_areas(uvs, faces)) == pytest.approx(expected, abs=0.02)


def test_hidden_faces_change_nothing_but_the_time() -> None:
    rng = np.random.default_rng(0)
    faces = np.arange(900, dtype=np.int32).reshape(-1, 3)
    layout = into_unit_square(rng.random((900, 2)) * 3, faces, ("repeat", "repeat"))
    fewer = without_hidden(layout)
    assert len(fewer.faces) < len(layout.faces) / 4
    same = survey(layout) == survey(fewer)
    assert same.mean() > 0.99
    assert without_hidden(fewer) is fewer or len(without_hidden(fewer).faces) <= len(fewer.faces)
