"""Run as a script: two steps of every stage as CUDA takes them, blocks recomputed or not; STORE and FOLDER.

Blocks run under autocast in bfloat16 and their norms are the fused kernels, for which this needs
``TRITON_INTERPRET=1`` in the environment before Python starts. The heads' kernel would take a minute
(``tests.models.recomputation_with_fused_kernels`` has it), and the interpreter multiplies bfloat16 wrongly:
heads and convolutions are the twins.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxlume.models import fused_training, layers
from voxlume.training import loop, presets
from voxlume.training.journal import read_log
from voxlume.training.parallel import Processes
from voxlume.training.precision import autocast_blocks
from voxlume.training.runs import Run, StageName, run_stage

LEARNING: dict[str, tuple[StageName, ...]] = {
    "tiny": ("shape_vae", "material_vae", "structure_vae", "latents", "image_encoder", "flows"),
    "tiny_pooling": ("shape_vae", "material_vae"),
}

calls = 0
"""Of the fused norm so far."""


def tiny_pooling() -> presets.TrainingPreset:
    """``tiny`` without residual autoencoding."""

    def pooled(networks: dict[str, Any]) -> dict[str, Any]:
        return {
            key: replace(config, resample=("pooling",) * len(config.resample))
            if hasattr(config, "resample")
            else config
            for key, config in networks.items()
        }

    whole = presets.tiny()
    model = replace(whole.model, networks=pooled(whole.model.networks))
    return replace(whole, model=model, encoders=pooled(whole.encoders))


def as_on_cuda() -> None:
    """Let this process, on its CPU, take the ways of CUDA."""
    norm = fused_training.norm

    def counted_norm(*arguments: Any, **choices: Any) -> tuple[Tensor, Tensor]:
        global calls
        calls += 1
        return norm(*arguments, **choices)

    def heads(x: Tensor, gamma: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
        phases = None if cos is None or sin is None else layers.RotaryPhases(cos, sin)
        return layers.normalized_heads_reference(x, gamma, phases)

    def half(network: nn.Module, dtype: torch.dtype) -> None:
        autocast_blocks(network, torch.bfloat16)

    fused_training.norm, fused_training.heads = counted_norm, heads
    fused_training.PROGRAMS = 4  # the interpreter runs them one after another
    layers.use_triton = lambda device, training=False: True
    loop.autocast_blocks = half


def losses(name: StageName, run: Run, checkpointing: bool) -> list[float]:
    """Train a stage; the loss of each step."""
    settings = {"loop.steps": "2", "loop.batch_size": "1", "loop.looks": "0", "loop.check_every": "1"}
    settings |= {"loop.log_seconds": "0", "loop.checkpointing": str(checkpointing)}
    if name in ("image_encoder", "flows"):
        settings |= {"views": "1"}
    before = calls
    run_stage(name, replace(run, settings=settings), Processes(0, 1, torch.device("cpu")))
    if name == "latents":
        return []
    assert name == "structure_vae" or calls > before, f"{name}: twins ran instead of the kernels"
    return [record["loss"] for record in read_log(run.out / name)]


def main(store: Path, folder: Path) -> None:
    torch.set_num_threads(1)  # quicker on tensors this small
    as_on_cuda()
    presets.PRESETS["tiny_pooling"] = tiny_pooling
    for preset, names in LEARNING.items():
        for name in names:
            # Recomputed first: at its first block the kernels have not yet been compared with their twins.
            recomputed, kept = (
                losses(name, Run(preset, store, folder / f"{preset}-{on}"), on) for on in (True, False)
            )
            print(preset, name, recomputed, kept, flush=True)
            assert len(recomputed) == len(kept) == (0 if name == "latents" else 2)
            assert all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(recomputed, kept, strict=True)), name


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
