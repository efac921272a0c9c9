"""The fused kernels equal their twins: interpreted on a CPU, compiled on CUDA."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from tests.interpreter import interpreted, needs_gpu, needs_triton

SCRIPTS = ("fused_against_twins", "fused_training_against_twins")


@needs_triton
@pytest.mark.parametrize("script", SCRIPTS)
def test_interpreted(script: str) -> None:
    interpreted("-m", f"tests.models.{script}", "cpu", "float32")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_compiled(script: str, dtype: str) -> None:
    import_module(f"tests.models.{script}").main("cuda", getattr(torch, dtype))
