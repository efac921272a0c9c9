"""Weights from the host, or straight from a mapped file, to a device."""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

log = logging.getLogger(__name__)

STAGED_BYTES = 1 << 23
"""Size of each page-locked buffer that weights go through on their way to a CUDA device."""

WORKERS = 8
"""Threads that fill them, one each: about as many cores as it takes to keep up with the bus. Where there are
fewer, some threads fill while others wait for what they sent."""

CONVERTED_BYTES = 1 << 27
"""About how much lies on the device in the file's dtype at once, where that is not the wanted one."""

ALIGNMENT = 512
"""Bytes; what PyTorch's own allocator gives a tensor."""

_one_at_a_time = threading.Lock()


def uploaded(
    values: Mapping[str, Tensor], device: torch.device | str, dtypes: Mapping[str, torch.dtype]
) -> dict[str, Tensor]:
    """Tensors of the host on a device, each in its dtype; those that are there already as they are.

    CUDA copies from ordinary memory at a few GB/s, and one core reads not much faster. Here several threads
    copy pieces into page-locked buffers, which leave for the device while others are filled; this counts
    where a memory budget has networks come and go. On CUDA, tensors that keep their dtype lie in one block,
    which takes one allocation in place of hundreds and is freed when the last of them is.

    Parameters
    ----------
    values : name -> tensor on the host.
    dtypes : name -> dtype on the device, for at least the names of ``values``.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return {key: value.to(device, dtypes[key]) for key, value in values.items()}
    # What is made under inference mode could not be written by the threads, which are outside of it.
    with _one_at_a_time, torch.inference_mode(False), torch.no_grad():
        return _staged(values, device, dtypes)


def _staged(
    values: Mapping[str, Tensor], device: torch.device, dtypes: Mapping[str, torch.dtype]
) -> dict[str, Tensor]:
    there: dict[str, Tensor] = {}
    for group in _groups(values, dtypes):
        there |= {key: value.to(dtypes[key]) for key, value in _in_one_block(group, device).items()}
    return {key: there[key] for key in values}


def _groups(
    values: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype]
) -> Iterator[Mapping[str, Tensor]]:
    """All tensors that keep their dtype, then the others, a few at a time."""
    yield {key: value for key, value in values.items() if value.dtype == dtypes[key]}
    group: dict[str, Tensor] = {}
    size = 0
    for key, value in values.items():
        if value.dtype != dtypes[key]:
            group[key] = value
            size += value.nbytes
            if size >= CONVERTED_BYTES:
                yield group
                group, size = {}, 0
    yield group


def _in_one_block(values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Copies on the device that share one block of memory."""
    starts, total = [], 0
    for value in values.values():
        starts.append(total)
        total += -(-value.nbytes // ALIGNMENT) * ALIGNMENT
    block = torch.empty(total, dtype=torch.uint8, device=device)
    parts = [value.detach().contiguous().reshape(-1).view(torch.uint8).numpy() for value in values.values()]
    buffers = _buffers(device)
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
    pieces = range(0, total, STAGED_BYTES)

    def send(worker: int) -> None:
        buffer, sent = buffers[worker]
        filled = buffer.numpy()
        for first in pieces[worker :: len(buffers)]:
            last = min(first + STAGED_BYTES, total)
            sent.synchronize()
            _fill(filled, parts, starts, first, last)
            with torch.cuda.stream(stream):  # type: ignore[arg-type]
                block[first:last].copy_(buffer[: last - first], non_blocking=True)
                sent.record()

    with ThreadPoolExecutor(len(buffers)) as pool:
        list(pool.map(send, range(len(buffers))))
    # ``.data``: as views they would have one version in common, and autograd would take a step of one
    # parameter for a change of all.
    return {
        key: block[start : start + value.nbytes].view(value.dtype).view(value.shape).data
        for (key, value), start in zip(values.items(), starts, strict=True)
    }


def _fill(
    buffer: NDArray[np.uint8], parts: list[NDArray[np.uint8]], starts: list[int], first: int, last: int
) -> None:
    """Bytes ``first`` to ``last`` of the block; where no part is, anything."""
    for i in range(max(0, bisect_right(starts, first) - 1), bisect_right(starts, last - 1)):
        begin, end = max(first, starts[i]), min(last, starts[i] + len(parts[i]))
        if begin < end:
            # NumPy copies on this thread alone, and lets others run meanwhile.
            np.copyto(buffer[begin - first : end - first], parts[i][begin - starts[i] : end - starts[i]])


@cache
def _buffers(device: torch.device) -> list[tuple[Tensor, Any]]:
    """One buffer for each thread, with an event after the last copy out of it."""
    with torch.cuda.device(device):
        # Blocking: threads that wait must not take the cores from those that fill.
        events = [torch.cuda.Event(blocking=True) for _ in range(WORKERS)]
        try:
            memory = [torch.empty(STAGED_BYTES, dtype=torch.uint8, pin_memory=True) for _ in events]
        except RuntimeError as error:
            # From ordinary memory the same copies are slower, and right as well.
            log.info("no page-locked memory for weights on their way to %s: %s", device, error)
            memory = [torch.empty(STAGED_BYTES, dtype=torch.uint8) for _ in events]
    return list(zip(memory, events, strict=True))
