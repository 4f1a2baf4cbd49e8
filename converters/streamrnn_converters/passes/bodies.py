"""Bodies of control ops on the walk of `fold`: walked like the graph around them, and made into graphs of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamrnn.errors import ModelFileError, OpenValueError, UnsupportedError
from streamrnn.ir.graph import Graph, Node, Stage
from streamrnn.ir.op import find_op
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import MAX_DEPTH
from streamrnn_converters.onnx.raw import RawGraph, RawNode
from streamrnn_converters.passes.edit import live_nodes

if TYPE_CHECKING:
    from streamrnn_converters.passes.fold import Scope, Walk


@dataclass(frozen=True)
class Walked:
    """A body after its walk: its inputs, its outputs and the nodes in between, under names of the new graph."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]


def malformed(raw: RawNode, what: str) -> ModelFileError:
    return ModelFileError(f"node '{raw.name}' ({raw.op}): {what}; the file is altered, export the model again")


def refused(raw: RawNode, reason: str) -> UnsupportedError:
    return UnsupportedError(f"node '{raw.name}' ({raw.op}): {reason}")


def open_value(walk: Walk, raw: RawNode, reason: str, names: Sequence[str]) -> OpenValueError:
    """The error of a node that cannot be compiled before `names` are constants."""
    return OpenValueError.at(f"node '{raw.name}' ({raw.op}): {reason}", 0, walk.open_inputs([name for name in names if name]))


def body_of(raw: RawNode, key: str, inputs: int, outputs: int) -> RawGraph:
    """A body with so many inputs and at least so many outputs. Raises ModelFileError."""
    body = raw.subgraphs.get(key)
    if body is None or len(body.inputs) != inputs or len(body.outputs) < outputs:
        found = "none" if body is None else f"one of {len(body.inputs)} inputs and {len(body.outputs)} outputs"
        raise malformed(raw, f"it needs a body ({key}) of {inputs} inputs and {outputs} outputs and has {found}")
    if not all(part.name for part in (*body.inputs, *body.outputs)):
        raise malformed(raw, f"an input or output of its body ({key}) has no name")
    return body


def walked(
    walk: Walk, raw: RawNode, body: RawGraph, scope: Scope, inputs: Sequence[str | TensorType], wanted: Sequence[str]
) -> Walked:
    """Walk a body. Each of its inputs is a value outside, by name, or new, by type.

    Raises UnsupportedError where bodies are nested too deep.
    """
    if len(walk.around) >= MAX_DEPTH:
        raise refused(raw, f"it is the innermost of more than {MAX_DEPTH} bodies; export a flatter model")
    inner = scope.new_child()
    names = []
    for declared, given in zip(body.inputs, inputs, strict=True):
        if isinstance(given, str):
            inner[declared.name] = given
        else:
            walk.types[walk.define(declared.name, inner)] = given
        names.append(inner[declared.name])
    walk.around.append(walk.nodes)
    walk.nodes = []
    try:
        outputs = inside(walk, raw, body, inner, wanted)
        nodes = live_nodes(walk.nodes, outputs)
    finally:
        walk.nodes = walk.around.pop()
    return Walked(tuple(names), outputs, tuple(nodes))


def inside(walk: Walk, raw: RawNode, body: RawGraph, inner: Scope, wanted: Sequence[str]) -> tuple[str, ...]:
    """Walk the nodes of a body in the present place; the values of `wanted`."""
    walk.graph(body, inner, wanted)
    return tuple(walk.resolve(name, inner, f"a body of node '{raw.name}' ({raw.op})") for name in wanted)


def problems(walk: Walk, found: Walked) -> list[str]:
    """Outputs of a body that cannot be computed."""
    return [name for name in found.outputs if name in walk.failed]


def blame(walk: Walk, raw: RawNode, inputs: tuple[str, ...], scope: Scope, bodies: Sequence[Walked]) -> None:
    """Enter a node that cannot be used because of what its bodies hold."""
    for body in bodies:
        walk.nodes += body.nodes
    walk.refuse(raw, inputs, scope, None, [name for body in bodies for name in problems(walk, body)])


def captures(walk: Walk, bodies: Sequence[Walked]) -> tuple[str, ...]:
    """What bodies read from around them, constants aside, in order of appearance."""
    found: dict[str, None] = {}
    for body in bodies:
        own = {*body.inputs, *(name for node in body.nodes for name in node.outputs)}
        read = [*(name for node in body.nodes for name in node.inputs), *body.outputs]
        found.update(dict.fromkeys(name for name in read if name and name not in own and name not in walk.constants))
    return tuple(found)


def graph_of(walk: Walk, name: str, body: Walked, captured: Sequence[str]) -> Graph:
    """A body as a Graph of its own."""
    inputs = (*body.inputs, *captured)
    known = [*inputs, *body.outputs, *(name for node in body.nodes for name in (*node.inputs, *node.outputs) if name)]
    return Graph(
        name,
        Stage.BODY,
        inputs,
        body.outputs,
        body.nodes,
        {name: walk.types[name] for name in known},
        {name: walk.constants[name] for name in dict.fromkeys(known) if name in walk.constants},
    )


def enter(
    walk: Walk,
    op: str,
    base: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    bodies: tuple[Graph, ...],
    **attrs: int | tuple[int, ...],
) -> None:
    """Enter a control node under the names of its outputs."""
    found = find_op(op)
    assert found is not None
    walk.apply(found, Node(op, walk.node_names.fresh(base), tuple(inputs), tuple(outputs), attrs, bodies))
