"""A small decode on a device against the same on the CPU, and the CPU against stored numbers.

Wrong kernels give silently wrong geometry; this takes a second and notices. The weights come from a
formula, so that every machine has the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from voxlume.models.precision import set_block_dtype
from voxlume.models.published import build
from voxlume.models.sc_vae import DecoderConfig, ScVaeDecoder
from voxlume.sparse import SparseTensor, kernels
from voxlume.sparse.attention import attention
from voxlume.sparse.selfcheck import Check, check_kernels

CONFIG = DecoderConfig(
    latent_channels=8,
    channels=(64, 64, 32),
    blocks=(1, 1, 0),
    residual=("convnext",) * 3,
    resample=("autoencoding",) * 2,
    precision="float32",
)
CELLS = 6

STORED = (1.711902, -0.881946, -1.561741)
"""The output's mean magnitude and the sums of its first and last row, from a run in float32 on a CPU."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def check_device(device: torch.device) -> list[Check]:
    """All checks for one device, in the order of what they depend on."""
    checks = []
    if device.type == "cuda":
        from voxlume.sparse.backend import triton_installed

        if triton_installed():
            checks += check_kernels(device) + check_kernels(device, training=True)
    dtypes = [torch.float32] if device.type == "cpu" else list(TOLERANCE)
    with kernels("reference"):
        reference = _decode(torch.device("cpu"), torch.float32)
    if device.type == "cpu":
        checks.append(_compare("decoder, stored numbers", _summary(reference), torch.tensor(STORED), 1e-4))
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        checks.append(_guarded(f"attention, {name}", partial(_attention_error, device, dtype), dtype))
        if device.type != "cpu":
            checks.append(
                _guarded(f"decoder, {name}", partial(_decoder_error, device, dtype, reference), dtype)
            )
    return checks


def _decode(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The raw channels of a fixed decoder on fixed masks."""
    network = build(CONFIG)
    assert isinstance(network, ScVaeDecoder)
    _fill(network)
    set_block_dtype(network, dtype)
    network.to(device)
    axis = torch.arange(CELLS)
    cells = torch.cartesian_prod(axis, axis, axis)
    cells = cells[(cells.sum(1) % 4 != 0)]
    features = torch.sin(torch.arange(len(cells) * 8, dtype=torch.float64)).view(-1, 8).float()
    x = SparseTensor(torch.nn.functional.pad(cells, (1, 0)).int(), features).to(device)
    guide, rows = [], len(cells)
    for _ in range(2):
        mask = (torch.arange(rows * 8) * 7 % 5 > 1).view(rows, 8)
        guide.append(mask.to(device))
        rows = int(mask.sum())
    with torch.no_grad():
        return network(x, guide).output.features.float().cpu()


def _decoder_error(device: torch.device, dtype: torch.dtype, reference: torch.Tensor) -> float:
    return _error(_decode(device, dtype), reference)


def _fill(network: nn.Module) -> None:
    """Weights from a formula: the same numbers everywhere, of the size of ordinary ones."""
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            index = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(index * 12.9898 + number * 78.233)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_((values / fan_in**0.5).view_as(parameter))


def _attention_error(device: torch.device, dtype: torch.dtype) -> float:
    """Packed attention of two samples against plain arithmetic in double precision."""
    lengths, heads, width = (33, 70), 2, 32
    shape = (3, sum(lengths), heads, width)
    numbers = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.7).view(shape).to(dtype)
    q, k, v = numbers.to(device)
    got = attention(q, k, v, lengths, lengths)
    expected = []
    for a, b, c in zip(*(x.double().split(lengths) for x in numbers), strict=True):
        weight = torch.einsum("qhd,khd->hqk", a, b) / width**0.5
        expected.append(torch.einsum("hqk,khd->qhd", weight.softmax(-1), c))
    return _error(got.double().cpu(), torch.cat(expected))


def _error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def _summary(output: torch.Tensor) -> torch.Tensor:
    return torch.stack([output.abs().mean(), output[0].sum(), output[-1].sum()]).float()


def _compare(name: str, got: torch.Tensor, expected: torch.Tensor, tolerance: float) -> Check:
    return Check(name, _error(got, expected), tolerance)


def _guarded(name: str, error: Callable[[], float], dtype: torch.dtype) -> Check:
    """A check that an exception fails instead of ending the command."""
    try:
        return Check(name, error(), TOLERANCE[dtype])
    except Exception as problem:
        reason = " ".join(str(problem).split())[:120]
        return Check(name, float("nan"), TOLERANCE[dtype], f"{type(problem).__name__}: {reason}")
