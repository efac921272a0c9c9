"""The guided sampler against golden trajectories' ends, dense and sparse, single and batched."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.golden import TOLERANCE, load_golden, relative_error, sparse, tensors
from tests.paths import PARITY_DIR
from voxlume.flow.sampler import SamplingParameters, sample
from voxlume.flow.state import values_of
from voxlume.models.flow_run import FlowRun
from voxlume.models.flow_transformer import FlowTransformer

LISTING = PARITY_DIR / "sampler.json"
SETTINGS: dict[str, Any] = (
    json.loads(LISTING.read_text()) if LISTING.is_file() else {"params": [], "models": []}
)
MODELS = [name for name in SETTINGS["models"] if list(PARITY_DIR.glob(f"{name}.safetensors*"))]

pytestmark = pytest.mark.skipif(not MODELS, reason=f"no golden sampler runs in {PARITY_DIR}")


@pytest.mark.parametrize("batch", ["", "_batch"])
@pytest.mark.parametrize("run", range(len(SETTINGS["params"])))
@pytest.mark.parametrize("model", MODELS)
def test_end_of_trajectory(model: str, run: int, batch: str) -> None:
    case, io = load_golden(model), tensors("sampler")
    network = case.network
    assert isinstance(network, FlowTransformer)
    kind = case.config.grid  # type: ignore[union-attr]
    noise: Any = io[f"io.noise_{kind}{batch}"]
    if kind == "sparse":
        noise = sparse(io[f"io.coords_sparse{batch}"], noise)
    condition = io[f"io.cond{batch}"]
    settings = SETTINGS["params"][run]
    parameters = SamplingParameters(**settings, sigma_min=SETTINGS["sigma_min"])
    call = FlowRun(network, noise)
    with torch.no_grad():
        conditions = {
            True: network.prepare_condition(condition),
            False: network.null_condition(len(condition)),
        }

    def velocity(x: Any, t: float, conditional: bool) -> Tensor:
        return values_of(call(x, torch.full((len(condition),), 1000 * t), conditions[conditional]))

    with torch.no_grad():
        end = sample(velocity, noise, parameters)
    assert relative_error(values_of(end), io[f"io.{kind}{batch}.{run}"]) < TOLERANCE
