"""Nodes that carry a state whatever the mode get it: each random node the state of its generator."""

from __future__ import annotations

from dataclasses import replace

from streamrnn.ir.graph import Graph, Node, State
from streamrnn.ir.op import get_op
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import site_of, verify
from streamrnn_converters.passes.edit import add_state


def carry(graph: Graph) -> Graph:
    """The graph with the states that `Op.carried` asks for, except where a node has them already."""
    nodes: list[Node] = []
    states: list[State] = []
    for node in graph.nodes:
        site = site_of(graph, node)
        inputs, outputs = list(node.inputs), list(node.outputs)
        missing = [spec for spec in get_op(node).carried(site) if not site.has(spec.read)]
        states += [add_state(node, spec, inputs, outputs, "carry") for spec in missing]
        nodes.append(replace(node, inputs=tuple(inputs), outputs=tuple(outputs)))
    types = dict(graph.types)
    for state in states:
        types[state.read] = types[state.write] = TensorType.of(state.init)
    return verify(graph.replace(nodes=tuple(nodes), types=types, states=(*graph.states, *states)))
