"""Weights arrive as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.interpreter import needs_gpu
from voxlume.pipelines import upload
from voxlume.pipelines.upload import uploaded

CPU = torch.device("cpu")


class Event:
    """Stands in for a CUDA event: knows whether anything was recorded that nobody has waited for."""

    def __init__(self, blocking: bool = True) -> None:
        self.pending = False

    def record(self) -> None:
        assert not self.pending, "the buffer was filled again without waiting"
        self.pending = True

    def synchronize(self) -> None:
        self.pending = False


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Event]]:
    """Three small buffers in place of the page-locked ones."""
    monkeypatch.setattr(upload, "STAGED_BYTES", 1 << 10)
    made = [(torch.empty(1 << 10, dtype=torch.uint8), Event()) for _ in range(3)]
    monkeypatch.setattr(upload, "_buffers", lambda device: made)
    return made


def odd_values() -> dict[str, Tensor]:
    """Of many sizes and dtypes: shorter than a piece, over several, empty, scalar, and strided."""
    values = {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 3), "strided": torch.randn(70, 30).mT}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for count in (1, 3, 40, 511, 5000):
            values[f"{dtype} {count}"] = torch.randn(count).to(dtype)
    return values


def test_on_the_host_nothing_is_copied() -> None:
    value = torch.randn(3, 4)
    assert uploaded({"a": value}, "cpu", {"a": torch.float32})["a"] is value
    assert torch.equal(uploaded({"a": value}, "cpu", {"a": torch.float16})["a"], value.half())


@pytest.mark.parametrize("wanted", [None, torch.float16])
@pytest.mark.parametrize("converted_bytes", [1, 1 << 27])
def test_in_pieces_by_several_threads(
    buffers: list[tuple[Tensor, Event]],
    monkeypatch: pytest.MonkeyPatch,
    wanted: torch.dtype | None,
    converted_bytes: int,
) -> None:
    monkeypatch.setattr(upload, "CONVERTED_BYTES", converted_bytes)
    values = odd_values()
    dtypes = {key: wanted or value.dtype for key, value in values.items()}
    found = upload._staged(values, CPU, dtypes)
    assert list(found) == list(values)
    for key, value in values.items():
        assert torch.equal(found[key], value.to(dtypes[key])), key
        assert found[key].dtype == dtypes[key]
        assert found[key].is_contiguous()
        assert found[key].data_ptr() % 16 == 0  # as kernels assume of what they are given
    assert all(event.pending for _, event in buffers)  # every thread has sent something


def test_buffers_are_filled_at_the_same_time(
    buffers: list[tuple[Tensor, Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small tensors too: none waits for the one before it."""
    together = threading.Barrier(len(buffers), timeout=10)
    fill = upload._fill

    def watched(*args: Any) -> None:
        together.wait()  # breaks if the buffers are filled one after another
        fill(*args)

    monkeypatch.setattr(upload, "_fill", watched)
    values = {f"{i}": torch.full((64,), float(i)) for i in range(12)}
    found = upload._staged(values, CPU, dict.fromkeys(values, torch.float32))
    assert all(torch.equal(found[key], value) for key, value in values.items())


def test_what_keeps_its_dtype_is_one_block_and_trains_all_the_same(
    buffers: list[tuple[Tensor, Event]],
) -> None:
    values = {"a": torch.randn(5), "b": torch.randn(7, 3)}
    found = upload._staged(values, CPU, dict.fromkeys(values, torch.float32))
    a, b = (torch.nn.Parameter(value) for value in found.values())
    assert a.untyped_storage()._cdata == b.untyped_storage()._cdata
    result = (a**2).sum()
    with torch.no_grad():
        b.zero_()  # a's gradient needs a only
    result.backward()
    assert torch.equal(a.grad, 2 * values["a"])  # type: ignore[arg-type]
    assert torch.equal(a, values["a"])


def test_a_failing_thread_is_heard_of(
    buffers: list[tuple[Tensor, Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> None:
        raise OSError("the file went away")

    monkeypatch.setattr(upload, "_fill", fails)
    with pytest.raises(OSError, match="went away"):
        upload._staged({"a": torch.randn(5)}, CPU, {"a": torch.float32})


def test_without_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not grant any, ordinary memory does."""
    plain = torch.empty

    def refused(*size: int, pin_memory: bool = False, **rest: Any) -> Tensor:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return plain(*size, **rest)

    monkeypatch.setattr(torch, "empty", refused)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    made = upload._buffers.__wrapped__(CPU)
    assert len(made) == upload.WORKERS
    assert all(len(buffer) == upload.STAGED_BYTES for buffer, _ in made)


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(upload, "STAGED_BYTES", 1 << 12)
    upload._buffers.cache_clear()
    yield
    upload._buffers.cache_clear()


@pytest.mark.gpu
@needs_gpu
def test_in_pieces_to_a_device(short_pieces: None) -> None:
    values = odd_values()
    for wanted in (None, torch.float16):
        dtypes = {key: wanted or value.dtype for key, value in values.items()}
        with torch.inference_mode():
            found = uploaded(values, "cuda", dtypes)
        assert all(buffer.is_pinned() for buffer, _ in upload._buffers(torch.device("cuda")))
        for key, value in values.items():
            assert torch.equal(found[key].cpu(), value.to(dtypes[key])), key
