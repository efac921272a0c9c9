"""Submanifold convolution as a masked implicit GEMM in Triton; twin of :mod:`voxlume.sparse.conv_reference`.

A program owns a tile of voxels and a block of output channels. It walks over the neighbours that occur in
its tile, gathers their features straight into the matrix product and keeps the sums in float32.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxlume.sparse.backend import cdiv, next_power_of_2
from voxlume.sparse.epilogue import Epilogue, Norm, Residual
from voxlume.sparse.launch import aligned, launch
from voxlume.sparse.neighbors import neighbor_map
from voxlume.sparse.tensor import CoordinateSet, Lineage
from voxlume.sparse.tiling import Tiling, make_child_tiling, tiling

try:
    from triton.tools.tensor_descriptor import TensorDescriptor
except ImportError:  # Triton before 3.4
    TensorDescriptor = None


@dataclass(frozen=True)
class Config:
    """How a convolution is cut into programs.

    Attributes
    ----------
    rows, out_channels : the block of the output that a program computes.
    in_channels : input channels of one step.
    warps, stages : warps of a program, steps in flight.
    parts : see :class:`voxlume.sparse.tiling.Tiling`.
    """

    rows: int
    out_channels: int
    in_channels: int
    warps: int
    stages: int
    parts: int = 1


def choose_config(voxels: int, ci: int, co: int, dtype: torch.dtype, capability: tuple[int, int]) -> Config:
    """The configuration for a convolution of ``ci`` to ``co`` channels on a chip of that compute capability.

    Measured on an H200 for half precision (``benchmarks/notes/sparse_conv.md``); other chips get smaller
    blocks that fit their shared memory, and float32 blocks for the ordinary arithmetic units.
    """
    step = 64 if ci >= 64 else max(16, next_power_of_2(ci))
    if dtype.itemsize > 2:
        return Config(64, _block(co, 64), min(step, 16), 4, 2)
    if capability[0] != 9:
        return Config(128, _block(co, 128), min(step, 32), 4, 3)
    # A small grid has too few voxels of each neighbourhood pattern to fill tiles with equals.
    parts = 3 if voxels < 24576 and ci >= 128 else 1
    block = _block(co, 256)
    if block == 256:
        return Config(128, 256, step, 8, 4 if ci >= 512 else 3, parts)
    return Config(128, block, step, 4, 3 if block == 128 else 2, parts)


def _block(channels: int, most: int) -> int:
    """The largest power of two up to ``most`` that wastes less than a quarter of the last block."""
    block = most
    while block > 16 and cdiv(channels, block) * block > 1.25 * channels:
        block //= 2
    return block


def forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    coordinates: CoordinateSet,
    then: Epilogue = None,
) -> Tensor:
    """(n, ci), weight (co, 3, 3, 3, ci), bias (co,) or None -> (n, co)."""
    capability = _capability(features.device)
    config = choose_config(len(features), weight.shape[-1], len(weight), features.dtype, capability)
    tiles = tiling(coordinates, config.rows, config.parts)
    return convolve(features, weight, bias, tiles, config, _bulk_copy(features), then=then)


def forward_to_children(
    features: Tensor, weight: Tensor, bias: Tensor | None, lineage: Lineage, then: Epilogue = None
) -> Tensor:
    """Convolve the parents' features (n_parents, ci) and keep what channel-to-space keeps.

    weight (8 co, 3, 3, 3, ci), bias (8 co,) or None, slot by slot -> (n, co) on the children; what belongs to
    children that are not there is never computed.
    """
    capability = _capability(features.device)
    config = choose_config(len(features), weight.shape[-1], len(weight) // 8, features.dtype, capability)
    tiles = make_child_tiling(neighbor_map(lineage.parents), lineage, config.rows, config.parts)
    return convolve(features, weight, bias, tiles, config, _bulk_copy(features), len(lineage.index), then)


def convolve(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tiles: Tiling,
    config: Config,
    bulk_copy: bool,
    rows: int | None = None,
    then: Epilogue = None,
) -> Tensor:
    """:func:`forward` and :func:`forward_to_children` with a given tiling and configuration.

    ``bulk_copy`` fetches the weights through the tensor copy engine where their shape allows it; ``rows`` is
    the number of output rows if it is not the input's.
    """
    features, weight = features.contiguous(), weight.contiguous()
    ci, n = features.shape[1], len(features) if rows is None else rows
    co = len(weight) if tiles.slots is None else len(weight) // 8
    out = torch.empty((n, co), dtype=features.dtype, device=features.device)
    if n == 0:
        return out
    partial = out if config.parts == 1 else out.new_empty((config.parts, n, co), dtype=torch.float32)
    # A norm needs whole rows: one block of columns, and all parts of the sum.
    at_once = config.parts == 1 and (co <= config.out_channels or not isinstance(then, Norm))
    even_k = ci % config.in_channels == 0
    bulk_copy = bulk_copy and even_k and TensorDescriptor is not None
    kernel = weight.view(-1, 27 * ci)
    if bulk_copy:
        kernel = TensorDescriptor.from_tensor(kernel, [config.out_channels, config.in_channels])
    epilogue = _epilogue(then, co)
    sizes = [len(features) * ci, config.parts * n * co, 0 if epilogue[2] is None else epilogue[2].numel()]
    index = tl.int64 if max(sizes) >= 2**31 else tl.int32
    form: tuple[Any, ...] | None = None
    if aligned(features, weight, bias, *epilogue[:4]):
        kinds = (None if tensor is None else tensor.dtype for tensor in (bias, *epilogue[:4]))
        form = (features.device, features.dtype, ci, co, config, bulk_copy, index, *kinds, *epilogue[5:])
    launch(
        _forward_kernel,
        len(tiles.counts) * cdiv(co, config.out_channels),
        form and ("convolve", tiles.order is None, tiles.slots is None, *form),
        (
            features,
            kernel,
            bias,
            partial,
            tiles.neighbors,
            tiles.offsets,
            tiles.counts,
            tiles.rows,
            tiles.order,
            tiles.slots,
            *(epilogue if at_once else _epilogue(None, co)),
            n,
            ci,
            co,
            config.rows,
            config.out_channels,
            config.in_channels,
            cdiv(ci, config.in_channels),
            even_k and co % config.out_channels == 0,
            bulk_copy,
            config.parts,
            # With a row or more to a thread, its index would have to change hands in every step.
            config.rows >= 32 * config.warps,
            index,
        ),
        num_warps=config.warps,
        num_stages=config.stages,
    )
    if not at_once:
        block = next_power_of_2(co)
        each = max(1, 2048 // block)
        launch(
            _finish_kernel,
            cdiv(n, each),
            form and ("finish", *form),
            (partial, out, *epilogue, n, co, config.parts, each, block, index),
            num_warps=8 if each * block > 2048 else 4,
        )
    return out


def _epilogue(then: Epilogue, co: int) -> tuple[Any, ...]:
    """An epilogue as arguments of a kernel, from ``norm_weight`` to ``REPEATS``."""
    if isinstance(then, Norm):
        return then.weight, then.bias, None, None, then.eps, True, then.silu, 1
    if isinstance(then, Residual):
        added, lineage = then.features.contiguous(), then.lineage
        channels = added.shape[1] if lineage is None else added.shape[1] // 8
        place = None if lineage is None else lineage.index
        return None, None, added, place, 0.0, False, False, co // channels
    return None, None, None, None, 0.0, False, False, 1


def _bulk_copy(features: Tensor) -> bool:
    """Whether the chip has Hopper's tensor copy engine and this dtype is one it was measured with."""
    return _capability(features.device)[0] == 9 and features.dtype.itemsize == 2


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


@triton.jit(do_not_specialize=["n"])
def _forward_kernel(
    features,
    weight,
    bias,
    out,
    neighbors,
    offsets,
    counts,
    rows,
    order,
    slots,
    norm_weight,
    norm_bias,
    added,
    place,
    eps,
    NORM: tl.constexpr,
    SILU: tl.constexpr,
    REPEATS: tl.constexpr,
    n,
    ci,
    co,
    ROWS: tl.constexpr,
    CO: tl.constexpr,
    CI: tl.constexpr,
    CI_BLOCKS: tl.constexpr,
    EVEN: tl.constexpr,
    BULK_COPY: tl.constexpr,
    PARTS: tl.constexpr,
    HALVED: tl.constexpr,
    INDEX: tl.constexpr,
):
    blocks = tl.cdiv(co, CO)
    tiles = tl.num_programs(0) // blocks // PARTS
    tile = tl.program_id(0) // blocks
    if order is not None:
        tile = tl.load(order + tile).to(tl.int32)
    first = tl.program_id(0) % blocks * CO
    column = first + tl.arange(0, CO)
    channel = tl.arange(0, CI)
    # Where the output is on children, the tile's slot selects its part of the kernel.
    slot = 0
    if slots is not None:
        slot = tl.load(slots + tile % tiles) * co
    EACH: tl.constexpr = 27 // PARTS
    HALF: tl.constexpr = ROWS // 2 if HALVED else ROWS
    row = tl.arange(0, HALF)
    neighbors += tile.to(tl.int64) * EACH * ROWS
    offsets += tile * EACH
    # At least one step, though an empty tile needs none: a loop that may not run at all makes the compiler
    # wait for every single matrix instruction. Such a tile's only entry gathers nothing.
    steps = tl.maximum(tl.load(counts + tile) * CI_BLOCKS, 1)
    total = tl.zeros((HALF, CO), tl.float32)
    # The indices of the next step are loaded a step ahead, so that the gather never waits for them.
    offset = tl.load(offsets)
    there = tl.load(neighbors + row)
    if HALVED:
        total2 = tl.zeros((HALF, CO), tl.float32)
        there2 = tl.load(neighbors + HALF + row)
    for step in range(steps):
        c = step % CI_BLOCKS * CI + channel
        a = _gather(features, there, c, ci, EVEN or BULK_COPY, INDEX)
        if HALVED:
            a2 = _gather(features, there2, c, ci, EVEN or BULK_COPY, INDEX)
        if BULK_COPY:
            b = weight.load([slot + first, offset * ci + step % CI_BLOCKS * CI]).T
        else:
            kernel = weight + (slot + column)[None, :] * (27 * ci) + offset * ci + c[:, None]
            if EVEN:
                b = tl.load(kernel)
            else:
                b = tl.load(kernel, mask=(c < ci)[:, None] & (column < co)[None, :], other=0.0)
        coming = tl.minimum((step + 1) // CI_BLOCKS, EACH - 1)
        offset = tl.load(offsets + coming)
        there = tl.load(neighbors + coming * ROWS + row)
        if HALVED:
            there2 = tl.load(neighbors + coming * ROWS + HALF + row)
        total = tl.dot(a, b, total, input_precision="ieee")
        if HALVED:
            total2 = tl.dot(a2, b, total2, input_precision="ieee")
    if bias is not None:
        mine = tl.where(tile < tiles, co, 0)  # of several parts, the first adds the bias
        shift = tl.load(bias + slot + column, mask=column < mine, other=0.0).to(tl.float32)[None, :]
        total += shift
        if HALVED:
            total2 += shift
    if PARTS > 1:
        out += tile // tiles * n.to(tl.int64) * co
    at = tl.load(rows + tile * ROWS + row)
    _finish(total, at, column, co, out, norm_weight, norm_bias, added, place, eps, NORM, SILU, REPEATS, INDEX)
    if HALVED:
        at = tl.load(rows + tile * ROWS + HALF + row)
        _finish(
            total2, at, column, co, out, norm_weight, norm_bias, added, place, eps, NORM, SILU, REPEATS, INDEX
        )


@triton.jit
def _gather(features, there, c, ci, EVEN: tl.constexpr, INDEX: tl.constexpr):
    """Channels ``c`` of the rows ``there``, zeros where a row is -1."""
    source = features + there.to(INDEX)[:, None] * ci + c[None, :]
    mask = (there >= 0)[:, None]
    if not EVEN:
        mask = mask & (c < ci)[None, :]
    return tl.load(source, mask=mask, other=0.0)


@triton.jit
def _finish(
    values,
    row,
    column,
    co,
    out,
    norm_weight,
    norm_bias,
    added,
    place,
    eps,
    NORM: tl.constexpr,
    SILU: tl.constexpr,
    REPEATS: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Epilogue of the rows ``row``, -1 for none, and their way to memory.

    Values are rounded where the twin rounds them: it stores the convolution's result before it goes on.
    """
    here = column < co
    inside = (row >= 0)[:, None] & here[None, :]
    if NORM:
        values = normalized(values.to(out.dtype.element_ty).to(tl.float32), here, co, eps)
        if norm_weight is not None:
            values *= tl.load(norm_weight + column, mask=here, other=0.0).to(tl.float32)[None, :]
        if norm_bias is not None:
            values += tl.load(norm_bias + column, mask=here, other=0.0).to(tl.float32)[None, :]
        if SILU:
            values = values / (1 + tl.exp(-values))
    if added is not None:
        source = row
        if place is not None:
            source = tl.load(place + row, mask=row >= 0, other=0)
        of_row = added + source.to(INDEX)[:, None] * (co // REPEATS) + (column // REPEATS)[None, :]
        more = tl.load(of_row, mask=inside, other=0.0).to(tl.float32)
        values = values.to(out.dtype.element_ty).to(tl.float32) + more
    target = out + row.to(INDEX)[:, None] * co + column[None, :]
    tl.store(target, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def normalized(values, here, count, eps):
    """Rows (r, c) less their mean over their standard deviation; the ``count`` columns ``here`` belong."""
    mean = tl.sum(tl.where(here[None, :], values, 0.0), axis=1) / count
    centred = tl.where(here[None, :], values - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / count
    return centred * (1 / tl.sqrt(variance + eps))[:, None]


@triton.jit(do_not_specialize=["n"])
def _finish_kernel(
    partial,
    out,
    norm_weight,
    norm_bias,
    added,
    place,
    eps,
    NORM: tl.constexpr,
    SILU: tl.constexpr,
    REPEATS: tl.constexpr,
    n,
    co,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    CO: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Add the parts' results (PARTS, n, co) and apply the epilogue; ``partial`` may be ``out`` itself."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, CO)
    inside = (row < n)[:, None] & (column < co)[None, :]
    at = row.to(tl.int64)[:, None] * co + column[None, :]
    values = tl.load(partial + at, mask=inside, other=0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        values += tl.load(partial + part * n.to(tl.int64) * co + at, mask=inside, other=0.0)
    row = tl.where(row < n, row, -1)
    _finish(
        values, row, column, co, out, norm_weight, norm_bias, added, place, eps, NORM, SILU, REPEATS, INDEX
    )


def grad_weight(features: Tensor, grad: Tensor, coordinates: CoordinateSet) -> Tensor:
    """features (n, ci), gradient of the output (n, co) -> gradient of the weight (co, 3, 3, 3, ci)."""
    if features.dtype.itemsize > 2:
        return weight_gradient(features, grad, tiling(coordinates, 64), block=64, step=16, warps=4, stages=2)
    wide = min(features.shape[1], grad.shape[1]) >= 128 and _capability(features.device)[0] == 9
    block = 128 if wide else 64
    return weight_gradient(features, grad, tiling(coordinates, 128), block, step=64, warps=4, stages=3)


def weight_gradient(
    features: Tensor, grad: Tensor, tiles: Tiling, block: int, step: int, warps: int, stages: int
) -> Tensor:
    """:func:`grad_weight` with a given tiling, channels in a block, rows in a step, warps, pipeline depth."""
    features, grad = features.contiguous(), grad.contiguous()
    ci, co, device = features.shape[1], grad.shape[1], features.device
    # All (tile, neighbour) pairs that occur, grouped by neighbour.
    beyond = torch.arange(27, device=device) >= tiles.counts[:, None]
    offsets = tiles.offsets.masked_fill(beyond, 27).flatten()
    grouped, pairs = torch.sort(offsets, stable=True)
    starts = torch.searchsorted(grouped, torch.arange(28, device=device, dtype=torch.int32))
    block_co, block_ci = (max(16, min(block, next_power_of_2(c))) for c in (co, ci))
    blocks = cdiv(co, block_co) * cdiv(ci, block_ci)
    splits = min(64, cdiv(16 * _processors(device), 27 * blocks), len(tiles.counts))
    partial = torch.empty((splits, co, 27, ci), dtype=torch.float32, device=device)
    _grad_weight_kernel[(blocks, 27, splits)](
        features,
        grad,
        partial,
        tiles.neighbors,
        tiles.rows,
        pairs.int(),
        starts,
        ci,
        co,
        ROWS=tiles.size,
        STEP=step,
        CO=block_co,
        CI=block_ci,
        num_warps=warps,
        num_stages=stages,
    )
    return partial.sum(0).to(grad.dtype).view(co, 3, 3, 3, ci)


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@triton.jit
def _grad_weight_kernel(
    features,
    grad,
    partial,
    neighbors,
    rows,
    pairs,
    starts,
    ci,
    co,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    CO: tl.constexpr,
    CI: tl.constexpr,
):
    blocks = tl.cdiv(ci, CI)
    column = tl.program_id(0) // blocks * CO + tl.arange(0, CO)
    channel = tl.program_id(0) % blocks * CI + tl.arange(0, CI)
    offset = tl.program_id(1)
    split = tl.program_id(2)
    row = tl.arange(0, STEP)
    STEPS: tl.constexpr = ROWS // STEP
    every = tl.num_programs(2)
    first = tl.load(starts + offset).to(tl.int32) + split
    last = tl.load(starts + offset + 1).to(tl.int32)
    total = tl.zeros((CO, CI), tl.float32)
    # What the next step reads is looked up a step ahead, and its pair two steps ahead.
    pair = tl.load(pairs + first, mask=first < last, other=0).to(tl.int64)
    there = tl.load(neighbors + pair * ROWS + row, mask=row < tl.where(first < last, STEP, 0), other=-1).to(
        tl.int64
    )
    here = tl.load(rows + pair // 27 * ROWS + row).to(tl.int64)
    coming = first + 1 // STEPS * every
    pair = tl.load(pairs + coming, mask=coming < last, other=0)
    # At least one step, as in the forward kernel; it adds nothing where there is no pair.
    for step in range(tl.maximum((last - first + every - 1) // every * STEPS, 1)):
        present = there >= 0
        g = tl.load(
            grad + here[None, :] * co + column[:, None],
            mask=present[None, :] & (column < co)[:, None],
            other=0.0,
        )
        x = tl.load(
            features + there[:, None] * ci + channel[None, :],
            mask=present[:, None] & (channel < ci)[None, :],
            other=0.0,
        )
        going_on = tl.where(first + (step + 1) // STEPS * every < last, STEP, 0)
        part = (step + 1) % STEPS * STEP + row
        source = neighbors + pair.to(tl.int64) * ROWS + part
        there = tl.load(source, mask=row < going_on, other=-1).to(tl.int64)
        here = tl.load(rows + pair.to(tl.int64) // 27 * ROWS + part).to(tl.int64)
        coming = first + (step + 2) // STEPS * every
        pair = tl.load(pairs + coming, mask=coming < last, other=0)
        total = tl.dot(g, x, total, input_precision="ieee")
    target = partial + ((split.to(tl.int64) * co + column[:, None]) * 27 + offset) * ci + channel[None, :]
    tl.store(target, total, mask=(column < co)[:, None] & (channel < ci)[None, :])
