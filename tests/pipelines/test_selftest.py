"""The doctor's checks pass on sound devices and notice wrong arithmetic."""

from __future__ import annotations

import pytest
import torch

from tests.interpreter import needs_gpu
from voxlume.pipelines import selftest
from voxlume.sparse import conv_reference

CPU = torch.device("cpu")


def test_the_cpu_is_sound() -> None:
    checks = selftest.check_device(CPU)
    assert len(checks) >= 2
    assert all(check.passed for check in checks), [str(c) for c in checks]


def test_wrong_convolutions_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = conv_reference.forward
    monkeypatch.setattr(conv_reference, "forward", lambda *args: right(*args) * 1.001)
    failed = [check.name for check in selftest.check_device(CPU) if not check.passed]
    assert failed == ["decoder, stored numbers"]


def test_wrong_attention_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "attention", lambda q, k, v, *lengths: v)
    failed = [check.name for check in selftest.check_device(CPU) if not check.passed]
    assert failed == ["attention, float32"]


def test_a_crash_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: object) -> None:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(selftest, "attention", crash)
    (check,) = [check for check in selftest.check_device(CPU) if not check.passed]
    assert "no kernel image is available" in str(check)


@pytest.mark.gpu
@needs_gpu
def test_the_gpu_is_sound() -> None:
    checks = selftest.check_device(torch.device("cuda"))
    assert all(check.passed for check in checks), [str(c) for c in checks]
