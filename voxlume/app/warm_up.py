"""``voxlume warm-up``: compile everything now."""

from __future__ import annotations

from dataclasses import dataclass

from voxlume.app.console import progress_bar, say


@dataclass
class WarmUp:
    """Compile what generating, decoding and drawing need, so that the first result does not wait for it."""

    def run(self) -> None:
        import time

        from voxlume.pipelines.warm_up import warm_up

        began = time.perf_counter()
        with progress_bar() as progress:
            warm_up(progress)
        say(f"ready after {time.perf_counter() - began:.0f} s")
