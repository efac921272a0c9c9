"""Which objects and which random numbers a step uses: functions of the seed and the step alone.

Nothing here has a state, so a resumed run goes on with exactly the same data and noise. Objects, batches
and random numbers are divided into lanes (see :class:`.config.LoopConfig`): object i is in lane i modulo the
number of lanes, and each lane draws by itself.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from voxlume.errors import VoxlumeError


class Order:
    """The order in which the lanes of one process go through the objects that it holds.

    Parameters
    ----------
    count : objects that this process holds; number j is object rank + j * processes of the whole set.
    per_lane : objects of a lane in a step.
    """

    def __init__(
        self, count: int, lanes: list[int], total_lanes: int, per_lane: int, processes: int, seed: int
    ) -> None:
        rank = lanes[0] % processes
        held = rank + processes * np.arange(count)
        self.lanes = lanes
        self.per_lane = per_lane
        self.seed = seed
        self._objects = [np.flatnonzero(held % total_lanes == lane) for lane in lanes]
        if not all(len(objects) for objects in self._objects):
            raise VoxlumeError(f"{count} training objects are too few for {len(lanes)} lanes")

    def objects(self, step: int) -> list[int]:
        """The objects of a step as numbers among those held, lane by lane; each lane shuffles every epoch."""
        chosen: list[int] = []
        for lane, objects in zip(self.lanes, self._objects, strict=True):
            first = step * self.per_lane
            for position in range(first, first + self.per_lane):
                epoch, place = divmod(position, len(objects))
                chosen.append(int(objects[_shuffle(len(objects), self.seed, lane, epoch)[place]]))
        return chosen

    def choices(self, step: int, count: int) -> list[int]:
        """For each object of a step a number below ``count``, drawn lane by lane."""
        chosen: list[int] = []
        for lane in self.lanes:
            random = np.random.default_rng(mixed_seed(self.seed, step, lane, 0x71E5))
            chosen += random.integers(count, size=self.per_lane).tolist()
        return chosen

    def generators(self, step: int, device: torch.device, stream: int = 0) -> list[torch.Generator]:
        """A generator for each lane, seeded for this step; ``stream`` tells uses within a step apart."""
        return [
            torch.Generator(device).manual_seed(mixed_seed(self.seed, step, lane, stream))
            for lane in self.lanes
        ]


def mixed_seed(*parts: int) -> int:
    """One 63-bit seed of several numbers."""
    low, high = np.random.SeedSequence(parts).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) & (2**63 - 1)


@lru_cache(maxsize=64)
def _shuffle(count: int, seed: int, lane: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng(mixed_seed(seed, lane, epoch, 0xE90C)).permutation(count)
