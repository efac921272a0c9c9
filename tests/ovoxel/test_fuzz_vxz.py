from __future__ import annotations

from tests.ovoxel.fuzz_vxz import run


def test_damaged_voxel_files_are_refused_in_one_line() -> None:
    read, refused = run(800, seed=0)
    assert refused > 400
    assert read > 25
