"""The memory budget: what stays, what leaves, and what is said when it does not do."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.shell import shell_levels
from tests.interpreter import needs_gpu
from tests.live_bytes import LiveBytes
from voxlume.errors import MemoryBudgetError, VoxlumeError
from voxlume.flow import guidance
from voxlume.flow.sampler import PUBLISHED_SHAPE, SamplingParameters
from voxlume.models import flow_transformer, layers
from voxlume.models.flow_run import RECORDED_CALLS, FlowRun, records
from voxlume.models.flow_transformer import (
    FlowTransformer,
    FlowTransformerConfig,
    TokenLayout,
    pack_condition,
)
from voxlume.models.layers import rotary_phases
from voxlume.models.precision import set_block_dtype
from voxlume.models.published import build
from voxlume.models.sc_vae import DecoderConfig, ScVaeDecoder
from voxlume.models.subdivision import subdivision_masks
from voxlume.pipelines import memory, stages
from voxlume.pipelines.memory import Networks, decoder_bytes, flow_bytes, is_out_of_memory, pick_device
from voxlume.pipelines.model_folder import ModelFolder
from voxlume.pipelines.results import Structure
from voxlume.sparse import SparseTensor
from voxlume.sparse.memory import rows_within_budget
from voxlume.sparse.tensor import CoordinateSet

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


def test_a_large_network_leaves_instead_of_a_small_one(networks: Callable[[float | None], Networks]) -> None:
    large, small = stages.STRUCTURE_DECODER, FLOWS[0]
    weights = networks(None).weight_bytes
    assert weights(small) < weights(large) / 2
    limited = networks((weights(large) + weights(small)) / 1e9)
    for key in (large, small):
        with limited.using(key):
            pass
    with limited.using(FLOWS[1], working=weights(large) / 4):
        assert list(limited._loaded) == [small, FLOWS[1]]


def test_what_others_hold_on_the_device_counts(
    networks: Callable[[float | None], Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = networks(None).weight_bytes(FLOWS[0])
    limited, foreign = networks(4 * weights / 1e9), 0.0
    monkeypatch.setattr(memory, "_allocated_bytes", lambda device: foreign + limited._resident_bytes(set()))
    for key in FLOWS[:2]:
        with limited.using(key):
            pass
    foreign = 2 * weights
    with limited.using(FLOWS[2]):
        assert list(limited._loaded) == [FLOWS[0], FLOWS[2]]
    with limited.using(FLOWS[2], working=weights):
        assert list(limited._loaded) == [FLOWS[2]]


def test_no_stage_keeps_a_network_that_has_to_leave(
    networks: Callable[[float | None], Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was dropped is gone when the next network is loaded, wherever its stage has got to."""
    limited = networks(None)
    seen: dict[str, weakref.ref[nn.Module]] = {}
    load = Networks._get

    def watched(self: Networks, key: str) -> nn.Module:
        assert {k for k, network in seen.items() if network() is not None} <= self._loaded.keys() | {key}
        network = load(self, key)
        seen[key] = weakref.ref(network)
        return network

    def none_stays(self: Networks, wanted: set[str], needed: float) -> None:
        for key in self._loaded.keys() - wanted:
            del self._loaded[key]

    monkeypatch.setattr(Networks, "_get", watched)
    monkeypatch.setattr(Networks, "_make_room", none_stays)
    condition = stages.encode_images(limited, [np.zeros((32, 32, 3), np.uint8)])
    few = SamplingParameters(steps=1)
    structures = stages.sample_structure(limited, condition, [0], few)
    cells = [Structure(structures[0].coords[:20], structures[0].resolution)]
    shapes = stages.sample_shape(limited, condition, cells, [0], few, high=True)
    materials = stages.sample_material(limited, condition, shapes, [0], few, high=True)
    stages.decode(limited, shapes[0], materials[0])
    assert seen.keys() >= {stages.STRUCTURE_FLOW, stages.SHAPE_DECODER, stages.MATERIAL_DECODER}


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
    assert f"weights: {FLOWS[0]}" in raised.value.usage
    assert "expected 3.02 GB for painting" in raised.value.usage
    assert "\n" not in raised.value.usage


def test_running_out_while_recording_is_running_out() -> None:
    """A CUDA graph complains about its broken recording in place of what broke it."""
    error = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    assert not is_out_of_memory(error)
    error.__context__ = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert is_out_of_memory(error)


def test_a_budget_that_was_not_enough_is_not_named_again(
    networks: Callable[[float | None], Networks],
) -> None:
    with pytest.raises(MemoryBudgetError) as raised, networks(2).using(FLOWS[0], what="painting"):
        raise MemoryError
    assert float(str(raised.value).split("--memory-budget ")[1].split(" ")[0]) > 2


def test_other_errors_pass_through(networks: Callable[[float | None], Networks]) -> None:
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"), networks(None).using(FLOWS[0]):
        raise RuntimeError("shapes do not fit")


# -- what the estimates are worth --------------------------------------------------------------------


class FusedShapes:
    """What the fused kernels allocate, without running them: on the meta device there is nothing to run."""

    @staticmethod
    def norm(x: Tensor, eps: float, *, out_dtype: torch.dtype, **tables: Any) -> tuple[Tensor, Tensor]:
        summed = torch.empty_like(x) if "update_nc" in tables else x
        return summed, torch.empty_like(x, dtype=out_dtype)

    @staticmethod
    def heads(x: Tensor, *rest: object) -> Tensor:
        return x.new_empty(x.shape)

    @staticmethod
    def gelu_linear(x: Tensor, layer: nn.Linear) -> Tensor:
        return x.new_empty((len(x), layer.out_features))


@pytest.mark.parametrize(
    ("tokens", "condition_tokens", "samples"),
    [(2200, 1029, 1), (4096, 1029, 1), (9632, 4101, 1), (49152, 4101, 1), (300, 4101, 1), (6000, 1029, 3)],
)
@pytest.mark.parametrize(
    ("fused", "dtype"), [(True, torch.bfloat16), (False, torch.bfloat16), (False, torch.float32)]
)
@torch.no_grad()
def test_a_flow_takes_what_is_estimated(
    monkeypatch: pytest.MonkeyPatch,
    tokens: int,
    condition_tokens: int,
    samples: int,
    fused: bool,
    dtype: torch.dtype,
) -> None:
    """At the published width, on the device without data: no more, and little less, guidance and all."""

    def attended(q: Tensor, k: Tensor, v: Tensor, *lengths: object) -> Tensor:
        return q.new_empty((len(q), *v.shape[1:]))

    monkeypatch.setattr(flow_transformer, "attention", attended)
    monkeypatch.setattr(layers, "_product_dtype", lambda x: x.dtype)
    if fused:
        monkeypatch.setattr(layers, "fast_kernels", lambda x: FusedShapes)
        monkeypatch.setattr(flow_transformer, "gelu_linear", FusedShapes.gelu_linear)
    config = FlowTransformerConfig()
    network = build(config, "meta")
    assert isinstance(network, FlowTransformer)
    set_block_dtype(network, dtype)
    meta = torch.device("meta")
    with LiveBytes(network.parameters()) as live:
        coords = torch.empty((tokens, 4), dtype=torch.int32, device=meta)
        sample = torch.empty(tokens, dtype=torch.int64, device=meta) if samples > 1 else None
        phases = rotary_phases(coords[:, 1:], config.head_width)
        layout = TokenLayout((tokens // samples,) * samples, sample, phases)
        x = SparseTensor.on(CoordinateSet(coords, samples), torch.empty((tokens, 32), device=meta))
        image = torch.empty((samples, condition_tokens, 1024), device=meta)
        condition = network.prepare_condition(image) if samples == 1 else pack_condition(image)

        def velocity(state: SparseTensor, t: float, conditional: bool) -> Tensor:
            given = condition if conditional else network.null_condition(samples)
            return network(state, torch.empty(samples, device=meta), given, layout).features

        # A spread is a number, which the device without data does not have.
        monkeypatch.setattr(guidance, "std_per_sample", lambda state, values: values.std())
        guidance.guided_velocity(velocity, x, 0.8, PUBLISHED_SHAPE.guidance)
    estimate = flow_bytes(
        config,
        tokens,
        samples * condition_tokens,
        dtype.itemsize,
        prepared=samples == 1,
        fused=fused,
    )
    assert 0.9 < live.peak * memory.FLOW_MARGIN / estimate < 1


def test_what_is_recorded_has_memory_of_its_own() -> None:
    """A pass before the recording and the recording itself: what the first freed is not the second's."""
    config = FlowTransformerConfig()
    once, twice = (flow_bytes(config, 4096, 0, 2, fused=True, recorded=r) for r in (False, True))
    assert twice == pytest.approx(2 * once)


def test_a_full_device_plans_without_fused_kernels(
    networks: Callable[[float | None], Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cannot be tried there; no one but the plan says that memory is short."""
    error: RuntimeError = torch.OutOfMemoryError("CUDA out of memory.")

    def tried(x: Tensor) -> bool:
        raise error

    monkeypatch.setattr(memory, "use_fused", tried)
    assert networks(None).fused(FLOWS[0]) is False
    error = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes"):
        networks(None).fused(FLOWS[0])


def test_stages_plan_with_what_they_do(
    networks: Callable[[float | None], Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several views or samples have their conditions' keys and values made in every pass."""
    planned: list[dict[str, Any]] = []
    plain = stages.flow_bytes

    def noted(*args: Any, **how: Any) -> float:
        planned.append(how | {"tokens": args[1], "condition_tokens": args[2]})
        return plain(*args, **how)

    monkeypatch.setattr(stages, "flow_bytes", noted)
    free, few = networks(None), SamplingParameters(steps=1)
    picture = np.zeros((32, 32, 3), np.uint8)
    one, two = (stages.encode_images(free, [picture] * count) for count in (1, 2))
    m, n = one.low.shape[1], free.config(FLOWS[0]).resolution ** 3  # type: ignore[union-attr]
    for condition, seeds in ((one, [0]), (two, [0]), (one, [0, 1])):
        stages._structure_latent(free, condition, seeds, few, stages.Sampling())
    shared = {"fused": False, "recorded": False}  # as on every CPU
    assert planned == [
        {"tokens": n, "condition_tokens": m, "views": 1, "prepared": True} | shared,
        {"tokens": n, "condition_tokens": m, "views": 2, "prepared": False} | shared,
        {"tokens": 2 * n, "condition_tokens": 2 * m, "views": 1, "prepared": False} | shared,
    ]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("tokens", [4096, 9632])  # recorded as a CUDA graph, and not
@torch.no_grad()
def test_a_flow_takes_no_more_than_estimated_on_cuda(tokens: int) -> None:
    """Recordings, kernels' work spaces and all; and nothing of it stays."""
    config = replace(FlowTransformerConfig(), blocks=8)
    network = build(config, "meta")
    assert isinstance(network, FlowTransformer)
    set_block_dtype(network, torch.bfloat16)
    network.to_empty(device="cuda")
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.02)
    coords = torch.cartesian_prod(torch.zeros(1), *(torch.arange(22.0),) * 3).int()[:tokens].cuda()

    def sample() -> None:
        x = SparseTensor.on(CoordinateSet(coords, 1), torch.randn((tokens, 32), device="cuda"))
        conditions = network.prepare_condition(torch.randn((1, 4101, 1024), device="cuda"))
        run, t_b = FlowRun(network, x), torch.full((1,), 500.0, device="cuda")
        for condition in (conditions, network.null_condition(1)) * 2:
            run(x, t_b, condition)

    sample()  # kernels are compiled, libraries take their work spaces
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(5):
        sample()
    taken = torch.cuda.max_memory_allocated() - before
    fused = layers.use_fused(torch.empty(0, dtype=torch.bfloat16, device="cuda"))
    recorded = records(torch.device("cuda"), (tokens,), RECORDED_CALLS)
    estimate = flow_bytes(config, tokens, 4101, 2, fused=fused, recorded=recorded)
    assert (0.3 if recorded else 0.7) * estimate < taken < estimate
    assert torch.cuda.memory_allocated() == before


def test_prepared_conditions_hold_keys_and_values_only() -> None:
    config = FlowTransformerConfig(width=24, heads=2, blocks=3, condition_width=8, precision="float32")
    network = build(config, "cpu")
    assert isinstance(network, FlowTransformer)
    with torch.no_grad():
        condition = network.prepare_condition(torch.randn(1, 11, 8))
    assert condition.keys_values is not None
    held = {
        t.untyped_storage()._cdata: t.untyped_storage().nbytes() for kv in condition.keys_values for t in kv
    }
    assert sum(held.values()) == 2 * config.blocks * 11 * config.width * 4


@torch.no_grad()
def test_stages_take_no_more_than_estimated(
    networks: Callable[[float | None], Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks: dict[str, float] = {}
    plain = Networks.using

    @contextmanager
    def counted(self: Networks, *keys: str, working: float, what: str) -> Iterator[list[nn.Module]]:
        with plain(self, *keys, working=working, what=what) as found:
            weights = [value for network in found for value in network.state_dict().values()]
            with LiveBytes(weights) as live:
                yield found
        peaks[what] = live.peak / working

    monkeypatch.setattr(Networks, "using", counted)
    free, few = networks(None), SamplingParameters(steps=2)
    levels = shell_levels(128, "cpu")
    cells = Structure(levels[64].coords[:3000, 1:].contiguous(), 64)
    condition = stages.encode_images(free, [np.zeros((32, 32, 3), np.uint8)])
    (shape,) = stages.sample_shape(free, condition, [cells], [0], few, high=True)
    stages.sample_material(free, condition, [shape], [0], few, high=True)
    stages._structure_latent(free, condition, [0], few, stages.Sampling())
    stages.decode_structure(free, torch.full((1, 8, 4, 4, 4), 100.0))
    for key in (stages.SHAPE_DECODER, stages.MATERIAL_DECODER):
        config: Any = free.config(key)
        latent = SparseTensor.on(
            CoordinateSet(levels[64].coords, 1), torch.randn(len(levels[64]), config.latent_channels)
        )
        masks = subdivision_masks(latent, levels[128], 1)
        masks.append(torch.ones((len(levels[128]), 8), dtype=torch.bool))
        masks[-1][:, ::2] = False
        working = decoder_bytes(config, len(latent), 4)
        with free.using(key, working=working, what=key) as (net,):
            assert isinstance(net, ScVaeDecoder)
            net(latent, masks)
    assert len(peaks) == 7
    assert all(0.1 < peak < 1 for peak in peaks.values()), peaks


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
