"""Softmax attention over the tokens of each sample by itself, never padded into another's view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, q_lengths: Sequence[int], kv_lengths: Sequence[int]) -> Tensor:
    """Scaled dot-product attention, scale 1 / sqrt(d), of each sample's queries to its own keys.

    Parameters
    ----------
    q : (sum of q_lengths, h, d); k, v : (sum of kv_lengths, h, d), samples one after another. They may be
        strided views (of a joint qkv tensor, say); one sample, or samples of equal length, cost no copy.
    q_lengths, kv_lengths : tokens of each sample, on the host. A sample without keys yields zeros.

    Returns
    -------
    (sum of q_lengths, h, d)
    """
    samples = len(q_lengths)
    if len(set(q_lengths)) == 1 and len(set(kv_lengths)) == 1 and kv_lengths[0] > 0:
        q, k, v = (x.unflatten(0, (samples, -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)
    half = q.dtype in (torch.float16, torch.bfloat16)
    varlen_attn = _varlen_attn() if q.is_cuda and half and min(kv_lengths, default=0) > 0 else None
    if varlen_attn is not None:
        q_starts, kv_starts = (_starts(tuple(lengths), q.device) for lengths in (q_lengths, kv_lengths))
        out = varlen_attn(q, k, v, q_starts, kv_starts, max(q_lengths), max(kv_lengths))
        return out[0] if isinstance(out, tuple) else out
    pieces = zip(q.split(list(q_lengths)), k.split(list(kv_lengths)), v.split(list(kv_lengths)), strict=True)
    return torch.cat([_single(*piece) for piece in pieces])


@lru_cache(maxsize=1)
def _varlen_attn() -> Callable[..., Any] | None:
    """PyTorch's attention of samples of unlike lengths; imported here, because it takes two seconds."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # PyTorch before 2.10
        return None
    return varlen_attn


def _single(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One sample: (t, h, d), (s, h, d), (s, h, d) -> (t, h, d)."""
    if len(k) == 0:
        return torch.zeros_like(q)
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).squeeze(0).transpose(0, 1)


@lru_cache(maxsize=16)
def _starts(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Where each sample begins; every block of a network asks for the same."""
    with torch.inference_mode(False):  # what is kept may serve a backward pass later
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(device, non_blocking=True)
