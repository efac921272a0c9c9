"""Procedural PBR materials: what things are made of, with textures that vary over the surface.

Every function takes the random generator first and returns a :class:`voxlume.asset.Material` whose images
are tileable and :data:`voxlume.data.procedural.noise.SIZE` pixels wide. UVs are in object units; the
texture transform holds the size of a tile, always 1 / (a whole number) so that half a unit of surface is a
whole number of tiles. Grain and brush marks run along v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import AlphaMode, Material, Texture
from voxlume.data.procedural import palettes
from voxlume.data.procedural.noise import SIZE, Field, across, cells, clouds, smoothstep, speckle
from voxlume.data.procedural.palettes import Color, draw, mix, shade
from voxlume.srgb import srgb_to_linear

Maker = Callable[[np.random.Generator], Material]
Value = NDArray[np.floating] | float


def ramp(field: Field, colors: Sequence[Color]) -> NDArray[np.float64]:
    """Colours (h, w, 3) for values in [0, 1], evenly spaced stops."""
    stops = np.asarray(colors, np.float64)
    if len(stops) == 2:
        return stops[0] + field[..., None] * (stops[1] - stops[0])
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(field, at, stops[:, c]) for c in range(3)], -1)


def blend(
    a: NDArray[np.float64], b: NDArray[np.float64] | Color, share: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Picture a, with b where the share is 1."""
    return a + share[..., None] * (np.asarray(b, np.float64) - a)


def flat(color: Color) -> NDArray[np.float64]:
    """One colour everywhere."""
    return np.broadcast_to(np.asarray(color, np.float64), (SIZE, SIZE, 3))


def compose(
    name: str,
    color: NDArray[np.float64] | Color,
    roughness: Value,
    metallic: Value = 0.0,
    *,
    tile: float = 0.5,
    alpha: Value = 1.0,
    alpha_mode: AlphaMode = "OPAQUE",
    double_sided: bool = False,
) -> Material:
    """A material of fields and numbers; what does not vary becomes a factor.

    Parameters
    ----------
    color : sRGB-encoded, (h, w, 3) or one colour.
    tile : edge of the picture on the surface, in object units.
    """
    transform = np.array([[1 / tile, 0.0, 0.0], [0.0, 1 / tile, 0.0]])
    factor = np.ones(4)
    base = None
    if isinstance(color, tuple) and not isinstance(alpha, np.ndarray):
        factor[:3] = srgb_to_linear(np.asarray(color))
        factor[3] = alpha
    else:
        rgb = np.broadcast_to(np.asarray(color, np.float64), (SIZE, SIZE, 3))
        if isinstance(alpha, np.ndarray):
            rgb = np.concatenate([rgb, np.broadcast_to(alpha, (SIZE, SIZE))[..., None]], -1)
        else:
            factor[3] = alpha
        base = Texture(_pixels(rgb), transform=transform)
    metal_rough = None
    rough_factor, metal_factor = roughness, metallic
    if isinstance(roughness, np.ndarray) or isinstance(metallic, np.ndarray):
        image = np.empty((SIZE, SIZE, 3))
        image[..., 0], image[..., 1], image[..., 2] = 1.0, roughness, metallic
        metal_rough = Texture(_pixels(image), transform=transform)
        rough_factor = metal_factor = 1.0
    r, g, b, a = (round(float(f), 6) for f in factor)
    return Material(
        name=name,
        base_color_factor=(r, g, b, a),
        base_color_texture=base,
        metallic_factor=round(float(metal_factor), 4),
        roughness_factor=round(float(rough_factor), 4),
        metallic_roughness_texture=metal_rough,
        alpha_mode=alpha_mode,
        double_sided=double_sided,
    )


def double_sided(material: Material) -> Material:
    """For open sheets."""
    return replace(material, double_sided=True)


def _pixels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return (np.clip(values, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _tile(rng: np.random.Generator, *parts: int) -> float:
    """A tile that fits a whole number of times into half a unit."""
    return 0.5 / int(rng.choice(parts))


# --- wood ---------------------------------------------------------------------------------------------


def wood(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Planed wood: year rings drawn out along the grain, pores, a finish from raw to varnished."""
    light = color or draw(rng, palettes.WOOD)
    dark = shade(light, _between(rng, 0.45, 0.75))
    u, _ = across()
    warp = clouds(rng, 0.5, stretch=float(rng.choice([4.0, 8.0])))
    rings = int(rng.integers(3, 9))
    phase = u * rings + _between(rng, 0.8, 2.5) * warp
    ring = 0.5 - 0.5 * np.cos(2 * np.pi * phase)
    pores = clouds(rng, 0.03, stretch=16.0)
    tone = np.clip(0.7 * ring**2 + 0.45 * (pores - 0.35), 0, 1)
    rough = _between(rng, 0.25, 0.75)
    return compose("wood", ramp(tone, (light, dark)), rough + 0.2 * pores - 0.1, tile=_tile(rng, 1, 1, 2))


def planks(rng: np.random.Generator) -> Material:
    """Boards side by side along v, each of its own tone, with dark joints and worn edges."""
    light = draw(rng, palettes.WOOD)
    count = int(rng.choice([3, 4, 5]))
    u, _ = across()
    board = np.floor(u * count).astype(np.intp)
    tone = rng.random(count)[board]
    pores = clouds(rng, 0.06, stretch=8.0)
    local = u * count - board
    joint = 1 - smoothstep(0.0, 0.08, np.minimum(local, 1 - local))
    color = ramp(np.clip(0.55 * tone + 0.5 * pores, 0, 1), (light, shade(light, 0.5)))
    color = blend(color, shade(light, 0.2), joint * 0.9)
    return compose("planks", color, np.broadcast_to(0.6 + 0.25 * pores, (SIZE, SIZE)))


def weathered_paint(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Painted wood that has lost part of its paint."""
    coat = color or draw(rng, palettes.PAINT)
    bare = draw(rng, palettes.WOOD)
    pores = clouds(rng, 0.06, stretch=8.0)
    worn = smoothstep(0.0, 0.08, clouds(rng, 0.2, stretch=2.0) - _between(rng, 0.65, 0.92))
    color_map = blend(ramp(pores, (coat, shade(coat, 0.85))), shade(bare, 0.85), worn)
    return compose("weathered paint", color_map, 0.45 + 0.4 * worn + 0.1 * pores)


# --- metal --------------------------------------------------------------------------------------------


def polished_metal(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Steel, brass, copper, gold: smooth, with smudges that only show in the reflections."""
    tone = color or draw(rng, palettes.METAL, 0.03)
    smudge = clouds(rng, 0.25)
    rough = _between(rng, 0.05, 0.28)
    return compose("polished metal", ramp(smudge, (tone, shade(tone, 0.93))), rough + 0.12 * smudge, 1.0)


def brushed_metal(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Metal with fine parallel marks."""
    tone = color or draw(rng, palettes.METAL, 0.03)
    marks = clouds(rng, 0.06, stretch=16.0)
    rough = _between(rng, 0.25, 0.45)
    return compose(
        "brushed metal", ramp(marks, (shade(tone, 0.85), tone)), rough + 0.2 * marks - 0.05, 1.0,
        tile=_tile(rng, 1, 2),
    )  # fmt: skip


def rusty_metal(rng: np.random.Generator) -> Material:
    """Iron with patches of rust, which are no longer metal."""
    steel = shade(draw(rng, palettes.METAL[:2]), _between(rng, 0.5, 0.85))
    share = _between(rng, 0.25, 0.85)
    patch = clouds(rng, 0.35)
    fine = clouds(rng, 0.06)
    rust = smoothstep(-0.08, 0.08, share - 0.75 * patch - 0.25 * fine)
    rusted = ramp(fine, ((0.62, 0.30, 0.13), (0.42, 0.19, 0.09), (0.25, 0.12, 0.08)))
    return compose("rusty iron", blend(flat(steel), rusted, rust), 0.38 + 0.5 * rust, 1 - rust)


def painted_metal(rng: np.random.Generator, color: Color | None = None) -> Material:
    """A coat of paint, chipped here and there down to the bare metal."""
    coat = color or draw(rng, palettes.PAINT)
    chips = smoothstep(0.0, 0.02, clouds(rng, 0.12) - _between(rng, 0.93, 1.02))
    dirt = clouds(rng, 0.4)
    color_map = blend(ramp(dirt, (coat, shade(coat, 0.9))), (0.62, 0.62, 0.63), chips)
    return compose("painted metal", color_map, _between(rng, 0.2, 0.5) + 0.12 * dirt, chips)


def car_paint(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Smooth lacquer, partly metallic."""
    coat = color or draw(rng, palettes.PAINT)
    dirt = clouds(rng, 0.5)
    metallic = float(rng.choice([0.0, 0.0, 0.5, 0.8]))
    return compose("lacquer", ramp(dirt, (coat, shade(coat, 0.93))), 0.12 + 0.15 * dirt, metallic)


def hammered_metal(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Dents with darker borders, older metal."""
    tone = color or draw(rng, palettes.METAL)
    border, value = cells(rng, int(rng.choice([49, 100])))
    return compose(
        "hammered metal",
        ramp(np.clip(border * 1.5 + 0.2 * value, 0, 1), (shade(tone, 0.6), tone)),
        0.5 - 0.25 * np.clip(border * 2, 0, 1), 1.0,
    )  # fmt: skip


# --- stone and earth ----------------------------------------------------------------------------------


def granite(rng: np.random.Generator) -> Material:
    """Grains of three minerals."""
    tone = draw(rng, palettes.STONE)
    _, value = cells(rng, 900)
    grain = np.clip(0.75 * value + 0.25 * clouds(rng, 0.3), 0, 1)
    color = ramp(grain, (shade(tone, 0.35), tone, shade(tone, 1.3), shade(tone, 0.85)))
    return compose("granite", color, _between(rng, 0.2, 0.7) + 0.15 * value)


def marble(rng: np.random.Generator) -> Material:
    """Pale stone with veins along the level lines of a cloud."""
    pale = draw(rng, ((0.93, 0.92, 0.90), (0.85, 0.83, 0.79), (0.22, 0.24, 0.25), (0.75, 0.80, 0.77)))
    vein = shade(pale, 0.45) if pale[0] > 0.4 else shade(pale, 1.6)
    cloud = clouds(rng, 0.6)
    veins = 1 - smoothstep(0.0, 0.06, np.abs(cloud - 0.5)) * (1 - 0.3 * clouds(rng, 0.1))
    veins = np.clip(0.75 * veins + 0.3 * clouds(rng, 0.3) ** 3, 0, 1)
    return compose("marble", ramp(veins, (pale, vein)), 0.12 + 0.25 * veins)


def concrete(rng: np.random.Generator) -> Material:
    """Grey and blotchy, with pits."""
    tone = draw(rng, palettes.STONE)
    pits = smoothstep(0.93, 0.99, clouds(rng, 0.06))
    color = blend(ramp(clouds(rng, 0.5), (tone, shade(tone, 0.78))), shade(tone, 0.5), pits)
    return compose("concrete", color, 0.8 + 0.15 * pits)


def brick(rng: np.random.Generator) -> Material:
    """A running bond with mortar; every brick has its own tone."""
    tone = draw(rng, ((0.62, 0.28, 0.20), (0.70, 0.42, 0.30), (0.55, 0.35, 0.28), (0.78, 0.72, 0.64)))
    rows, columns = 8, 4
    u, v = across()
    row = np.floor(v * rows).astype(np.intp)
    shifted = u * columns + 0.5 * (row % 2)
    column = np.floor(shifted).astype(np.intp) % columns
    value = rng.random((rows, columns))[row, column]
    edge = np.minimum(_to_border(shifted) * 2.0, _to_border(v * rows) + 0 * shifted)
    stone = smoothstep(0.06, 0.14, edge)
    noise = clouds(rng, 0.1)
    color = ramp(np.clip(0.7 * value + 0.3 * noise, 0, 1), (shade(tone, 0.7), tone, shade(tone, 1.15)))
    mortar = draw(rng, ((0.75, 0.73, 0.69), (0.60, 0.58, 0.55)))
    return compose("brick", blend(flat(mortar), color, stone), 0.9 - 0.15 * stone * noise)


def cobbles(rng: np.random.Generator) -> Material:
    """Natural stones with dark joints."""
    tone = draw(rng, palettes.STONE)
    border, value = cells(rng, int(rng.choice([25, 49, 100])))
    stone = smoothstep(0.05, 0.2, border)
    color = ramp(np.clip(0.8 * value + 0.2 * clouds(rng, 0.1), 0, 1), (shade(tone, 0.65), shade(tone, 1.15)))
    return compose("stone wall", blend(flat(shade(tone, 0.3)), color, stone), 0.95 - 0.25 * stone)


def tiles(rng: np.random.Generator) -> Material:
    """Glazed tiles or a chessboard with joints."""
    a, b = draw(rng, palettes.PAINT), draw(rng, palettes.NEUTRAL)
    count = int(rng.choice([2, 4]))
    u, v = across()
    odd = (np.floor(u * count) + np.floor(v * count)) % 2
    joint = 1 - smoothstep(0.03, 0.06, np.minimum(_to_border(u * count), _to_border(v * count)))
    color = blend(blend(flat(a), b, odd), (0.7, 0.69, 0.66), joint)
    return compose("tiles", color, 0.15 + 0.6 * joint + 0.1 * clouds(rng, 0.3))


def roof_tiles(rng: np.random.Generator) -> Material:
    """Overlapping rows of tiles, down along v."""
    tone = draw(rng, ((0.58, 0.27, 0.19), (0.35, 0.36, 0.40), (0.45, 0.30, 0.22), (0.30, 0.38, 0.33)))
    count = int(rng.choice([4, 6, 8]))
    u, v = across()
    row = np.floor(v * count)
    x = u * count + 0.5 * (row % 2)
    value = rng.random((count, count))[row.astype(np.intp), np.floor(x).astype(np.intp) % count]
    shadow = 1 - smoothstep(0.0, 0.25, (v * count - row) + 0 * x)
    gap = 1 - smoothstep(0.03, 0.1, _to_border(x))
    dark = np.clip(0.6 * value + shadow + 0.6 * gap, 0, 1)
    return compose("roof tiles", ramp(dark, (shade(tone, 1.1), shade(tone, 0.35))), 0.6 + 0.3 * dark)


def soil(rng: np.random.Generator) -> Material:
    """Dark crumbs."""
    tone = draw(rng, ((0.22, 0.15, 0.10), (0.30, 0.22, 0.15), (0.16, 0.12, 0.10)))
    crumbs = 0.5 * clouds(rng, 0.1) + 0.5 * speckle(rng)
    return compose("soil", ramp(crumbs, (shade(tone, 0.5), shade(tone, 1.2))), 1.0, tile=0.25)


def terracotta(rng: np.random.Generator) -> Material:
    """Fired clay with chalky blooms."""
    tone = draw(rng, palettes.TERRACOTTA)
    bloom = smoothstep(0.3, 1.0, clouds(rng, 0.35)) * _between(rng, 0.05, 0.3)
    color = blend(ramp(clouds(rng, 0.06), (shade(tone, 0.88), tone)), (0.9, 0.86, 0.8), bloom)
    return compose("terracotta", color, 0.82 + 0.12 * bloom)


# --- ceramic, plastic, paper --------------------------------------------------------------------------


def ceramic(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Glaze: plain, mottled, speckled or crackled."""
    tone = color or draw(rng, (*palettes.PAINT, *palettes.NEUTRAL))
    other = draw(rng, palettes.PAINT)
    style = int(rng.integers(4))
    rough: Value = 0.08 + 0.12 * clouds(rng, 0.4)
    if style == 0:
        color_map = ramp(clouds(rng, 0.5), (tone, shade(tone, 0.92)))
    elif style == 1:
        color_map = ramp(smoothstep(0.2, 0.8, clouds(rng, 0.4)), (tone, mix(tone, other, 0.6)))
    elif style == 2:
        dots = smoothstep(0.86, 0.93, clouds(rng, 0.05))
        color_map = blend(flat(tone), shade(other, 0.5), dots)
    else:
        border, _ = cells(rng, 100)
        cracks = 1 - smoothstep(0.0, 0.07, border)
        color_map, rough = blend(flat(tone), shade(tone, 0.55), 0.7 * cracks), rough + 0.2 * cracks
    return compose("ceramic", color_map, rough)


def painted_ceramic(rng: np.random.Generator) -> Material:
    """Glaze with a painted pattern on a pale ground."""
    ground = draw(rng, ((0.95, 0.94, 0.90), (0.90, 0.87, 0.80), (0.85, 0.89, 0.92)))
    ink = draw(rng, palettes.PAINT)
    second = draw(rng, palettes.PAINT)
    color = pattern(rng, ground, ink, second)
    return compose("painted ceramic", color, 0.1 + 0.1 * clouds(rng, 0.4), tile=_tile(rng, 1, 1, 2))


def plastic(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Moulded plastic from glossy to matt."""
    tone = color or draw(rng, palettes.PAINT)
    rough = _between(rng, 0.12, 0.65)
    wear = clouds(rng, 0.3)
    return compose("plastic", ramp(wear, (tone, shade(tone, 0.94))), rough + 0.12 * wear)


def rubber(rng: np.random.Generator) -> Material:
    """Black to grey, matt."""
    tone = draw(rng, ((0.09, 0.09, 0.10), (0.16, 0.16, 0.16), (0.12, 0.11, 0.10)), 0.02)
    dust = clouds(rng, 0.2)
    return compose("rubber", ramp(dust, (tone, shade(tone, 1.12))), 0.7 + 0.25 * dust)


def cardboard(rng: np.random.Generator) -> Material:
    """Brown, with faint corrugation."""
    tone = draw(rng, ((0.72, 0.56, 0.38), (0.66, 0.50, 0.34)))
    u, _ = across()
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * 16 * u)
    color = ramp(np.clip(0.25 * wave + 0.6 * clouds(rng, 0.3), 0, 1), (tone, shade(tone, 0.8)))
    return compose("cardboard", color, 0.9)


def paper(rng: np.random.Generator, color: Color | None = None) -> Material:
    """A printed label or cover: ground, bands, lines of text."""
    ground = color or draw(rng, (*palettes.NEUTRAL[:3], *palettes.PAINT))
    ink = draw(rng, palettes.PAINT) if sum(ground) > 1.5 else draw(rng, palettes.NEUTRAL[:3])
    u, v = across()
    lines = ((v * 16) % 1 < 0.4) & (clouds(rng, 0.06, stretch=0.5) > 0.35) & (np.abs(v - 0.65) < 0.2)
    band = np.abs(v - 0.25) < _between(rng, 0.06, 0.16)
    color_map = blend(flat(ground), ink, np.broadcast_to(1.0 * (lines | band), (SIZE, SIZE)))
    return compose("paper", color_map + 0 * u[..., None], 0.6 + 0.2 * clouds(rng, 0.3))


# --- cloth and leather --------------------------------------------------------------------------------


def fabric(rng: np.random.Generator, color: Color | None = None, *, double_sided: bool = False) -> Material:
    """Woven cloth: plain, striped, checked, dotted, plaid."""
    tone = color or draw(rng, palettes.FABRIC)
    second, third = draw(rng, palettes.FABRIC), draw(rng, palettes.PAINT)
    color_map = flat(tone) if rng.random() < 0.35 else pattern(rng, tone, second, third)
    u, v = across()
    threads = int(rng.choice([16, 32]))
    weave = 0.5 + 0.5 * np.sin(2 * np.pi * threads * u) * np.sin(2 * np.pi * threads * v)
    color_map = color_map * (0.86 + 0.14 * weave)[..., None] * (0.92 + 0.08 * clouds(rng, 0.3))[..., None]
    return compose(
        "fabric", color_map, 0.8 + 0.18 * weave, tile=_tile(rng, 1, 1, 2), double_sided=double_sided
    )


def leather(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Creased hide, worn smooth on the folds."""
    tone = color or draw(rng, palettes.LEATHER)
    border, _ = cells(rng, 400)
    crease = 1 - smoothstep(0.0, 0.25, border)
    worn = clouds(rng, 0.4)
    color_map = ramp(np.clip(0.6 * crease + 0.4 * worn, 0, 1), (shade(tone, 1.08), shade(tone, 0.6)))
    return compose("leather", color_map, 0.4 + 0.3 * crease + 0.15 * worn)


def knit(rng: np.random.Generator) -> Material:
    """Wool: rows of loops, two colours."""
    a, b = draw(rng, palettes.FABRIC), draw(rng, palettes.FABRIC)
    u, v = across()
    loops = np.abs(np.sin(np.pi * (12 * u + 0.5 * np.abs(((v * 16) % 1) * 2 - 1)))) + 0 * v
    stripe = 1.0 * (((v * int(rng.integers(2, 5))) % 1) < 0.4) * float(rng.random() < 0.6) + 0 * u
    color = blend(flat(a), b, stripe) * (0.6 + 0.4 * loops)[..., None]
    return compose("knit", color, 0.95)


def wicker(rng: np.random.Generator) -> Material:
    """Woven cane with holes (alpha mask)."""
    tone = draw(rng, palettes.WOOD[:6])
    u, v = across()
    n = 8
    horizontal = _to_border(v * n + 0.5) < 0.36
    vertical = _to_border(u * n + 0.5) < 0.36
    over = (np.floor(u * n) + np.floor(v * n)) % 2 == 0
    bump = np.where(over & horizontal, np.cos(np.pi * (u * n % 1 - 0.5)), np.cos(np.pi * (v * n % 1 - 0.5)))
    color = ramp(np.clip(bump, 0, 1), (shade(tone, 0.45), tone)) * (0.85 + 0.15 * clouds(rng, 0.1))[..., None]
    return compose(
        "wicker", color, 0.7, alpha=1.0 * (horizontal | vertical), alpha_mode="MASK", double_sided=True
    )


def pattern(rng: np.random.Generator, ground: Color, ink: Color, second: Color) -> NDArray[np.float64]:
    """A painted or printed pattern (h, w, 3)."""
    u, v = across()
    n = int(rng.choice([2, 3, 4, 6]))
    zero: NDArray[np.floating] = 0 * (u + v)
    a, b = zero, zero
    style = int(rng.integers(9))
    if style == 0:  # stripes along v
        a = 1.0 * ((u * n) % 1 < _between(rng, 0.2, 0.6)) + zero
    elif style == 1:  # bands along u
        a, b = 1.0 * ((v * n) % 1 < 0.35) + zero, 1.0 * ((v * n + 0.4) % 1 < 0.12) + zero
    elif style == 2:  # dots, every other row shifted
        row = np.floor(v * 2 * n)
        x, y = (u * n + 0.5 * (row % 2)) % 1 - 0.5, ((v * 2 * n) % 1 - 0.5) / 2
        a = 1.0 * (x * x + y * y < _between(rng, 0.02, 0.045))
    elif style == 3:  # checks
        a = (np.floor(u * 2 * n) + np.floor(v * 2 * n)) % 2
    elif style == 4:  # plaid
        a = 0.5 * ((u * n) % 1 < 0.45) + 0.5 * ((v * n) % 1 < 0.45)
        b = np.maximum(1.0 * ((u * n + 0.3) % 1 < 0.08), 1.0 * ((v * n + 0.3) % 1 < 0.08))
    elif style == 5:  # zigzag
        a = 1.0 * ((v * n + np.abs(((u * n) % 1) - 0.5)) % 1 < 0.4)
    elif style == 6:  # flowers on a shifted lattice
        row = np.floor(v * n)
        x, y = (u * n + 0.5 * (row % 2)) % 1 - 0.5, (v * n) % 1 - 0.5
        radius, angle = np.sqrt(x * x + y * y), np.arctan2(y, x)
        a = 1.0 * (radius < 0.2 + 0.12 * np.cos(int(rng.integers(4, 8)) * angle))
        b = 1.0 * (radius < 0.09)
    elif style == 7:  # patches of camouflage
        a, b = 1.0 * (clouds(rng, 0.3) > 0.5), 1.0 * (clouds(rng, 0.3) > 0.75)
    else:  # waves
        a = 1.0 * ((v * n + 0.15 * np.sin(2 * np.pi * n * u)) % 1 < 0.45)
    return blend(blend(flat(ground), ink, a), second, b)


# --- glass and liquids --------------------------------------------------------------------------------


def glass(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Translucent glass, clear or tinted, polished or frosted; alpha 0.15 to 0.6."""
    tint = color or draw(rng, palettes.GLASS)
    alpha: Value = _between(rng, 0.15, 0.5)
    rough: Value = float(rng.choice([0.03, 0.06, 0.1, 0.35]))
    if rng.random() < 0.3:
        frost = smoothstep(0.3, 0.7, clouds(rng, 0.25))
        alpha, rough = alpha + 0.1 * frost, rough + 0.15 * frost
    return compose("glass", tint, rough, alpha=alpha, alpha_mode="BLEND", double_sided=True)


def liquid(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Wine, juice, milk, water: smooth, from clear to opaque."""
    tone = color or draw(
        rng,
        ((0.45, 0.06, 0.10), (0.85, 0.55, 0.10), (0.95, 0.93, 0.88), (0.75, 0.88, 0.92), (0.30, 0.16, 0.08),
         (0.35, 0.60, 0.25), (0.90, 0.45, 0.20)),
    )  # fmt: skip
    alpha = _between(rng, 0.55, 0.95)
    return compose("liquid", tone, 0.05, alpha=alpha, alpha_mode="BLEND")


# --- living things ------------------------------------------------------------------------------------


def leaf(rng: np.random.Generator, color: Color | None = None) -> Material:
    """A leaf over UV (0..1)^2: midrib at u = 0.5, side veins, lighter or dry towards the edge."""
    tone = color or draw(rng, palettes.LEAF)
    return compose(
        "leaf", _leaf_picture(rng, tone), 0.4 + 0.3 * clouds(rng, 0.2), tile=1.0, double_sided=True
    )


def leaf_card(rng: np.random.Generator, color: Color | None = None) -> Material:
    """A twig with leaves over UV (0..1)^2 on a transparent ground (alpha mask)."""
    tone = color or draw(rng, palettes.LEAF)
    u, v = across()
    alpha = np.broadcast_to(np.abs(u - 0.5) < 0.02, (SIZE, SIZE)) * (v > 0.15)
    pairs = int(rng.integers(3, 6))
    width, tilt = _between(rng, 0.22, 0.4), _between(rng, 0.3, 0.9)
    for i in range(pairs):
        base = 0.95 - 0.75 * i / pairs
        for side in (-1, 1):
            x, y = side * (u - 0.5), base - v
            along, off = x * np.cos(tilt) + y * np.sin(tilt), -x * np.sin(tilt) + y * np.cos(tilt)
            t = along / (0.46 - 0.04 * i)
            alpha |= (t > 0) & (t < 1) & (np.abs(off) < width * 0.5 * np.sqrt(np.clip(t, 0, 1)) * (1 - t))
    tip = (v < 0.3) & (np.abs(u - 0.5) < width * 0.6 * np.sqrt(np.clip(v / 0.3, 0, 1)) * (1 - v / 0.3))
    return compose(
        "leaf card", _leaf_picture(rng, tone), 0.55 + 0.2 * clouds(rng, 0.2), tile=1.0,
        alpha=1.0 * (alpha | tip), alpha_mode="MASK", double_sided=True,
    )  # fmt: skip


def _leaf_picture(rng: np.random.Generator, tone: Color) -> NDArray[np.float64]:
    u, v = across()
    x = np.abs(u - 0.5)
    ribs = np.abs((v * int(rng.integers(6, 12)) - 5 * x) % 1 - 0.5) * 2
    vein = np.maximum(1 - smoothstep(0.01, 0.03, x + 0 * v), 0.5 * (1 - smoothstep(0.0, 0.25, ribs)))
    edge = smoothstep(0.25, 0.5, x + 0 * v) * _between(rng, 0.0, 0.7)
    color = ramp(clouds(rng, 0.25), (shade(tone, 0.8), tone))
    color = blend(color, draw(rng, (*palettes.LEAF, (0.75, 0.70, 0.35), (0.60, 0.25, 0.25))), edge)
    return blend(color, shade(tone, 1.35), 0.7 * vein)


def foliage(rng: np.random.Generator, color: Color | None = None) -> Material:
    """A mass of leaves seen from afar."""
    tone = color or draw(rng, palettes.LEAF)
    border, value = cells(rng, 225)
    color_map = ramp(np.clip(0.7 * value + 0.5 * border, 0, 1), (shade(tone, 0.5), tone, shade(tone, 1.2)))
    return compose("foliage", color_map, 0.75 + 0.2 * value)


def bark(rng: np.random.Generator) -> Material:
    """Furrows along v."""
    tone = draw(rng, ((0.38, 0.28, 0.20), (0.50, 0.42, 0.35), (0.28, 0.22, 0.18), (0.80, 0.78, 0.74)))
    furrow = clouds(rng, 0.12, stretch=4.0)
    return compose("bark", ramp(furrow, (shade(tone, 0.45), tone)), 0.85 + 0.1 * furrow)


def petal(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Over UV (0..1)^2: pale towards one end."""
    tone = color or draw(rng, palettes.FLOWER)
    _, v = across()
    streak = clouds(rng, 0.1, stretch=8.0)
    color_map = ramp(np.clip(v + 0.25 * streak - 0.1, 0, 1), (tone, shade(tone, 1.35)))
    return compose("petal", color_map, 0.6, tile=1.0, double_sided=True)


def skin(rng: np.random.Generator, color: Color | None = None) -> Material:
    """Hide of a creature: mottled, spotted, striped or scaly."""
    tone = color or draw(rng, palettes.SKIN)
    other = mix(draw(rng, palettes.SKIN), shade(tone, 0.4), 0.5)
    style = int(rng.integers(4))
    rough: Value = 0.55 + 0.25 * clouds(rng, 0.2)
    if style == 0:
        mark = smoothstep(0.3, 0.7, clouds(rng, 0.3))
    elif style == 1:
        mark = smoothstep(0.7, 0.76, clouds(rng, 0.15))
    elif style == 2:
        _, v = across()
        mark = smoothstep(0.1, 0.4, np.sin(2 * np.pi * (4 * v + 0.6 * clouds(rng, 0.4))))
    else:
        border, value = cells(rng, 225)
        mark, rough = 1 - smoothstep(0.05, 0.35, border), 0.3 + 0.4 * (1 - border) + 0.1 * value
    return compose("skin", blend(ramp(clouds(rng, 0.2), (tone, shade(tone, 0.9))), other, mark), rough)


def peel(rng: np.random.Generator, color: Color) -> Material:
    """Fruit: two ripeness tones and freckles."""
    ripe = mix(
        color, draw(rng, ((0.85, 0.25, 0.15), (0.90, 0.75, 0.2), (0.45, 0.6, 0.2))), _between(rng, 0, 0.6)
    )
    color_map = ramp(smoothstep(0.1, 0.9, clouds(rng, 0.6, stretch=2.0)), (color, ripe))
    freckles = smoothstep(0.92, 0.97, clouds(rng, 0.05))
    return compose("peel", blend(color_map, shade(color, 1.4), 0.5 * freckles), 0.3 + 0.2 * clouds(rng, 0.2))


def crust(rng: np.random.Generator, color: Color) -> Material:
    """Baked dough: pale in the hollows, dark where the oven was hottest."""
    bake = np.clip(0.75 * clouds(rng, 0.4) + 0.25 * clouds(rng, 0.06), 0, 1)
    color_map = ramp(bake, (shade(color, 1.25), color, shade(color, 0.65)))
    return compose("crust", color_map, 0.5 + 0.3 * clouds(rng, 0.1))


def _to_border(x: Field) -> Field:
    """Distance to the nearest whole number, 0 to 0.5."""
    local = x % 1
    return np.minimum(local, 1 - local)


METALS: tuple[Maker, ...] = (
    polished_metal, brushed_metal, rusty_metal, painted_metal, hammered_metal, polished_metal, brushed_metal,
)  # fmt: skip
STONES: tuple[Maker, ...] = (granite, marble, concrete, cobbles, terracotta)
CERAMICS: tuple[Maker, ...] = (ceramic, ceramic, painted_ceramic, terracotta)
SOFT: tuple[Maker, ...] = (fabric, fabric, leather, knit)
SOLID: tuple[Maker, ...] = (
    *METALS, polished_metal, wood, wood, weathered_paint, granite, marble, concrete, brick, terracotta,
    ceramic, ceramic, painted_ceramic, plastic, plastic, rubber, fabric, leather,
)  # fmt: skip
"""Materials that any solid body may be made of."""


def one_of(rng: np.random.Generator, makers: Sequence[Maker]) -> Material:
    """A material of one of these kinds."""
    return makers[int(rng.integers(len(makers)))](rng)
