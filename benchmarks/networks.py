"""The networks at their published sizes with random weights: ``python -m benchmarks.networks``.

The input is the sphere shell (:mod:`benchmarks.shell`); all times are warm medians on the device's clock.
Weights are made on the device in the published precision (bf16 and fp16 blocks). ``--scale small`` runs
the same program with small networks, to show anywhere that it works.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.random_model import RandomModel, published_networks
from benchmarks.report import environment, keep
from benchmarks.shell import crosses, shell_levels
from benchmarks.timing import milliseconds
from voxlume.errors import MemoryBudgetError
from voxlume.flow.sampler import PUBLISHED_MATERIAL, PUBLISHED_SHAPE, PUBLISHED_STRUCTURE
from voxlume.models.flow_run import FlowRun
from voxlume.models.flow_transformer import FlowTransformer, FlowTransformerConfig
from voxlume.models.layers import silu_mlp, silu_mlp_reference
from voxlume.models.sc_vae import DecoderConfig, ScVaeDecoder, ScVaeEncoder
from voxlume.models.subdivision import subdivision_masks
from voxlume.pipelines import stages
from voxlume.pipelines.memory import Networks
from voxlume.pipelines.presets import tiny
from voxlume.pipelines.results import ImageCondition, Latent, Structure
from voxlume.sparse import SparseTensor, submanifold_conv3d
from voxlume.sparse.neighbors import neighbor_map
from voxlume.sparse.resample import parents_of
from voxlume.sparse.tensor import CoordinateSet

Row = dict[str, Any]

PUBLISHED_MS = {
    "structure DiT forward": (42.9, 26, 20),
    "shape DiT forward, low": (60.7, 16, 11),
    "shape DiT forward, high": (139.7, 95, 75),
    "shape DiT forward, 22,000 tokens": (379, 290, 240),
    "shape DiT forward, 49,152 tokens": (1196, 980, 850),
    "shape decode, low": (34.7, 24, 15),
    "shape decode, high": (110, 75, 45),
    "shape encode, low": (28.0, 20, 12),
    "shape encode, high": (86.9, 60, 35),
    "convolution 64": (1.85, 1.85 * 0.7, 1.85 * 0.4),
    "convolution 128": (1.31, 1.31 * 0.7, 1.31 * 0.4),
    "convolution 256": (0.93, 0.93 * 0.7, 0.93 * 0.4),
    "convolution 512": (1.07, 1.07 * 0.7, 1.07 * 0.4),
    "convolution 1024": (1.33, 1.33 * 0.7, 1.33 * 0.4),
    "first decode in a new process": (16_000, 3000, 1000),
    "all networks of the cascade": (6800, 4500, 3000),
}
"""Row -> milliseconds on one H200: the published implementation, what must be reached, the aim."""

BUDGETS = (3, 4, 5, 6, 7, 8, 10, 12)


@dataclass(frozen=True)
class Scale:
    """Sizes of one run.

    Attributes
    ----------
    low, high : O-Voxel grids of the two levels.
    long : token counts of the two largest forward passes.
    """

    name: str
    model: RandomModel
    low: int
    high: int
    long: tuple[int, int]


def full_scale() -> Scale:
    return Scale("full", RandomModel(published_networks(), 512, (512, 1024)), 512, 1024, (22_000, 49_152))


def small_scale() -> Scale:
    preset = tiny()
    model = RandomModel(preset.networks, preset.base_resolution, preset.image_sizes)
    return Scale("small", model, 64, 128, (500, 1000))


class Bench:
    """The rows of one run, and what they are measured with."""

    def __init__(self, scale: Scale, device: torch.device) -> None:
        self.scale, self.device = scale, device
        self.networks = Networks(scale.model, device, None, math.inf)
        self.rows: list[Row] = []
        self._guided: dict[int, tuple[Tensor, Tensor, list[Tensor]]] = {}
        self.levels = shell_levels(scale.high, device)
        self.ceiling = matmul_ceiling(device)
        decoder = cast(DecoderConfig, self.networks.config(stages.SHAPE_DECODER))
        self.steps = len(decoder.channels) - 1

    def add(self, name: str, ms: float, operations: float | None = None) -> None:
        row: Row = {"work": name, "ms": round(ms, 3)}
        if self.scale.name == "full" and name in PUBLISHED_MS:
            row |= dict(zip(("published", "must", "aim"), PUBLISHED_MS[name], strict=True))
        if operations is not None:
            row["tflops"] = round(operations / ms / 1e9, 2)
            row["share_of_matmul_ceiling"] = round(operations / ms / 1e9 / self.ceiling, 3)
        self.rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)

    def time(self, name: str, work: Callable[[], object], operations: float | None = None) -> None:
        with torch.no_grad():
            self.add(name, milliseconds(work, self.device, 1.0), operations)

    # -- parts of the input ------------------------------------------------------------------------

    def cells(self, resolution: int) -> CoordinateSet:
        """The latent grid's cells of the shell at an O-Voxel resolution."""
        fine = self.levels[resolution]
        for _ in range(self.steps):
            fine = parents_of(fine).parents
        return fine

    def guided(self, resolution: int) -> tuple[SparseTensor, list[Tensor]]:
        """A random latent on the shell, and the masks that lead a decoder to the shell's voxels.

        The latent's coordinate set is new each time: its neighbour maps are part of the decoder's work.
        """
        if resolution not in self._guided:
            coords = self.cells(resolution).coords
            decoder = cast(DecoderConfig, self.networks.config(stages.SHAPE_DECODER))
            features = torch.randn(len(coords), decoder.latent_channels, device=self.device)
            latent = SparseTensor.on(CoordinateSet(coords, 1), features)
            masks = subdivision_masks(latent, self.levels[resolution], self.steps)
            self._guided[resolution] = coords, features, masks
        coords, features, masks = self._guided[resolution]
        return SparseTensor.on(CoordinateSet(coords, 1), features), masks

    def condition_tokens(self, high: bool) -> int:
        config: Any = self.networks.config(stages.IMAGE_ENCODER)
        size = self.scale.model.config.image_sizes[high]
        return (size // config.patch) ** 2 + 1 + config.registers

    # -- rows --------------------------------------------------------------------------------------

    def flows(self) -> None:
        structure = cast(FlowTransformerConfig, self.networks.config(stages.STRUCTURE_FLOW))
        grid = structure.resolution
        noise = torch.randn(1, structure.in_channels, grid, grid, grid, device=self.device)
        self._flow("structure DiT forward", stages.STRUCTURE_FLOW, noise, high=False)
        for name, high in (("low", False), ("high", True)):
            coords = self.cells(self.scale.high if high else self.scale.low).coords
            self._flow(f"shape DiT forward, {name}", stages.SHAPE_FLOWS[high], self._noise(coords), high)
        for count in self.scale.long:
            coords = shell_tokens(count, self.device)
            name = f"shape DiT forward, {count:,} tokens"
            self._flow(name, stages.SHAPE_FLOWS[1], self._noise(coords), True)

    def _noise(self, coords: Tensor) -> SparseTensor:
        config = cast(FlowTransformerConfig, self.networks.config(stages.SHAPE_FLOWS[0]))
        features = torch.randn(len(coords), config.in_channels, device=self.device)
        return SparseTensor.on(CoordinateSet(coords, 1), features)

    def _flow(self, name: str, key: str, noise: Any, high: bool) -> None:
        config = cast(FlowTransformerConfig, self.networks.config(key))
        with torch.no_grad(), self.networks.using(key) as (net,):
            assert isinstance(net, FlowTransformer)
            run = FlowRun(net, noise)
            m = self.condition_tokens(high)
            condition = net.prepare_condition(torch.randn(1, m, config.condition_width, device=self.device))
            t = torch.full((1,), 500.0, device=self.device)
            n = sum(run.layout.lengths)
            self.time(name, lambda: run(noise, t, condition), flow_operations(config, n, m))
        self.networks.release()

    def autoencoders(self) -> None:
        for name, resolution in (("low", self.scale.low), ("high", self.scale.high)):
            for content, key in (("shape", stages.SHAPE_DECODER), ("material", stages.MATERIAL_DECODER)):
                with self.networks.using(key) as (net,):
                    assert isinstance(net, ScVaeDecoder)
                    config = cast(DecoderConfig, self.networks.config(key))
                    operations = decoder_operations(config, self.levels[resolution], self.steps)

                    def decode(net: ScVaeDecoder = net, resolution: int = resolution) -> object:
                        return net(*self.guided(resolution))

                    self.time(f"{content} decode, {name}", decode, operations)
                    self._peak(decode)
            with self.networks.using(stages.SHAPE_ENCODER) as (net,):
                assert isinstance(net, ScVaeEncoder)
                coords = self.levels[resolution].coords
                features = torch.rand(len(coords), 6, device=self.device) - 0.5

                def encode(net: ScVaeEncoder = net) -> object:
                    return net(SparseTensor.on(CoordinateSet(coords, 1), features))  # noqa: B023

                self.time(f"shape encode, {name}", encode)
            self.networks.release()

    def _peak(self, work: Callable[[], object]) -> None:
        """Add to the last row how much memory its work takes at most, its weights included."""
        if self.device.type != "cuda":
            return
        torch.cuda.reset_peak_memory_stats()
        with torch.no_grad():
            work()
        self.rows[-1]["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)

    def convolutions(self) -> None:
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        # Its own coordinate sets, so that their neighbour maps go with them.
        here, channels = shell_levels(self.scale.high, self.device)[self.scale.high], 64
        while channels <= 1024 and len(here) > 64:
            x = SparseTensor.on(here, torch.randn(len(here), channels, device=self.device, dtype=dtype))
            weight = torch.randn(channels, 3, 3, 3, channels, device=self.device, dtype=dtype) * 0.01
            pairs = int((neighbor_map(here) >= 0).sum())
            operations = 2.0 * pairs * channels**2
            self.time(f"convolution {channels}", partial(submanifold_conv3d, x, weight), operations)
            here, channels = parents_of(here).parents, 2 * channels

    def mlps(self) -> None:
        """The MLPs of the wide levels in one kernel and as the products and activations that it replaces."""
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        for resolution in (self.scale.low, self.scale.high):
            here = self.levels[resolution]
            for c in (128, 256):
                here = parents_of(here).parents
                n, grid = len(here), resolution * 64 // c
                h, residual = (torch.randn(n, c, device=self.device, dtype=dtype) for _ in range(2))
                widen, narrow = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)
                for layer in (widen, narrow):
                    layer.to(self.device, dtype)
                operations = 16.0 * n * c * c
                for kind, mlp in (("one kernel", silu_mlp), ("step by step", silu_mlp_reference)):
                    work = partial(mlp, h, widen, narrow, residual)
                    self.time(f"MLP {c} at {grid}, {kind}", work, operations)

    def uploads(self) -> None:
        """Networks that come back from main memory, as they do where a budget had them leave."""
        for name, key in (("flow", stages.SHAPE_FLOWS[1]), ("shape decoder", stages.SHAPE_DECODER)):

            def back(key: str = key) -> None:
                self.networks.release()
                with self.networks.using(key):
                    pass

            back()  # drawn and kept in main memory
            self.time(f"{name} back on the device", back)
            self.rows[-1]["gb_per_s"] = round(self.networks.weight_bytes(key) / self.rows[-1]["ms"] / 1e6, 2)

    def cascade(self, budget: float | None = math.inf) -> Row:
        """All networks of the cascade once, through the pipeline's own stages; milliseconds and peak."""
        networks = (
            self.networks if budget == math.inf else Networks(self.scale.model, self.device, None, budget)
        )
        before = torch.cuda.memory_allocated() if self.device.type == "cuda" else 0
        self._cascade(networks)  # warm
        start = time.perf_counter()
        parts, peaks = self._cascade(networks)
        total = 1e3 * (time.perf_counter() - start)
        row: Row = {"ms": round(total, 1), "parts_ms": parts}
        if peaks:
            row["peak_gb"] = max(allocated for allocated, _ in peaks.values())
            row["peak_reserved_gb"] = max(reserved for _, reserved in peaks.values())
            row["parts_peak_and_reserved_gb"] = peaks
            row["there_before_gb"] = round(before / 1e9, 2)
        networks.release()
        return row

    def _cascade(self, networks: Networks) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
        """Milliseconds of each part, and on CUDA the most that was allocated and reserved in it."""
        parts: dict[str, float] = {}
        peaks: dict[str, tuple[float, float]] = {}

        def clocked(name: str, work: Callable[[], Any]) -> Any:
            if self.device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            result = work()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
                most = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
                peaks[name] = round(most[0] / 1e9, 2), round(most[1] / 1e9, 2)
            parts[name] = round(1e3 * (time.perf_counter() - start), 1)
            return result

        picture = np.zeros((256, 256, 3), np.uint8)
        low, high = (
            Structure(self.cells(r).coords[:, 1:].cpu().contiguous(), r >> self.steps)
            for r in (self.scale.low, self.scale.high)
        )
        condition: ImageCondition = clocked(
            "encode the picture", lambda: stages.encode_images(networks, [picture])
        )

        def shape(cells: Structure, at_high: bool) -> list[Latent]:
            return stages.sample_shape(networks, condition, [cells], [0], PUBLISHED_SHAPE, high=at_high)

        def decode(key: str, resolution: int) -> Callable[[], None]:
            return lambda: self._decode(networks, key, resolution)

        clocked("structure", lambda: stages.sample_structure(networks, condition, [0], PUBLISHED_STRUCTURE))
        clocked("shape, low", lambda: shape(low, False))
        # Random logits would not lead to the shell: a guided decode at the low resolution in its place.
        clocked("upsample", decode(stages.SHAPE_DECODER, self.scale.low))
        shapes = clocked("shape, high", lambda: shape(high, True))
        clocked(
            "material",
            lambda: stages.sample_material(networks, condition, shapes, [0], PUBLISHED_MATERIAL, high=True),
        )
        clocked("decode the shape", decode(stages.SHAPE_DECODER, self.scale.high))
        clocked("decode the material", decode(stages.MATERIAL_DECODER, self.scale.high))
        return parts, peaks

    def _decode(self, networks: Networks, key: str, resolution: int) -> None:
        latent, masks = self.guided(resolution)
        config: Any = networks.config(key)
        working = stages.decoder_bytes(config, len(latent), networks.item_bytes(key))
        with (
            torch.no_grad(),
            networks.using(key, working=working, what=f"decoding at {resolution}") as (net,),
        ):
            net(latent, masks)

    def budgets(self) -> Row:
        """The smallest budget that works, with its time and true peak, and why smaller ones do not."""
        result: Row = {"refusals": []}
        for gigabytes in BUDGETS:
            try:
                result["smallest"] = {"budget_gb": gigabytes} | self.cascade(gigabytes)
                break
            except MemoryBudgetError as error:
                result["refusals"].append({"budget_gb": gigabytes, "error": str(error), "usage": error.usage})
                print(result["refusals"][-1], flush=True)
            torch.cuda.empty_cache()  # the failed work's tensors went with the error
        return result


def shell_tokens(count: int, device: torch.device) -> Tensor:
    """The first ``count`` cells of the coarsest sphere shell that has as many, int32 (count, 4)."""
    resolution = 8
    while True:
        axis = torch.arange(resolution, device=device)
        grid = torch.cartesian_prod(axis, axis, axis)
        coords = grid[crosses(grid, resolution)].int()
        if len(coords) >= count:
            return torch.nn.functional.pad(coords[:count], (1, 0))
        resolution += 4


def matmul_ceiling(device: torch.device) -> float:
    """TFLOP/s of a large half-precision matrix product (float32 on a CPU)."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / milliseconds(lambda: a @ b, device) / 1e9


def flow_operations(config: FlowTransformerConfig, n: int, m: int) -> float:
    """Multiply-adds times two of one forward pass with prepared conditions."""
    c = config.width
    linear = 3 * c * c + c * c + c * c + c * c + 2 * c * config.mlp_width
    return 2.0 * config.blocks * (n * linear + 2 * n * (n + m) * c)


def decoder_operations(config: DecoderConfig, fine: CoordinateSet, steps: int) -> float:
    """Multiply-adds times two of the convolutions and MLPs of a decode that ends at ``fine``."""
    levels = [CoordinateSet(fine.coords, 1)]
    for _ in range(steps):
        levels.insert(0, parents_of(levels[0]).parents)
    pairs = [int((neighbor_map(level) >= 0).sum()) for level in levels]
    total = 0.0
    for i, c in enumerate(config.channels):
        total += config.blocks[i] * (pairs[i] * c * c + 8 * len(levels[i]) * c * c)
        if i < steps:
            narrow = config.channels[i + 1]
            total += pairs[i] * c * 8 * narrow + pairs[i + 1] * narrow * narrow
    return 2 * total


def first_decode(scale: str, device: str) -> float:
    """Milliseconds of the first decode of a new process whose kernels are cached on disk."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.networks",
        "--scale",
        scale,
        "--device",
        device,
        "--only-first",
    ]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def only_first(bench: Bench) -> float:
    """Time the very first decode of this process, weights in place."""
    with torch.no_grad(), bench.networks.using(stages.SHAPE_DECODER) as (net,):
        latent, masks = bench.guided(bench.scale.low)
        if bench.device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        net(latent, masks)
        if bench.device.type == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - start)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=("full", "small"), default="full")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--rows", default="flows,autoencoders,convolutions,mlps,uploads,first,cascade,default,budgets"
    )
    parser.add_argument("--out", type=Path, help="folder for the JSON (default: benchmarks/results)")
    parser.add_argument("--only-first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    bench = Bench(full_scale() if options.scale == "full" else small_scale(), device)
    if options.only_first:
        print(only_first(bench))
        return
    rows = options.rows.split(",")
    print(f"matmul ceiling {bench.ceiling:.1f} TFLOP/s", flush=True)
    result: Row = {"environment": environment(options.device), "matmul_tflops": round(bench.ceiling, 1)}
    name = f"networks_{options.scale}_{device.type}"

    def keep_rows() -> Path:
        """What is known so far, so that a run that is cut short leaves its finished rows."""
        return keep(result | {"rows": bench.rows}, name, options.out)

    for group in ("convolutions", "mlps", "flows", "autoencoders", "uploads"):
        if group in rows:
            getattr(bench, group)()
            bench.networks.release()
            keep_rows()
    if "cascade" in rows:
        result["cascade"] = bench.cascade()
        bench.add("all networks of the cascade", result["cascade"]["ms"])
        keep_rows()
    for group, measure in (("default", lambda: {"default": bench.cascade(None)}), ("budgets", bench.budgets)):
        if group in rows and device.type == "cuda":
            result["budgets"] = result.get("budgets", {}) | measure()
            print(result["budgets"], flush=True)
            keep_rows()
    if "first" in rows:
        bench.networks.release()
        bench.add("first decode in a new process", first_decode(options.scale, options.device))
    print(f"wrote {keep_rows()}")


if __name__ == "__main__":
    main()
