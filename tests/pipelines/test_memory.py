"""The memory budget: what stays, what leaves, and what is said when it does not do."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from voxlume.errors import MemoryBudgetError, VoxlumeError
from voxlume.models.flow_transformer import FlowTransformerConfig
from voxlume.models.sc_vae import DecoderConfig
from voxlume.pipelines.memory import Networks, decoder_bytes, flow_bytes, is_out_of_memory, pick_device
from voxlume.pipelines.model_folder import ModelFolder
from voxlume.sparse.memory import rows_within_budget

FLOWS = ("sparse_structure_flow_model", "shape_slat_flow_model_512", "shape_slat_flow_model_1024")
CPU = torch.device("cpu")


@pytest.fixture
def networks(tiny_model: Path) -> Callable[[float | None], Networks]:
    return lambda budget: Networks(ModelFolder.from_pretrained(tiny_model), "cpu", None, budget)


def test_without_limit_everything_stays(networks: Callable[[float | None], Networks]) -> None:
    unlimited = networks(None)
    with unlimited.using(FLOWS[0]) as (first,):
        pass
    with unlimited.using(FLOWS[1]):
        pass
    with unlimited.using(FLOWS[0]) as (again,):
        assert again is first
    unlimited.release()
    with unlimited.using(FLOWS[0]) as (anew,):
        assert anew is not first


def test_the_last_used_leaves_first(networks: Callable[[float | None], Networks]) -> None:
    """Runs repeat the same order, so what was just used is needed again latest."""
    weights = networks(None).weight_bytes(FLOWS[0])
    limited = networks(2.5 * weights / 1e9)
    for key in FLOWS:
        with limited.using(key):
            assert limited._resident_bytes(set()) <= limited.budget
    assert list(limited._loaded) == [FLOWS[0], FLOWS[2]]


def test_weights_take_what_the_estimate_says(networks: Callable[[float | None], Networks]) -> None:
    unlimited = networks(None)
    for key in unlimited.folder.config.models:
        with unlimited.using(key) as (network,):
            held = sum(p.numel() * p.element_size() for p in network.parameters())
        assert unlimited.weight_bytes(key) == held


def test_a_small_budget_makes_small_pieces(networks: Callable[[float | None], Networks]) -> None:
    whole = rows_within_budget(1000, torch.device("cuda"))
    with networks(0.2).using(FLOWS[0]):
        assert rows_within_budget(1000, torch.device("cuda")) < whole


def test_refusals(networks: Callable[[float | None], Networks]) -> None:
    limited = networks(0.001)
    with (
        pytest.raises(MemoryBudgetError, match=r"painting does not fit in 0\.001 GB.*--memory-budget 1\.3"),
        limited.using(FLOWS[0], working=1e9, what="painting"),
    ):
        pass
    for budget in (0.0, -1.0, math.nan):
        with pytest.raises(MemoryBudgetError, match="not possible"):
            networks(budget)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_running_out_of_memory(error: Exception, networks: Callable[[float | None], Networks]) -> None:
    limited = networks(None)
    with (
        pytest.raises(MemoryBudgetError, match="ran out of memory during painting; about") as raised,
        limited.using(FLOWS[0], working=3e9, what="painting"),
    ):
        raise error
    assert "\n" not in str(raised.value)
    assert float(str(raised.value).split("--memory-budget ")[1].split(" ")[0]) > 3
    assert not limited._loaded  # the next attempt starts with all memory


def test_other_errors_pass_through(networks: Callable[[float | None], Networks]) -> None:
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"), networks(None).using(FLOWS[0]):
        raise RuntimeError("shapes do not fit")


def test_published_sizes_fit_where_they_should() -> None:
    """Estimates at the published sizes: near what is known of them, in half precision."""
    flow = flow_bytes(FlowTransformerConfig(), 9600, 4101, 2)
    assert 0.8e9 < flow < 2.5e9
    assert 2e9 < decoder_bytes(DecoderConfig(), 9632, 2) < 7e9


@pytest.mark.parametrize("name", ["quantum", "cuda:99", "meta", ""])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(VoxlumeError, match=r"doctor|use auto"):
        pick_device(name)


def test_known_devices() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
