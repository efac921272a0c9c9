"""Half-precision products inside float32 networks: autocast around the blocks and nowhere else."""

from __future__ import annotations

import torch
from torch import nn


def autocast_blocks(network: nn.Module, dtype: torch.dtype) -> None:
    """Run the blocks of a network under autocast from now on, as they are run in ``dtype`` in inference.

    Input, output and embedding layers stay in float32, and so does the sum that runs through the blocks. The
    convolutions of an image encoder's stem are blocks in this.
    """
    if dtype == torch.float32:
        return
    kind = next(network.parameters()).device.type
    parts = [getattr(network, name, None) for name in ("blocks", "middle")]
    for part in [*parts, getattr(getattr(network, "stem", None), "convolutions", None)]:
        for block in _leaves(part) if isinstance(part, nn.ModuleList) else ():
            block.forward = torch.autocast(kind, dtype)(block.forward)  # type: ignore[method-assign]


def _leaves(modules: nn.ModuleList) -> list[nn.Module]:
    """The blocks in a list of blocks or of levels of blocks."""
    return [
        block
        for module in modules
        for block in (_leaves(module) if isinstance(module, nn.ModuleList) else [module])
    ]
