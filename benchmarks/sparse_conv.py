"""Sparse convolution, neighbour map and resampling on the sphere shell: ``python -m benchmarks.sparse_conv``.

Every convolution is first compared with the float32 twin on random data, then timed warm (medians).
On a GPU the shell is 1024^3; elsewhere a small one runs, to show that the program works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.report import environment, keep
from benchmarks.shell import shell_levels
from benchmarks.timing import milliseconds
from voxlume.sparse import (
    SparseTensor,
    Subdivision,
    channel_to_space,
    conv_reference,
    kernels,
    space_to_channel,
    subdivide,
)
from voxlume.sparse.conv import submanifold_conv3d, submanifold_conv3d_to_children
from voxlume.sparse.neighbors import derive_neighbors, find_neighbors, neighbor_map, voxel_keys
from voxlume.sparse.selfcheck import kernels_are_right
from voxlume.sparse.tensor import CoordinateSet

PUBLISHED = {
    (1024, 64, 64): 1.85,
    (512, 128, 128): 1.31,
    (256, 256, 256): 0.93,
    (128, 512, 512): 1.07,
    (64, 1024, 1024): 1.33,
}
"""Grid, channels in and out -> milliseconds of the published implementation on one H200."""

TO_CHILDREN = [(64, 1024, 512), (128, 512, 256), (256, 256, 128), (512, 128, 64)]
TO_PARENTS = [(1024, 64, 16), (512, 128, 32), (256, 256, 64), (128, 512, 128)]
"""Grid, channels in and out of the first convolutions of the resampling blocks, decoder and encoder."""

Row = dict[str, object]


def convolution(here: CoordinateSet, shape: tuple[int, int, int], dtype: torch.dtype, training: bool) -> Row:
    resolution, ci, co = shape
    device = here.coords.device
    pairs = int((neighbor_map(here) >= 0).sum())
    x = SparseTensor.on(here, torch.randn((len(here), ci), device=device, dtype=dtype))
    weight = torch.randn((co, 3, 3, 3, ci), device=device, dtype=dtype) / (15 * ci) ** 0.5
    bias = torch.randn(co, device=device, dtype=dtype)
    expected = conv_reference.forward(x.features, weight, bias, here)
    error = _error(submanifold_conv3d(x, weight, bias), expected)
    del expected
    ms = milliseconds(lambda: submanifold_conv3d(x, weight, bias), device)
    row: Row = {
        "work": f"conv {ci} to {co} at {resolution}, {str(dtype)[6:]}",
        "voxels": len(here),
        "dtype": str(dtype)[6:],
        "ms": ms,
        "published ms": PUBLISHED.get(shape) if dtype == torch.float16 else None,
        "TFLOP/s": 2 * pairs * ci * co / ms / 1e9,
        "error": error,
    }
    if shape in PUBLISHED:
        row["sustained ms"] = milliseconds(lambda: submanifold_conv3d(x, weight, bias), device, seconds=1.0)
    if training:
        inputs = [x.features.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
        out = submanifold_conv3d(x, weight, bias)
        seed = torch.randn_like(out)
        grads = torch.autograd.grad(out, inputs, seed, retain_graph=True)
        row["error of weight gradient"] = _error(grads[1], conv_reference.grad_weight(x.features, seed, here))
        row["backward ms"] = milliseconds(
            lambda: torch.autograd.grad(out, inputs, seed, retain_graph=True), device
        )
    return row


def to_children(parents: CoordinateSet, children: CoordinateSet, ci: int, co: int, resolution: int) -> Row:
    """The first convolution of a decoder's resampling block, tiles included: they are used once."""
    device = parents.coords.device
    x = SparseTensor.on(parents, torch.randn((len(parents), ci), device=device, dtype=torch.float16))
    weight = torch.randn((8 * co, 3, 3, 3, ci), device=device, dtype=torch.float16) / (15 * ci) ** 0.5
    bias = torch.randn(8 * co, device=device, dtype=torch.float16)
    plan = Subdivision(children)
    with torch.no_grad():
        expected = channel_to_space(x.with_features(submanifold_conv3d(x, weight, bias)), plan).features
        error = _error(submanifold_conv3d_to_children(x, weight, bias, plan).features, expected)
        ms = milliseconds(lambda: submanifold_conv3d_to_children(x, weight, bias, plan), device)
        whole = milliseconds(
            lambda: channel_to_space(x.with_features(submanifold_conv3d(x, weight, bias)), plan), device
        )
    return {
        "work": f"conv {ci} to the children's {co} at {resolution}",
        "voxels": len(children),
        "dtype": "float16",
        "ms": ms,
        "error": error,
        "ms of all children, then selecting": whole,
    }


def preparation(here: CoordinateSet, resolution: int) -> list[Row]:
    """What a coordinate set costs once, and the resampling that makes and uses it."""
    device, n = here.coords.device, len(here)
    keys = voxel_keys(here.coords)
    lineage = here.lineage
    assert lineage is not None
    parents = neighbor_map(lineage.parents)
    find, derive = find_neighbors, derive_neighbors
    work = {"keys": lambda: voxel_keys(here.coords)}
    if device.type == "cuda":
        from voxlume.sparse import neighbors_triton
        from voxlume.sparse.tiling import make_tiling

        neighbors = neighbor_map(here)
        find, derive = neighbors_triton.find_neighbors, neighbors_triton.derive_neighbors
        work["tiles of 128 rows"] = lambda: make_tiling(neighbors, 128)
    work["neighbours by look-up"] = lambda: find(*keys)
    work["neighbours from the parents' map"] = lambda: derive(parents, lineage)
    kept = lineage.children >= 0
    coarse = SparseTensor.on(
        lineage.parents, torch.randn((len(kept), 512), device=device, dtype=torch.float16)
    )
    plan = subdivide(coarse, kept)
    fine = SparseTensor.on(here, torch.randn((n, 64), device=device, dtype=torch.float16))
    space_to_channel(fine)
    work["subdivide"] = lambda: subdivide(coarse, kept)
    work["channel to space, 512 to 64"] = lambda: channel_to_space(coarse, plan)
    work["find parents"] = lambda: space_to_channel(SparseTensor(here.coords, fine.features))
    work["space to channel, 64 to 512"] = lambda: space_to_channel(fine)
    return [
        {"work": f"{name} at {resolution}", "voxels": n, "ms": milliseconds(step, device)}
        for name, step in work.items()
    ]


def ceilings(device: torch.device) -> list[Row]:
    """What the device reaches on a large matrix product and a large copy."""
    rows: list[Row] = []
    for dtype in (torch.float16, torch.bfloat16):
        a, b = (torch.randn((8192, 8192), device=device, dtype=dtype) for _ in range(2))
        ms = milliseconds(lambda a=a, b=b: a @ b, device)  # type: ignore[misc]
        rows.append(
            {"work": f"matrix product of 8192, {str(dtype)[6:]}", "ms": ms, "TFLOP/s": 2 * 8192**3 / ms / 1e9}
        )
    source = torch.randn(2**29, device=device)
    target = torch.empty_like(source)
    ms = milliseconds(lambda: target.copy_(source), device)
    rows.append({"work": "copy of 2 GiB", "ms": ms, "TB/s": 2**32 / ms / 1e9})
    return rows


def first_call() -> None:
    """Run in a process of its own: the check of the kernels and a first convolution at each level."""
    start = time.perf_counter()
    device = torch.device("cuda")
    torch.zeros(1, device=device)
    started = time.perf_counter()
    kernels_are_right(device)
    checked = time.perf_counter()
    levels = shell_levels(512, device)
    for size, c in zip(levels, (1024, 512, 256, 128), strict=True):
        x = SparseTensor.on(
            levels[size], torch.randn((len(levels[size]), c), device=device, dtype=torch.float16)
        )
        submanifold_conv3d(x, torch.randn((c, 3, 3, 3, c), device=device, dtype=torch.float16))
    torch.cuda.synchronize()
    done = time.perf_counter()
    print(
        json.dumps(
            {"start CUDA": started - start, "check": checked - started, "first convolutions": done - checked}
        )
    )


def first_calls() -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("nothing cached", "kernels cached on disk"):
            program = [sys.executable, "-m", "benchmarks.sparse_conv", "--first-call"]
            env = {**os.environ, "TRITON_CACHE_DIR": folder}
            out = subprocess.run(program, env=env, capture_output=True, text=True, check=True).stdout
            for step, seconds in json.loads(out.splitlines()[-1]).items():
                rows.append({"work": f"{step}, {name}", "ms": seconds * 1e3})
    return rows


def _error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over norm of the expected."""
    return float((got.detach().float() - expected.detach().float()).norm() / expected.detach().float().norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the JSON (default: benchmarks/results)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--first-call", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_call:
        first_call()
        return
    device = torch.device(options.device)
    gpu = device.type == "cuda"
    rows: list[Row] = first_calls() if gpu else []
    rows += ceilings(device) if gpu else []
    levels = shell_levels(1024 if gpu else 128, device)
    shapes = [*PUBLISHED, *TO_PARENTS] if gpu else [(128, 64, 64)]
    half = torch.float16 if gpu else torch.float32
    for shape in shapes:
        rows.append(convolution(levels[shape[0]], shape, half, training=shape in PUBLISHED or not gpu))
    if gpu:
        rows += [to_children(levels[r], levels[2 * r], ci, co, r) for r, ci, co in TO_CHILDREN]
        rows.append(convolution(levels[512], (512, 128, 128), torch.bfloat16, training=False))
        rows.append(convolution(levels[512], (512, 128, 128), torch.float32, training=True))
        with kernels("reference"):
            rows.append(
                {
                    **convolution(levels[512], (512, 128, 128), torch.float16, False),
                    "work": "the twin, 128 at 512",
                }
            )
    for resolution in [r for r in levels if r > 64]:
        rows += preparation(levels[resolution], resolution)
    for row in rows:
        numbers = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float) and k != "ms")
        print(f"{row['work']:44s} {row['ms']:9.3f} ms  {numbers}")
    keep({"environment": environment(options.device), "rows": rows}, "sparse_conv", options.out)


if __name__ == "__main__":
    main()
