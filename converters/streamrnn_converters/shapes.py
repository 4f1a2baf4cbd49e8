"""Open dimensions of a file: which one is time, which one is a batch, which one the user has to fix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from streamrnn.errors import BindingError
from streamrnn_converters.onnx.moves import CELLS, MOVES
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


def length_inputs(model: RawModel) -> dict[str, tuple[int, ...]]:
    """Inputs that say how many frames of a clip count, with their shapes: they become the sequence_lens of a recurrent node. A
    stream has no end, so in frame mode they are as long as the clip."""
    makers = {name: node for node in model.nodes for name in node.outputs}
    declared = {i.name: i for i in model.inputs if i.dtype in ("int32", "int64") and i.ranked}
    found = {}
    for node in model.nodes:
        name = node.inputs[4] if node.op in CELLS and len(node.inputs) > 4 else ""
        while name in makers and makers[name].op in MOVES | {"Cast"} and makers[name].inputs:
            name = makers[name].inputs[0]
        if name in declared:
            found[name] = tuple(1 if is_open(dim) else int(str(dim)) for dim in declared[name].dims)
    return found


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


def default_shapes(
    model: RawModel,
    bound: Sequence[str],
    shape: Mapping[str, Sequence[int]],
    time_axes: Mapping[str, int],
    frames: int,
) -> dict[str, tuple[int, ...]]:
    """Dimensions of the inputs: the user's, the file's, `frames` on open time axes, 1 for an open batch.

    An input that stays open is left out; `fold` says so if an output needs it. Raises BindingError where a name or a time
    axis does not fit the file.
    """
    shapes = {name: tuple(dims) for name, dims in shape.items()}
    declared = {i.name: i for i in model.inputs}
    for name, axis in time_axes.items():
        if name not in declared or name in bound:
            raise BindingError(f"--time-axis {name}: no live input has that name; the inputs are {list(declared)}")
        if name not in shape and not declared[name].ranked:
            raise BindingError(
                f"--time-axis {name}={axis}: input '{name}' has no shape in the file; give it: --shape {name}=SIZE,..."
            )
        rank = len(shape.get(name, declared[name].dims))
        if not -rank <= axis < rank:
            raise BindingError(f"--time-axis {name}={axis}: input '{name}' has {rank} dimensions")
    for i in model.inputs:
        if i.name in bound or i.name in shapes or not i.ranked:
            continue
        dims: list[int | str | None] = list(i.dims)
        if i.name in time_axes and is_open(dims[time_axes[i.name]]):
            dims[time_axes[i.name]] = frames
        dims = [1 if is_open(dim) and _batch_like(i, d) else dim for d, dim in enumerate(dims)]
        sizes = tuple(dim for dim in dims if isinstance(dim, int))
        if len(sizes) == len(dims):
            shapes[i.name] = sizes
    return shapes
