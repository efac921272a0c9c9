"""Run as a script: fused kernels in blocks under autocast that are recomputed in the backward pass; device.

On a CPU this needs ``TRITON_INTERPRET=1`` in the environment before Python starts. Convolutions are the
twins there: the interpreter multiplies bfloat16 wrongly.
"""

from __future__ import annotations

import sys

import torch

from tests.models.test_training import CASES, difference, gradients, off_zero
from voxlume.models import fused_training, layers
from voxlume.training.precision import autocast_blocks


def main(device: str) -> None:
    if device == "cpu":
        layers.use_triton = lambda device, training=False: True
        fused_training.PROGRAMS = 4  # the interpreter runs them one after another
    calls = 0

    def counted(*arguments: object, **choices: object) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal calls
        calls += 1
        return norm(*arguments, **choices)  # type: ignore[arg-type]

    norm = fused_training.norm
    fused_training.norm = counted
    for name, (_, loss) in CASES.items():
        network = off_zero(name).to(device)
        if not hasattr(network, "checkpointing"):
            continue
        autocast_blocks(network, torch.bfloat16)
        network.checkpointing = True  # type: ignore[assignment]
        # At the first block of the first network the kernels have not yet been compared with their twins.
        recomputed = gradients(network, loss)
        network.checkpointing = False  # type: ignore[assignment]
        before = calls
        assert difference(recomputed, gradients(network, loss)) < 0.02, name
        assert calls > before, f"{name}: twins ran instead of the kernels"


if __name__ == "__main__":
    main(sys.argv[1])
