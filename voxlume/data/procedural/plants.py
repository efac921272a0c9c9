"""Potted plants with leaves as thin sheets, flowers, trees."""

from __future__ import annotations

import math

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import materials as m
from voxlume.data.procedural import palettes
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.shapes import (
    Array,
    Shape,
    blade,
    cylinder,
    ellipsoid,
    lathe,
    spline,
    tube,
    vessel,
)

_GOLDEN = math.pi * (3 - math.sqrt(5))


def _around(angle: float) -> Array:
    return np.array([math.sin(angle), 0.0, math.cos(angle)])


def leaf_shape(
    root: Array,
    angle: float,
    rise: float,
    length: float,
    width: float,
    *,
    droop: float,
    fold: float,
    tip: float = 0.0,
) -> Shape:
    """A leaf from ``root`` outwards at ``angle`` about y, rising at first, then drooping.

    ``rise`` and ``droop`` are angles of the first and the last piece in radians; ``tip`` 0 ends in a point.
    """
    t = np.linspace(0, 1, 9)
    slope = rise - droop * t
    step = length / 8
    out = np.concatenate([[0.0], np.cumsum(np.cos(slope[:-1]))]) * step
    up = np.concatenate([[0.0], np.cumsum(np.sin(slope[:-1]))]) * step
    outward = _around(angle)
    spine = root + out[:, None] * outward + up[:, None] * (0.0, 1.0, 0.0)
    outline = width * np.maximum(np.sin(math.pi * t**0.75), tip * (t > 0.3)) + 0.08 * width * (1 - t)
    across = np.array([outward[2], 0.0, -outward[0]])
    return blade(spine, outline, across, fold=fold)


def flowers(a: Assembly, y: float, spread: float, count: int) -> None:
    """Stems out of a neck at height y, each with a blossom and a leaf or two."""
    stem = m.plastic(a.rng, palettes.draw(a.rng, palettes.LEAF))
    green = m.leaf(a.rng)
    petal, middle = (
        m.petal(a.rng),
        m.plastic(a.rng, palettes.draw(a.rng, ((0.9, 0.75, 0.2), (0.35, 0.2, 0.1)))),
    )
    kind = a.choose("daisy", "tulip", "ball")
    for i in range(count):
        angle = _GOLDEN * i + a.between(0, 1)
        out = _around(angle) * a.between(0.15, 0.55) * (0.3 if count == 1 else 1)
        top = np.array([out[0], y + a.between(0.35, 0.75), out[2]])
        path = spline([out * spread - (0, 0.3 - y, 0), out * spread * 1.2 + (0, y, 0), top], 8)
        a.add(tube(path, 0.018, 6), stem)
        blossom(a, top, angle, a.between(0.14, 0.22), kind, petal, middle)
        a.add(
            leaf_shape(path[4], angle + 1.5, 0.8, a.between(0.2, 0.35), 0.09, droop=1.2, fold=0.3),
            green,
            placed=True,
        )


def blossom(
    a: Assembly, at: Array, angle: float, r: float, kind: str, petal: Material, middle: Material
) -> None:
    """One flower head."""
    if kind == "ball":
        a.add(ellipsoid(1.4 * r, segments=14, rows=10), petal, at, placed=True)
        return
    n = 6 if kind == "tulip" else a.count(6, 11)
    rise, droop = (1.35, 0.1) if kind == "tulip" else (0.5, 0.7)
    for k in range(n):
        p = leaf_shape(
            np.zeros(3),
            2 * math.pi * k / n,
            rise,
            r * (1.3 if kind == "tulip" else 1),
            0.75 * r,
            droop=droop,
            fold=0.3,
        )
        a.add(p.turned(x=0.3 * math.cos(angle), z=-0.3 * math.sin(angle)), petal, at, placed=True)
    if kind == "daisy":
        a.add(ellipsoid((0.6 * r, 0.35 * r, 0.6 * r), segments=12, rows=8), middle, at + (0, 0.05 * r, 0))


def _pot(a: Assembly) -> tuple[float, float]:
    """A pot with soil; returns the height of the soil and the pot's inner radius there."""
    material = m.one_of(a.rng, (m.terracotta, m.terracotta, *m.CERAMICS, m.concrete, m.painted_metal, m.wood))
    h, r = a.between(0.35, 0.7), a.between(0.3, 0.45)
    foot = a.between(0.6, 0.95) * r
    style = a.choose("cone", "lip", "bowl", "box")
    if style == "lip":
        outer = np.array([[foot, 0], [0.95 * r, 0.78 * h], [1.06 * r, 0.78 * h], [1.08 * r, h]])
    elif style == "bowl":
        outer = spline([(foot, 0), (1.15 * r, 0.45 * h), (r, h)], 14)
    else:
        outer = np.array([[foot, 0.0], [r, h]])
    if style == "box":
        angle = 2 * np.pi * np.arange(48) / 48 + 0.001
        square = 1 / (np.abs(np.cos(angle)) ** 14 + np.abs(np.sin(angle)) ** 14) ** (1 / 14)
        a.add(vessel(outer, 0.05, radius=square), material)
        square = square * 0.97
        a.add(lathe([(0.93 * r, 0.85 * h), (0, 0.86 * h)], radius=square), m.soil(a.rng))
    else:
        a.add(vessel(outer, 0.045), material)
        inner = float(np.interp(0.85 * h, outer[:, 1], outer[:, 0])) - 0.04
        a.add(lathe([(inner, 0.85 * h), (0.6 * inner, 0.87 * h), (0, 0.89 * h)], 32), m.soil(a.rng))
    if a.chance(0.3) and style != "box":
        a.add(vessel(spline([(1.0 * foot, -0.05), (1.2 * r, 0.0), (1.25 * r, 0.06)], 8), 0.03), material)
    return 0.86 * h, 0.8 * r


def potted_plant(rng: np.random.Generator) -> Asset:
    """Grasses, rubber trees, palms, ferns, cacti, succulents, flowers, bonsai, herbs."""
    a = Assembly(rng)
    y, r = _pot(a)
    green = m.leaf(rng)
    base = np.array([0.0, y, 0.0])
    kind = a.choose(
        "blades", "broad", "broad", "palm", "fern", "cactus", "succulent", "flowers", "cards", "bush"
    )
    if kind == "blades":
        n, tall = a.count(14, 36), a.between(0.7, 1.5)
        droop, wide = a.between(0.2, 1.6), a.between(0.05, 0.12)
        for i in range(n):
            root = base + 0.5 * r * math.sqrt(i / n) * _around(_GOLDEN * i)
            rise = 1.5 - 0.7 * i / n
            a.add(
                leaf_shape(root, _GOLDEN * i, rise, tall * a.between(0.7, 1), wide, droop=droop, fold=0.5),
                green,
                placed=True,
            )
    elif kind == "broad":
        stem = m.bark(rng) if a.chance(0.5) else m.plastic(rng, palettes.draw(rng, palettes.LEAF))
        tall, n = a.between(0.6, 1.4), a.count(9, 20)
        trunk = spline([base, base + (0.08, 0.5 * tall, 0.03), base + (a.between(-0.15, 0.15), tall, 0)], 12)
        a.add(tube(trunk, np.linspace(0.05, 0.025, 12), 8), stem)
        wide, long, droop = a.between(0.5, 0.9), a.between(0.35, 0.6), a.between(0.4, 1.4)
        for i in range(n):
            t = 0.3 + 0.7 * (i + 1) / n
            root = trunk[min(11, int(11 * t))]
            size = long * (1.15 - 0.5 * t)
            angle = _GOLDEN * i
            start = root + 0.12 * _around(angle) + (0, 0.08, 0)
            a.add(tube([root, start], 0.012, 5), stem)
            a.add(
                leaf_shape(
                    start, angle, a.between(0.2, 0.9), size, wide * size, droop=droop, fold=a.between(0, 0.4)
                ),
                green,
                placed=True,
            )
    elif kind in ("palm", "fern"):
        bark = m.bark(rng)
        tall = a.between(0.5, 1.3) if kind == "palm" else 0.05
        top = base + (a.between(-0.1, 0.1), tall, 0)
        if kind == "palm":
            a.add(
                tube(
                    spline([base, base + (0.05, tall / 2, 0), top], 14),
                    0.06 + 0.012 * np.cos(np.arange(14) * math.pi),
                    10,
                ),
                bark,
            )
        _fronds(a, top, green, a.count(7, 12), a.between(0.6, 0.95), a.between(1.2, 2.2))
    elif kind == "cactus":
        _cactus(a, base, r)
    elif kind == "succulent":
        n, long, thick = a.count(16, 30), a.between(0.3, 0.55), a.between(0.25, 0.4)
        skin = m.peel(rng, palettes.draw(rng, palettes.LEAF))
        for i in range(n):
            t = i / n
            leaf = ellipsoid((thick * long, long, 0.35 * thick * long), segments=12, rows=9).moved(
                y=0.42 * long
            )
            size = 0.5 + 0.5 * t
            a.add(
                leaf.scaled(size).turned(x=0.15 + 1.15 * t).turned(y=_GOLDEN * i),
                skin,
                base + (0, 0.1 * (1 - t), 0),
            )
    elif kind == "flowers":
        flowers(a, y, 0.6 * r, a.count(3, 7))
        for i in range(a.count(6, 12)):
            a.add(
                leaf_shape(
                    base + 0.3 * r * _around(_GOLDEN * i),
                    _GOLDEN * i,
                    1.0,
                    a.between(0.3, 0.5),
                    0.16,
                    droop=1.2,
                    fold=0.3,
                ),
                green,
                placed=True,
            )
    elif kind == "cards":
        card = m.leaf_card(rng)
        n, size = a.count(10, 18), a.between(0.6, 1.0)
        for i in range(n):
            a.add(
                leaf_shape_card(base, _GOLDEN * i, 1.4 - 1.0 * i / n, size * a.between(0.8, 1.1)),
                card,
                placed=True,
            )
    else:
        bark, mass = m.bark(rng), m.foliage(rng)
        tall = a.between(0.4, 1.0)
        a.add(
            tube(
                spline([base, base + (a.between(-0.15, 0.15), tall / 2, 0.05), base + (0, tall, 0)], 10),
                0.045,
                8,
            ),
            bark,
        )
        crown(a, mass, base + (0, tall + 0.25, 0), a.between(0.35, 0.5), a.choose("ball", "clouds", "cone"))
    return a.asset()


def leaf_shape_card(root: Array, angle: float, rise: float, size: float) -> Shape:
    """A square card from ``root`` outwards, a little bent, for a picture of a twig."""
    t = np.linspace(0, 1, 6)
    slope = rise - 0.9 * t
    out, up = np.cumsum(np.cos(slope)) * size / 6, np.cumsum(np.sin(slope)) * size / 6
    outward = _around(angle)
    spine = root + out[:, None] * outward + up[:, None] * (0.0, 1.0, 0.0)
    return blade(spine, 0.8 * size, (outward[2], 0.0, -outward[0]), fold=0.2)


def _fronds(a: Assembly, top: Array, green: Material, n: int, length: float, droop: float) -> None:
    """Arching ribs with leaflets on both sides."""
    stem = m.plastic(a.rng, palettes.draw(a.rng, palettes.LEAF))
    leaflets, wide = a.count(6, 10), a.between(0.05, 0.09)
    for i in range(n):
        angle, outward = _GOLDEN * i, _around(_GOLDEN * i)
        t = np.linspace(0, 1, leaflets + 2)
        slope = a.between(0.7, 1.3) - droop * t
        out, up = np.cumsum(np.cos(slope)) * length / len(t), np.cumsum(np.sin(slope)) * length / len(t)
        rib = top + out[:, None] * outward + up[:, None] * (0.0, 1.0, 0.0)
        a.add(tube(rib, 0.012, 5), stem)
        for k in range(1, len(t)):
            size = 0.42 * length * math.sin(math.pi * (0.12 + 0.8 * t[k]))
            for s in (-1, 1):
                a.add(
                    leaf_shape(
                        rib[k], angle + s * 1.1, slope[k] * 0.5 + 0.1, size, wide, droop=0.8, fold=0.3
                    ),
                    green,
                    placed=True,
                )


def _cactus(a: Assembly, base: Array, r: float) -> None:
    skin = m.peel(a.rng, palettes.draw(a.rng, palettes.LEAF[:6]))
    ribs = 1 + 0.1 * np.cos(a.count(8, 14) * 2 * np.pi * np.arange(64) / 64)
    kind = a.choose("column", "ball", "pads")
    top = base
    if kind == "pads":

        def pad(at: Array, size: float, tilt: float, turn: float, depth: int) -> None:
            shape = (
                ellipsoid((0.8 * size, size, 0.2 * size), segments=20)
                .moved(y=0.45 * size)
                .turned(z=tilt)
                .turned(y=turn)
            )
            a.add(shape, skin, at)
            if depth:
                for s in (-1, 1):
                    end = np.array(
                        [-math.sin(tilt) * math.cos(turn), math.cos(tilt), math.sin(tilt) * math.sin(turn)]
                    )
                    pad(at + 0.85 * size * end, 0.65 * size, tilt + s * a.between(0.4, 0.8), turn, depth - 1)

        pad(base - (0, 0.05, 0), a.between(0.5, 0.7), 0.0, a.between(-0.5, 0.5), a.count(1, 2))
        return
    h = a.between(0.4, 0.6) if kind == "ball" else a.between(0.8, 1.5)
    w = min(0.5 * h, 0.9 * r) if kind == "ball" else a.between(0.13, 0.2)
    profile = spline([(0.7 * w, 0), (w, 0.25 * h), (w, 0.7 * h), (0.75 * w, 0.93 * h), (0.0, h)], 24)
    profile[:, 0] = np.maximum(profile[:, 0], 0)
    a.add(lathe(profile, radius=ribs), skin, base - (0, 0.03, 0))
    top = base + (0, h - 0.03, 0)
    if kind == "column":
        for _ in range(a.count(0, 3)):
            angle, y = a.between(0, 6.3), a.between(0.3, 0.6) * h
            outward = _around(angle)
            path = [
                base + (0, y, 0),
                base + 2.0 * w * outward + (0, y + 0.02, 0),
                base + 2.4 * w * outward + (0, y + 0.15, 0),
                base + 2.4 * w * outward + (0, y + 0.3 * h, 0),
            ]
            radius = np.full(14, 0.6 * w) * np.sqrt(np.linspace(1, 0.02, 14).clip(0, 0.6) / 0.6)
            a.add(tube(spline(path, 14), radius, 12), skin)
    if a.chance(0.5):
        blossom(a, top, 0.0, 0.14, "daisy", m.petal(a.rng), m.plastic(a.rng, (0.9, 0.8, 0.2)))


def crown(a: Assembly, mass: Material, at: Array, r: float, style: str) -> None:
    """A mass of leaves: a ball, a cone, or several clouds."""

    def lump(center: Array, size: float, flat: float = 1.0) -> None:
        s = ellipsoid((2 * size, 2 * size * flat, 2 * size), segments=22, rows=14)
        v = s.vertices
        n = 3 + 9 * a.rng.random(3)
        bump = 1 + 0.06 * (
            np.sin(n[0] * v[:, 0] / size)
            + np.sin(n[1] * v[:, 1] / size + 1)
            + np.sin(n[2] * v[:, 2] / size + 2)
        )
        a.add(Shape(v * bump[:, None], s.uvs, s.faces), mass, center)

    if style == "ball":
        lump(at, r)
    elif style == "cone":
        layers = a.count(2, 4)
        for i in range(layers):
            w, y = r * (1.15 - 0.8 * i / layers), at[1] - 0.5 * r + 1.6 * r * i / layers
            a.add(cylinder(w, 1.3 * r, 28, top=0.0), mass, (at[0], y, at[2]))
    else:
        lump(at, 0.75 * r)
        for i in range(a.count(3, 6)):
            lump(
                at + r * (0.75 * _around(_GOLDEN * i) + (0, a.between(-0.4, 0.5), 0)),
                r * a.between(0.4, 0.6),
                0.8,
            )


def tree(rng: np.random.Generator) -> Asset:
    """Broad-leaved trees, conifers, palms, bare trees, on a piece of ground."""
    a = Assembly(rng)
    bark = m.bark(rng)
    kind = a.choose("clouds", "ball", "cone", "palm", "bare", "cards", "cards")
    tall = a.between(0.9, 1.6)
    lean = np.array([a.between(-0.2, 0.2), tall, a.between(-0.1, 0.1)])
    trunk = spline([(0, 0, 0), 0.5 * lean + (a.between(-0.1, 0.1), 0, 0), lean], 12)
    thick = a.between(0.07, 0.14)
    radius = np.linspace(1, 0.5, 12) * thick
    radius[0] *= 1.5
    a.add(tube(trunk, radius, 12), bark)
    if kind in ("clouds", "ball", "cone"):
        crown(a, m.foliage(rng), lean + (0, 0.3 if kind != "cone" else -0.1, 0), a.between(0.45, 0.75), kind)
        if kind == "clouds":
            for i in range(3):
                a.add(
                    tube(
                        [trunk[7 + i], lean + 0.5 * _around(2.1 * i) + (0, 0.15, 0)],
                        [0.5 * thick, 0.2 * thick],
                        8,
                    ),
                    bark,
                )
    elif kind == "palm":
        _fronds(a, lean, m.leaf(rng), a.count(8, 12), a.between(0.7, 1.0), a.between(1.4, 2.2))
        for i in range(a.count(0, 4)):
            a.add(
                ellipsoid((0.14, 0.18, 0.14), segments=12, rows=9),
                m.wood(rng),
                lean + 0.12 * _around(1.7 * i) - (0, 0.08, 0),
            )
    else:
        card = m.leaf_card(rng)

        def branch(start: Array, direction: Array, length: float, r: float, depth: int) -> None:
            end = start + length * direction
            a.add(
                tube(
                    spline(
                        [
                            start,
                            start + 0.5 * length * direction + 0.06 * length * (a.rng.random(3) - 0.5),
                            end,
                        ],
                        5,
                    ),
                    np.linspace(r, 0.6 * r, 5),
                    7,
                ),
                bark,
            )
            if depth:
                for k in range(n := a.count(2, 3)):
                    out = _around(a.between(0, 1) + 2 * math.pi * k / n)
                    d = direction * 0.8 + 0.75 * out + (0, 0.15, 0)
                    branch(
                        end, d / math.sqrt(float(d @ d)), length * a.between(0.6, 0.8), 0.62 * r, depth - 1
                    )
            elif kind == "cards":
                for k in range(3):
                    a.add(
                        leaf_shape_card(
                            end - 0.1 * direction, 2.1 * k + a.between(0, 2), 0.9, a.between(0.3, 0.5)
                        ),
                        card,
                        placed=True,
                    )

        for i in range(n := a.count(3, 4)):
            d = 0.8 * _around(2 * math.pi * i / n + a.between(0, 0.6)) + (0, 0.8, 0)
            branch(trunk[-2], d / math.sqrt(float(d @ d)), 0.45, 0.5 * thick, 2)
    if a.chance(0.6):
        ground = a.between(0.3, 0.6)
        a.add(
            ellipsoid((2 * ground, 0.16, 2 * ground), segments=28),
            m.one_of(rng, (m.soil, m.foliage, m.cobbles)),
        )
    return a.asset()


FAMILIES = {"potted_plant": potted_plant, "tree": tree}
