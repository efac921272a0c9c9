"""Colours that things have, as sRGB triples in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Color = tuple[float, float, float]


def _hex(*codes: str) -> tuple[Color, ...]:
    return tuple((int(c[0:2], 16) / 255, int(c[2:4], 16) / 255, int(c[4:6], 16) / 255) for c in codes)


PAINT = _hex(
    "c8352b", "e2703a", "f2b134", "f5d96b", "7aa73d", "3d7a4e", "2f6f73", "4a9fb5", "2f5d9b", "26395f",
    "6b4c8f", "a9508d", "e59aa8", "f1ece0", "d8d4c8", "8d9296", "4a4d52", "26282b", "7b2d26", "b7c4a1",
    "9fc3d6", "e8c7a0", "5b7f3a",
)  # fmt: skip
NEUTRAL = _hex("f3f1ec", "e2ded4", "c9c4b8", "9a9893", "6d6e70", "44474b", "2a2c2f", "d6cbb8", "b5a58e")
WOOD = _hex(
    "c89b66", "b07d48", "8b5a33", "6a4026", "4a2c1b", "d9b88a", "a5673a", "7c4a2d", "c2a37c", "93836f",
)  # fmt: skip
METAL = _hex("c9cacc", "b4b6ba", "d8b45a", "c7894f", "b87333", "e0dfdb", "8f949b", "d3a04a", "a8a9a5")
STEEL = _hex("c9cacc", "b4b6ba", "e0dfdb", "8f949b", "a8a9a5", "6f7479")
LEAF = _hex("3f7a2e", "5a8f3a", "2f5f33", "78a546", "4b7f55", "8fae5a", "375c2c", "6a8f6a", "a3b65a")
STONE = _hex("9b978e", "b7b0a2", "7c7d7e", "cfc8ba", "5e6062", "a68f78", "d9d6cf", "8a7f72")
GLASS = _hex(
    "eaf4f2", "dfeee4", "5f8f55", "8a5a24", "3f7f9f", "c9dfe8", "2f6b4f", "d8a657", "b9c9d9", "7f3f4f"
)
FABRIC = _hex(
    "7d8b99", "a34a3f", "39546e", "c7b299", "54644b", "d6d0c4", "8c6f5a", "b98a9a", "46424b", "d9a441",
    "6f8f8a", "334a3c", "e3dccb", "95623e",
)  # fmt: skip
FLOWER = _hex("e24b5b", "f4a6c0", "f5c542", "ffffff", "9b59b6", "ef7f3a", "6a7fd9", "d6336c")
LEATHER = _hex("5a3622", "7a4a2b", "2b2320", "94613a", "b98a5c", "6b1f1f", "3b3f38")
TERRACOTTA = _hex("b5623f", "c7774f", "a0522d", "d08b64")
SKIN = _hex(
    "8fae5a", "6a9fb5", "c98f5a", "b56576", "7f6a9f", "d9a05b", "8a8f94", "e0b0a0", "5f7f5a", "6d4c3d"
)


def draw(rng: np.random.Generator, palette: tuple[Color, ...], jitter: float = 0.04) -> Color:
    """One colour of the palette, a little brighter, darker or shifted."""
    base = np.asarray(palette[int(rng.integers(len(palette)))])
    moved = base * (1 + jitter * (2 * rng.random() - 1)) + jitter * (rng.random(3) - 0.5)
    r, g, b = (float(c) for c in np.clip(moved, 0.02, 0.98))
    return r, g, b


def mix(a: Color, b: Color, share: float) -> Color:
    """``a`` with a share of ``b`` in it."""
    x, y, z = (float(p + share * (q - p)) for p, q in zip(a, b, strict=True))
    return x, y, z


def shade(color: Color, factor: float) -> Color:
    """Darker (factor < 1) or nearer to white (factor > 1)."""
    return mix(color, (0.0, 0.0, 0.0), 1 - factor) if factor <= 1 else mix(color, (1.0, 1.0, 1.0), factor - 1)


@dataclass(frozen=True)
class Scheme:
    """Colours that go together on one object."""

    main: Color
    accent: Color
    neutral: Color

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scheme:
        """A main colour, an accent that is not the same, and a neutral."""
        first, second = rng.choice(len(PAINT), 2, replace=False)
        return cls(draw(rng, (PAINT[first],)), draw(rng, (PAINT[second],)), draw(rng, NEUTRAL))
