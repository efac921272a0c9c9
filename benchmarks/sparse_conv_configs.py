"""Time many configurations of the convolution kernel; ``choose_config`` was filled in from its output.

    python -m benchmarks.sparse_conv_configs            # the five levels of the decoder
    python -m benchmarks.sparse_conv_configs 512 128 32 # a grid, channels in, channels out

For a chip that has no configurations of its own yet. Needs a CUDA device; about a second per line.
"""

from __future__ import annotations

import argparse
from itertools import product

import torch

from benchmarks.shell import shell_levels
from benchmarks.sparse_conv import PUBLISHED
from benchmarks.timing import milliseconds
from voxlume.sparse.conv_triton import Config, choose_config, convolve
from voxlume.sparse.neighbors import neighbor_map
from voxlume.sparse.tensor import CoordinateSet
from voxlume.sparse.tiling import Tiling, make_tiling


def candidates(ci: int, co: int) -> list[Config]:
    blocks = [block for block in (16, 32, 64, 128, 256) if block == 16 or block <= co]
    steps = [step for step in (32, 64, 128) if step == 32 or step <= ci]
    return [
        Config(rows, block, step, warps, stages, parts)
        for rows, block, step, warps, stages, parts in product(
            (64, 128), blocks[-2:], steps[-2:], (4, 8), (2, 3, 4), (1, 3)
        )
        if rows * block // warps <= 4096  # the sums must fit the registers
    ]


def sweep(here: CoordinateSet, ci: int, co: int) -> None:
    device, n = here.coords.device, len(here)
    capability = torch.cuda.get_device_capability(device)
    neighbors = neighbor_map(here)
    features = torch.randn((n, ci), device=device, dtype=torch.float16)
    weight = torch.randn((co, 3, 3, 3, ci), device=device, dtype=torch.float16) / (15 * ci) ** 0.5
    chosen = choose_config(n, ci, co, features.dtype, capability)
    results = []
    for config in candidates(ci, co):
        tiles = make_tiling(neighbors, config.rows, config.parts)

        def work(config: Config = config, tiles: Tiling = tiles) -> torch.Tensor:
            return convolve(features, weight, None, tiles, config, bulk_copy=capability[0] == 9)

        try:
            results.append((milliseconds(work, device), config))
        except Exception as error:  # too much shared memory or registers for this chip
            print(f"{config}: {str(error).splitlines()[0][:80]}")
    for ms, config in sorted(results, key=lambda result: result[0])[:8]:
        print(f"{ci} to {co}, {n} voxels: {ms:.3f} ms {config}{'  <- chosen' if config == chosen else ''}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", type=int, nargs="*", metavar="N", help="grid, channels in, channels out")
    shape = parser.parse_args().shape
    levels = shell_levels(1024, "cuda")
    for resolution, ci, co in [tuple(shape)] if shape else PUBLISHED:
        sweep(levels[resolution], ci, co)


if __name__ == "__main__":
    main()
