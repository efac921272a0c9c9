"""Progress and cancellation, the same for every long piece of work.

A function that may take over a second accepts ``progress``, a callable ``(done, total, what)`` that
returns True to go on and False to stop; stopping raises :class:`voxlume.errors.Cancelled`.
"""

from __future__ import annotations

from collections.abc import Callable

from voxlume.errors import Cancelled

Progress = Callable[[int, int, str], bool]
"""``(done, total, what)`` -> go on? ``what`` is a short phrase such as ``"voxelising"``."""


def report(progress: Progress | None, done: int, total: int, what: str) -> None:
    """Tell the callback, if there is one, and stop the work if it says so.

    Raises
    ------
    Cancelled : the callback returned False.
    """
    if progress is not None and not progress(done, total, what):
        raise Cancelled(f"stopped while {what} ({done} of {total})")
