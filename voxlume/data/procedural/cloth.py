"""Open sheets: flags, draped tables, tents, curtains, umbrellas, sails, scarves on a line."""

from __future__ import annotations

import math

import numpy as np

from voxlume.asset import Asset
from voxlume.data.procedural import materials as m
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.furniture import small_thing
from voxlume.data.procedural.shapes import (
    Array,
    box,
    cylinder,
    ellipsoid,
    lathe,
    sheet,
    spline,
    tube,
)


def _ripples(a: Assembly, x: Array, y: Array) -> Array:
    """A sum of waves, growing with x as they do away from where cloth is held."""
    out = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for _ in range(3):
        out = out + a.between(0.2, 0.5) * np.sin(
            a.between(5, 12) * x + a.between(-3, 3) * y + a.between(0, 6)
        )
    return out


def cloth(rng: np.random.Generator) -> Asset:
    """One of the open sheets; single layers without thickness."""
    a = Assembly(rng)
    a.choose(_flag, _flag, _drape, _tent, _curtain, _umbrella, _line, _hammock, _ghost)(a)
    return a.asset()


def _flag(a: Assembly) -> None:
    fabric = m.fabric(a.rng, double_sided=True)
    pole = m.one_of(a.rng, (m.wood, m.polished_metal, m.painted_metal))
    h, w, tall = a.between(1.4, 2.2), a.between(0.7, 1.2), a.between(0.45, 0.75)
    a.add(cylinder(0.025, h, 14), pole)
    a.add(ellipsoid(0.09, segments=14), pole, (0, h + 0.03, 0))
    a.add(lathe([(0, 0), (0.2, 0), (0.18, 0.05), (0, 0.08)], 28), m.one_of(a.rng, m.STONES))
    x, y = np.meshgrid(np.linspace(0, 1, 32), np.linspace(0, 1, 14))
    if a.chance(0.25):
        y = 0.5 + (y - 0.5) * (1 - x)  # a pennant
    elif a.chance(0.25):
        x = x * (1 - 0.25 * (1 - np.abs(2 * y - 1)))  # a swallow's tail
    wave = 0.16 * w * x * _ripples(a, x, y)
    sag = a.between(0.0, 0.5) * x**2
    points = np.stack([0.025 + w * x * (1 - 0.25 * sag), h - 0.03 - tall * y - 0.5 * w * sag, wave], -1)
    a.add(sheet(points), fabric)


def _drape(a: Assembly) -> None:
    """A cloth over a round or square table that hangs down in folds."""
    h, r = a.between(0.5, 0.9), a.between(0.35, 0.6)
    hang = a.between(0.3, 0.95) * h
    square = a.chance(0.5)
    segments = 96
    angle = 2 * np.pi * np.arange(segments + 1) / segments
    c, s = np.cos(angle), np.sin(angle)
    edge = r / np.maximum(np.abs(c), np.abs(s)) if square else np.full_like(angle, r)
    folds, t = a.count(8, 16), np.concatenate([np.linspace(0, 1, 6), np.linspace(1, 2, 12)[1:]])
    rows = []
    for v in t:
        if v <= 1:
            rr, y = edge * v, np.full_like(angle, h + 0.004)
        else:
            f = v - 1
            rr = edge * (
                1 + f * (0.06 + 0.05 * np.cos(folds * angle) + 0.02 * np.cos((folds // 2) * angle + 1))
            )
            y = np.full_like(angle, h) - hang * f * (0.9 + 0.1 * edge / r)
        rows.append(np.stack([rr * c, np.maximum(y, 0.01), -rr * s], 1))
    a.add(sheet(np.array(rows)).flipped(), m.fabric(a.rng, double_sided=True))
    wood = m.wood(a.rng)
    a.add(
        cylinder(0.97 * r, 0.03, 40) if not square else box((1.96 * r, 0.03, 1.96 * r), (0, 0.015, 0)),
        wood,
        (0, h - 0.035, 0),
    )
    for x in (-1, 1):
        for z in (-1, 1):
            a.add(cylinder(0.025, h - 0.03, 10), wood, (x * 0.6 * r, 0, z * 0.6 * r))
    if a.chance(0.5):
        small_thing(a, (0, h + 0.006, 0), 0.9 * r)


def _tent(a: Assembly) -> None:
    fabric = m.fabric(a.rng, double_sided=True)
    pole = m.one_of(a.rng, (m.wood, m.brushed_metal))
    if a.chance(0.5):  # a ridge tent with one open end
        w, d, h = a.between(1.0, 1.5), a.between(1.2, 2.0), a.between(0.7, 1.1)
        side = np.linspace(0, 1, 12)
        across = np.concatenate([-1 + side, side[1:]])
        y = h * (1 - np.abs(across)) - 0.08 * np.sin(math.pi * np.abs(across))
        z = np.linspace(-d / 2, d / 2, 14)
        sag = 0.05 * np.cos(2 * np.pi * z / d)[:, None] * (1 - np.abs(across))
        grid = np.stack(np.broadcast_arrays(across * w / 2, y + sag, z[:, None]), -1)
        a.add(sheet(grid), fabric)
        back = np.stack(
            [np.stack([across * w / 2, y * f + 0 * across, np.full_like(across, -d / 2)], 1) for f in (1, 0)]
        )
        a.add(sheet(back).flipped(), fabric)
        if a.chance(0.6):  # door flaps turned aside
            for s in (-1, 1):
                flap = np.array(
                    [
                        [[0, h, d / 2], [s * 0.02, h, d / 2]],
                        [[s * 0.25, 0.05, d / 2 + 0.3], [s * w / 2, 0, d / 2]],
                    ]
                )
                a.add(sheet(flap), fabric)
        for s in (-1, 1):
            a.add(cylinder(0.02, h + 0.06, 8), pole, (0, 0, s * d / 2 * 0.98))
            a.add(tube([(0, h, s * d / 2), (0, 0, s * (d / 2 + 0.5))], 0.008, 5), pole)
    else:  # a tepee
        r, h, n = a.between(0.6, 0.9), a.between(1.3, 1.8), a.count(6, 9)
        gap = a.between(0.4, 0.9)
        angle = np.linspace(gap / 2, 2 * np.pi - gap / 2, 6 * n)
        t = np.linspace(0, 1, 14)[:, None]
        rr = (0.06 + (r - 0.06) * t) * (1 - 0.04 * np.abs(np.sin(n * angle / 2)) * t)
        grid = np.stack(np.broadcast_arrays(rr * np.sin(angle), h * (1 - t), rr * np.cos(angle)), -1)
        a.add(sheet(grid), fabric)
        for i in range(n):
            b = 2 * np.pi * i / n
            out = np.array([math.sin(b), 0, math.cos(b)])
            a.add(tube([0.98 * r * out, (0, h + 0.25, 0) - 0.12 * out], 0.018, 6), pole)
    if a.chance(0.5):
        a.add(box((0.5, 0.06, 0.9), bevel=0.02), m.fabric(a.rng), (0.1, 0.03, -0.1))


def _curtain(a: Assembly) -> None:
    fabric = m.fabric(a.rng, double_sided=True)
    rod = m.one_of(a.rng, (m.wood, m.polished_metal))
    w, h = a.between(1.2, 1.8), a.between(1.2, 1.7)
    a.add(cylinder(0.022, w + 0.2, 14).turned(z=math.pi / 2).moved(x=w / 2 + 0.1), rod, (0, h, 0))
    for s in (-1, 1):
        a.add(ellipsoid(0.09, segments=14), rod, (s * (w / 2 + 0.12), h, 0))
        folds, tie = a.count(4, 8), a.choose(0.0, 0.0, 0.6)
        u, v = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 18))
        width = 0.46 * w * (1 - tie * np.exp(-(((v - 0.65) / 0.22) ** 2)))
        depth = 0.05 * np.sin(2 * np.pi * folds * u) * (1 - 0.5 * tie * np.exp(-(((v - 0.65) / 0.2) ** 2)))
        a.add(
            sheet(
                np.stack(
                    [s * (w / 2 - width * u), h - 0.01 - h * 0.97 * v, depth + 0.01 * _ripples(a, u, v)], -1
                )[:, :: -s if s > 0 else 1]
            ),
            fabric,
        )
        if tie:
            a.add(
                tube(
                    spline(
                        [
                            (s * w / 2, 0.38 * h, -0.05),
                            (s * 0.42 * w, 0.36 * h, 0.07),
                            (s * 0.32 * w, 0.38 * h, -0.02),
                        ],
                        10,
                    ),
                    0.02,
                    8,
                ),
                m.leather(a.rng),
            )


def _umbrella(a: Assembly) -> None:
    fabric = m.fabric(a.rng, double_sided=True)
    n, r, h = a.count(6, 10), a.between(0.6, 1.0), a.between(1.1, 1.7)
    segments = 8 * n
    angle = 2 * np.pi * np.arange(segments + 1) / segments
    t = np.linspace(0, 1, 14)[:, None]
    dip = 1 - 0.09 * t * np.abs(np.sin(n * angle / 2))
    y = h - a.between(0.3, 0.55) * r * t**2 * (1 + 0 * angle)
    grid = np.stack(np.broadcast_arrays(r * t * dip * np.cos(angle), y, -r * t * dip * np.sin(angle)), -1)
    a.add(sheet(grid).flipped(), fabric)
    pole = m.one_of(a.rng, (m.wood, m.polished_metal, m.painted_metal))
    a.add(cylinder(0.02, h + 0.08, 12), pole)
    for i in range(n):
        row = grid[:, 8 * i]
        a.add(tube(row[::3] - (0, 0.008, 0), 0.006, 5), pole)
    if a.chance(0.5):
        a.add(
            lathe([(0, 0), (0.22, 0), (0.2, 0.06), (0.04, 0.1), (0, 0.1)], 28),
            m.one_of(a.rng, (*m.STONES, m.painted_metal)),
        )
    else:
        a.add(
            tube(spline([(0, 0, 0), (0, -0.07, 0), (0.07, -0.11, 0), (0.13, -0.06, 0)], 14), 0.026, 10),
            m.wood(a.rng),
        )


def _line(a: Assembly) -> None:
    """A clothes line between two posts."""
    w, h = a.between(1.4, 2.0), a.between(0.9, 1.3)
    wood = m.one_of(a.rng, (m.wood, m.painted_metal))
    for s in (-1, 1):
        a.add(box((0.05, h, 0.05), bevel=0.008), wood, (s * w / 2, h / 2, 0))
        a.add(box((0.05, 0.05, 0.3), bevel=0.008), wood, (s * w / 2, h - 0.03, 0))
    x = np.linspace(-w / 2, w / 2, 16)
    line_y = h - 0.05 - 0.08 * (1 - (2 * x / w) ** 2)
    a.add(tube(np.stack([x, line_y, 0 * x], 1), 0.008, 5), m.rubber(a.rng))
    n = a.count(2, 4)
    for i in range(n):
        width, drop, middle = a.between(0.5, 0.85) * w / n, a.between(0.3, 0.7) * h, w * ((i + 0.5) / n - 0.5)
        u, v = np.meshgrid(np.linspace(-0.5, 0.5, 20), np.linspace(0, 1, 14))
        xx = middle + width * u * (1 - 0.05 * v)
        y = np.interp(xx, x, line_y) - drop * v
        a.add(sheet(np.stack([xx, y, 0.08 * v * _ripples(a, u, v)], -1)), m.fabric(a.rng, double_sided=True))


def _hammock(a: Assembly) -> None:
    w, h, d = a.between(1.6, 2.2), a.between(0.7, 0.9), a.between(0.5, 0.7)
    u, v = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 14))
    spread = 1 - 0.75 * np.abs(u) ** 3
    y = h - 0.45 * h * (1 - u**2) - 0.12 * (1 - v**2) * spread + 0.015 * np.sin(9 * v)
    a.add(sheet(np.stack([u * w * 0.4, y, v * d / 2 * spread], -1)), m.fabric(a.rng, double_sided=True))
    wood = m.one_of(a.rng, (m.wood, m.bark))
    for s in (-1, 1):
        for z in np.linspace(-1, 1, 5):
            a.add(tube([(s * 0.4 * w, h, 0.25 * z * d / 2), (s * w / 2, h + 0.15, 0)], 0.006, 4), wood)
        a.add(tube([(s * (w / 2 + 0.1), 0, 0), (s * w / 2, h + 0.25, 0)], [0.06, 0.045], 12), wood)
    a.add(box((w + 0.2, 0.05, 0.08), bevel=0.01), wood, (0, 0.025, 0))


def _ghost(a: Assembly) -> None:
    """A cloth over a ball: what lies beneath shows through."""
    r, h = a.between(0.25, 0.4), a.between(0.9, 1.3)
    segments, folds = 96, a.count(5, 9)
    angle = 2 * np.pi * np.arange(segments + 1) / segments
    rows = []
    for t in np.linspace(0, 1, 26):
        if t < 0.35:
            b = t / 0.35 * math.pi / 2
            rr, y = r * math.sin(b) + 0 * angle, h - r + r * math.cos(b) + 0 * angle
        else:
            f = (t - 0.35) / 0.65
            rr = r * (
                1 + 0.7 * f + 0.22 * f * np.cos(folds * angle) + 0.1 * f * np.cos(2 * folds * angle + 1)
            )
            y = (h - r) * (1 - f) + 0.02 + 0 * angle
        rows.append(np.stack([rr * np.cos(angle), y, -rr * np.sin(angle)], 1))
    a.add(sheet(np.array(rows)).flipped(), m.fabric(a.rng, double_sided=True))
    a.add(ellipsoid(1.96 * r, segments=28), m.one_of(a.rng, m.SOLID), (0, h - r, 0))
    a.add(cylinder(0.06, h - r, 12), m.wood(a.rng))


FAMILIES = {"cloth": cloth}
