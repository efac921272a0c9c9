"""What all commands share: the progress bar, tables and the one line of an error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from voxlume.progress import Progress as Callback

_PATIENCE = 1.0
"""Seconds that work may take before a bar appears."""


@contextmanager
def progress_bar() -> Iterator[Callback]:
    """A progress callback that draws a bar on a terminal once the work has taken over a second.

    Piped or redirected, it stays silent. Ctrl-C ends the work through the usual KeyboardInterrupt.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, Any] = {}
    began = time.monotonic()

    def callback(done: int, total: int, what: str) -> bool:
        if console.is_terminal and time.monotonic() - began > _PATIENCE:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
                bar.start()
            bar.update(tasks[what], completed=done, total=total)
        return True

    try:
        yield callback
    finally:
        if tasks:
            bar.stop()


def show(facts: Mapping[str, Any], title: str, as_json: bool) -> None:
    """Print facts: a table for people, one JSON object for programs."""
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in facts.items():
        table.add_row(key.replace("_", " "), _plain(value))
    Console().print(table)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return (
            "\n".join(map(_plain, value))
            if value and isinstance(value[0], str)
            else ", ".join(map(_plain, value))
        )
    return str(value)


def say(line: str) -> None:
    """A line for the person at the terminal; kept off standard output, which may be a pipe."""
    print(line, file=sys.stderr)
