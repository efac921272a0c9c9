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
from voxlume.sparse.backend import kernels
from voxlume.sparse.epilogue import Epilogue, Norm, Residual
from voxlume.sparse.gather import gather_rows_reference
from voxlume.sparse.keys import voxel_keys
from voxlume.sparse.lineage import children_of
from voxlume.sparse.neighbors import derive_neighbors, neighbor_map
from voxlume.sparse.tensor import CoordinateSet, Lineage

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
    """Compare the kernels of the forward pass, or with ``training`` of the backward pass, with the twins.

    The twins run on the CPU, so that they share nothing with what is checked.
    """
    with kernels("reference"):
        return list(_training_checks(device) if training else _inference_checks(device))


def _inference_checks(device: torch.device) -> Iterator[Check]:
    from voxlume.sparse import lineage_triton, neighbors_triton

    coordinates, lineage = _grids()
    coords, index = lineage.parents.coords.to(device), lineage.index.to(device)
    children = lineage.children.to(device)
    keys, strides = voxel_keys(coordinates.coords)
    neighbors = neighbor_map(coordinates)
    yield _compare(
        "hashed neighbours", lambda: neighbors_triton.find_neighbors(keys.to(device), strides), neighbors, 0
    )
    yield _compare(
        "derived neighbours",
        lambda: neighbors_triton.derive_neighbors(
            neighbors.to(device), Lineage(coordinates, index, children)
        ),
        derive_neighbors(neighbors, lineage),
        0,
    )
    kept = children >= 0
    last = kept.flatten().cumsum(0, dtype=torch.int32)
    yield _compare(
        "listed children",
        lambda: lineage_triton.list_children(coords, kept, last, len(index))[1],
        lineage.index,
        0,
    )
    (slots,) = _random(torch.float16, (len(children) * 8, 24))
    expected = gather_rows_reference(slots, lineage.index)
    yield _compare("gathered rows", lambda: lineage_triton.gather_rows(slots.to(device), index), expected, 0)
    for ci, co, dtype in _convolutions(device):
        yield _check_forward(coordinates, device, ci, co, dtype)
    # In the convolution's own kernel, and after the sum of three parts.
    for ci, co, then in ((64, 64, "norm"), (64, 64, "residual"), (128, 32, "norm")):
        yield _check_forward(coordinates, device, ci, co, torch.float16, then)


def _check_forward(
    coordinates: CoordinateSet, device: torch.device, ci: int, co: int, dtype: torch.dtype, then: str = ""
) -> Check:
    from voxlume.sparse import conv_triton

    features, weight, bias, scale, shift, added = _random(
        dtype, (len(coordinates), ci), (co, 3, 3, 3, ci), (co,), (co,), (co,), (len(coordinates), co // 2)
    )

    def epilogue(device: torch.device) -> Epilogue:
        if then == "norm":
            return Norm(1e-6, scale.to(device), shift.to(device), silu=True)
        return Residual(added.to(device)) if then == "residual" else None

    def convolved() -> Tensor:
        inputs = features.to(device), weight.to(device), bias.to(device), _on(device, coordinates)
        if device.type == "cuda":
            conv_triton.forward(*inputs, epilogue(device))  # from the second time on launches are shorter
        return conv_triton.forward(*inputs, epilogue(device))

    return _compare(
        f"convolution {ci} to {co}{then and f' with {then}'}, {str(dtype).removeprefix('torch.')}",
        convolved,
        conv_reference.forward(features, weight, bias, coordinates, epilogue(torch.device("cpu"))),
        TOLERANCE[dtype],
    )


def _training_checks(device: torch.device) -> Iterator[Check]:
    coordinates, _ = _grids()
    for ci, co, dtype in _convolutions(device):
        yield _check_grad_weight(coordinates, device, ci, co, dtype)


def _check_grad_weight(
    coordinates: CoordinateSet, device: torch.device, ci: int, co: int, dtype: torch.dtype
) -> Check:
    from voxlume.sparse import conv_triton

    features, grad = _random(dtype, (len(coordinates), ci), (len(coordinates), co))
    return _compare(
        f"gradient of a convolution {ci} to {co}, {str(dtype).removeprefix('torch.')}",
        lambda: conv_triton.grad_weight(features.to(device), grad.to(device), _on(device, coordinates)),
        conv_reference.grad_weight(features, grad, coordinates),
        TOLERANCE[dtype],
    )


def _convolutions(device: torch.device) -> list[tuple[int, int, torch.dtype]]:
    """Channels and dtypes that between them take every path through the kernels."""
    cases = [(16, 24, torch.float32), (64, 64, torch.float16), (128, 256, torch.float16)]
    if device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        cases.append((64, 64, torch.bfloat16))
    return cases


def _grids() -> tuple[CoordinateSet, Lineage]:
    """A random grid of two samples, and how random children of its voxels came out of it."""
    random = torch.Generator().manual_seed(0)
    coords = (torch.rand((2, 9, 10, 11), generator=random) < 0.4).nonzero().int()
    coordinates = CoordinateSet(coords, 2)
    lineage = children_of(coordinates, torch.rand((len(coords), 8), generator=random) < 0.5).lineage
    assert lineage is not None
    return coordinates, lineage


def _on(device: torch.device, coordinates: CoordinateSet) -> CoordinateSet:
    """The set on the device, with its neighbours from the twin."""
    there = CoordinateSet(coordinates.coords.to(device), coordinates.batch_size)
    there.memo("neighbors", lambda: neighbor_map(coordinates).to(device))
    return there


def _random(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=random).to(dtype) for shape in shapes]


def _compare(name: str, fast: Callable[[], Tensor], expected: Tensor, tolerance: float) -> Check:
    try:
        difference = (fast().cpu().double() - expected.double()).abs().max()
    except Exception as error:
        # Whatever a compiler or driver throws, the answer is the same: do not use this kernel.
        return Check(name, float("nan"), tolerance, f"{type(error).__name__}: {error}".splitlines()[0][:200])
    return Check(name, float(difference / expected.double().abs().max()), tolerance)
