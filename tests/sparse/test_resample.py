"""Space-to-channel, channel-to-space, pooling and copying, in the order checkpoints rely on."""

from __future__ import annotations

import torch

from voxlume.sparse import (
    SparseTensor,
    channel_to_space,
    mean_pool,
    nearest_upsample,
    space_to_channel,
    subdivide,
)


def random_tensor(channels: int = 3) -> SparseTensor:
    random = torch.Generator().manual_seed(0)
    coords = (torch.rand((2, 6, 7, 8), generator=random) < 0.35).nonzero().int()
    coords = coords[torch.randperm(len(coords), generator=random)]
    coords = coords[torch.argsort(coords[:, 0], stable=True)]
    return SparseTensor(coords, torch.randn((len(coords), channels), generator=random), 2)


def children_by_parent(x: SparseTensor) -> dict[tuple[int, ...], dict[int, int]]:
    families: dict[tuple[int, ...], dict[int, int]] = {}
    for row, (b, i, j, k) in enumerate(x.coords.tolist()):
        slot = (i & 1) + 2 * (j & 1) + 4 * (k & 1)
        families.setdefault((b, i >> 1, j >> 1, k >> 1), {})[slot] = row
    return families


def test_space_to_channel_orders_parents_and_slots() -> None:
    x = random_tensor()
    down = space_to_channel(x)
    families = children_by_parent(x)
    assert down.coords.tolist() == [list(p) for p in sorted(families)]
    for features, parent in zip(down.features.view(-1, 8, 3), sorted(families), strict=True):
        for slot in range(8):
            row = families[parent].get(slot)
            assert torch.equal(features[slot], torch.zeros(3) if row is None else x.features[row])


def test_channel_to_space_is_the_inverse() -> None:
    x = random_tensor()
    down = space_to_channel(x)
    kept = torch.tensor([[s in f for s in range(8)] for _, f in sorted(children_by_parent(x).items())])
    up = channel_to_space(down, kept)
    expected = [
        row for _, family in sorted(children_by_parent(x).items()) for _, row in sorted(family.items())
    ]
    assert torch.equal(up.coords, x.coords[expected])
    assert torch.equal(up.features, x.features[expected])


def test_one_subdivision_serves_several_tensors() -> None:
    x = random_tensor(16)
    kept = torch.rand((len(x), 8), generator=torch.Generator().manual_seed(1)) < 0.5
    kept[3] = False  # a parent without a kept child disappears
    plan = subdivide(x, kept)
    a, b = channel_to_space(x, plan), nearest_upsample(x, plan)
    assert a.cache is b.cache
    assert torch.equal(a.features, channel_to_space(x, kept).features)
    row = torch.arange(len(x)).repeat_interleave(kept.sum(1))
    assert torch.equal(b.features, x.features[row])
    assert torch.equal(b.coords[:, 1:] >> 1, x.coords[row, 1:])


def test_mean_is_over_the_children_that_exist() -> None:
    x = random_tensor()
    pooled = mean_pool(x)
    for features, (_, family) in zip(pooled.features, sorted(children_by_parent(x).items()), strict=True):
        torch.testing.assert_close(features, x.features[list(family.values())].mean(0))


def test_tensors_on_the_same_voxels_get_the_same_parents() -> None:
    x = random_tensor()
    assert space_to_channel(x).cache is mean_pool(x.with_features(x.features * 2)).cache


def test_resampling_is_differentiable() -> None:
    x = random_tensor(8)
    features = x.features.double().requires_grad_()
    kept = torch.rand((len(x), 8), generator=torch.Generator().manual_seed(1)) < 0.5
    for work in (
        space_to_channel,
        mean_pool,
        lambda t: channel_to_space(t, kept),
        lambda t: nearest_upsample(t, kept),
    ):
        assert torch.autograd.gradcheck(
            lambda f, w=work: w(x.with_features(f)).features, features, fast_mode=True
        )


def test_nothing_is_kept() -> None:
    x = random_tensor(8)
    assert len(channel_to_space(x, torch.zeros((len(x), 8), dtype=torch.bool))) == 0
