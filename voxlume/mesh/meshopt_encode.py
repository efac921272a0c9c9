"""Encode buffer views for EXT_meshopt_compression; :mod:`voxlume.mesh.meshopt` takes them apart.

Source: the bitstream and filter appendices of the glTF extension, version 0 of the attribute codec and
version 1 of the index codec.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxlume.jit import kernel

_ATTRIBUTES, _TRIANGLES = 0xA0, 0xE1
# Pairs of vertex codes that take no byte of their own; the extension leaves the choice to the encoder.
_PAIRS = (0x00, 0x76, 0x87, 0x56, 0x67, 0x78, 0xA9, 0x86, 0x65, 0x89, 0x68, 0x98, 0x01, 0x69)


def encode_attributes(elements: NDArray[Any]) -> bytes:
    """A stream of mode ATTRIBUTES.

    Parameters
    ----------
    elements : (n, k) of any type, whose rows have a multiple of 4 bytes, at most 256.
    """
    rows = np.ascontiguousarray(elements).view(np.uint8).reshape(len(elements), -1)
    stride = rows.shape[1]
    assert stride % 4 == 0
    assert stride <= 256
    previous = np.concatenate([rows[:1], rows[:-1]])
    deltas = (rows - previous).view(np.int8)
    zigzag = ((deltas << 1) ^ (deltas >> 7)).view(np.uint8)
    block = min((8192 // stride) & ~15, 256)
    # A value takes at most its byte; every 64 of a column share one of headers.
    out = np.empty(-(-len(rows) // block) * stride * (block + block // 64 + 1), np.uint8)
    length = _pack_deltas(zigzag, block, out)
    tail = np.zeros(max(stride, 32), np.uint8)
    tail[len(tail) - stride :] = rows[0]
    return bytes([_ATTRIBUTES]) + out[:length].tobytes() + tail.tobytes()


@kernel
def _pack_deltas(zigzag: NDArray[np.uint8], block: int, out: NDArray[np.uint8]) -> int:
    """Write the blocks of (n, stride) deltas, column by column; returns how many bytes they took."""
    count, stride = zigzag.shape
    at = 0
    values = np.zeros(16, np.uint8)
    for first in range(0, count, block):
        elements = min(block, count - first)
        groups = (elements + 15) // 16
        for k in range(stride):
            header = at
            at += (groups + 3) // 4
            for i in range(header, at):
                out[i] = 0
            for group in range(groups):
                largest, over_2, over_4 = 0, 0, 0
                for i in range(16):
                    e = group * 16 + i
                    value = int(zigzag[first + e, k]) if e < elements else 0
                    values[i] = value
                    largest = max(largest, value)
                    over_2 += value >= 3
                    over_4 += value >= 15
                if largest == 0:
                    continue
                code, size = 3, 16
                if 8 + over_4 < size:
                    code, size = 2, 8 + over_4
                if 4 + over_2 < size:
                    code = 1
                out[header + group // 4] |= code << (2 * (group % 4))
                if code == 3:
                    for i in range(16):
                        out[at + i] = values[i]
                    at += 16
                    continue
                bits = 2 << (code - 1)
                sentinel = (1 << bits) - 1
                per_byte = 8 // bits
                extra = at + 2 * bits
                for i in range(16):
                    if i % per_byte == 0:
                        out[at + i // per_byte] = 0
                    value = int(values[i])
                    if value >= sentinel:
                        out[extra] = value
                        extra += 1
                        value = sentinel
                    out[at + i // per_byte] |= value << (8 - bits * (i % per_byte + 1))
                at = extra
    return at


def encode_triangles(faces: NDArray[np.int32]) -> bytes:
    """A stream of mode TRIANGLES; corners may start at another vertex of their triangle when decoded.

    Parameters
    ----------
    faces : (m, 3), best in an order in which vertices appear one after another.
    """
    codes = np.empty(len(faces), np.uint8)
    # A triangle takes at most a pair of codes and three numbers of five bytes.
    data = np.empty(16 * len(faces) + 16, np.uint8)
    pairs = np.array(_PAIRS, np.uint8)
    length = _pack_triangles(np.ascontiguousarray(faces, np.int64), pairs, codes, data)
    table = bytes(_PAIRS) + bytes(2)
    return bytes([_TRIANGLES]) + codes.tobytes() + data[:length].tobytes() + table


@kernel
def _write_step(data: NDArray[np.uint8], at: int, step: int) -> int:
    """A signed number, zigzag, as little-endian base 128."""
    value = (step << 1) ^ (step >> 63)
    while value > 127:
        data[at] = (value & 127) | 128
        value >>= 7
        at += 1
    data[at] = value
    return at + 1


@kernel
def _pack_triangles(
    faces: NDArray[np.int64], pairs: NDArray[np.uint8], codes: NDArray[np.uint8], data: NDArray[np.uint8]
) -> int:
    """Fill codes (m,) and data; returns how much of data is used."""
    edges = np.full((16, 2), -1, np.int64)
    vertices = np.full(16, -1, np.int64)
    num_edges = num_vertices = 0  # ever pushed; the newest is at (number - 1) % 16
    following = last = at = 0
    corner, how = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for t in range(len(faces)):
        a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
        # The newest edge of the FIFO that this triangle has, in either rotation.
        edge = -1
        for k in range(min(num_edges, 15)):
            u, v = edges[(num_edges - 1 - k) % 16, 0], edges[(num_edges - 1 - k) % 16, 1]
            if u == a and v == b:
                edge = k
            elif u == b and v == c:
                edge, a, b, c = k, b, c, a
            elif u == c and v == a:
                edge, a, b, c = k, c, a, b
            if edge >= 0:
                break
        if edge >= 0:
            low = 15
            if c == following:
                low = 0
                following += 1
            else:
                for k in range(1, min(num_vertices, 13)):
                    if vertices[(num_vertices - 1 - k) % 16] == c:
                        low = k
                        break
            if low == 15:
                if c == last - 1:
                    low = 13
                elif c == last + 1:
                    low = 14
                else:
                    at = _write_step(data, at, c - last)
                last = c
            codes[t] = edge << 4 | low
            if low == 0 or low > 12:
                vertices[num_vertices % 16] = c
                num_vertices += 1
        else:
            if b == following:
                a, b, c = b, c, a
            elif c == following:
                a, b, c = c, a, b
            corner[0], corner[1], corner[2] = a, b, c
            for k in range(3):
                how[k] = 15
                if corner[k] == following:
                    how[k] = 0
                    following += 1
                elif k > 0:
                    for i in range(min(num_vertices, 14)):
                        if vertices[(num_vertices - 1 - i) % 16] == corner[k]:
                            how[k] = i + 1
                            break
            pair = how[1] << 4 | how[2]
            code = 14 if how[0] == 0 else 15
            if how[0] == 0:
                for i in range(len(pairs)):
                    if pairs[i] == pair:
                        code = i
                        break
            codes[t] = 0xF0 | code
            if code >= 14:
                data[at] = pair
                at += 1
            for k in range(3):
                if how[k] == 15:
                    at = _write_step(data, at, corner[k] - last)
                    last = corner[k]
            edges[num_edges % 16, 0], edges[num_edges % 16, 1] = b, a
            num_edges += 1
            for k in range(3):
                if how[k] == 0 or how[k] == 15:
                    vertices[num_vertices % 16] = corner[k]
                    num_vertices += 1
        edges[num_edges % 16, 0], edges[num_edges % 16, 1] = c, b
        num_edges += 1
        edges[num_edges % 16, 0], edges[num_edges % 16, 1] = a, c
        num_edges += 1
    return at


def first_use_order(faces: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Vertices (k,) in the order in which faces (m, 3) first use them, and the faces over these."""
    vertices, first, inverse = np.unique(faces, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return vertices[order].astype(np.int64), rank[inverse.reshape(-1)].reshape(-1, 3)


def exponential(values: NDArray[np.floating], step: float) -> NDArray[np.int32]:
    """Filter EXPONENTIAL: numbers as a mantissa and one exponent for all of them.

    Parameters
    ----------
    values : (n, k), finite.
    step : between neighbouring numbers, at most; 23 bits of mantissa may force a coarser one.
    """
    largest = float(np.abs(values).max(initial=0.0))
    finest = math.ceil(math.log2(largest)) - 23 if largest > 0 else -126
    exponent = min(max(math.floor(math.log2(step)) if step > 0 else -126, finest, -126), 104)
    mantissa = np.rint(np.ldexp(values.astype(np.float64), -exponent))
    mantissa = np.clip(mantissa, -(2**23), 2**23 - 1).astype(np.int32)
    return (np.int32(exponent) << 24) | (mantissa & 0xFFFFFF)


def from_exponential(packed: NDArray[np.int32]) -> NDArray[np.float32]:
    """What a decoder makes of the filter's result."""
    return np.ldexp(((packed << 8) >> 8).astype(np.float64), packed >> 24).astype(np.float32)


def octahedral(normals: NDArray[np.floating], bits: int) -> NDArray[np.int16]:
    """Filter OCTAHEDRAL: unit vectors (n, 3) as int16 (n, 4), which decode to signed normalised integers."""
    n = normals.astype(np.float64)
    n = n / np.abs(n).sum(axis=1, keepdims=True)
    x, y = n[:, 0], n[:, 1]
    below = n[:, 2] < 0
    u = np.where(below, (1 - np.abs(y)) * np.copysign(1, x), x)
    v = np.where(below, (1 - np.abs(x)) * np.copysign(1, y), y)
    one = np.full(len(n), 2 ** (bits - 1) - 1)
    return np.stack([np.rint(u * one), np.rint(v * one), one, 0 * one], axis=1).astype(np.int16)
