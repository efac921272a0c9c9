"""The Triton kernels: interpreted on the CPU, compiled on a GPU where there is one."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

from tests.interpreter import interpreted, needs_gpu, needs_triton
from tests.sparse.kernel_cases import cases
from voxlume.sparse import SparseTensor, SubmanifoldConv3d, backend, kernels, selfcheck


@needs_triton
def test_kernels_agree_with_their_twins_in_the_interpreter() -> None:
    results = json.loads(interpreted("-m", "tests.sparse.kernel_cases"))
    assert len(results) >= 15
    assert [name for name, error, tolerance in results if not error <= tolerance] == []


@pytest.mark.gpu
@needs_gpu
def test_kernels_agree_with_their_twins_on_the_gpu() -> None:
    results = list(cases(torch.device("cuda")))
    assert [(name, error) for name, error, tolerance in results if not error <= tolerance] == []


@pytest.mark.gpu
@needs_gpu
def test_training_step_agrees_with_the_twin_on_the_gpu() -> None:
    random = torch.Generator().manual_seed(0)
    coords = (torch.rand((2, 9, 9, 9), generator=random) < 0.4).nonzero().int()
    x = SparseTensor(coords, torch.randn((len(coords), 32), generator=random), 2).to("cuda")
    conv = SubmanifoldConv3d(32, 48).cuda()
    grads = []
    for choice in ("auto", "reference"):
        features = x.features.clone().requires_grad_()
        with kernels(choice):  # type: ignore[arg-type]
            conv(SparseTensor(x.coords, features, 2)).features.square().sum().backward()
        grads.append([features.grad, conv.weight.grad, conv.bias.grad])
        conv.zero_grad()
    for fast, slow in zip(*grads, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@needs_gpu
def test_the_check_on_first_use_passes_and_is_quick_to_answer_again() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert selfcheck.kernels_are_right(torch.device("cuda", 0))
        assert selfcheck.kernels_are_right(torch.device("cuda", 0), training=True)


def test_wrong_kernels_are_switched_off_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = selfcheck.Check("convolution 64 to 64, float16", 0.3, 5e-3)
    monkeypatch.setattr(selfcheck, "check_kernels", lambda *_: [wrong])
    device = torch.device("cuda", 99)
    with pytest.warns(RuntimeWarning, match=r"convolution 64 to 64, float16: error 3\.0e-01") as caught:
        assert not selfcheck.kernels_are_right(device)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not selfcheck.kernels_are_right(device)


def test_a_kernel_that_does_not_compile_counts_as_wrong() -> None:
    def broken() -> torch.Tensor:
        raise RuntimeError("LLVM ERROR: no such instruction\nand a long dump")

    check = selfcheck._compare("hash", broken, torch.ones(1), 1.0)
    assert not check.passed
    assert str(check) == "hash: RuntimeError: LLVM ERROR: no such instruction"


def test_nan_never_passes() -> None:
    assert not selfcheck._compare("x", lambda: torch.full((2,), torch.nan), torch.ones(2), 1.0).passed


@needs_triton
def test_the_check_passes_in_the_interpreter() -> None:
    program = (
        "import torch; from voxlume.sparse.selfcheck import check_kernels as c; d = torch.device('cpu');"
        "print(*[k for k in c(d) + c(d, True) if 'bfloat16' not in k.name and not k.passed])"
    )
    assert interpreted("-c", program).strip() == ""


def test_the_twin_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "triton_installed", lambda: True)
    monkeypatch.setattr(selfcheck, "kernels_are_right", lambda *_, **__: True)
    device = torch.device("cuda", 99)
    assert backend.use_triton(device)
    assert not backend.use_triton(torch.device("cpu"))
    with kernels("reference"):
        assert not backend.use_triton(device)
    monkeypatch.setenv("VOXLUME_KERNELS", "reference")
    assert not backend.use_triton(device)
    with kernels("auto"):
        assert backend.use_triton(device)
