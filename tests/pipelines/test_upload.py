"""Weights arrive as they were."""

from __future__ import annotations

import pytest
import torch

from voxlume.pipelines import upload
from voxlume.pipelines.upload import uploaded


def test_on_the_host_nothing_is_copied() -> None:
    value = torch.randn(3, 4)
    assert uploaded(value, "cpu", torch.float32) is value
    assert torch.equal(uploaded(value, "cpu", torch.float16), value.half())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_in_pieces_through_both_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "STAGED_BYTES", 1 << 12)
    upload._buffers.cache_clear()
    for dtype in (torch.float32, torch.bfloat16):
        values = [torch.randn(n, 3).to(dtype) for n in (0, 1, 40, 5000, 12345)]
        found = [uploaded(value.mT, "cuda", torch.float16) for value in values]
        for value, there in zip(values, found, strict=True):
            assert torch.equal(there.cpu(), value.mT.half())
    upload._buffers.cache_clear()
