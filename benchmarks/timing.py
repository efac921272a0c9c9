"""Timing on the device's own clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch


def milliseconds(work: Callable[[], object], device: torch.device, seconds: float = 0.05) -> float:
    """Median time of one warm call in milliseconds: CUDA events on a GPU, the wall clock elsewhere.

    A GPU rests a moment first and then works for about ``seconds``: under matrix products it throttles
    itself by 10 to 15 % within half a second, so bursts and sustained work are two different numbers.
    """
    work()
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    runs = max(5, min(500, int(seconds / (time.perf_counter() - start))))
    if device.type != "cuda":
        return statistics.median(_wall(work) for _ in range(runs)) * 1e3
    time.sleep(0.1)
    for _ in range(3):
        work()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    _wait(device)
    return statistics.median(a.elapsed_time(b) for a, b in pairwise(marks))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _wall(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
