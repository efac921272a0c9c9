"""How UVs that come with a mesh use their texture: tiles beyond the unit square, parts that overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Wrap
from voxlume.mesh.texels import assign_texels

_SURVEY = 512
_COARSE = 64
_SURE_TO_SHOW = 8  # cells of the coarse grid; a face as large as this that has none of them lies under others
_MOST_COVER = 4.0  # times that the texture is covered
_MOST_TILES = 8  # along u or v, that one face may span


@dataclass(frozen=True, eq=False)
class UnitLayout:
    """Faces as they lie in the unit square; one that wraps around its border is there several times.

    Attributes
    ----------
    faces : int32 (k, 3), three vertices of its own for each face.
    uvs : float32 (3 k, 2); only what lies in [0, 1] counts.
    origin : int32 (k,), the face given.
    vertex : int32 (3 k,), the vertex given.
    """

    faces: NDArray[np.int32]
    uvs: NDArray[np.float32]
    origin: NDArray[np.int32]
    vertex: NDArray[np.int32]


def into_unit_square(
    uvs: NDArray[np.floating], faces: NDArray[np.int32], wrap: tuple[Wrap, Wrap]
) -> UnitLayout:
    """Where the texture's own square sees each face.

    Parameters
    ----------
    uvs : (n, 2) anywhere; faces with values that are not finite are left out.
    faces : int32 (m, 3).
    wrap : how the texture repeats along u and v.
    """
    corners = np.asarray(uvs, np.float64)[faces]  # (m, 3, 2)
    origin = np.flatnonzero(np.isfinite(corners).all((1, 2))).astype(np.int32)
    corners = corners[origin]
    for axis, mode in enumerate(wrap):
        if mode == "clamp":
            corners[..., axis] = np.clip(corners[..., axis], 0, 1)
            continue
        low = np.floor(corners[..., axis].min(1))
        # A face that ends at a tile's border does not reach into the next.
        tiles = np.clip(np.ceil(corners[..., axis].max(1)) - low, 1, _MOST_TILES).astype(np.int64)
        copies = np.repeat(np.arange(len(corners)), tiles)
        number = np.arange(len(copies)) - np.repeat(np.cumsum(tiles) - tiles, tiles)
        tile = low[copies] + number
        corners, origin = corners[copies], origin[copies]
        corners[..., axis] -= tile[:, None]
        if mode == "mirror":
            odd = tile % 2 == 1
            corners[odd, :, axis] = 1 - corners[odd, :, axis]
    return UnitLayout(
        faces=np.arange(3 * len(origin), dtype=np.int32).reshape(-1, 3),
        uvs=corners.reshape(-1, 2).astype(np.float32),
        origin=origin,
        vertex=faces[origin].reshape(-1),
    )


def without_hidden(layout: UnitLayout) -> UnitLayout:
    """The layout without faces that lie under others, where it covers the texture several times.

    Of faces in one place the first counts, so the rest would only cost time: without this a wall of bricks
    from few tiles takes as long as its area in the texture.
    """
    areas = uv_areas(layout.uvs, layout.faces)
    if float(areas.sum()) <= _MOST_COVER:
        return layout
    face, _ = assign_texels(layout.uvs, layout.faces, _COARSE)
    shown = areas * _COARSE**2 < _SURE_TO_SHOW
    shown[face[face >= 0]] = True
    kept = np.flatnonzero(shown)
    return UnitLayout(
        faces=np.arange(3 * len(kept), dtype=np.int32).reshape(-1, 3),
        uvs=layout.uvs[layout.faces[kept].reshape(-1)],
        origin=layout.origin[kept],
        vertex=layout.vertex[layout.faces[kept].reshape(-1)],
    )


def uv_areas(uvs: NDArray[np.floating], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Area (m,) of each face in the texture, in units of the whole texture."""
    a, b, c = (np.asarray(uvs, np.float64)[faces[:, k]] for k in range(3))
    with np.errstate(invalid="ignore", over="ignore"):
        cross = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    return np.abs(cross) / 2


def survey(layout: UnitLayout) -> NDArray[np.int32]:
    """The face given, or -1, at the centres of a coarse grid (512, 512) over the texture."""
    face, _ = assign_texels(layout.uvs, layout.faces, _SURVEY)
    return np.where(face >= 0, layout.origin[face], -1).astype(np.int32)


def overlap(grid: NDArray[np.int32], areas: NDArray[np.float64]) -> float:
    """Share of the faces' texture area that lies where another face already is.

    Parameters
    ----------
    grid : from :func:`survey`.
    areas : of all faces, from :func:`uv_areas`.
    """
    total = float(np.nansum(areas))
    return max(0.0, 1 - float((grid >= 0).mean()) / total) if total > 0 else 0.0
