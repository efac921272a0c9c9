"""The options of every command that runs networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

DataType = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass
class ModelOptions:
    """Which model, and where and how it runs."""

    model: str = "bundled"
    """A folder, a hub id such as microsoft/TRELLIS.2-4B, or "bundled"."""
    revision: str | None = None
    """Branch, tag or commit of the hub repository."""
    image_encoder: str | None = None
    """Folder or hub id of the DINOv3 encoder, in place of the one that the model names."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: DataType = "auto"
    """What the networks compute in; auto is each checkpoint's own, float32 on a CPU."""
    memory_budget: float | None = None
    """GB of device memory to stay within (default: 12 on CUDA, no limit elsewhere)."""

    def arguments(self) -> dict[str, Any]:
        """For ``from_pretrained``, the source left out."""
        import torch

        return {
            "revision": self.revision,
            "image_encoder": self.image_encoder,
            "device": self.device,
            "dtype": None if self.dtype == "auto" else getattr(torch, self.dtype),
            "memory_budget": self.memory_budget,
        }
