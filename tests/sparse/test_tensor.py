from __future__ import annotations

import torch

from voxlume.sparse import SparseTensor


def test_samples_go_in_and_come_out() -> None:
    samples = [(torch.randint(0, 9, (n, 3)), torch.randn(n, 2)) for n in (4, 0, 3)]
    x = SparseTensor.from_samples(samples)
    assert x.coords.dtype == torch.int32
    assert x.batch_lengths == [4, 0, 3]
    for (coords, features), (c, f) in zip(samples, x.samples(), strict=True):
        assert torch.equal(coords.int(), c)
        assert torch.equal(features, f)


def test_other_dtypes_share_the_voxels() -> None:
    x = SparseTensor.from_samples([(torch.randint(0, 9, (4, 3)), torch.randn(4, 2))])
    half = x.to(dtype=torch.float16)
    assert half.dtype == torch.float16
    assert half.cache is x.cache
