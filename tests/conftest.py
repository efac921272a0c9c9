"""What tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxlume.threads import sleep_while_waiting

sleep_while_waiting()  # several test processes share the cores


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder of small networks with random weights; not to be written to."""
    from voxlume.pipelines.presets import tiny, write_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_model(tiny(), folder)
    return folder
