"""Commands let waiting threads sleep, before PyTorch makes any and unless the user has a policy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from voxlume.threads import SHORT_SPIN, sleep_while_waiting


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    sleep_while_waiting()
    assert os.environ["GOMP_SPINCOUNT"] == SHORT_SPIN
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    sleep_while_waiting()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    sleep_while_waiting()
    assert "GOMP_SPINCOUNT" not in os.environ


@pytest.mark.parametrize("module", ["voxlume.app.cli", "voxlume.evaluation.__main__"])
def test_commands_do_not_import_pytorch_before(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
