"""Weights from the host, or straight from a mapped file, to a device."""

from __future__ import annotations

import threading
from functools import cache

import torch
from torch import Tensor

STAGED_BYTES = 1 << 26
"""Size of each of the two page-locked buffers that weights go through on their way to a CUDA device."""

_one_at_a_time = threading.Lock()


def uploaded(value: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """A tensor on a device, in a dtype; the tensor itself if it is both already.

    CUDA copies from ordinary memory at a few GB/s. Copied piece by piece into one page-locked buffer while
    the other is on its way, weights arrive several times as fast, which counts where a memory budget has
    networks come and go.
    """
    device = torch.device(device)
    if device.type != "cuda" or value.device.type != "cpu":
        return value.to(device, dtype)
    there = torch.empty(value.shape, dtype=value.dtype, device=device)
    if value.numel() * value.element_size() < STAGED_BYTES // 64:
        there.copy_(value)
    else:
        with _one_at_a_time:
            _stage(value.contiguous(), there)
    return there.to(dtype)


def _stage(value: Tensor, there: Tensor) -> None:
    source, target = value.reshape(-1).view(torch.uint8), there.reshape(-1).view(torch.uint8)
    buffers = _buffers(there.device)
    for i, first in enumerate(range(0, len(source), STAGED_BYTES)):
        buffer, free = buffers[i % 2]
        free.synchronize()
        piece = source[first : first + STAGED_BYTES]
        buffer[: len(piece)].copy_(piece)
        target[first : first + len(piece)].copy_(buffer[: len(piece)], non_blocking=True)
        free.record(torch.cuda.current_stream(there.device))


@cache
def _buffers(device: torch.device) -> list[tuple[Tensor, torch.cuda.Event]]:
    """Two buffers, each with an event after the last copy out of it."""
    with torch.cuda.device(device):
        return [
            (torch.empty(STAGED_BYTES, dtype=torch.uint8, pin_memory=True), torch.cuda.Event())
            for _ in range(2)
        ]
