"""The voxeliser's CPU kernels: the grid is cut into tiles of 32^3 voxels, each the work of one thread.

A tile keeps one bit per voxel, so that finding the active voxels, numbering them in lexicographic order
and looking one up need no hash and no sort; its accumulators live only while the tile is worked on.
Results do not depend on the number of threads: within a tile triangles are taken in their order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.ovoxel.dual_vertex import place_dual_vertex
from voxlume.ovoxel.triangle import (
    area_in_box,
    closest_weights,
    order_rows,
    overlap_setup,
    overlaps,
    row_span,
)
from voxlume.texture import MaterialTable, SurfaceArrays, TexturePack, sample_material

TILE = 32
_COLUMNS = TILE * TILE

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class TileLists(NamedTuple):
    """Which triangles touch which tile: tile ids ascending, triangles of tile i in [start[i], start[i+1])."""

    ids: I64
    start: I64
    triangles: NDArray[np.int32]


class Weights(NamedTuple):
    """Weights of the dual vertex's energy terms (face, boundary, regularisation)."""

    face: float
    boundary: float
    regularization: float


class BoundaryEntries(NamedTuple):
    """Voxels on open edges, grouped by tile: local position (k, 3), edge number, and start per tile."""

    cell: NDArray[np.int32]
    edge: NDArray[np.int32]
    start: I64
    points: F64


@intrinsic
def _popcount(typingctx: Any, x: Any) -> Any:
    """Number of set bits of a uint32 (one machine instruction)."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.ctpop(args[0]), ir.IntType(64))

    return types.int64(types.uint32), emit


@inner_kernel
def _tile_range(v: F64, tri: NDArray[np.int32], axis: int, num_tiles: int) -> tuple[int, int]:
    """First and last tile along an axis; empty (1, 0) when the triangle is outside the grid."""
    a, b, c = v[tri[0], axis], v[tri[1], axis], v[tri[2], axis]
    first, last = math.floor(min(a, b, c)), math.floor(max(a, b, c))
    if last < 0 or first >= num_tiles * TILE:
        return 1, 0
    return max(first, 0) // TILE, min(last // TILE, num_tiles - 1)


@inner_kernel
def _tiles_of(v: F64, tri: NDArray[np.int32], num_tiles: int, out: I64, at: int) -> int:
    """Count (``at`` < 0) or write the tiles whose box, grown a little, meets the triangle's plane."""
    x0, x1 = _tile_range(v, tri, 0, num_tiles)
    y0, y1 = _tile_range(v, tri, 1, num_tiles)
    z0, z1 = _tile_range(v, tri, 2, num_tiles)
    if x1 < x0 or y1 < y0 or z1 < z0:
        return 0
    few = (x1 - x0 + 1) * (y1 - y0 + 1) * (z1 - z0 + 1) <= 2
    a, b, c = v[tri[0]], v[tri[1]], v[tri[2]]
    n0 = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
    n1 = (b[2] - a[2]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[2] - a[2])
    n2 = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if not n0 * n0 + n1 * n1 + n2 * n2 > 0:
        return 0  # no area, or so little that its normal has no direction in double precision
    d = n0 * a[0] + n1 * a[1] + n2 * a[2]
    reach = (abs(n0) + abs(n1) + abs(n2)) * (TILE / 2 + 1e-3)
    count = 0
    for x in range(x0, x1 + 1):
        for y in range(y0, y1 + 1):
            for z in range(z0, z1 + 1):
                s = (n0 * (x + 0.5) + n1 * (y + 0.5) + n2 * (z + 0.5)) * TILE - d
                if few or abs(s) <= reach:
                    if at >= 0:
                        out[at + count] = (x * num_tiles + y) * num_tiles + z
                    count += 1
    return count


@parallel_kernel
def _triangle_tiles(v: F64, faces: NDArray[np.int32], num_tiles: int) -> tuple[I64, I64]:
    """Tiles of every triangle: (row starts (m+1,), tile ids)."""
    start = np.zeros(len(faces) + 1, np.int64)
    for f in prange(len(faces)):
        start[f + 1] = _tiles_of(v, faces[f], num_tiles, start, -1)
    for f in range(len(faces)):
        start[f + 1] += start[f]
    ids = np.empty(start[-1], np.int64)
    for f in prange(len(faces)):
        _tiles_of(v, faces[f], num_tiles, ids, start[f])
    return start, ids


@kernel
def _group_by_tile(start: I64, ids: I64, num_tiles: int) -> tuple[I64, I64, NDArray[np.int32]]:
    """Transpose the triangle -> tiles lists (a counting sort, so triangles keep their order)."""
    count = np.zeros(num_tiles**3 + 1, np.int64)
    for i in ids:
        count[i + 1] += 1
    used = np.flatnonzero(count[1:])
    for i in range(num_tiles**3):
        count[i + 1] += count[i]
    starts = np.empty(len(used) + 1, np.int64)
    for k in range(len(used)):
        starts[k] = count[used[k]]
    starts[-1] = len(ids)
    triangles = np.empty(len(ids), np.int32)
    for f in range(len(start) - 1):
        for k in range(start[f], start[f + 1]):
            triangles[count[ids[k]]] = f
            count[ids[k]] += 1
    return used, starts, triangles


def list_tiles(v: F64, faces: NDArray[np.int32], resolution: int) -> TileLists:
    """Assign triangles to the tiles they may touch."""
    num_tiles = -(-resolution // TILE)
    start, ids = _triangle_tiles(v, faces, num_tiles)
    return TileLists(*_group_by_tile(start, ids, num_tiles))


@inner_kernel
def _load(v: F64, face: NDArray[np.int32], tri: F64) -> None:
    for i in range(3):
        for c in range(3):
            tri[i, c] = v[face[i], c]


@inner_kernel
def _mark_crossings(rows: F64, axis: int, lo: I64, hi: I64, cell: I64, mask: NDArray[np.uint32]) -> None:
    """Set the bits of the four voxels around every crossing of grid lines along ``axis`` in the tile."""
    u_axis, v_axis = (axis + 1) % 3, (axis + 2) % 3
    first_q = max(math.floor(rows[0, 1]) + 1, lo[v_axis])
    last_q = min(math.floor(rows[2, 1]), hi[v_axis])
    for q in range(first_q, last_q + 1):
        u0, w0, u1, w1 = row_span(rows, q)
        for p in range(max(math.floor(u0) + 1, lo[u_axis]), min(math.floor(u1), hi[u_axis]) + 1):
            w = w0 + (p - u0) / (u1 - u0) * (w1 - w0)
            cell[axis] = math.floor(w)
            if not lo[axis] <= cell[axis] < hi[axis]:
                continue
            for i in range(p - 1, p + 1):
                for j in range(q - 1, q + 1):
                    if lo[u_axis] <= i < hi[u_axis] and lo[v_axis] <= j < hi[v_axis]:
                        cell[u_axis], cell[v_axis] = i, j
                        column = (cell[0] - lo[0]) * TILE + cell[1] - lo[1]
                        mask[column] |= np.uint32(1) << np.uint32(cell[2] - lo[2])


@inner_kernel
def _tile_bounds(tile: int, num_tiles: int, resolution: int, lo: I64, hi: I64) -> None:
    lo[0] = tile // (num_tiles * num_tiles) * TILE
    lo[1] = tile // num_tiles % num_tiles * TILE
    lo[2] = tile % num_tiles * TILE
    for c in range(3):
        hi[c] = min(lo[c] + TILE, resolution)


@parallel_kernel
def mark_active(
    v: F64,
    faces: NDArray[np.int32],
    ids: I64,
    start: I64,
    triangles: NDArray[np.int32],
    resolution: int,
) -> NDArray[np.uint32]:
    """Active voxels as bits: uint32 (tiles, 32*32), bit z of column x*32+y."""
    num_tiles = -(-resolution // TILE)
    masks = np.zeros((len(ids), _COLUMNS), np.uint32)
    for k in prange(len(ids)):
        lo, hi = np.empty(3, np.int64), np.empty(3, np.int64)
        tri, rows, cell = np.empty((3, 3)), np.empty((3, 3)), np.empty(3, np.int64)
        _tile_bounds(ids[k], num_tiles, resolution, lo, hi)
        for i in range(start[k], start[k + 1]):
            _load(v, faces[triangles[i]], tri)
            for axis in range(3):
                order_rows(tri, axis, rows)
                _mark_crossings(rows, axis, lo, hi, cell, masks[k])
    return masks


@parallel_kernel
def number_voxels(ids: I64, masks: NDArray[np.uint32], resolution: int) -> tuple[NDArray[np.int32], int]:
    """Output position of the first voxel of every tile column, in lexicographic order of all voxels."""
    num_tiles = -(-resolution // TILE)
    columns = np.zeros(resolution * resolution + 1, np.int64)
    # Tiles of one vertical stack are neighbours in the list; a stack is the work of one thread.
    stack_of = ids // num_tiles
    stacks = np.flatnonzero(
        np.concatenate((np.ones(min(len(ids), 1), np.bool_), stack_of[1:] != stack_of[:-1]))
    )
    base = np.empty(masks.shape, np.int32)
    for s in prange(len(stacks)):
        end = stacks[s + 1] if s + 1 < len(stacks) else len(ids)
        x0, y0 = stack_of[stacks[s]] // num_tiles * TILE, stack_of[stacks[s]] % num_tiles * TILE
        for k in range(stacks[s], end):
            for i in range(min(TILE, resolution - x0)):
                for j in range(min(TILE, resolution - y0)):
                    column = (x0 + i) * resolution + y0 + j + 1
                    base[k, i * TILE + j] = columns[column]
                    columns[column] += _popcount(masks[k, i * TILE + j])
    for c in range(resolution * resolution):
        columns[c + 1] += columns[c]
    for k in prange(len(ids)):
        x0, y0 = stack_of[k] // num_tiles * TILE, stack_of[k] % num_tiles * TILE
        for i in range(min(TILE, resolution - x0)):
            for j in range(min(TILE, resolution - y0)):
                base[k, i * TILE + j] += columns[(x0 + i) * resolution + y0 + j]
    return base, columns[-1]


# Columns of a voxel's accumulator row.
_A, _B, _SUM, _COUNT = 0, 6, 9, 12
_ACC = 13


@inner_kernel
def _add_plane(acc: F64, plane: F64, weight: float, x: int, y: int, z: int) -> None:
    """Add weight * (n . (p - v0))^2 with p relative to the voxel's minimum corner."""
    for i in range(6):
        acc[_A + i] += weight * plane[i]
    d = weight * (plane[9] - plane[6] * x - plane[7] * y - plane[8] * z)
    acc[_B] += d * plane[6]
    acc[_B + 1] += d * plane[7]
    acc[_B + 2] += d * plane[8]


@inner_kernel
def _plane_of(tri: F64, normal: F64, plane: F64) -> None:
    """Unit normal of the triangle and (n n^T upper triangle, n, n . v0)."""
    for c in range(3):
        i, j = (c + 1) % 3, (c + 2) % 3
        normal[c] = (tri[1, i] - tri[0, i]) * (tri[2, j] - tri[0, j]) - (tri[1, j] - tri[0, j]) * (
            tri[2, i] - tri[0, i]
        )
    length = math.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    for c in range(3):
        normal[c] /= length
        plane[6 + c] = normal[c]
    plane[0], plane[1], plane[2] = normal[0] * normal[0], normal[0] * normal[1], normal[0] * normal[2]
    plane[3], plane[4], plane[5] = normal[1] * normal[1], normal[1] * normal[2], normal[2] * normal[2]
    plane[9] = normal[0] * tri[0, 0] + normal[1] * tri[0, 1] + normal[2] * tri[0, 2]


@inner_kernel
def _slot(mask: NDArray[np.uint32], first: NDArray[np.int32], column: int, z: int) -> int:
    """Number of an active voxel within its tile."""
    below = (np.uint32(1) << np.uint32(z)) - np.uint32(1)
    return first[column] + _popcount(np.uint32(mask[column] & below))


@inner_kernel
def _add_crossings(
    rows: F64,
    axis: int,
    lo: I64,
    hi: I64,
    mask: NDArray[np.uint32],
    first: NDArray[np.int32],
    plane: F64,
    triangle: int,
    acc: F64,
    flags: NDArray[np.uint8],
    crossed_by: NDArray[np.int32],
    cell: I64,
    point: F64,
) -> None:
    u_axis, v_axis = (axis + 1) % 3, (axis + 2) % 3
    first_q = max(math.floor(rows[0, 1]) + 1, lo[v_axis])
    last_q = min(math.floor(rows[2, 1]), hi[v_axis])
    for q in range(first_q, last_q + 1):
        u0, w0, u1, w1 = row_span(rows, q)
        for p in range(max(math.floor(u0) + 1, lo[u_axis]), min(math.floor(u1), hi[u_axis]) + 1):
            w = w0 + (p - u0) / (u1 - u0) * (w1 - w0)
            cell[axis] = math.floor(w)
            if not lo[axis] <= cell[axis] < hi[axis]:
                continue
            point[axis], point[u_axis], point[v_axis] = w, p, q
            for i in range(p - 1, p + 1):
                for j in range(q - 1, q + 1):
                    if lo[u_axis] <= i < hi[u_axis] and lo[v_axis] <= j < hi[v_axis]:
                        cell[u_axis], cell[v_axis] = i, j
                        column = (cell[0] - lo[0]) * TILE + cell[1] - lo[1]
                        s = _slot(mask, first, column, cell[2] - lo[2])
                        _add_plane(acc[s], plane, 1.0, cell[0], cell[1], cell[2])
                        for c in range(3):
                            acc[s, _SUM + c] += point[c] - cell[c]
                        acc[s, _COUNT] += 1
                        if i < p and j < q:
                            flags[s] |= 1 << axis
                        if crossed_by[s] < 0:
                            crossed_by[s] = triangle


@inner_kernel
def _column_reach(plane: F64, tri: F64, x: int, y: int, lo: int, hi: int) -> tuple[int, int]:
    """Voxels [first, last] of a vertical column that the triangle's plane and bounding box allow."""
    first = max(math.floor(min(tri[0, 2], tri[1, 2], tri[2, 2])), lo)
    last = min(math.floor(max(tri[0, 2], tri[1, 2], tri[2, 2])), hi - 1)
    n2 = abs(plane[8])
    if n2 > 1e-3:
        middle = (plane[9] - plane[6] * (x + 0.5) - plane[7] * (y + 0.5)) / plane[8]
        reach = 0.5 * (abs(plane[6]) + abs(plane[7])) / n2 + 1e-6
        first = max(first, math.floor(middle - reach - 1e-6) - 1)
        last = min(last, math.floor(middle + reach) + 1)
    return first, last


@kernel
def _grow(pairs: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    if count < len(pairs):
        return pairs
    bigger = np.empty((2 * len(pairs), 2), np.int32)
    bigger[:count] = pairs
    return bigger


@kernel
def _collect_overlaps(
    tri: F64,
    normal: F64,
    setup: F64,
    plane: F64,
    lo: I64,
    hi: I64,
    mask: NDArray[np.uint32],
    first: NDArray[np.int32],
    weight: float,
    triangle: int,
    acc: F64,
    pairs: NDArray[np.int32],
    count: int,
) -> tuple[NDArray[np.int32], int]:
    """Add the face term to active voxels that the triangle overlaps and list these pairs."""
    overlap_setup(tri, normal, setup)
    x0, x1 = (
        math.floor(min(tri[0, 0], tri[1, 0], tri[2, 0])),
        math.floor(max(tri[0, 0], tri[1, 0], tri[2, 0])),
    )
    y0, y1 = (
        math.floor(min(tri[0, 1], tri[1, 1], tri[2, 1])),
        math.floor(max(tri[0, 1], tri[1, 1], tri[2, 1])),
    )
    for x in range(max(x0, lo[0]), min(x1, hi[0] - 1) + 1):
        for y in range(max(y0, lo[1]), min(y1, hi[1] - 1) + 1):
            column = (x - lo[0]) * TILE + y - lo[1]
            bits = mask[column]
            if bits == 0:
                continue
            z0, z1 = _column_reach(plane, tri, x, y, lo[2], hi[2])
            for z in range(z0, z1 + 1):
                if (bits >> np.uint32(z - lo[2])) & np.uint32(1) and overlaps(setup, normal, x, y, z):
                    s = _slot(mask, first, column, z - lo[2])
                    _add_plane(acc[s], plane, weight, x, y, z)
                    pairs = _grow(pairs, count)
                    pairs[count, 0], pairs[count, 1] = s, triangle
                    count += 1
    return pairs, count


@inner_kernel
def _add_line(acc: F64, points: F64, weight: float, x: int, y: int, z: int) -> None:
    """Add weight * (squared distance to the line through two points)."""
    t0, t1, t2 = points[1, 0] - points[0, 0], points[1, 1] - points[0, 1], points[1, 2] - points[0, 2]
    length = math.sqrt(t0 * t0 + t1 * t1 + t2 * t2)
    t0, t1, t2 = t0 / length, t1 / length, t2 / length
    p0, p1, p2 = points[0, 0] - x, points[0, 1] - y, points[0, 2] - z
    along = t0 * p0 + t1 * p1 + t2 * p2
    acc[_A] += weight * (1 - t0 * t0)
    acc[_A + 1] -= weight * t0 * t1
    acc[_A + 2] -= weight * t0 * t2
    acc[_A + 3] += weight * (1 - t1 * t1)
    acc[_A + 4] -= weight * t1 * t2
    acc[_A + 5] += weight * (1 - t2 * t2)
    acc[_B] += weight * (p0 - along * t0)
    acc[_B + 1] += weight * (p1 - along * t1)
    acc[_B + 2] += weight * (p2 - along * t2)


@inner_kernel
def _clear(acc: F64, flags: NDArray[np.uint8], crossed_by: NDArray[np.int32], n: int) -> None:
    # In a function of its own: numba 0.68 drops such a slice assignment inside a parallel loop.
    for s in range(n):
        flags[s] = 0
        crossed_by[s] = -1
        for c in range(_ACC):
            acc[s, c] = 0.0


@inner_kernel
def _count_pairs(
    pairs: NDArray[np.int32], count: int, n: int, num_pairs: NDArray[np.int32], material: F64
) -> None:
    """How many triangles share each voxel; clears the material sums."""
    for s in range(n):
        num_pairs[s] = 0
        for c in range(7):
            material[s, c] = 0.0
    for i in range(count):
        num_pairs[pairs[i, 0]] += 1


@inner_kernel
def _solve(acc: F64, regularization: float) -> tuple[float, float, float]:
    # Directions that no plane fixes stay at the mean of the crossings; without regularisation a damping
    # far below the planes' own weight does the same (the limit is the pseudo-inverse around the mean).
    damping = max(regularization * acc[_COUNT], 1e-6 * (acc[_A] + acc[_A + 3] + acc[_A + 5]))
    for c in range(3):
        acc[_B + c] += damping * acc[_SUM + c] / acc[_COUNT]
    acc[_A] += damping
    acc[_A + 3] += damping
    acc[_A + 5] += damping
    return place_dual_vertex(acc[_A : _A + 6], acc[_B : _B + 3])


@inner_kernel
def _add_material(
    v: F64,
    pack: TexturePack,
    table: MaterialTable,
    surface: SurfaceArrays,
    triangle: int,
    alone: bool,
    x: int,
    y: int,
    z: int,
    log2_footprint: float,
    tri: F64,
    scratch: F64,
    out: F64,
) -> None:
    """Sample one triangle's material at its point nearest to the voxel's centre and add it by area."""
    _load(v, surface.faces[triangle], tri)
    w0, w1, w2 = closest_weights(tri, x + 0.5, y + 0.5, z + 0.5)
    values = sample_material(pack, table, surface, triangle, w0, w1, w2, log2_footprint)
    # The floor lets triangles that only touch the voxel speak when no other does.
    weight = 1.0 if alone else area_in_box(tri, x, y, z, scratch[:10], scratch[10:]) + 1e-9
    for c in range(6):
        out[c] += weight * values[c]
    out[6] += weight


@parallel_kernel
def fill_tiles(
    v: F64,
    faces: NDArray[np.int32],
    tiles: TileLists,
    masks: NDArray[np.uint32],
    base: NDArray[np.int32],
    tile_first: int,
    tile_last: int,
    resolution: int,
    weights: Weights,
    boundary: BoundaryEntries,
    with_material: bool,
    pack: TexturePack,
    table: MaterialTable,
    surface: SurfaceArrays,
    log2_footprint: float,
    coords: NDArray[np.int32],
    dual: NDArray[np.float32],
    intersected: NDArray[np.bool_],
    attributes: NDArray[np.float32],
) -> None:
    """Work through tiles [tile_first, tile_last): dual vertices, flags and materials of their voxels."""
    num_tiles = -(-resolution // TILE)
    # Interleaved chunks balance the threads although tiles differ in work.
    num_chunks = min(tile_last - tile_first, 64)
    for chunk in prange(num_chunks):
        lo, hi = np.empty(3, np.int64), np.empty(3, np.int64)
        tri, rows, normal = np.empty((3, 3)), np.empty((3, 3)), np.empty(3)
        plane, setup, scratch = np.empty(10), np.empty((11, 3)), np.empty((20, 3))
        cell, point = np.empty(3, np.int64), np.empty(3)
        first = np.empty(_COLUMNS, np.int32)
        pairs = np.empty((4096, 2), np.int32)
        acc = np.empty((0, _ACC))
        material = np.empty((0, 7))
        flags, crossed_by = np.empty(0, np.uint8), np.empty(0, np.int32)
        num_pairs = np.empty(0, np.int32)
        voxel = np.empty((0, 3), np.int32)
        for k in range(tile_first + chunk, tile_last, num_chunks):
            _tile_bounds(tiles.ids[k], num_tiles, resolution, lo, hi)
            mask = masks[k]
            n = 0
            for column in range(_COLUMNS):
                first[column] = n
                n += _popcount(mask[column])
            if n == 0:
                continue
            if n > len(acc):
                acc, material = np.empty((n, _ACC)), np.empty((n if with_material else 0, 7))
                flags, crossed_by = np.empty(n, np.uint8), np.empty(n, np.int32)
                num_pairs, voxel = np.empty(n, np.int32), np.empty((n, 3), np.int32)
            _clear(acc, flags, crossed_by, n)

            count = 0
            for i in range(tiles.start[k], tiles.start[k + 1]):
                triangle = tiles.triangles[i]
                _load(v, faces[triangle], tri)
                _plane_of(tri, normal, plane)
                for axis in range(3):
                    order_rows(tri, axis, rows)
                    _add_crossings(
                        rows, axis, lo, hi, mask, first, plane, triangle, acc, flags, crossed_by, cell, point
                    )
                pairs, count = _collect_overlaps(
                    tri, normal, setup, plane, lo, hi, mask, first, weights.face, triangle, acc, pairs, count
                )
            for i in range(boundary.start[k], boundary.start[k + 1]):
                x, y, z = boundary.cell[i, 0], boundary.cell[i, 1], boundary.cell[i, 2]
                column = (x - lo[0]) * TILE + y - lo[1]
                if (mask[column] >> np.uint32(z - lo[2])) & np.uint32(1):
                    s = _slot(mask, first, column, z - lo[2])
                    _add_line(acc[s], boundary.points[boundary.edge[i]], weights.boundary, x, y, z)

            s = 0
            for column in range(_COLUMNS):
                bits, at = mask[column], base[k, column]
                for z in range(TILE):
                    if (bits >> np.uint32(z)) & np.uint32(1):
                        voxel[s, 0], voxel[s, 1] = lo[0] + column // TILE, lo[1] + column % TILE
                        voxel[s, 2] = lo[2] + z
                        x, y, d = _solve(acc[s], weights.regularization)
                        dual[at, 0], dual[at, 1], dual[at, 2] = x, y, d
                        for c in range(3):
                            coords[at, c] = voxel[s, c]
                            intersected[at, c] = (flags[s] >> c) & 1 == 1
                        at += 1
                        s += 1
            if not with_material:
                continue

            _count_pairs(pairs, count, n, num_pairs, material)
            for i in range(count):
                s = pairs[i, 0]
                x, y, z = voxel[s, 0], voxel[s, 1], voxel[s, 2]
                alone = num_pairs[s] == 1
                _add_material(
                    v,
                    pack,
                    table,
                    surface,
                    pairs[i, 1],
                    alone,
                    x,
                    y,
                    z,
                    log2_footprint,
                    tri,
                    scratch,
                    material[s],
                )
            s = 0
            for column in range(_COLUMNS):
                at = base[k, column]
                for _ in range(_popcount(mask[column])):
                    if num_pairs[s] == 0:
                        x, y, z = voxel[s, 0], voxel[s, 1], voxel[s, 2]
                        t, row = crossed_by[s], material[s]
                        _add_material(
                            v, pack, table, surface, t, True, x, y, z, log2_footprint, tri, scratch, row
                        )
                    for c in range(6):
                        attributes[at, c] = material[s, c] / material[s, 6]
                    at += 1
                    s += 1
