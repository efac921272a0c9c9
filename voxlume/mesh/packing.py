"""Placing charts in a square without overlap, by their shapes.

Charts become runs of cells in the rows of a grid, holes and bays left open. The highest go first; each takes
the first place, from the top and from the left, where its runs meet only free cells; the biggest ones, on
which the common scale depends, are tried turned by quarters as well. Two tables, the next
taken and the next free cell of every cell, answer whether a run fits in one step and how far to move on if
it does not, so small charts find the holes of big ones without trying every cell. The common scale is
searched by packing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.mesh.flatten import extents

_REFINEMENTS = 7  # packings after the first that fits
_CLOSE = 0.008  # of the scale: a gain below this is worth no packing
_SMALLEST_STEP = 0.7  # from a scale at which charts do not fit to the next, if nothing is known yet
_MANY = 1000  # charts, from which on one packing tells the scale of the next
_AIM = 0.997  # of what a packing promises: nearly as large, and fits more often
_FEW_STEP = 1.03  # from a scale at which fewer fit to the next one, at least
_FEW_FILL = 0.6  # of the cells, to begin with
_FIRST_FILL = 0.8  # the same for many, which fill 0.83 to 0.91, gaps included
_TURNED = 48  # charts, the highest ones, that are tried in all four turns
_SMALL_CELLS = 32 * 32  # charts with a smaller box make do with a gap of their own of one cell
_CLASSES = 12  # per side, of chart sizes by powers of two
_FAR = 2**15 - 1  # a column beyond all others: from any place there is no room after it
_UNITS = 64  # of parallel work, dealt out in turn because the large charts come first


def pack(
    flat: NDArray[np.float64],
    charts: NDArray[np.int32],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    cells: int,
    gap: int,
) -> NDArray[np.float64]:
    """Scale all charts alike and move them into a square grid.

    Parameters
    ----------
    flat : float64 (m, 3, 2), :func:`voxlume.mesh.flatten.flatten`.
    order, starts : :func:`voxlume.mesh.flatten.group` of ``charts``.
    cells : of the grid along a side, at most 8192.
    gap : cells that stay free between any two charts and half of them along the square's border, at least;
        for charts of less than 32 x 32 cells, of whose texture coarse mip levels show nothing anyway, their
        half of the gap is one cell.

    Returns
    -------
    float64 (m, 3, 2), corners in cells, within [0, cells].

    Raises
    ------
    AssetError : there are more charts than fit, however small.
    """
    extent = extents(flat, order, starts)
    rank = np.lexsort((-extent[:, 0], -extent[:, 1]))
    area = float(_areas(flat).sum())
    longest = max(float(extent.max()), 1e-300)
    # Leaves room for the gap; a chart can be no longer than the square.
    largest = (cells - gap - 2) / longest

    def trial(scale: float) -> _Trial:
        shapes = _shapes_at(flat, order, starts, rank, extent, scale, cells, gap)
        if shapes is None:
            return _Trial(scale, None, 0.0)
        needed = float(shapes.size[shapes.turn == 0].sum())
        if needed > cells * cells:
            return _Trial(scale, None, _scaled(scale, area, needed, _FIRST_FILL * cells * cells))
        place, filled, depth = _place_charts(*shapes, cells)
        if not len(place):
            return _Trial(scale, None, _scaled(scale, area, needed, filled))
        return _Trial(scale, place, _scaled(scale, area, needed, needed * cells / depth))

    many = len(rank) >= _MANY
    goal = (_FIRST_FILL if many else _FEW_FILL) * cells * cells
    first = _first_scale(area, float(extent.sum()), goal)
    best = _largest_fitting(trial, min(first, largest), longest, largest, many)
    if best is None or best.place is None:
        raise AssetError(
            f"{len(starts) - 1} separate charts do not fit in the texture; take a larger texture, "
            "or clean the mesh of loose triangles first"
        )
    return _placed(flat, charts, extent, best.scale, best.place)


class _Trial(NamedTuple):
    """A packing at one scale.

    Attributes
    ----------
    place : of every chart, :func:`_place_charts`; None where they do not fit.
    promise : the scale at which they will just fit, by what was filled: near for a packing that fits, rather
        too small for one that does not, because the charts that are left would have found holes.
    """

    scale: float
    place: NDArray[np.int32] | None
    promise: float


def _first_scale(area: float, extent: float, goal: float) -> float:
    """Where charts need about ``goal`` cells, by their area and the sum of their widths and heights."""
    # The outline of a chart is about a fifth longer than that of its box, and takes 1.5 cells beside it.
    border = 1.2 * 2 * 1.5 * extent
    root = math.sqrt(border * border + 4 * area * goal)
    return 2 * goal / (border + root) if root > 0 else math.inf


def _scaled(scale: float, area: float, needed: float, goal: float) -> float:
    """The scale at which the charts need ``goal`` cells, when they need so many at this one.

    Their area grows with the square, the rest, along their outlines, with the scale.
    """
    inside = area * scale * scale
    border = max(needed - inside, 0.0)
    root = math.sqrt(border * border + 4 * inside * goal)
    return scale * 2 * goal / (border + root) if root > 0 else scale


def _largest_fitting(
    trial: Callable[[float], _Trial], scale: float, longest: float, largest: float, many: bool
) -> _Trial | None:
    """About the largest scale at which the charts fit; None if they never do.

    A packing of many charts that fits tells by the rows that it leaves free how much larger they can be,
    mostly to a hundredth, so two to four packings are enough. Few charts leave rows free by chance.
    """
    best: _Trial | None = None
    fails = math.inf
    refinements = 0
    while True:
        tried = trial(scale)
        if tried.place is not None:
            best = tried
        else:
            fails = scale
        if best is None:
            scale *= min(max(tried.promise / scale, _SMALLEST_STEP), 1 - _CLOSE)
            if scale * longest < 1e-3:
                return None
            continue
        refinements += 1
        promise = _AIM * best.promise if many else max(best.promise, _FEW_STEP * best.scale)
        close = (1 + _CLOSE) * best.scale
        if best.scale >= largest or min(promise, fails) < close or refinements > _REFINEMENTS:
            return best
        scale = min(promise, largest)
        if scale >= fails:
            scale = math.sqrt(best.scale * fails)
            if many:  # the promise was nearly kept
                scale = max(scale, (1 - _CLOSE) * fails)


class _Shapes(NamedTuple):
    """Charts as runs of cells, with the gap around them, at one scale.

    Attributes
    ----------
    chart, turn : int64 (s,); every chart once as it lies, the first ones in all four turns one after another.
    width, height, half : int64 (s,), cells of the box, gap included, and the gap on either side.
    first_row, first_run : int64 (s + 1,), where those of each shape begin.
    row_starts : int32, height + 1 for each shape, where the runs of its rows begin.
    runs : int32 (r, 2), first and last column.
    size : int64 (s,), cells of each shape.
    """

    chart: NDArray[np.int64]
    turn: NDArray[np.int64]
    width: NDArray[np.int64]
    height: NDArray[np.int64]
    half: NDArray[np.int64]
    first_row: NDArray[np.int64]
    first_run: NDArray[np.int64]
    row_starts: NDArray[np.int32]
    runs: NDArray[np.int32]
    size: NDArray[np.int64]


def _shapes_at(
    flat: NDArray[np.float64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    rank: NDArray[np.int64],
    extent: NDArray[np.float64],
    scale: float,
    cells: int,
    gap: int,
) -> _Shapes | None:
    """The charts at a scale, those of ``rank`` in this order; None if the largest is larger than the grid."""
    in_all_turns = min(_TURNED, len(rank))
    chart = np.concatenate([np.repeat(rank[:in_all_turns], 4), rank[in_all_turns:]])
    turn = np.concatenate([np.tile(np.arange(4), in_all_turns), np.zeros(len(rank) - in_all_turns, np.int64)])
    small = extent[chart, 0] * extent[chart, 1] * scale * scale < _SMALL_CELLS
    half = np.where(small, 1, (gap + 1) // 2)
    width = (extent[chart, turn & 1] * scale).astype(np.int64) + 1 + 2 * half
    height = (extent[chart, 1 - (turn & 1)] * scale).astype(np.int64) + 1 + 2 * half
    if max(width.max(), height.max()) > cells:
        return None
    first_row = np.concatenate([[0], np.cumsum(height + 1)])
    # A run is at least one cell and the gap on either side of it, and a free cell parts it from the next.
    first_run = np.concatenate([[0], np.cumsum(height * ((width + 1) // (2 * half + 2)))])
    row_starts, runs = np.empty(first_row[-1], np.int32), np.empty((first_run[-1], 2), np.int32)
    size = np.empty(len(chart), np.int64)
    shapes = _Shapes(chart, turn, width, height, half, first_row, first_run, row_starts, runs, size)
    _draw(flat, order, starts, scale, in_all_turns, *shapes)
    return shapes


@parallel_kernel
def _areas(flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas (m,) in the plane."""
    areas = np.empty(len(flat))
    for f in prange(len(flat)):
        a, b, c = flat[f]
        areas[f] = abs((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])) / 2
    return areas


@inner_kernel
def _turned(x: float, y: float, width: float, height: float, turn: int) -> tuple[float, float]:
    """A point of a box of that size after the box was turned by so many quarters, its corner at 0 again."""
    if turn == 0:
        return x, y
    if turn == 1:
        return height - y, x
    if turn == 2:
        return width - x, height - y
    return y, width - x


@inner_kernel
def _span(p: NDArray[np.float64], scale: float, row: int) -> tuple[int, int]:
    """First and last column that a triangle (3, 2) touches between ``row`` and ``row + 1``."""
    low, high = np.inf, -np.inf
    for k in range(3):
        m = k + 1 if k < 2 else 0
        ax, ay, bx, by = p[k, 0] * scale, p[k, 1] * scale, p[m, 0] * scale, p[m, 1] * scale
        if ay > by:
            ax, ay, bx, by = bx, by, ax, ay
        if by < row or ay > row + 1:
            continue
        x0 = ax if ay >= row else ax + (bx - ax) * (row - ay) / (by - ay)
        x1 = bx if by <= row + 1 else ax + (bx - ax) * (row + 1 - ay) / (by - ay)
        low, high = min(low, x0, x1), max(high, x0, x1)
    return math.floor(low), math.floor(high)


@parallel_kernel
def _draw(
    flat: NDArray[np.float64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    scale: float,
    in_all_turns: int,
    chart: NDArray[np.int64],
    turn: NDArray[np.int64],
    width: NDArray[np.int64],
    height: NDArray[np.int64],
    half: NDArray[np.int64],
    first_row: NDArray[np.int64],
    first_run: NDArray[np.int64],
    row_starts: NDArray[np.int32],
    runs: NDArray[np.int32],
    size: NDArray[np.int64],
) -> None:
    """Fill in the rows, runs and sizes of all shapes."""
    charts = len(chart) - 3 * in_all_turns
    for unit in prange(_UNITS):
        # A thread takes units in a row: so that it does not get the largest charts of all.
        for rank in range(unit % 4 * (_UNITS // 4) + unit // 4, charts, _UNITS):
            shape = 4 * rank if rank < in_all_turns else rank + 3 * in_all_turns
            members = order[starts[chart[shape]] : starts[chart[shape] + 1]]
            mask = np.zeros((height[shape], width[shape]), np.bool_)
            _draw_faces(flat, members, scale, half[shape], mask)
            mask = _heightened(mask, half[shape])
            for i in range(shape, shape + 4 if rank < in_all_turns else shape + 1):
                if i > shape:
                    mask = _quarter_turn(mask)
                rows = row_starts[first_row[i] : first_row[i + 1]]
                size[i] = _list_runs(mask, rows, runs[first_run[i] : first_run[i + 1]])


@kernel
def _draw_faces(
    flat: NDArray[np.float64],
    members: NDArray[np.int64],
    scale: float,
    half: int,
    mask: NDArray[np.bool_],
) -> None:
    """Set the cells that a chart's faces touch and ``half`` more to the left and to the right.

    The chart lies ``half`` cells from the border of its box.
    """
    for f in members:
        p = flat[f]
        y0, y1 = min(p[0, 1], p[1, 1], p[2, 1]) * scale, max(p[0, 1], p[1, 1], p[2, 1]) * scale
        for row in range(int(y0), int(y1) + 1):
            first, last = _span(p, scale, row)
            for column in range(max(first, 0), last + 1 + 2 * half):
                mask[row + half, column] = True


@kernel
def _heightened(mask: NDArray[np.bool_], half: int) -> NDArray[np.bool_]:
    """The cells within ``half`` rows of a set one."""
    height, width = mask.shape
    result = np.zeros_like(mask)
    for row in range(half, height - half):
        for i in range(row - half, row + half + 1):
            for column in range(width):
                result[i, column] |= mask[row, column]
    return result


@kernel
def _quarter_turn(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A box turned as :func:`_turned` turns a point."""
    height, width = mask.shape
    result = np.empty((width, height), np.bool_)
    for row in range(height):
        for column in range(width):
            result[column, height - 1 - row] = mask[row, column]
    return result


@kernel
def _list_runs(mask: NDArray[np.bool_], starts: NDArray[np.int32], runs: NDArray[np.int32]) -> int:
    """The runs of set cells: where those of each row begin, and their columns; how many cells are set."""
    height, width = mask.shape
    count, cells = 0, 0
    for row in range(height):
        starts[row] = count
        column = 0
        while column < width:
            if mask[row, column]:
                runs[count, 0] = column
                while column < width and mask[row, column]:
                    column += 1
                runs[count, 1] = column - 1
                cells += column - runs[count, 0]
                count += 1
            column += 1
    starts[height] = count
    return cells


@inner_kernel
def _collision(
    starts: NDArray[np.int32],
    runs: NDArray[np.int32],
    next_taken: NDArray[np.int16],
    next_free: NDArray[np.int16],
    top: int,
    left: int,
) -> int:
    """0 if the chart fits there, else how many columns to move on before it can."""
    step = 0
    for row in range(len(starts) - 1):
        for r in range(starts[row], starts[row + 1]):
            taken = next_taken[top + row, left + runs[r, 0]]
            if taken <= left + runs[r, 1]:
                # Every place up to there has this run on the same stretch of taken cells.
                step = max(step, next_free[top + row, taken] - runs[r, 0] - left)
        if step > 0:
            return step
    return 0


@kernel
def _take(
    starts: NDArray[np.int32],
    runs: NDArray[np.int32],
    next_taken: NDArray[np.int16],
    next_free: NDArray[np.int16],
    top: int,
    left: int,
) -> None:
    """Mark a chart's cells as taken."""
    for row in range(len(starts) - 1):
        taken, free = next_taken[top + row], next_free[top + row]
        for r in range(starts[row], starts[row + 1]):
            first, last = left + runs[r, 0], left + runs[r, 1]
            before = taken[first]
            after = free[last + 1] if taken[last + 1] == last + 1 else last + 1
            for column in range(first, last + 1):
                taken[column] = column
                free[column] = after
            column = first - 1
            while column >= 0 and taken[column] == before:
                taken[column] = first
                column -= 1
            while column >= 0 and free[column] == first and taken[column] == column:
                free[column] = after
                column -= 1


@kernel
def _place_charts(
    chart: NDArray[np.int64],
    turn: NDArray[np.int64],
    width: NDArray[np.int64],
    height: NDArray[np.int64],
    half: NDArray[np.int64],
    first_row: NDArray[np.int64],
    first_run: NDArray[np.int64],
    row_starts: NDArray[np.int32],
    runs: NDArray[np.int32],
    size: NDArray[np.int64],
    cells: int,
) -> tuple[NDArray[np.int32], int, int]:
    """Column, row and turn of every chart's box, int32 (c, 3); empty if the grid is too small.

    Then how many cells were placed, and how many rows they take.
    """
    # One more column than there are, taken and never free, ends every run.
    next_taken = np.full((cells, cells + 1), cells, np.int16)
    next_free = np.empty((cells, cells + 1), np.int16)
    for row in range(cells):
        for column in range(cells):
            next_free[row, column] = column
        next_free[row, cells] = _FAR
    hint = np.zeros((_CLASSES, _CLASSES), np.int32)
    place = np.empty((chart.max() + 1, 3), np.int32)
    first, filled, depth = 0, 0, 0
    while first < len(chart):
        end = first + 1
        while end < len(chart) and chart[end] == chart[first]:
            end += 1
        bottom, left, best = cells + 1, -1, -1
        for shape in range(first, end):
            rows = row_starts[first_row[shape] : first_row[shape + 1]]
            own_runs = runs[first_run[shape] : first_run[shape + 1]]
            wide, high = int(math.log2(width[shape])), int(math.log2(height[shape]))
            top = hint[wide, high]
            found = -1
            while top + height[shape] < bottom:
                found = _first_fit(rows, own_runs, next_taken, next_free, top, width[shape])
                if found >= 0:
                    break
                top += 1
            # Others of about this size found no place above; they will hardly find one later.
            hint[wide, high] = top
            if found >= 0:
                bottom, left, best = top + height[shape], found, shape
        if best < 0:
            return np.empty((0, 3), np.int32), filled, depth
        filled += size[best]
        depth = max(depth, bottom)
        top = bottom - height[best]
        rows = row_starts[first_row[best] : first_row[best + 1]]
        _take(rows, runs[first_run[best] : first_run[best + 1]], next_taken, next_free, top, left)
        own = place[chart[best]]
        own[0], own[1], own[2] = left + half[best], top + half[best], turn[best]
        first = end
    return place, filled, depth


@inner_kernel
def _first_fit(
    starts: NDArray[np.int32],
    runs: NDArray[np.int32],
    next_taken: NDArray[np.int16],
    next_free: NDArray[np.int16],
    top: int,
    width: int,
) -> int:
    """The first column where a chart fits into the rows from ``top`` on, or -1."""
    left = 0
    while left + width <= len(next_taken):
        step = _collision(starts, runs, next_taken, next_free, top, left)
        if step == 0:
            return left
        left += step
    return -1


@parallel_kernel
def _placed(
    flat: NDArray[np.float64],
    charts: NDArray[np.int32],
    extent: NDArray[np.float64],
    scale: float,
    place: NDArray[np.int32],
) -> NDArray[np.float64]:
    result = np.empty_like(flat)
    for f in prange(len(flat)):
        c = charts[f]
        # The box in whole cells is what was turned.
        width, height = int(extent[c, 0] * scale) + 1, int(extent[c, 1] * scale) + 1
        for k in range(3):
            x, y = _turned(flat[f, k, 0] * scale, flat[f, k, 1] * scale, width, height, place[c, 2])
            result[f, k, 0] = x + place[c, 0]
            result[f, k, 1] = y + place[c, 1]
    return result
