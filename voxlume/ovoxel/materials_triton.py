"""Materials of voxels on CUDA, one thread per voxel and triangle; twins in
:mod:`voxlume.ovoxel.materials_torch` and :mod:`voxlume.texture_torch`.

All arithmetic is double precision, as in the twins: a texel's index far from the UV origin and the cut
of a large triangle with a voxel both need it. The sums run in a fixed order, so results repeat exactly.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.texture_torch import DeviceMaterials

_PAIRS = 128
_OUTLINES = 16


def voxel_materials(
    materials: DeviceMaterials,
    tri_m33: Tensor,
    slot_p: Tensor,
    triangle_p: Tensor,
    coords_n3: Tensor,
    log2_footprint: float,
) -> Tensor:
    """(n, 6) float32; see :func:`voxlume.ovoxel.materials_torch.voxel_materials`."""
    # Neighbours in the grid look up neighbouring texels, and the sums have one order.
    slot_p, order = torch.sort(slot_p, stable=True)
    triangle_p = triangle_p[order]
    values_p6 = sample_pairs(materials, tri_m33, slot_p, triangle_p, coords_n3, log2_footprint)
    area_p = pair_areas(tri_m33, slot_p, triangle_p, coords_n3)
    n = len(coords_n3)
    count_n = torch.bincount(slot_p, minlength=n)
    start_n = torch.cumsum(count_n, 0) - count_n
    out_n6 = torch.empty((n, 6), dtype=torch.float32, device=slot_p.device)
    _mean_kernel[(triton.cdiv(n, 256),)](values_p6, area_p, start_n, count_n, out_n6, n, ROWS=256)
    return out_n6


def sample_pairs(
    materials: DeviceMaterials,
    tri_m33: Tensor,
    slot_p: Tensor,
    triangle_p: Tensor,
    coords_n3: Tensor,
    log2_footprint: float,
) -> Tensor:
    """(p, 6) float64 material of each triangle at its point nearest to the voxel's centre."""
    m = materials
    flags = torch.stack([m.tinted, m.alpha_mode, m.see_through], 1)
    of_material = torch.cat([m.textures, flags, m.factors, m.cutoff[:, None]], 1)
    of_texture = torch.cat([m.size, m.num_levels[:, None], m.wrap, m.nearest[:, None], m.start], 1)
    values_p6 = torch.empty((len(slot_p), 6), dtype=torch.float64, device=slot_p.device)
    _sample_kernel[(triton.cdiv(len(slot_p), _PAIRS),)](
        tri_m33.contiguous(),
        coords_n3.contiguous(),
        slot_p,
        triangle_p,
        m.faces,
        m.material,
        of_material,
        of_texture,
        m.base,
        m.mips,
        m.uv,
        m.color,
        m.metal_rough,
        m.lod.double() + log2_footprint,
        values_p6,
        len(slot_p),
        len(m.material),
        m.uv.shape[1],
        LEVELS=m.start.shape[1],
        COLORED=len(m.color) > 1,
        PAINTED=len(m.metal_rough) > 1,
        PAIRS=_PAIRS,
    )
    return values_p6


def pair_areas(tri_m33: Tensor, slot_p: Tensor, triangle_p: Tensor, coords_n3: Tensor) -> Tensor:
    """(p,) float64 area of each triangle inside its voxel."""
    area_p = torch.empty(len(slot_p), dtype=torch.float64, device=slot_p.device)
    _area_kernel[(triton.cdiv(len(slot_p), _OUTLINES),)](
        tri_m33.contiguous(), coords_n3.contiguous(), slot_p, triangle_p, area_p, len(slot_p), ROWS=_OUTLINES
    )
    return area_p


@triton.jit(do_not_specialize=["n", "num_faces", "num_uv"])
def _sample_kernel(
    corners,
    coords,
    slots,
    triangles,
    faces,
    material,
    of_material,
    of_texture,
    base,
    mips,
    uv,
    color,
    metal_rough,
    lod,
    values,
    n,
    num_faces,
    num_uv,
    LEVELS: tl.constexpr,
    COLORED: tl.constexpr,
    PAINTED: tl.constexpr,
    PAIRS: tl.constexpr,
):
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    here = pair < n
    face = tl.load(triangles + pair, mask=here, other=0)
    w0, w1, w2 = _closest_weights(corners + face * 9, coords + tl.load(slots + pair, mask=here, other=0) * 3)
    i = tl.load(faces + face * 3).to(tl.int64)
    j = tl.load(faces + face * 3 + 1).to(tl.int64)
    k = tl.load(faces + face * 3 + 2).to(tl.int64)
    # Columns: three textures, tinted, alpha mode, see-through, seven factors, cut-off.
    row = of_material + tl.load(material + face).to(tl.int64) * 14

    one = tl.full((PAIRS,), 1.0, tl.float64)
    red, green, blue, alpha, rough, metal, through = one, one, one, one, one, one, one
    # Loops that stay loops, here and over the levels: six copies of the look-up take long to compile.
    for s in range(3):
        t = tl.load(row + s).to(tl.int64)
        textured = here & (t >= 0)
        u = _corner_mean(uv + s * num_uv * 2, i, j, k, w0, w1, w2, textured, 0, 2)
        v = _corner_mean(uv + s * num_uv * 2, i, j, k, w0, w1, w2, textured, 1, 2)
        level = tl.load(lod + s * num_faces + face)
        r, g, b, a = _texture(of_texture, base, mips, t, u, v, level, textured, LEVELS)
        red, green = tl.where(s == 0, r, red), tl.where(s == 0, g, green)
        blue, alpha = tl.where(s == 0, b, blue), tl.where(s == 0, a, alpha)
        rough, metal = tl.where(s == 1, g, rough), tl.where(s == 1, b, metal)
        through = tl.where(s == 2, r, through)
    tint_r, tint_g, tint_b = tl.load(row + 6), tl.load(row + 7), tl.load(row + 8)
    alpha *= tl.load(row + 9)
    tinted = tl.load(row + 3) != 0
    if COLORED:
        tint_r *= _corner_mean(color, i, j, k, w0, w1, w2, here, 0, 4)
        tint_g *= _corner_mean(color, i, j, k, w0, w1, w2, here, 1, 4)
        tint_b *= _corner_mean(color, i, j, k, w0, w1, w2, here, 2, 4)
        alpha *= _corner_mean(color, i, j, k, w0, w1, w2, here, 3, 4)
        tinted = here
    red = tl.where(tinted, _encode(_decode(red) * tint_r), red)
    green = tl.where(tinted, _encode(_decode(green) * tint_g), green)
    blue = tl.where(tinted, _encode(_decode(blue) * tint_b), blue)

    metallic, roughness = tl.load(row + 10) * metal, tl.load(row + 11) * rough
    if PAINTED:
        metallic *= _corner_mean(metal_rough, i, j, k, w0, w1, w2, here, 0, 2)
        roughness *= _corner_mean(metal_rough, i, j, k, w0, w1, w2, here, 1, 2)

    mode = tl.load(row + 4)
    masked = tl.where(alpha >= tl.load(row + 13), 1.0, 0.0)
    alpha = tl.where(mode == 0, 1.0, tl.where(mode == 1, masked, alpha))
    alpha = tl.where(tl.load(row + 5) != 0, 1.0 - tl.load(row + 12) * through, alpha)

    out = values + pair * 6
    tl.store(out, _unit(red), mask=here)
    tl.store(out + 1, _unit(green), mask=here)
    tl.store(out + 2, _unit(blue), mask=here)
    tl.store(out + 3, _unit(metallic), mask=here)
    tl.store(out + 4, _unit(roughness), mask=here)
    tl.store(out + 5, _unit(alpha), mask=here)


@triton.jit
def _unit(x):
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _corner_mean(table, i, j, k, w0, w1, w2, here, COLUMN: tl.constexpr, WIDTH: tl.constexpr):
    a = tl.load(table + i * WIDTH + COLUMN, mask=here, other=0.0).to(tl.float64)
    b = tl.load(table + j * WIDTH + COLUMN, mask=here, other=0.0).to(tl.float64)
    c = tl.load(table + k * WIDTH + COLUMN, mask=here, other=0.0).to(tl.float64)
    return w0 * a + w1 * b + w2 * c


@triton.jit
def _closest_weights(corner, cell):
    """Barycentric weights of the triangle's point nearest to the voxel's centre (Ericson 2004, 5.1.5)."""
    aa, bb, cc, d1, d2 = 0.0, 0.0, 0.0, 0.0, 0.0
    for c in tl.static_range(3):
        at = tl.load(cell + c).to(tl.float64)
        a = tl.load(corner + c) - at
        ab, ac = tl.load(corner + 3 + c) - at - a, tl.load(corner + 6 + c) - at - a
        ap = 0.5 - a
        aa, bb, cc = aa + ab * ab, bb + ab * ac, cc + ac * ac
        d1, d2 = d1 + ab * ap, d2 + ac * ap
    d3, d4, d5, d6 = d1 - aa, d2 - bb, d1 - bb, d2 - cc
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    total = va + vb + vc
    flat = (total > 0) == 0
    scale = 1 / tl.where(flat, 3.0, total)
    w1, w2 = tl.where(flat, 1.0, vb) * scale, tl.where(flat, 1.0, vc) * scale
    w0 = tl.where(flat, 1.0, va) * scale

    # From the weakest rule to the strongest: the first matching region of the scalar code wins.
    e, f = d4 - d3, d5 - d6
    rule = (va <= 0) & (e >= 0) & (f >= 0)
    t = e / tl.where(rule, e + f, 1.0)
    w0, w1, w2 = tl.where(rule, 0.0, w0), tl.where(rule, 1 - t, w1), tl.where(rule, t, w2)
    rule = (vb <= 0) & (d2 >= 0) & (d6 <= 0)
    t = d2 / tl.where(rule, d2 - d6, 1.0)
    w0, w1, w2 = tl.where(rule, 1 - t, w0), tl.where(rule, 0.0, w1), tl.where(rule, t, w2)
    rule = (vc <= 0) & (d1 >= 0) & (d3 <= 0)
    t = d1 / tl.where(rule, d1 - d3, 1.0)
    w0, w1, w2 = tl.where(rule, 1 - t, w0), tl.where(rule, t, w1), tl.where(rule, 0.0, w2)
    rule = (d6 >= 0) & (d5 <= d6)
    w0, w1, w2 = tl.where(rule, 0.0, w0), tl.where(rule, 0.0, w1), tl.where(rule, 1.0, w2)
    rule = (d3 >= 0) & (d4 <= d3)
    w0, w1, w2 = tl.where(rule, 0.0, w0), tl.where(rule, 1.0, w1), tl.where(rule, 0.0, w2)
    rule = (d1 <= 0) & (d2 <= 0)
    return tl.where(rule, 1.0, w0), tl.where(rule, 0.0, w1), tl.where(rule, 0.0, w2)


@triton.jit
def _decode(x):
    curve = tl.exp(2.4 * tl.log((tl.maximum(x, 0.0) + 0.055) / 1.055))
    return tl.where(x <= 0.04045, x / 12.92, curve)


@triton.jit
def _encode(x):
    curve = 1.055 * tl.exp(tl.log(tl.maximum(x, 1e-12)) / 2.4) - 0.055
    return tl.where(x <= 0.0031308, x * 12.92, curve)


@triton.jit
def _texture(of_texture, base, mips, t, u, v, level, here, LEVELS: tl.constexpr):
    """Four channels of texture ``t`` at (u, v) and mip level; ones where not ``here``."""
    # Columns: width, height, channels, number of levels, wrap along u and v, nearest, starts of levels.
    row = of_texture + tl.where(here, t, 0) * (7 + LEVELS)
    top = tl.load(row + 3) - 1
    nearest = tl.load(row + 6) != 0
    sane = (tl.abs(u) < 1e9) & (tl.abs(v) < 1e9)
    u, v = tl.where(sane, u, 0.0), tl.where(sane, v, 0.0)
    level = tl.where(nearest, 0.0, tl.minimum(tl.maximum(level, 0.0), top.to(tl.float64)))
    low = level.to(tl.int64)
    f = level - low.to(tl.float64)
    f = tl.where(f < 1e-6, 0.0, f)
    r, g, b, a = 0 * f, 0 * f, 0 * f, 0 * f
    for step in range(2):
        share = tl.where(step == 0, 1 - f, f)
        at = tl.minimum(low + step, top)
        r1, g1, b1, a1 = _bilinear(row, base, mips, at, u, v, nearest, here & (share > 0))
        r, g, b, a = r + share * r1, g + share * g1, b + share * b1, a + share * a1
    return tl.where(here, r, 1.0), tl.where(here, g, 1.0), tl.where(here, b, 1.0), tl.where(here, a, 1.0)


@triton.jit
def _bilinear(row, base, mips, level, u, v, nearest, here):
    """The four texels around (u, v) mixed; only the one that holds it where ``nearest``."""
    width = tl.maximum(tl.load(row) >> level, 1).to(tl.float64)
    height = tl.maximum(tl.load(row + 1) >> level, 1).to(tl.float64)
    channels = tl.load(row + 2)
    wrap_u, wrap_v = tl.load(row + 4), tl.load(row + 5)
    start = tl.load(row + 7 + level)
    x = u * width - tl.where(nearest, 0.0, 0.5)
    y = v * height - tl.where(nearest, 0.0, 0.5)
    x0, y0 = tl.floor(x), tl.floor(y)
    fx, fy = tl.where(nearest, 0.0, x - x0), tl.where(nearest, 0.0, y - y0)
    i0, i1 = _wrap(x0, width, wrap_u), _wrap(x0 + 1, width, wrap_u)
    j0, j1 = _wrap(y0, height, wrap_v) * width, _wrap(y0 + 1, height, wrap_v) * width
    k00, k10 = start + (j0 + i0).to(tl.int64) * channels, start + (j0 + i1).to(tl.int64) * channels
    k01, k11 = start + (j1 + i0).to(tl.int64) * channels, start + (j1 + i1).to(tl.int64) * channels
    w00, w10, w01, w11 = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    ground = level == 0
    # Grey images repeat their only colour; a missing alpha is 1.
    colour = tl.where(channels >= 3, 1, 0)
    r = _blend(base, mips, k00, k10, k01, k11, w00, w10, w01, w11, 0 * colour, ground, here)
    g = _blend(base, mips, k00, k10, k01, k11, w00, w10, w01, w11, colour, ground, here)
    b = _blend(base, mips, k00, k10, k01, k11, w00, w10, w01, w11, 2 * colour, ground, here)
    clear = channels % 2 == 0
    a = _blend(base, mips, k00, k10, k01, k11, w00, w10, w01, w11, channels - 1, ground, here & clear)
    return r, g, b, tl.where(clear, a, 1.0)


@triton.jit
def _blend(base, mips, k00, k10, k01, k11, w00, w10, w01, w11, element, ground, here):
    mixed = w00 * _texel(base, mips, k00 + element, ground, here)
    mixed += w10 * _texel(base, mips, k10 + element, ground, here)
    mixed += w01 * _texel(base, mips, k01 + element, ground, here)
    return mixed + w11 * _texel(base, mips, k11 + element, ground, here)


@triton.jit
def _texel(base, mips, k, ground, here):
    # Level 0 is stored in 8 bits, the others in 16.
    fine = tl.load(base + k, mask=here & ground, other=0).to(tl.float64)
    coarse = tl.load(mips + k, mask=here & (ground == 0), other=0).to(tl.float64)
    return fine * (1.0 / 255.0) + coarse * (1.0 / 65535.0)


@triton.jit
def _wrap(i, size, mode):
    """The texel inside the image for texel ``i`` (whole numbers in floating point, exact below 2^53)."""
    twice = i - tl.floor(i / (2 * size)) * (2 * size)
    repeated = tl.where(twice < size, twice, twice - size)
    mirrored = tl.where(twice < size, twice, 2 * size - 1 - twice)
    clamped = tl.minimum(tl.maximum(i, 0.0), size - 1)
    return tl.where(mode == 0, repeated, tl.where(mode == 1, mirrored, clamped))


@triton.jit(do_not_specialize=["n"])
def _area_kernel(corners, coords, slots, triangles, areas, n, ROWS: tl.constexpr):
    """Clip outlines (Sutherland and Hodgman) that are kept as loose segments, one in each of 16 columns:
    three edges of the triangle, then one along each of the box's six faces.

    The sum of cross products that makes the area needs no order of segments, so nothing has to move. A
    segment that is gone lies as a point in the middle, where it adds nothing.
    """
    pair = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    here = pair < n
    corner = corners + tl.load(triangles + pair, mask=here, other=0)[:, None] * 9
    cell = coords + tl.load(slots + pair, mask=here, other=0)[:, None] * 3
    column = tl.arange(0, 16)[None, :]
    edge = here[:, None] & (column < 3)
    a = corner + tl.where(column < 3, column, 0) * 3
    b = corner + tl.where(column < 2, column + 1, 0) * 3
    x, y, z = tl.load(cell), tl.load(cell + 1), tl.load(cell + 2)
    ax, bx = tl.where(edge, tl.load(a) - x, 0.5), tl.where(edge, tl.load(b) - x, 0.5)
    ay, by = tl.where(edge, tl.load(a + 1) - y, 0.5), tl.where(edge, tl.load(b + 1) - y, 0.5)
    az, bz = tl.where(edge, tl.load(a + 2) - z, 0.5), tl.where(edge, tl.load(b + 2) - z, 0.5)

    ax, ay, az, bx, by, bz = _clip(ax, ay, az, bx, by, bz, ax, bx, column == 3)
    ax, ay, az, bx, by, bz = _clip(ax, ay, az, bx, by, bz, 1 - ax, 1 - bx, column == 4)
    ax, ay, az, bx, by, bz = _clip(ax, ay, az, bx, by, bz, ay, by, column == 5)
    ax, ay, az, bx, by, bz = _clip(ax, ay, az, bx, by, bz, 1 - ay, 1 - by, column == 6)
    ax, ay, az, bx, by, bz = _clip(ax, ay, az, bx, by, bz, az, bz, column == 7)
    ax, ay, az, bx, by, bz = _clip(ax, ay, az, bx, by, bz, 1 - az, 1 - bz, column == 8)

    ax, ay, az, bx, by, bz = ax - 0.5, ay - 0.5, az - 0.5, bx - 0.5, by - 0.5, bz - 0.5
    n0 = tl.sum(ay * bz - az * by, axis=1)
    n1 = tl.sum(az * bx - ax * bz, axis=1)
    n2 = tl.sum(ax * by - ay * bx, axis=1)
    tl.store(areas + pair, 0.5 * tl.sqrt(n0 * n0 + n1 * n1 + n2 * n2), mask=here)


@triton.jit
def _clip(ax, ay, az, bx, by, bz, d_a, d_b, closing):
    """Keep what is at positive distance; segment ``closing`` joins where the outline leaves and returns."""
    keep_a, keep_b = d_a >= 0, d_b >= 0
    leaves, returns = keep_a & (keep_b == 0), keep_b & (keep_a == 0)
    t = d_a / tl.where(leaves | returns, d_a - d_b, 1.0)
    x, y, z = ax + t * (bx - ax), ay + t * (by - ay), az + t * (bz - az)
    open_ = closing & (tl.sum(leaves.to(tl.int32), axis=1)[:, None] > 0)
    return (
        tl.where(open_, _only(x, leaves), tl.where(keep_a, ax, tl.where(returns, x, 0.5))),
        tl.where(open_, _only(y, leaves), tl.where(keep_a, ay, tl.where(returns, y, 0.5))),
        tl.where(open_, _only(z, leaves), tl.where(keep_a, az, tl.where(returns, z, 0.5))),
        tl.where(open_, _only(x, returns), tl.where(keep_b, bx, tl.where(leaves, x, 0.5))),
        tl.where(open_, _only(y, returns), tl.where(keep_b, by, tl.where(leaves, y, 0.5))),
        tl.where(open_, _only(z, returns), tl.where(keep_b, bz, tl.where(leaves, z, 0.5))),
    )


@triton.jit
def _only(x, where):
    """The value at the one column that is marked: a convex outline crosses a plane once each way."""
    return tl.sum(tl.where(where, x, 0.0), axis=1)[:, None]


@triton.jit(do_not_specialize=["n"])
def _mean_kernel(values, areas, starts, counts, out, n, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    here = row < n
    count = tl.load(counts + row, mask=here, other=0)
    pair = tl.load(starts + row, mask=here, other=0)
    channel = tl.arange(0, 8)[None, :]
    # A little more than the area, so that triangles that only touch the voxel have a say in it too.
    total = tl.zeros((ROWS,), tl.float64)
    sums = tl.zeros((ROWS, 8), tl.float64)
    step = 0
    while step < tl.max(count, axis=0):
        more = step < count
        weight = tl.load(areas + pair + step, mask=more, other=0.0) + tl.where(more, 1e-9, 0.0)
        at = values + (pair + step)[:, None] * 6 + channel
        sums += weight[:, None] * tl.load(at, mask=more[:, None] & (channel < 6), other=0.0)
        total += weight
        step += 1
    mean = sums / tl.where(here, total, 1.0)[:, None]
    tl.store(out + row[:, None] * 6 + channel, mean.to(tl.float32), mask=here[:, None] & (channel < 6))
