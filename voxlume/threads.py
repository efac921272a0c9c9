"""How the threads of OpenMP, which PyTorch and numba compute with, wait for one another."""

from __future__ import annotations

import os

SHORT_SPIN = "1000"
"""Rounds of the waiting loop before a thread sleeps: microseconds; GNU OpenMP's own are milliseconds."""


def sleep_while_waiting() -> None:
    """Let waiting threads sleep soon, for commands that share the machine with other programs.

    By default they hold their core for milliseconds. Where another program wants the core, the thread that
    is waited for does not get it, and networks of many small layers take up to fifteen times as long. Works
    only before PyTorch is imported, with GNU OpenMP (Linux), and unless the user has set a policy.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SHORT_SPIN)
