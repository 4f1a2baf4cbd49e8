"""Copies of an ONNX file with other inputs and outputs: to see values inside, and to run only its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

from streamrnn.errors import UnsupportedError
from streamrnn.ir.types import TensorType


def read_model(model: str | Path | bytes) -> onnx.ModelProto:
    """A file with its external data, or a serialised model."""
    return onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(str(model))


def inlined(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """The model with those branches of If in place of the If that compute some of `names`, at any depth.

    The step graph holds values of the branch that was chosen under its name in the file; the other branch is dropped.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    while True:
        chosen = ((node, branch) for node in copy.graph.node if (branch := _branch(node, names)) is not None)
        node, branch = next(chosen, (None, None))
        if node is None or branch is None:
            return copy
        at = list(copy.graph.node).index(node)
        links = [
            onnx.helper.make_node("Identity", [inner.name], [outer])
            for inner, outer in zip(branch.output, node.output, strict=False)
            if outer and inner.name != outer
        ]
        nodes = [*copy.graph.node[:at], *branch.node, *links, *copy.graph.node[at + 1 :]]
        copy.graph.initializer.extend(branch.initializer)
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del copy.graph.node[:]
        copy.graph.node.extend(nodes)


def _branch(node: onnx.NodeProto, names: Collection[str]) -> onnx.GraphProto | None:
    """The branch of an If that computes most of `names`; None where neither does."""
    if node.op_type != "If":
        return None
    branches = [a.g for a in node.attribute if a.name in ("then_branch", "else_branch")]
    found = {id(b): len(_all_values(b) & set(names)) for b in branches}
    best = max(branches, key=lambda b: found[id(b)], default=None)
    return best if best is not None and found[id(best)] else None


def _all_values(graph: onnx.GraphProto) -> set[str]:
    values = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                values |= _all_values(attribute.g)
    return values


def computed_values(model: onnx.ModelProto) -> list[str]:
    """Values that nodes of the main graph compute, in topological order."""
    return [name for node in model.graph.node for name in node.output if name]


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """The model with `names`, values of its main graph, as its only outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return bytes(copy.SerializeToString())


def with_states(model: onnx.ModelProto, states: Mapping[str, tuple[str, int, int]]) -> bytes:
    """The model with every dimension of its inputs and outputs open, and with states of its nodes as inputs and outputs.

    states: name of the new input -> (an output of the node, index of the input that it begins with, index of the output that
            is its end). What the end is called is `next_of` the name.

    Raises UnsupportedError where the main graph has no such node.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for port in (*graph.input, *graph.output):
        for dim in port.type.tensor_type.shape.dim:
            dim.Clear()
    del graph.value_info[:]
    makers = {name: node for node in graph.node for name in node.output if name}
    for name, (output, begin, end) in states.items():
        node = makers.get(output)
        if node is None:
            raise UnsupportedError(
                f"'{output}' is no value of the file's main graph, so its state '{name}' cannot be handed on"
            )
        node.input.extend([""] * (begin + 1 - len(node.input)))
        node.output.extend([""] * (end + 1 - len(node.output)))
        node.input[begin] = name
        inner = node.output[end] = node.output[end] or f"{name}.end"
        # behind all nodes, so that a value that is an output already keeps its name
        graph.node.append(onnx.helper.make_node("Identity", [inner], [next_of(name)]))
        graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 3))
        graph.output.append(onnx.ValueInfoProto(name=next_of(name)))
    return bytes(copy.SerializeToString())


def next_of(state: str) -> str:
    """What `with_states` calls the next value of a state."""
    return f"{state}.next"


def tail(model: onnx.ModelProto, inputs: Mapping[str, TensorType], still: Collection[str], output: str) -> bytes:
    """The part of the model that computes `output` from `inputs`, values with all dimensions open, and from those inputs of the
    file that stand still.

    Raises UnsupportedError where `output` also depends on another input of the file.
    """
    producers = {name: i for i, node in enumerate(model.graph.node) for name in node.output}
    needed: set[int] = set()
    seen: set[str] = set()
    pending = [output]
    while pending:
        name = pending.pop()
        if name in inputs or name in seen:
            continue
        seen.add(name)
        index = producers.get(name)
        if index is not None and index not in needed:
            needed.add(index)
            pending += _read_by(model.graph.node[index])
    given = {i.name for i in model.graph.input} - {t.name for t in model.graph.initializer}
    if given & seen - set(still):
        raise UnsupportedError(f"it depends on the inputs {sorted(given & seen - set(still))} directly")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for part in (graph.node, graph.input, graph.output, graph.initializer, graph.value_info):
        del part[:]
    graph.node.extend(node for i, node in enumerate(model.graph.node) if i in needed)
    graph.initializer.extend(t for t in model.graph.initializer if t.name in seen)
    graph.input.extend(i for i in model.graph.input if i.name in given & seen)
    for name, type_ in inputs.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(type_.dtype.numpy))
        graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * type_.rank))
    graph.output.append(onnx.ValueInfoProto(name=output))
    return bytes(copy.SerializeToString())


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """All values that a node reads, those that its subgraphs capture included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for graph in graphs:
            own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
            for inner in graph.node:
                yield from (name for name in _read_by(inner) if name not in own)
                own |= set(inner.output)
