"""Atomic writing: all or nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from voxlume.errors import VoxlumeError
from voxlume.files import atomic_write


def test_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with atomic_write(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def fail_halfway(path: Path, error: BaseException) -> None:
    with atomic_write(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()])
def test_nothing_left_after_an_error(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        fail_halfway(tmp_path / "a.bin", error)
    assert not list(tmp_path.iterdir())


def test_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(VoxlumeError, match=r"cannot write .*a\.bin: No space left"):
        fail_halfway(tmp_path / "a.bin", OSError(errno.ENOSPC, "No space left on device"))
    assert not list(tmp_path.iterdir())


def test_a_device_is_not_replaced() -> None:
    """``/dev/full`` refuses every write, but it is no ordinary file and must not be replaced."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(VoxlumeError, match="not an ordinary file"), atomic_write("/dev/full"):
        pass
    assert Path("/dev/full").is_char_device()


def test_missing_folder_and_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(VoxlumeError, match="does not exist"), atomic_write(tmp_path / "no" / "a.bin"):
        pass
    with pytest.raises(VoxlumeError, match="ordinary file"), atomic_write(tmp_path):
        pass


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(VoxlumeError, match="Permission denied"), atomic_write(tmp_path / "a.bin"):
        pass


def test_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.bin"
    try:
        link.symlink_to(tmp_path / "real" / "a.bin")
    except OSError:
        pytest.skip("links cannot be made here")
    with atomic_write(link) as file:
        file.write(b"x")
    assert link.is_symlink()
    assert (tmp_path / "real" / "a.bin").read_bytes() == b"x"
