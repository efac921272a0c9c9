"""O-Voxel to mesh: one quad per crossed voxel edge, split into two triangles (TRELLIS.2, section 3.1).

The steps, each a parallel kernel: neighbours of every voxel, quads, winding, triangles. The slow twin is
:func:`extract_mesh_reference`; :mod:`voxlume.ovoxel.extract_torch` does the same on a GPU.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.asset import Mesh
from voxlume.jit import inner_kernel, parallel_kernel
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.index import VoxelIndex, even_ranges, forward_neighbors, forward_neighbors_reference
from voxlume.ovoxel.orient import flipped_quads, flipped_quads_reference
from voxlume.texture import decode_srgb

Point = tuple[float, float, float]

Diagonal = Literal["normals", "first", "weights"]
"""How a quad 0123 is cut in two.

``normals``: along the diagonal whose two triangles' normals agree best, 0-2 where there is no difference.
``first``: along 0-2, except along 1-3 where triangle 012 has no area; the published extraction's rule.
``weights``: along 0-2 where the splitting weights say g0 g2 > g1 g3, else along 1-3.
"""

BY_NORMALS, BY_FIRST, BY_WEIGHTS = range(3)
RULES = {"normals": BY_NORMALS, "first": BY_FIRST, "weights": BY_WEIGHTS}

RING_AXES = ((2, 1), (0, 2), (1, 0))
"""Per axis of the crossed edge the two steps (s, t) around it: the quad is c, c+s, c+s+t, c+t."""

AGREEMENT_MARGIN = 1e-6
"""Cosine by which 1-3 must beat 0-2, so that rounding never decides on flat ground."""


def ovoxel_to_mesh(ovoxel: OVoxel, *, orient: bool = True) -> Mesh:
    """The surface of an O-Voxel with its material as vertex attributes.

    Parameters
    ----------
    orient : make the winding consistent; see :mod:`voxlume.ovoxel.orient`.

    Returns
    -------
    Mesh whose vertices are in the **asset's own glTF frame** (``ovoxel.placement`` undone), only those in
    use. With attributes: ``colors`` are linear RGBA, ``METALLIC`` and ``ROUGHNESS`` are in ``attributes``.
    Diagonals follow the splitting weights where there are any, else the normals.
    """
    vertices, faces = extract_mesh(
        ovoxel.coords,
        ovoxel.dual_vertices,
        ovoxel.intersected,
        ovoxel.resolution,
        ovoxel.splitting_weights,
        orient=orient,
    )
    used = np.zeros(len(vertices), np.bool_)
    used[faces] = True
    if not used.all():
        faces = (np.cumsum(used, dtype=np.int32) - np.int32(1))[faces]
    positions = ovoxel.placement.to_gltf(vertices[used])
    if ovoxel.attributes is None:
        return Mesh(vertices=positions, faces=faces)
    values = ovoxel.attributes[used]
    colors = np.empty((len(values), 4), np.float32)
    _linear_colors(values, colors)
    return Mesh(
        vertices=positions,
        faces=faces,
        colors=colors,
        attributes={"METALLIC": values[:, 3].copy(), "ROUGHNESS": values[:, 4].copy()},
    )


def extract_mesh(
    coords: NDArray[np.integer],
    dual_vertices: NDArray[np.float32],
    intersected: NDArray[np.bool_],
    resolution: int,
    splitting_weights: NDArray[np.float32] | None = None,
    diagonal: Diagonal | None = None,
    *,
    orient: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Dual grid to triangles.

    Parameters
    ----------
    coords : (n, 3), unique, any order.
    dual_vertices : float32 (n, 3), voxel units from the voxel's minimum corner.
    intersected : bool (n, 3), as in :class:`~voxlume.ovoxel.grid.OVoxel`.
    splitting_weights : float32 (n,) or (n, 1), positive.
    diagonal : see :data:`Diagonal`; None follows the splitting weights where given, else the normals.
    orient : make the winding consistent and outward; False keeps the quads' own cyclic order, as the
        published extraction does.

    Returns
    -------
    vertices : float32 (n, 3), Z-up model frame; every voxel is one, used or not.
    faces : int32 (m, 3); two per quad, quads in the order of voxels, then axis.

    Raises
    ------
    ValueError : coordinates out of range or twice, or ``weights`` asked for without splitting weights.
    """
    rule = RULES[chosen_diagonal(splitting_weights is not None, diagonal)]
    index = VoxelIndex(coords)
    if index.order is not None:
        order = index.order
        g = None if splitting_weights is None else splitting_weights[order]
        vertices, faces = extract_mesh(
            coords[order], dual_vertices[order], intersected[order], resolution, g, diagonal, orient=orient
        )
        return in_given_order(vertices, faces, order)
    coords = index.coords
    dual_vertices = np.ascontiguousarray(dual_vertices, np.float32)
    quads, axes = extract_quads(forward_neighbors(index.keys), np.ascontiguousarray(intersected, np.bool_))
    vertices = np.empty((len(coords), 3), np.float32)
    _place_vertices(coords, dual_vertices, 1.0 / resolution, vertices)
    flipped = flipped_quads(quads, axes, coords, vertices) if orient else np.zeros(len(quads), np.bool_)
    faces = np.empty((2 * len(quads), 3), np.int32)
    split_quads(quads, flipped, coords, dual_vertices, _flat_weights(splitting_weights), rule, faces)
    return vertices, faces


def extract_mesh_reference(
    coords: NDArray[np.integer],
    dual_vertices: NDArray[np.float32],
    intersected: NDArray[np.bool_],
    resolution: int,
    splitting_weights: NDArray[np.float32] | None = None,
    diagonal: Diagonal | None = None,
    *,
    orient: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Slow twin of :func:`extract_mesh` in plain NumPy."""
    rule = RULES[chosen_diagonal(splitting_weights is not None, diagonal)]
    g = _flat_weights(splitting_weights)
    order = np.lexsort(coords.T[::-1])
    coords, dual_vertices, intersected = coords[order], dual_vertices[order], intersected[order]
    g = g[order] if len(g) else g
    neighbors = forward_neighbors_reference(coords)
    rows = []
    for voxel, axis in np.argwhere(intersected):
        s, t = RING_AXES[axis]
        beside, above = neighbors[voxel, s], neighbors[voxel, t]
        if beside >= 0 and above >= 0 and neighbors[beside, t] >= 0:
            rows.append((voxel, beside, neighbors[beside, t], above, axis))
    table = np.array(rows, np.int32).reshape(-1, 5)
    quads, axes = table[:, :4], table[:, 4].astype(np.int8)

    p = coords.astype(np.float64) + dual_vertices
    vertices = (p / resolution - 0.5).astype(np.float32)
    q = p[quads]
    first = np.stack([_normals(q, 0, 1, 2), _normals(q, 0, 2, 3)])
    second = np.stack([_normals(q, 0, 1, 3), _normals(q, 3, 1, 2)])
    if rule == BY_WEIGHTS:
        along_first = g[quads[:, 0]] * g[quads[:, 2]] > g[quads[:, 1]] * g[quads[:, 3]]
    elif rule == BY_FIRST:
        along_first = np.any(first[0] != 0, axis=1)
    else:
        along_first = (second[0] * second[1]).sum(1) <= (first[0] * first[1]).sum(1) + AGREEMENT_MARGIN
    faces = np.where(
        along_first[:, None, None], quads[:, [[0, 1, 2], [0, 2, 3]]], quads[:, [[0, 1, 3], [3, 1, 2]]]
    )
    if orient:
        flipped = flipped_quads_reference(quads, axes, coords, vertices)
        faces[flipped] = faces[flipped][..., [0, 2, 1]]
    return in_given_order(vertices, faces.reshape(-1, 3), order)


def in_given_order(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], order: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A mesh of sorted voxels renumbered to the order they came in; sorted voxel i was voxel ``order[i]``."""
    given = np.empty_like(vertices)
    given[order] = vertices
    faces = order.astype(np.int32)[faces]
    # A quad's first face begins at the quad's own voxel; the axes within a voxel are in order already.
    rank = np.argsort(faces[::2, 0], kind="stable")
    return given, faces.reshape(-1, 2, 3)[rank].reshape(-1, 3)


def chosen_diagonal(has_weights: bool, diagonal: Diagonal | None) -> Diagonal:
    """The rule to follow where ``diagonal`` may be None.

    Raises
    ------
    ValueError : the weights' rule without weights, or an unknown rule.
    """
    if diagonal is None:
        return "weights" if has_weights else "normals"
    if diagonal not in RULES:
        raise ValueError(f"diagonal must be one of {', '.join(RULES)}, not {diagonal!r}")
    if diagonal == "weights" and not has_weights:
        raise ValueError("diagonal='weights' needs splitting weights")
    return diagonal


def _flat_weights(splitting_weights: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The weights (n,), empty where there are none."""
    weights = np.empty(0) if splitting_weights is None else splitting_weights
    return np.ascontiguousarray(weights, np.float32).reshape(-1)


@parallel_kernel
def _linear_colors(attributes: NDArray[np.float32], colors: NDArray[np.float32]) -> None:
    """RGBA (n, 4) of attributes (n, 6), the colour decoded from sRGB."""
    for i in prange(len(attributes)):
        for channel in range(3):
            colors[i, channel] = decode_srgb(min(max(np.float64(attributes[i, channel]), 0.0), 1.0))
        colors[i, 3] = attributes[i, 5]


def _normals(quads: NDArray[np.float64], a: int, b: int, c: int) -> NDArray[np.float64]:
    """Unit normals (q, 3) of the triangle abc of each quad (q, 4, 3); zero where it has no area."""
    normals = np.cross(quads[:, b] - quads[:, a], quads[:, c] - quads[:, a])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)


def extract_quads(
    neighbors: NDArray[np.int32], intersected: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Quads around the crossed edges whose four voxels exist.

    Parameters
    ----------
    neighbors : int32 (n, 3), :func:`voxlume.ovoxel.index.forward_neighbors`.
    intersected : bool (n, 3).

    Returns
    -------
    quads : int32 (q, 4) voxel numbers, in the order of voxels, then axis.
    axes : int8 (q,), axis of the crossed edge.
    """
    bounds = even_ranges(len(neighbors))
    starts = np.zeros(len(bounds), np.int64)
    _count_quads(neighbors, intersected, bounds, starts[1:])
    starts = np.cumsum(starts)
    quads = np.empty((int(starts[-1]), 4), np.int32)
    axes = np.empty(len(quads), np.int8)
    _write_quads(neighbors, intersected, bounds, starts, quads, axes)
    return quads, axes


@inner_kernel
def quad_at(neighbors: NDArray[np.int32], voxel: int, axis: int) -> tuple[int, int, int]:
    """The three other corners around the edge of ``voxel`` along ``axis``; the second is -1 if any lacks."""
    beside = neighbors[voxel, RING_AXES[axis][0]]
    above = neighbors[voxel, RING_AXES[axis][1]]
    if beside < 0 or above < 0:
        return -1, -1, -1
    return beside, neighbors[beside, RING_AXES[axis][1]], above


@parallel_kernel
def _count_quads(
    neighbors: NDArray[np.int32],
    intersected: NDArray[np.bool_],
    bounds: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    for part in prange(len(counts)):
        count = 0
        for voxel in range(bounds[part], bounds[part + 1]):
            for axis in range(3):
                if intersected[voxel, axis] and quad_at(neighbors, voxel, axis)[1] >= 0:
                    count += 1
        counts[part] = count


@parallel_kernel
def _write_quads(
    neighbors: NDArray[np.int32],
    intersected: NDArray[np.bool_],
    bounds: NDArray[np.int64],
    starts: NDArray[np.int64],
    quads: NDArray[np.int32],
    axes: NDArray[np.int8],
) -> None:
    for part in prange(len(bounds) - 1):
        row = starts[part]
        for voxel in range(bounds[part], bounds[part + 1]):
            for axis in range(3):
                if not intersected[voxel, axis]:
                    continue
                beside, opposite, above = quad_at(neighbors, voxel, axis)
                if opposite >= 0:
                    quads[row, 0] = voxel
                    quads[row, 1] = beside
                    quads[row, 2] = opposite
                    quads[row, 3] = above
                    axes[row] = axis
                    row += 1


@parallel_kernel
def _place_vertices(
    coords: NDArray[np.int32], dual_vertices: NDArray[np.float32], edge: float, vertices: NDArray[np.float32]
) -> None:
    for i in prange(len(coords)):
        for axis in range(3):
            vertices[i, axis] = (coords[i, axis] + np.float64(dual_vertices[i, axis])) * edge - 0.5


@inner_kernel
def _corner(coords: NDArray[np.int32], dual_vertices: NDArray[np.float32], voxel: int) -> Point:
    return (
        coords[voxel, 0] + np.float64(dual_vertices[voxel, 0]),
        coords[voxel, 1] + np.float64(dual_vertices[voxel, 1]),
        coords[voxel, 2] + np.float64(dual_vertices[voxel, 2]),
    )


@inner_kernel
def _normal(a: Point, b: Point, c: Point) -> Point:
    """Normal of the triangle abc with twice its area as length."""
    u0, u1, u2 = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    v0, v1, v2 = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0


@inner_kernel
def _cosine(n: Point, m: Point) -> float:
    """Of the angle between two vectors; 0 where one of them vanishes."""
    lengths = (n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) * (m[0] * m[0] + m[1] * m[1] + m[2] * m[2])
    return (n[0] * m[0] + n[1] * m[1] + n[2] * m[2]) / np.sqrt(lengths) if lengths > 0 else 0.0


@parallel_kernel
def split_quads(
    quads: NDArray[np.int32],
    flipped: NDArray[np.bool_],
    coords: NDArray[np.int32],
    dual_vertices: NDArray[np.float32],
    weights: NDArray[np.float32],
    rule: int,
    faces: NDArray[np.int32],
) -> None:
    for row in prange(len(quads)):
        q = quads[row]
        if rule == BY_WEIGHTS:
            along_first = weights[q[0]] * weights[q[2]] > weights[q[1]] * weights[q[3]]
        else:
            p0 = _corner(coords, dual_vertices, q[0])
            p1 = _corner(coords, dual_vertices, q[1])
            p2 = _corner(coords, dual_vertices, q[2])
            p3 = _corner(coords, dual_vertices, q[3])
            n012 = _normal(p0, p1, p2)
            if rule == BY_FIRST:
                along_first = n012[0] != 0 or n012[1] != 0 or n012[2] != 0
            else:
                first = _cosine(n012, _normal(p0, p2, p3))
                second = _cosine(_normal(p0, p1, p3), _normal(p3, p1, p2))
                along_first = second <= first + AGREEMENT_MARGIN
        if along_first:
            a, b, c, d, e, f = q[0], q[1], q[2], q[0], q[2], q[3]
        else:
            a, b, c, d, e, f = q[0], q[1], q[3], q[3], q[1], q[2]
        if flipped[row]:
            b, c, e, f = c, b, f, e
        faces[2 * row, 0], faces[2 * row, 1], faces[2 * row, 2] = a, b, c
        faces[2 * row + 1, 0], faces[2 * row + 1, 1], faces[2 * row + 1, 2] = d, e, f
