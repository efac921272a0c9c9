"""A memory budget: which networks stay on the device, and how large the pieces of work are.

A budget is in GB (10^9 bytes) and covers weights, activations and whatever else this process has put on
the device, not the driver's own memory. Weights come straight from the mapped safetensors file to the device,
and leave it by being dropped: what moves out takes no memory anywhere, and the operating system's file cache
makes it quick to move in again. A network leaves only when nobody holds it: keep none beyond its block.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from voxlume.errors import MemoryBudgetError, VoxlumeError
from voxlume.models.flow_transformer import FlowTransformerConfig
from voxlume.models.image_encoder import ImageEncoderConfig
from voxlume.models.layers import use_fused
from voxlume.models.precision import DTYPES
from voxlume.models.published import NetworkConfig
from voxlume.models.sc_vae import DecoderConfig, EncoderConfig
from voxlume.models.structure_vae import StructureDecoderConfig, StructureEncoderConfig
from voxlume.pipelines.model_folder import ModelFolder
from voxlume.sparse.memory import memory_budget

DEFAULT_CUDA_GB = 12.0
"""Used where nothing else is asked for; leaves room for other programs on a common card."""

SLACK, LIMITED_SLACK = 0.03, 0.08
"""Share of a budget on CUDA that is not planned with: the libraries' work spaces, and where PyTorch refuses
what goes beyond the budget, the gaps in its allocator's blocks."""

MARGIN = 1.25
"""How much above the estimate a budget is named that is said to fit."""

FLOW_MARGIN = 1.1
"""On top of what the tensors of a flow network take: the work spaces of its products and its attention."""

LARGEST_CHUNK_GB, SMALLEST_CHUNK_GB = 1.0, 0.02


def pick_device(name: str = "auto") -> torch.device:
    """``"auto"`` is CUDA, else MPS, else the CPU.

    Raises
    ------
    VoxlumeError : the name is not a device of this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise VoxlumeError(f"{name!r} is not a device; use auto, cpu, mps, cuda or cuda:N") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise VoxlumeError(f"{name} is not there: PyTorch sees {count} CUDA devices (`voxlume doctor`)")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise VoxlumeError("this machine or this PyTorch has no MPS device (`voxlume doctor`)")
    if device.type not in ("cpu", "mps"):
        raise VoxlumeError(f"{name!r} is not supported; use auto, cpu, mps, cuda or cuda:N")
    return device


class Networks:
    """The networks of a model, on the device when a stage needs them and as far as the budget allows.

    Parameters
    ----------
    device : where they run.
    dtype : what their blocks compute in; None takes each checkpoint's own precision (float32 on a CPU).
    budget_gb : None means 12 GB on CUDA and no limit elsewhere; ``math.inf`` is no limit.
    """

    def __init__(
        self,
        folder: ModelFolder,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        budget_gb: float | None = None,
    ) -> None:
        self.folder = folder
        self.device = torch.device(device)
        self.dtype = dtype
        self.limited = budget_gb is not None and math.isfinite(budget_gb)
        if budget_gb is None:
            budget_gb = _default_budget(self.device)
        if not budget_gb > 0:
            raise MemoryBudgetError(f"a memory budget of {budget_gb} GB is not possible")
        self.budget = budget_gb * 1e9
        slack = LIMITED_SLACK if self.limited else SLACK
        self.room = self.budget * (1 - slack) if self.device.type == "cuda" else self.budget
        self._loaded: dict[str, nn.Module] = {}  # in the order of their last use
        self._configs: dict[str, NetworkConfig] = {}
        self._counts: dict[str, int] = {}

    def config(self, key: str) -> NetworkConfig:
        """Sizes of a network, without loading it."""
        if key not in self._configs:
            self._configs[key] = self.folder.network_config(key)
        return self._configs[key]

    def item_bytes(self, key: str) -> int:
        """Bytes of a number in a network's blocks."""
        if self.dtype is not None:
            return self.dtype.itemsize
        if self.device.type == "cpu":
            return 4
        return DTYPES[self.config(key).precision].itemsize

    def fused(self, key: str) -> bool:
        """Whether fused kernels serve a network's blocks, which then take less memory."""
        dtype = self.dtype or DTYPES[self.config(key).precision]
        try:
            with torch.no_grad():
                return use_fused(torch.empty(0, dtype=dtype, device=self.device))
        except RuntimeError as error:
            # The kernels are tried the first time that they are asked for. Whether their twins would fit,
            # and what to say if not, is for the plan.
            if not is_out_of_memory(error):
                raise
            return False

    def weight_bytes(self, key: str) -> int:
        if key not in self._counts:
            self._counts[key] = self.folder.weight_count(key)
        return self._counts[key] * self.item_bytes(key)

    @contextmanager
    def using(self, *keys: str, working: float = 0.0, what: str = "this stage") -> Iterator[list[nn.Module]]:
        """The named networks on the device, with room for ``working`` bytes of activations.

        Inside the block the operations split their work so as to stay within the budget.

        Raises
        ------
        MemoryBudgetError : they cannot fit, or the device ran out of memory; names a budget that would do.
        ModelFileError : a network is missing or damaged.
        """
        weights = sum(self.weight_bytes(key) for key in keys)
        needed = weights + working + SMALLEST_CHUNK_GB * 1e9 * min(1.0, working / 1e9)
        if needed > self.room:
            raise MemoryBudgetError(self._refusal(what, needed))
        self._make_room(set(keys), needed)
        # What is left after weights and activations is shared by the temporary buffers of one operation.
        held = self._held_bytes(set(keys))
        spare = self.room - held - weights - working
        with ExitStack() as stack:
            if math.isfinite(self.budget):
                chunk = min(LARGEST_CHUNK_GB, max(SMALLEST_CHUNK_GB, spare / 2e9))
                stack.enter_context(memory_budget(chunk))
            if self.limited:
                stack.enter_context(_device_limit(self.device, self.budget))
            try:
                yield [self._get(key) for key in keys]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                message = self._exhausted(what, set(keys), needed, error)
                first_line = f"{error}".split("\n")[0]
                expected = f"expected {_gb(needed)} GB for {what} beside {_gb(held)} GB"
                usage = f"{self.usage()}; {expected}; {first_line}"
                self.release()
                raise MemoryBudgetError(message, usage) from error

    def release(self) -> None:
        """Drop all networks from the device."""
        self._loaded.clear()
        self._empty_cache()

    def usage(self) -> str:
        """What lies on the device now, in one line: each network's weights, and what PyTorch counts."""
        weights = [f"{key} {_gb(self.weight_bytes(key))}" for key in self._loaded]
        parts = [f"weights: {', '.join(weights) or 'none'}"]
        if self.device.type == "cuda":
            allocated = torch.cuda.memory_allocated(self.device)
            others = allocated - self._resident_bytes(set())
            parts.append(f"allocated {_gb(allocated)}, {_gb(others)} of it no weights")
            parts.append(f"reserved {_gb(torch.cuda.memory_reserved(self.device))}")
        return "; ".join(parts) + " GB"

    def _get(self, key: str) -> nn.Module:
        network = self._loaded.pop(key, None)
        if network is None:
            network = self.folder.load(key, self.dtype, self.device)
        self._loaded[key] = network
        return network

    def _resident_bytes(self, without: set[str]) -> int:
        return sum(self.weight_bytes(key) for key in self._loaded if key not in without)

    def _held_bytes(self, wanted: set[str]) -> float:
        """What lies beside the wanted networks: the others, and all else where PyTorch counts it."""
        counted = _allocated_bytes(self.device)
        if counted is None:
            return self._resident_bytes(wanted)
        return counted - sum(self.weight_bytes(key) for key in wanted if key in self._loaded)

    def _make_room(self, wanted: set[str], needed: float) -> None:
        excess = self._held_bytes(wanted) + needed - self.room
        # Runs use the networks in the same order each time, so the one used last is needed again latest.
        leaving: list[str] = []
        freed = 0.0
        for key in reversed(self._loaded):
            if key not in wanted and freed < excess:
                leaving.append(key)
                freed += self.weight_bytes(key)
        for key in leaving:
            if freed - self.weight_bytes(key) >= excess:  # a larger one that leaves too makes room for it
                freed -= self.weight_bytes(key)
            else:
                del self._loaded[key]
        # New weights would cut the blocks that earlier activations have left, and keep the rest from use.
        if leaving or (self.limited and not wanted <= self._loaded.keys()):
            self._empty_cache()

    def _empty_cache(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def _refusal(self, what: str, needed: float) -> str:
        return (
            f"{what} does not fit in {_gb(self.budget)} GB; it needs about {_gb_up(needed * MARGIN)} GB "
            f"(--memory-budget {_gb_up(needed * MARGIN)}), or a lower resolution"
        )

    def _exhausted(self, what: str, wanted: set[str], needed: float, error: BaseException) -> str:
        # The failed work's tensors still lie there, held by the traceback; other networks can leave.
        used = (_allocated_bytes(self.device) or 0) - self._resident_bytes(wanted)
        least = max(needed, used + _asked_bytes(str(error)), self.budget if self.limited else 0)
        fitting = _gb_up(least * MARGIN)
        return (
            f"{self.device} ran out of memory during {what}; about {fitting} GB free would do "
            f"(--memory-budget {fitting} or more), or a lower resolution, fewer --max-num-tokens"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device, or came of one that does."""
    if error.__context__ is not None and is_out_of_memory(error.__context__):
        return True  # a CUDA graph that could not be recorded to its end has its own complaint
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )


def _asked_bytes(message: str) -> float:
    """How much an out-of-memory message says was asked for; 0 if it does not say."""
    units = {"bytes": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
    match = re.search(r"allocate ([\d.]+) (bytes|KiB|MiB|GiB)", message)
    return float(match[1]) * units[match[2]] if match else 0.0


def _default_budget(device: torch.device) -> float:
    if device.type != "cuda":
        return math.inf
    # A tenth of a small card goes to the driver and to the display.
    return min(DEFAULT_CUDA_GB, 0.9e-9 * torch.cuda.get_device_properties(device).total_memory)


def _allocated_bytes(device: torch.device) -> float | None:
    """What this process has in tensors on a device; None where PyTorch does not count it."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    return None


@contextmanager
def _device_limit(device: torch.device, budget: float) -> Iterator[None]:
    """Have PyTorch refuse what goes beyond the budget on a CUDA device."""
    if device.type != "cuda":
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    # PyTorch takes no device without a number here.
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget / total), index)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, index)


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g}"


def _gb_up(size: float) -> str:
    """GB with two digits, rounded up."""
    gigabytes = size / 1e9
    digit = 10 ** (math.floor(math.log10(gigabytes)) - 1)
    return f"{math.ceil(gigabytes / digit) * digit:.2g}"


# -- how much the work of a stage takes, weights not counted ---------------------------------------


def flow_bytes(
    config: NetworkConfig,
    tokens: int,
    condition_tokens: int,
    item_bytes: int,
    *,
    views: int = 1,
    prepared: bool = True,
    fused: bool = False,
    recorded: bool = False,
) -> float:
    """The conditions, and the widest moment of a forward pass. Guidance has one pass after another.

    Parameters
    ----------
    tokens, condition_tokens : of all samples together; those of the condition for one view.
    prepared : all blocks' keys and values of the condition are kept, not made in every pass.
    fused : chains of operations are one kernel each; their twins write what lies between, in float32.
    recorded : a CUDA graph does the passes, in memory of its own beside that of the pass before it.
    """
    assert isinstance(config, FlowTransformerConfig)
    width, hidden = config.width, config.mlp_width
    # A block's caller keeps the tokens and the last update until it returns; with the sum of both and the
    # normed tokens that makes four.
    # Self attention: the joint qkv of three, queries, keys, the attended values and their projection.
    attention = 11 * width * item_bytes
    if not fused:  # while keys are normed and rotated in float32: three
        attention = max(attention, 8 * width * item_bytes + 12 * width)
    # MLP: what it is inside, before its activation too if that is by itself, and its result.
    mlp = (4 * width + hidden + (width if fused else max(hidden, width))) * item_bytes
    # The state, what guidance makes of it, positions and their angles.
    beside = 4 * (config.in_channels + 8 * config.out_channels + config.head_width) + 8 * config.heads + 64
    if config.absolute_positions:
        beside += 4 * width
    forward = tokens * float(max(attention, mlp) + beside)
    kept = 8.0 * config.condition_width * views
    # Keys and values of one block while they are made, and what remains of it until the block is done.
    made = (3 * width + config.condition_width) * item_bytes + (0 if fused else 12 * width)
    if prepared:
        kept += 2 * config.blocks * width * item_bytes
        forward = max(forward, float(condition_tokens * made))
    else:
        forward = max(
            forward + condition_tokens * 3 * width * item_bytes,
            tokens * (4.0 * width * item_bytes + beside) + condition_tokens * made,
        )
    return FLOW_MARGIN * (condition_tokens * kept + forward * (2 if recorded else 1))


def decoder_bytes(config: NetworkConfig, tokens: int, item_bytes: int) -> float:
    """A decoder's widest moment if half of all children are kept, its row-wise layers in chunks."""
    assert isinstance(config, DecoderConfig)
    levels = enumerate(config.channels)
    return max(tokens * 4.0**level * (6 * channels * item_bytes + 400) for level, channels in levels)


def encoder_bytes(config: NetworkConfig, voxels: int, item_bytes: int) -> float:
    """An encoder's widest moment: the finest grid."""
    assert isinstance(config, EncoderConfig)
    return voxels * (6.0 * config.channels[0] * item_bytes + 400)


def structure_bytes(config: NetworkConfig, cells: int, item_bytes: int) -> float:
    """The dense decoder's or encoder's widest moment: its finest grid of ``cells``."""
    assert isinstance(config, StructureDecoderConfig | StructureEncoderConfig)
    return cells * 8.0 * min(config.channels) * max(item_bytes, 4)


def image_encoder_bytes(config: NetworkConfig, size: int, item_bytes: int) -> float:
    """Activations for one picture of ``size`` pixels."""
    assert isinstance(config, ImageEncoderConfig)
    tokens = (size // config.patch) ** 2 + 1 + config.registers
    picture = 12.0 * size**2 * 4  # as it comes, cut up and between
    return tokens * (2.0 * config.mlp_width + 8 * config.width) * max(item_bytes, 4) + picture
