"""Whether the batch of a file can be made 1: onnxruntime must give each signal of a batch what it gives that signal alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from streamrnn.errors import BindingError
from streamrnn.ir.graph import Array
from streamrnn_converters.compare import difference, peak, tolerance
from streamrnn_converters.lint.repair import repaired_file
from streamrnn_converters.lint.rules import Finding
from streamrnn_converters.oracle import FileInput, Session

#: size of dimensions that the file leaves open, for the trial
_OPEN = 7


def check_batch(path: str | Path, fixes: Iterable[Finding], bind: Mapping[str, object]) -> None:
    """Raises BindingError where a batch that is to become 1 is none: an answer for the first signal of a batch of random
    signals depends on the others. UnsupportedError where onnxruntime cannot run the file."""
    resized = {edit.target: int(edit.value[0]) for found in fixes for edit in found.edits if edit.action == "resize"}
    if not resized:
        return
    whole, single = Session(str(path)), Session(repaired_file(path, fixes))
    rng = np.random.default_rng(0)
    feeds = {name: _noise(declared, rng, bind.get(name)) for name, declared in whole.inputs.items()}
    first = {name: _first(value, resized.get(name)) for name, value in feeds.items()}
    expected, found = whole.run(feeds), single.run(first)
    for name, value in found.items():
        rows = _matching(expected[name], value.shape)
        if rows is None or difference(rows, value).max(initial=0.0) > tolerance("output", peak(rows), rows.dtype):
            raise BindingError(
                f"--fix SR301: output '{name}' for one signal is not what it is among others, so the axis is no batch or the "
                f"model mixes signals; convert without that fix"
            )


def _noise(declared: FileInput, rng: np.random.Generator, bound: object) -> Array:
    sizes = [_OPEN if d is None else d for d in declared.dims]
    if bound is not None:
        return np.broadcast_to(np.asarray(bound, declared.dtype), [1 if d is None else d for d in declared.dims])
    if declared.dtype.kind == "f":
        return rng.standard_normal(sizes).astype(declared.dtype)
    return rng.integers(0, 2, sizes).astype(declared.dtype)


def _first(value: Array, axis: int | None) -> Array:
    return value if axis is None else np.take(value, [0], axis)


def _matching(value: Array, shape: Sequence[int]) -> Array | None:
    """The first entry of each axis that is longer than in `shape`; None where ranks differ."""
    if value.ndim != len(shape):
        return None
    for axis, size in enumerate(shape):
        if value.shape[axis] != size:
            value = np.take(value, range(size), axis)
    return value
