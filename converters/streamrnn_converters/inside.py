"""Values inside the bodies of If, Loop and Scan, made visible at the main graph: in an ONNX file and in a step graph alike.

A value of a body becomes one more output of it and of the node that runs it. A Scan, and a Loop of a file, stacks it over the
iterations. A Loop of a step graph cannot stack: it carries a buffer for its first ITERATIONS and writes a row of it each
time. A branch that does not have the value gives zeros. Levels of bodies are taken from the inside out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from streamrnn.ir.graph import Array, Graph, Node
from streamrnn.ir.types import DType, TensorType
from streamrnn.ir.verify import infer_node, site_of

#: iterations of a Loop whose values are kept, and bytes of the buffer for one value
ITERATIONS, _BUFFER = 32, 4 << 20
_BODIES = ("then_branch", "else_branch", "body")


@dataclass(frozen=True)
class Inner:
    """A value in a body: the node that gives it, the nodes that run the bodies around it from the outside in, and the types
    that it has behind 0, 1, ... stackings."""

    value: str
    node: Node
    path: tuple[Node, ...]
    types: tuple[TensorType, ...]

    @property
    def stacks(self) -> int:
        return sum(node.op != "If" for node in self.path)

    def where(self, index: tuple[int, ...]) -> str:
        """The bodies in words; `index`: the iterations, outer ones first."""
        turns, words = iter(index), []
        for node in self.path:
            at = "in a branch" if node.op == "If" else f"in iteration {next(turns)}"
            words.append(f"{at} of '{node.name}' ({node.op})")
        return ", ".join(reversed(words))


def visible(value: str, level: int = 0) -> str:
    """The name under which a value of a body is seen `level` bodies deep; 0: at the main graph."""
    return f"{value} inside" if not level else f"{value} inside {level}"


def expose(model: onnx.ModelProto, graph: Graph) -> tuple[onnx.ModelProto, Graph, dict[str, Inner]]:
    """Both with the float values of bodies, as far as file and step graph share their names, as `visible` values of the main
    graph; and these by that name, in the order of computation."""
    listed = list(_file_values(model.graph, 0))
    in_file, counted = dict(listed), Counter(name for name, _ in listed)
    wanted = {
        value
        for value, stacks, type_ in _graph_values(graph, 0)
        if in_file.get(value) == stacks and counted[value] == 1 and type_.dtype is DType.F32
    }
    exposed, inner = _in_graph(graph, wanted, (), 0)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _in_file(copy.graph, inner, 0)
    return copy, exposed, {visible(value): found for value, found in inner.items()}


def _file_values(graph: onnx.GraphProto, stacks: int) -> Iterator[tuple[str, int]]:
    """(value, stackings around it) of all bodies."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _BODIES and attribute.HasField("g"):
                deeper = stacks + (node.op_type != "If")
                yield from ((name, deeper) for inner in attribute.g.node for name in inner.output if name)
                yield from _file_values(attribute.g, deeper)


def _graph_values(graph: Graph, stacks: int) -> Iterator[tuple[str, int, TensorType]]:
    for node in graph.nodes:
        deeper = stacks + (node.op != "If")
        for body in node.bodies:
            yield from ((name, deeper, body.types[name]) for inner in body.nodes for name in inner.outputs if name)
            yield from _graph_values(body, deeper)


# -- the step graph -------------------------------------------------------------------------------------------------


def _in_graph(graph: Graph, wanted: set[str], path: tuple[Node, ...], level: int) -> tuple[Graph, dict[str, Inner]]:
    """The graph whose control nodes give what is wanted of their bodies, and all that can be taken out of it."""
    nodes, types, streams = list[Node](), dict(graph.types), dict(graph.streams)
    constants, found = dict(graph.constants), dict[str, Inner]()
    for node in graph.nodes:
        around = graph.replace(types=types, constants=constants)
        node, inner = _opened(node, around, wanted, (*path, node), level)
        if inner:
            infer_node(types, site_of(around, node))
            stream = next((s for n in node.inputs if (s := streams.get(n)) is not None and s.axis == 0), None)
            for value, known in inner.items():
                name = visible(value, level)
                found[value] = known if node.op == "If" else _stacked(known, types[name])
                if stream is not None:
                    streams[name] = stream
        nodes.append(node)
        if path:
            found |= {n: Inner(n, node, path, (types[n],)) for n in node.outputs if n in wanted}
    return graph.replace(nodes=tuple(nodes), types=types, streams=streams, constants=constants), found


def _stacked(inner: Inner, type_: TensorType) -> Inner:
    return Inner(inner.value, inner.node, inner.path, (*inner.types, type_))


def _opened(node: Node, around: Graph, wanted: set[str], path: tuple[Node, ...], level: int) -> tuple[Node, dict[str, Inner]]:
    """A node whose bodies give what is wanted, and what that is. What it needs is added to `around`'s types and constants."""
    opened = [_in_graph(body, wanted, path, level + 1) for body in node.bodies]
    inner = {value: known for _, found in opened for value, known in found.items()}
    if node.op == "Loop":
        inner = {v: known for v, known in inner.items() if known.types[-1].nbytes * ITERATIONS <= _BUFFER}
    if not inner:
        return node, {}
    names = {value: value if len(k.path) == level + 1 else visible(value, level + 1) for value, k in inner.items()}
    bodies = [_with_outputs(body, {names[v]: k.types[-1] for v, k in inner.items()}) for body, _ in opened]
    if node.op == "Loop":
        return _with_buffers(node, bodies[0], inner, around, level), inner
    unwanted = [""] * (len(bodies[0].outputs) - len(inner) - len(node.outputs))
    outputs = (*node.outputs, *unwanted, *(visible(value, level) for value in inner))
    return replace(node, outputs=outputs, bodies=tuple(bodies)), inner


def _with_outputs(body: Graph, names: Mapping[str, TensorType]) -> Graph:
    """The body with more outputs; zeros where it does not have them."""
    constants, types = dict(body.constants), dict(body.types)
    for name, type_ in names.items():
        if name not in types:
            types[name], constants[name] = type_, np.zeros(type_.shape, type_.dtype.numpy)
    return body.replace(constants=constants, types=types, outputs=(*body.outputs, *names))


def _with_buffers(node: Node, body: Graph, inner: Mapping[str, Inner], around: Graph, level: int) -> Node:
    """A Loop that carries a counter and a buffer for each of the last outputs of its body."""
    carried, count = int(node.attrs["carried"]), len(inner)  # type: ignore[arg-type]
    types, constants, nodes = dict(body.types), dict(body.constants), list(body.nodes)
    outer_types, outer_constants = around.types, around.constants
    assert isinstance(outer_types, dict)
    assert isinstance(outer_constants, dict)

    def constant(name: str, value: Array, tables: tuple[dict[str, TensorType], dict[str, Array]]) -> str:
        tables[0][name], tables[1][name] = TensorType.of(value), value
        return name

    here, there = (types, constants), (outer_types, outer_constants)
    tag = f"{node.name} inside {level}"
    constant(f"{tag} turn", np.zeros(1, np.int64), there)
    one = constant(f"{tag} one", np.ones(1, np.int64), here)
    turn, following = f"{tag} at", f"{tag} next"
    types[turn] = types[following] = TensorType(DType.I64, (1,))
    nodes.append(Node("Add", following, (turn, one), (following,)))
    given, initial, results = [turn], [f"{tag} turn"], [following]
    for value, name in zip(inner, body.outputs[-count:], strict=True):
        shape = types[name].shape
        buffer, rows = f"{tag} {value}", np.arange(ITERATIONS).reshape(-1, *[1] * len(shape))
        initial.append(constant(f"{buffer} zeros", np.zeros((ITERATIONS, *shape), np.float32), there))
        types[buffer] = types[f"{buffer} out"] = TensorType.of(outer_constants[f"{buffer} zeros"])
        types[f"{buffer} row"] = TensorType(DType.BOOL, rows.shape)
        nodes.append(Node("Equal", f"{buffer} row", (constant(f"{buffer} rows", rows, here), turn), (f"{buffer} row",)))
        nodes.append(Node("Where", f"{buffer} put", (f"{buffer} row", name, buffer), (f"{buffer} out",)))
        given.append(buffer)
        results.append(f"{buffer} out")
    body = body.replace(
        inputs=(*body.inputs[:carried], *given, *body.inputs[carried:]), outputs=(*body.outputs[:-count], *results),
        types=types, constants=constants, nodes=tuple(nodes),
    )  # fmt: skip
    outputs = (*node.outputs, *[""] * (carried - len(node.outputs)), "", *(visible(value, level) for value in inner))
    inputs = (*node.inputs[: 2 + carried], *initial, *node.inputs[2 + carried :])
    attrs = {**node.attrs, "carried": carried + 1 + count}
    return replace(node, inputs=inputs, outputs=outputs, attrs=attrs, bodies=(body,))


# -- the file -------------------------------------------------------------------------------------------------------


def _in_file(graph: onnx.GraphProto, wanted: Mapping[str, Inner], level: int) -> dict[str, tuple[str, int]]:
    """Let the control nodes of a graph give what is wanted of their bodies: value -> (its name in this graph, stackings)."""
    found: dict[str, tuple[str, int]] = {}
    for node in graph.node:
        bodies = [a.g for a in node.attribute if a.name in _BODIES and a.HasField("g")]
        inner = [_in_file(body, wanted, level + 1) for body in bodies]
        everything = {value: entry for part in inner for value, entry in part.items()}
        if everything:
            first = node.op_type == "Loop"  # its body gives the condition first, which the node does not
            node.output.extend([""] * (len(bodies[0].output) - first - len(node.output)))
        for value, (name, stacks) in everything.items():
            for body, part in zip(bodies, inner, strict=True):
                result = _repeated(body, name) if value in part else _zeros(body, wanted[value], stacks)
                body.output.append(onnx.ValueInfoProto(name=result))
            node.output.append(visible(value, level))
            for attribute in node.attribute:
                if attribute.name in ("scan_output_axes", "scan_output_directions"):
                    attribute.ints.append(0)
            found[value] = visible(value, level), stacks + (node.op_type != "If")
        if level:
            found |= {name: (name, 0) for name in node.output if name in wanted}
    return found


def _repeated(body: onnx.GraphProto, name: str) -> str:
    """Another name for a value: onnxruntime gives wrong results where a body has the same output twice."""
    body.node.append(helper.make_node("Identity", [name], [f"{name} again"]))
    return f"{name} again"


def _zeros(body: onnx.GraphProto, inner: Inner, stacks: int) -> str:
    """The name of zeros in a branch that does not have a value."""
    type_ = inner.types[stacks]
    name = f"{inner.value} not here"
    array = numpy_helper.from_array(np.zeros(type_.shape, type_.dtype.numpy))
    body.node.append(helper.make_node("Constant", [], [name], value=array))
    return name
