"""The invariants of a Graph, checked after every pass and after every load."""

from __future__ import annotations

from streamrnn.errors import GraphError
from streamrnn.ir.graph import Graph, Node, Stage
from streamrnn.ir.op import Site, get_op
from streamrnn.ir.types import TensorType

#: bodies inside bodies; a file may not make the compiler recurse without end
MAX_DEPTH = 16


def site_of(graph: Graph, node: Node) -> Site:
    """What the op of `node` sees of it. Outputs that are not typed yet are None."""
    return Site(
        node,
        tuple(graph.types[name] if name else None for name in node.inputs),
        tuple(graph.const(name) for name in node.inputs),
        tuple(graph.types.get(name) if name else None for name in node.outputs),
    )


def infer_node(graph_types: dict[str, TensorType], site: Site) -> None:
    """Enter the types of a node's outputs into `graph_types`."""
    for name, found in zip(site.node.outputs, get_op(site.node).infer(site), strict=False):
        if name:
            graph_types[name] = found


def verify(graph: Graph, depth: int = 0) -> Graph:
    """Return `graph` as it is; GraphError where it is not in SSA form and topological order, where a type is missing or is
    not what the op infers, or where a state does not fit its values. The same for the bodies in it, `depth` of which it is
    inside of."""
    if depth > MAX_DEPTH:
        raise GraphError(f"bodies are nested more than {MAX_DEPTH} deep")
    known = set(graph.constants)
    for name in (*graph.inputs, *(state.read for state in graph.states)):
        if name in known:
            raise GraphError(f"value '{name}' is defined twice")
        known.add(name)
    for name in known:
        if name not in graph.types:
            raise GraphError(f"value '{name}' has no type")
    for name, array in graph.constants.items():
        if TensorType.of(array) != graph.types[name]:
            raise GraphError(f"constant '{name}' is {TensorType.of(array)}, its type says {graph.types[name]}")
    for node in graph.nodes:
        for body in node.bodies:
            if body.stage is not Stage.BODY or body.states or body.streams or body.meta:
                raise GraphError(f"node '{node.name}' ({node.op}): a body has no stage, states, time or meta of its own")
            verify(body, depth + 1)
        _verify_node(graph, node, known)
    for name in graph.results():
        if name not in known:
            raise GraphError(f"result '{name}' is never computed")
    _verify_states(graph)
    return graph


def _verify_node(graph: Graph, node: Node, known: set[str]) -> None:
    for name in node.inputs:
        if name and name not in known:
            raise GraphError(f"node '{node.name}' ({node.op}) reads '{name}' before it is defined")
    for name in node.outputs:
        if name in known:
            raise GraphError(f"node '{node.name}' ({node.op}) defines '{name}' a second time")
        if name:
            known.add(name)
    site = site_of(graph, node)
    inferred = get_op(node).infer(site)
    if len(node.outputs) > len(inferred):
        raise GraphError(f"node '{node.name}' ({node.op}) has {len(node.outputs)} outputs, the op gives {len(inferred)}")
    for name, found in zip(node.outputs, inferred, strict=False):
        if name and graph.types.get(name) != found:
            raise GraphError(f"node '{node.name}' ({node.op}): '{name}' is {found}, the graph says {graph.types.get(name)}")


def _verify_states(graph: Graph) -> None:
    names = [state.name for state in graph.states]
    if len(set(names)) != len(names):
        raise GraphError("two states share a name")
    for state in graph.states:
        held = TensorType.of(state.init)
        for name in (state.read, state.write):
            if graph.types[name] != held:
                raise GraphError(f"state '{state.name}' holds {held}, but '{name}' is {graph.types[name]}")
