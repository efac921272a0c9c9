"""What the golden data does not reach: shortcuts, edge cases and wrong use of the networks."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.interpreter import needs_gpu
from voxlume.errors import ModelFileError
from voxlume.flow.state import values_of, with_values
from voxlume.models import flow_run
from voxlume.models.flow_run import FlowRun, with_two_blocks
from voxlume.models.flow_transformer import (
    FlowTransformer,
    FlowTransformerConfig,
    grid_to_tokens,
    pack_condition,
    tokens_to_grid,
)
from voxlume.models.layers import rotary_phases, rotate_pairs
from voxlume.models.precision import set_block_dtype
from voxlume.models.published import NetworkConfig, build, describe, parse
from voxlume.models.sc_vae import (
    DecoderConfig,
    EncoderConfig,
    ScVaeDecoder,
    dual_grid_channels,
    material_attributes,
    material_features,
)
from voxlume.models.structure_vae import pixel_shuffle_3d
from voxlume.models.subdivision import rows_in, subdivision_masks
from voxlume.pipelines.presets import PRESETS
from voxlume.sparse import SparseTensor, memory_budget
from voxlume.sparse.tensor import CoordinateSet

FLOW = FlowTransformerConfig(
    grid="dense", in_channels=4, out_channels=4, width=32, condition_width=12, blocks=2, heads=2
)
DECODER = DecoderConfig(
    latent_channels=4,
    channels=(16, 8),
    blocks=(1, 1),
    residual=("convnext", "plain"),
    resample=("autoencoding",),
)


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere, so that no branch is silent."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_null_condition_is_any_number_of_zeros(batch: int) -> None:
    network = shaken(FlowTransformer(FLOW))
    assert isinstance(network, FlowTransformer)
    x, t = torch.randn(batch, 4, 3, 3, 3), torch.full((batch,), 400.0)
    zeros = network(x, t, torch.zeros(batch, 29, 12))
    assert torch.allclose(
        network(x, t, network.null_condition(batch)), zeros, atol=1e-5 * float(zeros.abs().max())
    )


def test_a_run_is_the_network() -> None:
    network = shaken(FlowTransformer(replace(FLOW, grid="sparse")))
    assert isinstance(network, FlowTransformer)
    coords = torch.arange(9)[:, None].expand(-1, 3)
    x = SparseTensor.from_samples([(coords, torch.randn(9, 4)), (coords[:5], torch.randn(5, 4))])
    condition, t = torch.randn(2, 6, 12), torch.full((2,), 250.0)
    v = FlowRun(network, x)(x, t, network.prepare_condition(condition))
    with torch.no_grad():
        assert torch.equal(v.features, network(x, t, condition).features)


@torch.no_grad()
def test_a_network_cut_to_two_blocks_shares_its_weights_and_leaves_it_whole() -> None:
    network = shaken(FlowTransformer(replace(FLOW, blocks=3)))
    assert isinstance(network, FlowTransformer)
    x, t, condition = torch.randn(1, 4, 3, 3, 3), torch.full((1,), 400.0), torch.randn(1, 5, 12)
    before, short = network(x, t, condition), with_two_blocks(network)
    expected = FlowTransformer(replace(FLOW, blocks=2))
    kept = {name: v for name, v in network.state_dict().items() if not name.startswith("blocks.2.")}
    expected.load_state_dict(kept)
    assert torch.equal(short(x, t, condition), expected(x, t, condition))
    assert torch.equal(network(x, t, condition), before)
    assert {id(p) for p in short.parameters()} < {id(p) for p in network.parameters()}


@pytest.mark.gpu
@needs_gpu
@torch.no_grad()
def test_recorded_network_equals_the_called_one() -> None:
    network = shaken(FlowTransformer(FLOW)).cuda()
    assert isinstance(network, FlowTransformer)
    set_block_dtype(network, torch.bfloat16)
    x = torch.randn(2, 4, 3, 3, 3, device="cuda")
    run = FlowRun(network, x)
    conditions = [network.prepare_condition(torch.randn(2, 5, 12, device="cuda")), network.null_condition(2)]
    results = []
    for t in (1000.0, 300.0):
        for condition in conditions:
            t_b = torch.full((2,), t, device="cuda")
            results.append((run(x, t_b, condition), network(x, t_b, condition)))
    with FlowRun(network, x) as first:
        first(x, t_b, pack_condition(torch.randn(2, 5, 12, device="cuda")))
    with FlowRun(network, x, calls=1) as second:  # with what the first has recorded
        condition = pack_condition(torch.randn(2, 5, 12, device="cuda"))
        results.append((second(x, t_b, condition), network(x, t_b, condition)))
    assert all(torch.equal(recorded, called) for recorded, called in results)


class _Rerun:
    """In place of a recording: calls the network again with what was recorded."""

    def __init__(self, network: FlowTransformer, x: Any, condition: Any, layout: Any, pool: Any) -> None:
        self.network, self.x, self.condition, self.layout = weakref.ref(network), x, condition, layout

    def __call__(self, values: torch.Tensor, t_b: torch.Tensor) -> torch.Tensor:
        network = self.network()
        assert network is not None
        result = network(with_values(self.x, values), t_b, self.condition, self.layout)
        return values_of(result)


@torch.no_grad()
def test_recordings_of_a_dense_grid_serve_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(flow_run, "records", lambda device, lengths, calls, kept: kept)
    monkeypatch.setattr(flow_run, "Recording", lambda *given: made.append(given) or _Rerun(*given))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    network = shaken(FlowTransformer(FLOW))
    assert isinstance(network, FlowTransformer)
    t = torch.full((2,), 300.0)

    def goes_on(network: FlowTransformer, run: FlowRun, grid: int) -> None:
        x = torch.randn(2, 4, grid, grid, grid)
        for condition in (pack_condition(torch.randn(2, 5, 12)), network.null_condition(2)) * 2:
            assert torch.equal(run(x, t, condition), network(x, t, condition))

    def places(grid: int) -> torch.Tensor:
        return torch.empty(2, 1, grid, grid, grid)

    for _ in range(2):
        with FlowRun(network, places(3)) as run:
            goes_on(network, run, 3)
    assert len(made) == 2  # one for each kind of condition, although every run has conditions of its own
    with FlowRun(network, places(2)) as smaller, FlowRun(network, places(3)) as run:
        goes_on(network, smaller, 2)
        goes_on(network, run, 3)
        with FlowRun(network, places(3)) as beside:
            goes_on(network, beside, 3)
            goes_on(network, run, 3)
    assert len(made) == 6
    before = [parameter.data for parameter in network.parameters()]  # nothing else takes their places
    network.to(torch.float64).to(torch.float32)  # the weights have moved
    with FlowRun(network, places(3)) as run:
        goes_on(network, run, 3)
    assert len(made) == 8
    left = weakref.ref(network)
    made.clear()
    del network, run, smaller, beside, before
    gc.collect()
    assert left() is None


@torch.no_grad()
def test_tokens_of_one_sample_do_not_see_another() -> None:
    network = shaken(FlowTransformer(FLOW))
    x, t, condition = torch.randn(2, 4, 3, 3, 3), torch.full((2,), 400.0), torch.randn(2, 5, 12)
    before = network(x, t, condition)
    x[1], condition[1] = 7.0, -3.0
    after = network(x, t, condition)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize("absolute", [False, True])
def test_only_absolute_positions_tell_a_shift(absolute: bool) -> None:
    config = replace(FLOW, absolute_positions=absolute)
    assert parse(**describe(config)) == config
    network = shaken(FlowTransformer(config))
    coords = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4], [0, 5, 2, 3]], dtype=torch.int32)
    values, t = torch.randn(3, FLOW.in_channels), torch.tensor([400.0])
    condition = torch.randn(1, 5, FLOW.condition_width)
    with torch.no_grad():
        here, there = (
            network(SparseTensor(coords + shift, values, 1), t, condition).features
            for shift in (torch.zeros(4, dtype=torch.int32), torch.tensor([0, 3, 1, 2], dtype=torch.int32))
        )
    assert torch.allclose(here, there, atol=1e-4) != absolute


def test_grid_tokens_run_with_z_fastest() -> None:
    x = torch.arange(24.0).reshape(1, 1, 2, 3, 4)
    tokens = grid_to_tokens(x)
    assert tokens.flatten().tolist() == list(range(24))
    assert torch.equal(tokens_to_grid(tokens, x), x)
    y = torch.randn(2, 5, 2, 3, 4)
    assert torch.equal(tokens_to_grid(grid_to_tokens(y), y), y)


def test_leftover_pairs_are_not_rotated() -> None:
    phases = rotary_phases(torch.tensor([[3, 5, 7]]), 44)  # 22 pairs, 7 per axis, one left over
    x = torch.randn(1, 2, 44)
    assert torch.equal(rotate_pairs(x, phases)[..., -2:], x[..., -2:])
    assert torch.allclose(rotate_pairs(x, phases).norm(dim=-1), x.norm(dim=-1))


def test_pixel_shuffle() -> None:
    x = torch.zeros(1, 16, 1, 1, 1)
    x[0, 8 + 4 * 1 + 2 * 0 + 1] = 1.0
    assert pixel_shuffle_3d(x).nonzero().tolist() == [[0, 1, 1, 0, 1]]


@torch.no_grad()
def test_decoder_with_nothing_kept() -> None:
    network = shaken(ScVaeDecoder(DECODER))
    latent = SparseTensor(torch.tensor([[0, 1, 1, 1]], dtype=torch.int32), torch.ones(1, 4))
    decoded = network(latent, [torch.zeros(1, 8, dtype=torch.bool)])
    assert decoded.output.features.shape == (0, 7)
    assert decoded.output.coords.shape == (0, 4)


@torch.no_grad()
def test_a_small_memory_budget_changes_nothing() -> None:
    network = shaken(ScVaeDecoder(DECODER))
    coords = torch.cat([torch.zeros(512, 1), torch.cartesian_prod(*[torch.arange(8)] * 3)], 1).int()
    latent = SparseTensor(coords, torch.randn(512, 4))
    masks = [torch.ones(512, 8, dtype=torch.bool)]
    whole = network(latent, masks).output.features
    with memory_budget(1e-6):
        parts = network(latent, masks).output.features
    assert torch.allclose(whole, parts, atol=1e-5 * float(whole.abs().max()))


def test_wrong_use_of_a_decoder() -> None:
    network = ScVaeDecoder(DECODER)
    latent = SparseTensor(torch.tensor([[0, 1, 1, 1]], dtype=torch.int32), torch.ones(1, 4))
    with pytest.raises(ValueError, match="2 masks"):
        network(latent, [torch.ones(1, 8, dtype=torch.bool)] * 2)
    with pytest.raises(ValueError, match="times"):
        network.upsample(latent, 2)
    blind = ScVaeDecoder(replace(DECODER, predicts_masks=False))
    with pytest.raises(ValueError, match="predicts no masks"):
        blind(latent)


def test_masks_of_unmatched_voxels() -> None:
    """Latent voxels without children get none; fine voxels outside the latent are left out."""
    fine = CoordinateSet(torch.tensor([[0, 2, 2, 2], [0, 2, 3, 2], [0, 9, 9, 9]], dtype=torch.int32), 1)
    latent = SparseTensor(torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1]], dtype=torch.int32), torch.ones(2, 1))
    (mask,) = subdivision_masks(latent, fine, 1)
    assert mask.nonzero().tolist() == [[1, 0], [1, 2]]
    assert rows_in(latent.coords, fine.coords).tolist() == [-1, -1]


def test_channels_to_geometry() -> None:
    grid = dual_grid_channels(torch.tensor([[0.0, 99.0, -99.0, 1.0, -1.0, 0.0, 0.0]]), 0.5)
    assert torch.allclose(grid.dual_vertices, torch.tensor([[0.5, 1.5, -0.5]]))
    assert torch.allclose(grid.splitting_weights, torch.tensor([2.0]).log())
    attributes = torch.rand(5, 6)
    assert torch.allclose(material_attributes(material_features(attributes)), attributes)


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": (16, 8, 4)},
        {"blocks": (1,)},
        {"resample": ()},
        {"channels": (20, 8)},
        {"channels": (800, 8)},
    ],
)
def test_levels_that_do_not_belong_together(changes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"network|join"):
        replace(DECODER, **changes)  # type: ignore[arg-type]


# -- the published description ---------------------------------------------------------------------

ARGS = describe(EncoderConfig())["args"]
FLOW_ARGS = describe(FLOW)["args"]


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("os.system", {}, "unknown network class"),
        ("FlexiDualGridVaeEncoder", {}, "missing"),
        ("FlexiDualGridVaeEncoder", ARGS | {"colour": 1}, "unknown arguments.*colour"),
        ("FlexiDualGridVaeEncoder", ARGS | {"latent_channels": "32"}, "latent_channels"),
        ("FlexiDualGridVaeEncoder", ARGS | {"latent_channels": 10**12}, "latent_channels"),
        ("FlexiDualGridVaeEncoder", ARGS | {"num_blocks": [0, 4, 8, 16, 10**9]}, "num_blocks"),
        ("FlexiDualGridVaeEncoder", ARGS | {"num_blocks": [0, 4]}, "do not make a network"),
        ("FlexiDualGridVaeEncoder", ARGS | {"block_type": ["Evil"] * 5}, "block_type"),
        ("FlexiDualGridVaeEncoder", ARGS | {"use_fp16": "yes"}, "use_fp16"),
        ("SparseStructureFlowModel", FLOW_ARGS | {"pe_mode": "ape"}, "pe_mode"),
        ("SparseStructureFlowModel", FLOW_ARGS | {"num_heads": 5}, "heads"),
        ("SparseStructureFlowModel", FLOW_ARGS | {"dtype": "float8"}, "dtype"),
        ("SparseStructureFlowModel", FLOW_ARGS | {"mlp_ratio": float("nan")}, "mlp_ratio"),
    ],
)
def test_bad_descriptions(name: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as raised:
        parse(name, args)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("config", PRESETS["tiny"]().networks.values(), ids=lambda c: type(c).__name__)
def test_networks_of_one_configuration_share_nothing(config: NetworkConfig) -> None:
    """Also those on the meta device, which are copies of one."""
    first, other = build(config, "meta"), build(config, "meta")
    first.register_forward_hook(lambda *_: None)
    first.register_buffer("own", torch.zeros(1), persistent=False)
    first.half().requires_grad_(False).eval()
    assert {p.dtype for p in other.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in other.parameters())
    assert other.training
    assert not other._forward_hooks
    assert not other._non_persistent_buffers_set
    assert not {id(m) for m in first.modules()} & {id(m) for m in other.modules()}
    assert {k: v.shape for k, v in other.state_dict().items()} == {
        k: v.shape for k, v in build(config).state_dict().items()
    }
