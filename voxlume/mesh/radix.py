"""Sorting integers on all cores: a stable order is unique, so it does not depend on how many there are."""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from voxlume.jit import kernel, parallel_kernel

_DIGIT_BITS = 12  # at most
_SMALL = 1 << 11  # keys, below which NumPy is faster
_RUN = 16  # keys in order one after another, from which on NumPy is faster: it merges runs
_PART = 1 << 15  # keys of a thread, at least: every further one has to be told what the others have counted


def stable_order(keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """The order int64 (n,) that sorts keys (n,), none of them negative; equal ones stay in their order."""
    if len(keys) >= _SMALL and np.count_nonzero(keys[1:] < keys[:-1]) * _RUN > len(keys):
        return radix_order(keys)
    return np.argsort(keys, kind="stable")


def radix_order(keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """The same as ``np.argsort(keys, kind="stable")``, by digits of up to 12 bits, the lowest first."""
    n = len(keys)
    bits = int(keys.max()).bit_length()
    values: NDArray[np.unsignedinteger] = keys.astype(np.uint32) if bits <= 32 else keys.astype(np.uint64)
    order = np.arange(n)
    parts = min(get_num_threads(), n // _PART)
    bounds = np.linspace(0, n, max(parts, 1) + 1).astype(np.int64)
    next_values, next_order = np.empty_like(values), np.empty_like(order)
    rounds = -(-bits // _DIGIT_BITS)
    for i in range(rounds):
        low, high = i * bits // rounds, (i + 1) * bits // rounds
        if parts > 1:
            _sort_by_digit(values, order, low, 1 << (high - low), bounds, next_values, next_order)
        else:
            _sort_by_digit_alone(values, order, low, 1 << (high - low), next_values, next_order)
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
    digits: int,
    bounds: NDArray[np.int64],
    next_values: NDArray[np.unsignedinteger],
    next_order: NDArray[np.int64],
) -> None:
    """One pass; ``bounds`` share the work."""
    counts = np.zeros((len(bounds) - 1, digits), np.int32)
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


@kernel
def _sort_by_digit_alone(
    values: NDArray[np.unsignedinteger],
    order: NDArray[np.int64],
    shift: int,
    digits: int,
    next_values: NDArray[np.unsignedinteger],
    next_order: NDArray[np.int64],
) -> None:
    """One pass on one thread, without the cost of starting others."""
    place = np.zeros(digits + 1, np.int64)
    for value in values:
        place[((np.uint64(value) >> np.uint64(shift)) & np.uint64(digits - 1)) + np.uint64(1)] += 1
    for digit in range(digits):
        place[digit + 1] += place[digit]
    for i in range(len(values)):
        here = (np.uint64(values[i]) >> np.uint64(shift)) & np.uint64(digits - 1)
        next_values[place[here]] = values[i]
        next_order[place[here]] = order[i]
        place[here] += 1
