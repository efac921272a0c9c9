"""Every Triton kernel against its twin; run by pytest on a GPU, and on a CPU by Triton's interpreter.

The interpreter has to be chosen before Triton is imported, so there this file is a program of its own:
``TRITON_INTERPRET=1 python -m tests.sparse.kernel_cases`` prints the errors as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import torch

from voxlume.sparse import SparseTensor, conv_reference, subdivide
from voxlume.sparse.epilogue import Norm, Residual, finish
from voxlume.sparse.gather import gather_rows_reference
from voxlume.sparse.keys import voxel_keys
from voxlume.sparse.lineage import children_of, link_parents, list_children
from voxlume.sparse.neighbors import derive_neighbors, find_neighbors
from voxlume.sparse.selfcheck import TOLERANCE
from voxlume.sparse.tensor import CoordinateSet, Lineage

# channels in and out, dtype
CONVOLUTIONS = [
    (7, 5, torch.float32),
    (20, 24, torch.float32),
    (24, 16, torch.float16),
    (64, 64, torch.float16),
    (96, 96, torch.float16),
    (128, 256, torch.float16),
    (64, 128, torch.bfloat16),
]
# rows, output channels, input channels of a block; parts; does the copy engine fetch the weights
CONFIGURATIONS = [
    (32, 16, 16, 1, False),
    (16, 32, 32, 3, False),
    (16, 16, 16, 9, True),
    (32, 32, 16, 3, True),
]


def grid(device: torch.device) -> CoordinateSet:
    random = torch.Generator().manual_seed(0)
    coords = (torch.rand((2, 4, 5, 6), generator=random) < 0.4).nonzero()
    # Some voxels alone, so that there are tiles without a neighbour in some parts.
    alone = torch.cartesian_prod(*[torch.arange(20, 60, 3)] * 2)[:30]
    lonely = torch.stack([torch.ones(30), alone[:, 0], torch.full((30,), 20), alone[:, 1]], dim=1)
    return CoordinateSet(torch.cat([coords, lonely]).to(device, torch.int32), 2)


def cases(device: torch.device, bfloat16: bool = True) -> Iterator[tuple[str, float, float]]:
    """(name, largest difference over largest value, tolerance) of every case."""
    from voxlume.sparse import conv_triton, lineage_triton, neighbors_triton
    from voxlume.sparse.tiling import make_child_tiling, make_tiling

    coordinates = grid(device)
    keys = voxel_keys(coordinates.coords)
    neighbors = coordinates.memo("neighbors", lambda: find_neighbors(*keys))
    yield "hash", _error(neighbors_triton.find_neighbors(*keys), neighbors), 0
    far = coordinates.coords * torch.tensor([2**29, 1, 1, 1], dtype=torch.int32, device=device)
    far += torch.tensor([0, 1980, 1980, 1980], dtype=torch.int32, device=device)
    yield "hash far apart", _error(neighbors_triton.find_neighbors(*voxel_keys(far)), neighbors), 0
    x = SparseTensor.on(coordinates, torch.empty((len(coordinates), 0), device=device))
    kept = torch.rand((len(x), 8), generator=torch.Generator().manual_seed(1)).to(device) < 0.5
    lineage = subdivide(x, kept).children.lineage
    assert lineage is not None
    derived = derive_neighbors(neighbors, lineage)
    yield "derive", _error(neighbors_triton.derive_neighbors(neighbors, lineage), derived), 0
    # A transposed view, as nonzero() makes them: coordinates need not be contiguous.
    transposed = CoordinateSet(coordinates.coords.T.contiguous().T, 2)
    chosen = (kept, kept.flatten().cumsum(0, dtype=torch.int32), len(lineage.index))
    children = list_children(coordinates.coords, *chosen)
    listed = lineage_triton.list_children(transposed.coords, *chosen)
    yield "children of a view", _error(listed[0], children[0]), 0
    keys, order = torch.sort(voxel_keys(coordinates.coords, halvings=1)[0])
    rank = torch.nn.functional.pad((keys[1:] != keys[:-1]).cumsum(0), (1, 0)).int()
    linked = lineage_triton.link_parents(coordinates.coords, order, rank, int(rank[-1]) + 1)
    for got, expected in zip(
        linked, link_parents(coordinates.coords, order, rank, len(linked[0])), strict=True
    ):
        yield "parents", _error(got, expected), 0
    listed = lineage_triton.list_children(coordinates.coords, *chosen)
    for name, got, wanted in zip(
        ("children", "children's parents", "their rows"), listed, children, strict=True
    ):
        yield name, _error(got, wanted), 0
    for channels in (3, 40, 600):
        rows = torch.randn((len(x) * 8, channels)).to(device)
        for name, index in (("index", lineage.index), ("inverse", lineage.children.flatten())):
            source = rows[: len(lineage.index)] if name == "inverse" else rows
            gathered = lineage_triton.gather_rows(source, index)
            yield f"gather {channels} {name}", _error(gathered, gather_rows_reference(source, index)), 0

    normal = _normal(device)
    for ci, co, dtype in CONVOLUTIONS:
        if dtype == torch.bfloat16 and not bfloat16:
            continue
        features, grad = normal((len(x), ci), dtype), normal((len(x), co), dtype)
        weight, bias = normal((co, 3, 3, 3, ci), dtype), normal((co,), dtype)
        name = f"{ci} {co} {str(dtype)[6:]}"
        expected = conv_reference.forward(features, weight, bias, coordinates)
        yield (
            f"forward {name}",
            _error(conv_triton.forward(features, weight, bias, coordinates), expected),
            TOLERANCE[dtype],
        )
        expected = conv_reference.grad_weight(features, grad, coordinates)
        yield (
            f"weight {name}",
            _error(conv_triton.grad_weight(features, grad, coordinates), expected),
            TOLERANCE[dtype],
        )

    features, weight, bias = (normal(s, torch.float16) for s in ((len(x), 64), (32, 3, 3, 3, 64), (32,)))
    expected = conv_reference.forward(features, weight, bias, coordinates)
    for rows, co, ci, parts, bulk_copy in CONFIGURATIONS:
        if device.type == "cuda":
            rows *= 4  # a warp group's matrix instruction wants 64 rows
        tiles = make_tiling(neighbors, rows, parts, window=128)
        config = conv_triton.Config(rows, co, ci, 4, 2, parts)
        bulk_copy = bulk_copy and (device.type == "cpu" or torch.cuda.get_device_capability(device)[0] == 9)
        out = conv_triton.convolve(features, weight, bias, tiles, config, bulk_copy)
        yield (
            f"configuration {rows if device.type == 'cpu' else rows // 4, co, ci, parts, bulk_copy}",
            _error(out, expected),
            TOLERANCE[torch.float16],
        )

    fine = children_of(coordinates, kept)
    for (co, ci), parts in (((8, 16), 1), ((24, 32), 3)):
        features, weight, bias = (
            normal(s, torch.float16) for s in ((len(x), ci), (8 * co, 3, 3, 3, ci), (8 * co,))
        )
        slots = conv_reference.forward(features, weight, bias, coordinates).view(-1, co)
        config = conv_triton.Config(64, 16, 16, 4, 2, parts)
        tiles = make_child_tiling(neighbors, lineage, 64, parts)
        out = conv_triton.convolve(features, weight, bias, tiles, config, False, len(fine))
        expected = slots[lineage.index.long()]
        yield f"to children {ci} {co}, {parts} parts", _error(out, expected), TOLERANCE[torch.float16]
    out = conv_triton.forward_to_children(features, weight, bias, lineage)
    yield "to children", _error(out, expected), TOLERANCE[torch.float16]
    yield from _epilogues(coordinates, neighbors, lineage)


def _epilogues(
    coordinates: CoordinateSet, neighbors: torch.Tensor, lineage: Lineage
) -> Iterator[tuple[str, float, float]]:
    """Every epilogue in each place where it can happen: in the kernel itself, or after it."""
    from voxlume.sparse import conv_triton
    from voxlume.sparse.tiling import make_child_tiling, make_tiling

    normal, n, co = _normal(neighbors.device), len(neighbors), 24
    features, weight, bias = (normal(s, torch.float32) for s in ((n, 16), (co, 3, 3, 3, 16), (co,)))
    epilogues: dict[str, Norm | Residual] = {
        "norm": Norm(1e-6, normal((co,), torch.float32), normal((co,), torch.float32)),
        "SiLU norm": Norm(1e-6, silu=True),
        "residual": Residual(normal((n, co), torch.float32)),
        "residual to two": Residual(normal((n, co // 2), torch.float32)),
    }
    plain = conv_reference.forward(features, weight, bias, coordinates)
    for block, parts, names in (
        (32, 1, tuple(epilogues)),
        (16, 1, ("norm", "residual to two")),
        (16, 3, ("norm", "residual to two")),
    ):
        # Two warps take the rows in two halves.
        config = conv_triton.Config(64, block, 16, 2 if parts == 1 else 4, 2, parts)
        tiles = make_tiling(neighbors, 64, parts)
        for name in names:
            then = epilogues[name]
            out = conv_triton.convolve(features, weight, bias, tiles, config, False, then=then)
            error = _error(out, finish(plain, then))
            yield f"{name}, {block} columns, {parts} parts", error, TOLERANCE[torch.float32]
    # On children: their convolution with a norm, and the parents' channels added to another one's result.
    features, weight = (normal(s, torch.float16) for s in ((n, 16), (8 * co, 3, 3, 3, 16)))
    norm = Norm(1e-6, normal((co,), torch.float16), normal((co,), torch.float16))
    slots = conv_reference.forward(features, weight, None, coordinates).view(-1, co)
    tiles = make_child_tiling(neighbors, lineage, 64)
    config = conv_triton.Config(64, 32, 16, 4, 2)
    children = Residual(normal((n, 8 * co // 3), torch.float16), lineage)
    for name, then in (("norm", norm), ("residual", children)):
        out = conv_triton.convolve(features, weight, None, tiles, config, False, len(lineage.index), then)
        expected = finish(slots[lineage.index.long()], then)
        yield f"{name} of children", _error(out, expected), TOLERANCE[torch.float16]
    # A single voxel, whose number Triton would take for a constant.
    one = CoordinateSet(coordinates.coords[:1], 1)
    one.memo("neighbors", lambda: find_neighbors(*voxel_keys(one.coords)))
    weight, bias = normal((co, 3, 3, 3, 128), torch.float16), normal((co,), torch.float16)
    features = normal((1, 128), torch.float16)
    expected = conv_reference.forward(features, weight, bias, one, norm)
    out = conv_triton.forward(features, weight, bias, one, norm)
    yield "one voxel", _error(out, expected), TOLERANCE[torch.float16]


def _normal(device: torch.device) -> Callable[[tuple[int, ...], torch.dtype], torch.Tensor]:
    random = torch.Generator().manual_seed(2)
    return lambda shape, dtype: torch.randn(shape, generator=random).to(device, dtype)


def _error(got: torch.Tensor, expected: torch.Tensor) -> float:
    difference = (got.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max())


if __name__ == "__main__":
    # The interpreter multiplies bfloat16 wrongly: it hands NumPy the bits.
    print(json.dumps(list(cases(torch.device("cpu"), bfloat16=False))))
