"""Fill the small holes that a dual grid leaves where a voxel is missing.

A hole lies *in* a surface: the filling continues the faces around it. Openings of an object do not: at the
rim of a cup the filling stands upright on the wall, at the outline of a leaf it would lie on its back. So
only loops are closed that are short and whose filling agrees with its neighbours' normals. The filling is
the triangulation of least area (Barequet and Sharir, 1995), without any edge that the mesh already has.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.mesh.edges import EdgeTable, edge_table, lower_vertex, upper_vertex

MOST_SIDES = 64
"""Of a loop; the triangulation takes the cube of it."""

LEAST_AGREEMENT = 0.5
"""Mean cosine between the filling's normal and those of the faces around it."""


def filling(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int32],
    longest: float,
    table: EdgeTable | None = None,
) -> NDArray[np.int32]:
    """Faces int32 (k, 3) that close the holes whose perimeter is at most ``longest``.

    Parameters
    ----------
    vertices : float64 (n, 3). faces : int32 (m, 3), consistent winding.
    table : of the faces, if the caller has it.
    """
    table = table or edge_table(faces, len(vertices))
    borders = np.flatnonzero(_on_border(table.start, table.half_edges)).astype(np.int32)
    loops, start = _closed_loops(vertices, faces, borders, longest)
    edges_at, upper = _edges_of_vertices(faces, table.start, table.half_edges, len(vertices))
    return _fill(vertices, faces, loops, start, edges_at, upper)


@parallel_kernel
def _on_border(start: NDArray[np.int32], half_edges: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which half-edges have no other on their edge, bool (3 m,)."""
    border = np.zeros(len(half_edges), np.bool_)
    for edge in prange(len(start) - 1):
        if start[edge + 1] - start[edge] == 1:
            border[half_edges[start[edge]]] = True
    return border


@parallel_kernel
def _edges_of_vertices(
    faces: NDArray[np.int32], start: NDArray[np.int32], half_edges: NDArray[np.int32], num_vertices: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Where the edges begin of which each vertex is the smaller one, (n + 1,), and their larger vertices."""
    count = len(start) - 1
    edges_at, upper = np.empty(num_vertices + 1, np.int64), np.empty(count, np.int32)
    for edge in prange(count + 1):
        # Edges are in the order of their smaller vertex.
        before, here = -1, num_vertices
        if edge > 0:
            before = lower_vertex(faces, half_edges[start[edge - 1]])
        if edge < count:
            here = lower_vertex(faces, half_edges[start[edge]])
            upper[edge] = upper_vertex(faces, half_edges[start[edge]])
        for v in range(before + 1, here + 1):
            edges_at[v] = edge
    return edges_at, upper


@kernel
def _closed_loops(
    vertices: NDArray[np.float64], faces: NDArray[np.int32], borders: NDArray[np.int32], longest: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Border half-edges that run around one hole each: ``loops[start[i] : start[i + 1]]``.

    Where several holes meet in a vertex, the walk cuts a loop off whenever it returns to a vertex.
    """
    leaving = np.full(len(vertices), -1, np.int32)
    following = np.empty(len(borders), np.int32)
    for i in range(len(borders) - 1, -1, -1):
        v = faces[borders[i] // 3, borders[i] % 3]
        following[i] = leaving[v]
        leaving[v] = i
    place = np.full(len(vertices), -1, np.int32)
    path = np.empty(len(borders) + 1, np.int32)  # border numbers; place[v] is where the one leaving v stands
    loops = np.empty(len(borders), np.int32)
    start = np.zeros(len(borders) + 1, np.int32)
    count = 0
    for first in range(len(borders)):
        depth = 0
        v = faces[borders[first] // 3, borders[first] % 3]
        while leaving[v] >= 0:
            i = leaving[v]
            leaving[v] = following[i]
            path[depth], place[v] = i, depth
            depth += 1
            v = faces[borders[i] // 3, (borders[i] % 3 + 1) % 3]
            if place[v] >= 0:
                low = place[v]
                perimeter = 0.0
                for j in range(low, depth):
                    h = borders[path[j]]
                    a, b = faces[h // 3, h % 3], faces[h // 3, (h % 3 + 1) % 3]
                    place[a] = -1
                    perimeter += np.sqrt(((vertices[a] - vertices[b]) ** 2).sum())
                if perimeter <= longest and 3 <= depth - low <= MOST_SIDES:
                    for j in range(low, depth):
                        loops[start[count] + j - low] = borders[path[j]]
                    start[count + 1] = start[count] + depth - low
                    count += 1
                depth = low
        for j in range(depth):  # a dead end: the winding around it is not consistent
            h = borders[path[j]]
            place[faces[h // 3, h % 3]] = -1
    return loops[: start[count]], start[: count + 1]


@inner_kernel
def _area_vector(vertices: NDArray[np.float64], a: int, b: int, c: int) -> tuple[float, float, float]:
    ux, uy, uz = (
        vertices[b, 0] - vertices[a, 0],
        vertices[b, 1] - vertices[a, 1],
        vertices[b, 2] - vertices[a, 2],
    )
    wx, wy, wz = (
        vertices[c, 0] - vertices[a, 0],
        vertices[c, 1] - vertices[a, 1],
        vertices[c, 2] - vertices[a, 2],
    )
    return (uy * wz - uz * wy) / 2, (uz * wx - ux * wz) / 2, (ux * wy - uy * wx) / 2


@inner_kernel
def _is_edge(a: int, b: int, edges_at: NDArray[np.int64], upper: NDArray[np.int32]) -> bool:
    for edge in range(edges_at[min(a, b)], edges_at[min(a, b) + 1]):  # noqa: SIM110  numba has no any()
        if upper[edge] == max(a, b):
            return True
    return False


@kernel
def _fill(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int32],
    loops: NDArray[np.int32],
    start: NDArray[np.int32],
    edges_at: NDArray[np.int64],
    upper: NDArray[np.int32],
) -> NDArray[np.int32]:
    out = np.empty((len(loops), 3), np.int32)
    count = 0
    cost = np.empty((MOST_SIDES, MOST_SIDES))
    split = np.empty((MOST_SIDES, MOST_SIDES), np.int32)
    ring = np.empty(MOST_SIDES, np.int32)
    stack = np.empty((2 * MOST_SIDES, 2), np.int32)
    for loop in range(len(start) - 1):
        n = start[loop + 1] - start[loop]
        # Against the direction of the faces around: the filling shares their edges.
        vx = vy = vz = 0.0
        nx = ny = nz = 0.0
        for i in range(n):
            h = loops[start[loop] + n - 1 - i]
            ring[i] = faces[h // 3, h % 3]
            fx, fy, fz = _area_vector(vertices, faces[h // 3, 0], faces[h // 3, 1], faces[h // 3, 2])
            length = np.sqrt(fx * fx + fy * fy + fz * fz)
            if length > 0:
                nx, ny, nz = nx + fx / length, ny + fy / length, nz + fz / length
        for i in range(1, n - 1):
            fx, fy, fz = _area_vector(vertices, ring[0], ring[i], ring[i + 1])
            vx, vy, vz = vx + fx, vy + fy, vz + fz
        area = np.sqrt(vx * vx + vy * vy + vz * vz)
        if area == 0 or nx * vx + ny * vy + nz * vz < LEAST_AGREEMENT * n * area:
            continue
        for gap in range(1, n):
            for i in range(n - gap):
                j = i + gap
                cost[i, j] = 0.0
                if gap == 1:
                    continue
                cost[i, j] = np.inf
                if gap < n - 1 and _is_edge(ring[i], ring[j], edges_at, upper):
                    continue
                for k in range(i + 1, j):
                    fx, fy, fz = _area_vector(vertices, ring[i], ring[k], ring[j])
                    total = cost[i, k] + cost[k, j] + np.sqrt(fx * fx + fy * fy + fz * fz)
                    if total < cost[i, j]:
                        cost[i, j], split[i, j] = total, k
        if cost[0, n - 1] == np.inf:
            continue
        depth = 1
        stack[0, 0], stack[0, 1] = 0, n - 1
        while depth > 0:
            depth -= 1
            i, j = stack[depth]
            if j - i < 2:
                continue
            k = split[i, j]
            out[count, 0], out[count, 1], out[count, 2] = ring[i], ring[k], ring[j]
            count += 1
            stack[depth, 0], stack[depth, 1] = i, k
            stack[depth + 1, 0], stack[depth + 1, 1] = k, j
            depth += 2
    return out[:count].copy()
