"""Copies of an ONNX file with other inputs and outputs: to see values inside, and to run only its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

from streamrnn.errors import UnsupportedError
from streamrnn.ir.types import TensorType


def read_model(model: str | Path | bytes) -> onnx.ModelProto:
    """A file with its external data, or a serialised model."""
    return onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(str(model))


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


def tail(model: onnx.ModelProto, inputs: Mapping[str, TensorType], output: str) -> bytes:
    """The part of the model that computes `output` from `inputs`; all their dimensions are open.

    Raises UnsupportedError where `output` also depends on an input of the file that is not among `inputs`.
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
    if given & seen:
        raise UnsupportedError(f"output '{output}' depends on the inputs {sorted(given & seen)} directly")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for part in (graph.node, graph.input, graph.output, graph.initializer, graph.value_info):
        del part[:]
    graph.node.extend(node for i, node in enumerate(model.graph.node) if i in needed)
    graph.initializer.extend(t for t in model.graph.initializer if t.name in seen)
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
