"""Triton kernels in the interpreter: in a process of their own, since Triton chooses when it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from voxlume.backend import triton_installed

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
needs_triton = pytest.mark.skipif(not triton_installed(), reason="Triton is not installed")


def interpreted(*arguments: str) -> str:
    """What ``python ARGUMENTS`` prints where kernels are interpreted and no GPU is seen; it must succeed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
