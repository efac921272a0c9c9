"""Chairs, armchairs, tables, shelves, lamps."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import materials as m
from voxlume.data.procedural import palettes
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.shapes import (
    Shape,
    blocks,
    box,
    circle,
    cylinder,
    ellipsoid,
    lathe,
    plate,
    rounded_rectangle,
    sheet,
    slab,
    spline,
    superellipse,
    sweep,
    torus,
    tube,
)


def _frame_material(a: Assembly) -> Material:
    return m.one_of(
        a.rng, (m.wood, m.wood, m.wood, m.weathered_paint, m.painted_metal, m.brushed_metal, m.polished_metal)
    )


def leg(a: Assembly, style: str, height: float, thickness: float, lean: tuple[float, float]) -> Shape:
    """A leg from the floor up to (0, height, 0), its foot moved outwards by ``lean`` in x and z."""
    t = thickness
    foot, top = (lean[0], 0.0, lean[1]), (0.0, height, 0.0)
    if style == "square":
        return sweep([foot, top], rounded_rectangle(t, t, 0.15 * t, 1), up=(0, 0, 1))
    if style == "tapered":
        section = rounded_rectangle(1, 1, 0.1, 1) * t
        return sweep([foot, top], np.stack([0.55 * section, section]), up=(0, 0, 1))
    if style == "turned":
        y = np.linspace(0, 1, 12)
        waves = np.array([0.35, 0.55, 0.4, 0.5, 0.62, 0.5, 0.35, 0.55, 0.45, 0.35, 0.6, 0.6])
        profile = spline(np.stack([t * waves, y * height], 1), 40)
        profile = np.concatenate([[[0, 0]], profile, [[0, height]]])
        return lathe(profile, 12).aimed(foot, top)
    if style == "bent":
        middle = (1.25 * lean[0], 0.55 * height, 1.25 * lean[1])
        return tube(spline([foot, middle, top], 10), np.linspace(0.35, 0.6, 10) * t, 10)
    return tube([foot, top], 0.45 * t, 12)


_LEGS = ("square", "tapered", "turned", "bent", "round")


def _four_legs(
    a: Assembly,
    style: str,
    material: Material,
    w: float,
    d: float,
    height: float,
    thickness: float,
    spread: float,
) -> None:
    for x in (-1, 1):
        for z in (-1, 1):
            inset = 0.5 * thickness
            a.add(
                leg(a, style, height, thickness, (x * spread, z * spread)), material,
                (x * (w / 2 - inset), 0, z * (d / 2 - inset)),
            )  # fmt: skip


def _cushion(w: float, h: float, d: float) -> Shape:
    return ellipsoid((w, h, d), power=7, top=2.6, segments=32, rows=12)


def chair(rng: np.random.Generator) -> Asset:
    """Dining chairs, stools, shell chairs, office chairs, benches."""
    a = Assembly(rng)
    kind = a.choose("classic", "classic", "classic", "shell", "office", "stool", "bench")
    frame = _frame_material(a)
    soft = m.one_of(rng, (*m.SOFT, m.plastic))
    w = a.between(0.4, 0.52) * (a.between(2.0, 3.0) if kind == "bench" else 1)
    d, seat = a.between(0.4, 0.5), a.between(0.4, 0.5) * (a.between(1.2, 1.6) if kind == "stool" else 1)
    if kind == "shell":
        _shell_chair(a, w, d, seat)
    elif kind == "office":
        _office_chair(a, w, d, seat, soft)
    elif kind == "stool" and a.chance(0.6):
        r = 0.42 * w
        a.add(cylinder(r, 0.04, 32), frame, (0, seat - 0.04, 0))
        if a.chance(0.5):
            a.add(ellipsoid((2 * r, 0.09, 2 * r), top=3, segments=32), soft, (0, seat + 0.02, 0))
        legs, style, out = a.count(3, 4), a.choose(*_LEGS), a.between(0.02, 0.12)
        for i in range(legs):
            angle = 2 * math.pi * (i + 0.5) / legs
            x, z = math.sin(angle), math.cos(angle)
            a.add(
                leg(a, style, seat - 0.04, 0.045, (out * x, out * z)), frame, (0.75 * r * x, 0, 0.75 * r * z)
            )
        a.add(torus(0.75 * r + 0.6 * out, 0.012), frame, (0, 0.35 * seat, 0))
    else:
        thickness = a.between(0.03, 0.055)
        style, spread = a.choose(*_LEGS), a.choose(0.0, 0.0, 0.03, 0.06)
        top = a.between(0.02, 0.045)
        _four_legs(a, style, frame, w, d, seat - top, thickness, spread)
        a.add(box((w, top, d), (0, seat - top / 2, 0), bevel=0.3 * top), frame)
        if a.chance(0.5):
            a.add(_cushion(0.94 * w, 0.08, 0.94 * d), soft, (0, seat + 0.025, 0))
        if a.chance(0.7):
            for x in (-1, 1):
                a.add(box((0.02, 0.03, d - thickness)), frame, (x * (w - thickness) / 2, 0.3 * seat, 0))
            a.add(box((w - thickness, 0.03, 0.02)), frame, (0, 0.3 * seat, 0))
        if kind != "stool":
            _back(a, frame, soft, w, d, seat, thickness)
    return a.asset()


def _back(
    a: Assembly, frame: Material, soft: Material, w: float, d: float, seat: float, thickness: float
) -> None:
    high, tilt, bow = a.between(0.35, 0.6), a.between(0.02, 0.12), a.between(0.0, 0.06)
    t, z = 0.8 * thickness, -d / 2 + thickness / 2
    for x in (-w / 2 + t / 2, w / 2 - t / 2):
        bent = [(x, seat - 0.03, z), (x, seat + high / 2, z - 0.3 * tilt), (x, seat + high, z - tilt)]
        a.add(sweep(spline(bent, 8), rounded_rectangle(t, t, 0.2 * t, 2)), frame)

    def rail(y: float, height: float, depth: float = 0.018) -> None:
        f = (y - seat) / high
        x = np.linspace(-w / 2 + t / 2, w / 2 - t / 2, 9)
        zz = z - tilt * f - bow * (1 - (2 * x / w) ** 2)
        path = np.stack([x, np.full(9, y), zz], 1)
        a.add(sweep(path, rounded_rectangle(depth, height, 0.3 * depth, 2)), frame)

    style = a.choose("slats", "ladder", "panel", "spindles", "cushion", "cross", "wicker")
    rail(seat + high - 0.03, a.between(0.04, 0.1))
    if style == "ladder":
        for k in range(n := a.count(2, 4)):
            rail(seat + high * (0.2 + 0.6 * k / n), a.between(0.03, 0.06))
    elif style in ("slats", "spindles"):
        rail(seat + 0.1, 0.035)
        n = a.count(3, 7)
        for k in range(n):
            x = (w - 2 * t) * ((k + 0.5) / n - 0.5)
            b = bow * (1 - (2 * x / w) ** 2)
            ends = [(x, seat + 0.1, z - 0.2 * tilt - b), (x, seat + high - 0.04, z - tilt - b)]
            section = (
                rounded_rectangle(0.5 * w / n, 0.012, 0.004, 1) if style == "slats" else circle(8, 0.009)
            )
            a.add(sweep(ends, section, up=(0, 0, 1)), frame)
    elif style == "cross":
        rail(seat + 0.08, 0.035)
        for s in (-1, 1):
            ends = [
                (-s * 0.42 * w, seat + 0.08, z - 0.2 * tilt),
                (s * 0.42 * w, seat + high - 0.05, z - tilt),
            ]
            a.add(sweep(ends, rounded_rectangle(0.03, 0.015, 0.004, 1), up=(0, 0, 1)), frame)
    else:
        heights = np.linspace(seat + high - 0.05, seat + 0.08, 7)
        yy, xx = np.meshgrid(heights, np.linspace(-w / 2 + t, w / 2 - t, 9), indexing="ij")
        zz = z - tilt * (yy - seat) / high - bow * (1 - (2 * xx / w) ** 2)
        grid = np.stack([xx, yy, zz], -1)
        if style == "panel":
            a.add(slab(grid, 0.015), frame)
        elif style == "wicker":
            a.add(sheet(grid), m.wicker(a.rng))
        else:
            a.add(_cushion(w - 2 * t, 0.07, high - 0.1).turned(x=math.pi / 2 - 0.12), soft,
                  (0, seat + 0.5 * high + 0.01, z - 0.5 * tilt + 0.015))  # fmt: skip
    if a.chance(0.3):
        for s in (-1, 1):
            y, x = seat + a.between(0.18, 0.24), s * (w / 2 - t / 2)
            a.add(
                tube(spline([(x, y, z), (x * 1.05, y + 0.01, 0), (x, y, d / 2 - 0.03)], 8), 0.018, 10), frame
            )
            a.add(tube([(x, seat - 0.02, d / 2 - 0.05), (x, y, d / 2 - 0.05)], 0.014, 8), frame)


def _shell_chair(a: Assembly, w: float, d: float, seat: float) -> None:
    """One bent shell for seat and back on thin legs."""
    shell = m.one_of(a.rng, (m.plastic, m.plastic, m.wood, m.leather, m.wicker))
    frame = m.one_of(a.rng, (m.wood, m.polished_metal, m.painted_metal))
    high, flare = a.between(0.3, 0.48), a.between(0.03, 0.14)
    side = spline(
        [(d / 2, -0.03), (0.3 * d, 0.0), (-0.25 * d, -0.02), (-0.45 * d, 0.08), (-0.55 * d, high)], 22
    )
    x = np.linspace(-1, 1, 17)
    narrow = 1 - 0.25 * np.linspace(0, 1, 22) ** 3
    xx = x * w / 2 * narrow[:, None]
    lift = flare * np.abs(x) ** 3
    fade = np.linspace(0.4, 1, 22)[:, None]
    grid = np.stack(
        [xx, side[:, 1:] + seat + lift * fade, side[:, :1] + 0.6 * lift * fade * (side[:, 1:] > 0.02)], -1
    )
    a.add(sheet(grid[::-1]) if shell.alpha_mode == "MASK" else slab(grid[::-1], 0.014), shell)
    if a.chance(0.6):
        _four_legs(a, a.choose("tapered", "round", "bent"), frame, 0.6 * w, 0.6 * d, seat - 0.02, 0.035, 0.1)
    else:
        for s in (-1, 1):
            x0 = s * 0.4 * w
            half = [(x0, 0.012, 0.38 * d), (x0, 0.03, 0.42 * d), (x0 * 0.8, seat - 0.02, 0.3 * d)]
            loop = [*half[::-1], *((x, y, -z) for x, y, z in half)]
            a.add(tube(loop, 0.011, 8), frame)


def _office_chair(a: Assembly, w: float, d: float, seat: float, soft: Material) -> None:
    metal, dark = m.one_of(a.rng, (m.polished_metal, m.brushed_metal, m.painted_metal)), m.rubber(a.rng)
    high = a.between(0.4, 0.7)
    for i in range(5):
        angle = 2 * math.pi * i / 5
        x, z = 0.3 * math.sin(angle), 0.3 * math.cos(angle)
        a.add(tube([(0, 0.11, 0), (x, 0.07, z)], [0.028, 0.016], 8), metal)
        a.add(ellipsoid((0.035, 0.06, 0.06), segments=12, rows=8), dark, (x, 0.03, z))
    a.add(cylinder(0.025, seat - 0.1, 16), metal, (0, 0.1, 0))
    a.add(_cushion(w, 0.09, d), soft, (0, seat, 0))
    a.add(sweep(spline([(0, seat - 0.04, -0.2 * d), (0, seat, -0.55 * d), (0, seat + 0.3, -0.58 * d)], 10),
                rounded_rectangle(0.06, 0.02, 0.006, 2)), dark)  # fmt: skip
    a.add(
        _cushion(0.92 * w, 0.07, high).turned(x=math.pi / 2 - a.between(0.0, 0.2)),
        soft,
        (0, seat + 0.1 + high / 2, -0.53 * d),
    )
    if a.chance(0.6):
        for s in (-1, 1):
            path = [(s * 0.5 * w, seat, 0), (s * 0.56 * w, seat + 0.2, 0), (s * 0.56 * w, seat + 0.21, 0.15)]
            a.add(tube(path, 0.014, 8), metal)
            a.add(box((0.05, 0.025, 0.24), bevel=0.01), dark, (s * 0.56 * w, seat + 0.215, 0.04))


def armchair(rng: np.random.Generator) -> Asset:
    """Upholstered armchairs, sofas, ottomans, beds."""
    a = Assembly(rng)
    soft, frame = m.one_of(rng, m.SOFT), _frame_material(a)
    second = m.one_of(rng, m.SOFT)
    kind = a.choose("chair", "sofa", "sofa", "ottoman", "bed")
    foot = a.between(0.06, 0.18)
    if kind == "ottoman":
        w, d, h = a.between(0.5, 0.8), a.between(0.45, 0.6), a.between(0.22, 0.34)
        round_one = a.chance(0.5)
        shape = ellipsoid((w, h, w if round_one else d), power=2 if round_one else 8, top=6, segments=40)
        a.add(shape, soft, (0, foot + h / 2, 0))
        _four_legs(
            a, a.choose("tapered", "turned", "round"), frame, 0.6 * w, 0.6 * d, foot + 0.05, 0.05, 0.02
        )
        if a.chance(0.5):
            a.add(
                _cushion(0.35, 0.1, 0.35).turned(x=0.2, y=a.between(-1, 1)), second, (0, foot + h + 0.05, 0)
            )
        return a.asset()
    if kind == "bed":
        w, d = a.between(0.9, 1.7), a.between(1.9, 2.1)
        a.add(box((w, 0.2, d), bevel=0.02), frame, (0, foot + 0.1, 0))
        _four_legs(a, a.choose(*_LEGS[:3]), frame, w, d, foot + 0.05, 0.07, 0.0)
        a.add(
            ellipsoid((0.97 * w, 0.24, 0.97 * d), power=12, top=5, segments=40),
            m.fabric(rng, palettes.NEUTRAL[0]),
            (0, foot + 0.28, 0),
        )
        a.add(
            ellipsoid((1.0 * w, 0.14, 0.62 * d), power=10, top=4, segments=40),
            soft,
            (0, foot + 0.38, 0.17 * d),
        )
        n = 1 if w < 1.2 else 2
        for i in range(n):
            a.add(
                _cushion(0.55, 0.16, 0.36).turned(x=0.3),
                second,
                (w * ((i + 0.5) / n - 0.5), foot + 0.46, -0.4 * d),
            )
        high = a.between(0.5, 1.0)
        head = (
            box((w, high, 0.07), bevel=0.03)
            if a.chance(0.6)
            else plate(superellipse(36, w, 2 * high, 3), 0.07)
        )
        a.add(head, frame, (0, high / 2 + foot if len(head.vertices) < 100 else foot + 0.1, -d / 2))
        return a.asset()
    seats = 1 if kind == "chair" else a.count(2, 3)
    each, d = a.between(0.55, 0.7), a.between(0.75, 0.9)
    arm, seat, back = a.between(0.1, 0.2), a.between(0.36, 0.44), a.between(0.4, 0.55)
    inner = seats * each
    w = inner + 2 * arm
    a.add(box((w, seat - 0.14 - foot, d), bevel=0.03), soft, (0, foot + (seat - 0.14 - foot) / 2, 0))
    for i in range(seats):
        x = inner * ((i + 0.5) / seats - 0.5)
        a.add(
            ellipsoid((0.99 * each, 0.18, d - 0.2), power=9, top=3.5, segments=32),
            soft,
            (x, seat - 0.06, 0.08),
        )
        a.add(ellipsoid((0.97 * each, back, 0.2), power=5, top=5, segments=32).turned(x=-0.15), soft,
              (x, seat + 0.42 * back, -d / 2 + 0.24))  # fmt: skip
    a.add(
        ellipsoid((w, back + 0.1, 0.18), power=8, top=6, segments=32),
        soft,
        (0, seat - 0.1 + back / 2, -d / 2 + 0.09),
    )
    style = a.choose("block", "roll", "slope")
    arm_height = seat + a.between(0.12, 0.22)
    for s in (-1, 1):
        x = s * (w - arm) / 2
        if style == "block":
            h = arm_height - foot
            a.add(ellipsoid((arm, h, d), power=10, top=10, segments=32), soft, (x, foot + h / 2, 0))
        elif style == "roll":
            a.add(box((0.7 * arm, arm_height - foot, d), bevel=0.02), soft, (x, (arm_height + foot) / 2, 0))
            a.add(
                cylinder(0.62 * arm, d + 0.01, 20).turned(x=math.pi / 2),
                soft,
                (x, arm_height, -d / 2 - 0.005),
            )
        else:
            outline = [(-d / 2, foot), (d / 2, foot), (d / 2, seat), (-d / 2, arm_height + 0.2)]
            a.add(plate(outline, arm).turned(y=-math.pi / 2).scaled(1, 1, 1), soft, (x, 0, 0))
    _four_legs(
        a, a.choose("tapered", "turned", "round", "square"), frame, 0.92 * w, 0.9 * d, foot + 0.02, 0.05, 0.01
    )
    for _ in range(a.count(0, 2)):
        a.add(_cushion(0.36, 0.36, 0.12).turned(x=-0.35, z=a.between(-0.4, 0.4)), second,
              (a.between(-0.4, 0.4) * inner, seat + 0.2, -d / 2 + 0.4))  # fmt: skip
    return a.asset()


def table(rng: np.random.Generator) -> Asset:
    """Dining, coffee, side tables and desks, with things on them now and then."""
    a = Assembly(rng)
    frame = _frame_material(a)
    top = (
        m.one_of(rng, (m.wood, m.wood, m.planks, m.marble, m.glass, m.plastic, m.tiles))
        if a.chance(0.5)
        else frame
    )
    w, d, h = a.between(0.5, 1.6), a.between(0.45, 0.9), a.between(0.35, 0.78)
    thickness = a.between(0.02, 0.06)
    style = a.choose("box", "round", "oval", "rounded")
    if style == "round":
        d = w = min(w, 1.2)
    if style == "box":
        a.add(box((w, thickness, d), bevel=a.choose(0.0, 0.005, 0.012)), top, (0, h - thickness / 2, 0))
    else:
        outline = superellipse(48, w, d, 2.0) if style != "rounded" else rounded_rectangle(w, d, 0.3 * d, 8)
        a.add(plate(outline, thickness).turned(x=-math.pi / 2), top, (0, h - thickness / 2, 0))
    under = h - thickness
    support = a.choose("legs", "legs", "legs", "pedestal", "trestle", "panels")
    inset = 0.72 if style in ("round", "oval") else a.between(0.88, 0.98)
    if support == "legs":
        t = a.between(0.03, 0.08)
        kind = a.choose(*_LEGS)
        _four_legs(a, kind, frame, inset * w, inset * d, under, t, a.choose(0.0, 0.0, 0.04, 0.08))
        if top.alpha_mode == "OPAQUE" and a.chance(0.7):
            for s in (-1, 1):
                a.add(box((inset * w - t, 0.08, 0.02)), frame, (0, under - 0.04, s * (inset * d - t) / 2))
                a.add(box((0.02, 0.08, inset * d - t)), frame, (s * (inset * w - t) / 2, under - 0.04, 0))
        if a.chance(0.3):
            a.add(box((0.9 * inset * w, 0.02, 0.9 * inset * d)), top, (0, 0.3 * h, 0))
    elif support == "pedestal":
        r = a.between(0.04, 0.09)
        y = np.array([0, 0.02, 0.06, 0.2, 0.5, 0.8, 1.0]) * under
        radii = np.array([0.35 * min(w, d), 0.35 * min(w, d), 1.5 * r, r, a.between(0.7, 1.8) * r, r, 2 * r])
        profile = np.concatenate([[[0, 0]], spline(np.stack([radii, y], 1), 32)])
        a.add(lathe(profile, 32), frame)
    elif support == "trestle":
        for s in (-1, 1):
            x = s * 0.36 * w
            for t in (-1, 1):
                a.add(
                    box((0.05, under / 0.92, 0.05), bevel=0.005).turned(x=0.4 * t), frame, (x, under / 2, 0.0)
                )
        a.add(box((0.72 * w, 0.07, 0.03)), frame, (0, 0.45 * h, 0))
    else:
        for s in (-1, 1):
            a.add(box((0.04, under, 0.9 * d), bevel=0.004), frame, (s * 0.44 * w, under / 2, 0))
        drawers = a.count(1, 3)
        a.add(box((0.3 * w, 0.55 * under, 0.84 * d)), frame, (0.28 * w, under - 0.28 * under, 0))
        knob = m.polished_metal(rng)
        for i in range(drawers):
            at = np.array([0.28 * w, under - 0.55 * under * (i + 0.5) / drawers, 0.43 * d])
            a.add(box((0.27 * w, 0.5 * under / drawers, 0.02), bevel=0.006), frame, at)
            a.add(ellipsoid(0.03, segments=12, rows=8), knob, at + (0, 0, 0.02))
    if a.chance(0.35):
        put_things(a, h, 0.6 * w, 0.5 * d)
    return a.asset()


def put_things(a: Assembly, y: float, w: float, d: float, count: int | None = None) -> None:
    """A few small things on a level at height y, within w x d about the axis."""
    n = a.count(1, 3) if count is None else count
    for i in range(n):
        at = (w * ((i + 0.5) / n - 0.5), y, a.between(-0.3, 0.3) * d)
        small_thing(a, at, min(0.32, 0.8 * w / n, 0.9 * d))


def small_thing(a: Assembly, at: tuple[float, float, float], room: float) -> None:
    """A vase, books, a bowl, a ball, a box or a figure in a room of this width, standing at ``at``."""
    rng = a.rng
    kind = a.choose("vase", "books", "bowl", "ball", "box", "cone")
    if kind == "vase":
        r = 0.3 * room * a.between(0.6, 1.2)
        profile = spline([(0.5 * r, 0), (r, r), (0.45 * r, 2.2 * r), (0.7 * r, 2.7 * r)], 16)
        inside = profile[::-1] * (0.88, 1.0)
        a.add(
            lathe(np.concatenate([[[0, 0]], profile, inside[:-2], [[0, 0.1 * r]]]), 20),
            m.one_of(rng, m.CERAMICS),
            at,
        )
    elif kind == "books":
        y = 0.0
        for _ in range(a.count(2, 4)):
            t = a.between(0.02, 0.045)
            book = box(
                (room * a.between(0.5, 0.75), t, room * a.between(0.6, 0.9)), (0, y + t / 2, 0), bevel=0.003
            )
            a.add(book.turned(y=a.between(-0.3, 0.3)), m.paper(rng), at)
            y += t
    elif kind == "bowl":
        r = 0.4 * room
        outer = spline([(0.4 * r, 0), (0.8 * r, 0.3 * r), (r, 0.7 * r)], 10)
        a.add(
            lathe(np.concatenate([[[0, 0]], outer, outer[::-1] * (0.9, 1), [[0, 0.1 * r]]]), 24),
            m.one_of(rng, (*m.CERAMICS, m.wood)),
            at,
        )
        fruit = m.peel(rng, palettes.draw(rng, ((0.8, 0.2, 0.15), (0.95, 0.6, 0.15), (0.5, 0.65, 0.2))))
        for i in range(a.count(0, 4)):
            angle = 2.1 * i
            place = np.asarray(at) + r * np.array([0.35 * math.cos(angle), 0.45, 0.35 * math.sin(angle)])
            a.add(ellipsoid(0.55 * r, segments=14, rows=9), fruit, place)
    elif kind == "ball":
        r = 0.35 * room
        a.add(ellipsoid(2 * r, segments=24), m.one_of(rng, m.SOLID), (at[0], at[1] + r, at[2]))
    elif kind == "box":
        s = room * np.array([a.between(0.4, 0.8), a.between(0.3, 0.8), a.between(0.4, 0.7)])
        a.add(
            box(s, bevel=0.01).turned(y=a.between(-0.4, 0.4)),
            m.one_of(rng, m.SOLID),
            (at[0], at[1] + s[1] / 2, at[2]),
        )
    else:
        r = 0.3 * room
        a.add(cylinder(r, 2.4 * r, a.choose(4, 5, 24), top=0.0), m.one_of(rng, m.SOLID), at)


def shelf(rng: np.random.Generator) -> Asset:
    """Bookcases, cupboards with glass doors, racks, with things in them."""
    a = Assembly(rng)
    wood = m.one_of(rng, (m.wood, m.wood, m.weathered_paint, m.plastic, m.painted_metal))
    w, h, d = a.between(0.6, 1.3), a.between(0.7, 1.9), a.between(0.25, 0.4)
    columns, rows, t = a.count(1, 3) if w > 0.8 else 1, a.count(2, 5), a.between(0.018, 0.035)
    open_rack = a.chance(0.25)
    levels = np.linspace(0.06, h - t, rows + 1)
    if open_rack:
        metal = m.one_of(rng, (m.painted_metal, m.brushed_metal, m.wood))
        for x in (-1, 1):
            for z in (-1, 1):
                a.add(box((0.03, h, 0.03)), metal, (x * w / 2, h / 2, z * d / 2))
        for y in levels:
            a.add(box((w, t, d), bevel=0.003), wood, (0, y + t / 2, 0))
    else:
        uprights = w * (np.arange(columns + 1) / columns - 0.5)
        xs = np.sort(np.concatenate([uprights - t / 2, uprights + t / 2]))
        ys = np.sort(np.concatenate([[0.0], levels, levels + t]))
        back = a.chance(0.75)
        zs = [-d / 2, -d / 2 + 0.012, d / 2]
        filled = np.zeros((len(xs) - 1, len(ys) - 1, 2), bool)
        filled[::2] = True  # uprights
        filled[:, 1::2] = True  # boards
        filled[:, 0, 0] = filled[1::2, 0] = False
        filled[:, :, 0] |= back & (np.arange(len(ys) - 1) > 0)[None]
        a.add(blocks(xs, ys, zs, filled), wood)
        if a.chance(0.25):
            pane, knob = m.glass(rng), m.polished_metal(rng)
            for s in (-1, 1):
                a.add(box((w / 2 - 0.01, h - 0.1, 0.008)), pane, (s * w / 4, h / 2 + 0.02, d / 2 + 0.008))
                a.add(ellipsoid(0.035, segments=10, rows=7), knob, (s * 0.04, 0.5 * h, d / 2 + 0.03))
    for y0, y1 in pairwise(levels):
        for c in range(columns):
            x0, x1 = w * (c / columns - 0.5) + t, w * ((c + 1) / columns - 0.5) - t
            content = a.choose("books", "books", "thing", "empty", "drawer" if not open_rack else "books")
            free = y1 - y0 - t
            if content == "books":
                _books(a, x0, x1, y0 + t, free, d)
            elif content == "thing":
                room = min(x1 - x0, 0.8 * d, 0.75 * free)
                small_thing(a, ((x0 + x1) / 2, y0 + t, 0.0), room)
            elif content == "drawer":
                a.add(
                    box((x1 - x0, free, 0.9 * d), bevel=0.008),
                    wood,
                    ((x0 + x1) / 2, y0 + t + free / 2, 0.05 * d),
                )
                a.add(
                    box((0.25 * (x1 - x0), 0.015, 0.025), bevel=0.004),
                    m.polished_metal(rng),
                    ((x0 + x1) / 2, y0 + t + 0.7 * free, d / 2 + 0.01),
                )
    return a.asset()


def _books(a: Assembly, x0: float, x1: float, y: float, free: float, d: float) -> None:
    covers = [
        m.paper(a.rng) if i == 0 else m.leather(a.rng, palettes.draw(a.rng, palettes.PAINT)) for i in range(2)
    ]
    x, end = x0, x0 + a.between(0.4, 1.0) * (x1 - x0)
    while True:
        t = a.between(0.02, 0.05)
        if x + t > end:
            break
        s = (t * 0.94, free * a.between(0.6, 0.92), d * a.between(0.6, 0.85))
        a.add(box(s, bevel=0.003), covers[a.count(0, 1)], (x + t / 2, y + s[1] / 2, 0.4 * d - s[2] / 2))
        x += t


def lamp(rng: np.random.Generator) -> Asset:
    """Table, floor and desk lamps, hanging lamps; open shades around a bulb."""
    a = Assembly(rng)
    metal = m.one_of(rng, (*m.METALS, m.wood, m.ceramic))
    kind = a.choose("table", "table", "floor", "desk", "hanging", "globe")
    bulb = m.glass(rng, (0.98, 0.93, 0.78))
    shade_material = m.one_of(rng, (m.fabric, m.fabric, m.painted_metal, m.glass, m.polished_metal, m.wicker))
    if kind == "desk":
        _desk_lamp(a, metal, bulb)
        return a.asset()
    if kind == "hanging":
        y = a.between(0.4, 0.8)
        a.add(cylinder(0.06, 0.03, 24), metal, (0, y + 0.25, 0))
        a.add(tube([(0, 0.2, 0), (0, y + 0.25, 0)], 0.008, 8), m.rubber(rng))
        _shade(a, shade_material, 0.0, a.between(0.15, 0.3), a.between(0.15, 0.3))
        a.add(ellipsoid((0.09, 0.11, 0.09), segments=16), bulb, (0, 0.1, 0))
        return a.asset()
    h = a.between(0.22, 0.42) if kind != "floor" else a.between(1.0, 1.4)
    width = a.between(0.09, 0.15)
    if kind == "floor":
        if a.chance(0.4):
            for i in range(3):
                angle = 2 * math.pi * i / 3
                a.add(tube([(0.28 * math.sin(angle), 0, 0.28 * math.cos(angle)), (0, h, 0)], 0.014, 8), metal)
        else:
            a.add(
                lathe([(0, 0), (0.15, 0), (0.15, 0.02), (0.03, 0.04), (0.012, 0.06), (0.012, h), (0, h)], 32),
                metal,
            )
    else:
        radii = width * np.array(
            [0.9, 0.9, a.between(0.3, 1.1), a.between(0.3, 1.2), a.between(0.2, 0.8), 0.18]
        )
        heights = h * np.array([0, 0.05, 0.3, 0.55, 0.8, 1.0])
        profile = np.concatenate([[[0, 0]], spline(np.stack([radii, heights], 1), 30), [[0.0, h]]])
        flutes = 1 + a.choose(0.0, 0.0, 0.06) * np.cos(a.count(6, 12) * 2 * np.pi * np.arange(48) / 48)
        a.add(lathe(profile, radius=flutes), metal)
    a.add(cylinder(0.018, 0.07, 12), m.polished_metal(rng), (0, h, 0))
    if kind == "globe":
        r = a.between(0.1, 0.18)
        a.add(ellipsoid(2 * r, segments=32, rows=18), m.glass(rng), (0, h + 0.04 + r, 0))
        a.add(
            ellipsoid((0.07, 0.09, 0.07), segments=12, rows=8),
            m.plastic(rng, (0.95, 0.92, 0.8)),
            (0, h + 0.1, 0),
        )
    else:
        a.add(ellipsoid((0.07, 0.1, 0.07), segments=14, rows=10), bulb, (0, h + 0.1, 0))
        tall = a.between(0.16, 0.28) * (1.2 if kind == "floor" else 1)
        _shade(a, shade_material, h + 0.02, tall, a.between(0.13, 0.22) * (1.2 if kind == "floor" else 1))
    return a.asset()


def _shade(a: Assembly, material: Material, y: float, tall: float, radius: float) -> None:
    """An open shade: one thin sheet."""
    top = radius * a.between(0.3, 0.95)
    bow = a.between(-0.15, 0.15) * radius
    profile = spline([(radius, y), ((radius + top) / 2 + bow, y + tall / 2), (top, y + tall)], 10)
    sides = a.choose(48, 48, 6, 8, 4)
    a.add(lathe(profile, sides), m.double_sided(material))


def _desk_lamp(a: Assembly, metal: Material, bulb: Material) -> None:
    paint = m.painted_metal(a.rng)
    a.add(lathe([(0, 0), (0.1, 0), (0.1, 0.015), (0.03, 0.035), (0, 0.035)], 32), paint)
    lower, upper = a.between(0.22, 0.34), a.between(0.2, 0.32)
    one, two = a.between(1.7, 2.1), a.between(0.3, 0.9)
    elbow = np.array([0.0, 0.03 + lower * math.sin(one), lower * math.cos(one)])
    head = elbow + upper * np.array([0.0, math.sin(two), math.cos(two)])
    a.add(tube([(0, 0.03, 0), elbow], 0.011, 10), metal)
    a.add(tube([elbow, head], 0.01, 10), metal)
    for joint in ((0, 0.035, 0), elbow):
        a.add(cylinder(0.02, 0.04, 16).turned(z=math.pi / 2).moved(x=0.02), m.rubber(a.rng), joint)
    cone = [(0.022, 0.0), (0.03, 0.03), (a.between(0.06, 0.09), 0.13)]
    down = head + np.array([0.0, -0.8, a.between(0.1, 0.7)])
    a.add(lathe([(0, 0), *cone, *[(r - 0.003, y) for r, y in cone[::-1]]], 32).aimed(head, down), paint)
    a.add(ellipsoid((0.05, 0.07, 0.05), segments=14, rows=9).moved(y=0.09).aimed(head, down), bulb)


FAMILIES = {"chair": chair, "armchair": armchair, "table": table, "shelf": shelf, "lamp": lamp}
