"""Sequences and optional values that go into a model and come out of it, as the tensors that they hold.

A step takes and gives tensors. For the values of one run, how many items a sequence has and whether an optional value is there
is known, so the model is rewritten: an input that is a sequence becomes one input for each item and a SequenceConstruct, an
output becomes one SequenceAt for each item. None of these nodes is left in the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from streamrnn.errors import InputError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn_converters.names import Names
from streamrnn_converters.onnx.raw import RawInput, RawModel, RawNode, all_names

#: what an output is: the name of a tensor, the items of a sequence, or None for an optional value that is not there
Layout: TypeAlias = "str | list[Layout] | None"

#: (an op on a sequence or optional value, its input) -> the value of its output, which is known before the first run
Ask: TypeAlias = Callable[[str, str], Array]


@dataclass(frozen=True)
class Given:
    """A model whose inputs are all tensors, and these tensors by name. made: the nodes that make the file's inputs of them."""

    model: RawModel
    arrays: Mapping[str, Array]
    made: tuple[RawNode, ...]

    @property
    def form(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """What decides the compiled model as far as shapes do: each array's, and what the sequences are made of."""
        made = ((f"{node.op} {node.name}", (len(node.inputs),)) for node in self.made)
        return (*((name, array.shape) for name, array in self.arrays.items()), *made)


def unpacked(model: RawModel, values: Mapping[str, Any]) -> Given:
    """The model for these values of its inputs: arrays, lists for sequences, None for an optional value that is not there.

    Raises InputError where a value is of another kind, UnsupportedError for kinds that a step cannot take.
    """
    names = Names(all_names(model))
    inputs: list[RawInput] = []
    arrays: dict[str, Array] = {}
    nodes: list[RawNode] = []

    def make(op: str, items: Iterable[str], name: str) -> None:
        nodes.append(RawNode(op, names.fresh(f"{name}.{op}"), tuple(items), (name,)))

    def enter(declared: RawInput, value: Any) -> None:
        name = declared.name
        if declared.item is not None and declared.dtype == "optional":
            if value is None:
                make("Optional", (), name)
            else:
                enter(declared.item, value)
        elif declared.item is not None:
            if not isinstance(value, list | tuple):
                raise InputError(f"input '{name}' is a sequence: give a list of arrays, not {type(value).__name__}")
            items = [replace(declared.item, name=names.fresh(f"{name}.{k}")) for k in range(len(value))]
            for item, part in zip(items, value, strict=True):
                enter(item, part)
            make("SequenceConstruct" if items else "SequenceEmpty", (item.name for item in items), name)
        elif not declared.ranked and declared.dtype in ("map", "sparse_tensor"):
            raise UnsupportedError(f"input '{name}' is of type {declared.dtype}, which a step cannot take")
        else:
            inputs.append(declared)
            arrays[name] = np.asarray(value)

    for declared in model.inputs:
        enter(declared, values[declared.name])
    return Given(replace(model, inputs=tuple(inputs), nodes=(*nodes, *model.nodes)), arrays, tuple(nodes))


def with_tensors_out(model: RawModel, ask: Ask) -> tuple[RawModel, dict[str, Layout]]:
    """The model whose outputs are all tensors, and what each of its own outputs is made of. Raises what `ask` raises."""
    if all(declared.item is None for declared in model.outputs):
        return model, {declared.name: declared.name for declared in model.outputs}
    names = Names(all_names(model))
    outputs: list[RawInput] = []
    nodes: list[RawNode] = []
    constants = dict(model.constants)

    def leave(declared: RawInput) -> Layout:
        name = declared.name
        if declared.item is None:
            outputs.append(declared)
            return name
        if declared.dtype == "optional":
            return leave(declared.item) if ask("OptionalHasElement", name) else None
        items = [replace(declared.item, name=names.fresh(f"{name}.{k}")) for k in range(int(ask("SequenceLength", name)))]
        for k, item in enumerate(items):
            place = names.fresh(f"{item.name}.place")
            constants[place] = np.array(k)
            nodes.append(RawNode("SequenceAt", names.fresh(f"{item.name}.SequenceAt"), (name, place), (item.name,)))
        return [leave(item) for item in items]

    layouts = {declared.name: leave(declared) for declared in model.outputs}
    return replace(model, outputs=tuple(outputs), nodes=(*model.nodes, *nodes), constants=constants), layouts


def packed(layout: Layout, arrays: Mapping[str, Array]) -> Any:
    """An output from the tensors that it is made of."""
    if isinstance(layout, list):
        return [packed(item, arrays) for item in layout]
    return None if layout is None else arrays[layout]


def asking(model: RawModel, op: str, name: str) -> RawModel:
    """The model whose only output is that of `op` on its value `name`, and its own node."""
    answer = RawInput(Names(all_names(model)).fresh(f"{name}.{op}"), "int64" if op == "SequenceLength" else "bool", ())
    node = RawNode(op, answer.name, (name,), (answer.name,))
    return replace(model, outputs=(answer,), nodes=(*model.nodes, node))
