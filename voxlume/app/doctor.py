"""``voxlume doctor``: what is installed, what it runs on, whether its kernels and its own model are right."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "numpy", "numba", "safetensors", "pillow", "huggingface_hub", "triton")

OPTIONAL = {
    "triton": ("fast kernels on NVIDIA GPUs", "comes with PyTorch's CUDA builds for Linux"),
    "rembg": ("removing the background of pictures without transparency", "pip install 'voxlume[rembg]'"),
    "embreex": ("faster visibility tests", "pip install 'voxlume[rays]'"),
}
"""Optional packages: what they are for, and how to get them."""


@dataclass
class Doctor:
    """Show versions, devices and memory, check the kernels, and say what is missing."""

    json: bool = False
    """Print as JSON."""

    def run(self) -> int:
        """The exit status: 1 if a check failed."""
        facts = examine()
        if self.json:
            print(json.dumps(facts, indent=2))
        else:
            _print(facts)
        return 0 if facts["healthy"] else 1


def examine() -> dict[str, Any]:
    """Everything that the command reports."""
    import torch

    from voxlume import __version__

    versions = {name: _version(name) for name in PACKAGES}
    devices = [_device(torch.device("cpu"))]
    devices += [_device(torch.device("cuda", i)) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(_device(torch.device("mps")))
    missing = [
        {"package": name, "for": purpose, "how": how}
        for name, (purpose, how) in OPTIONAL.items()
        if find_spec(name) is None
    ]
    model = _bundled_model()
    if model is None:
        purpose, how = "running without a download", "use --model with a folder or microsoft/TRELLIS.2-4B"
        missing.append({"package": "bundled model", "for": purpose, "how": how})
    return {
        "voxlume": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
        "offline": os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"),
        "devices": devices,
        "model": model,
        "missing": missing,
        "healthy": all(check["passed"] for device in devices for check in device["checks"])
        and not (model and model["problems"]),
    }


def _bundled_model() -> dict[str, Any] | None:
    """The model that comes with the package and what is wrong with it; None where there is none."""
    from voxlume.errors import ModelFileError
    from voxlume.pipelines.model_folder import BUNDLED, IMAGE_TO_3D, TEXTURING, ModelFolder

    if not (BUNDLED / IMAGE_TO_3D).is_file():
        return None
    problems: list[str] = []
    for description in (IMAGE_TO_3D, TEXTURING):
        try:
            folder = ModelFolder.from_pretrained("bundled", pipeline=description)
        except ModelFileError as error:
            problems.append(str(error))
        else:
            problems += [problem for problem in folder.problems() if problem not in problems]
    size = sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file())
    return {"megabytes": round(size / 1e6, 1), "problems": problems}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(device: torch.device) -> dict[str, Any]:
    from voxlume.pipelines.selftest import check_device

    checks = [
        {"name": c.name, "passed": c.passed, "error": _finite(c.error), "detail": str(c)}
        for c in check_device(device)
    ]
    return {"device": str(device)} | _describe(device) | {"checks": checks}


def _describe(device: torch.device) -> dict[str, Any]:
    import torch

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        return {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda or torch.version.hip,
            "memory_gb": round(total_bytes / 1e9, 1),
            "free_gb": round(free_bytes / 1e9, 1),
        }
    if device.type == "mps":
        return {"name": platform.machine(), "memory_gb": round(torch.mps.recommended_max_memory() / 1e9, 1)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total, free = _host_memory()
    return {
        "name": platform.processor() or platform.machine(),
        "cores": cores,
        "memory_gb": total,
        "free_gb": free,
    }


def _host_memory() -> tuple[float | None, float | None]:
    """GB of main memory, all and available; None where the system does not say."""
    try:
        page = os.sysconf("SC_PAGE_SIZE") / 1e9
        return round(os.sysconf("SC_PHYS_PAGES") * page, 1), round(os.sysconf("SC_AVPHYS_PAGES") * page, 1)
    except (AttributeError, ValueError, OSError):
        return None, None


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(f"voxlume {facts['voxlume']}, Python {facts['python']}, {facts['system']}", highlight=False)
    installed = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    console.print(installed, highlight=False)
    if facts["offline"]:
        console.print("HF_HUB_OFFLINE is set: models come from the cache only")
    for device in facts["devices"]:
        about = ", ".join(
            f"{key.replace('_', ' ')} {value}"
            for key, value in device.items()
            if key not in ("device", "checks") and value is not None
        )
        console.print(f"\n[bold]{device['device']}[/bold]  {escape(about)}", highlight=False)
        for check in device["checks"]:
            mark = "[green]ok[/green]    " if check["passed"] else "[red]FAILED[/red]"
            console.print(f"  {mark}  {escape(check['detail'])}", highlight=False)
    model = facts["model"]
    if model:
        console.print(f"\n[bold]bundled model[/bold]  {model['megabytes']} MB", highlight=False)
        for problem in model["problems"]:
            console.print(f"  [red]BROKEN[/red]  {escape(problem)}", highlight=False)
        if not model["problems"]:
            console.print("  [green]ok[/green]      every network is there", highlight=False)
    if facts["missing"]:
        console.print("\n[bold]not here[/bold]")
    for part in facts["missing"]:
        console.print(f"  {escape(part['package'])} ({part['for']}): {escape(part['how'])}", highlight=False)
    if not all(check["passed"] for device in facts["devices"] for check in device["checks"]):
        console.print(
            "\n[red]A check failed:[/red] results on that device are not to be trusted. "
            "VOXLUME_KERNELS=reference uses the plain kernels."
        )
