"""Consistent winding for the quads of a dual grid, which by themselves carry no orientation.

Quads that share an edge with exactly one other quad must run along it in opposite directions. The
relations of a connected component along a spanning tree of such edges fix its winding up to one sign.
The tree is the minimal one by edge number (Kruskal), so that every implementation agrees on the winding
even where a component is not orientable and some edge has to stay wrong.

The sign comes from what can be seen from outside: on every grid line the first crossing must face back along
the line and the last one forward, and each such quad has a vote. Components without a majority get a positive
volume as seen from their own centre, which turns hidden closed surfaces outwards and hidden open ones to
their convex side; of flat sheets the largest component of the normal becomes positive.

Every edge of a quad joins two voxels that are neighbours along one axis, so the number of an edge is
3 * (lower voxel) + axis and adjacency is a table, not a search.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel

FLAT = 1e-3
"""Volume over area^1.5 below which a surface counts as flat, and area vector over area below which it counts
as closed."""

LINE_BITS = 20
"""Enough for a coordinate below :data:`voxlume.ovoxel.index.MAX_RESOLUTION`."""

SIDE_STEPS = (0, 1, 0, 1)
"""Which of a quad's two axes its sides 01, 12, 32, 03 run along."""


def flipped_quads(
    quads: NDArray[np.int32],
    axes: NDArray[np.int8],
    coords: NDArray[np.int32],
    vertices: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Which quads must be reversed to make the winding consistent and outward.

    Parameters
    ----------
    quads : int32 (q, 4), corners as :func:`voxlume.ovoxel.extract.extract_quads` gives them.
    axes : int8 (q,), the axis of the voxel edge each quad crosses.
    coords : int32 (n, 3), the voxels.
    vertices : float32 (n, 3), their dual vertices in the model frame.

    Returns
    -------
    bool (q,).
    """
    if not len(quads):
        return np.zeros(0, np.bool_)
    links = _edge_links(quads, axes, len(vertices))
    flipped, component, count = _propagate(links, len(quads))
    seen = _seen_from_outside(_line_keys(quads, axes, coords))
    moments = _component_moments(quads, vertices, seen, flipped, component, count)
    return flipped ^ inward_components(moments)[component]


def flipped_quads_reference(
    quads: NDArray[np.int32],
    axes: NDArray[np.int8],
    coords: NDArray[np.integer],
    vertices: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Slow twin of :func:`flipped_quads`."""
    if not len(quads):
        return np.zeros(0, np.bool_)
    sides: dict[int, list[tuple[int, bool]]] = {}
    for number, ((a, b, _, d), axis) in enumerate(zip(quads.tolist(), axes.tolist(), strict=True)):
        s, t = (axis + 2) % 3, (axis + 1) % 3
        for edge, backwards in ((3 * a + s, False), (3 * b + t, False), (3 * d + s, True), (3 * a + t, True)):
            sides.setdefault(edge, []).append((number, backwards))

    # Kruskal with whole lists of members instead of a union-find forest.
    flipped = np.zeros(len(quads), np.bool_)
    group = np.arange(len(quads))
    members = [[i] for i in range(len(quads))]
    for edge in sorted(sides):
        if len(sides[edge]) != 2:
            continue
        (i, i_backwards), (j, j_backwards) = sides[edge]
        if group[i] == group[j]:
            continue
        keep, gone = sorted((int(group[i]), int(group[j])))
        if (i_backwards ^ flipped[i]) == (j_backwards ^ flipped[j]):
            flipped[members[gone]] ^= True
        group[members[gone]] = keep
        members[keep] += members[gone]
    component = np.unique(group, return_inverse=True)[1]

    lines: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for number, (voxel, axis) in enumerate(zip(quads[:, 0].tolist(), axes.tolist(), strict=True)):
        place = coords[voxel].tolist()
        line = (axis, place[(axis + 1) % 3], place[(axis + 2) % 3])
        lines.setdefault(line, []).append((place[axis], number))
    seen = np.zeros(len(quads))
    for crossings in lines.values():
        seen[min(crossings)[1]] += 1
        seen[max(crossings)[1]] -= 1

    p = vertices[quads].astype(np.float64)
    sign = np.where(flipped, -1.0, 1.0)
    vector = np.cross(p[:, 2] - p[:, 0], p[:, 3] - p[:, 1]) / 2
    cone = ((np.cross(p[:, 1], p[:, 2]) + np.cross(p[:, 2], p[:, 3])) * p[:, 0]).sum(1) / 6
    one, area = np.ones(len(quads)), np.linalg.norm(vector, axis=1)
    rows = np.column_stack([seen * sign, cone * sign, vector * sign[:, None], p.mean(1), area, one])
    moments = np.zeros((component.max() + 1, 10))
    np.add.at(moments, component, rows)
    return flipped ^ inward_components(moments)[component]


def inward_components(moments: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which components face inwards, bool (k,).

    ``moments`` (k, 10) are sums over each component's quads: votes for its winding as it is, volume of the
    cones from the origin, area vector (3), mean corner (3), area, number of quads.
    """
    votes, volume, vector, area = moments[:, 0], moments[:, 1], moments[:, 2:5], moments[:, 8]
    center = moments[:, 5:8] / moments[:, 9:]
    volume = volume - (center * vector).sum(1) / 3
    closed = np.linalg.norm(vector, axis=1) <= FLAT * area
    flat = ~closed & (np.abs(volume) <= FLAT * area**1.5)
    largest = np.take_along_axis(vector, np.abs(vector).argmax(1)[:, None], 1)[:, 0]
    return np.where(votes != 0, votes, np.where(flat, largest, volume)) < 0


def _seen_from_outside(keys: NDArray[np.int64]) -> NDArray[np.int8]:
    """+1 for the first quad of its grid line, -1 for the last, 0 between and for the only one, int8 (q,)."""
    order = np.argsort(keys)
    line = keys[order] >> LINE_BITS
    change = np.concatenate([[True], line[1:] != line[:-1], [True]]).view(np.int8)
    seen = np.empty(len(keys), np.int8)
    seen[order] = change[:-1] - change[1:]
    return seen


@parallel_kernel
def _line_keys(
    quads: NDArray[np.int32], axes: NDArray[np.int8], coords: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Keys int64 (q,) that sort quads by the grid line they cross, then by place on it."""
    keys = np.empty(len(quads), np.int64)
    for row in prange(len(quads)):
        voxel, axis = quads[row, 0], np.int64(axes[row])
        p, q = np.int64(coords[voxel, (axis + 1) % 3]), np.int64(coords[voxel, (axis + 2) % 3])
        keys[row] = (((((axis << LINE_BITS) | p) << LINE_BITS) | q) << LINE_BITS) | coords[voxel, axis]
    return keys


@kernel
def _edge_links(quads: NDArray[np.int32], axes: NDArray[np.int8], num_voxels: int) -> NDArray[np.int32]:
    """int32 (e, 2), ascending by edge: the two quads of each manifold edge, as 2 * quad + backwards."""
    table = np.full((3 * num_voxels, 2), -1, np.int32)
    count = 0
    for row in range(len(quads)):
        for side in range(4):
            corner = (0, 1, 3, 0)[side]
            axis = (axes[row] + 2 - SIDE_STEPS[side]) % 3
            edge = 3 * quads[row, corner] + axis
            entry = 2 * row + (side >= 2)
            if table[edge, 0] == -1:
                table[edge, 0] = entry
            elif table[edge, 1] == -1:
                table[edge, 1] = entry
                count += 1
            elif table[edge, 1] >= 0:
                table[edge, 1] = -2
                count -= 1
    links = np.empty((count, 2), np.int32)
    row = 0
    for edge in range(len(table)):
        if table[edge, 1] >= 0:
            links[row] = table[edge]
            row += 1
    return links


@inner_kernel
def parity_root(parents: NDArray[np.int32] | NDArray[np.int64], item: int) -> tuple[int, int]:
    """Root of ``item`` and its parity to it; a parent is stored as 2 * parent + parity."""
    parity = 0
    while parents[item] >> 1 != item:
        above = parents[item]
        parents[item] = parents[above >> 1] ^ (above & 1)  # halve the path
        parity ^= parents[item] & 1
        item = parents[item] >> 1
    return item, parity


@kernel
def _propagate(links: NDArray[np.int32], num_quads: int) -> tuple[NDArray[np.bool_], NDArray[np.int32], int]:
    """Flip of each quad against its component's first quad, component number, number of components."""
    parents = (2 * np.arange(num_quads)).astype(np.int32)
    for row in range(len(links)):
        i, j = links[row]
        i_root, i_parity = parity_root(parents, i >> 1)
        j_root, j_parity = parity_root(parents, j >> 1)
        if i_root != j_root:
            # Opposite directions along the edge are right; equal ones make one of the two flip.
            relation = i_parity ^ j_parity ^ (1 ^ (i & 1) ^ (j & 1))
            if i_root > j_root:
                i_root, j_root = j_root, i_root
            parents[j_root] = 2 * i_root + relation
    flipped = np.empty(num_quads, np.bool_)
    component = np.empty(num_quads, np.int32)
    count = 0
    for quad in range(num_quads):
        root, parity = parity_root(parents, quad)
        flipped[quad] = parity == 1
        if root == quad:
            component[quad] = count
            count += 1
        else:
            component[quad] = component[root]
    return flipped, component, count


@kernel
def _component_moments(
    quads: NDArray[np.int32],
    vertices: NDArray[np.float32],
    seen: NDArray[np.int8],
    flipped: NDArray[np.bool_],
    component: NDArray[np.int32],
    count: int,
) -> NDArray[np.float64]:
    """The sums that :func:`inward_components` takes."""
    moments = np.zeros((count, 10))
    p = np.empty((4, 3))
    vector = np.empty(3)
    for row in range(len(quads)):
        for corner in range(4):
            for i in range(3):
                p[corner, i] = vertices[quads[row, corner], i]
        sign = -1.0 if flipped[row] else 1.0
        m = moments[component[row]]
        # As the extraction gives it, a quad faces back along its line.
        m[0] += sign * seen[row]
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            vector[i] = (p[2, j] - p[0, j]) * (p[3, k] - p[1, k]) - (p[2, k] - p[0, k]) * (p[3, j] - p[1, j])
            first = p[1, j] * p[2, k] - p[1, k] * p[2, j]
            second = p[2, j] * p[3, k] - p[2, k] * p[3, j]
            m[1] += sign * p[0, i] * (first + second) / 6
            m[2 + i] += sign * vector[i] / 2
            m[5 + i] += (p[0, i] + p[1, i] + p[2, i] + p[3, i]) / 4
        m[8] += np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2) / 2
        m[9] += 1
    return moments
