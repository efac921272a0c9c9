"""Clocks, radios, cameras, telephones, televisions, computers, torches, headphones; guitars and drums."""

from __future__ import annotations

import math

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import materials as m
from voxlume.data.procedural import palettes
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.shapes import (
    Shape,
    box,
    circle,
    cylinder,
    ellipsoid,
    lathe,
    plate,
    ring_plate,
    rounded_rectangle,
    spline,
    sweep,
    torus,
    tube,
)

_CASES = (m.plastic, m.plastic, m.wood, m.painted_metal, m.brushed_metal, m.leather, m.car_paint)


def gadget(rng: np.random.Generator) -> Asset:
    """One of the devices."""
    a = Assembly(rng)
    kinds = (
        _clock, _radio, _camera, _telephone, _television, _computer, _torch, _headphones, _console, _globe,
    )  # fmt: skip
    a.choose(*kinds)(a)
    return a.asset()


def instrument(rng: np.random.Generator) -> Asset:
    """Guitars, violins, drums, xylophones, horns, pianos."""
    a = Assembly(rng)
    a.choose(_guitar, _guitar, _drum, _xylophone, _horn, _piano)(a)
    return a.asset()


def _facing(shape: Shape) -> Shape:
    """A shape built upwards, turned so that its top looks to the front."""
    return shape.turned(x=math.pi / 2)


def _screen(a: Assembly) -> Material:
    return m.plastic(a.rng, palettes.draw(a.rng, ((0.06, 0.07, 0.09), (0.10, 0.16, 0.22), (0.15, 0.3, 0.25))))


def _slab_of(w: float, h: float, d: float, corner: float) -> Shape:
    return plate(rounded_rectangle(w, h, corner, 5), d)


def _dial(a: Assembly, at: tuple[float, float, float], r: float, face: Material, ink: Material) -> None:
    """A clock face with marks and hands, looking to the front."""
    x, y, z = at
    a.add(_facing(cylinder(r, 0.02, 40)), face, (x, y, z))
    for i in range(12):
        b = 2 * math.pi * i / 12
        mark = box((0.03 * r, (0.2 if i % 3 == 0 else 0.1) * r, 0.01)).moved(y=0.84 * r).turned(z=b)
        a.add(mark, ink, (x, y, z + 0.022))
    for length, width in ((0.5, 0.07), (0.75, 0.045)):
        hand = (
            box((width * r, length * r, 0.012)).moved(y=0.42 * length * r).turned(z=a.between(0, 2 * math.pi))
        )
        a.add(hand, ink, (x, y, z + 0.032))
    a.add(_facing(cylinder(0.06 * r, 0.03, 16)), ink, (x, y, z + 0.02))


def _clock(a: Assembly) -> None:
    rng = a.rng
    case, metal = m.one_of(rng, (*_CASES, *m.METALS)), m.polished_metal(rng)
    face, ink = m.plastic(rng, palettes.draw(rng, palettes.NEUTRAL[:3])), m.plastic(rng, (0.08, 0.08, 0.1))
    style = a.choose("alarm", "wall", "mantel", "tower")
    r = a.between(0.3, 0.45)
    if style == "alarm":
        a.add(
            _facing(
                lathe(
                    [
                        (0, -0.16),
                        (0.9 * r, -0.16),
                        (r, -0.1),
                        (r, 0.12),
                        (0.93 * r, 0.12),
                        (0.93 * r, 0.05),
                        (0, 0.05),
                    ],
                    40,
                )
            ),
            case,
            (0, r + 0.1, 0),
        )
        _dial(a, (0, r + 0.1, 0.05), 0.92 * r, face, ink)
        for s in (-1, 1):
            a.add(
                lathe([(0.3 * r, 0), (0.26 * r, 0.12 * r), (0, 0.2 * r)], 20).turned(z=-s * 0.6),
                metal,
                (s * 0.6 * r, 1.95 * r + 0.1, 0),
            )
            a.add(tube([(s * 0.4 * r, 0.35 * r, 0), (s * 0.75 * r, 0, 0.03)], 0.03, 8), metal)
        a.add(tube([(0, 2 * r + 0.05, 0), (0, 2.35 * r + 0.1, 0)], 0.02, 8), metal)
        if a.chance(0.5):
            a.add(_facing(cylinder(0.92 * r, 0.01, 40)), m.glass(rng, palettes.GLASS[0]), (0, r + 0.1, 0.12))
    elif style == "wall":
        a.add(torus(r, 0.05, 48, 10).turned(x=math.pi / 2), case, (0, r, 0))
        a.add(_facing(cylinder(r, 0.03, 48)), case, (0, r, -0.04))
        _dial(a, (0, r, -0.01), 0.95 * r, face, ink)
    elif style == "mantel":
        w, h, d = a.between(0.8, 1.3), 2.4 * r, 0.3
        arch = np.concatenate(
            [
                [(-w / 2, 0), (w / 2, 0)],
                spline(
                    [(w / 2, 0.6 * h), (0.6 * r, 0.92 * h), (0, h), (-0.6 * r, 0.92 * h), (-w / 2, 0.6 * h)],
                    24,
                ),
            ]
        )
        a.add(plate(arch, d), case, (0, 0.06, 0))
        a.add(box((w + 0.1, 0.08, d + 0.1), bevel=0.02), m.one_of(rng, (m.wood, m.marble)), (0, 0.04, 0))
        _dial(a, (0, 0.5 * h, d / 2), 0.75 * r, face, ink)
        a.add(torus(0.76 * r, 0.03, 40, 8).turned(x=math.pi / 2), metal, (0, 0.5 * h, d / 2 + 0.01))
    else:
        a.add(box((0.5, 1.6, 0.3), bevel=0.02), case, (0, 0.85, 0))
        a.add(box((0.62, 0.1, 0.4), bevel=0.02), case, (0, 0.05, 0))
        a.add(plate([(-0.34, 0), (0.34, 0), (0, 0.25)], 0.4), case, (0, 1.65, 0))
        _dial(a, (0, 1.35, 0.15), 0.2, face, ink)
        a.add(box((0.3, 0.75, 0.02)), m.glass(rng), (0, 0.65, 0.155))
        a.add(tube([(0, 1.0, 0.175), (0, 0.5, 0.175)], 0.012, 6), metal)
        a.add(_facing(cylinder(0.09, 0.02, 24)), metal, (0, 0.45, 0.17))


def _radio(a: Assembly) -> None:
    rng = a.rng
    case, metal, dark = m.one_of(rng, _CASES), m.polished_metal(rng), m.rubber(rng)
    w, h, d = a.between(0.9, 1.4), a.between(0.5, 0.75), a.between(0.25, 0.4)
    a.add(_slab_of(w, h, d, a.between(0.03, 0.2)), case, (0, h / 2, 0))
    speakers = a.count(1, 2)
    mesh = m.one_of(rng, (m.fabric, m.wicker, m.brushed_metal))
    r = 0.36 * min(h, w / speakers / 1.1)
    for i in range(speakers):
        x = (-0.27 if i == 0 else 0.27) * w
        a.add(_facing(cylinder(r, 0.02, 36)), mesh, (x, 0.5 * h, d / 2))
        a.add(torus(r, 0.025, 36, 8).turned(x=math.pi / 2), metal, (x, 0.5 * h, d / 2 + 0.01))
    x = 0.25 * w if speakers == 1 else 0.0
    a.add(
        box((0.3 * w, 0.2 * h, 0.02), bevel=0.005),
        m.glass(rng, (0.95, 0.9, 0.75)),
        (x, 0.7 * h, d / 2 + 0.01),
    )
    for i in range(n := a.count(2, 3)):
        knob = lathe([(0, 0), (0.06, 0), (0.05, 0.06), (0, 0.06)], 24)
        a.add(_facing(knob), a.choose(metal, dark), (x + 0.26 * w * ((i + 0.5) / n - 0.5), 0.32 * h, d / 2))
    a.add(
        tube(
            [(-0.4 * w, h - 0.02, -0.1), (-0.4 * w + a.between(0, 0.5), h + a.between(0.3, 0.7), -0.1)],
            0.012,
            8,
        ),
        metal,
    )
    if a.chance(0.5):
        arch = spline(
            [
                (-0.35 * w, h - 0.02, 0),
                (-0.33 * w, h + 0.14, 0),
                (0.33 * w, h + 0.14, 0),
                (0.35 * w, h - 0.02, 0),
            ],
            16,
        )
        a.add(sweep(arch, rounded_rectangle(0.08, 0.03, 0.012, 2)), m.leather(rng))


def _camera(a: Assembly) -> None:
    rng = a.rng
    body, top, glass = m.one_of(rng, (m.leather, m.plastic, m.rubber)), m.brushed_metal(rng), m.glass(rng)
    dark = m.rubber(rng)
    w, h, d = a.between(0.9, 1.1), a.between(0.5, 0.65), a.between(0.25, 0.35)
    a.add(_slab_of(w, h, d, 0.08), body, (0, h / 2, 0))
    a.add(_slab_of(w, 0.16, d + 0.01, 0.05), top, (0, h, 0))
    a.add(plate([(-0.2, 0), (0.2, 0), (0.12, 0.17), (-0.12, 0.17)], d), top, (0, h + 0.07, 0))
    r, long = a.between(0.2, 0.27), a.between(0.2, 0.55)
    y = 0.48 * h
    a.add(
        _facing(
            lathe(
                [
                    (0, 0),
                    (1.1 * r, 0),
                    (1.1 * r, 0.1),
                    (r, 0.12),
                    (r, long),
                    (0.85 * r, long),
                    (0.75 * r, long - 0.06),
                    (0, long - 0.06),
                ],
                40,
            )
        ),
        dark,
        (0, y, d / 2),
    )
    a.add(_facing(ellipsoid((1.5 * r, 0.16, 1.5 * r), segments=28)), glass, (0, y, d / 2 + long - 0.05))
    a.add(torus(1.02 * r, 0.015, 36, 8).turned(x=math.pi / 2), top, (0, y, d / 2 + 0.6 * long))
    a.add(cylinder(0.07, 0.06, 24), top, (0.33 * w, h + 0.07, 0))
    a.add(cylinder(0.04, 0.06, 16), m.polished_metal(rng), (-0.33 * w, h + 0.07, 0))
    a.add(box((0.14, 0.09, 0.02)), glass, (0, h + 0.15, d / 2 + 0.005))
    if a.chance(0.5):
        for i in range(3):
            b = 2 * math.pi * i / 3 + 0.5
            a.add(tube([(0, 0, 0), (0.4 * math.sin(b), -1.0, 0.4 * math.cos(b))], [0.035, 0.02], 8), top)


def _telephone(a: Assembly) -> None:
    rng = a.rng
    body, dark, metal = (
        m.one_of(rng, (m.plastic, m.plastic, m.car_paint, m.wood)),
        m.rubber(rng),
        m.polished_metal(rng),
    )
    if a.chance(0.6):
        base = [(-0.45, 0), (0.45, 0), (0.38, 0.14), (0.2, 0.34), (-0.2, 0.34), (-0.38, 0.14)]
        a.add(plate(base, 0.7), body)
        dial = lathe([(0, 0), (0.24, 0), (0.22, 0.04), (0, 0.05)], 36).turned(x=0.9)
        a.add(dial, metal, (0, 0.22, 0.32))
        a.add(box((0.5, 0.5, 0.04), bevel=0.01).turned(x=-0.65), body, (0, 0.16, 0.38))
        for i in range(9):
            b = 2 * math.pi * i / 11 + 0.6
            hole = (
                cylinder(0.035, 0.02, 12)
                .moved(x=0.16 * math.cos(b), y=0.035, z=0.16 * math.sin(b))
                .turned(x=0.9)
            )
            a.add(hole, dark, (0, 0.22, 0.32))
        y = 0.48
        bow = spline([(-0.42, y - 0.06, 0), (-0.2, y + 0.05, 0), (0.2, y + 0.05, 0), (0.42, y - 0.06, 0)], 16)
        a.add(sweep(bow, rounded_rectangle(0.12, 0.1, 0.04, 3)), body)
        for s in (-1, 1):
            a.add(lathe([(0, 0), (0.13, 0), (0.11, 0.12), (0, 0.14)], 24), body, (s * 0.42, y - 0.17, 0))
            a.add(box((0.06, 0.14, 0.2), bevel=0.015), metal, (s * 0.2, 0.38, 0))
        coil = np.linspace(0, 1, 90)
        a.add(
            tube(
                np.stack(
                    [
                        -0.45 - 0.04 * np.cos(60 * coil),
                        0.32 - 0.3 * np.sin(np.pi * coil) ** 0.5 + 0.04 * np.sin(60 * coil),
                        -0.1 + 0.35 * coil,
                    ],
                    1,
                ),
                0.012,
                5,
            ),
            dark,
        )
    else:
        w, h = a.between(0.5, 0.6), a.between(1.0, 1.2)
        a.add(_slab_of(w, h, 0.07, 0.08), body, (0, h / 2, 0))
        a.add(_slab_of(0.92 * w, 0.93 * h, 0.012, 0.06), _screen(a), (0, h / 2, 0.034))
        for i in range(a.count(1, 3)):
            a.add(
                _facing(cylinder(0.05, 0.02, 20)).turned(y=math.pi),
                m.glass(rng),
                (-0.15, h - 0.12 - 0.13 * i, -0.035),
            )


def _television(a: Assembly) -> None:
    rng = a.rng
    case, metal, screen = m.one_of(rng, _CASES), m.polished_metal(rng), _screen(a)
    w, h = a.between(0.9, 1.5), a.between(0.6, 0.85)
    foot = a.between(0.05, 0.4)
    if a.chance(0.5):  # a tube set
        d = a.between(0.4, 0.6)
        a.add(box((w, h, d), bevel=0.04), case, (0, foot + h / 2, 0))
        a.add(
            ellipsoid((0.64 * w, 0.8 * h, 0.16), power=5, segments=32),
            screen,
            (-0.13 * w, foot + h / 2, d / 2 - 0.02),
        )
        frame = ring_plate(
            rounded_rectangle(0.7 * w, 0.88 * h, 0.1, 5), rounded_rectangle(0.6 * w, 0.74 * h, 0.1, 5), 0.06
        )
        a.add(frame, metal, (-0.13 * w, foot + h / 2, d / 2))
        for i in range(3):
            a.add(_facing(cylinder(0.05, 0.05, 20)), metal, (0.37 * w, foot + h * (0.8 - 0.2 * i), d / 2))
        for s in (-1, 1):
            for z in (-0.35, 0.35):
                a.add(
                    tube([(s * 0.42 * w, 0, z * d), (s * 0.36 * w, foot + 0.02, z * d)], [0.02, 0.035], 8),
                    m.wood(rng),
                )
            if a.chance(0.6):
                a.add(
                    tube([(0, foot + h, -0.1), (s * a.between(0.2, 0.5), foot + h + 0.5, -0.1)], 0.01, 6),
                    metal,
                )
    else:
        a.add(_slab_of(w, h, 0.06, 0.02), case, (0, foot + h / 2, 0))
        a.add(box((0.95 * w, 0.92 * h, 0.01)), screen, (0, foot + h / 2, 0.031))
        a.add(box((0.1, foot + 0.1, 0.04)), case, (0, foot / 2, -0.05))
        a.add(_slab_of(0.4 * w, 0.3, 0.025, 0.1).turned(x=math.pi / 2), case, (0, 0.012, -0.03))


def _computer(a: Assembly) -> None:
    rng = a.rng
    case, keys, screen = m.one_of(rng, (m.brushed_metal, m.plastic, m.car_paint)), m.plastic(rng), _screen(a)
    w, d = a.between(0.9, 1.2), a.between(0.6, 0.8)
    a.add(_slab_of(w, d, 0.05, 0.05).turned(x=-math.pi / 2), case, (0, 0.025, 0))
    rows, columns = 4, a.count(9, 12)
    for i in range(rows):
        for j in range(columns):
            size = (0.8 * 0.88 * w / columns, 0.02, 0.09 * d)
            a.add(
                box(size, bevel=0.004),
                keys,
                (0.88 * w * ((j + 0.5) / columns - 0.5), 0.055, d * (0.12 * i - 0.32)),
            )
    a.add(box((0.32 * w, 0.006, 0.26 * d)), keys, (0, 0.052, 0.3 * d))
    opened = a.between(0.05, 0.6)
    for shape, material in (
        (_slab_of(w, d, 0.035, 0.05), case),
        (box((0.93 * w, 0.88 * d, 0.008)).moved(z=0.018), screen),
    ):
        a.add(shape.moved(y=d / 2).turned(x=-opened), material, (0, 0.06, -d / 2))


def _torch(a: Assembly) -> None:
    rng = a.rng
    body, metal = (
        m.one_of(rng, (m.painted_metal, m.plastic, m.brushed_metal, m.rubber)),
        m.polished_metal(rng),
    )
    h, r = a.between(0.8, 1.3), a.between(0.1, 0.15)
    flutes = 1 + 0.04 * np.cos(24 * 2 * np.pi * np.arange(72) / 72)
    a.add(lathe([(0, 0), (0.9 * r, 0), (r, 0.03), (r, h), (0, h)], radius=flutes), body)
    wide = a.between(1.5, 2.4) * r
    a.add(
        lathe(
            [
                (r, h),
                (wide, h + 0.25),
                (wide, h + 0.38),
                (0.92 * wide, h + 0.38),
                (0.3 * r, h + 0.1),
                (0, h + 0.1),
            ],
            40,
        ),
        metal,
    )
    a.add(cylinder(0.93 * wide, 0.012, 40), m.glass(rng, palettes.GLASS[0]), (0, h + 0.35, 0))
    a.add(box((0.08, 0.2, 0.06), bevel=0.02), m.rubber(rng), (0, 0.7 * h, r))
    if a.chance(0.6):
        a.parts = [(s.turned(z=math.pi / 2), material) for s, material in a.parts]


def _headphones(a: Assembly) -> None:
    rng = a.rng
    shell, pad = (
        m.one_of(rng, (m.plastic, m.car_paint, m.brushed_metal, m.wood)),
        m.one_of(rng, (m.leather, m.fabric)),
    )
    w, h = a.between(0.4, 0.5), a.between(0.55, 0.7)
    b = np.linspace(-0.25, math.pi + 0.25, 30)
    band = np.stack([w * np.cos(b), 0.4 + h * np.sin(b) * 0.9, 0 * b], 1)
    a.add(sweep(band, rounded_rectangle(0.16, 0.035, 0.015, 3), up=(1, 0, 0)), shell)
    inner = band[6:-6] * (0.93, 1, 1) - (0, 0.04, 0)
    a.add(sweep(inner, rounded_rectangle(0.14, 0.05, 0.02, 3), up=(1, 0, 0)), pad)
    for s in (-1, 1):
        cup = lathe([(0, 0), (0.2, 0), (0.24, 0.05), (0.22, 0.13), (0.12, 0.17), (0, 0.17)], 32, depth=0.85)
        a.add(cup.turned(z=-s * math.pi / 2), shell, (s * w, 0.26, 0))
        a.add(torus(0.17, 0.06, 32, 10).turned(z=math.pi / 2), pad, (s * (w - 0.02), 0.26, 0))
        a.add(torus(0.1, 0.02, 28, 8).turned(z=math.pi / 2), m.polished_metal(rng), (s * (w + 0.16), 0.26, 0))


def _console(a: Assembly) -> None:
    """A game pad or an arcade box."""
    rng = a.rng
    case, dark = m.one_of(rng, (m.plastic, m.plastic, m.car_paint, m.wood)), m.rubber(rng)
    if a.chance(0.5):
        w = 1.0
        a.add(ellipsoid((w, 0.2, 0.5), power=3.5, segments=32), case, (0, 0.2, 0))
        for s in (-1, 1):
            a.add(ellipsoid((0.26, 0.2, 0.55), segments=24).turned(y=-s * 0.35), case, (s * 0.42, 0.18, 0.2))
            a.add(
                lathe([(0.06, 0), (0.04, 0.05), (0.09, 0.1), (0.08, 0.12), (0, 0.1)], 24),
                dark,
                (s * 0.18, 0.27, 0.12),
            )
        for i in range(4):
            b = math.pi / 2 * i
            knob = m.plastic(rng, palettes.PAINT[(0, 2, 4, 8)[i]])
            a.add(
                cylinder(0.04, 0.04, 18),
                knob,
                (0.32 + 0.075 * math.cos(b), 0.27, -0.06 + 0.075 * math.sin(b)),
            )
        a.add(box((0.2, 0.04, 0.065), bevel=0.01), dark, (-0.32, 0.29, -0.06))
        a.add(box((0.065, 0.04, 0.2), bevel=0.01), dark, (-0.32, 0.29, -0.06))
    else:
        side = [
            (-0.35, 0),
            (0.35, 0),
            (0.35, 0.75),
            (0.5, 0.85),
            (0.25, 0.95),
            (0.12, 1.5),
            (0.35, 1.6),
            (0.3, 1.8),
            (-0.35, 1.8),
        ]
        a.add(plate([(z, y) for z, y in side], 0.7).turned(y=-math.pi / 2), case)
        a.add(box((0.56, 0.5, 0.02)).turned(x=-0.23), _screen(a), (0, 1.22, 0.195))
        for s in (-1, 1):
            a.add(
                plate(np.array(side) * 1.04 - (0, 0.02), 0.04).turned(y=-math.pi / 2),
                m.painted_metal(rng),
                (s * 0.36, 0, 0),
            )
        a.add(tube([(-0.15, 0.92, 0.35), (-0.15, 1.03, 0.36)], 0.012, 8), dark)
        a.add(ellipsoid(0.07, segments=14), m.plastic(rng), (-0.15, 1.04, 0.36))
        for i in range(3):
            a.add(cylinder(0.03, 0.03, 14), m.plastic(rng), (0.02 + 0.1 * i, 0.9, 0.37))


def _globe(a: Assembly) -> None:
    rng = a.rng
    metal, wood = m.polished_metal(rng), m.one_of(rng, (m.wood, m.marble, m.polished_metal))
    r, y = a.between(0.38, 0.5), 0.85
    a.add(
        ellipsoid(2 * r, segments=40, rows=24).turned(z=-0.4),
        m.one_of(rng, (m.painted_ceramic, m.skin, m.marble, m.glass)),
        (0, y, 0),
    )
    b = np.linspace(-1.9, 1.9, 24)
    a.add(
        sweep(
            np.stack([1.12 * r * np.cos(b + math.pi), y + 1.12 * r * np.sin(b), 0 * b], 1),
            rounded_rectangle(0.07, 0.03, 0.01, 2),
            up=(1, 0, 0),
        ),
        metal,
    )
    a.add(
        lathe(
            np.concatenate(
                [
                    [[0, 0]],
                    spline([(0.32, 0), (0.3, 0.06), (0.06, 0.14), (0.05, 0.3), (0.08, y - 1.1 * r)], 24),
                    [[0, y - 1.1 * r]],
                ]
            ),
            36,
        ),
        wood,
    )


def _guitar(a: Assembly) -> None:
    rng = a.rng
    front, side, dark = (
        m.one_of(rng, (m.wood, m.wood, m.car_paint)),
        m.one_of(rng, (m.wood, m.car_paint)),
        m.wood(rng, (0.22, 0.14, 0.10)),
    )
    metal = m.polished_metal(rng)
    lower, waist, upper = a.between(0.36, 0.46), a.between(0.2, 0.28), a.between(0.27, 0.34)
    right = spline(
        [
            (0.0, 0.0),
            (0.75 * lower, 0.06),
            (lower, 0.32),
            (waist, 0.62),
            (upper, 0.85),
            (0.6 * upper, 1.04),
            (0.05, 1.08),
        ],
        36,
    )
    right[:, 0] = np.maximum(right[:, 0], 0)
    outline = np.concatenate([right, right[-1:0:-1] * (-1, 1)])
    deep = a.between(0.1, 0.24)
    a.add(plate(outline, deep), side)
    a.add(plate(outline * 0.985 + (0, 0.008), 0.012), front, (0, 0, deep / 2 + 0.003))
    if deep > 0.16:
        a.add(_facing(cylinder(0.13, 0.006, 32)), m.rubber(rng), (0, 0.66, deep / 2 + 0.006))
        a.add(torus(0.14, 0.012, 36, 6).turned(x=math.pi / 2), dark, (0, 0.66, deep / 2 + 0.01))
    else:
        for y in (0.45, 0.62):
            a.add(
                box((0.28, 0.07, 0.03), bevel=0.008),
                m.one_of(rng, (m.rubber, m.polished_metal)),
                (0, y, deep / 2 + 0.01),
            )
    a.add(box((0.24, 0.05, 0.03), bevel=0.006), dark, (0, 0.3, deep / 2 + 0.015))
    top = a.between(1.85, 2.1)
    a.add(box((0.1, top - 0.85, 0.06), bevel=0.012), dark, (0, (top + 0.85) / 2, deep / 2 - 0.005))
    for i in range(12):
        y = 0.95 + (top - 1.0) * (1 - 0.9**i)
        a.add(box((0.1, 0.008, 0.01)), metal, (0, y, deep / 2 + 0.026))
    a.add(
        plate([(-0.06, 0), (0.06, 0), (0.1, 0.12), (0.08, 0.34), (-0.08, 0.34), (-0.1, 0.12)], 0.04).turned(
            x=-0.15
        ),
        side,
        (0, top, deep / 2 - 0.02),
    )
    for s in (-1, 1):
        for i in range(3):
            a.add(
                cylinder(0.025, 0.09, 10).turned(z=-s * math.pi / 2),
                metal,
                (s * 0.07, top + 0.08 + 0.09 * i, deep / 2 - 0.03),
            )
    for i in range(6):
        x = 0.07 * (i / 5 - 0.5)
        a.add(tube([(x, 0.3, deep / 2 + 0.034), (x, top + 0.02, deep / 2 + 0.034)], 0.003, 4), metal)


def _drum(a: Assembly) -> None:
    rng = a.rng
    shell, skin, metal = (
        m.one_of(rng, (m.wood, m.car_paint, m.painted_metal, m.planks)),
        m.leather(rng, (0.9, 0.86, 0.78)),
        m.polished_metal(rng),
    )
    n = a.count(1, 3)
    for k in range(n):
        r, h = a.between(0.3, 0.5) * (0.75 if k else 1), a.between(0.3, 0.8) * (0.7 if k else 1)
        at = np.array([0.85 * k, 0.0, 0.15 * k])
        waist = a.choose(1.0, 1.0, 0.65, 1.1)
        a.add(lathe(spline([(r, 0), (waist * r, 0.5 * h), (r, h)], 16), 36), shell, at)
        a.add(lathe([(1.0 * r, h - 0.01), (0, h)], 36), skin, at)
        a.add(lathe([(1.0 * r, 0.01), (0, 0.0)], 36).flipped(), skin, at)
        for y in (0.02, h - 0.02):
            a.add(torus(1.02 * r, 0.025, 40, 8), metal, at + (0, y, 0))
        lugs = a.count(5, 9)
        for i in range(lugs):
            c = circle(lugs, 1.03 * r)[i]
            a.add(
                tube(
                    [
                        at + (c[0], 0.03, c[1]),
                        at + (waist * c[0], h / 2, waist * c[1]),
                        at + (c[0], h - 0.03, c[1]),
                    ],
                    0.012,
                    6,
                ),
                metal,
            )
    for s in (-1, 1):
        tip = np.array([s * 0.25, float(h) + 0.1, 0.3])
        a.add(tube([tip, tip + (0.5, 0.25, 0.1 * s)], [0.02, 0.028], 8), m.wood(rng))


def _xylophone(a: Assembly) -> None:
    rng = a.rng
    n, w = a.count(6, 10), a.between(1.0, 1.5)
    frame = m.wood(rng)
    metal = a.chance(0.4)
    for s in (-1, 1):
        a.add(
            sweep(
                [(-w / 2, 0.08, s * 0.28), (w / 2, 0.08, s * 0.16)], rounded_rectangle(0.06, 0.12, 0.01, 1)
            ),
            frame,
        )
    for i in range(n):
        t = i / (n - 1)
        bar = (
            m.polished_metal(rng)
            if metal
            else m.plastic(rng, palettes.PAINT[(0, 1, 2, 4, 5, 7, 8, 10, 11, 12)[i]])
        )
        size = (0.78 * w / n, 0.04, 0.95 - 0.45 * t)
        a.add(box(size, bevel=0.01), bar, (w * (t - 0.5) * 0.94, 0.165, 0))
        for s in (-1, 1):
            a.add(cylinder(0.014, 0.03, 8), frame, (w * (t - 0.5) * 0.94, 0.18, s * (0.27 - 0.11 * t)))
    stick = np.array([a.between(-0.3, 0.3), 0.24, 0.1])
    a.add(tube([stick, stick + (0.55, 0.1, 0.2)], 0.012, 8), frame)
    a.add(ellipsoid(0.09, segments=14), m.rubber(rng), stick)


def _horn(a: Assembly) -> None:
    rng = a.rng
    brass = m.polished_metal(rng, palettes.draw(rng, palettes.METAL[2:4]))
    turns = a.count(1, 2)
    b = np.linspace(0, 2 * math.pi * turns + 0.5, 60)
    r = a.between(0.25, 0.35)
    coil = np.stack([0.09 * b / (2 * math.pi), 0.5 + r * np.sin(b), r * np.cos(b)], 1)
    end = coil[-1] + np.stack(
        [0 * np.linspace(0, 1, 10), 0.05 * np.linspace(0, 1, 10), np.linspace(0, 0.9, 10)], 1
    )
    a.add(tube(coil, 0.035, 10), brass)
    a.add(tube(np.concatenate([[coil[0] - (0, 0, 0.0)], [coil[0] - (0, 0.35, 0)]]), [0.035, 0.03], 10), brass)
    bell = 0.035 + 0.3 * np.linspace(0, 1, 10) ** 3
    a.add(tube(end, bell, 28, caps=False), m.double_sided(brass))
    for i in range(3):
        a.add(cylinder(0.045, 0.32, 14), brass, (0.05, 0.38, -0.1 + 0.11 * i))
        a.add(cylinder(0.03, 0.08, 12), m.plastic(rng, (0.95, 0.93, 0.88)), (0.05, 0.7, -0.1 + 0.11 * i))


def _piano(a: Assembly) -> None:
    rng = a.rng
    case = m.one_of(rng, (m.car_paint, m.wood, m.wood))
    w, h, d = a.between(1.2, 1.5), a.between(0.9, 1.1), a.between(0.4, 0.5)
    a.add(box((w, h, d), bevel=0.02), case, (0, h / 2, -0.1))
    a.add(box((w + 0.06, 0.04, d + 0.06), bevel=0.01), case, (0, h + 0.02, -0.1))
    a.add(box((w, 0.1, 0.36), bevel=0.01), case, (0, 0.55 * h - 0.06, d / 2 + 0.05))
    white, black = m.plastic(rng, (0.95, 0.94, 0.9)), m.plastic(rng, (0.06, 0.06, 0.07))
    keys = a.count(14, 24)
    step = 0.92 * w / keys
    for i in range(keys):
        x = step * (i + 0.5 - keys / 2)
        a.add(box((0.92 * step, 0.03, 0.24)), white, (x, 0.55 * h + 0.01, d / 2 + 0.08))
        if i % 7 not in (2, 6) and i < keys - 1:
            a.add(box((0.5 * step, 0.04, 0.15)), black, (x + step / 2, 0.55 * h + 0.03, d / 2 + 0.03))
    for s in (-1, 1):
        a.add(box((0.08, 0.5 * h, 0.08), bevel=0.01), case, (s * (w / 2 - 0.05), 0.25 * h, d / 2 + 0.16))
        a.add(box((0.05, 0.02, 0.14), bevel=0.005), m.polished_metal(rng), (s * 0.08, 0.05, d / 2 - 0.02))
    a.add(box((0.5, 0.3, 0.02)).turned(x=-0.2), m.paper(rng), (0, 0.82 * h, d / 2 - 0.06))
    if a.chance(0.5):
        a.add(cylinder(0.17, 0.06, 28), m.leather(rng), (0, 0.45, d / 2 + 0.6))
        a.add(lathe([(0, 0), (0.16, 0), (0.04, 0.08), (0.03, 0.45)], 24), case, (0, 0, d / 2 + 0.6))


FAMILIES = {"gadget": gadget, "instrument": instrument}
