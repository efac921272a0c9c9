"""Mugs, bottles and jars, drinking glasses, vases, cookware, teapots."""

from __future__ import annotations

import math

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import materials as m
from voxlume.data.procedural import palettes
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.plants import flowers
from voxlume.data.procedural.shapes import (
    Array,
    Shape,
    circle,
    cylinder,
    ellipsoid,
    filling,
    lathe,
    rounded_rectangle,
    spline,
    sweep,
    torus,
    tube,
    vessel,
)


def ear(x: float, low: float, high: float, reach: float, thickness: float, style: str) -> Shape:
    """A handle on the +x side, both ends at about distance ``x`` from the axis."""
    middle = (low + high) / 2
    if style == "loop":
        points = [
            (x, high, 0),
            (x + 0.8 * reach, high, 0),
            (x + reach, middle, 0),
            (x + 0.6 * reach, low + 0.1 * (high - low), 0),
            (x, low, 0),
        ]
    elif style == "square":
        near, far, corner = x + 0.9 * reach, x + reach, 0.1 * (high - low)
        points = [(x, high, 0), (near, high, 0), (far, high - corner, 0)]
        points += [(far, low + corner, 0), (near, low, 0), (x, low, 0)]
    else:
        points = [
            (x, high, 0),
            (x + 0.7 * reach, high + 0.3 * reach, 0),
            (x + reach, middle + 0.2 * reach, 0),
            (x, low, 0),
        ]
    section = rounded_rectangle(1.5 * thickness, thickness, 0.45 * thickness, 3)
    return sweep(spline(points, 24), section, up=(0, 0, 1) if style == "loop" else None)


def _squared(rng: np.random.Generator, segments: int, strength: float) -> Array:
    """Radius factors that make a round body square-ish, ribbed, or faceted."""
    angle = 2 * np.pi * np.arange(segments) / segments
    n = int(rng.integers(6, 20))
    style = int(rng.integers(3))
    if style == 0:
        return 1 / (np.abs(np.cos(angle)) ** 6 + np.abs(np.sin(angle)) ** 6) ** (1 / 6)
    if style == 1:
        return 1 + strength * np.cos(n * angle)
    sector = np.pi / n
    return np.cos(sector) / np.cos((angle % (2 * sector)) - sector)


def mug(rng: np.random.Generator) -> Asset:
    """Mugs, cups with saucers, beer steins, tin cups, now and then full."""
    a = Assembly(rng)
    kind = a.choose("mug", "mug", "cup", "stein", "tin")
    body = m.one_of(rng, {"stein": (m.glass, m.ceramic, m.wood), "tin": m.METALS}.get(kind, m.CERAMICS))
    h, r = a.between(0.8, 1.2), a.between(0.36, 0.5)
    wall = a.between(0.03, 0.06)
    if kind == "cup":
        h, r = a.between(0.5, 0.75), a.between(0.45, 0.6)
        outer = spline(
            [(0.45 * r, 0), (0.75 * r, 0.2 * h), (0.95 * r, 0.6 * h), (a.between(0.95, 1.15) * r, h)], 20
        )
    elif kind == "stein":
        h = a.between(1.1, 1.5)
        outer = spline([(1.05 * r, 0), (r, 0.1 * h), (0.92 * r, 0.6 * h), (0.95 * r, h)], 20)
    else:
        belly, top = a.between(0.85, 1.15), a.between(0.85, 1.15)
        outer = spline([(0.8 * r, 0), (r * 0.95, 0.06 * h), (belly * r, 0.45 * h), (top * r, h)], 20)
    shape = _squared(rng, 48, 0.03) if a.chance(0.2) else None
    a.add(vessel(outer, wall, radius=shape), body)
    handle = body if a.chance(0.8) else m.one_of(rng, (m.wood, m.polished_metal))
    if kind != "cup" or a.chance(0.8):
        low, high = a.between(0.15, 0.3) * h, a.between(0.72, 0.9) * h
        x = (
            min(np.interp(low, outer[:, 1], outer[:, 0]), np.interp(high, outer[:, 1], outer[:, 0]))
            - 0.6 * wall
        )
        a.add(
            ear(
                float(x),
                low,
                high,
                a.between(0.22, 0.36),
                a.between(0.05, 0.08),
                a.choose("loop", "square", "ear"),
            ),
            handle,
        )
    if a.chance(0.4):
        a.add(torus(float(outer[-1, 0]) - wall / 2, 0.6 * wall, 40, 8), m.polished_metal(rng), (0, h, 0))
    if a.chance(0.45):
        a.add(filling(outer, wall, a.between(0.6, 0.9) * h), m.liquid(rng))
    if kind == "cup" and a.chance(0.8):
        plate = spline([(0.6 * r, -0.06), (1.2 * r, -0.02), (1.6 * r, 0.08)], 12)
        a.add(vessel(plate, 0.03), body)
        if a.chance(0.5):
            _spoon(a, (1.15 * r, 0.02, 0.0))
    return a.asset()


def _spoon(a: Assembly, at: tuple[float, float, float]) -> None:
    metal = m.polished_metal(a.rng)
    a.add(tube([(0, 0, 0.5), (0, 0.04, -0.1), (0, 0.02, -0.3)], [0.022, 0.015, 0.02], 8), metal, at)
    a.add(ellipsoid((0.15, 0.03, 0.22), segments=16, rows=8).moved(y=0.01, z=-0.38), metal, at)


def bottle(rng: np.random.Generator) -> Asset:
    """Wine, beer, medicine, perfume and plastic bottles, jars, flasks; label, cork, content."""
    a = Assembly(rng)
    kind = a.choose("wine", "wine", "short", "flask", "jar", "square", "plastic")
    skin = m.glass(rng) if kind != "plastic" or a.chance(0.4) else m.plastic(rng)
    h, r = a.between(1.3, 1.9), a.between(0.26, 0.4)
    neck = a.between(0.25, 0.4) * r
    wall = 0.035
    shape = None
    if kind == "flask":
        r = a.between(0.45, 0.6)
        outer = spline(
            [(0.5 * r, 0), (0.95 * r, 0.3 * r), (0.9 * r, 1.1 * r), (0.35 * r, 1.8 * r), (0.3 * r, 2.6 * r)],
            30,
        )
    elif kind == "jar":
        h, r = a.between(0.7, 1.2), a.between(0.35, 0.5)
        neck = a.between(0.75, 0.9) * r
        outer = spline([(0.9 * r, 0), (r, 0.08 * h), (r, 0.72 * h), (neck, 0.86 * h), (neck, h)], 28)
    else:
        h *= 0.65 if kind in ("short", "square") else 1
        shoulder = a.between(0.5, 0.72) * h
        outer = spline(
            [(0.92 * r, 0), (r, 0.05 * h), (r, 0.5 * shoulder), (r, shoulder),
             (a.between(0.6, 0.85) * r, shoulder + 0.12 * h),
             (neck, shoulder + 0.22 * h), (neck, h)], 36,
        )  # fmt: skip
        if kind == "square":
            shape = _squared(rng, 48, 0.05)
    a.add(vessel(outer, wall, radius=shape), skin)
    h, top = float(outer[-1, 1]), float(outer[-1, 0])
    if skin.alpha_mode == "BLEND" and a.chance(0.6) and kind != "square":
        level = a.between(0.3, 0.62) * h
        stuff = (
            m.liquid(rng)
            if kind != "jar" or a.chance(0.4)
            else m.one_of(rng, (m.soil, m.cobbles, m.terracotta))
        )
        a.add(filling(outer, wall, level), stuff)
    if a.chance(0.6) and kind in ("wine", "short", "plastic", "jar"):
        low = a.between(0.12, 0.2) * h
        high = low + a.between(0.2, 0.3) * h
        a.add(lathe([(r + 0.006, low), (r + 0.006, high)], 40), m.paper(rng))
    closing = a.choose("cork", "cap", "stopper", "open")
    if closing == "cork" and kind != "jar":
        a.add(cylinder(0.85 * top, 0.2, 20, top=top), m.wood(rng, (0.78, 0.62, 0.43)), (0, h - 0.1, 0))
    elif closing == "cap" or kind == "jar":
        tall = 0.14
        lid = lathe([(0, h + tall), (top + 0.03, h + tall), (top + 0.03, h - 0.08)][::-1], 32)
        a.add(lid, m.one_of(rng, (m.painted_metal, m.polished_metal, m.plastic, m.wood)))
    elif closing == "stopper":
        a.add(ellipsoid((2.6 * top, 2.6 * top, 2.6 * top), segments=20), m.glass(rng), (0, h + 1.2 * top, 0))
    return a.asset()


def drinking_glass(rng: np.random.Generator) -> Asset:
    """Wine glasses, flutes, tumblers, goblets of glass and metal, with drinks, ice and straws."""
    a = Assembly(rng)
    kind = a.choose("wine", "flute", "tumbler", "tumbler", "cocktail", "goblet", "pint")
    skin = m.one_of(rng, m.METALS[:2]) if kind == "goblet" and a.chance(0.6) else m.glass(rng)
    wall = 0.03
    if kind in ("tumbler", "pint"):
        h = a.between(0.7, 1.0) if kind == "tumbler" else a.between(1.2, 1.5)
        r = a.between(0.32, 0.45)
        bulge = a.between(0.0, 0.12) if kind == "pint" else 0.0
        outer = spline(
            [(a.between(0.75, 1.0) * r, 0), (0.95 * r + 0.2 * bulge, 0.3 * h), (r + bulge, 0.75 * h), (r, h)],
            20,
        )
        a.add(vessel(outer, wall, radius=_squared(rng, 48, 0.025) if a.chance(0.35) else None), skin)
        bottom = 0.0
    else:
        stem, r = a.between(0.5, 0.8), a.between(0.3, 0.42)
        bowl = a.between(0.6, 0.85)
        if kind == "flute":
            r, bowl = 0.22, 1.0
            points = [(0.06, 0), (0.7 * r, 0.25), (r, 0.6), (0.85 * r, bowl)]
        elif kind == "cocktail":
            r, bowl = a.between(0.5, 0.65), a.between(0.4, 0.55)
            points = [(0.06, 0), (0.5 * r, 0.45 * bowl), (r, bowl)]
        else:
            points = [(0.07, 0), (0.8 * r, 0.18 * bowl), (r, 0.5 * bowl), (a.between(0.7, 0.95) * r, bowl)]
        outer = spline(points, 22) + (0, stem)
        foot = a.between(0.26, 0.36)
        a.add(vessel(outer, wall), skin)
        thin = a.between(0.03, 0.05)
        knot = thin * a.choose(1.0, 1.0, 2.2)
        leg = [
            (0, 0),
            (foot, 0),
            (foot, 0.02),
            (0.4 * foot, 0.06),
            (thin, 0.14),
            (knot, stem / 2),
            (thin, 0.85 * stem),
            (0.07, stem),
            (0, stem + 0.01),
        ]
        a.add(lathe(leg, 32), skin)
        bottom = stem
    top = float(outer[-1, 1])
    if a.chance(0.55):
        level = bottom + a.between(0.4, 0.8) * (top - bottom)
        a.add(filling(outer, wall, level), m.liquid(rng))
        if kind in ("tumbler", "pint") and a.chance(0.5):
            straw = tube([(0.1, 0.15, 0), (-0.35, top + 0.3, 0.1)], 0.035, 10)
            a.add(straw, m.plastic(rng))
        elif a.chance(0.3):
            a.add(ellipsoid(0.12, segments=14, rows=9), m.peel(rng, (0.75, 0.15, 0.12)), (0.05, level, 0.05))
    return a.asset()


def vase(rng: np.random.Generator) -> Asset:
    """Vases, amphorae, urns: round, fluted, twisted, oval, with handles or flowers."""
    a = Assembly(rng)
    body = m.one_of(
        rng, (*m.CERAMICS, *m.CERAMICS, m.glass, m.hammered_metal, m.polished_metal, m.marble, m.wicker)
    )
    h = a.between(1.0, 1.8)
    r = [
        a.between(0.15, 0.4),
        a.between(0.3, 0.6),
        a.between(0.2, 0.55),
        a.between(0.1, 0.3),
        a.between(0.15, 0.42),
    ]
    outer = spline(
        [
            (r[0], 0),
            (r[1], a.between(0.2, 0.35) * h),
            (r[2], a.between(0.5, 0.65) * h),
            (r[3], 0.85 * h),
            (r[4], h),
        ],
        40,
    )
    outer[:, 0] = np.maximum(outer[:, 0], 0.08)
    shape: Array | None = None
    if a.chance(0.5):
        angle = 2 * np.pi * np.arange(64) / 64
        n, depth, twist = a.count(4, 14), a.between(0.02, 0.1), a.choose(0.0, 0.0, 1.0, 2.5)
        # Inside and outside must twist alike: the factor follows the height.
        rows = np.concatenate([[0.0], np.linspace(0, 1, len(outer)), [1.0]])
        shape = 1 + depth * np.cos(n * angle + twist * rows[:, None] * 2 * np.pi)
    if shape is None:
        a.add(vessel(outer, a.between(0.03, 0.05), 48), body)
    else:
        profile = np.concatenate([[[0, 0]], outer, [[float(outer[-1, 0]) - 0.03, h]]])
        a.add(lathe(profile, radius=shape), body)
        inner = (outer - (0.045, 0))[::-1]
        a.add(
            lathe(
                np.concatenate([[[float(outer[-1, 0]) - 0.03, h]], inner[inner[:, 1] > 0.06], [[0, 0.06]]]),
                radius=shape[::-1][: 2 + int((inner[:, 1] > 0.06).sum())],
            ),
            body,
        )
    if a.chance(0.3):
        style = a.choose("loop", "ear")
        x = float(np.interp(0.8 * h, outer[:, 1], outer[:, 0])) - 0.05
        handle = ear(x, 0.55 * h, 0.85 * h, a.between(0.15, 0.3), 0.06, style)
        a.add(handle, body)
        a.add(handle.turned(y=math.pi), body)
    if a.chance(0.4):
        flowers(a, h, 0.5 * float(outer[-1, 0]), a.count(2, 6))
    return a.asset()


def cookware(rng: np.random.Generator) -> Asset:
    """Pans, pots with lids, kettles' cousins: bowls, mortars, cake stands under glass."""
    a = Assembly(rng)
    metal = m.one_of(rng, (*m.METALS, m.ceramic))
    dark = m.one_of(rng, (m.rubber, m.wood, m.polished_metal))
    kind = a.choose("pan", "pot", "pot", "bowl", "stand", "mortar")
    r = a.between(0.5, 0.8)
    if kind == "pan":
        h = a.between(0.12, 0.25)
        outer = spline([(0.8 * r, 0), (0.9 * r, 0.3 * h), (r, h)], 10)
        a.add(vessel(outer, 0.03), metal)
        a.add(
            sweep(
                spline([(r - 0.02, 0.8 * h, 0), (1.3 * r, h, 0), (2.2 * r, 1.3 * h, 0)], 12),
                rounded_rectangle(0.12, 0.06, 0.028, 3),
            ),
            dark,
        )
        if a.chance(0.5):
            a.add(
                ellipsoid((0.9 * r, 0.04, 0.8 * r), segments=24),
                m.ceramic(rng, (0.96, 0.95, 0.9)),
                (-0.1, 0.05, 0),
            )
            a.add(
                ellipsoid((0.36 * r, 0.14, 0.36 * r), segments=18),
                m.plastic(rng, (0.95, 0.7, 0.12)),
                (-0.1, 0.06, 0.05),
            )
    elif kind == "pot":
        h = a.between(0.5, 1.0)
        belly = a.between(0.95, 1.15)
        outer = spline([(0.9 * r, 0), (belly * r, 0.35 * h), (r, h)], 16)
        a.add(vessel(outer, 0.035), metal)
        for s in (0.0, math.pi):
            grip = [
                (r - 0.02, 0.8 * h, -0.15),
                (1.25 * r, 0.85 * h, -0.12),
                (1.25 * r, 0.85 * h, 0.12),
                (r - 0.02, 0.8 * h, 0.15),
            ]
            a.add(tube(spline(grip, 14), 0.035, 8).turned(y=s), dark)
        if a.chance(0.7):
            lid = m.glass(rng) if a.chance(0.35) else metal
            at = (0, h, 0) if a.chance(0.7) else (0.35 * r, h + 0.15, 0.1)
            tilt = 0.0 if at[0] == 0 else -0.35
            dome = lathe([(1.02 * r, 0), (1.0 * r, 0.05), (0.6 * r, 0.16), (0, 0.2)], 40)
            a.add(dome.turned(z=tilt), lid, at)
            a.add(ellipsoid((0.16, 0.12, 0.16), segments=14).moved(y=0.26).turned(z=tilt), dark, at)
        if a.chance(0.4):
            a.add(filling(outer, 0.035, 0.75 * h), m.liquid(rng))
    elif kind == "stand":
        a.add(
            lathe(
                [
                    (0, 0),
                    (0.4, 0),
                    (0.35, 0.05),
                    (0.06, 0.12),
                    (0.06, 0.4),
                    (0.2, 0.45),
                    (r, 0.46),
                    (r, 0.5),
                    (0, 0.5),
                ],
                40,
            ),
            metal,
        )
        _cake(a, 0.5, 0.6 * r)
        if a.chance(0.7):
            a.add(
                lathe(spline([(0.9 * r, 0.5), (0.88 * r, 0.5 + 0.8 * r), (0, 0.5 + 1.3 * r)], 24), 40),
                m.glass(rng),
            )
            a.add(ellipsoid(0.12, segments=14), metal, (0, 0.54 + 1.3 * r, 0))
    else:
        h = a.between(0.35, 0.7) * r * 1.4
        body = m.one_of(rng, (*m.CERAMICS, m.wood, m.hammered_metal, m.granite, m.glass))
        outer = spline([(0.5 * r, 0), (0.55 * r, 0.08 * h), (0.9 * r, 0.55 * h), (r, h)], 20)
        a.add(
            vessel(outer, a.between(0.03, 0.08), radius=_squared(rng, 48, 0.04) if a.chance(0.25) else None),
            body,
        )
        if kind == "mortar":
            a.add(
                tube(
                    spline([(0, 0.2, 0), (0.5 * r, h, 0.1), (0.8 * r, 1.5 * h, 0.15)], 8),
                    [0.16, 0.15, 0.12, 0.1, 0.1, 0.1, 0.12, 0.1],
                    14,
                ),
                body,
            )
        else:
            fruit_pile(a, 0.35 * h, 0.75 * r)
    return a.asset()


def _cake(a: Assembly, y: float, r: float) -> None:
    layers = a.count(1, 3)
    tone = palettes.draw(
        a.rng, ((0.95, 0.85, 0.75), (0.45, 0.28, 0.18), (0.95, 0.7, 0.75), (0.97, 0.95, 0.9))
    )
    cream, sponge = m.plastic(a.rng, tone), m.crust(a.rng, (0.80, 0.60, 0.36))
    for _ in range(layers):
        t = 0.16
        a.add(cylinder(r * 0.98, t, 36), sponge, (0, y, 0))
        a.add(
            lathe([(0, t), (r, t), (r * 1.02, t + 0.03), (r, t + 0.06), (0, t + 0.06)], 36), cream, (0, y, 0)
        )
        y += t + 0.06
        r *= a.choose(1.0, 0.75)
    cherry = m.peel(a.rng, (0.75, 0.12, 0.12))
    n = a.count(3, 8)
    for i in range(n):
        c = circle(n, 0.75 * r)[i]
        a.add(ellipsoid(0.13, segments=12, rows=8), cherry, (c[0], y + 0.05, c[1]))


def fruit_pile(a: Assembly, y: float, r: float) -> None:
    """Apples, oranges, lemons, eggs heaped within radius r from height y."""
    tones = (
        (0.78, 0.16, 0.14),
        (0.95, 0.58, 0.12),
        (0.93, 0.80, 0.2),
        (0.5, 0.66, 0.22),
        (0.9, 0.82, 0.7),
        (0.4, 0.15, 0.3),
    )
    kinds = [m.peel(a.rng, palettes.draw(a.rng, tones)) for _ in range(2)]
    size = a.between(0.28, 0.42) * r
    ring = max(3, int(2 * math.pi * 0.6 * r / (2.1 * size)))
    spots = [(0.6 * r * c, size * 0.6, 0.6 * r * s) for c, s in circle(ring)] + [(0.0, size * 1.5, 0.0)]
    long = a.choose(1.0, 1.0, 1.3)
    for x, dy, z in spots:
        fruit = ellipsoid((2 * size, 2 * size * long, 2 * size), segments=18, rows=12)
        a.add(fruit.turned(x=a.between(-1, 1), z=a.between(-1, 1)), kinds[a.count(0, 1)], (x, y + dy, z))


def teapot(rng: np.random.Generator) -> Asset:
    """Tea- and coffee pots with spout, handle and lid; watering cans."""
    a = Assembly(rng)
    body: Material = m.one_of(rng, (*m.CERAMICS, *m.METALS, m.glass))
    h, r = a.between(0.7, 1.3), a.between(0.45, 0.65)
    outer = spline(
        [(0.6 * r, 0), (a.between(0.85, 1.1) * r, 0.3 * h), (a.between(0.6, 1.0) * r, 0.7 * h), (0.5 * r, h)],
        26,
    )
    a.add(vessel(outer, 0.035, radius=_squared(rng, 48, 0.03) if a.chance(0.2) else None), body)
    top = float(outer[-1, 0])
    lid = lathe(spline([(top + 0.03, h), (0.7 * top, h + a.between(0.06, 0.2)), (0, h + 0.2)], 14), 32)
    a.add(lid, body)
    a.add(
        ellipsoid((0.14, 0.14, 0.14), segments=14),
        m.one_of(rng, (m.wood, m.polished_metal)) if a.chance(0.4) else body,
        (0, h + 0.26, 0),
    )
    low = 0.3 * h
    x = float(np.interp(low, outer[:, 1], outer[:, 0]))
    tip = (-x - a.between(0.35, 0.6), a.between(0.75, 1.05) * h, 0.0)
    path = spline([(-x + 0.1, low, 0), (-x - 0.2, 0.45 * h, 0), (-x - 0.3, 0.75 * h, 0), tip], 18)
    a.add(tube(path, np.linspace(a.between(0.12, 0.17), 0.06, 18), 14), body)
    handle = body if a.chance(0.7) else m.wood(rng)
    if a.chance(0.7):
        xs = (
            min(np.interp(0.2 * h, outer[:, 1], outer[:, 0]), np.interp(0.8 * h, outer[:, 1], outer[:, 0]))
            - 0.04
        )
        a.add(
            ear(float(xs), 0.2 * h, 0.8 * h, a.between(0.4, 0.55), 0.08, a.choose("loop", "ear", "square")),
            handle,
        )
    else:
        arch = spline(
            [
                (-0.8 * top, h, 0),
                (-0.9 * r, 1.35 * h, 0),
                (0, 1.75 * h, 0),
                (0.9 * r, 1.35 * h, 0),
                (0.8 * top, h, 0),
            ],
            24,
        )
        a.add(tube(arch, 0.04, 10), handle)
    return a.asset()


FAMILIES = {
    "mug": mug, "bottle": bottle, "drinking_glass": drinking_glass, "vase": vase, "cookware": cookware,
    "teapot": teapot,
}  # fmt: skip
