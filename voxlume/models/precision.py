"""Half-precision blocks inside float32 networks, as the published checkpoints are run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

Precision = Literal["float32", "float16", "bfloat16"]

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def set_block_dtype(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert the blocks of a network in place; its input, output and embedding layers stay as they are."""
    for name in ("blocks", "middle"):
        part = getattr(network, name, None)
        if isinstance(part, nn.Module):
            part.to(dtype)


def block_dtype(network: nn.Module) -> torch.dtype:
    """The dtype that the blocks of a network compute in; one without blocks computes in float32."""
    blocks = getattr(network, "blocks", None)
    parameters = blocks.parameters() if isinstance(blocks, nn.Module) else iter(())
    return next((p.dtype for p in parameters), torch.float32)


@contextmanager
def quick_float32(device: torch.device) -> Iterator[None]:
    """Within the block CUDA multiplies float32 matrices on its tensor cores, with factors of 11 bits.

    For networks whose blocks are float32 as published, such as the image encoder: its tokens then differ by
    about a thousandth, less than its readers' own half precision.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
