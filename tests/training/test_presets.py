"""Training presets that are compared with each other."""

from __future__ import annotations

from voxlume.models.published import build
from voxlume.pipelines import stages
from voxlume.training.presets import PRESETS


def test_the_ablation_is_as_large_as_what_it_is_compared_with() -> None:
    weights = []
    for name in ("nano", "nano_pooling"):
        networks = PRESETS[name]().model.networks
        pair = (networks[key] for key in (stages.SHAPE_ENCODER, stages.SHAPE_DECODER))
        weights.append(sum(p.numel() for config in pair for p in build(config, "meta").parameters()))
    assert abs(weights[1] / weights[0] - 1) < 0.05
