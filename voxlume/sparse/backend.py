"""Which kernels run: Triton where it works, the plain PyTorch twins everywhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch

Kernels = Literal["auto", "reference"]
_choice: ContextVar[Kernels | None] = ContextVar("kernels", default=None)


@contextmanager
def kernels(choice: Kernels) -> Iterator[None]:
    """Within the block use the fast kernels where they work (``"auto"``) or only the twins.

    Outside such a block the environment variable ``VOXLUME_KERNELS`` decides, with the same words.
    """
    token = _choice.set(choice)
    try:
        yield
    finally:
        _choice.reset(token)


@cache
def triton_installed() -> bool:
    return find_spec("triton") is not None


def use_triton(device: torch.device, training: bool = False) -> bool:
    """Whether Triton kernels shall run on ``device``: allowed, installed, and right on this silicon.

    ``training`` asks for the kernels of the backward pass too.
    """
    choice = _choice.get() or os.environ.get("VOXLUME_KERNELS", "auto")
    if choice == "reference" or device.type != "cuda" or not triton_installed():
        return False
    from voxlume.sparse.selfcheck import kernels_are_right

    return kernels_are_right(device) and (not training or kernels_are_right(device, training=True))
