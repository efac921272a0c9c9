"""Which kernels run: Triton where it works, the plain PyTorch twins everywhere else."""

from __future__ import annotations

import torch

from voxlume.backend import kernels, triton_installed, twins_forced

__all__ = ["cdiv", "kernels", "next_power_of_2", "triton_installed", "use_triton"]


def use_triton(device: torch.device, training: bool = False) -> bool:
    """Whether Triton kernels shall run on ``device``: allowed, installed, and right on this silicon.

    ``training`` asks for the kernels of the backward pass too.
    """
    if twins_forced() or device.type != "cuda" or not triton_installed():
        return False
    from voxlume.sparse.selfcheck import kernels_are_right

    return kernels_are_right(device) and (not training or kernels_are_right(device, training=True))


# Triton has these two as well, for kernels and hosts alike; on the host they cost 2 us a call, and a launch
# needs several.


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    """The smallest power of two that is at least ``n``; 1 for 0."""
    return 1 << max(n - 1, 0).bit_length()
