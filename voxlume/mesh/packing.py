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
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.jit import inner_kernel, kernel, parallel_kernel, threaded_kernel
from voxlume.mesh.flatten import extents

_REFINEMENTS = 4  # packings after the first that fits
_TURNED = 48  # charts, the highest ones, that are tried in all four turns
_SMALL_CELLS = 32 * 32  # charts with a smaller box make do with a gap of their own of one cell
_CLASSES = 12  # per side, of chart sizes by powers of two
_AT_ONCE = 3  # packings: this one and what may be asked for after it
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
    cells : of the grid along a side.
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
    scale = min(math.sqrt(0.7 * cells * cells / area) if area > 0 else largest, largest)
    with _Packings(lambda size: _shapes_at(flat, order, starts, rank, extent, size, cells, gap)) as packings:
        fits, best = _largest_fitting(packings, scale, longest, largest)
    if best is None:
        raise AssetError(
            f"{len(starts) - 1} separate charts do not fit in the texture; take a larger texture, "
            "or clean the mesh of loose triangles first"
        )
    return _placed(flat, charts, extent, fits, best)


def _largest_fitting(
    packings: _Packings, scale: float, longest: float, largest: float
) -> tuple[float, NDArray[np.int32] | None]:
    """About the largest scale at which the charts fit, and their places; None if they never do."""
    fits, fails = 0.0, math.inf
    best: NDArray[np.int32] | None = None
    refinements = 0
    while True:
        packings.expect(_next_scales(fits, fails, scale, largest, packings.at_once))
        place = packings.at(scale)
        if len(place):
            fits, best = scale, place
        else:
            fails = scale
        refinements += best is not None
        if best is not None and (refinements > _REFINEMENTS or fits >= largest or fails < 1.01 * fits):
            return fits, best
        scale = _next_scale(fits, fails, scale, largest)
        if best is None and scale * longest < 1e-3:
            return 0.0, None


def _next_scale(fits: float, fails: float, scale: float, largest: float) -> float:
    if fits == 0:
        return scale * 0.85
    return math.sqrt(fits * fails) if fails < math.inf else min(scale * 1.1, largest)


def _next_scales(fits: float, fails: float, scale: float, largest: float, count: int) -> list[float]:
    """The scales that may be asked for from now on, whatever comes out, the nearest in time first."""
    found: list[float] = []
    waiting = [(fits, fails, scale)]
    while waiting and len(found) < count:
        fits, fails, scale = waiting.pop(0)
        if scale in found:
            continue
        found.append(scale)
        for low, high in ((fits, scale), (scale, fails)):
            if low == 0 or high >= 1.01 * low:
                waiting.append((low, high, _next_scale(low, high, scale, largest)))
    return found


class _Shapes(NamedTuple):
    """Charts as runs of cells, with the gap around them, at one scale.

    Attributes
    ----------
    chart, turn : int64 (s,); every chart once as it lies, the first ones in all four turns one after another.
    width, height, half : int64 (s,), cells of the box, gap included, and the gap on either side.
    first_row, first_run : int64 (s + 1,), where those of each shape begin.
    row_starts : int32, height + 1 for each shape, where the runs of its rows begin.
    runs : int32 (r, 2), first and last column.
    cells : of the grid along a side.
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
    cells: int


class _Packings:
    """Packings at several scales at once, on threads: what will be asked for is begun before it is."""

    def __init__(self, shapes_at: Callable[[float], _Shapes | None]) -> None:
        # More would help little: the shapes are made on all cores anyway.
        self.at_once = min(_AT_ONCE, max(1, get_num_threads() // 2))
        self._shapes_at = shapes_at
        self._threads = ThreadPoolExecutor(self.at_once)
        self._begun: dict[float, tuple[Future[NDArray[np.int32]], NDArray[np.bool_]]] = {}

    def __enter__(self) -> _Packings:
        return self

    def __exit__(self, *_: object) -> None:
        self.expect([])
        self._threads.shutdown()

    def expect(self, scales: list[float]) -> None:
        """Begin with these, and stop the others; the first is what is asked for next.

        Once that one is there the rest waits until it is known what comes after it.
        """
        for scale in set(self._begun) - set(scales):
            future, stop = self._begun.pop(scale)
            future.cancel()
            stop[0] = True
        for scale in scales:
            if scale not in self._begun:
                stop = np.zeros(1, np.bool_)
                self._begun[scale] = self._begin(self._shapes_at(scale), stop), stop
            if self._begun[scales[0]][0].done():
                return

    def _begin(self, shapes: _Shapes | None, stop: NDArray[np.bool_]) -> Future[NDArray[np.int32]]:
        if shapes is not None:
            return self._threads.submit(_place_charts, *shapes, stop)
        nowhere: Future[NDArray[np.int32]] = Future()
        nowhere.set_result(np.empty((0, 3), np.int32))
        return nowhere

    def at(self, scale: float) -> NDArray[np.int32]:
        return self._begun[scale][0].result()


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
    """The charts at a scale, those of ``rank`` in this order; None if the grid has too few cells for them."""
    in_all_turns = min(_TURNED, len(rank))
    chart = np.concatenate([np.repeat(rank[:in_all_turns], 4), rank[in_all_turns:]])
    turn = np.concatenate([np.tile(np.arange(4), in_all_turns), np.zeros(len(rank) - in_all_turns, np.int64)])
    small = extent[chart, 0] * extent[chart, 1] * scale * scale < _SMALL_CELLS
    half = np.where(small, 1, (gap + 1) // 2)
    width = (extent[chart, turn & 1] * scale).astype(np.int64) + 1 + 2 * half
    height = (extent[chart, 1 - (turn & 1)] * scale).astype(np.int64) + 1 + 2 * half
    if max(width.max(), height.max()) > cells:
        return None
    room = _most_runs(flat, order, starts, chart, turn, width, height, half, scale)
    first_row = np.concatenate([[0], np.cumsum(height + 1)])
    first_run = np.concatenate([[0], np.cumsum(room)])
    row_starts, runs = np.empty(first_row[-1], np.int32), np.empty((first_run[-1], 2), np.int32)
    shapes = _Shapes(chart, turn, width, height, half, first_row, first_run, row_starts, runs, cells)
    covered = _draw(flat, order, starts, extent, scale, *shapes)
    return shapes if covered <= cells * cells else None


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
def _most_runs(
    flat: NDArray[np.float64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    chart: NDArray[np.int64],
    turn: NDArray[np.int64],
    width: NDArray[np.int64],
    height: NDArray[np.int64],
    half: NDArray[np.int64],
    scale: float,
) -> NDArray[np.int64]:
    """No less than the number of runs of each shape."""
    room = np.empty(len(chart), np.int64)
    for unit in prange(_UNITS):
        for shape in range(unit, len(chart), _UNITS):
            axis, touched = 1 - turn[shape] % 2, np.int64(0)
            for i in range(starts[chart[shape]], starts[chart[shape] + 1]):
                a, b, c = flat[order[i], 0, axis], flat[order[i], 1, axis], flat[order[i], 2, axis]
                # One run in each row, and rounding may go the other way in a turned chart.
                touched += int((max(a, b, c) - min(a, b, c)) * scale) + 3
            by_cells = height[shape] * ((width[shape] + 1) // 2)
            room[shape] = min(by_cells, (2 * half[shape] + 1) * touched)
    return room


@parallel_kernel
def _draw(
    flat: NDArray[np.float64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    extent: NDArray[np.float64],
    scale: float,
    chart: NDArray[np.int64],
    turn: NDArray[np.int64],
    width: NDArray[np.int64],
    height: NDArray[np.int64],
    half: NDArray[np.int64],
    first_row: NDArray[np.int64],
    first_run: NDArray[np.int64],
    row_starts: NDArray[np.int32],
    runs: NDArray[np.int32],
    cells: int,
) -> int:
    """Fill in the rows and runs of all shapes; how many cells the charts need."""
    # Not one sum over all units: numba takes that for a reduction, and on Python 3.12 fails to compile it.
    needed = np.zeros(_UNITS, np.int64)
    for unit in prange(_UNITS):
        # A thread takes units in a row: so that it does not get all four turns of the largest chart.
        for shape in range(unit % 4 * (_UNITS // 4) + unit // 4, len(chart), _UNITS):
            members = order[starts[chart[shape]] : starts[chart[shape] + 1]]
            size = extent[chart[shape]]
            mask = np.zeros((height[shape], width[shape]), np.bool_)
            _draw_faces(flat, members, size, turn[shape], scale, half[shape], mask)
            mask = _widened(mask, half[shape])
            rows = row_starts[first_row[shape] : first_row[shape + 1]]
            count = _list_runs(mask, rows, runs[first_run[shape] : first_run[shape + 1]])
            if turn[shape] == 0:
                needed[unit] += count
    return needed.sum()


@kernel
def _draw_faces(
    flat: NDArray[np.float64],
    members: NDArray[np.int64],
    extent: NDArray[np.float64],
    turn: int,
    scale: float,
    half: int,
    mask: NDArray[np.bool_],
) -> None:
    """Set the cells that a chart's faces touch, ``half`` cells from the border of its box."""
    p = np.empty((3, 2))
    for f in members:
        for k in range(3):
            p[k, 0], p[k, 1] = _turned(flat[f, k, 0], flat[f, k, 1], extent[0], extent[1], turn)
        y0, y1 = min(p[0, 1], p[1, 1], p[2, 1]) * scale, max(p[0, 1], p[1, 1], p[2, 1]) * scale
        for row in range(int(y0), int(y1) + 1):
            first, last = _span(p, scale, row)
            for column in range(max(first, 0), last + 1):
                mask[row + half, column + half] = True


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


@kernel
def _widened(mask: NDArray[np.bool_], half: int) -> NDArray[np.bool_]:
    """The cells within ``half`` rows and columns of a set one."""
    height, width = mask.shape
    wide = np.zeros_like(mask)
    for row in range(height):
        filled = 0
        for column in range(width):
            if mask[row, column]:
                for i in range(max(filled, column - half), min(column + half + 1, width)):
                    wide[row, i] = True
                filled = min(column + half + 1, width)
    result = np.zeros_like(mask)
    for row in range(height):
        for i in range(max(row - half, 0), min(row + half + 1, height)):
            for column in range(width):
                result[i, column] |= wide[row, column]
    return result


@inner_kernel
def _collision(
    starts: NDArray[np.int32],
    runs: NDArray[np.int32],
    next_taken: NDArray[np.int32],
    next_free: NDArray[np.int32],
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
    next_taken: NDArray[np.int32],
    next_free: NDArray[np.int32],
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


@threaded_kernel
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
    cells: int,
    stop: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """Column, row and turn of every chart's box, int32 (c, 3); empty if the grid is too small."""
    # One more column than there are, taken and never free, ends every run.
    next_taken = np.full((cells, cells + 1), cells, np.int32)
    next_free = np.empty((cells, cells + 1), np.int32)
    for row in range(cells):
        for column in range(cells):
            next_free[row, column] = column
        next_free[row, cells] = 2**30
    hint = np.zeros((_CLASSES, _CLASSES), np.int32)
    place = np.empty((chart.max() + 1, 3), np.int32)
    first = 0
    while first < len(chart) and not stop[0]:
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
            return np.empty((0, 3), np.int32)
        top = bottom - height[best]
        rows = row_starts[first_row[best] : first_row[best + 1]]
        _take(rows, runs[first_run[best] : first_run[best + 1]], next_taken, next_free, top, left)
        own = place[chart[best]]
        own[0], own[1], own[2] = left + half[best], top + half[best], turn[best]
        first = end
    return place


@inner_kernel
def _first_fit(
    starts: NDArray[np.int32],
    runs: NDArray[np.int32],
    next_taken: NDArray[np.int32],
    next_free: NDArray[np.int32],
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
        for k in range(3):
            x, y = _turned(flat[f, k, 0], flat[f, k, 1], extent[c, 0], extent[c, 1], place[c, 2])
            result[f, k, 0] = x * scale + place[c, 0]
            result[f, k, 1] = y * scale + place[c, 1]
    return result
