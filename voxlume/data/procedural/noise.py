"""Tileable random fields, the raw material of procedural textures.

A field is float64 (SIZE, SIZE) with values spread evenly over [0, 1], so that a threshold t covers the
share t of the picture. Fields come from small banks that every process computes the same way when it first
needs them; a draw from a bank is shifted and mirrored at random, which costs next to nothing.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

SIZE = 128
"""Side of every field in pixels."""

Field = NDArray[np.float64]

_BANK = 6


def clouds(rng: np.random.Generator, feature: float = 0.25, *, stretch: float = 1.0) -> Field:
    """Smooth noise with detail at all scales below ``feature`` (share of the side).

    ``stretch`` > 1 draws the features out along the rows' direction v (image columns), as wood grain and
    brush marks are.
    """
    return _placed(rng, _clouds(int(rng.integers(_BANK)), feature, stretch))


def speckle(rng: np.random.Generator) -> Field:
    """Noise without neighbourhood, one value per pixel."""
    return _placed(rng, _speckle(int(rng.integers(_BANK))))


def cells(rng: np.random.Generator, count: int) -> tuple[Field, Field]:
    """A cellular pattern (Worley, 1996) of ``count`` cells.

    Returns
    -------
    border : 0 on the borders, growing to 1 in the middle of the widest cell (not equalised).
    value : one random value per cell.
    """
    both = _cells(int(rng.integers(_BANK)), count)
    roll = rng.integers(0, SIZE, 2)
    return np.roll(both[0], roll, (0, 1)), np.roll(both[1], roll, (0, 1))


def across() -> tuple[Field, Field]:
    """Coordinates u, v in [0, 1) of the pixel centres, each broadcastable to a field."""
    line = (np.arange(SIZE) + 0.5) / SIZE
    return line[None, :], line[:, None]


def smoothstep(low: float, high: float, x: Field) -> Field:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _placed(rng: np.random.Generator, field: Field) -> Field:
    rows, columns, flip = rng.integers(0, SIZE, 3)
    if flip & 1:
        field = field[::-1]
    if flip & 2:
        field = field[:, ::-1]
    return np.roll(field, (rows, columns), (0, 1))


def _equalised(values: Field) -> Field:
    flat = values.ravel()
    out = np.empty(flat.size)
    out[np.argsort(flat, kind="stable")] = (np.arange(flat.size) + 0.5) / flat.size
    return out.reshape(values.shape)


@cache
def _clouds(number: int, feature: float, stretch: float) -> Field:
    rng = np.random.default_rng([1, number])
    spectrum = np.fft.rfft2(rng.random((SIZE, SIZE)))
    fy = np.fft.fftfreq(SIZE, 1 / SIZE)[:, None] * stretch
    fx = np.fft.rfftfreq(SIZE, 1 / SIZE)[None, :]
    frequency = np.sqrt(fx * fx + fy * fy)
    corner = 1.0 / feature
    # Flat up to the largest feature, then falling as 1 / f^2 in amplitude: clouds.
    spectrum *= 1.0 / (1.0 + (frequency / corner) ** 2)
    spectrum[0, 0] = 0.0
    return _equalised(np.fft.irfft2(spectrum, (SIZE, SIZE)))


@cache
def _speckle(number: int) -> Field:
    return np.random.default_rng([2, number]).random((SIZE, SIZE))


@cache
def _cells(number: int, count: int) -> tuple[Field, Field]:
    rng = np.random.default_rng([3, number, count])
    side = max(1, round(count**0.5))
    lattice = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    seeds = (lattice + 0.1 + 0.8 * rng.random(lattice.shape)) / side
    shifts = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 1, 2)
    tree = cKDTree((seeds[None] + shifts).reshape(-1, 2))
    u, v = across()
    pixels = np.stack(np.broadcast_arrays(u, v), -1).reshape(-1, 2)
    distance, nearest = (np.asarray(x) for x in tree.query(pixels, k=2))
    border = (distance[:, 1] - distance[:, 0]).reshape(SIZE, SIZE)
    value = rng.random(len(seeds))[nearest[:, 0] % len(seeds)].reshape(SIZE, SIZE)
    return border / border.max(), value
