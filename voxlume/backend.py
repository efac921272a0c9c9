"""May fast GPU kernels run? What the user chose, and whether Triton is here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Literal

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


def twins_forced() -> bool:
    """Whether the user wants the plain PyTorch twins everywhere."""
    return (_choice.get() or os.environ.get("VOXLUME_KERNELS", "auto")) == "reference"


@cache
def triton_installed() -> bool:
    return find_spec("triton") is not None
