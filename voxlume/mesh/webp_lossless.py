"""Lossless WebP on all cores, for textures that hold data.

Every pixel is predicted from its neighbours on the left and above; what is left of its channels is stored
with one Huffman code per channel, and repetitions as runs. The picture is cut into strips of rows whose bits
are written side by side and joined. Source: RFC 9649, "WebP Image Format", section 3.
"""

from __future__ import annotations

import heapq
import struct

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.jit import inner_kernel, parallel_kernel

LARGEST = 1 << 14
"""Pixels along a side."""

_SELECT = 11  # the predictor: left or above, whichever is more like what the gradient says
_BLOCK_BITS = 9  # the largest blocks of one predictor there are
_STRIP = 1 << 15  # pixels in a strip, about
_SHORTEST_RUN, _LONGEST_RUN = 4, 4096
_LENGTHS = 256  # symbols of green from here on are lengths of runs
_ALPHABETS = (256 + 24, 256, 256, 256, 40)  # green and lengths, red, blue, alpha, distances
_PIXEL_BEFORE = 1  # the symbol of the distance to the pixel on the left
_LONGEST_CODE, _LONGEST_LENGTH_CODE = 15, 7
_LENGTH_CODE_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)


def encode_webp_lossless(pixels: NDArray[np.uint8]) -> bytes:
    """A WebP file that holds exactly these pixels.

    Parameters
    ----------
    pixels : uint8 (h, w, 1 to 4): grey, grey and alpha, RGB, RGBA.

    Raises
    ------
    AssetError : another shape or type, or more than :data:`LARGEST` pixels along a side.
    """
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or not 1 <= pixels.shape[2] <= 4 or 0 in pixels.shape:
        raise AssetError(f"an image is {pixels.dtype} {pixels.shape}; expected uint8 (h, w, 1 to 4)")
    height, width, channels = pixels.shape
    if max(height, width) > LARGEST:
        raise AssetError(f"WebP holds at most {LARGEST} pixels along a side, not {max(height, width)}")
    is_grey = channels < 3
    rest = _residuals(np.require(pixels, requirements=["C", "W"]), is_grey)
    rows = max(1, _STRIP // width)
    bounds = np.minimum(np.arange(0, height + rows, rows), height).astype(np.int64) * width
    counts, extra = _count(rest.reshape(-1, 4), rest.view(np.uint32).reshape(-1), bounds)

    head = _Bits()
    head.add(0x2F, 8)
    head.add(width - 1, 14)
    head.add(height - 1, 14)
    head.add(int(channels in (2, 4) and bool((pixels[..., -1] < 255).any())), 1)
    head.add(0, 3)
    if is_grey:  # red and blue less green
        head.add(0b101, 3)
    head.add(0b001, 3)  # prediction, by an image of one colour
    head.add(_BLOCK_BITS - 2, 3)
    head.add(0, 1)
    for symbol in (_SELECT, 0, 0, 255, 0):
        head.add_code(_code_lengths(_one_hot(symbol), _LONGEST_CODE))
    head.add(0b000, 3)  # no more transforms, no cache of colours, the same codes everywhere
    lengths, codes = np.zeros((4, 280), np.int64), np.zeros((4, 280), np.int64)
    for channel in range(4):
        total = counts[:, channel, : _ALPHABETS[channel]].sum(axis=0)
        own = _code_lengths(total, _LONGEST_CODE)
        head.add_code(own)
        if (own > 0).sum() > 1:  # the only symbol of a code takes no bits
            lengths[channel, : len(own)], codes[channel, : len(own)] = own, _canonical_codes(own)
    head.add_code(_code_lengths(_one_hot(_PIXEL_BEFORE), _LONGEST_CODE))

    sizes = (counts * lengths).sum(axis=(1, 2)) + extra
    begins = head.count + np.concatenate([[0], np.cumsum(sizes)])
    # Words that two strips share are written by both, one after the other.
    first = begins // 64 + np.arange(len(begins))
    words = np.zeros(int(first[-1]) + 1, np.uint64)
    _write(
        rest.reshape(-1, 4),
        rest.view(np.uint32).reshape(-1),
        bounds,
        codes,
        lengths,
        first,
        begins % 64,
        words,
    )
    stream = np.zeros(int(begins[-1]) // 64 + 1, np.uint64)
    for word, bits in enumerate(head.words()):
        stream[word] |= np.uint64(bits)
    for strip in range(len(bounds) - 1):
        begin = int(begins[strip]) // 64
        part = words[first[strip] : first[strip + 1]]
        stream[begin : begin + len(part)] |= part
    data = stream.astype("<u8").tobytes()[: (int(begins[-1]) + 7) // 8]
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


class _Bits:
    """A few bits, the lowest first."""

    def __init__(self) -> None:
        self.value, self.count = 0, 0

    def add(self, value: int, count: int) -> None:
        self.value |= value << self.count
        self.count += count

    def words(self) -> list[int]:
        return [self.value >> shift & (2**64 - 1) for shift in range(0, self.count, 64)]

    def add_code(self, lengths: NDArray[np.int64]) -> None:
        """How long the code of each symbol is."""
        used = np.flatnonzero(lengths)
        if len(used) <= 2 and used.max() < 256:
            self.add(1, 1)
            self.add(len(used) - 1, 1)
            self.add(1, 1)
            for symbol in used:
                self.add(int(symbol), 8)
            return
        self.add(0, 1)
        own = _code_lengths(np.bincount(lengths, minlength=19), _LONGEST_LENGTH_CODE)
        codes = _canonical_codes(own)
        self.add(len(_LENGTH_CODE_ORDER) - 4, 4)
        for place in _LENGTH_CODE_ORDER:
            self.add(int(own[place]), 3)
        self.add(0, 1)
        if (own > 0).sum() > 1:
            for length in lengths:
                self.add(int(codes[length]), int(own[length]))


def _one_hot(symbol: int) -> NDArray[np.int64]:
    counts = np.zeros(256, np.int64)
    counts[symbol] = 1
    return counts


def _code_lengths(counts: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """Lengths of a Huffman code, 0 for symbols that do not occur; 1 for a single one."""
    weights = counts.copy()
    if not weights.any():
        weights[0] = 1
    while True:
        lengths = np.zeros(len(weights), np.int64)
        heap = [(int(weights[symbol]), int(symbol), [int(symbol)]) for symbol in np.flatnonzero(weights)]
        if len(heap) == 1:
            lengths[heap[0][1]] = 1
            return lengths
        heapq.heapify(heap)
        while len(heap) > 1:
            one, two = heapq.heappop(heap), heapq.heappop(heap)
            both = one[2] + two[2]
            lengths[both] += 1
            heapq.heappush(heap, (one[0] + two[0], min(one[1], two[1]), both))
        if lengths.max() <= longest:
            return lengths
        weights = (weights + 1) // 2 + (weights > 0)  # flatter: a little longer, less deep


def _canonical_codes(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bits of each symbol's code, the first one lowest."""
    codes = np.zeros(len(lengths), np.int64)
    code, before = 0, 0
    for symbol in np.argsort(lengths, kind="stable"):
        length = int(lengths[symbol])
        if length:
            code <<= length - before
            codes[symbol] = int(f"{code:0{length}b}"[::-1], 2)
            code, before = code + 1, length
    return codes


@parallel_kernel
def _residuals(pixels: NDArray[np.uint8], is_grey: bool) -> NDArray[np.uint8]:
    """Green, red, blue and alpha (h, w, 4) less their prediction, red and blue of grey less green before."""
    height, width = pixels.shape[:2]
    rest = np.empty((height, width, 4), np.uint8)
    for row in prange(height):
        left, above = np.zeros(4, np.int64), np.zeros(4, np.int64)
        corner, here = np.zeros(4, np.int64), np.zeros(4, np.int64)
        for column in range(width):
            _fetch(pixels, row, column, is_grey, here)
            if row > 0:
                _fetch(pixels, row - 1, column, is_grey, above)
            from_left, from_above = 0, 0
            for c in range(4):
                from_left += abs(above[c] - corner[c])
                from_above += abs(left[c] - corner[c])
            takes_left = row == 0 or (column > 0 and from_left < from_above)
            for c in range(4):
                guess = left[c] if takes_left else above[c]
                if row == 0 and column == 0:
                    guess = 255 if c == 3 else 0
                rest[row, column, c] = (here[c] - guess) & 255
                left[c], corner[c] = here[c], above[c]
    return rest


@inner_kernel
def _fetch(pixels: NDArray[np.uint8], row: int, column: int, is_grey: bool, out: NDArray[np.int64]) -> None:
    channels = pixels.shape[2]
    out[0] = pixels[row, column, 0 if is_grey else 1]
    out[1] = 0 if is_grey else pixels[row, column, 0]
    out[2] = 0 if is_grey else pixels[row, column, 2]
    out[3] = pixels[row, column, channels - 1] if channels == 2 or channels == 4 else 255


@inner_kernel
def _run_at(same: NDArray[np.uint32], at: int, first: int, end: int) -> int:
    """How many pixels from there on are like the one before; 0 if too few."""
    if at == first:
        return 0
    stop = at
    while stop < min(end, at + _LONGEST_RUN) and same[stop] == same[at - 1]:
        stop += 1
    return stop - at if stop - at >= _SHORTEST_RUN else 0


@inner_kernel
def _length_symbol(length: int) -> tuple[int, int]:
    """The symbol of a run's length after the first one, and how many bits follow it."""
    if length <= 4:
        return length - 1, 0
    high = int(np.log2(length - 1))
    return 2 * high + ((length - 1) >> (high - 1) & 1), high - 1


@parallel_kernel
def _count(
    rest: NDArray[np.uint8], same: NDArray[np.uint32], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often each symbol occurs in each strip (s, 4, 280), and how many bits follow lengths (s,)."""
    counts = np.zeros((len(bounds) - 1, 4, 280), np.int64)
    extra = np.zeros(len(bounds) - 1, np.int64)
    for strip in prange(len(bounds) - 1):
        at = bounds[strip]
        while at < bounds[strip + 1]:
            run = _run_at(same, at, bounds[strip], bounds[strip + 1])
            if run:
                symbol, bits = _length_symbol(run)
                counts[strip, 0, _LENGTHS + symbol] += 1
                extra[strip] += bits
                at += run
            else:
                for c in range(4):
                    counts[strip, c, rest[at, c]] += 1
                at += 1
    return counts, extra


@parallel_kernel
def _write(
    rest: NDArray[np.uint8],
    same: NDArray[np.uint32],
    bounds: NDArray[np.int64],
    codes: NDArray[np.int64],
    lengths: NDArray[np.int64],
    first: NDArray[np.int64],
    shift: NDArray[np.int64],
    words: NDArray[np.uint64],
) -> None:
    """The bits of each strip, from bit ``shift`` of word ``first`` on."""
    for strip in prange(len(bounds) - 1):
        word, held = first[strip], shift[strip]
        buffer = np.uint64(0)
        at = bounds[strip]
        while at < bounds[strip + 1]:
            run = _run_at(same, at, bounds[strip], bounds[strip + 1])
            value, count = np.uint64(0), np.int64(0)
            if run:
                symbol, bits = _length_symbol(run)
                value, count = np.uint64(codes[0, _LENGTHS + symbol]), lengths[0, _LENGTHS + symbol]
                value |= np.uint64((run - 1) & ((1 << bits) - 1)) << np.uint64(count)
                count += bits
                at += run
            else:
                for c in range(4):
                    value |= np.uint64(codes[c, rest[at, c]]) << np.uint64(count)
                    count += lengths[c, rest[at, c]]
                at += 1
            buffer |= value << np.uint64(held)
            if held + count >= 64:
                words[word] = buffer
                word += 1
                buffer = value >> np.uint64(64 - held) if held > 0 else np.uint64(0)
                held -= 64
            held += count
        words[word] = buffer
