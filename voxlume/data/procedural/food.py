"""Food: burgers, ice cream, cakes, pizza, fruit, vegetables, mushrooms, bread, sweets."""

from __future__ import annotations

import math

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import materials as m
from voxlume.data.procedural import palettes
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.palettes import Color
from voxlume.data.procedural.plants import leaf_shape
from voxlume.data.procedural.shapes import (
    Array,
    Shape,
    box,
    circle,
    cylinder,
    ellipsoid,
    join,
    lathe,
    loft,
    plate,
    sheet,
    spline,
    torus,
    tube,
    vessel,
)

_CREAM = ((0.96, 0.93, 0.86), (0.93, 0.66, 0.70), (0.42, 0.26, 0.17), (0.70, 0.85, 0.68), (0.96, 0.86, 0.55))
_CRUST = ((0.76, 0.52, 0.28), (0.66, 0.42, 0.22), (0.84, 0.64, 0.38))


def food(rng: np.random.Generator) -> Asset:
    """One dish, fruit or sweet."""
    a = Assembly(rng)
    kinds = (
        _burger, _ice_cream, _cake, _pizza, _fruit, _fruit, _mushroom, _bread, _doughnut, _vegetable,
    )  # fmt: skip
    a.choose(*kinds)(a)
    if a.chance(0.3):
        low, high = a.bounds()
        r = 0.62 * float(max(high[0] - low[0], high[2] - low[2]))
        rim = spline([(0.6 * r, 0), (0.9 * r, 0.05 * r), (1.15 * r, 0.16 * r)], 10)
        middle = (low + high) / 2
        a.add(vessel(rim, 0.04 * r), m.one_of(rng, m.CERAMICS), (middle[0], low[1] - 0.07 * r, middle[2]))
    return a.asset()


def _baked(a: Assembly) -> Material:
    return m.crust(a.rng, palettes.draw(a.rng, _CRUST))


def _wavy(r: float, thickness: float, waves: int, height: float, phase: float) -> Shape:
    """A flat leaf or slice with a wavy rim."""
    angle = 2 * np.pi * np.arange(65) / 64
    t = np.array([0.0, 0.5, 0.85, 1.0])[:, None]
    y = height * np.sin(waves * angle + phase) * t**3
    grid = np.stack([r * t * np.cos(angle), y + thickness, -r * t * np.sin(angle)], -1)
    return sheet(grid).flipped()


def _burger(a: Assembly) -> None:
    bun, r = _baked(a), a.between(0.5, 0.65)
    y = 0.0
    a.add(lathe(spline([(0, 0), (0.85 * r, 0), (r, 0.1), (0.95 * r, 0.2), (0, 0.2)], 30), 36), bun, (0, y, 0))
    y += 0.2
    meat = m.leather(a.rng, (0.33, 0.19, 0.12))
    cheese = m.plastic(a.rng, (0.96, 0.74, 0.2))
    green = m.double_sided(m.skin(a.rng, (0.42, 0.66, 0.24)))
    tomato = m.peel(a.rng, (0.82, 0.2, 0.14))
    for _ in range(a.count(2, 5)):
        kind = a.choose("meat", "cheese", "salad", "tomato")
        if kind == "meat":
            a.add(ellipsoid((2.1 * r, 0.17, 2.1 * r), top=4, segments=32), meat, (0, y + 0.085, 0))
            y += 0.16
        elif kind == "cheese":
            a.add(box((1.75 * r, 0.025, 1.75 * r)).turned(y=a.between(0, 1.5)), cheese, (0, y + 0.0125, 0))
            y += 0.025
        elif kind == "salad":
            a.add(_wavy(1.15 * r, 0.02, a.count(9, 14), 0.05, a.between(0, 3)), green, (0, y + 0.02, 0))
            y += 0.05
        else:
            for k in range(3):
                b = 2 * math.pi * k / 3
                a.add(
                    cylinder(0.45 * r, 0.05, 24), tomato, (0.45 * r * math.cos(b), y, 0.45 * r * math.sin(b))
                )
            y += 0.05
    dome = lathe(spline([(0.94 * r, 0), (1.02 * r, 0.1), (0.8 * r, 0.32), (0.0, 0.42)], 24), 36)
    a.add(dome, bun, (0, y, 0))
    a.add(lathe([(0, 0), (0.94 * r, 0)], 36), m.plastic(a.rng, (0.93, 0.84, 0.66)), (0, y, 0))
    seed = m.plastic(a.rng, (0.95, 0.9, 0.75))
    for i in range(a.count(0, 30)):
        b, t = 2.4 * i, 0.75 * math.sqrt((i + 0.5) / 30)
        at = (t * r * math.cos(b), y + 0.42 * math.sqrt(max(1 - t**2.2, 0)) - 0.005, t * r * math.sin(b))
        a.add(ellipsoid((0.05, 0.02, 0.03), segments=8, rows=6), seed, at)


def _scoop(a: Assembly, r: float) -> Shape:
    s = ellipsoid(2 * r, segments=28, rows=18)
    v = s.vertices
    bump = 1 + 0.03 * np.sin(9 * v[:, 0] / r + 2) * np.sin(8 * v[:, 1] / r) + 0.02 * np.sin(13 * v[:, 2] / r)
    return Shape(v * bump[:, None], s.uvs, s.faces)


def _ice_cream(a: Assembly) -> None:
    rng = a.rng
    flavours = [m.peel(rng, palettes.draw(rng, _CREAM)) for _ in range(3)]
    r, h = a.between(0.28, 0.36), a.between(0.8, 1.1)
    if a.chance(0.7):
        a.add(
            lathe([(0.03, 0), (0.85 * r, h), (0.93 * r, h), (0.8 * r, 0.9 * h), (0, 0.85 * h)], 32),
            m.knit(rng),
        )
        base = h
    else:
        outer = np.array([[0.7 * r, 0.0], [1.1 * r, 0.45]])
        a.add(vessel(outer, 0.03), m.one_of(rng, (m.paper, m.glass, m.ceramic)))
        base = 0.4
    y = base + 0.45 * r
    if a.chance(0.35):  # soft ice: a coil
        t = np.linspace(0, 1, 90)
        b = 2 * np.pi * 4 * t
        rr = r * (1 - t) * 0.75
        path = np.stack([rr * np.cos(b), base + 1.9 * r * t, rr * np.sin(b)], 1)
        a.add(tube(path, 0.3 * r * (1 - 0.85 * t), 12), flavours[0])
        y = base + 1.2 * r
    else:
        for i in range(a.count(1, 3)):
            a.add(_scoop(a, r), flavours[i], (a.between(-0.05, 0.05), y, a.between(-0.05, 0.05)))
            y += 1.15 * r
            r *= 0.9
    if a.chance(0.5):
        a.add(ellipsoid(0.15, segments=14), m.peel(rng, (0.75, 0.1, 0.12)), (0, y + 0.0 * r, 0))
    for i in range(a.count(0, 2)):
        stick = tube([(0, 0, 0), (0.25 - 0.5 * i, 0.6, -0.1)], 0.03, 10)
        a.add(stick, m.wood(rng, (0.75, 0.5, 0.28)), (0.05, y - 0.9 * r, 0))


def _cake(a: Assembly) -> None:
    rng = a.rng
    cream, sponge = m.plastic(rng, palettes.draw(rng, _CREAM)), _baked(a)
    topping = m.peel(rng, palettes.draw(rng, ((0.8, 0.12, 0.15), (0.3, 0.2, 0.5), (0.95, 0.6, 0.2))))
    r, layers = a.between(0.5, 0.7), a.count(2, 3)
    gone = a.choose(0.0, 0.6, 0.9, 2 * math.pi - 0.7)  # the part that was eaten, or a single slice
    angle = np.linspace(gone, 2 * np.pi, 40)

    def wedge(radius: float, y0: float, y1: float) -> Shape:
        ring = np.stack([radius * np.cos(angle), -radius * np.sin(angle)], 1)
        ring = np.concatenate([[(0.0, 0.0)], ring]) if gone else ring[:-1]
        rows = [np.stack([ring[:, 0], np.full(len(ring), y), ring[:, 1]], 1) for y in (y0, y1)]
        side = loft(rows, caps=(False, False))
        middle = np.stack(
            [
                np.zeros((len(angle), 3)),
                np.stack([radius * np.cos(angle), 0 * angle, -radius * np.sin(angle)], 1),
            ]
        )
        lid = sheet(middle).flipped()
        return join([side, lid.moved(y=y1), lid.flipped().moved(y=y0)])

    y = 0.0
    for _ in range(layers):
        a.add(wedge(0.985 * r, y, y + 0.16), sponge)
        a.add(wedge(r, y + 0.16, y + 0.21), cream)
        y += 0.21
    for i in range(n := a.count(6, 10)):
        b = 2 * math.pi * (i + 0.5) / n
        if b < gone:
            continue
        at = np.array([0.78 * r * math.cos(b), y, -0.78 * r * math.sin(b)])
        swirl = lathe([(0.09, 0), (0.08, 0.04), (0.04, 0.08), (0.0, 0.12)], 8)
        a.add(swirl, cream, at)
        a.add(ellipsoid(0.1, segments=14, rows=9), topping, at + (0, 0.13, 0))
    if gone == 0 and a.chance(0.6):
        for i in range(a.count(1, 7)):
            c = circle(7, 0.4 * r)[i]
            a.add(cylinder(0.02, 0.22, 10), m.plastic(rng), (c[0], y, c[1]))
            a.add(
                ellipsoid((0.03, 0.07, 0.03), segments=10, rows=8),
                m.plastic(rng, (0.98, 0.75, 0.2)),
                (c[0], y + 0.26, c[1]),
            )


def _pizza(a: Assembly) -> None:
    rng = a.rng
    r = a.between(0.7, 0.9)
    crust, cheese = _baked(a), m.peel(rng, (0.93, 0.75, 0.38))
    a.add(lathe([(0, 0), (r, 0), (r * 1.04, 0.05), (r, 0.1), (0.92 * r, 0.06), (0.9 * r, 0.05)], 48), crust)
    a.add(lathe([(0.92 * r, 0.052), (0, 0.07)], 48), cheese)
    slices = m.leather(rng, (0.68, 0.2, 0.14))
    others = [m.peel(rng, c) for c in ((0.25, 0.45, 0.18), (0.12, 0.1, 0.1), (0.85, 0.82, 0.74))]
    extra = others[a.count(0, 2)]
    for i in range(n := a.count(6, 16)):
        b, t = 2.4 * i, 0.8 * r * math.sqrt((i + 0.5) / n)
        a.add(
            cylinder(0.11, 0.02, 20).turned(x=a.between(-0.1, 0.1)),
            slices,
            (t * math.cos(b), 0.06, t * math.sin(b)),
        )
    for i in range(n := a.count(5, 14)):
        b, t = 2.4 * i + 1, 0.82 * r * math.sqrt((i + 0.5) / n)
        bit = (
            torus(0.05, 0.02, 16, 8)
            if a.chance(0.5)
            else ellipsoid((0.12, 0.03, 0.06), segments=12, rows=8).turned(y=b)
        )
        a.add(bit, extra, (t * math.cos(b), 0.08, t * math.sin(b)))


def _stalk(a: Assembly, at: tuple[float, float, float], size: float, *, leaf: bool = True) -> None:
    a.add(
        tube(
            spline(
                [
                    at,
                    (at[0] + 0.05 * size, at[1] + 0.2 * size, at[2]),
                    (at[0] + 0.15 * size, at[1] + 0.35 * size, at[2]),
                ],
                8,
            ),
            0.04 * size,
            8,
        ),
        m.bark(a.rng),
    )
    if leaf:
        a.add(
            leaf_shape(
                np.array(at) + (0, 0.15 * size, 0),
                a.between(0, 6),
                0.5,
                0.5 * size,
                0.25 * size,
                droop=0.9,
                fold=0.2,
            ),
            m.leaf(a.rng),
            placed=True,
        )


_FRUIT: dict[str, tuple[Color, list[tuple[float, float]]]] = {
    "apple": (
        (0.78, 0.16, 0.14),
        [(0.0, 0.06), (0.2, 0.0), (0.47, 0.25), (0.5, 0.55), (0.35, 0.86), (0.15, 0.88), (0.0, 0.78)],
    ),
    "pear": (
        (0.72, 0.74, 0.28),
        [(0.0, 0.03), (0.22, 0.0), (0.45, 0.3), (0.36, 0.65), (0.2, 0.95), (0.1, 1.1), (0.0, 1.08)],
    ),
    "orange": ((0.94, 0.52, 0.1), [(0.0, 0.02), (0.2, 0.03), (0.5, 0.45), (0.2, 0.9), (0.0, 0.9)]),
    "lemon": (
        (0.95, 0.85, 0.22),
        [(0.0, 0.0), (0.1, 0.05), (0.36, 0.4), (0.36, 0.65), (0.12, 1.0), (0.0, 1.07)],
    ),
    "plum": ((0.35, 0.16, 0.35), [(0.0, 0.0), (0.2, 0.03), (0.4, 0.45), (0.2, 0.86), (0.0, 0.84)]),
    "strawberry": (
        (0.84, 0.14, 0.16),
        [(0.0, 0.0), (0.16, 0.12), (0.36, 0.5), (0.34, 0.72), (0.12, 0.82), (0.0, 0.78)],
    ),
}
"""Colour, and profile as (distance from the axis, height)."""


def _fruit(a: Assembly) -> None:
    rng = a.rng
    kind = a.choose(*_FRUIT, "banana", "grapes", "melon", "pineapple")
    if kind == "banana":
        skin, n = m.peel(rng, (0.94, 0.8, 0.22)), a.count(1, 4)
        for i in range(n):
            t = np.linspace(-1, 1, 20)
            path = np.stack([0.9 * np.sin(0.9 * t), 0.35 - 0.6 * np.cos(0.9 * t) + 0.35, 0 * t], 1)
            radius = 0.13 * np.sqrt(np.clip(1 - np.abs(t) ** 5, 0.06, 1))
            a.add(
                tube(path, radius, 6 if a.chance(0.5) else 14).turned(y=0.25 * i, x=0.3 * i),
                skin,
                (0, 0.1, 0.22 * i),
            )
    elif kind == "grapes":
        skin = (
            m.one_of(rng, (m.glass, m.plastic))
            if a.chance(0.2)
            else m.peel(rng, palettes.draw(rng, ((0.35, 0.15, 0.35), (0.6, 0.7, 0.3))))
        )
        for i in range(a.count(24, 45)):
            down, b = i / 45, 2.4 * i
            rr = 0.36 * math.sin(math.pi * (0.15 + 0.8 * down)) * math.sqrt(a.between(0.3, 1))
            a.add(
                ellipsoid(0.2, segments=14, rows=9),
                skin,
                (rr * math.cos(b), 1.0 - 0.95 * down, rr * math.sin(b)),
            )
        _stalk(a, (0, 1.0, 0), 0.6)
    elif kind == "melon":
        green, flesh, rind = (
            m.skin(rng, (0.25, 0.45, 0.2)),
            m.peel(rng, (0.86, 0.25, 0.22)),
            m.plastic(rng, (0.9, 0.93, 0.8)),
        )
        half = np.linspace(0, math.pi / 2, 14)
        a.add(lathe(np.stack([0.6 * np.sin(half), 0.6 - 0.6 * np.cos(half)], 1), 40), green)
        a.add(lathe([(0.6, 0.6), (0.53, 0.601)], 40), rind)
        a.add(lathe([(0.53, 0.601), (0, 0.605)], 40), flesh)
        seed = m.plastic(rng, (0.08, 0.06, 0.05))
        for i in range(22):
            b, out = 2.4 * i, 0.42 * math.sqrt((i + 1) / 22)
            a.add(
                ellipsoid((0.05, 0.02, 0.03), segments=8, rows=6),
                seed,
                (out * math.cos(b), 0.607, out * math.sin(b)),
            )
        a.parts = [(s.turned(x=0.9), material) for s, material in a.parts]
    elif kind == "pineapple":
        body = lathe(spline([(0.0, 0.0), (0.25, 0.02), (0.38, 0.4), (0.32, 0.85), (0.0, 0.98)], 28), 36)
        a.add(
            body, m.hammered_metal(rng, (0.8, 0.55, 0.2)) if a.chance(0.1) else m.skin(rng, (0.85, 0.6, 0.2))
        )
        green = m.leaf(rng)
        for i in range(22):
            a.add(
                leaf_shape(
                    np.array([0, 0.93, 0]),
                    2.4 * i,
                    1.45 - 0.9 * i / 22,
                    0.6 - 0.01 * i,
                    0.1,
                    droop=0.6,
                    fold=0.4,
                ),
                green,
                placed=True,
            )
    else:
        color, points = _FRUIT[kind]
        profile = spline(points, 36)
        profile[:, 0] = np.maximum(profile[:, 0], 0)
        skin = m.peel(rng, palettes.draw(rng, (color,), 0.12))
        lobes = 1 + a.choose(0.0, 0.02) * np.cos(5 * 2 * np.pi * np.arange(40) / 40)
        n = a.count(1, 3)
        for i in range(n):
            size = a.between(0.85, 1.1)
            at = (1.0 * i - 0.5 * (n - 1), 0.0, a.between(-0.3, 0.3))
            a.add(lathe(profile * size, radius=lobes), skin, at)
            top = (at[0], float(profile[-1, 1]) * size, at[2])
            if kind == "strawberry":
                green = m.leaf(rng)
                for k in range(6):
                    a.add(
                        leaf_shape(np.array(top), k * math.pi / 3, 0.3, 0.35, 0.16, droop=1.2, fold=0.2),
                        green,
                        placed=True,
                    )
            elif kind in ("apple", "pear", "plum"):
                _stalk(a, top, 0.7, leaf=a.chance(0.5))


def _mushroom(a: Assembly) -> None:
    rng = a.rng
    cap, stem = (
        m.skin(
            rng,
            palettes.draw(rng, ((0.78, 0.15, 0.12), (0.7, 0.5, 0.32), (0.9, 0.86, 0.76), (0.5, 0.3, 0.5))),
        ),
        m.plastic(rng, (0.93, 0.89, 0.8)),
    )
    gills = m.knit(rng) if a.chance(0.3) else m.plastic(rng, (0.85, 0.78, 0.66))
    for i in range(n := a.count(1, 4)):
        h, r = a.between(0.4, 0.9), a.between(0.25, 0.5)
        b = 2 * math.pi * i / n
        at = np.array([0.45 * math.cos(b), 0, 0.45 * math.sin(b)]) * (n > 1)
        t = a.between(0.07, 0.12)
        a.add(lathe(spline([(1.4 * t, 0), (t, 0.3 * h), (0.9 * t, h)], 14), 20), stem, at)
        dome = a.between(0.5, 1.2) * r
        a.add(
            lathe(
                spline(
                    [(r, h - 0.06), (0.97 * r, h + 0.3 * dome), (0.5 * r, h + 0.85 * dome), (0, h + dome)], 20
                ),
                36,
            ),
            cap,
            at,
        )
        a.add(lathe([(0.9 * t, h), (r, h - 0.06)], 36).flipped(), gills, at)
        if a.chance(0.5):
            for k in range(9):
                c, s = 2.4 * k, 0.9 * math.sqrt((k + 0.5) / 9)
                y = h + dome * math.sqrt(max(1 - s * s, 0.0)) * 0.97
                a.add(
                    ellipsoid((0.12, 0.05, 0.12), segments=12, rows=8),
                    stem,
                    at + (s * r * math.cos(c) * 0.95, y - 0.02, s * r * math.sin(c) * 0.95),
                )


def _bread(a: Assembly) -> None:
    rng = a.rng
    crust, crumb = _baked(a), m.plastic(rng, (0.93, 0.86, 0.7))
    kind = a.choose("loaf", "baguette", "roll", "slice", "pretzel")
    if kind in ("loaf", "baguette", "roll"):
        length, w = {"loaf": (1.1, 0.6), "baguette": (1.8, 0.32), "roll": (0.7, 0.55)}[kind]
        a.add(ellipsoid((length, 0.75 * w, w), power=2.6, segments=36, rows=18), crust, (0, 0.35 * w, 0))
        for i in range(n := a.count(2, 5)):
            x = 0.8 * length * ((i + 0.5) / n - 0.5)
            lift = 0.36 * w * math.sqrt(max(1 - (2 * x / length) ** 2, 0)) + 0.35 * w
            a.add(
                ellipsoid((0.07, 0.06, 0.62 * w), segments=14, rows=8).turned(y=0.5),
                crumb,
                (x, lift - 0.012, 0),
            )
    elif kind == "slice":
        right = [(0.0, 0.0), (0.45, 0.0), (0.45, 0.55), (0.55, 0.75), (0.4, 0.95), (0.0, 1.0)]
        outline = np.array(right + [(-x, y) for x, y in right[-2:0:-1]])
        for i in range(a.count(1, 3)):
            tilt = 0.3 * i
            a.add(plate(outline, 0.14).turned(x=-tilt), crust, (0, 0, -0.24 * i))
            for s in (-1, 1):
                a.add(
                    plate(outline * 0.92 + (0, 0.04), 0.01).moved(z=s * 0.068).turned(x=-tilt),
                    crumb,
                    (0, 0, -0.24 * i),
                )
    else:
        path = [
            (-0.15, 0, 0.45),
            (-0.5, 0, 0.0),
            (-0.35, 0, -0.4),
            (0, 0.05, -0.1),
            (0.3, 0.12, 0.42),
            (0.1, 0.14, 0.5),
        ]
        whole = np.array(path)
        both = np.concatenate([whole[::-1] * (-1, 1, 1), whole])
        smooth: Array = spline(both[np.r_[0:5, 7:12]], 60)
        a.add(
            tube(smooth, 0.11 * np.sqrt(np.sin(np.pi * np.linspace(0.06, 0.94, 60))), 14), crust, (0, 0.12, 0)
        )


def _doughnut(a: Assembly) -> None:
    rng = a.rng
    for i in range(a.count(1, 3)):
        dough, glaze = _baked(a), m.ceramic(rng, palettes.draw(rng, (*_CREAM, (0.9, 0.4, 0.55))))
        r, t, y = 0.42, a.between(0.17, 0.22), 0.0
        at = np.array([0.1 * i, 0.2 + 0.36 * i, 0.06 * i])
        a.add(torus(r, t, 44, 18), dough, at)
        angle = 2 * np.pi * np.arange(65) / 64
        side = np.linspace(-0.25, math.pi + 0.25, 14)[:, None]
        drip = 1 + 0.18 * np.sin(a.count(5, 9) * angle) * np.abs(side - math.pi / 2) / 1.6
        b = math.pi / 2 + (side - math.pi / 2) * drip
        rr = r + (t + 0.015) * np.cos(b)
        grid = np.stack(
            [rr * np.cos(angle), (t + 0.015) * np.sin(b) + 0 * angle + y, -rr * np.sin(angle)], -1
        )
        a.add(sheet(grid), glaze, at)
        colors = [m.plastic(rng, palettes.draw(rng, palettes.PAINT[:12])) for _ in range(3)]
        for k in range(a.count(0, 36)):
            c, s = 2.4 * k, a.between(0.9, 2.2)
            p = at + (
                (r + t * math.cos(s)) * math.cos(c),
                (t + 0.022) * math.sin(s),
                (r + t * math.cos(s)) * math.sin(c),
            )
            a.add(ellipsoid((0.1, 0.03, 0.03), segments=8, rows=6).turned(y=7.0 * k), colors[k % 3], p)


def _vegetable(a: Assembly) -> None:
    rng = a.rng
    kind = a.choose("pumpkin", "carrot", "tomato", "pepper", "corn", "aubergine")
    green = m.leaf(rng)
    if kind in ("pumpkin", "tomato", "pepper"):
        n, depth = {"pumpkin": (a.count(8, 12), 0.09), "tomato": (5, 0.03), "pepper": (4, 0.1)}[kind]
        lobes = 1 + depth * np.abs(np.cos(n / 2 * 2 * np.pi * np.arange(96) / 96))
        tall = {"pumpkin": 0.8, "tomato": 0.75, "pepper": 1.1}[kind]
        profile = spline(
            [
                (0.0, 0.06),
                (0.25, 0.0),
                (0.5, 0.4 * tall),
                (0.42, 0.85 * tall),
                (0.15, tall),
                (0.0, 0.92 * tall),
            ],
            36,
        )
        profile[:, 0] = np.maximum(profile[:, 0], 0)
        color = {"pumpkin": (0.9, 0.48, 0.12), "tomato": (0.82, 0.18, 0.12), "pepper": (0.85, 0.65, 0.15)}[
            kind
        ]
        a.add(lathe(profile, radius=lobes), m.peel(rng, palettes.draw(rng, (color,), 0.15)))
        a.add(
            tube(
                spline([(0, 0.9 * tall, 0), (0.02, tall + 0.08, 0), (0.1, tall + 0.2, 0)], 8),
                np.linspace(0.09, 0.05, 8),
                8,
            ),
            m.bark(rng) if kind == "pumpkin" else green,
        )
        if kind == "tomato":
            for k in range(5):
                a.add(
                    leaf_shape(np.array([0, 0.94 * tall, 0]), 1.26 * k, 0.2, 0.35, 0.1, droop=0.9, fold=0.2),
                    green,
                    placed=True,
                )
    elif kind == "carrot":
        for i in range(a.count(1, 3)):
            body = lathe(spline([(0.0, 0.0), (0.06, 0.15), (0.15, 0.8), (0.16, 1.0), (0.0, 1.05)], 24), 20)
            carrot = m.peel(rng, (0.92, 0.48, 0.14))
            parts = [(body, carrot)] + [
                (
                    leaf_shape(
                        np.array([0, 1.02, 0]), 2.4 * k, 1.3, a.between(0.3, 0.6), 0.12, droop=0.7, fold=0.3
                    ),
                    green,
                )
                for k in range(7)
            ]
            for shape, material in parts:
                a.add(
                    shape.turned(z=math.pi / 2 - 0.1 * i, y=0.3 * i),
                    material,
                    (0, 0.16, 0.35 * i),
                    placed=True,
                )
    elif kind == "corn":
        kernels = 1 + 0.05 * np.cos(14 * 2 * np.pi * np.arange(84) / 84)
        y = np.linspace(0, 1, 60)
        r = 0.2 * np.sqrt(np.clip(1 - y**3, 0, 1)) * (1 + 0.04 * np.cos(2 * np.pi * 18 * y))
        a.add(lathe(np.stack([r, y], 1), radius=kernels), m.peel(rng, (0.95, 0.78, 0.2)), (0, 0.05, 0))
        for k in range(4):
            a.add(
                leaf_shape(np.zeros(3), 1.6 * k, 1.5, 0.9, 0.35, droop=a.between(0.3, 1.3), fold=0.5),
                green,
                placed=True,
            )
    else:
        path = spline([(0, 0.15, -0.5), (0, 0.22, 0.0), (0, 0.35, 0.35), (0, 0.5, 0.5)], 24)
        radius = (
            0.24
            * np.sqrt(np.clip(np.sin(np.pi * np.linspace(0.02, 0.93, 24)), 0, 1))
            * np.linspace(1.1, 0.6, 24)
        )
        a.add(tube(path, radius, 24), m.car_paint(rng, (0.25, 0.12, 0.3)))
        for k in range(5):
            a.add(
                leaf_shape(path[-1] - (0, 0.02, 0.03), 1.26 * k, 0.4, 0.3, 0.14, droop=1.5, fold=0.2),
                green,
                placed=True,
            )
        _stalk(a, (0.0, 0.48, 0.48), 0.5, leaf=False)


FAMILIES = {"food": food}
