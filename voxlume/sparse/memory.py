"""How much temporary memory one operation may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_budget: ContextVar[float | None] = ContextVar("memory_budget", default=None)


@contextmanager
def memory_budget(gigabytes: float) -> Iterator[None]:
    """Within the block, operations split their work so that temporary buffers stay below this.

    Inputs, outputs and weights are not counted: they are the caller's.
    """
    token = _budget.set(gigabytes)
    try:
        yield
    finally:
        _budget.reset(token)


def rows_within_budget(bytes_per_row: int, device: torch.device) -> int:
    """How many rows to work on at once when each needs ``bytes_per_row`` of temporary memory; >= 256."""
    gigabytes = _budget.get()
    if gigabytes is None:
        # On a CPU small chunks stay in the cache; elsewhere large ones amortise the launches.
        gigabytes = 0.004 if device.type == "cpu" else 1.0
    return max(256, int(gigabytes * 1e9) // max(1, bytes_per_row))
