"""The small parts: schedule, clipping, averages, order, settings, curves, plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from voxlume.errors import VoxlumeError
from voxlume.training.__main__ import main
from voxlume.training.config import LoopConfig, RenderingLoss, ShapeVaeConfig, overridden
from voxlume.training.journal import Journal, read_log
from voxlume.training.losses import drawn_latent, kl_divergence, mask_loss, velocity_loss
from voxlume.training.optimizer import CLIP_WARMUP, AdaptiveClip, Ema, adamw, learning_rate
from voxlume.training.order import Order, mixed_seed
from voxlume.training.plan import Job, Plan, command, vae_groups
from voxlume.training.plot import plot_curves

CPU = torch.device("cpu")


def test_learning_rate() -> None:
    config = LoopConfig(1, learning_rate=1.0, warmup=0.1, decay_from=0.5, final_rate=0.1)
    rates = [learning_rate(config, f) for f in (0.05, 0.1, 0.5, 0.75, 1.0, 2.0)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.55, 0.1, 0.1])


def test_clip_follows_recent_norms() -> None:
    clip = AdaptiveClip(100.0, 0.95, CPU)
    rng = np.random.default_rng(0)
    norms = rng.uniform(1, 2, 60)
    for step, norm in enumerate(norms):
        gradient = torch.full((4,), norm / 2)
        clip([gradient], step)
        limit = 100.0 if step < CLIP_WARMUP else np.quantile(norms[:step], 0.95)
        assert float(gradient.norm()) == pytest.approx(min(norm, limit), rel=1e-3)
    gradient = torch.full((4,), 500.0)
    assert float(clip([gradient], 60)[0]) == pytest.approx(1000.0)
    assert float(gradient.norm()) < 2


def test_gradients_that_are_not_finite_change_nothing() -> None:
    parameter = nn.Parameter(torch.ones(3, 3))
    optimizer = adamw([parameter], LoopConfig(1))
    clip = AdaptiveClip(1.0, 0.95, CPU)
    for step, value in enumerate((1.0, float("nan"), float("inf"))):
        before = parameter.detach().clone()
        parameter.grad = torch.full((3, 3), value)
        _, infinite = clip([parameter.grad], step)
        optimizer.found_inf = infinite  # type: ignore[attr-defined]
        optimizer.step()
        assert bool(infinite) == (step > 0)
        assert torch.equal(parameter, before) == (step > 0)
    assert clip.norms.isfinite().all()


def test_averages() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    ema = Ema([parameter], 0.9)
    expected = 0.0
    for step in range(200):
        with torch.no_grad():
            parameter.fill_(float(step))
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(ema.averages[0][0]) == pytest.approx(expected, rel=1e-5)
    with ema.applied():
        assert float(parameter.detach()[0]) == pytest.approx(expected, rel=1e-5)
    assert float(parameter.detach()[0]) == 199


def test_weight_decay_spares_vectors() -> None:
    network = nn.Linear(3, 4)
    optimizer = adamw(list(network.parameters()), LoopConfig(1, weight_decay=0.5))
    decays = {tuple(p.shape): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {(4, 3): 0.5, (4,): 0.0}


def test_losses() -> None:
    mean, log_variance = torch.tensor([[1.0]]), torch.tensor([[0.0]])
    assert float(kl_divergence(mean, log_variance)) == pytest.approx(0.5)
    assert float(kl_divergence(torch.zeros(1, 1), log_variance)) == 0
    assert torch.equal(drawn_latent(mean, torch.full((1, 1), -1e9), torch.ones(1, 1)).round(), mean)
    logits, truth = [torch.tensor([[100.0, -100.0]])], [torch.tensor([[True, False]])]
    assert float(mask_loss(logits, truth)) == pytest.approx(0, abs=1e-6)
    assert float(mask_loss(logits * 2, [~truth[0], truth[0]])) == pytest.approx(100)
    missed = [torch.full_like(logits[0], -10.0)] * 2
    there = torch.ones_like(truth[0])
    assert float(mask_loss(missed, [there, there], 3.0)) == pytest.approx(40, rel=1e-3)
    # Each lane's mean counts once, however many rows it has.
    velocity, target = torch.tensor([[1.0], [3.0], [3.0]]), torch.zeros(3, 1)
    assert float(velocity_loss(velocity, target, [1, 2])) == pytest.approx((1 + 9) / 2)


def test_order_is_the_same_for_one_and_many_processes() -> None:
    total, lanes, each = 13, 4, 3
    alone = Order(total, [0, 1, 2, 3], lanes, each, 1, seed=5)
    for step in (0, 1, 7):
        whole = alone.objects(step)
        by_lane = [whole[i * each : (i + 1) * each] for i in range(lanes)]
        for rank in range(2):
            held = list(range(rank, total, 2))
            part = Order(len(held), [rank, rank + 2], lanes, each, 2, seed=5)
            numbers = [held[i] for i in part.objects(step)]
            assert numbers == by_lane[rank] + by_lane[rank + 2]
    assert all(i % lanes == lane for lane, part in enumerate(by_lane) for i in part)


def test_order_shows_everything_once_an_epoch() -> None:
    order = Order(10, [0], 1, 5, 1, seed=0)
    epochs = [sorted(order.objects(2 * e) + order.objects(2 * e + 1)) for e in range(3)]
    assert epochs == [list(range(10))] * 3
    assert order.objects(0) != order.objects(2)
    with pytest.raises(VoxlumeError, match="too few"):
        Order(1, [0, 1], 2, 1, 1, seed=0)


def test_random_numbers_are_functions_of_the_step() -> None:
    order = Order(10, [0, 1], 2, 1, 1, seed=0)
    drawn = [[torch.rand(2, generator=g).tolist() for g in order.generators(s, CPU)] for s in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1]
    assert mixed_seed(1, 2) != mixed_seed(2, 1)


def test_settings_by_name() -> None:
    config = ShapeVaeConfig(LoopConfig(4))
    changed = overridden(
        config,
        {"vertex": "0.5", "loop.steps": "7", "seconds": "none", "rendering.size": "64", "betas": "0.5,0.6"},
    )
    assert (changed.vertex, changed.loop.steps, changed.loop.seconds) == (0.5, 7, None)
    assert (changed.rendering, changed.loop.betas) == (RenderingLoss(size=64), (0.5, 0.6))
    for name, value in (("nothing", "1"), ("loop", "1"), ("vertex", "big"), ("shard", "maybe")):
        with pytest.raises(VoxlumeError, match=name):
            overridden(config, {name: value})


def test_journal_forgets_what_is_repeated(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    for step in (1, 2, 3):
        journal.add({"step": step, "loss": 1.0 / step})
    (tmp_path / "log.jsonl").open("a").write('{"step": 4, "lo')
    assert [r["step"] for r in read_log(tmp_path)] == [1, 2, 3]
    resumed = Journal(tmp_path, 2)
    resumed.add({"step": 3, "loss": 9.0, "held_out": {"loss": 2.0}})
    resumed.plot()
    assert [r["loss"] for r in read_log(tmp_path)] == [1.0, 0.5, 9.0]
    assert Image.open(tmp_path / "curves.png").size[0] > 100


def test_curves_are_where_they_belong(tmp_path: Path) -> None:
    falling = [(x, 10.0 - x) for x in range(10)]
    plot_curves({"loss": {"training": [*falling, (10, float("nan"))]}, "none": {"x": []}}, tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    blue = np.argwhere((abs(picture - (0x1F, 0x5F, 0xAE)).sum(-1) < 8) & (np.arange(460) < 300))
    left, right = blue[blue[:, 1] < 120][:, 0].mean(), blue[blue[:, 1] > 260][:, 0].mean()
    assert right > left + 50  # rows count downwards


def test_plan_divides_gpus_and_time() -> None:
    for count in (0, 1, 2, 3, 4, 8):
        groups = vae_groups(range(count), 100.0)
        jobs = [job for group in groups for job in group]
        assert sorted(job.stage for job in jobs) == ["material_vae", "shape_vae", "structure_vae"]
        assert sum(max(job.seconds or 0 for job in group) for group in groups) <= 190
        for group in groups:
            used = [gpu for job in group for gpu in job.gpus]
            assert len(used) == len(set(used)) or count < 2
    assert {j.stage: len(j.gpus) for j in vae_groups(range(4), 1.0)[0]} == {
        "shape_vae": 2,
        "material_vae": 1,
        "structure_vae": 1,
    }
    plan = Plan("nano", Path("data"), Path("run"), 60.0, settings=("flows:views=4", "shape_vae:vertex=1"))
    words = command(plan, Job("flows", (0, 1), 30.0))
    assert "torch.distributed.run" in words
    assert words[words.index("--set") + 1] == "views=4"
    assert "vertex=1" not in words


@pytest.mark.parametrize(
    "option", [("--steps", "3"), ("--initial", "model"), ("--share", "0.5"), ("--shard",)]
)
def test_all_stages_together_refuse_what_is_of_one(
    option: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["all", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--seconds", "10", *option]
    assert main(given) == 1
    said = capsys.readouterr().err
    assert option[0] in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
