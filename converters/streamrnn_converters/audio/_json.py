"""Reading JSON that nobody vouches for: strict, bounded, and with errors that name the place.

JSON itself allows what no model file should hold: a key twice, NaN, numbers beyond every float, nesting without end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from streamrnn.errors import ModelFileError
from streamrnn.ir.graph import Array

#: a file larger than this is refused unread (bytes); the largest published models have a few megabytes
MAX_FILE = 64 << 20
_REMEDY = "the file is altered or not of this format; export it again"


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises ModelFileError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); is it a model file?") from None
    if len(data) > MAX_FILE:
        raise ModelFileError(f"{path}: more than {MAX_FILE} bytes are not read; no audio model is that large")
    try:
        text = data.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_float)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ModelFileError(f"{path}: not a readable JSON file ({reason}); {_REMEDY}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key '{twice[:60]}' stands twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is beyond every float")
    return value


def shown(value: object) -> str:
    """A value for a message, cut to a sensible length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def refuse(where: str, reason: str, remedy: str = _REMEDY) -> NoReturn:
    """Raise the error of a bad file."""
    raise ModelFileError(f"{where}: {reason}; {remedy}")


class Fields:
    """An object of the file; `where` names it in messages. Every method raises ModelFileError."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            refuse(where, f"an object is expected, not {shown(value)}")
        self.data: Mapping[str, Any] = value
        self.where = where

    def __contains__(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.data.get(key) is not None

    def need(self, key: str) -> Any:
        """The value of a key that has to be there."""
        if key not in self:
            refuse(self.where, f"'{key}' is missing")
        return self.data[key]

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number within low .. high."""
        if default is not None and key not in self:
            return default
        return integer(self.need(key), f"{self.where}: '{key}'", low, high)

    def size(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """The same where it may stand in a list, whose last element counts, as RTNeural reads sizes."""
        value = self.data.get(key)
        if not isinstance(value, list) or not value:
            return self.integer(key, low, high, default)
        return integer(value[-1], f"{self.where}: '{key}'", low, high)

    def number(self, key: str, default: float | None = None) -> float:
        """A number, also where it is written as text."""
        if default is not None and key not in self:
            return default
        return number(self.need(key), f"{self.where}: '{key}'")

    def flag(self, key: str, default: bool | None = None) -> bool:
        """true or false, also written as 1 or 0."""
        if default is not None and key not in self:
            return default
        value = self.need(key)
        if value not in (True, False):
            refuse(f"{self.where}: '{key}'", f"true or false is expected, not {shown(value)}")
        return bool(value)

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        if default is not None and key not in self:
            return default
        value = self.need(key)
        if not isinstance(value, str):
            refuse(f"{self.where}: '{key}'", f"text is expected, not {shown(value)}")
        return str(value)

    def items(self, key: str) -> list[Any]:
        """A list."""
        value = self.need(key)
        if not isinstance(value, list):
            refuse(f"{self.where}: '{key}'", f"a list is expected, not {shown(value)}")
        return list(value)

    def fields(self, key: str) -> Fields:
        """An object inside."""
        return Fields(self.need(key), f"{self.where}: '{key}'")

    def objects(self, key: str, most: int, label: str) -> Iterator[tuple[int, Fields]]:
        """The objects of a list of 1 .. `most`, each with its number and as "<label> <number>" in messages."""
        found = self.items(key)
        if not 1 <= len(found) <= most:
            refuse(f"{self.where}: '{key}'", f"has {len(found)} entries, 1 to {most} are expected")
        for index, value in enumerate(found):
            yield index, Fields(value, f"{self.where}: {label} {index}")

    def array(self, key: str, shape: Sequence[int | None]) -> Array:
        """Numbers of this shape as float32; None stands for any size."""
        return array(self.need(key), f"{self.where}: '{key}'", shape)


def integer(value: object, where: str, low: int, high: int) -> int:
    """A whole number within low .. high."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(where, f"a whole number is expected, not {shown(value)}")
    if not low <= value <= high:
        refuse(where, f"is {shown(value)}, outside of {low} to {high}")
    return value


def number(value: object, where: str) -> float:
    """A finite number, also where it is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        refuse(where, f"a number is expected, not {shown(value)}")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        refuse(where, f"a number is expected, not {shown(value)}")
    if not math.isfinite(found):
        refuse(where, f"a finite number is expected, not {shown(value)}")
    return found


def array(value: object, where: str, shape: Sequence[int | None]) -> Array:
    """Nested lists of numbers as a float32 array of `shape`; None stands for any size of at least 1."""
    level, sizes = [value], list[int]()
    for wanted in shape:
        first = level[0]
        size = len(first) if isinstance(first, list) else 0
        if size == 0 or any(not isinstance(part, list) or len(part) != size for part in level):
            refuse(where, f"numbers of shape {_sizes(shape)} are expected, {_found(value)}")
        if wanted is not None and size != wanted:
            refuse(where, f"numbers of shape {_sizes(shape)} are expected, {_found(value)}")
        sizes.append(size)
        level = [entry for part in level for entry in part]  # type: ignore[attr-defined]
    if any(type(entry) is not float and type(entry) is not int for entry in level):
        odd = next(entry for entry in level if type(entry) is not float and type(entry) is not int)
        refuse(where, f"numbers of shape {_sizes(shape)} are expected, {shown(odd)} is among them")
    limit = float(np.finfo(np.float32).max)
    if any(not -limit <= entry <= limit for entry in level):  # type: ignore[operator]
        refuse(where, "a number among the weights is beyond float32")
    return np.array(level, np.float64).reshape(sizes).astype(np.float32)


def _sizes(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"


def _found(value: object) -> str:
    """The shape of nested lists along their first elements."""
    sizes = []
    while isinstance(value, list):
        sizes.append(len(value))
        value = value[0] if value else None
    return f"found {sizes}" if sizes else f"not {shown(value)}"
