"""Decode ETC1S textures with BasisLZ supercompression, as KTX 2.0 files carry them.

Source: KTX File Format Specification 2.0, appendices "BasisLZ Global Data" and "BasisLZ/ETC1S
Bitstream", and the Khronos Data Format Specification, section ETC1S. Every block of 4 x 4 texels names
one entry of a codebook of endpoints (a colour and a contrast) and one of a codebook of selectors.
"""

from __future__ import annotations

import struct

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.errors import AssetError

# ETC1 modifiers a and b per intensity index; selectors 0 to 3 mean -b, -a, +a, +b.
_MODIFIERS = np.array([(2, 8), (5, 17), (9, 29), (13, 42), (18, 60), (24, 80), (33, 106), (47, 183)])
_STEPS = np.stack([-_MODIFIERS[:, 1], -_MODIFIERS[:, 0], _MODIFIERS[:, 0], _MODIFIERS[:, 1]], axis=1)

_CODE_LENGTH_ORDER = np.array([17, 18, 19, 20, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15, 16])
_LONGEST_CODE = 16
_REPEAT_PREDICTION = 256  # the symbol after the 4^4 combinations of four predictions
_LONG_RUN = 63

_HEADER = struct.Struct("<HHIIII")
_IMAGE = struct.Struct("<IIIII")


def decode_etc1s(
    global_data: bytes, num_images: int, level: bytes, width: int, height: int, second: int = 3
) -> NDArray[np.uint8]:
    """The first image of a file.

    Parameters
    ----------
    global_data : the file's supercompression global data.
    num_images : how many images the file holds in all its levels.
    level : bytes of the mip level that holds the first image.
    width, height : size of the image in texels; the caller has judged it.
    second : the channel that the second slice fills, if there is one.

    Returns
    -------
    uint8 (height, width, 4): red, green and blue of the first slice, alpha 255 where nothing else is said.

    Raises
    ------
    AssetError : the data are damaged.
    """
    (endpoint_count, selector_count, *section_lengths), images_at = _parse_header(global_data, num_images)
    sections, at = [], images_at + num_images * _IMAGE.size
    for length in section_lengths[:3]:
        sections.append(np.frombuffer(global_data, np.uint8, length, at))
        at += length
    ok, endpoints = _read_endpoints(sections[0], endpoint_count)
    if not ok:
        raise _damaged("the endpoint codebook")
    ok, selectors = _read_selectors(sections[1], selector_count)
    if not ok:
        raise _damaged("the selector codebook")
    palette = _palette(endpoints)
    image = np.full((height, width, 4), 255, np.uint8)
    blocks = np.empty(((height + 3) // 4, (width + 3) // 4, 2), np.int32)
    for i, (offset, length) in enumerate(_slice_ranges(global_data, images_at, len(level))):
        stream = np.frombuffer(level, np.uint8, length, offset)
        if not _read_blocks(stream, sections[2], endpoint_count, selector_count, blocks):
            raise _damaged("a slice")
        channels = (0, 3) if i == 0 else (second, second + 1)
        _paint(blocks, palette, selectors, image, *channels)
    return image


def _damaged(what: str) -> AssetError:
    return AssetError(f"a KTX2 texture (ETC1S) is damaged in {what}; export the file again")


def _parse_header(data: bytes, num_images: int) -> tuple[tuple[int, ...], int]:
    if len(data) < _HEADER.size:
        raise _damaged("its global data")
    fields = _HEADER.unpack_from(data)
    if len(data) != _HEADER.size + num_images * _IMAGE.size + sum(fields[2:]) or 0 in fields[:2]:
        raise _damaged("its global data")
    return fields, _HEADER.size


def _slice_ranges(data: bytes, at: int, level_length: int) -> list[tuple[int, int]]:
    flags, *ranges = _IMAGE.unpack_from(data, at)
    found = [(ranges[0], ranges[1])] + ([(ranges[2], ranges[3])] if ranges[3] else [])
    if flags & 2 or any(length == 0 or offset + length > level_length for offset, length in found):
        raise _damaged("its list of images")
    return found


def _palette(endpoints: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 4, 3) colours by selector, of (n, 4) endpoints: intensity index and 5-bit RGB."""
    base = endpoints[:, 1:].astype(np.int64)
    base = base << 3 | base >> 2
    return np.clip(base[:, None, :] + _STEPS[endpoints[:, 0]][:, :, None], 0, 255).astype(np.uint8)


# Bit reader. A cursor is int64 (2,): the next bit, least significant first, and a mark for failure.


@njit(cache=True, nogil=True)
def _bits(stream: NDArray[np.uint8], cursor: NDArray[np.int64], count: int) -> int:
    if cursor[0] + count > 8 * len(stream):
        cursor[1] = 1
        return 0
    value = 0
    for i in range(count):
        bit = cursor[0] + i
        value |= ((int(stream[bit >> 3]) >> (bit & 7)) & 1) << i
    cursor[0] += count
    return value


@njit(cache=True, nogil=True)
def _variable_length(stream: NDArray[np.uint8], cursor: NDArray[np.int64], chunk: int) -> int:
    """A number in chunks of ``chunk`` bits, each led (at its top) by a bit that says whether more come."""
    value = 0
    for shift in range(0, 32, chunk):
        part = _bits(stream, cursor, chunk + 1)
        value |= (part & ((1 << chunk) - 1)) << shift
        if part >> chunk == 0:
            return value
    cursor[1] = 1
    return 0


@njit(cache=True, nogil=True)
def _canonical(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Canonical Huffman code as number of codes per length and symbols in order of their codes.

    A code that is over-subscribed, so cannot be decoded, comes back empty.
    """
    counts = np.zeros(_LONGEST_CODE + 1, np.int64)
    for length in lengths:
        counts[length] += 1
    counts[0] = 0
    free = 1
    for length in range(1, _LONGEST_CODE + 1):
        free = 2 * free - counts[length]
        if free < 0:
            return np.zeros(_LONGEST_CODE + 1, np.int64), np.zeros(0, np.int64)
    starts = np.zeros(_LONGEST_CODE + 2, np.int64)
    for length in range(1, _LONGEST_CODE + 1):
        starts[length + 1] = starts[length] + counts[length]
    symbols = np.zeros(starts[_LONGEST_CODE + 1], np.int64)
    for symbol, length in enumerate(lengths):
        if length:
            symbols[starts[length]] = symbol
            starts[length] += 1
    return counts, symbols


@njit(cache=True, nogil=True)
def _symbol(
    stream: NDArray[np.uint8], cursor: NDArray[np.int64], table: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> int:
    counts, symbols = table
    code = first = index = 0
    for length in range(1, _LONGEST_CODE + 1):
        code = code << 1 | _bits(stream, cursor, 1)
        if code - first < counts[length]:
            return symbols[index + code - first]
        index += counts[length]
        first = (first + counts[length]) << 1
    cursor[1] = 1
    return 0


@njit(cache=True, nogil=True)
def _read_table(
    stream: NDArray[np.uint8], cursor: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A Huffman table as the file stores it: its code lengths, run-length and Huffman coded."""
    lengths = np.zeros(_bits(stream, cursor, 14), np.int64)
    if len(lengths) == 0:
        return _canonical(lengths)
    helper_lengths = np.zeros(21, np.int64)
    helper_count = _bits(stream, cursor, 5)
    if helper_count < 1 or helper_count > 21:
        cursor[1] = 1
        return _canonical(helper_lengths)
    for i in range(helper_count):
        helper_lengths[_CODE_LENGTH_ORDER[i]] = _bits(stream, cursor, 3)
    helper = _canonical(helper_lengths)
    i = 0
    while i < len(lengths) and cursor[1] == 0:
        code = _symbol(stream, cursor, helper)
        if code <= 16:
            lengths[i] = code
            i += 1
            continue
        if code == 17:
            value, run = 0, 3 + _bits(stream, cursor, 3)
        elif code == 18:
            value, run = 0, 11 + _bits(stream, cursor, 7)
        else:
            value = lengths[i - 1] if i else 0
            run = 3 + _bits(stream, cursor, 2) if code == 19 else 7 + _bits(stream, cursor, 7)
            if value == 0:
                cursor[1] = 1
        if i + run > len(lengths):
            cursor[1] = 1
            break
        lengths[i : i + run] = value
        i += run
    return _canonical(lengths)


@njit(cache=True, nogil=True)
def _read_endpoints(stream: NDArray[np.uint8], count: int) -> tuple[bool, NDArray[np.uint8]]:
    """(count, 4) endpoints: intensity index 0 to 7, then red, green, blue of 5 bits."""
    cursor = np.zeros(2, np.int64)
    low = _read_table(stream, cursor)
    middle = _read_table(stream, cursor)
    high = _read_table(stream, cursor)
    intensity = _read_table(stream, cursor)
    grey = _bits(stream, cursor, 1) == 1
    endpoints = np.zeros((count, 4), np.uint8)
    previous = np.array([0, 16, 16, 16])
    for i in range(count):
        previous[0] = (previous[0] + _symbol(stream, cursor, intensity)) & 7
        for channel in range(1, 2 if grey else 4):
            value = previous[channel]
            if value < 10:
                delta = _symbol(stream, cursor, low)
            elif value < 22:
                delta = _symbol(stream, cursor, middle)
            else:
                delta = _symbol(stream, cursor, high)
            previous[channel] = (value + delta) & 31
        if grey:
            previous[2] = previous[3] = previous[1]
        for channel in range(4):
            endpoints[i, channel] = previous[channel]
        if cursor[1]:
            return False, endpoints
    return True, endpoints


@njit(cache=True, nogil=True)
def _read_selectors(stream: NDArray[np.uint8], count: int) -> tuple[bool, NDArray[np.uint8]]:
    """(count, 4) selectors: a byte per row of four texels, two bits each, the left one lowest."""
    cursor = np.zeros(2, np.int64)
    reserved = _bits(stream, cursor, 2)
    raw = _bits(stream, cursor, 1) == 1
    deltas = _canonical(np.zeros(0, np.int64)) if raw else _read_table(stream, cursor)
    selectors = np.zeros((count, 4), np.uint8)
    for i in range(count):
        for row in range(4):
            if raw or i == 0:
                value = _bits(stream, cursor, 8)
            else:
                value = (_symbol(stream, cursor, deltas) ^ int(selectors[i - 1, row])) & 255
            selectors[i, row] = value
        if cursor[1]:
            return False, selectors
    return reserved == 0, selectors


@njit(cache=True, nogil=True)
def _read_blocks(
    stream: NDArray[np.uint8],
    tables: NDArray[np.uint8],
    endpoint_count: int,
    selector_count: int,
    blocks: NDArray[np.int32],
) -> bool:
    """Fill blocks (rows, columns, 2) with endpoint and selector indices; False for a bad stream."""
    cursor = np.zeros(2, np.int64)
    prediction_table = _read_table(tables, cursor)
    endpoint_table = _read_table(tables, cursor)
    selector_table = _read_table(tables, cursor)
    run_table = _read_table(tables, cursor)
    history = np.zeros(_bits(tables, cursor, 13), np.int64)
    if cursor[1]:
        return False
    newest = len(history) // 2  # where the history takes its next entry: round its second half
    rows, columns, _ = blocks.shape
    below = np.zeros((columns + 1) // 2, np.int64)  # predictions for the odd row of each 2 x 2 group
    prediction = previous_prediction = prediction_run = selector_run = endpoint = 0
    cursor[0] = 0
    for y in range(rows):
        for x in range(columns):
            if x % 2 == 0:
                if y % 2 == 1:
                    prediction = below[x // 2]
                else:
                    if prediction_run > 0:
                        prediction_run -= 1
                        prediction = previous_prediction
                    else:
                        prediction = _symbol(stream, cursor, prediction_table)
                        if prediction == _REPEAT_PREDICTION:
                            prediction_run = _variable_length(stream, cursor, 4) + 2
                            prediction = previous_prediction
                        previous_prediction = prediction
                    below[x // 2] = prediction >> 4
            source = prediction & 3
            prediction >>= 2
            if (source == 0 and x == 0) or (source == 1 and y == 0) or (source == 2 and (x == 0 or y == 0)):
                return False
            if source == 1:
                endpoint = blocks[y - 1, x, 0]
            elif source == 2:
                endpoint = blocks[y - 1, x - 1, 0]
            elif source == 3:
                endpoint += _symbol(stream, cursor, endpoint_table)
                if endpoint >= endpoint_count:
                    endpoint -= endpoint_count
            if selector_run > 0:
                selector_run -= 1
                symbol = selector_count
            else:
                symbol = _symbol(stream, cursor, selector_table)
                if symbol == selector_count + len(history):
                    run = _symbol(stream, cursor, run_table)
                    selector_run = (_variable_length(stream, cursor, 7) if run == _LONG_RUN else run) + 2
                    symbol = selector_count
            if symbol < selector_count:
                selector = symbol
                if len(history):
                    history[newest] = selector
                    newest += 1
                    if newest == len(history):
                        newest = len(history) // 2
            else:
                place = symbol - selector_count
                if place >= len(history):
                    return False
                selector = history[place]
                # An entry that was used moves half way to the front.
                history[place] = history[place // 2]
                history[place // 2] = selector
            if cursor[1] or endpoint >= endpoint_count:
                return False
            blocks[y, x, 0], blocks[y, x, 1] = endpoint, selector
    return True


@njit(cache=True, nogil=True)
def _paint(
    blocks: NDArray[np.int32],
    palette: NDArray[np.uint8],
    selectors: NDArray[np.uint8],
    image: NDArray[np.uint8],
    first: int,
    end: int,
) -> None:
    """Fill the channels from ``first`` to before ``end`` of an image (h, w, 4)."""
    height, width, _ = image.shape
    for y in range(height):
        for x in range(width):
            endpoint, selector = blocks[y // 4, x // 4, 0], blocks[y // 4, x // 4, 1]
            level = (selectors[selector, y % 4] >> (2 * (x % 4))) & 3
            for channel in range(first, end):
                # What a slice for a single channel means is its green.
                image[y, x, channel] = palette[endpoint, level, channel if end == 3 else 1]
