"""Looking materials up: mip pyramids, texture filtering and the six O-Voxel channels of a surface point.

Shared by the voxeliser, the renderer, the texture bake and the comparison, so that all of them agree
on what a material is. The kernels are plain scalar functions compiled by numba; callers that are
compiled themselves use :func:`sample_texture` and :func:`sample_material` directly, everybody else
goes through :class:`MaterialSampler`.

Filtering follows the published converter (TRELLIS.2, section 3.1): a box-filtered pyramid, bilinear
within a level with texel centres at +0.5, linear between levels, the level constant over a triangle.
Colour is filtered as stored (sRGB-encoded). Factors and vertex colours are linear in glTF, so they are
applied between decoding and encoding; a factor of one leaves the stored value untouched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.asset import DEFAULT_MATERIAL, Asset, Material, Texture
from voxlume.jit import inner_kernel, parallel_kernel
from voxlume.srgb import linear_to_srgb

_WRAP_CODE = {"repeat": 0, "mirror": 1, "clamp": 2}
_ALPHA_CODE = {"OPAQUE": 0, "MASK": 1, "BLEND": 2}
_MAX_LEVELS = 18

Rgba = tuple[float, float, float, float]


class TexturePack(NamedTuple):
    """All textures of an asset as flat arrays (a form numba can take).

    ``base`` holds level 0 of every distinct image as uint8, ``mips`` the further levels as uint16
    (255 <-> 65535, so that averaging loses nothing visible). Row t of the other arrays belongs to
    texture t: sizes (width, height, channels), start of each level, number of levels, wrap codes,
    the nearest-texel flag.
    """

    base: NDArray[np.uint8]
    mips: NDArray[np.uint16]
    size: NDArray[np.int64]
    start: NDArray[np.int64]
    num_levels: NDArray[np.int64]
    wrap: NDArray[np.int64]
    nearest: NDArray[np.bool_]


class MaterialTable(NamedTuple):
    """Materials as flat arrays, one row each; texture -1 means none.

    ``textures``: base colour, metallic-roughness, transmission. ``factors``: linear red, green, blue,
    alpha, metallic, roughness, transmission. ``srgb``: the encoded base-colour factor. ``tinted``: the
    factor's colour is not white. ``see_through``: alpha comes from the transmission.
    """

    textures: NDArray[np.int64]
    factors: NDArray[np.float64]
    srgb: NDArray[np.float64]
    tinted: NDArray[np.bool_]
    alpha_mode: NDArray[np.int64]
    cutoff: NDArray[np.float64]
    see_through: NDArray[np.bool_]


class SurfaceArrays(NamedTuple):
    """The faces of an asset with what material look-up needs at their corners.

    ``uv[s]`` is (n, 2) for slot s (base colour, metallic-roughness, transmission), texture transform
    applied. ``color`` (n, 4) and ``metal_rough`` (n, 2) have one row per vertex or a single row of ones.
    ``lod[s]`` (m,): log2 of texels per unit length of each face.
    """

    faces: NDArray[np.int32]
    material: NDArray[np.int32]
    uv: NDArray[np.float32]
    color: NDArray[np.float32]
    metal_rough: NDArray[np.float32]
    lod: NDArray[np.float32]


@inner_kernel
def decode_srgb(x: float) -> float:
    """One sRGB value in [0, 1] to linear."""
    return x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4


@inner_kernel
def encode_srgb(x: float) -> float:
    """One linear value in [0, 1] to sRGB."""
    return x * 12.92 if x <= 0.0031308 else 1.055 * x ** (1.0 / 2.4) - 0.055


@parallel_kernel
def _halve(
    source: NDArray,
    scale: float,
    width: int,
    height: int,
    channels: int,
    out: NDArray[np.uint16],
    new_width: int,
    new_height: int,
) -> None:
    """Box-filter one level to the next; an odd side spreads its middle texel over both neighbours."""
    step_x, step_y = width / new_width, height / new_height
    for y in prange(new_height):
        y0, y1 = y * step_y, (y + 1) * step_y
        for x in range(new_width):
            x0, x1 = x * step_x, (x + 1) * step_x
            for c in range(channels):
                total = 0.0
                for j in range(int(y0), min(math.ceil(y1), height)):
                    row = min(y1, j + 1.0) - max(y0, float(j))
                    for i in range(int(x0), min(math.ceil(x1), width)):
                        weight = row * (min(x1, i + 1.0) - max(x0, float(i)))
                        total += weight * source[(j * width + i) * channels + c]
                out[(y * new_width + x) * channels + c] = int(total * scale / (step_x * step_y) + 0.5)


def _build_pyramid(image: NDArray[np.uint8]) -> list[NDArray[np.uint16]]:
    """Levels 1, 2, ... of an image (h, w, c), flat, down to one texel."""
    height, width, channels = image.shape
    levels: list[NDArray[np.uint16]] = []
    source: NDArray = np.ascontiguousarray(image).reshape(-1)
    scale = 257.0
    while max(width, height) > 1 and len(levels) < _MAX_LEVELS - 1:
        new_width, new_height = max(1, width // 2), max(1, height // 2)
        out = np.empty(new_width * new_height * channels, np.uint16)
        _halve(source, scale, width, height, channels, out, new_width, new_height)
        levels.append(out)
        source, scale, width, height = out, 1.0, new_width, new_height
    return levels


def pack_textures(textures: Sequence[Texture]) -> TexturePack:
    """Build the pyramids of all distinct images and lay them out for the kernels."""
    base: list[NDArray[np.uint8]] = []
    mips: list[NDArray[np.uint16]] = []
    base_size = mips_size = 0
    row_of_image: dict[int, tuple[list[int], int]] = {}
    n = max(len(textures), 1)
    size, start = np.ones((n, 3), np.int64), np.zeros((n, _MAX_LEVELS), np.int64)
    num_levels, wrap = np.ones(n, np.int64), np.zeros((n, 2), np.int64)
    nearest = np.zeros(n, np.bool_)
    for t, texture in enumerate(textures):
        image = texture.image
        if id(image) not in row_of_image:
            starts = [base_size]
            base.append(np.ascontiguousarray(image).reshape(-1))
            base_size += image.size
            for level in _build_pyramid(image):
                starts.append(mips_size)
                mips.append(level)
                mips_size += level.size
            row_of_image[id(image)] = (starts, len(starts))
        starts, count = row_of_image[id(image)]
        size[t] = image.shape[1], image.shape[0], image.shape[2]
        start[t, :count] = starts
        num_levels[t] = count
        wrap[t] = _WRAP_CODE[texture.wrap[0]], _WRAP_CODE[texture.wrap[1]]
        nearest[t] = texture.nearest
    return TexturePack(
        base=np.concatenate(base) if base else np.zeros(1, np.uint8),
        mips=np.concatenate(mips) if mips else np.zeros(1, np.uint16),
        size=size,
        start=start,
        num_levels=num_levels,
        wrap=wrap,
        nearest=nearest,
    )


@inner_kernel
def _wrap(i: int, n: int, mode: int) -> int:
    if 0 <= i < n:
        return i  # spares the division, which costs more than everything else here
    if mode == 2:
        return min(max(i, 0), n - 1)
    if mode == 0:
        return i % n
    i = i % (2 * n)
    return i if i < n else 2 * n - 1 - i


@inner_kernel
def _blend(texels: NDArray, k: tuple[int, int, int, int], w: Rgba, channels: int, scale: float) -> Rgba:
    """Weighted sum of four texels that start at ``k``; grey images spread over r, g, b."""
    k00, k10, k01, k11 = k
    w00, w10, w01, w11 = w[0] * scale, w[1] * scale, w[2] * scale, w[3] * scale
    red = w00 * texels[k00] + w10 * texels[k10] + w01 * texels[k01] + w11 * texels[k11]
    green, blue, alpha = red, red, 1.0
    if channels >= 3:
        green = w00 * texels[k00 + 1] + w10 * texels[k10 + 1] + w01 * texels[k01 + 1] + w11 * texels[k11 + 1]
        blue = w00 * texels[k00 + 2] + w10 * texels[k10 + 2] + w01 * texels[k01 + 2] + w11 * texels[k11 + 2]
    if channels == 4 or channels == 2:
        c = channels - 1
        alpha = w00 * texels[k00 + c] + w10 * texels[k10 + c] + w01 * texels[k01 + c] + w11 * texels[k11 + c]
    return red, green, blue, alpha


@inner_kernel
def _fetch(pack: TexturePack, t: int, level: int, k: tuple[int, int, int, int], w: Rgba) -> Rgba:
    if level == 0:
        return _blend(pack.base, k, w, pack.size[t, 2], 1.0 / 255.0)
    return _blend(pack.mips, k, w, pack.size[t, 2], 1.0 / 65535.0)


@inner_kernel
def _nearest(pack: TexturePack, t: int, u: float, v: float) -> Rgba:
    width, height = pack.size[t, 0], pack.size[t, 1]
    x = _wrap(math.floor(u * width), width, pack.wrap[t, 0])
    y = _wrap(math.floor(v * height), height, pack.wrap[t, 1])
    k = pack.start[t, 0] + (y * width + x) * pack.size[t, 2]
    return _fetch(pack, t, 0, (k, k, k, k), (1.0, 0.0, 0.0, 0.0))


@inner_kernel
def _bilinear(pack: TexturePack, t: int, level: int, u: float, v: float) -> Rgba:
    width, height = max(pack.size[t, 0] >> level, 1), max(pack.size[t, 1] >> level, 1)
    x, y = u * width - 0.5, v * height - 0.5
    x0, y0 = math.floor(x), math.floor(y)
    fx, fy = x - x0, y - y0
    i0, i1 = _wrap(x0, width, pack.wrap[t, 0]), _wrap(x0 + 1, width, pack.wrap[t, 0])
    j0, j1 = _wrap(y0, height, pack.wrap[t, 1]) * width, _wrap(y0 + 1, height, pack.wrap[t, 1]) * width
    start, channels = pack.start[t, level], pack.size[t, 2]
    k = (
        start + (j0 + i0) * channels,
        start + (j0 + i1) * channels,
        start + (j1 + i0) * channels,
        start + (j1 + i1) * channels,
    )
    return _fetch(pack, t, level, k, ((1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy))


@inner_kernel
def sample_texture(pack: TexturePack, t: int, u: float, v: float, level: float) -> Rgba:
    """Texture ``t`` of the pack at (u, v), mip ``level`` (float, clamped) -> (r, g, b, a) in [0, 1]."""
    if not (math.fabs(u) < 1e9 and math.fabs(v) < 1e9):
        u, v = 0.0, 0.0  # a UV that no texel index can hold carries no position
    if pack.nearest[t]:
        return _nearest(pack, t, u, v)
    top = pack.num_levels[t] - 1
    level = min(max(level, 0.0), float(top))
    low = int(level)
    f = level - low
    r0, g0, b0, a0 = _bilinear(pack, t, low, u, v)
    if f < 1e-6:
        return r0, g0, b0, a0
    r1, g1, b1, a1 = _bilinear(pack, t, low + 1, u, v)
    return r0 + f * (r1 - r0), g0 + f * (g1 - g0), b0 + f * (b1 - b0), a0 + f * (a1 - a0)


@inner_kernel
def sample_material(
    pack: TexturePack,
    table: MaterialTable,
    surface: SurfaceArrays,
    face: int,
    w0: float,
    w1: float,
    w2: float,
    log2_footprint: float,
) -> tuple[float, float, float, float, float, float]:
    """The six channels at barycentric (w0, w1, w2) of a face; footprint in units of the surface's length.

    -> red, green, blue (sRGB-encoded), metallic, roughness, alpha, each in [0, 1].
    """
    i, j, k = surface.faces[face, 0], surface.faces[face, 1], surface.faces[face, 2]
    m = surface.material[face]
    red, green, blue, alpha = table.srgb[m, 0], table.srgb[m, 1], table.srgb[m, 2], table.factors[m, 3]
    metallic, roughness = table.factors[m, 4], table.factors[m, 5]

    colored = surface.color.shape[0] > 1
    t = table.textures[m, 0]
    if t >= 0 or colored:
        tr, tg, tb, ta = 1.0, 1.0, 1.0, 1.0
        if t >= 0:
            u = w0 * surface.uv[0, i, 0] + w1 * surface.uv[0, j, 0] + w2 * surface.uv[0, k, 0]
            v = w0 * surface.uv[0, i, 1] + w1 * surface.uv[0, j, 1] + w2 * surface.uv[0, k, 1]
            tr, tg, tb, ta = sample_texture(pack, t, u, v, surface.lod[0, face] + log2_footprint)
        if colored:
            c = surface.color
            fr = table.factors[m, 0] * (w0 * c[i, 0] + w1 * c[j, 0] + w2 * c[k, 0])
            fg = table.factors[m, 1] * (w0 * c[i, 1] + w1 * c[j, 1] + w2 * c[k, 1])
            fb = table.factors[m, 2] * (w0 * c[i, 2] + w1 * c[j, 2] + w2 * c[k, 2])
            alpha *= w0 * c[i, 3] + w1 * c[j, 3] + w2 * c[k, 3]
        else:
            fr, fg, fb = table.factors[m, 0], table.factors[m, 1], table.factors[m, 2]
        alpha *= ta
        if colored or table.tinted[m]:
            red, green, blue = (
                encode_srgb(decode_srgb(tr) * fr),
                encode_srgb(decode_srgb(tg) * fg),
                encode_srgb(decode_srgb(tb) * fb),
            )
        else:
            red, green, blue = tr, tg, tb

    t = table.textures[m, 1]
    if t >= 0:
        u = w0 * surface.uv[1, i, 0] + w1 * surface.uv[1, j, 0] + w2 * surface.uv[1, k, 0]
        v = w0 * surface.uv[1, i, 1] + w1 * surface.uv[1, j, 1] + w2 * surface.uv[1, k, 1]
        _, tg, tb, _ = sample_texture(pack, t, u, v, surface.lod[1, face] + log2_footprint)
        metallic *= tb
        roughness *= tg
    if surface.metal_rough.shape[0] > 1:
        mr = surface.metal_rough
        metallic *= w0 * mr[i, 0] + w1 * mr[j, 0] + w2 * mr[k, 0]
        roughness *= w0 * mr[i, 1] + w1 * mr[j, 1] + w2 * mr[k, 1]

    if table.see_through[m]:
        transmission = table.factors[m, 6]
        t = table.textures[m, 2]
        if t >= 0:
            u = w0 * surface.uv[2, i, 0] + w1 * surface.uv[2, j, 0] + w2 * surface.uv[2, k, 0]
            v = w0 * surface.uv[2, i, 1] + w1 * surface.uv[2, j, 1] + w2 * surface.uv[2, k, 1]
            tr, _, _, _ = sample_texture(pack, t, u, v, surface.lod[2, face] + log2_footprint)
            transmission *= tr
        alpha = 1.0 - transmission
    elif table.alpha_mode[m] == 0:
        alpha = 1.0
    elif table.alpha_mode[m] == 1:
        alpha = 1.0 if alpha >= table.cutoff[m] else 0.0
    return (
        min(max(red, 0.0), 1.0),
        min(max(green, 0.0), 1.0),
        min(max(blue, 0.0), 1.0),
        min(max(metallic, 0.0), 1.0),
        min(max(roughness, 0.0), 1.0),
        min(max(alpha, 0.0), 1.0),
    )


@parallel_kernel
def _sample_many(
    pack: TexturePack,
    table: MaterialTable,
    surface: SurfaceArrays,
    face: NDArray[np.int64],
    barycentric: NDArray[np.float64],
    log2_footprint: float,
    out: NDArray[np.float32],
) -> None:
    for i in prange(len(face)):
        w0, w1, w2 = barycentric[i, 0], barycentric[i, 1], barycentric[i, 2]
        values = sample_material(pack, table, surface, face[i], w0, w1, w2, log2_footprint)
        for c in range(6):
            out[i, c] = values[c]


@parallel_kernel
def _log2_texels_per_length(
    faces: NDArray[np.int32],
    vertices: NDArray[np.float64],
    uv: NDArray[np.float32],
    size: float,
    lod: NDArray[np.float32],
) -> None:
    """log2 of sqrt(texel area / surface area) of each face; 0 texels or a sliver give level 0."""
    for f in prange(len(faces)):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        ab, ac = b - a, c - a
        n0 = ab[1] * ac[2] - ab[2] * ac[1]
        n1 = ab[2] * ac[0] - ab[0] * ac[2]
        n2 = ab[0] * ac[1] - ab[1] * ac[0]
        area = math.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
        p, q, r = uv[faces[f, 0]], uv[faces[f, 1]], uv[faces[f, 2]]
        uv_area = abs(
            (float(q[0]) - p[0]) * (float(r[1]) - p[1]) - (float(q[1]) - p[1]) * (float(r[0]) - p[0])
        )
        if area > 0 and uv_area > 0:
            lod[f] = 0.5 * (math.log2(uv_area * size) - math.log2(area))


def _material_table(materials: Sequence[Material]) -> tuple[MaterialTable, list[Texture]]:
    textures: list[Texture] = []
    n = len(materials)
    ids = np.full((n, 3), -1, np.int64)
    factors = np.empty((n, 7), np.float64)
    see_through = np.zeros(n, np.bool_)
    for m, material in enumerate(materials):
        slots = (
            material.base_color_texture,
            material.metallic_roughness_texture,
            material.transmission_texture if material.transmission_factor > 0 else None,
        )
        for s, texture in enumerate(slots):
            if texture is not None:
                ids[m, s] = len(textures)
                textures.append(texture)
        factors[m] = (
            *material.base_color_factor,
            material.metallic_factor,
            material.roughness_factor,
            material.transmission_factor,
        )
        texture = material.base_color_texture
        varies = texture is not None and texture.image.shape[2] in (2, 4)
        solid = material.alpha_mode == "OPAQUE" or (
            material.alpha_mode == "BLEND" and material.base_color_factor[3] >= 1 and not varies
        )
        see_through[m] = material.transmission_factor > 0 and solid
    return MaterialTable(
        textures=ids,
        factors=factors,
        srgb=np.clip(linear_to_srgb(factors[:, :3]), 0, 1),
        tinted=np.any(factors[:, :3] != 1, axis=1),
        alpha_mode=np.array([_ALPHA_CODE[m.alpha_mode] for m in materials], np.int64),
        cutoff=np.array([m.alpha_cutoff for m in materials], np.float64),
        see_through=see_through,
    ), textures


class MaterialSampler:
    """Material look-up on the surface of an asset.

    Faces are numbered through all meshes in order, vertices likewise; ``vertices`` float64 (n, 3) and
    ``surface.faces`` int32 (m, 3) are those concatenated arrays.

    Attributes
    ----------
    vertices : float64 (n, 3), glTF frame, of all meshes.
    pack, table, surface : the arrays that :func:`sample_material` takes.
    """

    def __init__(self, asset: Asset) -> None:
        materials = [*asset.materials, DEFAULT_MATERIAL]
        self.table, textures = _material_table(materials)
        self.pack = pack_textures(textures)
        meshes = [m for m in asset.meshes if len(m.faces)]
        first = np.cumsum([0] + [len(m.vertices) for m in meshes])
        n = int(first[-1])
        self.vertices = (
            np.concatenate([m.vertices for m in meshes]) if meshes else np.zeros((0, 3), np.float64)
        )
        faces = (
            np.concatenate([m.faces + np.int32(start) for m, start in zip(meshes, first, strict=False)])
            if meshes
            else np.zeros((0, 3), np.int32)
        ).astype(np.int32, copy=False)
        # A negative index picks the default material, which was put last.
        slots = [m.material % len(materials) for m in meshes]
        material = np.repeat(np.array(slots, np.int32), [len(m.faces) for m in meshes])

        uv = np.zeros((3, max(n, 1) if len(textures) else 1, 2), np.float32)
        lod = np.full((3, len(faces)), -100.0, np.float32)
        colored = any(m.colors is not None for m in meshes)
        color = np.ones((max(n, 2) if colored else 1, 4), np.float32)
        painted = any("METALLIC" in m.attributes or "ROUGHNESS" in m.attributes for m in meshes)
        metal_rough = np.ones((max(n, 2) if painted else 1, 2), np.float32)
        face_start = np.cumsum([0] + [len(m.faces) for m in meshes])
        for i, mesh in enumerate(meshes):
            rows = slice(first[i], first[i + 1])
            if mesh.colors is not None:
                color[rows] = mesh.colors
            for column, name in enumerate(("METALLIC", "ROUGHNESS")):
                if name in mesh.attributes:
                    metal_rough[rows, column] = mesh.attributes[name].reshape(-1)
            for s in range(3):
                t = self.table.textures[slots[i], s]
                if t < 0:
                    continue
                texture = textures[t]
                if texture.texcoord < len(mesh.uvs):
                    corner = mesh.uvs[texture.texcoord].astype(np.float64)
                    with np.errstate(invalid="ignore", over="ignore"):  # UVs may be anything; look-up copes
                        uv[s, rows] = corner @ texture.transform[:, :2].T + texture.transform[:, 2]
                texels = float(self.pack.size[t, 0] * self.pack.size[t, 1])
                _log2_texels_per_length(
                    mesh.faces, mesh.vertices, uv[s, rows], texels, lod[s, face_start[i] : face_start[i + 1]]
                )
        self.surface = SurfaceArrays(faces, material, uv, color, metal_rough, lod)

    def sample(
        self, face: NDArray[np.integer], barycentric: NDArray[np.floating], footprint: float = 0.0
    ) -> NDArray[np.float32]:
        """Material at points of the surface.

        Parameters
        ----------
        face : (n,) face numbers.
        barycentric : (n, 3) weights of the face's corners.
        footprint : side length, in the asset's units, over which texture detail is averaged (a voxel's
            edge, a pixel's size); 0 samples the full-resolution texture.

        Returns
        -------
        float32 (n, 6): red, green, blue (sRGB-encoded), metallic, roughness, alpha, each in [0, 1].
        """
        out = np.empty((len(face), 6), np.float32)
        log2_footprint = math.log2(footprint) if footprint > 0 else -1e9
        _sample_many(
            self.pack,
            self.table,
            self.surface,
            np.ascontiguousarray(face, np.int64),
            np.ascontiguousarray(barycentric, np.float64),
            log2_footprint,
            out,
        )
        return out
