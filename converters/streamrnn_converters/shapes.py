"""Open dimensions of a file: which one is time, which one is a batch, which one the user has to fix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from streamrnn.errors import BindingError
from streamrnn_converters.onnx.raw import RawInput, RawModel

_TIME = re.compile(r"time|seq|frame|step|len|sample|^t$|^l$|window", re.IGNORECASE)
_BATCH = re.compile(r"batch|^n$|^b$", re.IGNORECASE)


def is_open(dim: int | str | None) -> bool:
    return not isinstance(dim, int)


def time_candidates(model: RawModel, bound: Sequence[str], shape: Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """Assignments {input: axis} of a time axis worth trying, the likeliest first.

    All inputs that share the name of an open dimension have time there; without an open dimension every axis of the first
    input that is longer than 1 is tried.
    """
    inputs = [i for i in model.inputs if i.name not in bound]
    found: list[dict[str, int]] = []
    for pattern_only in (True, False):
        for i in inputs:
            for axis, dim in enumerate(i.dims):
                if i.name in shape or not is_open(dim) or _batch_like(i, axis):
                    continue
                if bool(_TIME.search(str(dim or ""))) is pattern_only:
                    found.append(_same_dim(inputs, i, axis))
    if not found and inputs:
        first = inputs[0]
        dims = shape.get(first.name, first.dims)
        found = [{first.name: axis} for axis, dim in enumerate(dims) if isinstance(dim, int) and dim > 1]
    return [assignment for k, assignment in enumerate(found) if assignment not in found[:k]]


def _same_dim(inputs: Sequence[RawInput], first: RawInput, axis: int) -> dict[str, int]:
    name = first.dims[axis]
    if not isinstance(name, str) or not name:
        return {first.name: axis}
    return {i.name: i.dims.index(name) for i in inputs if name in i.dims}


def _batch_like(i: RawInput, axis: int) -> bool:
    """An open dimension that is a batch: by its name, or because it comes first and does not sound like time."""
    text = str(i.dims[axis] or "")
    if _BATCH.search(text):
        return True
    return axis == 0 and len(i.dims) > 1 and not _TIME.search(text)


def resolve_shapes(
    model: RawModel,
    bound: Sequence[str],
    shape: Mapping[str, Sequence[int]],
    time_axes: Mapping[str, int],
    frames: int,
) -> dict[str, tuple[int, ...]]:
    """Concrete dimensions of every input that is not bound: the file's, the user's, `frames` on open time axes, 1 for a
    batch. Raises BindingError where the user has to decide, or where a given shape does not fit the file."""
    shapes: dict[str, tuple[int, ...]] = {}
    known = [i.name for i in model.inputs]
    for name in (*shape, *time_axes, *bound):
        if name not in known:
            raise BindingError(f"there is no input '{name}'; the inputs are {known}")
    for i in model.inputs:
        if i.name in bound:
            continue
        given = shape.get(i.name)
        if given is not None:
            _check_given(i, tuple(given))
        dims = list(given if given is not None else i.dims)
        axis = time_axes.get(i.name)
        if axis is not None and not -len(dims) <= axis < len(dims):
            raise BindingError(f"--time-axis {i.name}={axis}: the input has {len(dims)} dimensions")
        if axis is not None and is_open(i.dims[axis]):
            dims[axis] = frames
        for d, dim in enumerate(dims):
            if is_open(dim) and _batch_like(i, d):
                dims[d] = 1
        if any(is_open(dim) for dim in dims):
            raise BindingError(_open_message(i, dims))
        shapes[i.name] = tuple(int(str(dim)) for dim in dims)
    return shapes


def _check_given(i: RawInput, given: tuple[int, ...]) -> None:
    fits = len(given) == len(i.dims) and all(is_open(d) or d == g for d, g in zip(i.dims, given, strict=True))
    if not fits or any(g < 1 for g in given):
        raise BindingError(f"--shape {i.name}={','.join(map(str, given))} does not fit the file's {list(i.dims)}")


def _open_message(i: RawInput, dims: Sequence[int | str | None]) -> str:
    d = next(k for k, dim in enumerate(dims) if is_open(dim))
    example = ",".join(str(dim) if isinstance(dim, int) else "N" for dim in dims)
    return (
        f"input '{i.name}' has the open dimension '{dims[d] or '?'}' (axis {d} of {list(i.dims)}) and nothing fixes it; "
        f"give its size with --shape {i.name}={example}, or say that it is time with --time-axis {i.name}={d}"
    )
