"""What the loop needs to know of a stage of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxlume.training.parallel import Processes


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step learns from.

    Attributes
    ----------
    objects, rows : how many objects, and voxels or tokens, are in it; for the log.
    content : what the stage makes of it.
    """

    objects: int
    rows: int
    content: Any


class Stage(nn.Module):
    """Networks that learn together, the data they learn from, and their losses.

    A subclass has its networks as submodules. The loop calls :meth:`prepare` ahead of time, on another
    stream than the rest, and then the module itself.
    """

    processes: Processes

    def prepare(self, step: int, lanes: int) -> Batch:
        """The batch of a step; the same for the same step and number of lanes, whatever happened before."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch: ``loss`` is to be minimised, the others are for the log."""
        raise NotImplementedError

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Measures on held-out data, the same data each time; empty without such data."""
        return {}

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Write a picture of what the networks make of held-out data."""

    def start(self, loaded: bool) -> None:
        """Told once before a new run; ``loaded`` says that weights of an earlier one have been taken over."""

    def begin(self, fraction: float) -> None:
        """Told before every step which fraction of the budget is used."""

    def trained(self) -> Sequence[nn.Parameter]:
        """The parameters that learn."""
        return [p for p in self.parameters() if p.requires_grad]

    def networks(self) -> dict[str, nn.Module]:
        """The networks by their keys in a model folder."""
        raise NotImplementedError
