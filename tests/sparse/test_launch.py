"""Launches that skip Triton's search reach the same compiled form with the same arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from voxlume.sparse import launch as launching
from voxlume.sparse.launch import aligned, launch


class Compiled:
    """What Triton hands back, as far as it is used."""

    packed_metadata = ()

    def __init__(self, log: list[Any], refuses: bool = False) -> None:
        self.log, self.refuses = log, refuses

    def __getitem__(self, grid: tuple[int, int, int]) -> Any:
        def run(*arguments: Any) -> None:
            if self.refuses:
                raise TypeError("function takes exactly 3 arguments")
            self.log.append(("direct", grid, arguments))

        return run


class Kernel:
    def __init__(self, log: list[Any], compiled: Any) -> None:
        self.log, self.compiled = log, compiled

    def __getitem__(self, grid: tuple[int]) -> Any:
        def run(*arguments: Any, **options: int) -> Any:
            self.log.append(("searched", grid, arguments, options))
            return self.compiled

        return run


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "_compiled", {})


def test_a_known_form_is_launched_directly() -> None:
    log: list[Any] = []
    kernel = Kernel(log, Compiled(log))
    launch(kernel, 5, ("k", 1), (1, 2), num_warps=4)
    launch(kernel, 6, ("k", 1), (3, 4), num_warps=4)
    launch(kernel, 7, ("k", 2), (5, 6), num_warps=4)
    launch(kernel, 8, None, (7, 8), num_warps=4)
    launch(kernel, 9, None, (7, 8), num_warps=4)
    assert log == [
        ("searched", (5,), (1, 2), {"num_warps": 4}),
        ("direct", (6, 1, 1), (3, 4)),
        ("searched", (7,), (5, 6), {"num_warps": 4}),
        ("searched", (8,), (7, 8), {"num_warps": 4}),
        ("searched", (9,), (7, 8), {"num_warps": 4}),
    ]


def test_a_triton_that_refuses_is_not_asked_again() -> None:
    log: list[Any] = []
    kernel = Kernel(log, Compiled(log, refuses=True))
    for _ in range(3):
        launch(kernel, 5, ("k", 1), (1, 2))
    assert [entry[0] for entry in log] == ["searched"] * 3


def test_the_interpreter_compiles_nothing() -> None:
    log: list[Any] = []
    for _ in range(2):
        launch(Kernel(log, None), 5, ("k", 1), (1, 2))
    assert [entry[0] for entry in log] == ["searched"] * 2


def test_slices_may_not_be_aligned() -> None:
    whole = torch.zeros(64)
    assert aligned(whole, None, whole[4:])
    assert not aligned(whole, whole[1:])
