"""Reading JSON values that may be of any type, size or absence.

A glTF file comes from anywhere, so nothing in its JSON is trusted: every value is fetched through a
:class:`Record`, which checks its type and range and names its place in the file when it is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError

LARGEST_INTEGER = 2**53
"""Larger integers do not survive JSON readers that hold numbers as doubles."""

Choice = TypeVar("Choice", int, str)


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON object and its place in the file, such as ``meshes[3].primitives[0]``.

    All getters raise :class:`AssetError` for a value of the wrong type or range. A key that is absent
    gives ``default``; where ``default`` is None the key is required.

    Attributes
    ----------
    path, index : the object itself is at ``path``, or is an element of the list there.
    """

    fields: dict[str, Any]
    path: str = ""
    index: int | None = None

    @property
    def where(self) -> str:
        return self.path if self.index is None else f"{self.path}[{self.index}]"

    def at(self, key: str) -> str:
        return f"{self.where}.{key}" if self.path else key

    def fail(self, key: str, problem: str) -> NoReturn:
        raise AssetError(f"{self.at(key)} {problem}")

    def __contains__(self, key: str) -> bool:
        return key in self.fields

    def _get(self, key: str, default: Any) -> Any:
        value = self.fields.get(key, default)
        if value is None:
            self.fail(key, "is null" if key in self.fields else "is missing")
        return value

    def integer(
        self, key: str, default: int | None = None, *, low: int = 0, high: int = LARGEST_INTEGER
    ) -> int:
        value = _as_integer(self._get(key, default))
        if value is None:
            self.fail(key, "must be an integer")
        if not low <= value <= high:
            self.fail(key, f"is {_shown(value)}, outside {low} .. {high}")
        return value

    def reference(self, key: str, target: Sequence[Any]) -> int | None:
        """An index into ``target`` (a top-level list of the file), or None where the key is absent."""
        if key not in self.fields:
            return None
        value = self.integer(key)
        if value >= len(target):
            self.fail(key, f"is {_shown(value)}, but there are only {len(target)}")
        return value

    def references(self, key: str, target: Sequence[Any]) -> list[int]:
        """A list of indices into ``target``; empty where the key is absent."""
        values = [_as_integer(v) for v in self.items(key)]
        for value in values:
            if value is None or not 0 <= value < len(target):
                self.fail(key, f"holds {_shown(value)}, which is no index below {len(target)}")
        return [v for v in values if v is not None]

    def number(
        self, key: str, default: float | None = None, *, low: float = -math.inf, high: float = math.inf
    ) -> float:
        value = _as_number(self._get(key, default))
        if value is None:
            self.fail(key, "must be a finite number")
        if not low <= value <= high:
            self.fail(key, f"is {value:g}, outside {low:g} .. {high:g}")
        return value

    def numbers(self, key: str, length: int | None, default: Sequence[float] | None = None) -> list[float]:
        """A list of ``length`` finite numbers (any length for None)."""
        if key not in self.fields and default is not None:
            return list(default)
        values = [v for v in map(_as_number, self.items(key)) if v is not None]
        if len(values) != len(self.items(key)):
            self.fail(key, "must hold finite numbers only")
        if length is not None and len(values) != length:
            self.fail(key, f"must hold {length} numbers, not {len(values)}")
        return values

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            self.fail(key, "must be a string")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.fail(key, "must be true or false")
        return value

    def choice(self, key: str, allowed: Sequence[Choice], default: Choice | None = None) -> Choice:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or value not in allowed:
            self.fail(key, f"is {_shown(value)}, not one of {', '.join(str(a) for a in allowed)}")
        return allowed[allowed.index(value)]  # type: ignore[arg-type]

    def items(self, key: str) -> list[Any]:
        """A JSON list; empty where the key is absent."""
        value = self._get(key, [])
        if not isinstance(value, list):
            self.fail(key, "must be a list")
        return value

    def record(self, key: str) -> Record:
        """A JSON object; without fields where the key is absent."""
        value = self._get(key, {})
        if not isinstance(value, dict):
            self.fail(key, "must be an object")
        return Record(value, self.at(key))

    def records(self, key: str) -> list[Record]:
        """A list of JSON objects; empty where the key is absent."""
        values = self.items(key)
        place = self.at(key)
        for i, value in enumerate(values):
            if not isinstance(value, dict):
                raise AssetError(f"{place}[{i}] must be an object")
        return [Record(value, place, i) for i, value in enumerate(values)]

    def texts(self, key: str) -> list[str]:
        """A list of strings; empty where the key is absent."""
        values = self.items(key)
        if not all(isinstance(v, str) for v in values):
            self.fail(key, "must hold strings only")
        return values

    def extension(self, name: str) -> Record | None:
        """The object's extension of that name, or None."""
        if "extensions" not in self.fields:
            return None
        extensions = self.record("extensions")
        return extensions.record(name) if name in extensions else None


def color(record: Record, key: str, default: Sequence[float], high: float = 1.0) -> NDArray[np.float64]:
    """Colour components, as many as ``default`` has, clamped to 0 .. ``high``."""
    return np.clip(record.numbers(key, len(default), default), 0.0, high)


def _as_integer(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_INTEGER:
        return int(value)  # some exporters write every number with a decimal point
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _as_number(value: Any) -> float | None:
    if type(value) is int:
        return float(value) if abs(value) < 10**300 else None
    return value if type(value) is float and math.isfinite(value) else None


def _shown(value: Any) -> str:
    return one_line(repr(value) if isinstance(value, (int, float, str)) else type(value).__name__, 40)


def one_line(text: str, length: int) -> str:
    """The text without line breaks and control characters, cut to a length."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * length]).split())
    return text if len(text) <= length else text[: length - 3] + "..."
