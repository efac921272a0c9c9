"""How this package compiles its CPU kernels with numba.

Compiled code is cached on disk beside the source. numba notices a change in the file of a kernel but
not in another file whose kernels it calls: after editing a shared kernel, ``make clean-cache``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from numba import get_num_threads, njit, set_num_threads

F = TypeVar("F", bound=Callable[..., Any])

WORTH_WAKING = 1 << 16
"""Items of a short loop, below which one thread is done before many have been woken."""


def kernel(function: F) -> F:
    """A function compiled on its own, single-threaded."""
    return njit(cache=True)(function)


def parallel_kernel(function: F) -> F:
    """A function whose ``prange`` loops run on all cores."""
    return njit(cache=True, parallel=True)(function)


def inner_kernel(function: F) -> F:
    """A small function for the inner loops of other kernels; it must not allocate.

    Inlined, and without reference counting of its array arguments: numba counts every array of every
    named tuple on entry with atomic operations, which made a texture look-up seven times slower.
    """
    return njit(cache=True, forceinline=True, _nrt=False)(function)


@contextmanager
def threads_for(items: int) -> Iterator[None]:
    """Run parallel kernels on one thread inside where there are only a few ``items`` of little work each."""
    before = get_num_threads()
    if items < WORTH_WAKING:
        set_num_threads(1)
    try:
        yield
    finally:
        set_num_threads(before)
