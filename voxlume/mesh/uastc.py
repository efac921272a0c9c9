"""Decode UASTC LDR 4x4 textures.

Source: the UASTC texture specification of Basis Universal and, for what it takes from there (partition
patterns, unquantisation, interpolation), the ASTC chapter of the Khronos Data Format Specification.
Every block of 4 x 4 texels has 128 bits: mode, hints for transcoders (skipped), partition pattern,
endpoints and weights, all least significant bit first.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.errors import AssetError

# One row per mode: code of the mode and its length, bits of hints, bits of a weight, bits of an endpoint
# value and its base (3 trits, 5 quints, 0 neither), subsets, weight planes, components (2 is luminance
# and alpha).
_MODES = np.array(
    [
        (0x01, 4, 15, 4, 6, 3, 1, 1, 3),
        (0x35, 6, 15, 2, 8, 0, 1, 1, 3),
        (0x1D, 5, 15, 3, 4, 0, 2, 1, 3),
        (0x03, 5, 15, 2, 2, 3, 3, 1, 3),
        (0x13, 5, 15, 2, 3, 5, 2, 1, 3),
        (0x0B, 5, 15, 3, 8, 0, 1, 1, 3),
        (0x1B, 5, 15, 2, 5, 5, 1, 2, 3),
        (0x07, 5, 15, 2, 3, 5, 2, 1, 3),
        (0x17, 5, 0, 0, 8, 0, 0, 0, 4),
        (0x0F, 5, 23, 2, 4, 0, 2, 1, 4),
        (0x02, 3, 17, 4, 4, 3, 1, 1, 4),
        (0x00, 2, 17, 2, 4, 3, 1, 2, 4),
        (0x06, 3, 17, 3, 6, 3, 1, 1, 4),
        (0x1F, 5, 23, 1, 8, 0, 1, 2, 4),
        (0x0D, 5, 23, 2, 8, 0, 1, 1, 4),
        (0x05, 7, 23, 4, 8, 0, 1, 1, 2),
        (0x15, 6, 23, 2, 8, 0, 2, 1, 2),
        (0x25, 6, 23, 2, 8, 0, 1, 2, 2),
        (0x09, 4, 15, 5, 5, 0, 1, 1, 3),
    ]
)
_SOLID_MODE, _SEVENTH_MODE = 8, 7
_MOST_VALUES = 18  # endpoint values of a block

# Seeds of ASTC's partition patterns: those of two subsets, of three, and the two subsets of mode 7.
# fmt: off
_SEEDS_2 = (28, 20, 16, 29, 91, 9, 107, 72, 149, 204, 50, 114, 496, 17, 78, 39, 252, 828, 43, 156, 116,
            210, 476, 273, 684, 359, 246, 195, 694, 524)
_SEEDS_3 = (260, 74, 32, 156, 183, 15, 745, 0, 335, 902, 254)
_SEEDS_MODE_7 = (36, 48, 61, 137, 161, 183, 226, 281, 302, 307, 479, 495, 593, 594, 605, 799, 812, 988, 993)
# fmt: on

# How ASTC spreads the low bits a (lowest) to f of an endpoint value over nine bits, and the factor of its
# trit or quint, by (bits, base).
_SPREADS = {
    (2, 3): ("b000b0bb0", 93),
    (3, 5): ("cb0000cbc", 26),
    (4, 3): ("dcb000dcb", 22),
    (5, 5): ("edcb0000e", 6),
    (6, 3): ("fedcb000f", 5),
}

# Bits of the last, incomplete group of trits or quints, by how many values it holds.
_TRIT_BITS = np.array([0, 2, 4, 5, 7, 8])
_QUINT_BITS = np.array([0, 3, 5, 7])


def decode_uastc(blocks: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The image of UASTC blocks in raster order.

    Parameters
    ----------
    blocks : uint8 (16 n,) with n = ceil(width / 4) * ceil(height / 4).

    Returns
    -------
    uint8 (height, width, 4), values as stored.

    Raises
    ------
    AssetError : a block has a reserved mode or partition pattern.
    """
    image = np.empty((height, width, 4), np.uint8)
    if not _decode(blocks.reshape(-1, 16), image):
        raise AssetError("a KTX2 texture (UASTC) is damaged in a block; export the file again")
    return image


def _mode_of_code() -> NDArray[np.int64]:
    """(128,) mode by the lowest seven bits of a block, -1 where there is none."""
    modes = np.full(128, -1)
    for mode, (code, length, *_) in enumerate(_MODES.tolist()):
        modes[code :: 1 << length] = mode
    return modes


def _endpoint_values() -> NDArray[np.uint8]:
    """(modes, 256) endpoint values in 0 to 255 by their stored value (ASTC: endpoint unquantisation)."""
    table = np.zeros((len(_MODES), 256), np.uint8)
    for mode, (bits, base) in enumerate(_MODES[:, 4:6].tolist()):
        for stored in range((base or 1) << bits):
            table[mode, stored] = _unquantize(stored, bits, base)
    return table


def _unquantize(stored: int, bits: int, base: int) -> int:
    if base == 0:
        return (stored << (8 - bits)) | (stored >> (2 * bits - 8))
    letters = {letter: stored >> i & 1 for i, letter in enumerate("abcdef")}
    spread, factor = _SPREADS[bits, base]
    b = sum(letters.get(letter, 0) << (8 - i) for i, letter in enumerate(spread))
    a = 0x1FF * letters["a"]
    mixed = ((stored >> bits) * factor + b) ^ a
    return (a & 0x80) | (mixed >> 2)


def _weight_values() -> NDArray[np.int64]:
    """(6, 32) interpolation weights in 0 to 64 by bits and stored value (ASTC: weight unquantisation)."""
    table = np.zeros((6, 32), np.int64)
    for bits in range(1, 6):
        for stored in range(1 << bits):
            six = sum(
                stored << shift if shift >= 0 else stored >> -shift for shift in range(6 - bits, -bits, -bits)
            )
            table[bits, stored] = six + (six > 32)
    return table


def _hash(seed: int) -> int:
    """ASTC's 32-bit hash of a partition seed."""
    h = seed
    h ^= h >> 15
    h = (h - (h << 17)) & 0xFFFFFFFF
    h = (h + (h << 7)) & 0xFFFFFFFF
    h = (h + (h << 4)) & 0xFFFFFFFF
    h ^= h >> 5
    h = (h + (h << 16)) & 0xFFFFFFFF
    h ^= h >> 7
    h ^= h >> 3
    h = (h ^ (h << 6)) & 0xFFFFFFFF
    return h ^ (h >> 17)


def _partition(seed: int, subsets: int) -> NDArray[np.uint8]:
    """(16,) subset of every texel: the largest of one plane function per subset (ASTC: partitions)."""
    h = _hash(seed + 1024 * (subsets - 1))
    slopes = [(h >> (4 * i) & 15) ** 2 for i in range(8)]
    shifts = [4 if seed & 2 else 5, 6 if subsets == 3 else 5]
    if not seed & 1:
        shifts.reverse()
    slopes = [slope >> shifts[i % 2] for i, slope in enumerate(slopes)]
    y, x = np.indices((4, 4)) * 2  # small blocks are stretched
    planes = [(slopes[2 * i] * x + slopes[2 * i + 1] * y + (h >> (14 - 4 * i))) & 63 for i in range(subsets)]
    return np.argmax(planes, axis=0).astype(np.uint8).reshape(16)


_MODE_OF_CODE = _mode_of_code()
_ENDPOINT_VALUES = _endpoint_values()
_WEIGHT_VALUES = _weight_values()
_PATTERNS = np.array(
    [_partition(seed, 2) for seed in _SEEDS_2]
    + [_partition(seed, 3) for seed in _SEEDS_3]
    + [_partition(seed, 2) for seed in _SEEDS_MODE_7]
    + [np.zeros(16, np.uint8)]
)
_FIRST_OF_3, _FIRST_OF_MODE_7, _WHOLE = 30, 41, 60


@njit(cache=True, nogil=True)
def _take(block: NDArray[np.uint8], position: int, count: int) -> int:
    """Up to eight bits of a block."""
    byte = position >> 3
    value = int(block[byte])
    if byte < 15:
        value |= int(block[byte + 1]) << 8
    return (value >> (position & 7)) & ((1 << count) - 1)


@njit(cache=True, nogil=True)
def _read_endpoints(block: NDArray[np.uint8], position: int, mode: int, out: NDArray[np.int64]) -> int:
    """Fill out with endpoint values in 0 to 255; returns the position after them."""
    bits, base = _MODES[mode, 4], _MODES[mode, 5]
    count = 2 * _MODES[mode, 6] * _MODES[mode, 8]
    out[:] = 0
    if base:
        group = 5 if base == 3 else 3
        for first in range(0, count, group):
            members = min(group, count - first)
            length = _TRIT_BITS[members] if base == 3 else _QUINT_BITS[members]
            packed = _take(block, position, length)
            position += length
            for i in range(first, first + members):
                out[i] = (packed % base) << bits
                packed //= base
    for i in range(count):
        out[i] = _ENDPOINT_VALUES[mode, out[i] | _take(block, position, bits)]
        position += bits
    return position


@njit(cache=True, nogil=True)
def _read_weights(
    block: NDArray[np.uint8], position: int, mode: int, pattern: NDArray[np.uint8], out: NDArray[np.int64]
) -> None:
    """Fill out (16, 2) with weights in 0 to 64; without a second plane its column repeats the first."""
    bits, planes = _MODES[mode, 3], _MODES[mode, 7]
    seen = 0
    for texel in range(16):
        # The first texel of every subset is stored without its highest bit, which is zero.
        first = (seen >> pattern[texel]) & 1 == 0
        seen |= 1 << pattern[texel]
        for plane in range(planes):
            length = bits - 1 if first else bits
            out[texel, plane] = _WEIGHT_VALUES[bits, _take(block, position, length)]
            position += length
        if planes == 1:
            out[texel, 1] = out[texel, 0]


@njit(cache=True, nogil=True)
def _decode_block(
    block: NDArray[np.uint8], texels: NDArray[np.uint8], values: NDArray[np.int64], weights: NDArray[np.int64]
) -> bool:
    """Fill texels (16, 4); values (18,) and weights (16, 2) are work space. False for a reserved block."""
    mode = _MODE_OF_CODE[block[0] & 127]
    if mode < 0:
        return False
    position = _MODES[mode, 1] + _MODES[mode, 2]
    if mode == _SOLID_MODE:
        for channel in range(4):
            texels[:, channel] = _take(block, position + 8 * channel, 8)
        return True
    subsets, planes, components = _MODES[mode, 6], _MODES[mode, 7], _MODES[mode, 8]
    chosen = _WHOLE
    if subsets == 3:
        chosen = _FIRST_OF_3 + _take(block, position, 4)
        if chosen >= _FIRST_OF_MODE_7:
            return False
        position += 4
    elif subsets == 2:
        chosen = _take(block, position, 5)
        if mode == _SEVENTH_MODE:
            chosen += _FIRST_OF_MODE_7
        if chosen >= (_WHOLE if mode == _SEVENTH_MODE else _FIRST_OF_3):
            return False
        position += 5
    pattern = _PATTERNS[chosen]
    second_plane = 3  # the channel that follows the second plane's weights
    if planes == 2 and components > 2:
        second_plane = _take(block, position, 2)
        position += 2
    position = _read_endpoints(block, position, mode, values)
    _read_weights(block, position, mode, pattern, weights)
    for texel in range(16):
        start = 2 * components * pattern[texel]
        for channel in range(4):
            if components == 2:
                pair = start + (2 if channel == 3 else 0)
            elif channel < components:
                pair = start + 2 * channel
            else:
                texels[texel, channel] = 255
                continue
            weight = weights[texel, 1 if channel == second_plane else 0]
            # Both ends widened to 16 bits by repetition, and the high byte of the mixture taken.
            mixed = (values[pair] * 257 * (64 - weight) + values[pair + 1] * 257 * weight + 32) >> 6
            texels[texel, channel] = mixed >> 8
    return True


@njit(cache=True, nogil=True)
def _decode(blocks: NDArray[np.uint8], image: NDArray[np.uint8]) -> bool:
    """Fill image (h, w, 4) from blocks (n, 16); False if one of them is reserved."""
    height, width, _ = image.shape
    columns = (width + 3) // 4
    texels = np.empty((16, 4), np.uint8)
    values = np.empty(_MOST_VALUES, np.int64)
    weights = np.empty((16, 2), np.int64)
    for i in range(len(blocks)):
        if not _decode_block(blocks[i], texels, values, weights):
            return False
        top, left = 4 * (i // columns), 4 * (i % columns)
        for y in range(top, min(top + 4, height)):
            for x in range(left, min(left + 4, width)):
                for channel in range(4):
                    image[y, x, channel] = texels[4 * (y - top) + x - left, channel]
    return True
