"""A fixed number of fuzzed files, in a process of their own: a crash of native code is a failure too."""

from __future__ import annotations

import subprocess
import sys

from tests.paths import ROOT

CASES = 1500


def test_fuzzed_files_end_in_an_asset_or_a_clear_error() -> None:
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.fuzz_gltf", "--cases", str(CASES), "--seed", "2"]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env=environment, cwd=ROOT
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
