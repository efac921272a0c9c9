"""Are the Triton kernels right on this device? Asked once per device and process, on first use."""

from __future__ import annotations

import torch


def kernels_are_right(device: torch.device) -> bool:
    return False
