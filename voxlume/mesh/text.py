"""Numbers in text files, for the compiled readers of OBJ, PLY, STL and OFF.

All functions work on the file's bytes (uint8 arrays), never read past ``end`` and never allocate.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

NEWLINE, RETURN, SPACE, TAB, HASH, SLASH = (ord(c) for c in "\n\r \t#/")
_MINUS, _PLUS, _POINT, _ZERO, _NINE = (ord(c) for c in "-+.09")
_UPPER_E, _LOWER_E = ord("E"), ord("e")
_WORDS = np.array([list(b"nan"), list(b"inf")], np.uint8)
_TENS = 10.0 ** np.arange(23)  # all exact in double precision
_MOST_DIGITS = 10**17


@njit(cache=True, nogil=True)
def is_blank(byte: int) -> bool:
    return byte in (SPACE, TAB, RETURN, 11, 12)


@njit(cache=True, nogil=True)
def skip_blanks(text: Bytes, at: int, end: int) -> int:
    """The next byte of the same line that is not blank, or where the line ends."""
    while at < end and is_blank(text[at]):
        at += 1
    return at


@njit(cache=True, nogil=True)
def skip_space(text: Bytes, at: int, end: int) -> int:
    """The next byte that is neither blank nor a line's end nor in a comment, over any number of lines."""
    while at < end:
        if text[at] == HASH:
            at = line_end(text, at, end)
        elif is_blank(text[at]) or text[at] == NEWLINE:
            at += 1
        else:
            return at
    return end


@njit(cache=True, nogil=True)
def line_end(text: Bytes, at: int, end: int) -> int:
    while at < end and text[at] != NEWLINE:
        at += 1
    return at


@njit(cache=True, nogil=True)
def skip_word(text: Bytes, at: int, end: int) -> int:
    while at < end and not is_blank(text[at]) and text[at] != NEWLINE:
        at += 1
    return at


@njit(cache=True, nogil=True)
def ends_number(text: Bytes, at: int, end: int) -> bool:
    """Whether a number may end before this byte."""
    return at >= end or is_blank(text[at]) or text[at] == NEWLINE or text[at] == HASH


@njit(cache=True, nogil=True)
def read_integer(text: Bytes, at: int, end: int) -> tuple[int, int]:
    """An integer of at most 15 digits and the position after it, -1 if there is none."""
    negative = at < end and text[at] == _MINUS
    if at < end and (negative or text[at] == _PLUS):
        at += 1
    start, value = at, 0
    while at < end and _ZERO <= text[at] <= _NINE:
        value = 10 * value + (int(text[at]) - _ZERO)
        at += 1
        if at - start > 15:
            return 0, -1
    if at == start:
        return 0, -1
    return (-value if negative else value), at


@njit(cache=True, nogil=True)
def read_number(text: Bytes, at: int, end: int) -> tuple[float, int]:
    """A decimal number, ``nan`` or ``inf`` and the position after it, -1 if there is none.

    Exact for up to 15 digits and exponents within 22, otherwise within a few units in the last place.
    """
    negative = at < end and text[at] == _MINUS
    if at < end and (negative or text[at] == _PLUS):
        at += 1
    mantissa = digits = exponent = 0
    while at < end and _ZERO <= text[at] <= _NINE:
        if mantissa < _MOST_DIGITS:
            mantissa = 10 * mantissa + (int(text[at]) - _ZERO)
        else:
            exponent += 1
        digits += 1
        at += 1
    if at < end and text[at] == _POINT:
        at += 1
        while at < end and _ZERO <= text[at] <= _NINE:
            if mantissa < _MOST_DIGITS:
                mantissa = 10 * mantissa + (int(text[at]) - _ZERO)
                exponent -= 1
            digits += 1
            at += 1
    if digits == 0:
        return _read_special(text, at, end, negative)
    if at < end and (text[at] == _LOWER_E or text[at] == _UPPER_E):
        power, at = read_integer(text, at + 1, end)
        if at < 0:
            return 0.0, -1
        exponent += power
    if not ends_number(text, at, end):
        return 0.0, -1
    value = _scale(float(mantissa), exponent)
    return (-value if negative else value), at


@njit(cache=True, nogil=True)
def _scale(value: float, exponent: int) -> float:
    if value == 0.0:
        return 0.0
    if -22 <= exponent < 0:
        return value / _TENS[-exponent]
    if 0 <= exponent <= 22:
        return value * _TENS[exponent]
    if exponent > 400:
        return np.inf
    if exponent < -400:
        return 0.0
    # In two steps, since a power below the smallest double times a mantissa may still be one.
    half = exponent // 2
    return value * 10.0**half * 10.0 ** (exponent - half)


@njit(cache=True, nogil=True)
def _read_special(text: Bytes, at: int, end: int, negative: bool) -> tuple[float, int]:
    """``nan`` or ``inf`` in any case, with whatever letters follow (``nan(ind)``, ``infinity``)."""
    for word in range(2):
        matches = at + 3 <= end
        for i in range(3):
            matches = matches and (int(text[at + i]) | 32) == _WORDS[word, i]
        if matches:
            value = np.nan if word == 0 else np.inf
            return (-value if negative else value), skip_word(text, at, end)
    return 0.0, -1


@njit(cache=True, nogil=True)
def count_words(text: Bytes, at: int, end: int) -> int:
    """Words from here to the end of the line or to a comment."""
    count = 0
    at = skip_blanks(text, at, end)
    while at < end and text[at] != NEWLINE and text[at] != HASH:
        count += 1
        at = skip_blanks(text, skip_word(text, at, end), end)
    return count


def line_number(text: Bytes, at: int) -> int:
    """Which line, counted from 1, a position lies in."""
    return int(np.count_nonzero(text[:at] == NEWLINE)) + 1
