"""Colour of surface points: metallic-roughness shading under an environment and a key light.

Linear light throughout. Every surface is drawn from both sides: its normal turns to the camera.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel
from voxlume.mesh.normals import CREASE_ANGLE, corner_normal
from voxlume.render.brdf import image_based_weights, look_up_reflectance
from voxlume.render.environment import look_up_irradiance, look_up_radiance
from voxlume.render.scene import ShadingArrays
from voxlume.texture import (
    MaterialTable,
    SurfaceArrays,
    TexturePack,
    decode_srgb,
    sample_material,
    sample_texture,
)


class LightArrays(NamedTuple):
    """An environment as the kernels take it.

    The first five are those of :class:`voxlume.render.environment.Environment`; ``turn`` float64 (2,) is
    the cosine and sine of the angle by which it is turned about the y axis; ``reflectance`` is
    :func:`voxlume.render.brdf.reflectance_table`.
    """

    levels: NDArray[np.float32]
    level_size: NDArray[np.int64]
    irradiance: NDArray[np.float32]
    key_direction: NDArray[np.float64]
    key_radiance: NDArray[np.float32]
    turn: NDArray[np.float64]
    reflectance: NDArray[np.float32]


CHANNELS = 16
"""Columns of a shaded point, see :func:`shade_points`."""

_COS_CREASE = math.cos(CREASE_ANGLE)


@inner_kernel
def _unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    length = math.sqrt(x * x + y * y + z * z)
    if length > 0:
        return x / length, y / length, z / length
    return 0.0, 0.0, 0.0


@inner_kernel
def _smooth_normal(
    shading: ShadingArrays, faces: NDArray[np.int32], f: int, w0: float, w1: float, w2: float
) -> tuple[float, float, float]:
    """Interpolated vertex normals of the file, or crease-aware ones where it has none."""
    x, y, z = 0.0, 0.0, 0.0
    for k in range(3):
        v = faces[f, k]
        w = w0 if k == 0 else (w1 if k == 1 else w2)
        nx = float(shading.vertex_normal[v, 0])
        ny = float(shading.vertex_normal[v, 1])
        nz = float(shading.vertex_normal[v, 2])
        if nx == 0.0 and ny == 0.0 and nz == 0.0 and len(shading.start) > 0:
            nx, ny, nz = corner_normal(
                f,
                v,
                shading.face_normal,
                shading.same,
                shading.start,
                shading.corners,
                shading.angle,
                _COS_CREASE,
            )
            nx, ny, nz = _unit(nx, ny, nz)
        x, y, z = x + w * nx, y + w * ny, z + w * nz
    return _unit(x, y, z)


@inner_kernel
def _bumped(
    shading: ShadingArrays,
    detail_pack: TexturePack,
    surface: SurfaceArrays,
    vertices: NDArray[np.float64],
    f: int,
    w0: float,
    w1: float,
    w2: float,
    log2_footprint: float,
    nx: float,
    ny: float,
    nz: float,
) -> tuple[float, float, float]:
    """The normal turned by the material's normal texture; tangents come from the face's own UV."""
    m = surface.material[f]
    t = shading.detail[m, 0]
    i, j, k = surface.faces[f, 0], surface.faces[f, 1], surface.faces[f, 2]
    uv = shading.uv
    du1, dv1 = float(uv[0, j, 0]) - uv[0, i, 0], float(uv[0, j, 1]) - uv[0, i, 1]
    du2, dv2 = float(uv[0, k, 0]) - uv[0, i, 0], float(uv[0, k, 1]) - uv[0, i, 1]
    det = du1 * dv2 - du2 * dv1
    if det == 0.0:
        return nx, ny, nz
    e1x, e1y, e1z = (
        vertices[j, 0] - vertices[i, 0],
        vertices[j, 1] - vertices[i, 1],
        vertices[j, 2] - vertices[i, 2],
    )
    e2x, e2y, e2z = (
        vertices[k, 0] - vertices[i, 0],
        vertices[k, 1] - vertices[i, 1],
        vertices[k, 2] - vertices[i, 2],
    )
    s = 1.0 if det > 0 else -1.0
    tx, ty, tz = s * (dv2 * e1x - dv1 * e2x), s * (dv2 * e1y - dv1 * e2y), s * (dv2 * e1z - dv1 * e2z)
    # Gram-Schmidt against the smooth normal; v grows downwards in glTF, its normal maps are y-up.
    along = tx * nx + ty * ny + tz * nz
    tx, ty, tz = _unit(tx - along * nx, ty - along * ny, tz - along * nz)
    hand = -s
    fx, fy, fz = shading.face_normal[f, 0], shading.face_normal[f, 1], shading.face_normal[f, 2]
    if fx * nx + fy * ny + fz * nz < 0:
        hand = -hand  # a mirrored instance: normals agree with the file, winding does not
    bx, by, bz = hand * (ny * tz - nz * ty), hand * (nz * tx - nx * tz), hand * (nx * ty - ny * tx)
    ax, ay, az = e1y * e2z - e1z * e2y, e1z * e2x - e1x * e2z, e1x * e2y - e1y * e2x
    area = math.sqrt(ax * ax + ay * ay + az * az)
    texels = abs(det) * detail_pack.size[t, 0] * detail_pack.size[t, 1]
    level = 0.5 * math.log2(texels / area) + log2_footprint if area > 0 and texels > 0 else 0.0
    u = w0 * uv[0, i, 0] + w1 * uv[0, j, 0] + w2 * uv[0, k, 0]
    v = w0 * uv[0, i, 1] + w1 * uv[0, j, 1] + w2 * uv[0, k, 1]
    r, g, b, _ = sample_texture(detail_pack, t, u, v, level)
    p, q, o = (
        (2 * r - 1) * shading.normal_scale[m],
        (2 * g - 1) * shading.normal_scale[m],
        max(2 * b - 1, 0.05),
    )
    return _unit(p * tx + q * bx + o * nx, p * ty + q * by + o * ny, p * tz + q * bz + o * nz)


@parallel_kernel
def shade_points(
    pack: TexturePack,
    table: MaterialTable,
    surface: SurfaceArrays,
    shading: ShadingArrays,
    detail_pack: TexturePack,
    vertices: NDArray[np.float64],
    face: NDArray[np.int32],
    barycentric: NDArray[np.float32],
    eye: NDArray[np.float64],
    forward: NDArray[np.float64],
    pixel: float,
    shadow: NDArray[np.float32],
    occlusion: NDArray[np.float32],
    light: LightArrays,
    out: NDArray[np.float32],
) -> None:
    """Shade n points of the surface that a camera at ``eye`` sees.

    Parameters
    ----------
    face (n,), barycentric (n, 3) : the points.
    forward : (3,) the camera's viewing axis.
    pixel : side of a pixel at distance 1 along that axis, for texture filtering.
    shadow, occlusion : (n,) share of the key light and of the environment that arrives, or empty.
    out : (n, 16) receives: 0-2 linear light sent to the camera, premultiplied by coverage; 3-5 share of
        the light from behind that passes; 6-8 base colour (sRGB-encoded); 9 metallic; 10 roughness;
        11 alpha; 12-14 shading normal; 15 distance from the eye.
    """
    cos_turn, sin_turn = light.turn[0], light.turn[1]
    for n in prange(len(face)):
        f = face[n]
        w0, w1, w2 = float(barycentric[n, 0]), float(barycentric[n, 1]), float(barycentric[n, 2])
        i, j, k = surface.faces[f, 0], surface.faces[f, 1], surface.faces[f, 2]
        vx = eye[0] - (w0 * vertices[i, 0] + w1 * vertices[j, 0] + w2 * vertices[k, 0])
        vy = eye[1] - (w0 * vertices[i, 1] + w1 * vertices[j, 1] + w2 * vertices[k, 1])
        vz = eye[2] - (w0 * vertices[i, 2] + w1 * vertices[j, 2] + w2 * vertices[k, 2])
        distance = math.sqrt(vx * vx + vy * vy + vz * vz)
        vx, vy, vz = vx / distance, vy / distance, vz / distance

        gx = float(shading.face_normal[f, 0])
        gy = float(shading.face_normal[f, 1])
        gz = float(shading.face_normal[f, 2])
        facing = gx * vx + gy * vy + gz * vz
        axial = -(vx * forward[0] + vy * forward[1] + vz * forward[2])
        # Side of the square on the surface that has the pixel's area.
        log2_footprint = math.log2(pixel * distance) + 0.5 * math.log2(axial**3 / max(abs(facing), 0.1))
        red, green, blue, metallic, roughness, alpha = sample_material(
            pack, table, surface, f, w0, w1, w2, log2_footprint
        )
        m = surface.material[f]
        if alpha == 0.0 and not table.see_through[m]:
            out[n, 0], out[n, 1], out[n, 2], out[n, 11] = 0.0, 0.0, 0.0, 0.0
            out[n, 3], out[n, 4], out[n, 5] = 1.0, 1.0, 1.0
            continue
        nx, ny, nz = _smooth_normal(shading, surface.faces, f, w0, w1, w2)
        if shading.detail[m, 0] >= 0:
            nx, ny, nz = _bumped(
                shading, detail_pack, surface, vertices, f, w0, w1, w2, log2_footprint, nx, ny, nz
            )
        # The side that the camera sees is the outside.
        if facing < 0:
            gx, gy, gz = -gx, -gy, -gz
        if nx * gx + ny * gy + nz * gz < 0:
            nx, ny, nz = -nx, -ny, -nz
        nv = nx * vx + ny * vy + nz * vz
        if nv < 0.02:  # an interpolated normal that looks away: bend it back to the horizon
            nx, ny, nz = _unit(nx + (0.02 - nv) * vx, ny + (0.02 - nv) * vy, nz + (0.02 - nv) * vz)
            nv = max(nx * vx + ny * vy + nz * vz, 0.02)
        rx, ry, rz = 2 * nv * nx - vx, 2 * nv * ny - vy, 2 * nv * nz - vz

        # Into the light's own frame, which may be turned about y.
        ex, ez = cos_turn * nx - sin_turn * nz, sin_turn * nx + cos_turn * nz
        sx, sz = cos_turn * rx - sin_turn * rz, sin_turn * rx + cos_turn * rz
        ambient = occlusion[n] if len(occlusion) else 1.0
        lit = shadow[n] if len(shadow) else 1.0
        lambert = (
            max(ex * light.key_direction[0] + ny * light.key_direction[1] + ez * light.key_direction[2], 0.0)
            * lit
        )
        single = look_up_radiance(light.levels, light.level_size, sx, ry, sz, roughness)
        # A crevice hides less of what a glancing or polished surface mirrors (Lagarde, 2014).
        mirrored = min(max((nv + ambient) ** (2.0 ** (-16.0 * roughness - 1.0)) - 1.0 + ambient, 0.0), 1.0)
        scale, bias = look_up_reflectance(light.reflectance, roughness, nv)
        glass = table.see_through[m]
        shine = 1.0 if glass else 1.0 - (1.0 - alpha) ** 4  # a pane mirrors even where it hides little
        for c in range(3):
            encoded = red if c == 0 else (green if c == 1 else blue)
            base = decode_srgb(encoded)
            w_single, w_multiple, w_base = image_based_weights(base, metallic, scale, bias)
            matt = (
                ambient * look_up_irradiance(light.irradiance, ex, ny, ez, c)
                + lambert * light.key_radiance[c]
            )
            reflected = mirrored * single[c]
            out[n, c] = alpha * (w_base + w_multiple) * matt + shine * w_single * reflected
            out[n, 3 + c] = (1.0 - alpha) * (base if glass else 1.0) * (1.0 - shine * w_single)
        _add_emission(shading, detail_pack, surface, f, w0, w1, w2, alpha, out, n)
        out[n, 6], out[n, 7], out[n, 8] = red, green, blue
        out[n, 9], out[n, 10], out[n, 11] = metallic, roughness, alpha
        out[n, 12], out[n, 13], out[n, 14] = nx, ny, nz
        out[n, 15] = distance


@inner_kernel
def _add_emission(
    shading: ShadingArrays,
    detail_pack: TexturePack,
    surface: SurfaceArrays,
    f: int,
    w0: float,
    w1: float,
    w2: float,
    alpha: float,
    out: NDArray[np.float32],
    n: int,
) -> None:
    m = surface.material[f]
    red, green, blue = shading.emissive[m, 0], shading.emissive[m, 1], shading.emissive[m, 2]
    if red + green + blue <= 0:
        return
    t = shading.detail[m, 1]
    if t >= 0:
        i, j, k = surface.faces[f, 0], surface.faces[f, 1], surface.faces[f, 2]
        uv = shading.uv
        u = w0 * uv[1, i, 0] + w1 * uv[1, j, 0] + w2 * uv[1, k, 0]
        v = w0 * uv[1, i, 1] + w1 * uv[1, j, 1] + w2 * uv[1, k, 1]
        tr, tg, tb, _ = sample_texture(detail_pack, t, u, v, 0.0)
        red, green, blue = red * decode_srgb(tr), green * decode_srgb(tg), blue * decode_srgb(tb)
    out[n, 0] += alpha * red
    out[n, 1] += alpha * green
    out[n, 2] += alpha * blue
