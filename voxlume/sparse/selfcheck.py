"""Are the Triton kernels right on this device? Asked once per device and process, on first use.

Wrong combinations of silicon, driver and compiler do not crash: they give silently wrong geometry. So
each kernel is compared with its plain PyTorch twin on a small random grid before anything relies on it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from voxlume.sparse import conv_reference
from voxlume.sparse.neighbors import derive_neighbors, find_neighbors, voxel_keys
from voxlume.sparse.resample import subdivide
from voxlume.sparse.tensor import CoordinateSet, SparseTensor

TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Largest difference allowed, over the largest value; TF32 in place of float32 would exceed it."""


@dataclass(frozen=True)
class Check:
    """One kernel against its twin; ``error`` is the largest difference over the largest value."""

    name: str
    error: float
    tolerance: float
    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure and self.error <= self.tolerance  # False for NaN

    def __str__(self) -> str:
        return f"{self.name}: {self.failure or f'error {self.error:.1e}, allowed {self.tolerance:.0e}'}"


@cache
def kernels_are_right(device: torch.device, training: bool = False) -> bool:
    """Run the checks the first time; warn once if one fails, and then say no for this process."""
    wrong = [check for check in check_kernels(device, training) if not check.passed]
    if wrong:
        warnings.warn(
            f"fast kernels are off on {device}, slower plain PyTorch ones run instead: {wrong[0]}",
            RuntimeWarning,
            stacklevel=2,
        )
    return not wrong


def check_kernels(device: torch.device, training: bool = False) -> list[Check]:
    """Compare the kernels of the forward pass, or with ``training`` of the backward pass, with the twins."""
    return list(_training_checks(device) if training else _inference_checks(device))


def _inference_checks(device: torch.device) -> Iterator[Check]:
    from voxlume.sparse import neighbors_triton

    coordinates, children = _grids(device)
    keys = voxel_keys(coordinates.coords)
    neighbors = find_neighbors(*keys)
    yield _compare("hashed neighbours", lambda: neighbors_triton.find_neighbors(*keys), neighbors, 0)
    lineage = children.lineage
    assert lineage is not None
    derived = derive_neighbors(neighbors, lineage)
    yield _compare(
        "derived neighbours", lambda: neighbors_triton.derive_neighbors(neighbors, lineage), derived, 0
    )
    for ci, co, dtype in _convolutions(device):
        yield _check_forward(coordinates, ci, co, dtype)


def _check_forward(coordinates: CoordinateSet, ci: int, co: int, dtype: torch.dtype) -> Check:
    from voxlume.sparse import conv_triton

    features, weight, bias = _random(coordinates, dtype, (len(coordinates), ci), (co, 3, 3, 3, ci), (co,))
    expected = conv_reference.forward(features, weight, bias, coordinates)
    return _compare(
        f"convolution {ci} to {co}, {str(dtype).removeprefix('torch.')}",
        lambda: conv_triton.forward(features, weight, bias, coordinates),
        expected,
        TOLERANCE[dtype],
    )


def _training_checks(device: torch.device) -> Iterator[Check]:
    from voxlume.sparse import conv_triton

    coordinates, _ = _grids(device)
    for ci, co, dtype in _convolutions(device):
        features, grad = _random(coordinates, dtype, (len(coordinates), ci), (len(coordinates), co))
        expected = conv_reference.grad_weight(features, grad, coordinates)
        yield _compare(
            f"gradient of a convolution {ci} to {co}, {str(dtype).removeprefix('torch.')}",
            lambda x=features, g=grad: conv_triton.grad_weight(x, g, coordinates),  # type: ignore[misc]
            expected,
            TOLERANCE[dtype],
        )


def _convolutions(device: torch.device) -> list[tuple[int, int, torch.dtype]]:
    """Channels and dtypes that between them take every path through the kernels."""
    cases = [(16, 24, torch.float32), (64, 64, torch.float16), (128, 256, torch.float16)]
    if device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        cases.append((64, 64, torch.bfloat16))
    return cases


def _grids(device: torch.device) -> tuple[CoordinateSet, CoordinateSet]:
    """A random grid of two samples and children of it; both know their neighbours from the twin."""
    random = torch.Generator().manual_seed(0)
    coords = (torch.rand((2, 9, 10, 11), generator=random) < 0.4).nonzero().to(device, torch.int32)
    coordinates = CoordinateSet(coords, 2)
    coordinates.memo("neighbors", lambda: find_neighbors(*voxel_keys(coords)))
    kept = (torch.rand((len(coords), 8), generator=random) < 0.5).to(device)
    empty = torch.empty((len(coords), 0), device=device)
    return coordinates, subdivide(SparseTensor.on(coordinates, empty), kept).children


def _random(coordinates: CoordinateSet, dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    device = coordinates.coords.device
    return [torch.randn(shape, generator=random).to(device, dtype) for shape in shapes]


def _compare(name: str, fast: Callable[[], Tensor], expected: Tensor, tolerance: float) -> Check:
    try:
        difference = (fast().double() - expected.double()).abs().max()
    except Exception as error:
        # Whatever a compiler or driver throws, the answer is the same: do not use this kernel.
        return Check(name, float("nan"), tolerance, f"{type(error).__name__}: {error}".splitlines()[0][:200])
    return Check(name, float(difference / expected.double().abs().max()), tolerance)
