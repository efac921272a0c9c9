"""The fused kernels equal their twins: interpreted on a CPU, compiled on CUDA."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from tests.paths import ROOT


def run(device: str, dtype: str, **environment: str) -> None:
    command = [sys.executable, "-m", "tests.models.fused_against_twins", device, dtype]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_interpreted() -> None:
    run("cpu", "float32", TRITON_INTERPRET="1")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_compiled(dtype: str) -> None:
    run("cuda", dtype)
