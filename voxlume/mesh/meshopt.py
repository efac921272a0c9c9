"""Decode buffer views of EXT_meshopt_compression and KHR_meshopt_compression.

Source: the bitstream and filter appendices of the two glTF extensions. The compiled kernels only take
streams apart, checking every read; what follows (running sums, filters) is NumPy over whole arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.errors import AssetError

# No view of a sane file is larger; runs of equal elements otherwise expand up to 1024 times.
_MAX_BYTES = 2**30

_ATTRIBUTES_V0, _ATTRIBUTES_V1, _TRIANGLES, _INDICES = 0xA0, 0xA1, 0xE1, 0xD1
_GROUP = 16
_FILTER_STRIDES = {"OCTAHEDRAL": (4, 8), "QUATERNION": (8,), "COLOR": (4, 8)}


def decode_buffer_view(data: bytes, count: int, stride: int, mode: str, filter: str = "NONE") -> bytes:
    """Decompress one buffer view.

    Parameters
    ----------
    data : the compressed bytes, exactly ``byteLength`` of them.
    count, stride : number of elements and bytes per element of the result.
    mode : "ATTRIBUTES" (codec versions 0 and 1), "TRIANGLES" or "INDICES".
    filter : "NONE", "OCTAHEDRAL", "QUATERNION", "EXPONENTIAL" or "COLOR"; only with ATTRIBUTES.

    Returns
    -------
    ``count * stride`` bytes, little-endian components.

    Raises
    ------
    AssetError : parameters that the extension forbids, or a damaged stream.
    """
    _check_layout(count, stride, mode, filter)
    stream = np.frombuffer(data, np.uint8)
    if mode == "ATTRIBUTES":
        return _apply_filter(_decode_attributes(stream, count, stride), filter).tobytes()
    decode = _decode_triangles if mode == "TRIANGLES" else _decode_indices
    return decode(stream, count).astype("<u2" if stride == 2 else "<u4").tobytes()


def _damaged(what: str) -> AssetError:
    return AssetError(f"meshopt-compressed data is damaged: {what}; export the file again")


def _check_layout(count: int, stride: int, mode: str, filter: str) -> None:
    known = mode in ("ATTRIBUTES", "TRIANGLES", "INDICES")
    if mode == "ATTRIBUTES":
        legal = stride % 4 == 0 and 4 <= stride <= 256
        known &= filter in ("NONE", "EXPONENTIAL") or filter in _FILTER_STRIDES
        legal &= stride in _FILTER_STRIDES.get(filter, (stride,))
    else:
        known &= filter == "NONE"
        legal = stride in (2, 4) and (mode == "INDICES" or count % 3 == 0)
    if not known:
        raise AssetError(f"meshopt compression with mode '{mode}' and filter '{filter}' is not known")
    if not legal or count < 1 or count * stride > _MAX_BYTES:
        raise _damaged(f"{count} elements of {stride} bytes are not allowed for {mode} with filter {filter}")


def _decode_attributes(stream: NDArray[np.uint8], count: int, stride: int) -> NDArray[np.uint8]:
    """(count, stride) bytes of mode ATTRIBUTES before the filter."""
    if len(stream) == 0 or stream[0] not in (_ATTRIBUTES_V0, _ATTRIBUTES_V1):
        raise _damaged("unknown version of the attribute codec")
    version = int(stream[0]) & 1
    tail = max(stride + stride // 4, 24) if version else max(stride, 32)
    block = min((8192 // stride) & ~15, 256)
    # The shortest stream for this many elements, so that the result is only allocated if there is one.
    groups = -(-min(count, block) // _GROUP)
    per_block = stride // 4 if version else stride * -(-groups // 4)
    if len(stream) < 1 + count // block * per_block + tail:
        raise _damaged("the stream ends too early")
    end = len(stream) - tail
    deltas = np.zeros((count, stride), np.uint8)
    if _unpack_deltas(stream, 1, end, version, block, deltas) != end:
        raise _damaged("the attribute stream does not fill its place")
    modes_at = len(stream) - stride // 4
    baseline = stream[modes_at - stride : modes_at] if version else stream[len(stream) - stride :]
    modes = stream[modes_at:] if version else np.zeros(stride // 4, np.uint8)
    for channel, channel_mode in enumerate(modes.tolist()):
        span = slice(4 * channel, 4 * channel + 4)
        deltas[:, span] = _sum_deltas(deltas[:, span], baseline[span], channel_mode)
    return deltas


def _sum_deltas(deltas: NDArray[np.uint8], baseline: NDArray[np.uint8], mode: int) -> NDArray[np.uint8]:
    """(n, 4) values of one channel from its (n, 4) deltas and the (4,) element before the first."""
    if mode & 15 > 2 or (mode & 15 < 2 and mode >> 4):
        raise _damaged(f"unknown channel mode {mode}")
    dtype = ("u1", "<u2", "<u4")[mode & 15]
    values = np.ascontiguousarray(deltas).view(dtype)
    start = np.ascontiguousarray(baseline).view(dtype)
    if mode & 15 == 2:
        # The encoder rotated left by the high bits; zero needs care, a shift by 32 is undefined.
        right = mode >> 4
        rotated = (values >> right) | (values << ((32 - right) & 31))
        return np.bitwise_xor.accumulate(np.concatenate([start[None], rotated]), axis=0)[1:].view(np.uint8)
    signed = (values >> 1) ^ -(values & 1)
    return (np.cumsum(signed, axis=0, dtype=dtype) + start).view(np.uint8)


@njit(cache=True, nogil=True)
def _unpack_deltas(
    stream: NDArray[np.uint8], position: int, end: int, version: int, block: int, out: NDArray[np.uint8]
) -> int:
    """Fill out (count, stride) with raw deltas; returns the position reached, or -1 for a bad stream."""
    count, stride = out.shape
    for first in range(0, count, block):
        elements = min(block, count - first)
        groups = (elements + 15) // 16
        control_at = position
        if version == 1:
            position += stride // 4
            if position > end:
                return -1
        for k in range(stride):
            control = (int(stream[control_at + k // 4]) >> (2 * (k % 4))) & 3 if version == 1 else 0
            if version == 1 and control == 2:
                continue
            if version == 1 and control == 3:
                if position + elements > end:
                    return -1
                for i in range(elements):
                    out[first + i, k] = stream[position + i]
                position += elements
                continue
            header_at = position
            position += (groups + 3) // 4
            if position > end:
                return -1
            for group in range(groups):
                code = (int(stream[header_at + group // 4]) >> (2 * (group % 4))) & 3
                # Exponent of the bit length: -1 is no bits at all, 0 to 3 are 1, 2, 4 and 8 bits.
                exponent = code if version == 0 or control == 1 else code - 1
                if version == 0 and code == 0:
                    exponent = -1
                if exponent == -1:
                    continue
                bits = 1 << exponent
                full = position + 2 * bits
                if full > end:
                    return -1
                sentinel = (1 << bits) - 1
                for i in range(16):
                    byte = int(stream[position + i * bits // 8])
                    slot = i % (8 // bits)
                    shift = slot if bits == 1 else 8 - bits * (slot + 1)
                    delta = (byte >> shift) & sentinel
                    if bits < 8 and delta == sentinel:
                        if full >= end:
                            return -1
                        delta = int(stream[full])
                        full += 1
                    if group * 16 + i < elements:
                        out[first + group * 16 + i, k] = delta
                position = full
    return position


def _decode_triangles(stream: NDArray[np.uint8], count: int) -> NDArray[np.uint32]:
    """(count,) indices of mode TRIANGLES."""
    if len(stream) < 1 + count // 3 + 16 or stream[0] != _TRIANGLES:
        raise _damaged("no triangle stream of this length")
    table = stream[-16:]
    if table[14:].any() or (table & 15 == 15).any() or (table >> 4 == 15).any():
        raise _damaged("the look-up table of the triangle stream is not allowed")
    out = np.empty(count, np.uint32)
    if not _unpack_triangles(stream, out):
        raise _damaged("the triangle stream does not fill its place")
    return out


@njit(cache=True, nogil=True)
def _read_varint(stream: NDArray[np.uint8], position: int, end: int) -> tuple[int, int]:
    """A 32-bit unsigned LEB128 number and the position after it, or position -1."""
    value = 0
    for i in range(5):
        if position >= end:
            return 0, -1
        byte = int(stream[position])
        position += 1
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value & 0xFFFFFFFF, position
    return 0, -1


@njit(cache=True, nogil=True)
def _unzigzag(value: int) -> int:
    return ~(value >> 1) if value & 1 else value >> 1


@njit(cache=True, nogil=True)
def _unpack_triangles(stream: NDArray[np.uint8], out: NDArray[np.uint32]) -> bool:
    """Fill out (3 m,) with indices; False for a bad stream. The stream's length was checked."""
    triangles = len(out) // 3
    position = 1 + triangles
    end = len(stream) - 16
    edges = np.zeros((16, 2), np.int64)
    vertices = np.zeros(16, np.int64)
    num_edges = num_vertices = 0  # ever pushed; the newest is at (number - 1) % 16
    following = last = 0
    corner = np.zeros(3, np.int64)
    how = np.zeros(3, np.int64)  # per corner: 0 next, 1 to 14 from the vertex FIFO, 15 explicit
    for triangle in range(triangles):
        code = int(stream[1 + triangle])
        high, low = code >> 4, code & 15
        if high < 15:
            if high >= num_edges:
                return False
            edge = (num_edges - 1 - high) % 16
            a, b = edges[edge, 0], edges[edge, 1]
            push = True
            if low == 0:
                c = following
                following = (following + 1) & 0xFFFFFFFF
            elif low < 13:
                if low >= num_vertices:
                    return False
                c = vertices[(num_vertices - 1 - low) % 16]
                push = False
            else:
                if low == 15:
                    value, position = _read_varint(stream, position, end)
                    if position < 0:
                        return False
                    step = _unzigzag(value)
                else:
                    step = -1 if low == 13 else 1
                last = (last + step) & 0xFFFFFFFF
                c = last
            if push:
                vertices[num_vertices % 16] = c
                num_vertices += 1
        else:
            if low < 14:
                aux = int(stream[end + low])
                how[0] = 0
            else:
                if position >= end:
                    return False
                aux = int(stream[position])
                position += 1
                how[0] = 0 if low == 14 else 15
                if aux == 0:
                    following = 0
            how[1], how[2] = aux >> 4, aux & 15
            # All look-ups refer to the FIFO as it was before this triangle.
            for k in range(3):
                if how[k] == 0:
                    corner[k] = following
                    following = (following + 1) & 0xFFFFFFFF
                elif how[k] < 15:
                    if how[k] > num_vertices:
                        return False
                    corner[k] = vertices[(num_vertices - how[k]) % 16]
                else:
                    value, position = _read_varint(stream, position, end)
                    if position < 0:
                        return False
                    last = (last + _unzigzag(value)) & 0xFFFFFFFF
                    corner[k] = last
            a, b, c = corner[0], corner[1], corner[2]
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
        out[3 * triangle], out[3 * triangle + 1], out[3 * triangle + 2] = a, b, c
    return position == end


def _decode_indices(stream: NDArray[np.uint8], count: int) -> NDArray[np.uint32]:
    """(count,) indices of mode INDICES."""
    if len(stream) < 1 + count + 4 or stream[0] != _INDICES:
        raise _damaged("no index stream of this length")
    out = np.empty(count, np.uint32)
    if not _unpack_indices(stream, out):
        raise _damaged("the index stream does not fill its place")
    return out


@njit(cache=True, nogil=True)
def _unpack_indices(stream: NDArray[np.uint8], out: NDArray[np.uint32]) -> bool:
    position, end = 1, len(stream) - 4
    last = np.zeros(2, np.int64)
    for i in range(len(out)):
        value, position = _read_varint(stream, position, end)
        if position < 0:
            return False
        baseline = value & 1
        last[baseline] = (last[baseline] + _unzigzag(value >> 1)) & 0xFFFFFFFF
        out[i] = last[baseline]
    return position == end


def _apply_filter(elements: NDArray[np.uint8], filter: str) -> NDArray[Any]:
    """Undo the filter on (count, stride) bytes. Values that the extension forbids give any result."""
    if filter == "NONE":
        return elements
    with np.errstate(all="ignore"):
        if filter == "EXPONENTIAL":
            return _exponential(elements.view("<i4"))
        if filter == "QUATERNION":
            return _quaternion(elements.view("<i2"))
        wide = elements.shape[1] == 8
        if filter == "OCTAHEDRAL":
            return _octahedral(elements.view("<i2" if wide else "i1"))
        return _color(elements.view("<i2" if wide else "i1"))


def _to_integer(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round half away from zero and keep within the type, also if the data were damaged."""
    rounded = np.nan_to_num(np.trunc(values + np.copysign(0.5, values)), nan=0.0)
    return np.clip(rounded, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)


def _octahedral(elements: NDArray[Any]) -> NDArray[Any]:
    """(n, 4) signed integers: octahedral x, y, the value of 1.0, and a component passed through."""
    values = elements.astype(np.float64)
    one = values[:, 2]
    x, y = values[:, 0] / one, values[:, 1] / one
    z = 1.0 - np.abs(x) - np.abs(y)
    fold = np.minimum(z, 0.0)
    unit = np.stack([x - np.copysign(fold, x), y - np.copysign(fold, y), z], axis=1)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    result = elements.copy()
    result[:, :3] = _to_integer(unit * np.iinfo(elements.dtype).max, elements.dtype)
    return result


def _quaternion(elements: NDArray[Any]) -> NDArray[Any]:
    """(n, 4) int16: three components scaled by sqrt(2), then 1.0 with the place of the fourth."""
    one = (elements[:, 3] | 3).astype(np.float64)
    three = elements[:, :3] / one[:, None] * np.sqrt(0.5)
    largest = np.sqrt(np.maximum(0.0, 1.0 - (three**2).sum(1)))
    quaternion = np.concatenate([largest[:, None], three], axis=1)
    place = ((elements[:, 3] & 3)[:, None] + np.arange(4)) % 4
    result = np.empty_like(elements)
    np.put_along_axis(result, place.astype(np.int64), _to_integer(quaternion * 32767, elements.dtype), axis=1)
    return result


def _exponential(elements: NDArray[Any]) -> NDArray[Any]:
    """(n, k) int32 of 8 bits exponent and 24 bits mantissa, both signed, to float32."""
    mantissa = (elements << 8) >> 8
    return np.ldexp(mantissa.astype(np.float64), elements >> 24).astype("<f4")


def _color(elements: NDArray[Any]) -> NDArray[Any]:
    """(n, 4) integers Y, Co, Cg and alpha with a leading one that tells the precision, to RGBA."""
    unsigned = np.dtype("<u2" if elements.itemsize == 2 else "u1")
    y, alpha = (elements[:, k].view(unsigned).astype(np.int64) for k in (0, 3))
    orange, green = elements[:, 1].astype(np.int64), elements[:, 2].astype(np.int64)
    bits = np.frexp(alpha.astype(np.float64))[1]  # position of the leading one, counted from 1
    largest = (1 << bits.astype(np.int64)) - 1
    alpha &= largest >> 1
    alpha = (alpha << 1) | (alpha & 1)
    rgba = np.stack([y + orange - green, y + green, y - orange - green, alpha], axis=1)
    return _to_integer(rgba * (np.iinfo(unsigned).max / largest[:, None]), unsigned)
