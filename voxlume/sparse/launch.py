"""Launching a Triton kernel again without asking Triton which of its compiled forms to take.

Triton examines every argument of every launch to find that out; with twenty arguments this is more than half
of a launch's time on the host, which is what a network on few voxels spends its time on. A caller that knows
what the compiled form depends on can say so.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch import Tensor

_compiled: dict[Hashable, Any] = {}


def launch(kernel: Any, programs: int, form: Hashable, arguments: tuple[Any, ...], **options: int) -> None:
    """``kernel[(programs,)](*arguments, **options)``.

    Parameters
    ----------
    form : names the kernel and everything that its compiled form depends on: device, dtypes, which
        arguments are None, values of whole numbers (unless the kernel does not specialise on them) and
        constants, options. All tensors must be :func:`aligned`. None leaves the search to Triton.
    arguments : one for each parameter of the kernel, constants too.
    """
    compiled = _compiled.get(form)
    if compiled is not None:
        try:
            compiled[(programs, 1, 1)](*arguments)
            return
        except TypeError:  # a Triton that wants its arguments otherwise refuses before it launches
            _compiled[form] = None
    compiled = kernel[(programs,)](*arguments, **options)
    if form is not None and form not in _compiled and hasattr(compiled, "packed_metadata"):
        _compiled[form] = compiled


def aligned(*tensors: Tensor | None) -> bool:
    """Whether all begin at a multiple of 16 bytes, as whatever PyTorch allocates does and slices may not."""
    return all(tensor is None or tensor.data_ptr() % 16 == 0 for tensor in tensors)
