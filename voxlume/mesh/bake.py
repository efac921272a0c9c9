"""Textures for an unwrapped mesh from the O-Voxel that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.asset import Placement
from voxlume.errors import AssetError
from voxlume.jit import parallel_kernel
from voxlume.mesh.components import face_components
from voxlume.mesh.fill import fill_gaps
from voxlume.mesh.normal_map import in_tangent_space, tangent_frames
from voxlume.mesh.source_surface import SourceSurface
from voxlume.mesh.texel_fit import error_between, fit_texels
from voxlume.mesh.texels import assign_texels
from voxlume.mesh.unwrap import check_texture_size
from voxlume.mesh.weld import weld_by_position
from voxlume.progress import Progress, report

_TEXELS_AT_ONCE = 1 << 20

_COARSE = 1.0
"""Texels per voxel below which they may be fitted to points between them; with more, little is gained."""

_FAR_OFF = 1.0
"""Mean error of colours between texels, in 255ths, from which they are; a sixteenth of the rows tells."""


@dataclass(frozen=True, eq=False)
class BakedTextures:
    """Textures of one mesh, every texel filled.

    Attributes
    ----------
    base_color : uint8 (s, s, 4), sRGB-encoded RGB and alpha.
    metallic_roughness : uint8 (s, s, 3), glTF's packing: green is roughness, blue is metallic.
    covered : bool (s, s), the texels that belong to a chart or are next to one; the rest is padding.
    normal : uint8 (s, s, 3), tangent space, +Y up as glTF has it; None if not asked for.
    """

    base_color: NDArray[np.uint8]
    metallic_roughness: NDArray[np.uint8]
    covered: NDArray[np.bool_]
    normal: NDArray[np.uint8] | None = None


def bake(
    source: SourceSurface,
    vertices: NDArray[np.float64],
    faces: NDArray[np.int32],
    uvs: NDArray[np.float32],
    *,
    normals: NDArray[np.float32] | None = None,
    size: int = 2048,
    placement: Placement | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> BakedTextures:
    """Give every texel the material of the original surface where it is nearest to the texel.

    A texel's point on the mesh finds the nearest point of the source that faces the same way, so the far
    side of a thin wall does not show through; a part of the mesh may be wound either way, and where its
    winding says nothing about the source's, sides are not told apart. Where voxels outnumber texels and
    colours between texels would be far off, these are fitted to points between them too
    (:mod:`voxlume.mesh.texel_fit`), which takes four times as long.
    Texels between charts are filled from their neighbours at every scale, so mip-maps stay clean. The work
    goes in strips of rows: beside its result it needs about 100 MB, to fit 2048^2 texels 600 MB.

    Parameters
    ----------
    vertices : float64 (n, 3), glTF frame of the asset.
    faces : int32 (m, 3).
    uvs : float32 (n, 2), in [0, 1], v downwards.
    normals : float32 (n, 3), the mesh's shading normals; with them, a normal map is baked as well that turns
        them into the source's.
    size : side of the textures, see :data:`voxlume.mesh.unwrap.TEXTURE_SIZES`.
    placement : of the voxels' cube in the asset's frame.
    device : a CUDA device looks points up with Triton; without Triton all is done on the CPU.

    Raises
    ------
    AssetError : an impossible size; arrays that are not finite; UVs that touch no texel.
    """
    check_texture_size(size)
    if not (np.isfinite(vertices).all() and np.isfinite(uvs).all()):
        raise AssetError("the mesh holds a value that is not a finite number")
    points = ((placement or Placement()).to_model(vertices) + 0.5) * source.resolution
    corners, facing, middle = _measure(points, faces)
    part, _ = face_components(weld_by_position(points)[faces], len(points))
    facing *= source.winding(middle, facing, part)[part][:, None]

    base_color = np.zeros((size, size, 4), np.uint8)
    metallic_roughness = np.zeros((size, size, 3), np.uint8)
    covered = np.zeros((size, size), np.bool_)
    detail = None
    if normals is not None:
        frames = tangent_frames(corners, uvs[faces], _to_model_axes(normals)[faces])
        detail = np.zeros((size, size, 3), np.uint8)
    look_up = look_up_on(device, source, corners, facing)
    for rows, face, weights in _strips(uvs, faces, size, _all_rows(size), progress, "baking"):
        values, found, place = look_up(face, weights)
        _write(face, values, base_color[rows], metallic_roughness[rows], covered[rows])
        if detail is not None:
            row, column = np.nonzero(face >= 0)
            detail[rows.start + row, column] = in_tangent_space(
                source.normals(found(), place()), frames, face[row, column], weights[row, column]
            )
    if not covered.any():
        raise AssetError("the mesh's UVs touch no texel of the texture; unwrap it anew")
    if np.count_nonzero(covered) < _COARSE * len(source.vertices):
        fine = 2 * size
        fine_color = np.zeros((fine, fine, 4), np.uint8)
        fine_metallic_roughness = np.zeros((fine, fine, 3), np.uint8)
        known = np.zeros((fine, fine), np.bool_)

        def between(strips: Sequence[slice]) -> None:
            for rows, face, weights in _strips(uvs, faces, fine, strips, progress, "baking between texels"):
                values, _, _ = look_up(face, weights)
                _write(face, values, fine_color[rows], fine_metallic_roughness[rows], known[rows])

        tried = [slice(at, at + fine // 64) for at in range(fine // 8, fine, fine // 4)]
        between(tried)
        if error_between(base_color, covered, fine_color, known) > _FAR_OFF:
            between(_all_rows(fine))
            base_color = fit_texels(base_color, covered, fine_color, known)
            metallic_roughness = fit_texels(metallic_roughness, covered, fine_metallic_roughness, known)
    fill_gaps(base_color, covered)
    fill_gaps(metallic_roughness, covered)
    if detail is not None:
        fill_gaps(detail, covered)
    report(progress, size, size, "baking")
    return BakedTextures(base_color, metallic_roughness, covered, detail)


def _all_rows(size: int) -> list[slice]:
    """Strips of a square image that are worked on at once."""
    strip = max(1, _TEXELS_AT_ONCE // size)
    return [slice(first, min(first + strip, size)) for first in range(0, size, strip)]


def _strips(
    uvs: NDArray[np.float32],
    faces: NDArray[np.int32],
    size: int,
    strips: Sequence[slice],
    progress: Progress | None,
    what: str,
) -> Iterator[tuple[slice, NDArray[np.int32], NDArray[np.float32]]]:
    """Strips of rows that charts reach into, and which point of the mesh each of their texels shows."""
    for rows in strips:
        report(progress, rows.start, size, what)
        face, weights = assign_texels(uvs, faces, size, (rows.start, rows.stop))
        if (face >= 0).any():
            yield rows, face, weights


_Found = tuple[NDArray[np.uint8], Callable[[], NDArray[np.int32]], Callable[[], NDArray[np.float64]]]
_LookUp = Callable[[NDArray[np.int32], NDArray[np.float32]], _Found]
"""Faces and weights of a strip of texels -> uint8 (r, size, 6) channels, those of texels without a face of no
use; then, for the texels with one, the source's faces and the weights there."""


def look_up_on(
    device: str, source: SourceSurface, corners: NDArray[np.float64], facing: NDArray[np.float64]
) -> _LookUp:
    """How to find what the texels of a mesh with these corners (m, 3, 3) and normals (m, 3) show."""
    if device.startswith("cuda") and source.attributes is not None:
        from voxlume.backend import triton_installed, twins_forced

        if triton_installed() and not twins_forced():
            from voxlume.mesh.source_surface_triton import surface_on

            surface = surface_on(device, source)
            if surface is not None:
                return surface.texel_look_up(source, corners, facing)

    def look_up(face: NDArray[np.int32], weights: NDArray[np.float32]) -> _Found:
        texels = np.flatnonzero(face.reshape(-1) >= 0)
        chosen, share = face.reshape(-1)[texels], weights.reshape(-1, 2)[texels]
        at = _positions(corners, chosen, share)
        found, place = source.nearest(at, facing[chosen])
        values = np.zeros((*face.shape, 6), np.uint8)
        values.reshape(-1, 6)[texels] = np.rint(source.material(at, found, place) * 255)
        return values, lambda: found, lambda: place

    return look_up


@parallel_kernel
def _measure(
    points: NDArray[np.float64], faces: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Corners (m, 3, 3), vectors along the normals (m, 3) and middles (m, 3) of the faces."""
    corners, facing, middle = (
        np.empty((len(faces), 3, 3)),
        np.empty((len(faces), 3)),
        np.empty((len(faces), 3)),
    )
    for f in prange(len(faces)):
        for k in range(3):
            corners[f, k] = points[faces[f, k]]
        a, b, c = corners[f]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        facing[f, 0], facing[f, 1], facing[f, 2] = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for axis in range(3):
            middle[f, axis] = (a[axis] + b[axis] + c[axis]) / 3
    return corners, facing, middle


@parallel_kernel
def _write(
    face: NDArray[np.int32],
    values: NDArray[np.uint8],
    base_color: NDArray[np.uint8],
    metallic_roughness: NDArray[np.uint8],
    covered: NDArray[np.bool_],
) -> None:
    """The channels of a strip's texels into its rows of the textures."""
    for row in prange(len(face)):
        for column in range(face.shape[1]):
            if face[row, column] >= 0:
                for c in range(3):
                    base_color[row, column, c] = values[row, column, c]
                base_color[row, column, 3] = values[row, column, 5]
                metallic_roughness[row, column, 1] = values[row, column, 4]
                metallic_roughness[row, column, 2] = values[row, column, 3]
                covered[row, column] = True


def _to_model_axes(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Directions in the glTF frame as they are in the Z-up model frame."""
    return np.stack([vectors[:, 0], -vectors[:, 2], vectors[:, 1]], axis=1)


@parallel_kernel
def _positions(
    corners: NDArray[np.float64], face: NDArray[np.int32], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The points (k, 3) with these weights of the first two corners on these faces."""
    at = np.empty((len(face), 3))
    for i in prange(len(face)):
        p = corners[face[i]]
        u, v = np.float64(weights[i, 0]), np.float64(weights[i, 1])
        for c in range(3):
            at[i, c] = u * p[0, c] + v * p[1, c] + (1 - u - v) * p[2, c]
    return at
