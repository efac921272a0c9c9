"""The solid that a surface encloses, on the nodes of a grid: what cannot be reached from outside is inside.

No winding, no field and no closedness is asked of the surface. Parts too thin to have a node inside them,
open sheets among them, get the nodes next to them. The result is well-composed (Latecki, 1997): no two of its
nodes touch only across the diagonal of a square or a cube, so that its boundary is a two-manifold.

Arrays over nodes are dense, uint8 (s, s, s). The voxel (x, y, z) lies between node (x, y, z) and the next
node along each axis; bit a of ``crossed`` says that the surface crosses the edge from a node to the next
along axis a, bit 3 that the voxel is active.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.mesh.components import find_root
from voxlume.ovoxel.index import VoxelIndex

OUTSIDE, SOLID, UNKNOWN, SHEET, WIRE, FILLED = 0, 1, 2, 3, 7, 5
"""Kinds of nodes; bit 0 means inside. ``SHEET`` and ``WIRE``, with bit 1, belong to parts that are too thin
to have nodes of their own, ``FILLED`` was added to make the solid well-composed."""

ACTIVE = 8

PLAIN, NARROW, CROWDED = 0, 1, 2
"""What :func:`look_around` sees at a voxel."""

_SPACING, _AT_SHEET, _AT_SOLID, _AT_BULGE = 0.25, 0.75, 1.0, 1.25
"""Voxels between the points of the surface that are looked at, and from each of them along any axis to a
sheet's node, a solid node, or several solid nodes that stand for it. So no two successive points are held by
nodes that do not touch, yet a bulge that peeps through the side of a voxel is no wire."""

_BULGE_NODES = 3


def solid_nodes(
    points: NDArray[np.float64],
    faces: NDArray[np.int32],
    coords: NDArray[np.int32],
    dual_vertices: NDArray[np.float32],
    intersected: NDArray[np.bool_],
    size: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Which nodes of a grid are inside a surface.

    Parameters
    ----------
    points : float64 (n, 3), in voxel units, at least two voxels away from the border of the grid.
    faces : int32 (m, 3).
    coords, dual_vertices, intersected : its voxels, as :func:`~voxlume.ovoxel.voxelize.voxelize_surface`
        gives them.
    size : voxels along the edge of the grid.

    Returns
    -------
    kind, crossed : uint8 (size + 1,) * 3.
    """
    kind, crossed = reached_nodes(coords, intersected, size)
    _mark_sheets(coords, dual_vertices, intersected, kind)
    _mark_wires(points, faces, kind)
    thin = np.stack(np.unravel_index(np.flatnonzero(kind & 2), kind.shape), axis=1).astype(np.int32)
    around = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), axis=-1).reshape(-1, 3).astype(np.int32)
    _fill_diagonals(np.concatenate([coords, (thin[:, None] - around).reshape(-1, 3)]), kind)
    return kind, crossed


def reached_nodes(
    coords: NDArray[np.int32], intersected: NDArray[np.bool_], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Which nodes are reached from outside without crossing the surface: ``OUTSIDE``, the others ``SOLID``.

    Parameters and results are those of :func:`solid_nodes`.
    """
    kind, crossed = np.zeros((2, size + 1, size + 1, size + 1), np.uint8)
    _mark_crossings(coords, intersected, crossed)
    columns = coords[:, 0].astype(np.int64) * size + coords[:, 1]
    start = np.searchsorted(columns, np.arange(size * size + 1))
    heights = np.ascontiguousarray(coords[:, 2])
    _paint_enclosed(heights, start, _reach_gaps(heights, start, size), kind)
    unknown = _mark_unknown(coords, crossed, kind)
    _spread(unknown, crossed, kind)
    return kind, crossed


@kernel
def _mark_crossings(
    coords: NDArray[np.int32], intersected: NDArray[np.bool_], crossed: NDArray[np.uint8]
) -> None:
    for i in range(len(coords)):
        x, y, z = coords[i, 0], coords[i, 1], coords[i, 2]
        crossed[x, y, z] |= np.uint8(ACTIVE)
        # A flag stands for the edge that starts at the voxel's maximum corner in the other two axes.
        if intersected[i, 0]:
            crossed[x, y + 1, z + 1] |= np.uint8(1)
        if intersected[i, 1]:
            crossed[x + 1, y, z + 1] |= np.uint8(2)
        if intersected[i, 2]:
            crossed[x + 1, y + 1, z] |= np.uint8(4)


@inner_kernel
def _gap(heights: NDArray[np.int32], first: int, last: int, gap: int, size: int) -> tuple[int, int]:
    """Lowest and highest empty voxel of a column below its active voxel number ``gap``."""
    low = heights[gap - 1] + 1 if gap > first else 0
    high = heights[gap] - 1 if gap < last else size - 1
    return low, high


@kernel
def _reach_gaps(heights: NDArray[np.int32], start: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Which gaps between the active voxels of a column are reached from outside, through empty voxels.

    The gap below active voxel i has number i; those below the first and above the last one are outside.
    """
    parents = np.arange(len(heights) + 1).astype(np.int32)
    outside = len(heights)
    for column in range(size * size):
        for side in range(2):
            if (column % size if side else column // size) == size - 1:
                continue
            other = column + (1 if side else size)
            first, last, i = start[column], start[column + 1], start[column]
            other_first, other_last, j = start[other], start[other + 1], start[other]
            while i <= last and j <= other_last:
                low, high = _gap(heights, first, last, i, size)
                other_low, other_high = _gap(heights, other_first, other_last, j, size)
                if max(low, other_low) <= min(high, other_high):
                    a = find_root(parents, outside if i in (first, last) else i)
                    b = find_root(parents, outside if j in (other_first, other_last) else j)
                    parents[min(a, b)] = max(a, b)
                if high <= other_high:
                    i += 1
                else:
                    j += 1
    reached = np.empty(len(heights), np.bool_)
    for i in range(len(heights)):
        reached[i] = find_root(parents, i) == outside
    return reached


@kernel
def _paint_enclosed(
    heights: NDArray[np.int32], start: NDArray[np.int64], reached: NDArray[np.bool_], kind: NDArray[np.uint8]
) -> None:
    """Nodes of empty voxels that cannot be reached are solid."""
    size = len(kind) - 1
    for column in range(size * size):
        for i in range(start[column] + 1, start[column + 1]):
            if not reached[i]:
                x, y = column // size, column % size
                for z in range(heights[i - 1] + 1, heights[i] + 1 if heights[i] > heights[i - 1] + 1 else 0):
                    kind[x, y, z] = kind[x + 1, y, z] = kind[x, y + 1, z] = kind[x + 1, y + 1, z] = SOLID


@kernel
def _mark_unknown(
    coords: NDArray[np.int32], crossed: NDArray[np.uint8], kind: NDArray[np.uint8]
) -> NDArray[np.int32]:
    """Nodes int32 (k, 3) all of whose voxels are active: no empty voxel tells on which side they are."""
    nodes = np.empty(coords.shape, np.int32)
    count = 0
    for i in range(len(coords)):
        x, y, z = coords[i, 0], coords[i, 1], coords[i, 2]
        around = ACTIVE
        for corner in range(8):
            around &= crossed[x - (corner & 1), y - (corner >> 1 & 1), z - (corner >> 2)]
        if around:
            kind[x, y, z] = UNKNOWN
            nodes[count, 0], nodes[count, 1], nodes[count, 2] = x, y, z
            count += 1
    return nodes[:count]


@inner_kernel
def _step(x: int, y: int, z: int, way: int) -> tuple[int, int, int, int, int, int, int]:
    """One of the six neighbours of a node, where the edge to it starts, and the bit of that edge."""
    axis, up = way >> 1, way & 1
    dx, dy, dz = axis == 0, axis == 1, axis == 2
    if up:
        return x + dx, y + dy, z + dz, x, y, z, 1 << axis
    return x - dx, y - dy, z - dz, x - dx, y - dy, z - dz, 1 << axis


@kernel
def _spread(unknown: NDArray[np.int32], crossed: NDArray[np.uint8], kind: NDArray[np.uint8]) -> None:
    """Unknown nodes are as the nearest known ones along edges that the surface does not cross.

    Those that no such path leads to are enclosed by the surface: solid.
    """
    queue = np.empty(unknown.shape, np.int32)
    known = np.empty(len(unknown), np.uint8)
    filled = 0
    for i in range(len(unknown)):
        x, y, z = unknown[i, 0], unknown[i, 1], unknown[i, 2]
        for way in range(6):
            p, q, r, ex, ey, ez, bit = _step(x, y, z, way)
            if not crossed[ex, ey, ez] & bit and kind[p, q, r] != UNKNOWN:
                queue[filled, 0], queue[filled, 1], queue[filled, 2] = x, y, z
                known[filled] = kind[p, q, r]
                filled += 1
                break
    for i in range(filled):
        kind[queue[i, 0], queue[i, 1], queue[i, 2]] = known[i]
    read = 0
    while read < filled:
        x, y, z = queue[read, 0], queue[read, 1], queue[read, 2]
        read += 1
        for way in range(6):
            p, q, r, ex, ey, ez, bit = _step(x, y, z, way)
            if not crossed[ex, ey, ez] & bit and kind[p, q, r] == UNKNOWN:
                kind[p, q, r] = kind[x, y, z]
                queue[filled, 0], queue[filled, 1], queue[filled, 2] = p, q, r
                filled += 1
    for i in range(len(unknown)):
        x, y, z = unknown[i, 0], unknown[i, 1], unknown[i, 2]
        if kind[x, y, z] == UNKNOWN:
            kind[x, y, z] = SOLID


def _mark_sheets(
    coords: NDArray[np.int32],
    dual_vertices: NDArray[np.float32],
    intersected: NDArray[np.bool_],
    kind: NDArray[np.uint8],
) -> None:
    """Where the surface passes between two nodes that are both outside, the nearer one becomes inside.

    Unless there is solid along the whole edge between them: then the edge only grazes a bulge of it.
    """
    index = VoxelIndex(coords)
    step = np.eye(3, dtype=np.int32)
    found = []
    for axis in range(3):
        up, s, t = step[axis], step[(axis + 1) % 3], step[(axis + 2) % 3]
        node = coords[intersected[:, axis]] + s + t
        node = node[(_at(kind, node) == OUTSIDE) & (_at(kind, node + up) == OUTSIDE)]
        grazes = np.zeros(len(node), np.bool_)
        for way in (s, -s, t, -t):
            grazes |= (_at(kind, node + way) == SOLID) & (_at(kind, node + way + up) == SOLID)
        node = node[~grazes]
        # The crossing lies about where the vertices of the four voxels around it do.
        height = np.zeros(len(node))
        for corner in (s + t, t, 0 * s, s):
            height += dual_vertices[index.find(node - corner), axis] / 4
        found.append(node + up * (height > 0.5)[:, None].astype(np.int32))
    for node in found:
        kind[tuple(node.T)] = SHEET


def _at(values: NDArray[np.uint8], nodes: NDArray[np.int32]) -> NDArray[np.uint8]:
    return values[nodes[:, 0], nodes[:, 1], nodes[:, 2]]


@parallel_kernel
def _mark_wires(points: NDArray[np.float64], faces: NDArray[np.int32], kind: NDArray[np.uint8]) -> None:
    """The nodes nearest to those points of the surface that have no inside node beside them.

    This finds wires, which may pass between the lines of the grid.
    """
    for f in prange(len(faces)):
        a, b, c = points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]]
        long = 0.0
        for axis in range(3):
            long = max(long, abs(b[axis] - a[axis]), abs(c[axis] - a[axis]), abs(c[axis] - b[axis]))
        steps = int(np.ceil(long / _SPACING)) + 1
        for i in range(steps + 1):
            for j in range(steps + 1 - i):
                s, t = i / steps, j / steps
                x = a[0] + s * (b[0] - a[0]) + t * (c[0] - a[0])
                y = a[1] + s * (b[1] - a[1]) + t * (c[1] - a[1])
                z = a[2] + s * (b[2] - a[2]) + t * (c[2] - a[2])
                if not _is_held(x, y, z, kind):
                    kind[int(x + 0.5), int(y + 0.5), int(z + 0.5)] = WIRE


@inner_kernel
def _is_held(x: float, y: float, z: float, kind: NDArray[np.uint8]) -> bool:
    """Whether the inside nodes beside a point of the surface stand for it."""
    i, j, k = int(x), int(y), int(z)
    for corner in range(8):  # of its own voxel: nearly always enough
        if kind[i + (corner & 1), j + (corner >> 1 & 1), k + (corner >> 2)] == SOLID:
            return True
    around = 0
    for p in range(int(np.ceil(x - _AT_BULGE)), int(x + _AT_BULGE) + 1):
        for q in range(int(np.ceil(y - _AT_BULGE)), int(y + _AT_BULGE) + 1):
            for r in range(int(np.ceil(z - _AT_BULGE)), int(z + _AT_BULGE) + 1):
                own = kind[p, q, r]
                if own in (SOLID, SHEET):
                    distance = max(abs(p - x), abs(q - y), abs(r - z))
                    around += own == SOLID
                    if distance <= (_AT_SOLID if own == SOLID else _AT_SHEET) or around >= _BULGE_NODES:
                        return True
    return False


@inner_kernel
def _inside_around(kind: NDArray[np.uint8], x: int, y: int, z: int) -> int:
    last = len(kind) - 1
    return (
        (kind[max(x - 1, 0), y, z] & 1)
        + (kind[min(x + 1, last), y, z] & 1)
        + (kind[x, max(y - 1, 0), z] & 1)
        + (kind[x, min(y + 1, last), z] & 1)
        + (kind[x, y, max(z - 1, 0)] & 1)
        + (kind[x, y, min(z + 1, last)] & 1)
    )


@kernel
def _fill_diagonals(voxels: NDArray[np.int32], kind: NDArray[np.uint8]) -> None:
    """Fill nodes until no two of one kind touch only across a diagonal.

    Looks at ``voxels`` (n, 3), all that have nodes of both kinds, and again at those around every node that
    is filled.
    """
    size = len(kind) - 1
    again = np.empty((64, 3), np.int32)
    for first in range(len(voxels)):
        again[0] = voxels[first]
        waiting = 1
        while waiting:
            waiting -= 1
            x, y, z = again[waiting, 0], again[waiting, 1], again[waiting, 2]
            corner = _corner_to_fill(kind, x, y, z)
            if corner < 0:
                continue
            p, q, r = x + (corner & 1), y + (corner >> 1 & 1), z + (corner >> 2)
            kind[p, q, r] = FILLED
            if waiting + 8 > len(again):
                again = np.concatenate((again, np.empty_like(again)))
            for side in range(8):
                x, y, z = p - (side & 1), q - (side >> 1 & 1), r - (side >> 2)
                if min(x, y, z) >= 0 and max(x, y, z) < size:
                    again[waiting, 0], again[waiting, 1], again[waiting, 2] = x, y, z
                    waiting += 1


@inner_kernel
def _corner_to_fill(kind: NDArray[np.uint8], x: int, y: int, z: int) -> int:
    """The corner of a voxel whose filling mends a diagonal, the one with most inside neighbours; or -1."""
    inside, total = 0, 0  # bits: corners that are inside
    for corner in range(8):
        bit = kind[x + (corner & 1), y + (corner >> 1 & 1), z + (corner >> 2)] & 1
        inside |= bit << corner
        total += bit
    if total < 2 or total > 6:
        return -1
    mends = 0
    for axis in range(3):
        s, t = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        for side in range(2):
            a = side << axis
            one, other = 1 << a | 1 << a + s + t, 1 << a + s | 1 << a + t
            if inside & (one | other) == one:
                mends |= other
            elif inside & (one | other) == other:
                mends |= one
    for corner in range(4):
        pair = 1 << corner | 1 << 7 - corner
        if inside == pair or inside == 255 - pair:
            mends |= 255 - inside
    best, most = -1, -1
    for corner in range(8):
        if mends >> corner & 1:
            n = _inside_around(kind, x + (corner & 1), y + (corner >> 1 & 1), z + (corner >> 2))
            if n > most:
                best, most = corner, n
    return best


@parallel_kernel
def boundary_counts(kind: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Edges of the grid between inside and outside, int64 (s,) per layer of x."""
    counts = np.zeros(len(kind), np.int64)
    last = len(kind) - 1
    for x in prange(last):
        count = 0
        for y in range(last):
            for z in range(last):
                own = kind[x, y, z]
                count += ((own ^ kind[x + 1, y, z]) & 1) + ((own ^ kind[x, y + 1, z]) & 1)
                count += (own ^ kind[x, y, z + 1]) & 1
        counts[x] = count
    return counts


@parallel_kernel
def boundary_quads(kind: NDArray[np.uint8], offsets: NDArray[np.int64], quads: NDArray[np.int64]) -> None:
    """For each of these edges the four voxels around it, outward, as numbers (x s + y) s + z of their nodes.

    ``offsets`` (s,) says where each layer begins in ``quads`` (k, 4).
    """
    last, s = len(kind) - 1, len(kind)
    for x in prange(last):
        row = offsets[x]
        for y in range(last):
            for z in range(last):
                own = kind[x, y, z] & 1
                for axis in range(3):
                    other = kind[x + (axis == 0), y + (axis == 1), z + (axis == 2)] & 1
                    if own != other:
                        here = (np.int64(x) * s + y) * s + z
                        a = s if axis == 0 else (1 if axis == 1 else s * s)
                        b = 1 if axis == 0 else (s * s if axis == 1 else s)
                        first, third = (here - b, here - a) if own else (here - a, here - b)
                        quads[row, 0], quads[row, 1] = here - a - b, first
                        quads[row, 2], quads[row, 3] = here, third
                        row += 1


@parallel_kernel
def look_around(
    voxels: NDArray[np.int32], kind: NDArray[np.uint8], crossed: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """What is at each of the voxels (k, 3), and the way from its inside to its outside nodes (k, 3).

    Returns :data:`PLAIN`, :data:`NARROW` where the solid is a single node thick along an axis, or
    :data:`CROWDED` where there is more surface than the boundary of the solid, or a part without solid nodes.
    """
    found = np.full(len(voxels), PLAIN, np.uint8)
    outward = np.zeros((len(voxels), 3))
    for i in prange(len(voxels)):
        for corner in range(8):
            x, y = voxels[i, 0] + (corner & 1), voxels[i, 1] + (corner >> 1 & 1)
            z = voxels[i, 2] + (corner >> 2)
            own = kind[x, y, z]
            sign = 0.5 if own & 1 else -0.5
            outward[i, 0] += -sign if corner & 1 else sign
            outward[i, 1] += -sign if corner >> 1 & 1 else sign
            outward[i, 2] += -sign if corner >> 2 else sign
            if own in (SHEET, WIRE, FILLED):
                found[i] = CROWDED
            for axis in range(3):
                dx, dy, dz = axis == 0, axis == 1, axis == 2
                above = kind[x + dx, y + dy, z + dz]
                if own & 1 and not (above | kind[x - dx, y - dy, z - dz]) & 1:
                    found[i] = max(found[i], NARROW)
                if not corner >> axis & 1 and crossed[x, y, z] >> axis & 1 and not (own ^ above) & 1:
                    found[i] = CROWDED
    return found, outward
