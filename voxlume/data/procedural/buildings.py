"""Houses, towers, barns, shops: hollow, with windows, doors and roofs."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import materials as m
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.shapes import (
    Array,
    Shape,
    blocks,
    box,
    cylinder,
    ellipsoid,
    lathe,
    plate,
    sheet,
    slab,
    spline,
)

_WALLS = (m.brick, m.cobbles, m.planks, m.weathered_paint, m.concrete, m.terracotta, m.plastic)
_ROOFS = (m.roof_tiles, m.roof_tiles, m.planks, m.rusty_metal, m.painted_metal)


def wall(
    length: float, height: float, thickness: float, holes: list[tuple[float, float, float, float]]
) -> Shape:
    """A wall along x from 0, about z = 0, with rectangular holes (x0, x1, y0, y1)."""
    x = np.unique(np.round([0.0, length, *(v for h in holes for v in h[:2])], 6))
    y = np.unique(np.round([0.0, height, *(v for h in holes for v in h[2:])], 6))
    mx, my = (x[:-1] + x[1:]) / 2, (y[:-1] + y[1:]) / 2
    filled = np.ones((len(mx), len(my), 1), bool)
    for x0, x1, y0, y1 in holes:
        filled[np.ix_((mx > x0) & (mx < x1), (my > y0) & (my < y1))] = False
    return blocks(x, y, [-thickness / 2, thickness / 2], filled)


def house(rng: np.random.Generator) -> Asset:
    """Cottages, town houses, barns, towers, shops, tents of stone."""
    a = Assembly(rng)
    kind = a.choose("house", "house", "house", "shop", "other", "other", "other")
    if kind == "other":
        a.choose(_round_tower, _castle, _lighthouse)(a)
    else:
        _house(a, kind)
    return a.asset()


def _house(a: Assembly, kind: str) -> None:
    rng = a.rng
    walls, trim = m.one_of(rng, _WALLS), m.one_of(rng, (m.wood, m.weathered_paint, m.plastic))
    w, d, floors = a.between(1.0, 1.7), a.between(0.8, 1.3), a.count(1, 2 if kind == "house" else 3)
    storey, t = a.between(0.5, 0.62), 0.06
    h = floors * storey
    glass = m.glass(rng, (0.75, 0.85, 0.9))
    door, sill = m.one_of(rng, (m.wood, m.planks, m.painted_metal)), a.between(0.16, 0.24)
    for side, length in enumerate((w, d, w, d)):
        holes = []
        n = max(1, int(length / a.between(0.38, 0.6)))
        entrance = side == 0 or a.chance(0.1)
        place = a.count(0, n - 1)
        for floor in range(floors):
            for i in range(n):
                middle = length * (i + 0.5) / n
                if entrance and floor == 0 and i == place:
                    holes.append((middle - 0.1, middle + 0.1, 0.0, 0.42))
                elif kind == "shop" and side == 0 and floor == 0:
                    holes.append((middle - 0.4 * length / n, middle + 0.4 * length / n, 0.1, 0.42))
                elif a.chance(0.88):
                    width = 0.18
                    holes.append(
                        (
                            middle - width / 2,
                            middle + width / 2,
                            floor * storey + sill,
                            floor * storey + sill + 0.22,
                        )
                    )
        part = Assembly(rng)
        part.add(wall(length, h, t, holes), walls)
        _openings(part, holes, t, glass, trim, door, a.chance(0.4))
        turn = side * math.pi / 2
        c, s = math.cos(turn), math.sin(turn)
        # Each wall faces +z before it is turned about y; it starts at the left of its side.
        out = (d if side % 2 == 0 else w) / 2 - t / 2
        left = -length / 2
        a.absorb(part, at=(c * left + s * out, 0, -s * left + c * out), turn=turn)
    base = m.one_of(rng, (m.cobbles, m.concrete, m.planks))
    a.add(box((w + 0.1, 0.06, d + 0.1)), base, (0, -0.03, 0))
    for floor in range(1, floors):
        a.add(box((w - t, 0.03, d - t)), trim, (0, floor * storey, 0))
    _roof(
        a,
        walls,
        w,
        d,
        h,
        t,
        "flat" if kind == "shop" and a.chance(0.5) else a.choose("gable", "gable", "hip", "shed", "gambrel"),
    )
    if kind == "shop":
        stripes = m.fabric(rng, double_sided=True)
        u, v = np.meshgrid(np.linspace(-0.5, 0.5, 24), np.linspace(0, 1, 6))
        a.add(
            sheet(
                np.stack(
                    [u * w * 0.96, 0.56 - 0.12 * v - 0.015 * (v > 0.9) * np.sin(40 * u), d / 2 + 0.26 * v], -1
                )
            ),
            stripes,
        )
    if a.chance(0.35):
        a.add(box((0.3, 0.03, 0.2)), base, (a.between(-0.2, 0.2) * w, 0.015, d / 2 + 0.13))
    if a.chance(0.4):
        for _ in range(a.count(2, 4)):
            bush = ellipsoid(a.between(0.16, 0.3) * np.array([1, 0.9, 1]), segments=14, rows=10)
            a.add(bush, m.foliage(rng), (a.between(-0.5, 0.5) * w, 0.08, d / 2 + 0.14))
    if a.chance(0.3):
        n = 9
        for i in range(n):
            x = (w + 0.5) * (i / (n - 1) - 0.5)
            a.add(box((0.03, 0.22, 0.012)), trim, (x, 0.08, d / 2 + 0.4))
        a.add(box((w + 0.5, 0.02, 0.015)), trim, (0, 0.1, d / 2 + 0.39))


def _openings(
    a: Assembly,
    holes: list[tuple[float, float, float, float]],
    t: float,
    glass: Material,
    trim: Material,
    door: Material,
    shutters: bool,
) -> None:
    for x0, x1, y0, y1 in holes:
        w, h, middle = x1 - x0, y1 - y0, ((x0 + x1) / 2, (y0 + y1) / 2, 0.0)
        if y0 == 0:
            opened = a.choose(0.0, 0.0, a.between(0.3, 1.3))
            leaf = box((w, h, 0.025), bevel=0.004).moved(x=w / 2).turned(y=-opened)
            a.add(leaf, door, (x0, h / 2, 0.0))
            a.add(box((w + 0.06, 0.03, t + 0.03)), trim, (middle[0], y1 + 0.015, 0))
            continue
        a.add(box((w, h, 0.01)), glass, middle)
        a.add(box((0.015, h, 0.025)), trim, middle)
        a.add(box((w, 0.015, 0.025)), trim, middle)
        a.add(box((w + 0.05, 0.02, t + 0.05)), trim, (middle[0], y0 - 0.01, 0.01))
        for x in (x0, x1):
            a.add(box((0.02, h, t + 0.02)), trim, (x, middle[1], 0))
        a.add(box((w + 0.02, 0.02, t + 0.02)), trim, (middle[0], y1, 0))
        if shutters:
            for x in (x0 - 0.25 * w - 0.01, x1 + 0.25 * w + 0.01):
                a.add(box((0.46 * w, h, 0.015)), door, (x, middle[1], t / 2 + 0.012))


def _roof(a: Assembly, walls: Material, w: float, d: float, h: float, t: float, style: str) -> None:
    rng = a.rng
    tiles = m.one_of(rng, _ROOFS)
    over, rise = a.between(0.04, 0.14), a.between(0.3, 0.7)
    if style == "flat":
        filled = np.ones((3, 2, 3), bool)
        filled[1, 1, 1] = False
        x, z = (np.array([-s / 2, -s / 2 + t, s / 2 - t, s / 2]) for s in (w + 0.06, d + 0.06))
        a.add(blocks(x, [h, h + 0.04, h + 0.16], z, filled), walls)
        a.add(box((0.25, 0.16, 0.2)), m.brushed_metal(rng), (0.2 * w, h + 0.1, -0.1 * d))
        return
    if style == "hip":
        ridge = max(w - d, 0.05) / 2 * 0.9
        eaves = np.array(
            [
                [-w / 2 - over, d / 2 + over],
                [w / 2 + over, d / 2 + over],
                [w / 2 + over, -d / 2 - over],
                [-w / 2 - over, -d / 2 - over],
            ]
        )
        tops = np.array([[-ridge, 0], [ridge, 0]])
        for i, (p, q) in enumerate(((0, 1), (1, 1), (1, 0), (0, 0))):
            low0, low1 = eaves[i], eaves[(i + 1) % 4]
            top0, top1 = tops[p], tops[q]
            row = lambda e0, e1, y: np.stack([[e0[0], y, e0[1]], [e1[0], y, e1[1]]])  # noqa: E731
            a.add(slab(np.stack([row(top0, top1, h + rise), row(low0, low1, h)]), 0.03), tiles)
    else:
        # Roof lines in the side view (z, y), the ridge along x.
        half = d / 2
        if style == "gable":
            line = np.array(
                [[half + over, h - rise * over / half], [0, h + rise], [-half - over, h - rise * over / half]]
            )
        elif style == "shed":
            line = np.array([[half + over, h + 0.02], [-half - over, h + rise]])
        else:
            line = np.array(
                [
                    [half + over, h - 0.06],
                    [0.62 * half, h + 0.68 * rise],
                    [0, h + rise],
                    [-0.62 * half, h + 0.68 * rise],
                    [-half - over, h - 0.06],
                ]
            )
        for (z0, y0), (z1, y1) in pairwise(line):
            low, top = ((z0, y0), (z1, y1)) if y0 < y1 else ((z1, y1), (z0, y0))
            x = np.array([-1, 1]) * (w / 2 + over) * (1 if low[0] > top[0] else -1)
            grid = np.array(
                [
                    [[x[0], top[1], top[0]], [x[1], top[1], top[0]]],
                    [[x[0], low[1], low[0]], [x[1], low[1], low[0]]],
                ]
            )
            a.add(slab(grid + (0, 0.035, 0), 0.035), tiles)
        inside = line.copy()
        inside[[0, -1], 0] = half, -half
        inside[:, 1] = np.interp(inside[:, 0], line[::-1, 0], line[::-1, 1])
        gable = np.concatenate([[[-half, h - 0.001]], [[half, h - 0.001]], inside])
        for s in (-1, 1):
            face = plate(np.stack([-gable[:, 0], gable[:, 1]], 1)[::-1], t).turned(y=math.pi / 2)
            a.add(face, walls, (s * (w / 2 - t / 2), 0, 0))
    if a.chance(0.6):
        at = a.between(-0.35, 0.35) * w, -a.between(0.1, 0.25) * d
        filled = np.ones((3, 1, 3), bool)
        filled[1, 0, 1] = False
        lines = np.array([-0.08, -0.05, 0.05, 0.08])
        chimney = blocks(lines + at[0], [h, h + rise + 0.15], lines + at[1], filled)
        a.add(chimney, m.one_of(rng, (m.brick, m.cobbles)))


def _ring_wall(
    a: Assembly, r: float, y0: float, y1: float, material: Material, windows: int, t: float = 0.05
) -> None:
    """A hollow round wall with window openings."""
    segments = 48
    levels = np.array([y0, y0 + 0.45 * (y1 - y0), y0 + 0.72 * (y1 - y0), y1])
    angle = 2 * np.pi * np.arange(segments + 1) / segments
    ring: list[Array] = [
        np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1) for radius in (r, r - t)
    ]
    opened = np.zeros((segments, 3), bool)
    for i in range(windows):
        k = int(segments * i / windows)
        opened[[k % segments, (k + 1) % segments, k - 1], 1] = True
    for j in range(3):
        for start, length in _runs(~opened[:, j]):
            index = (start + np.arange(length + 1)) % segments
            grids = [
                np.stack(
                    [
                        np.stack([p[index, 0], np.full(length + 1, y), p[index, 1]], 1)
                        for y in (levels[j + 1], levels[j])
                    ]
                )
                for p in ring
            ]
            a.add(sheet(grids[0]), material)
            a.add(sheet(grids[1]).flipped(), material)
            for row in (0, 1):
                lid = sheet(np.stack([grids[1][row], grids[0][row]]))
                a.add(lid if row == 0 else lid.flipped(), material)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Cyclic runs of True as (start, length)."""
    n = len(mask)
    if mask.all():
        return [(0, n)]
    starts = np.flatnonzero(mask & ~np.roll(mask, 1))
    return [(int(s), int(np.argmin(np.roll(mask, -s)))) for s in starts]


def _round_tower(a: Assembly) -> None:
    rng = a.rng
    r, h = a.between(0.3, 0.5), a.between(1.0, 1.8)
    stone = m.one_of(rng, _WALLS[:5])
    floors = a.count(2, 4)
    for i in range(floors):
        _ring_wall(a, r, h * i / floors, h * (i + 1) / floors, stone, a.count(3, 6))
    a.add(cylinder(1.15 * r, 0.06, 40), m.one_of(rng, m.STONES), (0, -0.06, 0))
    a.add(
        lathe(
            [
                (r + 0.08, h),
                (r + 0.09, h + 0.03),
                (0.5 * r, h + a.between(0.3, 0.5)),
                (0, h + a.between(0.6, 1.0)),
            ],
            40,
        ),
        m.one_of(rng, _ROOFS),
    )
    a.add(box((0.18, 0.36, 0.06), bevel=0.01), m.planks(rng), (0, 0.18, r))
    if a.chance(0.5):
        hub, wood, cloth = (0, 0.95 * h, r + 0.12), m.wood(rng), m.fabric(rng, double_sided=True)
        sail = sheet([[(0.02, 0.9, 0), (0.2, 0.9, 0)], [(0.02, 0.2, 0), (0.2, 0.2, 0)]])
        for i in range(4):
            turn = i * math.pi / 2 + 0.4
            a.add(box((0.03, 0.9, 0.02), (0, 0.45, 0)).turned(z=turn), wood, hub)
            a.add(sail.turned(z=turn), cloth, hub)
        a.add(cylinder(0.04, 0.2, 12).turned(x=math.pi / 2), m.rusty_metal(rng), (0, 0.95 * h, r - 0.06))


def _castle(a: Assembly) -> None:
    """A rectangular court with towers and battlements, all from blocks."""
    rng = a.rng
    stone, roof = m.one_of(rng, (m.cobbles, m.brick, m.concrete)), m.one_of(rng, _ROOFS)
    w, h, t = a.between(1.2, 1.8), a.between(0.45, 0.7), 0.1
    n = 2 * int(w / 0.18) + 1
    x = np.linspace(-w / 2, w / 2, n + 1)
    teeth = np.arange(n) % 2 == 0
    for side in range(4):
        filled = np.ones((n, 3, 1), bool)
        filled[:, 2, 0] = teeth
        if side == 0:
            filled[n // 2 - 1 : n // 2 + 2, 0, 0] = False
        part = blocks(x, [0, 0.6 * h, h, h + 0.1], [-t / 2, t / 2], filled)
        a.add(part.moved(z=w / 2).turned(y=side * math.pi / 2), stone)
    r = a.between(0.16, 0.24)
    pointed = a.chance(0.6)
    for sx in (-1, 1):
        for sz in (-1, 1):
            tall = h * a.between(1.3, 1.8)
            at = (sx * w / 2, 0, sz * w / 2)
            a.add(cylinder(r, tall, 28, top=0.95 * r), stone, at)
            if pointed:
                a.add(lathe([(1.25 * r, tall), (0, tall + a.between(0.3, 0.6))], 28), roof, at)
            else:
                a.add(
                    lathe(
                        [
                            (r, tall),
                            (1.15 * r, tall + 0.03),
                            (1.15 * r, tall + 0.15),
                            (0.95 * r, tall + 0.15),
                            (0.95 * r, tall + 0.05),
                            (0, tall + 0.05),
                        ],
                        28,
                    ),
                    stone,
                    at,
                )
    if a.chance(0.7):
        keep = a.between(0.3, 0.5) * w
        tall = h * a.between(1.4, 2.2)
        a.add(box((keep, tall, keep)), stone, (0, tall / 2, -0.1))
        a.add(cylinder(0.78 * keep, 0.4, 4, top=0.0).turned(y=math.pi / 4), roof, (0, tall, -0.1))
    a.add(box((1.3 * w, 0.06, 1.3 * w)), m.one_of(rng, (m.soil, m.foliage, m.cobbles)), (0, -0.03, 0))


def _lighthouse(a: Assembly) -> None:
    rng = a.rng
    h, r = a.between(1.3, 2.0), a.between(0.28, 0.4)
    first, second = (
        m.one_of(rng, (m.painted_metal, m.brick, m.plastic)),
        m.one_of(rng, (m.plastic, m.concrete)),
    )
    bands = a.count(1, 6)
    profile = spline([(r, 0), (0.75 * r, 0.5 * h), (0.6 * r, h)], 2 * bands + 1)
    for i in range(bands):
        a.add(lathe(profile[2 * i : 2 * i + 3], 36), first if i % 2 == 0 else second)
    metal = m.painted_metal(rng)
    a.add(cylinder(0.85 * r, 0.05, 36), metal, (0, h, 0))
    a.add(lathe([(0.45 * r, h + 0.05), (0.45 * r, h + 0.3)], 24), m.glass(rng))
    a.add(ellipsoid(0.35 * r, segments=16), m.polished_metal(rng), (0, h + 0.17, 0))
    a.add(lathe([(0.55 * r, h + 0.3), (0.5 * r, h + 0.34), (0.1 * r, h + 0.5), (0, h + 0.56)], 28), metal)
    for i in range(12):
        b = 2 * math.pi * i / 12
        a.add(cylinder(0.01, 0.13, 5), metal, (0.8 * r * math.sin(b), h + 0.05, 0.8 * r * math.cos(b)))
    a.add(ellipsoid((3.2 * r, 0.3, 3.0 * r), segments=28), m.cobbles(rng))
    a.add(box((0.16, 0.3, 0.05), bevel=0.01), m.planks(rng), (0, 0.2, 0.93 * r))


FAMILIES = {"house": house}
