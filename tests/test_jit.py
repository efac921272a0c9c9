"""How many threads parallel kernels take."""

from __future__ import annotations

import numba
import pytest

from voxlume.jit import WORTH_WAKING, threads_for


def test_few_items_take_one_thread() -> None:
    before = numba.get_num_threads()
    with threads_for(WORTH_WAKING - 1):
        assert numba.get_num_threads() == 1
    with threads_for(WORTH_WAKING):
        assert numba.get_num_threads() == before
    with pytest.raises(ValueError, match="inside"), threads_for(0):
        raise ValueError("inside")
    assert numba.get_num_threads() == before
