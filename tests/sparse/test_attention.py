from __future__ import annotations

import pytest
import torch
from torch import Tensor

from voxlume.sparse import attention


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


@pytest.mark.parametrize(
    ("q_lengths", "kv_lengths"), [([5], [7]), ([4, 4], [3, 3]), ([5, 2, 6], [3, 4, 1]), ([3, 0], [2, 2])]
)
def test_each_sample_sees_only_itself(q_lengths: list[int], kv_lengths: list[int]) -> None:
    q = torch.randn(sum(q_lengths), 2, 8, dtype=torch.float64)
    k, v = torch.randn(sum(kv_lengths), 2, 2, 8, dtype=torch.float64).unbind(1)
    pieces = zip(q.split(q_lengths), k.split(kv_lengths), v.split(kv_lengths), strict=True)
    expected = torch.cat([explicit(*piece) for piece in pieces])
    torch.testing.assert_close(attention(q, k, v, q_lengths, kv_lengths), expected)


def test_a_sample_without_keys_yields_zeros() -> None:
    q, kv = torch.randn(4, 2, 8), torch.randn(3, 2, 8)
    out = attention(q, kv, kv, [2, 2], [3, 0])
    assert torch.equal(out[2:], torch.zeros(2, 2, 8))
