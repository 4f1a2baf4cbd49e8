"""Nodes that carry a state whatever the mode get it: each random node the state of its generator.

A node in a body gets it through the control nodes around it: a loop carries it from iteration to iteration, a branch hands it
on, and what comes out is the state of the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamrnn.ir.graph import Graph, Node, State
from streamrnn.ir.op import get_op
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import site_of, verify
from streamrnn_converters.passes.edit import add_state


def carry(graph: Graph) -> Graph:
    """The graph with the states that `Op.carried` asks for, except where a node has them already."""
    nodes, states = _carried(graph)
    return verify(graph.replace(nodes=nodes, types=_typed(graph, states), states=(*graph.states, *states)))


def _typed(graph: Graph, states: Sequence[State]) -> dict[str, TensorType]:
    types = dict(graph.types)
    for state in states:
        types[state.read] = types[state.write] = TensorType.of(state.init)
    return types


def _carried(graph: Graph) -> tuple[tuple[Node, ...], list[State]]:
    """The nodes of a graph with what they carry, and the states that this takes."""
    nodes: list[Node] = []
    states: list[State] = []
    for node in graph.nodes:
        site = site_of(graph, node)
        inputs, outputs = list(node.inputs), list(node.outputs)
        missing = [spec for spec in get_op(node).carried(site) if not site.has(spec.read)]
        states += [add_state(node, spec, inputs, outputs, "carry") for spec in missing]
        node = replace(node, inputs=tuple(inputs), outputs=tuple(outputs))
        if node.bodies:
            node, found = _through(node)
            states += found
        nodes.append(node)
    return tuple(nodes), states


def _through(node: Node) -> tuple[Node, list[State]]:
    """A control node that hands on what nodes in its bodies carry, and the states around it."""
    bodies, states = list(node.bodies), list[State]()
    for index, body in enumerate(node.bodies):
        nodes, inner = _carried(body)
        bodies[index] = bodies[index].replace(nodes=nodes, types={**bodies[index].types, **_typed(body, inner)})
        for state in inner:
            name = f"{node.name}.{state.name}"
            outer = replace(state, name=name, read=f"{name}.read", write=f"{name}.write")
            node = _handing(node, bodies, index, state, outer)
            states.append(outer)
    return replace(node, bodies=tuple(bodies)), states


def _handing(node: Node, bodies: list[Graph], index: int, inner: State, outer: State) -> Node:
    """The node with one more value that goes in, through body `index` of `bodies`, which are changed, and out."""
    count, first, extra = len(node.inputs) - 1, 1, 0
    if node.op != "If":
        key = "carried" if node.op == "Loop" else "states"
        count = int(str(node.attrs.get(key, 0)))
        first, extra = (2, 1) if node.op == "Loop" else (0, 0)  # inputs of the node, outputs of the body in front of them
        node = replace(node, attrs={**node.attrs, key: count + 1})
    at = len(bodies[0].outputs) if node.op == "If" else count
    for k, body in enumerate(bodies):
        read, write = (inner.read, inner.write) if k == index else (outer.read, outer.read)
        bodies[k] = body.replace(
            inputs=_inserted(body.inputs, count, read),
            outputs=_inserted(body.outputs, at + extra, write),
            types={**body.types, read: TensorType.of(inner.init), write: TensorType.of(inner.init)},
        )
    return replace(
        node, inputs=_inserted(node.inputs, first + count, outer.read), outputs=_inserted(node.outputs, at, outer.write)
    )


def _inserted(names: Sequence[str], at: int, name: str) -> tuple[str, ...]:
    return (*names[:at], name, *names[at:])
