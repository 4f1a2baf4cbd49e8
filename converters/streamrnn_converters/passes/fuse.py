"""Chains of pointwise ops become one loop: a `Fused` node whose body lists them."""

from __future__ import annotations

from streamrnn.ir.graph import Graph, Node
from streamrnn.ir.verify import site_of, verify
from streamrnn.ops.pointwise import pointwise_lines
from streamrnn_converters.passes.edit import everywhere

#: inputs of one loop; more pointers than this cost registers and gain nothing
MAX_INPUTS = 8
#: operations of one loop; a longer chain becomes several
MAX_LINES = 256


@everywhere
def fuse(graph: Graph) -> Graph:
    """Merge a pointwise node into the pointwise node that alone reads it, as long as both have the same shape."""
    nodes = list(graph.nodes)
    uses: dict[str, int] = {}
    for node in nodes:
        for name in node.inputs:
            uses[name] = uses.get(name, 0) + 1
    results = set(graph.results())
    made: dict[str, Node] = {}
    dropped: set[str] = set()
    for index, node in enumerate(nodes):
        merged = node
        while (source := _mergeable(graph, merged, made, uses, results)) is not None:
            merged = _merge(graph, merged, source)
            dropped.add(source.outputs[0])
        nodes[index] = merged
        if _is_pointwise(graph, merged):
            made[merged.outputs[0]] = merged
    kept = tuple(n for n in nodes if not (len(n.outputs) == 1 and n.outputs[0] in dropped))
    types = {name: t for name, t in graph.types.items() if name not in dropped}
    streams = {name: s for name, s in graph.streams.items() if name not in dropped}
    return verify(graph.replace(nodes=kept, types=types, streams=streams))


def _is_pointwise(graph: Graph, node: Node) -> bool:
    return all(node.inputs) and bool(pointwise_lines(site_of(graph, node)))


def _mergeable(graph: Graph, node: Node, made: dict[str, Node], uses: dict[str, int], results: set[str]) -> Node | None:
    """A producer of one of the node's inputs that can move into the node's loop."""
    if not _is_pointwise(graph, node):
        return None
    for name in node.inputs:
        source = made.get(name)
        if (
            source is not None
            and uses[name] == 1
            and name not in results
            and graph.types[name].shape == graph.types[node.outputs[0]].shape
            and len(set(node.inputs) | set(source.inputs)) - 1 <= MAX_INPUTS
            and len(pointwise_lines(site_of(graph, node))) + len(pointwise_lines(site_of(graph, source))) <= MAX_LINES
        ):
            return source
    return None


def _body(graph: Graph, node: Node) -> list[list[str]]:
    """Lines of operands, each split: function, then register numbers or literals."""
    return [text.split() for text in pointwise_lines(site_of(graph, node))]


def _merge(graph: Graph, node: Node, source: Node) -> Node:
    """One node that computes `source` and then `node`."""
    name = source.outputs[0]
    inputs = tuple(dict.fromkeys([*source.inputs, *(n for n in node.inputs if n != name)]))
    first, second = _body(graph, source), _body(graph, node)
    count = len(inputs)

    def register(operand: str, own: Node, results_at: int) -> str:
        if operand.startswith("="):
            return operand
        k = int(operand)
        if k >= len(own.inputs):
            return str(results_at + k - len(own.inputs))
        if own.inputs[k] == name:
            return str(count + len(first) - 1)
        return str(inputs.index(own.inputs[k]))

    lines = [[line[0], *(register(o, source, count) for o in line[1:])] for line in first]
    lines += [[line[0], *(register(o, node, count + len(first)) for o in line[1:])] for line in second]
    return Node("Fused", node.name, inputs, node.outputs, {"body": tuple(" ".join(line) for line in lines)})
