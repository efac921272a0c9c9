"""Charts to the plane: straight projections, cut again wherever two parts of a chart would overlap.

A connected chart whose faces all look towards the projection's axis covers the plane once exactly if the
faces around each of its vertices lie beside each other and its border does not cross itself, so that is
what is tested. A chart that fails is divided between the two faces that lie above each other: every face
goes to the one that is fewer faces away.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.mesh.charts import vector_lengths
from voxlume.mesh.radix import run_starts, stable_order

_CUTS = 40  # rounds of cutting, each at least a division in two of every chart that failed
_CUTS_AT_CROSSINGS = 16  # rounds that divide between crossing places; later ones halve the chart
_TESTS_PER_EDGE = 256  # pairs tested per border edge before a chart counts as too tangled to search
_ANGLES = 32  # directions in a quarter turn that are tried for the smallest bounding box
_TILT = 1e-3  # see _plane_axes
_LONGEST = 1.05  # of the root of the whole area: a longer chart would decide the scale of all the others
_SLENDER = 2.0  # height over width from which on a chart is worth cutting
_UNITS = 64  # of parallel work, dealt out in turn because the large charts come first
_AROUND = 15  # faces around a vertex that are sorted one by one
_SLACK = 1e-5  # radians by which faces around a vertex may overlap: rounding in slivers


def flatten(
    corners: NDArray[np.float64],
    area_vectors: NDArray[np.float64],
    opposite: NDArray[np.int32],
    welded: NDArray[np.int32],
    charts: NDArray[np.int32],
    axes: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Project charts, dividing those that would overlap themselves.

    Parameters
    ----------
    corners : float64 (m, 3, 3), positions.
    area_vectors : float64 (m, 3), normals times areas.
    opposite : int32 (3 m,), :func:`voxlume.mesh.adjacency.opposite_edges`.
    welded : int32 (m, 3), the faces' vertices, equal where positions are equal.
    charts, axes : int32 (m,) and float64 (c, 3), :func:`voxlume.mesh.charts.cluster_faces`.

    Returns
    -------
    flat : float64 (m, 3, 2), the corners in the plane, in units of length: x to the right, y downwards as
        seen from outside; each chart has the area that its faces have in space and is higher than wide.
    charts : int32 (m,), numbered by their first faces.
    """
    flat = np.empty((len(corners), 3, 2))
    _project(corners, charts, *_plane_axes(axes), flat)
    charts = charts.copy()
    count = len(axes)
    suspects = np.arange(len(charts))  # faces of charts that may overlap themselves
    for attempt in range(_CUTS):
        order, starts = _runs_of_charts(suspects, charts)
        crossings = _find_crossings(flat, welded, opposite, charts, order, starts)
        tangled = crossings[:, 0] >= 0
        if not tangled.any():
            break
        side = _divide(opposite, charts, order, starts, crossings, attempt >= _CUTS_AT_CROSSINGS)
        suspects = order[np.repeat(tangled, np.diff(starts))]
        count = _separate(suspects, opposite, side, charts, count)
    charts, count = _by_first_face(charts, count)
    order, starts = group(charts, count)
    _scale_and_turn(flat, area_vectors, opposite, charts, order, starts)
    longest = _LONGEST * math.sqrt(float(vector_lengths(area_vectors).sum()))
    side = _slabs(flat, charts, extents(flat, order, starts), longest)
    if side.any():
        charts, count = _by_first_face(charts, _separate(order, opposite, side, charts, count))
        order, starts = group(charts, count)
        _scale_and_turn(flat, area_vectors, opposite, charts, order, starts)
    return flat, charts


def _slabs(
    flat: NDArray[np.float64], charts: NDArray[np.int32], extent: NDArray[np.float64], longest: float
) -> NDArray[np.uint8]:
    """The slab of each face: charts much higher than wide are cut to be no higher than ``longest``."""
    width, height = extent.T
    # A chart that is most of the surface is as high as need be.
    cut = (height > _SLENDER * width) & (height > longest) & (longest > 0)
    if not cut.any():
        return np.zeros(len(charts), np.uint8)
    slabs = np.ones(len(height))
    slabs[cut] = np.minimum(np.ceil(height[cut] / longest), 255)
    share = flat[:, :, 1].mean(axis=1) / np.maximum(height, 1e-300)[charts]
    return np.minimum(share * slabs[charts], slabs[charts] - 1).astype(np.uint8)


@parallel_kernel
def extents(
    flat: NDArray[np.float64], order: NDArray[np.int64], starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Width and height (c, 2) of every chart, from :func:`flatten` and :func:`group`."""
    extent = np.zeros((len(starts) - 1, 2))
    for unit in prange(_UNITS):
        for chart in range(unit, len(extent), _UNITS):
            for i in range(starts[chart], starts[chart + 1]):
                for k in range(3):
                    for c in range(2):
                        extent[chart, c] = max(extent[chart, c], flat[order[i], k, c])
    return extent


def _runs_of_charts(
    faces: NDArray[np.int64], charts: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """These faces by their charts: those of run i are ``order[starts[i] : starts[i + 1]]``, ascending."""
    labels = charts[faces]
    order = stable_order(labels)
    return faces[order], run_starts(labels, order)


def _separate(
    faces: NDArray[np.int64],
    opposite: NDArray[np.int32],
    side: NDArray[np.uint8],
    charts: NDArray[np.int32],
    count: int,
) -> int:
    """Give every connected part of these faces' charts on one side of the cut a number from ``count`` on.

    ``charts`` changes in place; the numbers of the charts that were divided are free then.
    """
    order, starts = _runs_of_charts(faces, charts)
    parts = np.zeros(len(starts), np.int64)
    _number_parts(opposite, side, order, starts, charts, parts[1:])
    first = count + np.cumsum(parts)
    charts[order] = np.repeat(first[:-1], np.diff(starts)).astype(np.int32) - 1 - charts[order]
    return int(first[-1])


@kernel
def _by_first_face(charts: NDArray[np.int32], count: int) -> tuple[NDArray[np.int32], int]:
    """Charts numbered by their first faces, and how many there are."""
    number, result = np.full(count, -1, np.int32), np.empty_like(charts)
    used = 0
    for f in range(len(charts)):
        if number[charts[f]] < 0:
            number[charts[f]] = used
            used += 1
        result[f] = number[charts[f]]
    return result, used


def group(labels: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Members of label i are ``order[starts[i] : starts[i + 1]]``, ascending."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=count))]).astype(np.int64)
    return stable_order(labels), starts


def _plane_axes(axes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors to the right and downwards (c, 3) for someone who looks at the surface from outside.

    The axes are tilted a little: otherwise layers of a chart that lie exactly above each other, as in
    models made of boxes, would touch without crossing.
    """
    helper = np.where(np.abs(axes[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    right = np.cross(helper, axes)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(right, axes)
    return right + _TILT * axes, down + _TILT * 0.618 * axes


@parallel_kernel
def _project(
    corners: NDArray[np.float64],
    charts: NDArray[np.int32],
    right: NDArray[np.float64],
    down: NDArray[np.float64],
    flat: NDArray[np.float64],
) -> None:
    for f in prange(len(corners)):
        chart = charts[f]
        for k in range(3):
            x, y = 0.0, 0.0
            for c in range(3):
                x += corners[f, k, c] * right[chart, c]
                y += corners[f, k, c] * down[chart, c]
            flat[f, k, 0] = x
            flat[f, k, 1] = y


@kernel
def border_of(
    members: NDArray[np.int64], opposite: NDArray[np.int32], charts: NDArray[np.int32]
) -> NDArray[np.int64]:
    """The directed edges of a chart's faces that have no face of the same chart across."""
    border = np.empty(3 * len(members), np.int64)
    count = 0
    for f in members:
        for k in range(3):
            across = opposite[3 * f + k]
            if across < 0 or charts[across // 3] != charts[f]:
                border[count] = 3 * f + k
                count += 1
    return border[:count].copy()


@inner_kernel
def _left_of(ax: float, ay: float, bx: float, by: float, px: float, py: float) -> float:
    return (bx - ax) * (py - ay) - (by - ay) * (px - ax)


@inner_kernel
def _cross(flat: NDArray[np.float64], welded: NDArray[np.int32], e: int, g: int) -> bool:
    """Whether two edges that share no vertex run through each other."""
    f, k, h, i = e // 3, e % 3, g // 3, g % 3
    m, j = (k + 1) % 3, (i + 1) % 3
    a, b, c, d = welded[f, k], welded[f, m], welded[h, i], welded[h, j]
    if a in (c, d) or b in (c, d):
        return False
    ax, ay, bx, by = flat[f, k, 0], flat[f, k, 1], flat[f, m, 0], flat[f, m, 1]
    cx, cy, dx, dy = flat[h, i, 0], flat[h, i, 1], flat[h, j, 0], flat[h, j, 1]
    if max(ax, bx) < min(cx, dx) or max(cx, dx) < min(ax, bx):
        return False
    if max(ay, by) < min(cy, dy) or max(cy, dy) < min(ay, by):
        return False
    one = _left_of(ax, ay, bx, by, cx, cy) * _left_of(ax, ay, bx, by, dx, dy)
    two = _left_of(cx, cy, dx, dy, ax, ay) * _left_of(cx, cy, dx, dy, bx, by)
    return one < 0 and two < 0


@kernel
def _cells_crossed(
    flat: NDArray[np.float64],
    border: NDArray[np.int64],
    low: NDArray[np.float64],
    cell: float,
    columns: int,
    starts: NDArray[np.int64],
    entries: NDArray[np.int64],
) -> None:
    """Count (without entries) or list the border edges by the grid cell they pass through."""
    listing = len(entries) > 0
    rows = (len(starts) - 1) // columns
    for n in range(len(border)):
        f, k = border[n] // 3, border[n] % 3
        m = (k + 1) % 3
        ax, ay = (flat[f, k, 0] - low[0]) / cell, (flat[f, k, 1] - low[1]) / cell
        bx, by = (flat[f, m, 0] - low[0]) / cell, (flat[f, m, 1] - low[1]) / cell
        if ax > bx:
            ax, ay, bx, by = bx, by, ax, ay
        first, last = min(int(ax), columns - 1), min(int(bx), columns - 1)
        slope = (by - ay) / (bx - ax) if bx > ax else 0.0
        for column in range(first, last + 1):
            y0 = ay if column == first else ay + (column - ax) * slope
            y1 = by if column == last else ay + (column + 1 - ax) * slope
            r0 = min(max(math.floor(min(y0, y1) - 1e-9), 0), rows - 1)
            r1 = min(max(math.floor(max(y0, y1) + 1e-9), 0), rows - 1)
            for row in range(r0, r1 + 1):
                place = row * columns + column
                if listing:
                    starts[place] -= 1
                    entries[starts[place]] = border[n]
                else:
                    starts[place] += 1


@kernel
def _find_crossing(
    flat: NDArray[np.float64], welded: NDArray[np.int32], border: NDArray[np.int64]
) -> tuple[int, int]:
    """Two faces whose border edges cross; (-1, -1) if there are none, (-2, -2) if the search gave up."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    total = 0.0
    for e in border:
        f, k = e // 3, e % 3
        m = (k + 1) % 3
        total += math.hypot(flat[f, m, 0] - flat[f, k, 0], flat[f, m, 1] - flat[f, k, 1])
        for c in range(2):
            low[c] = min(low[c], flat[f, k, c])
            high[c] = max(high[c], flat[f, k, c])
    n = len(border)
    width, height = high[0] - low[0], high[1] - low[1]
    # Edges pass through 3 n cells at most and there are 4 n cells at most.
    cell = max(total / n, math.sqrt(width * height / (4 * n)), width / (4 * n), height / (4 * n))
    if not cell > 0:
        return -1, -1
    columns, rows = int(width / cell) + 1, int(height / cell) + 1
    starts = np.zeros(columns * rows + 1, np.int64)
    _cells_crossed(flat, border, low, cell, columns, starts, np.empty(0, np.int64))
    starts = np.cumsum(starts)
    entries = np.empty(starts[-1], np.int64)
    _cells_crossed(flat, border, low, cell, columns, starts, entries)
    tests_left = _TESTS_PER_EDGE * n
    for place in range(len(starts) - 1):
        for i in range(starts[place], starts[place + 1]):
            for j in range(i + 1, starts[place + 1]):
                if _cross(flat, welded, entries[i], entries[j]):
                    return entries[i] // 3, entries[j] // 3
            tests_left -= starts[place + 1] - i
            if tests_left < 0:
                return -2, -2
    return -1, -1


@kernel
def _find_fold(
    flat: NDArray[np.float64], welded: NDArray[np.int32], members: NDArray[np.int64]
) -> tuple[int, int]:
    """Two faces of a chart that overlap at a vertex of both; (-1, -1) if there are none."""
    n = 3 * len(members)
    vertex = np.empty(n, np.int32)
    begin, end = np.empty(n), np.empty(n)
    for i in range(n):
        f, k = members[i // 3], i % 3
        m, j = (k + 1) % 3, (k + 2) % 3
        x, y = flat[f, k, 0], flat[f, k, 1]
        ux, uy, vx, vy = flat[f, m, 0] - x, flat[f, m, 1] - y, flat[f, j, 0] - x, flat[f, j, 1] - y
        vertex[i] = welded[f, k]
        # v is drawn downwards, so faces run the other way round.
        begin[i] = math.atan2(vy, vx)
        end[i] = begin[i] + math.atan2(vx * uy - vy * ux, vx * ux + vy * uy)
    order = np.argsort(vertex)
    first = 0
    while first < n:
        last = first + 1
        while last < n and vertex[order[last]] == vertex[order[first]]:
            last += 1
        around = order[first:last]
        if last - first > _AROUND:
            around = around[np.argsort(begin[around])]
        else:  # without the arrays that this makes, which are what takes the time
            for i in range(1, len(around)):
                moved, j = around[i], i - 1
                while j >= 0 and begin[around[j]] > begin[moved]:
                    around[j + 1] = around[j]
                    j -= 1
                around[j + 1] = moved
        before = -1
        for i in range(len(around)):
            corner = around[i]
            if not end[corner] - begin[corner] > _SLACK:
                continue  # no area, or turned over by rounding
            if before >= 0 and begin[corner] < end[before] - _SLACK:
                return members[before // 3], members[corner // 3]
            if before < 0 or end[corner] > end[before]:
                before = corner
        for corner in around:
            wide = end[corner] - begin[corner] > _SLACK
            if before >= 0 and wide and corner != before:
                if begin[corner] + 2 * math.pi < end[before] - _SLACK:
                    return members[before // 3], members[corner // 3]
                break
        first = last
    return -1, -1


@parallel_kernel
def _find_crossings(
    flat: NDArray[np.float64],
    welded: NDArray[np.int32],
    opposite: NDArray[np.int32],
    charts: NDArray[np.int32],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Per run of a chart's faces two between which it has to be cut, int64 (c, 2), or -1."""
    found = np.full((len(starts) - 1, 2), -1, np.int64)
    for unit in prange(_UNITS):
        for run in range(unit, len(found), _UNITS):
            members = order[starts[run] : starts[run + 1]]
            if len(members) < 2:
                continue
            first, second = _find_fold(flat, welded, members)
            if first < 0:
                border = border_of(members, opposite, charts)
                if len(border) >= 4:
                    first, second = _find_crossing(flat, welded, border)
            if first == -2:
                first, second = members[0], members[len(members) - 1]
            found[run, 0] = first
            found[run, 1] = second
    return found


@parallel_kernel
def _divide(
    opposite: NDArray[np.int32],
    charts: NDArray[np.int32],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    crossings: NDArray[np.int64],
    halve: bool,
) -> NDArray[np.uint8]:
    """On which side of the cut each face of the charts to be cut lies, uint8 (m,)."""
    side = np.zeros(len(charts), np.uint8)
    for run in prange(len(crossings)):
        if crossings[run, 0] < 0:
            continue
        members = order[starts[run] : starts[run + 1]]
        chart = charts[members[0]]
        if halve:
            for f in members[len(members) // 2 :]:
                side[f] = 1
            continue
        # Breadth first from both faces at once; 2 and 3 mark what has been reached.
        queue = np.empty(len(members), np.int64)
        queue[0], queue[1] = crossings[run, 0], crossings[run, 1]
        side[queue[0]], side[queue[1]] = 2, 3
        head, tail = 0, 2
        while head < tail:
            f = queue[head]
            head += 1
            for k in range(3):
                across = opposite[3 * f + k]
                if across >= 0 and charts[across // 3] == chart and side[across // 3] < 2:
                    side[across // 3] = side[f]
                    queue[tail] = across // 3
                    tail += 1
    return side


@parallel_kernel
def _number_parts(
    opposite: NDArray[np.int32],
    side: NDArray[np.uint8],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    charts: NDArray[np.int32],
    parts: NDArray[np.int64],
) -> None:
    """Number the connected parts of every run of faces -1, -2, ... in ``charts``; how many there are."""
    for unit in prange(_UNITS):
        for run in range(unit, len(parts), _UNITS):
            members = order[starts[run] : starts[run + 1]]
            chart = charts[members[0]]
            stack = np.empty(len(members), np.int64)
            count = 0
            for seed in members:
                if charts[seed] != chart:
                    continue
                count += 1
                charts[seed] = -count
                stack[0] = seed
                height = 1
                while height:
                    height -= 1
                    f = stack[height]
                    for k in range(3):
                        across = opposite[3 * f + k]
                        if across < 0:
                            continue
                        g = across // 3
                        if charts[g] == chart and side[g] == side[f]:
                            charts[g] = -count
                            stack[height] = g
                            height += 1
            parts[run] = count


@parallel_kernel
def _scale_and_turn(
    flat: NDArray[np.float64],
    area_vectors: NDArray[np.float64],
    opposite: NDArray[np.int32],
    charts: NDArray[np.int32],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> None:
    """Give every chart its area in space, its smallest bounding box and its origin at the box's corner."""
    for unit in prange(_UNITS):
        for chart in range(unit, len(starts) - 1, _UNITS):
            members = order[starts[chart] : starts[chart + 1]]
            _scale_and_turn_chart(flat, area_vectors, opposite, charts, members)


@kernel
def _scale_and_turn_chart(
    flat: NDArray[np.float64],
    area_vectors: NDArray[np.float64],
    opposite: NDArray[np.int32],
    charts: NDArray[np.int32],
    members: NDArray[np.int64],
) -> None:
    in_space, in_plane = 0.0, 0.0
    for f in members:
        v = area_vectors[f]
        in_space += math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
        p = flat[f]
        in_plane += abs(_left_of(p[0, 0], p[0, 1], p[1, 0], p[1, 1], p[2, 0], p[2, 1])) / 2
    scale = math.sqrt(in_space / in_plane) if in_plane > 0 and in_space > 0 else 1.0
    scale = min(scale, 2.0)
    border = border_of(members, opposite, charts)
    best, turn = np.inf, 0.0
    for n in range(_ANGLES):
        angle = n * math.pi / 2 / _ANGLES
        x0, x1, y0, y1 = _box(flat, border, math.cos(angle), math.sin(angle))
        if (x1 - x0) * (y1 - y0) < best:
            best = (x1 - x0) * (y1 - y0)
            turn = angle if y1 - y0 >= x1 - x0 else angle + math.pi / 2
    c, s = math.cos(turn), math.sin(turn)
    x0, x1, y0, y1 = _box(flat, border, c, s)
    for f in members:
        for k in range(3):
            x, y = flat[f, k, 0], flat[f, k, 1]
            flat[f, k, 0] = (c * x - s * y - x0) * scale
            flat[f, k, 1] = (s * x + c * y - y0) * scale


@inner_kernel
def _box(
    flat: NDArray[np.float64], border: NDArray[np.int64], c: float, s: float
) -> tuple[float, float, float, float]:
    """Bounds x0, x1, y0, y1 of a border turned by the angle with cosine c and sine s."""
    x0, x1, y0, y1 = np.inf, -np.inf, np.inf, -np.inf
    for e in border:
        x, y = flat[e // 3, e % 3, 0], flat[e // 3, e % 3, 1]
        x0, x1 = min(x0, c * x - s * y), max(x1, c * x - s * y)
        y0, y1 = min(y0, s * x + c * y), max(y1, s * x + c * y)
    return x0, x1, y0, y1
