"""Curves of a run as a picture, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from voxlume.files import atomic_write

PANEL = (460, 260)
MARGIN = (64, 26, 14, 34)
"""Left, top, right, bottom of a panel's axes, in pixels."""

COLOURS = ("#1f5fae", "#d9822b", "#2f9e5b", "#b3405f")

Curve = Sequence[tuple[float, float]]


def plot_curves(panels: Mapping[str, Mapping[str, Curve]], path: str | Path, columns: int = 3) -> None:
    """Write a PNG with a panel for each title, in each of them named curves of (x, y) points.

    The vertical axis is logarithmic where all values are positive and span more than a factor of eight.
    Points that are not finite are left out; so is a panel without points.
    """
    shown = {
        title: {name: _finite(curve) for name, curve in curves.items() if _finite(curve)}
        for title, curves in panels.items()
    }
    shown = {title: curves for title, curves in shown.items() if curves}
    rows = max(1, math.ceil(len(shown) / columns))
    picture = Image.new("RGB", (PANEL[0] * min(columns, max(1, len(shown))), PANEL[1] * rows), "white")
    draw = ImageDraw.Draw(picture)
    for number, (title, curves) in enumerate(shown.items()):
        _panel(draw, title, curves, (number % columns * PANEL[0], number // columns * PANEL[1]))
    with atomic_write(path) as file:
        picture.save(file, "PNG")


def _finite(curve: Curve) -> Curve:
    return [(x, y) for x, y in curve if math.isfinite(x) and math.isfinite(y)]


def _panel(
    draw: ImageDraw.ImageDraw, title: str, curves: Mapping[str, Curve], corner: tuple[int, int]
) -> None:
    left, top = corner[0] + MARGIN[0], corner[1] + MARGIN[1]
    right, bottom = corner[0] + PANEL[0] - MARGIN[2], corner[1] + PANEL[1] - MARGIN[3]
    xs = [x for curve in curves.values() for x, _ in curve]
    ys = [y for curve in curves.values() for _, y in curve]
    logarithmic = min(ys) > 0 and max(ys) > 8 * min(ys)

    def scaled(y: float) -> float:
        return math.log10(y) if logarithmic else y

    x0, x1 = min(xs), max(xs)
    y0, y1 = scaled(min(ys)), scaled(max(ys))
    x1, y1 = (x1 if x1 > x0 else x0 + 1), (y1 if y1 > y0 else y0 + (abs(y0) or 1))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x0) / (x1 - x0) * (right - left),
            bottom - (scaled(y) - y0) / (y1 - y0) * (bottom - top),
        )

    draw.rectangle((left, top, right, bottom), outline="#999999")
    draw.text((left, corner[1] + 6), title + (" (log)" if logarithmic else ""), fill="black")
    for part in (0.0, 0.5, 1.0):
        level = y0 + part * (y1 - y0)
        y = bottom - part * (bottom - top)
        draw.line((left, y, right, y), fill="#e4e4e4")
        draw.text((corner[0] + 4, y - 6), f"{10**level if logarithmic else level:.3g}", fill="#444444")
        x = left + part * (right - left)
        draw.text((x - 14, bottom + 4), f"{x0 + part * (x1 - x0):.4g}", fill="#444444")
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [place(x, y) for x, y in curve]
        if len(points) == 1:
            x, y = points[0]
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        else:
            draw.line(points, fill=colour, width=2)
        draw.text((right - 130, top + 4 + 13 * number), name, fill=colour)
