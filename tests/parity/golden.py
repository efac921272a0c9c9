"""Golden networks: a JSON with class and arguments beside weights, inputs and expected outputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from safetensors.torch import load
from torch import Tensor, nn

from tests.paths import PARITY_DIR
from voxlume.models.published import NetworkConfig, build, from_published, parse
from voxlume.sparse import SparseTensor

TOLERANCE = 1e-5
"""Largest absolute difference over the largest expected magnitude, float32 on the CPU."""


@dataclass(frozen=True)
class Golden:
    """One golden network with its weights loaded, its inputs and expected outputs."""

    name: str
    config: NetworkConfig
    network: nn.Module
    io: dict[str, Tensor]

    def sparse(self, coords: str, features: Tensor | str) -> SparseTensor:
        values = self.io[features] if isinstance(features, str) else features
        return sparse(self.io[coords], values)


def sparse(coords: Tensor, features: Tensor) -> SparseTensor:
    return SparseTensor(coords, features, int(coords[:, 0].max()) + 1)


def tensors(name: str, folder: Path = PARITY_DIR) -> dict[str, Tensor]:
    """The tensors of a golden file, which the repository keeps compressed."""
    plain = folder / f"{name}.safetensors"
    if plain.is_file():
        return load(plain.read_bytes())
    return load(zstandard.decompress((folder / f"{name}.safetensors.zst").read_bytes()))


def load_golden(name: str) -> Golden:
    content: dict[str, Any] = json.loads((PARITY_DIR / f"{name}.json").read_text())
    config = parse(content["name"], content["args"])
    network = build(config)
    stored = tensors(name)
    weights = {key.removeprefix("weights."): v for key, v in stored.items() if key.startswith("weights.")}
    names = from_published(config, weights)
    network.load_state_dict({names[key]: weights[key] for key in names}, strict=True)
    io = {key.removeprefix("io."): v for key, v in stored.items() if key.startswith("io.")}
    return Golden(name, config, network.eval(), io)


def names_of(*kinds: str) -> list[Any]:
    """The golden networks whose class name contains one of ``kinds``, for ``parametrize``."""
    found = []
    for path in sorted(PARITY_DIR.glob("*.json")):
        content = json.loads(path.read_text())
        name = content.get("name", "") if isinstance(content, dict) else ""
        has_tensors = any(path.with_suffix(end).is_file() for end in (".safetensors", ".safetensors.zst"))
        if has_tensors and any(kind in name for kind in kinds):
            found.append(path.stem)
    reason = f"no golden {' or '.join(kinds)} in {PARITY_DIR}"
    return found or [pytest.param("none", marks=pytest.mark.skip(reason=reason))]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest expected magnitude."""
    assert actual.shape == expected.shape
    difference = (actual.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max())


def single(x: SparseTensor, sample: int) -> SparseTensor:
    """One sample of a batch as a batch of one."""
    return SparseTensor.from_samples([x.samples()[sample]])
