"""Sequence ops: a sequence is a list of values that is known while a file is walked, and nothing is left of it afterwards.

SequenceAt with a constant position is another name for a value, SplitToSequence is a Split, ConcatFromSequence a Concat. Where
all items are slices of one value (a clip split into frames, what a loop appends), the list is that value, so that an item
is found by a position that is known at run time only, and joining all of them again costs nothing. An optional value is the
value it holds, or a name that is left out.
Source  onnx.ai/onnx/operators, pages of SequenceConstruct, SequenceAt, OptionalGetElement and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamrnn.errors import OpenValueError, ShapeError, UnsupportedError
from streamrnn.ir.graph import Node
from streamrnn.ir.types import TensorType
from streamrnn_converters.onnx.raw import RawNode, SequenceType

if TYPE_CHECKING:
    from streamrnn_converters.passes.fold import Scope, Walk

#: values that all lists of a model together may name
MAX_LISTED = 1 << 22
#: nodes that the sequences of a model may become: items picked from a stack, pieces, rows that get an axis
MAX_WRITTEN = 1 << 14


@dataclass(frozen=True)
class Stack:
    """A value whose slices along `axis` are the items; with `keep` an item keeps that axis, of size 1."""

    value: str
    axis: int
    count: int
    keep: bool


@dataclass(frozen=True)
class TensorList:
    """A sequence: the names of its items, or a stack of them."""

    names: tuple[str, ...] = ()
    stack: Stack | None = None

    def __len__(self) -> int:
        return len(self.names) if self.stack is None else self.stack.count


def type_of(walk: Walk, name: str) -> TensorType | SequenceType | None:
    """The type of a value, None where it is left out."""
    found = walk.sequences.get(name)
    if found is None:
        return walk.types[name] if name else None
    first = found.names[:1] if found.stack is None else (found.stack.value,)
    return SequenceType(walk.types[first[0]].dtype if first else None)


def items(walk: Walk, raw: RawNode, found: TensorList) -> tuple[str, ...]:
    """The values in a sequence. Raises UnsupportedError where too many nodes would have to pick them."""
    if found.stack is None:
        return found.names
    written(walk, raw, len(found))
    return tuple(_picked(walk, raw, found.stack, walk.constant("position", np.int64(i))) for i in range(len(found)))


def written(walk: Walk, raw: RawNode, count: int) -> None:
    """So many more nodes are written for sequences. Raises UnsupportedError."""
    walk.written += count
    if walk.written > MAX_WRITTEN:
        raise _too_many(raw, f"the sequences of the model would become more than {MAX_WRITTEN} nodes")


def enlist(walk: Walk, raw: RawNode, name: str, found: TensorList) -> None:
    """Enter a sequence under a name of the new graph. Raises UnsupportedError."""
    walk.listed += len(found.names)
    if walk.listed > MAX_LISTED:
        raise _too_many(raw, f"the sequences of the model name more than {MAX_LISTED} values")
    walk.sequences[name] = found


def _too_many(raw: RawNode, what: str) -> UnsupportedError:
    return UnsupportedError(f"node '{raw.name}' ({raw.op}): {what}; export the model with tensors in their place")


def refuse(walk: Walk, node: Node) -> None:
    """UnsupportedError where an op that takes tensors is handed a sequence."""
    for name in node.inputs:
        if name in walk.sequences:
            raise UnsupportedError(
                f"node '{node.name}' ({node.op}): its input '{name}' is a sequence, which this op is not compiled for; export "
                f"the model without sequences"
            )


def refuse_results(walk: Walk, names: Sequence[str]) -> None:
    """Enter the problem of outputs that are sequences, or nothing at all."""
    for name in names:
        if name in walk.sequences or not name:
            walk.failed.add(name)
            walk.bad_values[name] = UnsupportedError(
                f"output '{name}' is a sequence, and a step gives tensors; end the model with ConcatFromSequence"
                if name
                else "an output is an optional value that is not there, and a step gives tensors; leave this output away"
            )


def _enter(walk: Walk, raw: RawNode, scope: Scope, found: TensorList) -> None:
    enlist(walk, raw, walk.define(raw.outputs[0], scope), found)


def _list(walk: Walk, raw: RawNode, name: str) -> TensorList:
    if name not in walk.sequences:
        raise ShapeError(f"node '{raw.name}' ({raw.op}): its input '{name}' is no sequence")
    return walk.sequences[name]


def _tensors(walk: Walk, raw: RawNode, names: Sequence[str]) -> None:
    """ShapeError where one of the values is missing or itself a sequence."""
    for name in names:
        if not name or name in walk.sequences:
            what = "a sequence, not a tensor" if name else "missing"
            raise ShapeError(f"node '{raw.name}' ({raw.op}): its input '{name}' is {what}")


def _position(walk: Walk, raw: RawNode, inputs: Sequence[str], index: int, count: int, default: int, end: int = 0) -> int:
    """The constant position at input `index` among `count` items, counted from the front; below count + `end`."""
    if index >= len(inputs) or not inputs[index]:
        place = default
    else:
        value = walk.constants.get(inputs[index])
        if value is None:
            _tensors(walk, raw, inputs[index : index + 1])
            reason = "its position is computed at run time, but a compiled step has sequences of fixed length"
            raise OpenValueError.at(f"node '{raw.name}' ({raw.op}): {reason}", index)
        place = int(value.item()) if value.size == 1 else count + end
    if not -count <= place < count + end:
        raise ShapeError(f"node '{raw.name}' ({raw.op}): position {place} is out of range for {count} items")
    return place + count if place < 0 else place


def _picked(walk: Walk, raw: RawNode, stack: Stack, position: str) -> str:
    """The item at a position, a scalar."""
    base = f"{raw.name}.item"
    if stack.keep:
        position = walk.add("Reshape", f"{base}.position", (position, walk.constant("one", np.array([1]))))
    return walk.add("Gather", base, (stack.value, position), {"axis": stack.axis})


def _stacked(walk: Walk, raw: RawNode, found: TensorList) -> Stack:
    """The items as one value, for a position that is known at run time only."""
    if found.stack is not None:
        return found.stack
    types = {walk.types[name] for name in found.names}
    if len(types) != 1:
        reason = f"its position is computed at run time, and the sequence has items of {len(types)} different types"
        raise OpenValueError.at(f"node '{raw.name}' ({raw.op}): {reason}, but a compiled step has fixed shapes", 1)
    return Stack(_joined(walk, raw, found.names, 0, new_axis=True), 0, len(found), keep=False)


def _joined(walk: Walk, raw: RawNode, names: Sequence[str], axis: int, *, new_axis: bool) -> str:
    if new_axis:
        written(walk, raw, len(names))
        where = walk.constant("axis", np.array([axis]))
        names = [walk.add("Unsqueeze", f"{name}.row", (name, where)) for name in names]
    return walk.add("Concat", raw.name, names, {"axis": axis})


# -- the ops --------------------------------------------------------------------------------------------------------


def _empty(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    _enter(walk, raw, scope, TensorList())


def _construct(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    _tensors(walk, raw, inputs)
    _enter(walk, raw, scope, TensorList(inputs))


def _insert(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    _tensors(walk, raw, inputs[1:2])
    names = list(items(walk, raw, _list(walk, raw, inputs[0])))
    names.insert(_position(walk, raw, inputs, 2, len(names), len(names), end=1), inputs[1])
    _enter(walk, raw, scope, TensorList(tuple(names)))


def _erase(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    names = list(items(walk, raw, _list(walk, raw, inputs[0])))
    del names[_position(walk, raw, inputs, 1, len(names), len(names) - 1)]
    _enter(walk, raw, scope, TensorList(tuple(names)))


def _at(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    found, position = _list(walk, raw, inputs[0]), inputs[1]
    _tensors(walk, raw, inputs[1:])
    if position in walk.constants:
        place = _position(walk, raw, inputs, 1, len(found), 0)
        if found.stack is None:
            scope[raw.outputs[0]] = found.names[place]
            return
        position = walk.constant("position", np.int64(place))
    elif walk.types[position].shape != ():
        position = walk.add("Reshape", f"{raw.name}.position", (position, walk.constant("scalar", np.zeros(0, np.int64))))
    scope[raw.outputs[0]] = _picked(walk, raw, _stacked(walk, raw, found), position)


def _length(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    scope[raw.outputs[0]] = walk.constant(raw.outputs[0], np.int64(len(_list(walk, raw, inputs[0]))))


def _split(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    """Without sizes the pieces are slices of 1; with keepdims = 0 slices of 1 lose the axis (also where sizes say that they
    are of 1, as in onnxruntime)."""
    _tensors(walk, raw, inputs[:1])
    type_ = walk.types[inputs[0]]
    axis = raw.attrs.get("axis", 0)
    if not isinstance(axis, int) or not -type_.rank <= axis < type_.rank:
        raise ShapeError(f"node '{raw.name}' ({raw.op}): axis {axis} is out of range for {type_}")
    axis %= type_.rank
    size, piece, sizes = type_.shape[axis], 1, None
    if len(inputs) > 1 and inputs[1]:
        value = walk.constants.get(inputs[1])
        if value is None:
            reason = "the sizes of its pieces are computed at run time, but a compiled step has fixed shapes"
            raise OpenValueError.at(f"node '{raw.name}' ({raw.op}): {reason}", 1)
        if value.ndim == 0:
            piece = max(1, int(value))
        else:
            sizes = [int(n) for n in value.reshape(-1)]
    if sizes is not None and (sum(sizes) != size or min(sizes, default=0) < 0):
        raise ShapeError(f"node '{raw.name}' ({raw.op}): pieces {sizes[:9]} do not add up to {size}")
    if size and (piece == 1 if sizes is None else set(sizes) == {1}):
        stack = Stack(inputs[0], axis, size, bool(raw.attrs.get("keepdims", 1)))
        _enter(walk, raw, scope, TensorList(stack=stack))
        return
    written(walk, raw, -(-size // piece) if sizes is None else len(sizes))
    if sizes is None:
        sizes = [min(piece, size - at) for at in range(0, size, piece)]
    where = walk.constant("sizes", np.array(sizes, np.int64))
    _enter(walk, raw, scope, TensorList(walk.add_all("Split", raw.name, (inputs[0], where), {"axis": axis}, len(sizes))))


def _concat(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    found, new_axis = _list(walk, raw, inputs[0]), bool(raw.attrs.get("new_axis", 0))
    if not len(found):
        raise ShapeError(f"node '{raw.name}' ({raw.op}): the sequence is empty")
    first = found.names[0] if found.stack is None else found.stack.value
    rank = walk.types[first].rank - (found.stack is not None and not found.stack.keep)
    axis = raw.attrs.get("axis")
    if not isinstance(axis, int) or not -rank - new_axis <= axis < rank + new_axis:
        raise ShapeError(f"node '{raw.name}' ({raw.op}): axis {axis} is out of range for items of rank {rank}")
    axis %= rank + new_axis
    stack = found.stack
    if stack is not None and stack.keep and stack.axis == axis and not new_axis:
        scope[raw.outputs[0]] = stack.value
    elif stack is not None and not stack.keep:
        scope[raw.outputs[0]] = _rejoined(walk, raw, stack, axis, new_axis=new_axis)
    else:
        scope[raw.outputs[0]] = _joined(walk, raw, items(walk, raw, found), axis, new_axis=new_axis)


def _rejoined(walk: Walk, raw: RawNode, stack: Stack, axis: int, *, new_axis: bool) -> str:
    """The slices of a stack joined along `axis`: the stack with its own axis moved there; unless it is a new one, merged."""
    rank = walk.types[stack.value].rank
    order = [d for d in range(rank) if d != stack.axis]
    order.insert(axis, stack.axis)
    value = stack.value
    if order != list(range(rank)):
        value = walk.add("Transpose", raw.name, (value,), {"perm": tuple(order)})
    if new_axis:
        return value
    shape = [walk.types[stack.value].shape[d] for d in order]
    shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    return walk.add("Reshape", raw.name, (value, walk.constant("shape", np.array(shape, np.int64))), {"allowzero": 1})


def _optional(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    scope[raw.outputs[0]] = inputs[0] if inputs else ""


def _has_element(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    scope[raw.outputs[0]] = walk.constant(raw.outputs[0], np.bool_(any(inputs)))


def _get_element(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope) -> None:
    if not inputs[0]:
        raise ShapeError(f"node '{raw.name}' ({raw.op}): the optional value that it takes is not there")
    scope[raw.outputs[0]] = inputs[0]


Handler = Callable[["Walk", RawNode, tuple[str, ...], "Scope"], None]

HANDLERS: Mapping[str, Handler] = {
    "SequenceEmpty": _empty,
    "SequenceConstruct": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "SplitToSequence": _split,
    "ConcatFromSequence": _concat,
    "Optional": _optional,
    "OptionalHasElement": _has_element,
    "OptionalGetElement": _get_element,
}
