"""The fused kernels equal their twins: interpreted on a CPU, compiled on CUDA."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from tests.paths import ROOT

SCRIPTS = ("fused_against_twins", "fused_training_against_twins")


def run(script: str, device: str, dtype: str, **environment: str) -> None:
    command = [sys.executable, "-m", f"tests.models.{script}", device, dtype]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("script", SCRIPTS)
def test_interpreted(script: str) -> None:
    run(script, "cpu", "float32", TRITON_INTERPRET="1")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_compiled(script: str, dtype: str) -> None:
    run(script, "cuda", dtype)
