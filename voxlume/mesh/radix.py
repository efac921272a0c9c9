"""Sorting integers on all cores: a stable order is unique, so it does not depend on how many there are."""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from voxlume.jit import parallel_kernel

_DIGIT_BITS = 11
_SMALL = 1 << 15  # keys, below which NumPy is faster
_FEW = 4  # threads, below which NumPy is, because it gains from runs that are in order already


def stable_order(keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """The order int64 (n,) that sorts keys (n,), none of them negative; equal ones stay in their order."""
    if len(keys) < _SMALL or get_num_threads() < _FEW:
        return np.argsort(keys, kind="stable")
    return radix_order(keys)


def radix_order(keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """The same as ``np.argsort(keys, kind="stable")``, by digits of 11 bits, the lowest first."""
    n = len(keys)
    bits = int(keys.max()).bit_length()
    values: NDArray[np.unsignedinteger] = keys.astype(np.uint32) if bits <= 32 else keys.astype(np.uint64)
    order = np.arange(n)
    parts = get_num_threads()
    bounds = np.linspace(0, n, parts + 1).astype(np.int64)
    next_values, next_order = np.empty_like(values), np.empty_like(order)
    for shift in range(0, bits, _DIGIT_BITS):
        _sort_by_digit(values, order, shift, bounds, next_values, next_order)
        values, next_values = next_values, values
        order, next_order = next_order, order
    return order


def float_keys(values: NDArray[np.floating]) -> NDArray[np.int32]:
    """Integers in the order of values (n,), none of them negative, rounded to float32."""
    return (values.astype(np.float32) + np.float32(0)).view(np.int32)


def run_starts(keys: NDArray[np.integer], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs of equal keys (n,) begin in an order that sorts them, then n: int64 (r + 1,)."""
    parts = get_num_threads()
    return _run_starts(keys, order, np.arange(parts + 1) * len(order) // parts)


@parallel_kernel
def _run_starts(
    keys: NDArray[np.integer], order: NDArray[np.int64], bounds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The same; ``bounds`` share the work."""
    first = np.zeros(len(bounds), np.int64)
    for part in prange(len(bounds) - 1):
        count = 0
        for i in range(bounds[part], bounds[part + 1]):
            if i == 0 or keys[order[i]] != keys[order[i - 1]]:
                count += 1
        first[part + 1] = count
    for part in range(len(bounds) - 1):
        first[part + 1] += first[part]
    starts = np.empty(first[-1] + 1, np.int64)
    starts[-1] = len(order)
    for part in prange(len(bounds) - 1):
        at = first[part]
        for i in range(bounds[part], bounds[part + 1]):
            if i == 0 or keys[order[i]] != keys[order[i - 1]]:
                starts[at] = i
                at += 1
    return starts


@parallel_kernel
def _sort_by_digit(
    values: NDArray[np.unsignedinteger],
    order: NDArray[np.int64],
    shift: int,
    bounds: NDArray[np.int64],
    next_values: NDArray[np.unsignedinteger],
    next_order: NDArray[np.int64],
) -> None:
    digits = 1 << _DIGIT_BITS
    counts = np.zeros((len(bounds) - 1, digits), np.int64)
    for part in prange(len(bounds) - 1):
        for i in range(bounds[part], bounds[part + 1]):
            counts[part, (np.uint64(values[i]) >> np.uint64(shift)) & np.uint64(digits - 1)] += 1
    total = 0
    for digit in range(digits):
        for part in range(len(bounds) - 1):
            found = counts[part, digit]
            counts[part, digit] = total
            total += found
    for part in prange(len(bounds) - 1):
        for i in range(bounds[part], bounds[part + 1]):
            here = (np.uint64(values[i]) >> np.uint64(shift)) & np.uint64(digits - 1)
            place = counts[part, here]
            counts[part, here] = place + 1
            next_values[place] = values[i]
            next_order[place] = order[i]
