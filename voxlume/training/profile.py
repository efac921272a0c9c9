"""Where the time of a few training steps goes, as a table in ``profile.txt``."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity

from voxlume.files import atomic_write

NAME = "profile.txt"

AFTER = 20
"""Steps that pass before the profiled ones: kernels are compiled and memory is at hand by then."""

ROWS = 40


class StepProfile:
    """Watches the steps of a run and writes the table once enough of them are seen.

    Parameters
    ----------
    steps : how many to watch; 0 watches nothing.
    first : number of the run's first step.
    """

    def __init__(self, steps: int, first: int, folder: Path, device: torch.device) -> None:
        self.start, self.end = first + AFTER, first + AFTER + steps
        self.path, self.device = folder / NAME, device
        self._profiler: torch.profiler.profile | None = None
        self._began = 0.0

    def before(self, step: int) -> None:
        """To be called before every step, with its number."""
        if self.start == self.end:
            return
        if step == self.start:
            activities = [ProfilerActivity.CPU]
            if self.device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            self._wait()
            self._profiler = torch.profiler.profile(activities=activities)
            self._profiler.start()
            self._began = time.perf_counter()
        elif step == self.end and self._profiler is not None:
            self._wait()
            seconds = time.perf_counter() - self._began
            self._profiler.stop()
            kind = "cuda" if self.device.type == "cuda" else "cpu"
            table = self._profiler.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=ROWS)
            steps = self.end - self.start
            head = f"{steps} steps, {1000 * seconds / steps:.1f} ms a step while watched\n"
            with atomic_write(self.path) as file:
                file.write((head + table).encode())
            self._profiler = None

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
