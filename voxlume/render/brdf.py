"""The metallic-roughness reflection model of glTF 2.0: GGX microfacets over a Lambertian base.

Image-based light uses the split sum (Karis, "Real shading in Unreal Engine 4", 2013): the environment
filtered by the microfacet lobe times the lobe's integral, which is tabulated here. Light that bounces
between microfacets is put back (Fdez-Aguera, "A multiple-scattering microfacet model for real-time
image-based lighting", 2019), so rough metal does not darken, and the base gets what is not reflected.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel

DIELECTRIC_F0 = 0.04
"""Reflectance of glTF's non-metals at normal incidence."""

_TABLE_SIZE = 48


@inner_kernel
def radical_inverse(i: int) -> float:
    """Van der Corput sequence in base 2, the second Hammersley coordinate."""
    bits, value = 0.5, 0.0
    while i > 0:
        if i & 1:
            value += bits
        bits *= 0.5
        i >>= 1
    return value


@inner_kernel
def ggx_half_vector(u: float, v: float, alpha: float) -> tuple[float, float, float]:
    """A microfacet normal about +z drawn from the GGX distribution with u, v in [0, 1)."""
    cos2 = (1.0 - u) / (1.0 + (alpha * alpha - 1.0) * u)
    sin = math.sqrt(max(0.0, 1.0 - cos2))
    phi = 2.0 * math.pi * v
    return sin * math.cos(phi), sin * math.sin(phi), math.sqrt(cos2)


@parallel_kernel
def _integrate(size: int, samples: int, out: NDArray[np.float32]) -> None:
    for r in prange(size):
        roughness = max(r / (size - 1), 0.02)
        alpha = roughness * roughness
        for c in range(size):
            nv = max(c / (size - 1), 1e-3)
            vx, vz = math.sqrt(1.0 - nv * nv), nv
            scale, bias = 0.0, 0.0
            for i in range(samples):
                hx, _, hz = ggx_half_vector((i + 0.5) / samples, radical_inverse(i), alpha)
                vh = vx * hx + vz * hz
                nl = 2.0 * vh * hz - vz
                if nl <= 0.0 or vh <= 0.0:
                    continue
                # Height-correlated Smith visibility times 4 n.l n.v.
                a2 = alpha * alpha
                smith_v = nl * math.sqrt(nv * nv * (1.0 - a2) + a2)
                smith_l = nv * math.sqrt(nl * nl * (1.0 - a2) + a2)
                weight = 2.0 * nl * nv / (smith_v + smith_l) * vh / (hz * nv)
                fresnel = (1.0 - vh) ** 5
                scale += (1.0 - fresnel) * weight
                bias += fresnel * weight
            out[r, c, 0] = scale / samples
            out[r, c, 1] = bias / samples


@lru_cache(maxsize=1)
def reflectance_table() -> NDArray[np.float32]:
    """float32 (48, 48, 2) over (roughness, n.v) from 0 to 1: the lobe reflects ``F0 * t[0] + t[1]``."""
    table = np.empty((_TABLE_SIZE, _TABLE_SIZE, 2), np.float32)
    _integrate(_TABLE_SIZE, 512, table)
    return table


@inner_kernel
def look_up_reflectance(table: NDArray[np.float32], roughness: float, nv: float) -> tuple[float, float]:
    """Bilinear value of :func:`reflectance_table`."""
    n = table.shape[0] - 1
    y, x = min(max(roughness, 0.0), 1.0) * n, min(max(nv, 0.0), 1.0) * n
    i, j = min(int(y), n - 1), min(int(x), n - 1)
    fy, fx = y - i, x - j
    w00, w01, w10, w11 = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
    scale = w00 * table[i, j, 0] + w01 * table[i, j + 1, 0] + w10 * table[i + 1, j, 0]
    bias = w00 * table[i, j, 1] + w01 * table[i, j + 1, 1] + w10 * table[i + 1, j, 1]
    return scale + w11 * table[i + 1, j + 1, 0], bias + w11 * table[i + 1, j + 1, 1]


@inner_kernel
def image_based_weights(
    base: float, metallic: float, scale: float, bias: float
) -> tuple[float, float, float]:
    """How one colour channel weighs the light that arrives.

    -> weight of the filtered environment (single bounce), of the irradiance / pi by bounces between
    microfacets, and of the irradiance / pi by the Lambertian base. ``base`` is linear.
    """
    # glTF mixes the light of a metal and of a dielectric over a matt base.
    escaped = 1.0 - (scale + bias)
    metal, dielectric = base * scale + bias, DIELECTRIC_F0 * scale + bias
    metal_multiple = _bounced(metal, base, escaped)
    dielectric_multiple = _bounced(dielectric, DIELECTRIC_F0, escaped)
    return (
        dielectric + (metal - dielectric) * metallic,
        dielectric_multiple + (metal_multiple - dielectric_multiple) * metallic,
        base * (1.0 - metallic) * (1.0 - dielectric - dielectric_multiple),
    )


@inner_kernel
def _bounced(single: float, f0: float, escaped: float) -> float:
    """Reflected after further bounces: what escapes the first meets the average reflectance again."""
    average = f0 + (1.0 - f0) / 21.0
    return single * average * escaped / (1.0 - average * escaped)
