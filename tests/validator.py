"""The Khronos glTF-Validator, run under Node on the files that the package writes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.npm import MODULES, npm_missing

_SCRIPT = """
const { validateBytes } = require(process.argv[1]);
const bytes = new Uint8Array(require('fs').readFileSync(process.argv[2]));
validateBytes(bytes, { maxIssues: 100 }).then(r => process.stdout.write(JSON.stringify(r)));
"""


def validator_missing() -> str | None:
    """None if the validator can run, installing it where necessary; otherwise the reason why not."""
    return "Node is not installed" if shutil.which("node") is None else npm_missing("gltf-validator")


def validate(path: Path) -> dict[str, Any]:
    """The validator's report on a ``.glb``; skips the calling test where it cannot run."""
    reason = validator_missing()
    if reason:
        pytest.skip(reason)
    command = ["node", "-e", _SCRIPT, str(MODULES / "gltf-validator"), str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)


# An asset keeps no tangents: without them renderers derive MikkTSpace's, as the specification says.
_ACCEPTED = {"MESH_PRIMITIVE_GENERATED_TANGENT_SPACE"}


def assert_valid(path: Path) -> dict[str, Any]:
    """Fail if the validator has an error or a warning; returns its report."""
    report = validate(path)
    bad = _problems(report)
    assert not bad, bad
    return report


def problems(path: Path) -> list[str]:
    """The codes of the validator's errors and warnings on a ``.glb``."""
    return [m["code"] for m in _problems(validate(path))]


def _problems(report: dict[str, Any]) -> list[dict[str, Any]]:
    messages = report["issues"]["messages"]
    return [m for m in messages if m["severity"] <= 1 and m["code"] not in _ACCEPTED]
