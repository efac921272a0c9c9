"""Chests, boxes, crates, barrels, baskets, suitcases: things with an inside, open or closed."""

from __future__ import annotations

import math

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import materials as m
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.furniture import small_thing
from voxlume.data.procedural.shapes import (
    Shape,
    blocks,
    box,
    cylinder,
    ellipsoid,
    lathe,
    sheet,
    spline,
    torus,
    tube,
    vessel,
)


def tray(w: float, h: float, d: float, wall: float) -> Shape:
    """A box without a lid, standing on the floor."""
    filled = np.ones((3, 2, 3), bool)
    filled[1, 1, 1] = False
    x, z = (np.array([-s / 2, -s / 2 + wall, s / 2 - wall, s / 2]) for s in (w, d))
    return blocks(x, [0, wall, h], z, filled)


def fill(a: Assembly, w: float, h: float, d: float) -> None:
    """Fill a box of this inside: coins, balls, cloth, odd things."""
    kind = a.choose("coins", "balls", "cloth", "things", "things")
    if kind == "coins":
        gold = m.polished_metal(a.rng)
        x, z = np.meshgrid(np.linspace(-0.5, 0.5, 15), np.linspace(-0.5, 0.5, 15))
        heap = 0.3 * h + 0.45 * h * np.cos(x * 2.6) * np.cos(z * 2.6) + 0.04 * h * a.rng.random(x.shape)
        a.add(sheet(np.stack([x * w, heap, z * d], -1)), gold)
        for _ in range(16):
            at = (a.between(-0.4, 0.4) * w, a.between(0.55, 0.75) * h, a.between(-0.4, 0.4) * d)
            coin = cylinder(0.06 * d, 0.015 * d, 14).turned(x=a.between(-1, 1), z=a.between(-1, 1))
            a.add(coin, gold, at)
    elif kind == "balls":
        kinds = [m.one_of(a.rng, m.SOLID) for _ in range(2)]
        r = 0.5 * min(w, d) / a.count(2, 3)
        nx, nz = max(1, int(w / (2 * r))), max(1, int(d / (2 * r)))
        for i in range(nx):
            for k in range(nz):
                at = (w * ((i + 0.5) / nx - 0.5), r + a.between(0, 0.3) * h, d * ((k + 0.5) / nz - 0.5))
                a.add(ellipsoid(1.9 * r, segments=18, rows=12), kinds[a.count(0, 1)], at)
    elif kind == "cloth":
        x, z = np.meshgrid(np.linspace(-0.5, 0.5, 24), np.linspace(-0.5, 0.5, 24))
        fold = 0.5 * h + 0.12 * h * np.sin(9 * x + 3 * np.sin(4 * z)) + 0.1 * h * np.sin(7 * z - 4 * x)
        a.add(sheet(np.stack([x * w, fold, z * d], -1)), m.fabric(a.rng, double_sided=True))
    else:
        for i in range(n := a.count(1, 3)):
            room = min(w / n, d, h) * 0.9
            small_thing(a, (w * ((i + 0.5) / n - 0.5), 0.0, a.between(-0.1, 0.1) * d), room)


def chest(rng: np.random.Generator) -> Asset:
    """Treasure chests, toolboxes, jewel boxes, suitcases: lid open or closed, hollow in both cases."""
    a = Assembly(rng)
    kind = a.choose("chest", "chest", "box", "case")
    body = m.one_of(
        rng,
        {"case": (m.leather, m.plastic, m.painted_metal)}.get(
            kind, (m.planks, m.wood, m.weathered_paint, m.painted_metal, m.leather)
        ),
    )
    band = m.one_of(rng, m.METALS)
    w, d, h = a.between(0.8, 1.3), a.between(0.5, 0.8), a.between(0.35, 0.6)
    wall = a.between(0.03, 0.05)
    if kind == "case":
        d, h = a.between(0.55, 0.75), a.between(0.15, 0.25)
    a.add(tray(w, h, d, wall), body)
    opening = a.choose(0.0, 0.0, a.between(0.5, 1.2), a.between(1.4, 2.0))
    lid = Assembly(rng)
    if kind == "chest":
        rise = a.between(0.5, 1.0) * d / 2
        angle = np.linspace(0, math.pi, 14)
        arc = np.stack([d / 2 - d / 2 * np.cos(angle), rise * np.sin(angle)], 1)
        inner = np.stack([d / 2 - (d / 2 - wall) * np.cos(angle), (rise - wall) * np.sin(angle)], 1)

        def wings(points: np.ndarray) -> np.ndarray:
            rows = (
                np.stack([points[:, 0] * 0 - w / 2, points[:, 1], points[:, 0]], 1),
                np.stack([points[:, 0] * 0 + w / 2, points[:, 1], points[:, 0]], 1),
            )
            return np.stack(rows, 1)

        lid.add(sheet(wings(arc)), body)
        lid.add(sheet(wings(inner)).flipped(), body)
        for x, s in ((-w / 2, -1), (w / 2, 1)):
            outline = np.stack([np.full(14, x), arc[:, 1], arc[:, 0]], 1)
            inside = np.stack([np.full(14, x - s * wall), inner[:, 1], inner[:, 0]], 1)
            for ring, flip in ((outline, s > 0), (inside, s < 0)):
                face = sheet(np.stack([ring, ring * (1, 0, 1)], 0))
                lid.add(face if not flip else face.flipped(), body)
        for t in (-0.36, 0.36) if a.chance(0.7) else ():
            path = np.stack([np.full(14, t * w), arc[:, 1] + 0.004, arc[:, 0]], 1)
            lid.add(sheet(np.stack([path - (0.03, 0, 0), path + (0.03, 0, 0)], 1)), band)
            for z in (-d / 2 - 0.005, d / 2 + 0.005):
                a.add(box((0.06, h, 0.012)), band, (t * w, h / 2, z))
        lid.add(box((0.12, 0.14, 0.03), bevel=0.008), band, (0, 0.0, d + 0.015))
    else:
        tall = h if kind == "case" else a.between(0.06, 0.16)
        lid.add(tray(w, tall, d, wall).scaled(1, -1, 1).moved(y=tall, z=d / 2), body)
        if kind == "case":
            for s in (-1, 1):
                for y in (0.0, h):
                    for z in (-d / 2, d / 2):
                        part = a if y == 0 else lid
                        at = (s * w / 2, 0.0, z) if y == 0 else (s * w / 2, tall, z + d / 2)
                        part.add(ellipsoid(0.06, segments=12, rows=8), band, at)
            a.add(
                tube(
                    spline(
                        [
                            (-0.14, h, d / 2),
                            (-0.12, h, d / 2 + 0.09),
                            (0.12, h, d / 2 + 0.09),
                            (0.14, h, d / 2),
                        ],
                        14,
                    ),
                    0.022,
                    8,
                ),
                band,
            )
        else:
            lid.add(ellipsoid((0.1, 0.06, 0.1), segments=14), band, (0, tall + 0.02, d / 2))
    a.add(box((0.1, 0.12, 0.02), bevel=0.006), band, (0, 0.8 * h, d / 2 + 0.01))
    # The lid's hinge is at its z = 0; it opens backwards.
    for shape, material in lid.parts:
        a.add(shape.turned(x=-opening), material, (0, h + 0.004, -d / 2), placed=True)
    if opening > 0 or a.chance(0.4):
        content = Assembly(rng)
        fill(content, w - 2 * wall, 0.8 * h, d - 2 * wall)
        a.absorb(content, at=(0, wall + 0.002, 0))
    return a.asset()


def crate(rng: np.random.Generator) -> Asset:
    """Slatted crates, pallets, barrels, baskets, cardboard boxes with flaps, jerrycans, buckets."""
    a = Assembly(rng)
    kind = a.choose("slats", "slats", "panel", "barrel", "basket", "cardboard", "bucket", "drum")
    wood = m.one_of(rng, (m.wood, m.weathered_paint, m.planks))
    metal = m.one_of(rng, m.METALS)
    w, h, d = a.between(0.7, 1.2), a.between(0.5, 1.0), a.between(0.6, 1.0)
    if kind in ("slats", "panel"):
        _crate(a, wood, metal, w, h, d, kind == "slats")
    elif kind == "barrel":
        r, bulge = a.between(0.35, 0.45), a.between(1.08, 1.25)
        h = a.between(0.9, 1.2)
        outer = spline([(r, 0), (bulge * r, h / 2), (r, h)], 20)
        is_open = a.chance(0.4)
        staves = m.planks(rng)
        if is_open:
            a.add(vessel(outer, 0.04, 32), staves)
        else:
            a.add(
                lathe(
                    np.concatenate(
                        [
                            [[0, 0.05], [r - 0.03, 0.05], [r - 0.03, 0]],
                            outer,
                            [[r - 0.03, h], [r - 0.03, h - 0.05], [0, h - 0.05]],
                        ]
                    ),
                    32,
                ),
                staves,
            )
        for y in (0.08, 0.28, 0.72, 0.92):
            rr = float(np.interp(y * h, outer[:, 1], outer[:, 0])) + 0.008
            r2 = float(np.interp(y * h + 0.05, outer[:, 1], outer[:, 0])) + 0.008
            a.add(
                lathe([(rr - 0.02, y * h), (rr, y * h), (r2, y * h + 0.05), (r2 - 0.02, y * h + 0.05)], 32),
                metal,
            )
    elif kind == "basket":
        r, h = a.between(0.4, 0.6), a.between(0.3, 0.6)
        cane = m.wicker(rng)
        outer = spline([(0.7 * r, 0.0), (0.95 * r, 0.5 * h), (r, h)], 12)
        depth = a.between(0.7, 1.0)
        a.add(lathe(np.concatenate([[[0, 0]], outer]), 36, depth=depth), cane)
        solid = m.wood(rng)
        a.add(torus(r, 0.03, 40, 8).scaled(1, 1, depth), solid, (0, h, 0))
        a.add(torus(0.7 * r, 0.025, 40, 8).scaled(1, 1, depth), solid, (0, 0.01, 0))
        if a.chance(0.6):
            arch = spline(
                [
                    (-r, h, 0),
                    (-0.8 * r, h + 0.7 * r, 0),
                    (0, h + 1.1 * r, 0),
                    (0.8 * r, h + 0.7 * r, 0),
                    (r, h, 0),
                ],
                24,
            )
            a.add(tube(arch, 0.03, 8), solid)
        if a.chance(0.6):
            small_thing(a, (0, 0.03, 0), 1.1 * r)
    elif kind == "cardboard":
        _carton(a, w, h * 0.8, d)
    elif kind == "drum":
        r, h = 0.4, a.between(0.9, 1.2)
        levels = np.linspace(0, h, 40)
        rib = 0.02 * np.exp(-(((levels[:, None] - h * np.array([0.0, 0.33, 0.67, 1.0])) / 0.02) ** 2)).sum(1)
        profile = np.concatenate(
            [
                [[0, 0.02], [r - 0.02, 0.02]],
                np.stack([r + rib, levels], 1),
                [[r - 0.02, h - 0.02], [0, h - 0.02]],
            ]
        )
        a.add(lathe(profile, 40), m.one_of(rng, (m.painted_metal, m.rusty_metal, m.plastic)))
        a.add(cylinder(0.06, 0.05, 14), metal, (0.2, h - 0.02, 0.1))
    else:
        r, h = a.between(0.3, 0.4), a.between(0.5, 0.7)
        skin = m.one_of(rng, (m.plastic, m.brushed_metal, m.painted_metal, m.planks))
        outer = np.array([[0.75 * r, 0.0], [r, h]])
        a.add(vessel(outer, 0.025, 36), skin)
        a.add(torus(r, 0.02, 36, 8), metal, (0, h, 0))
        up = a.between(-1.2, 1.2)
        arch = spline(
            [(-r, 0, 0), (-0.8 * r, 0.65 * r, 0), (0, 0.95 * r, 0), (0.8 * r, 0.65 * r, 0), (r, 0, 0)], 24
        )
        a.add(tube(arch, 0.014, 8).turned(x=up), metal, (0, h - 0.02, 0))
        if a.chance(0.5):
            a.add(lathe([(0.9 * r, 0.7 * h), (0, 0.7 * h + 0.02)], 32), m.one_of(rng, (m.liquid, m.soil)))
    return a.asset()


def _crate(a: Assembly, wood: Material, metal: Material, w: float, h: float, d: float, gaps: bool) -> None:
    t, post = 0.02, a.between(0.05, 0.09)
    n = a.count(3, 5)
    high = h / n * (a.between(0.6, 0.85) if gaps else 0.985)
    for i in range(n):
        y = h * (i + 0.5) / n
        for s in (-1, 1):
            a.add(box((w, high, t), bevel=0.003), wood, (0, y, s * d / 2))
            a.add(box((t, high, d), bevel=0.003), wood, (s * w / 2, y, 0))
    for x in (-1, 1):
        for z in (-1, 1):
            at = (x * (w / 2 - post / 2 - t / 2), h / 2, z * (d / 2 - post / 2 - t / 2))
            a.add(box((post, h, post), bevel=0.004), wood, at)
    planks = a.count(4, 6)
    closed = a.chance(0.35)
    for level in (0.0, h) if closed else (0.0,):
        for i in range(planks):
            middle = w * ((i + 0.5) / planks - 0.5)
            a.add(box((w / planks * (0.9 if gaps else 0.99), t, d), bevel=0.003), wood, (middle, level, 0))
    if not gaps:
        for s in (-1, 1):
            length = math.hypot(w, h) - 2 * post
            a.add(box((length, post, t)).turned(z=math.atan2(h, w)), wood, (0, h / 2, s * (d / 2 + t)))
            for y in (post / 2, h - post / 2):
                a.add(box((w + 0.03, post, t)), wood, (0, y, s * (d / 2 + t)))
    if a.chance(0.5):
        for x in (-1, 1):
            for z in (-1, 1):
                for y in (0.03, h - 0.03):
                    a.add(
                        box((0.12, 0.08, 0.12), bevel=0.01),
                        metal,
                        (x * (w / 2 - 0.04), y, z * (d / 2 - 0.04)),
                    )
    if not closed and a.chance(0.6):
        inside = Assembly(a.rng)
        fill(inside, w - 0.1, 0.8 * h, d - 0.1)
        a.absorb(inside, at=(0, 0.02, 0))


def _carton(a: Assembly, w: float, h: float, d: float) -> None:
    """A cardboard box: thin sheets, four flaps at any angle."""
    card = m.cardboard(a.rng)
    a.add(tray(w, h, d, 0.008), card)
    if a.chance(0.25):
        a.add(box((w, 0.008, d / 2 - 0.004)), card, (0, h + 0.004, -d / 4))
        a.add(box((w, 0.008, d / 2 - 0.004)), card, (0, h + 0.004, d / 4))
        a.add(box((0.12, 0.003, d)), m.plastic(a.rng, (0.8, 0.7, 0.5)), (0, h + 0.01, 0))
        a.add(box((0.12, 0.3 * h, 0.003)), m.plastic(a.rng, (0.8, 0.7, 0.5)), (0, 0.85 * h, d / 2 + 0.002))
    else:
        for i, (edge, reach) in enumerate(((w, d / 2), (d, w / 2), (w, d / 2), (d, w / 2))):
            flap = sheet(
                np.array(
                    [[[-edge / 2, 0, 0], [edge / 2, 0, 0]], [[-edge / 2, 0, reach], [edge / 2, 0, reach]]]
                )
            )
            at = ((0, h, d / 2), (w / 2, h, 0), (0, h, -d / 2), (-w / 2, h, 0))[i]
            a.add(flap.turned(x=a.between(-0.9, 0.9)).turned(y=i * math.pi / 2), m.double_sided(card), at)
        if a.chance(0.7):
            inside = Assembly(a.rng)
            fill(inside, 0.92 * w, 0.8 * h, 0.92 * d)
            a.absorb(inside, at=(0, 0.01, 0))
    if a.chance(0.5):
        a.add(box((0.3 * w, 0.3 * h, 0.002)), m.paper(a.rng), (0.2 * w, 0.5 * h, d / 2 + 0.001))


FAMILIES = {"chest": chest, "crate": crate}
