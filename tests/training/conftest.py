"""A small store, and stages on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.store import write_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six objects to train on and two held out; not to be written to."""
    return write_store(tmp_path_factory.mktemp("training") / "store")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The same sums every time, and quicker on tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
