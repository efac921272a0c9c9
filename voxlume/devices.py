"""Checking the name of a compute device before work starts on it."""

from __future__ import annotations

from voxlume.errors import VoxlumeError


def check_device(name: str) -> None:
    """Make sure that PyTorch can compute on a device.

    Raises
    ------
    VoxlumeError : the name is unknown to PyTorch, or this machine has no such device.
    """
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, ValueError) as error:
        here = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        here += ["mps"] if torch.backends.mps.is_available() else []
        raise VoxlumeError(
            f"no device {name} on this machine; there is {', '.join(['cpu', *here])}"
        ) from error


def chosen_device(name: str) -> str:
    """The device that a name asks for: "auto" is the first CUDA device, or the CPU where there is none."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
