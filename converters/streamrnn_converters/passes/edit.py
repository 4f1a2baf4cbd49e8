"""What passes share when they take nodes out or rename values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps

from streamrnn.ir.graph import Array, Graph, Node, State
from streamrnn.ir.op import StateSpec
from streamrnn.ir.types import TensorType


def everywhere(rewrite: Callable[[Graph], Graph]) -> Callable[[Graph], Graph]:
    """Decorator: a pass that also runs on the bodies in a graph, and on those in them, innermost first."""

    @wraps(rewrite)
    def run(graph: Graph) -> Graph:
        if any(node.bodies for node in graph.nodes):
            nodes = (replace(n, bodies=tuple(map(run, n.bodies))) if n.bodies else n for n in graph.nodes)
            graph = graph.replace(nodes=tuple(nodes))
        return rewrite(graph)

    return run


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with its values renamed."""
    if names.keys().isdisjoint((*node.inputs, *node.outputs)):
        return node
    return replace(
        node,
        inputs=tuple(names.get(name, name) for name in node.inputs),
        outputs=tuple(names.get(name, name) for name in node.outputs),
    )


class Contents:
    """What constants hold: equal for those of the same element type, shape and values. Each is looked at once."""

    def __init__(self, constants: Mapping[str, Array]) -> None:
        self._constants = constants
        self._known: dict[str, tuple[str, tuple[int, ...], bytes]] = {}

    def of(self, name: str) -> tuple[str, tuple[int, ...], bytes] | None:
        """None for what is no constant."""
        array = self._constants.get(name)
        if array is not None and name not in self._known:
            digest = hashlib.blake2b(array.tobytes(), digest_size=16).digest()
            self._known[name] = (array.dtype.str, array.shape, digest)
        return self._known.get(name)


def live_nodes(nodes: Sequence[Node], results: Iterable[str]) -> list[Node]:
    """The nodes that `results` depend on, in order."""
    needed = set(results)
    found = []
    for node in reversed(nodes):
        if not needed.isdisjoint(name for name in node.outputs if name):
            needed.update(node.inputs)
            found.append(node)
    return found[::-1]


def put(names: list[str], index: int, name: str) -> None:
    """Let `names[index]` be `name`; what lies between is left out."""
    names.extend("" for _ in range(index + 1 - len(names)))
    names[index] = name


def add_state(node: Node, spec: StateSpec, inputs: list[str], outputs: list[str], evidence: str) -> State:
    """The State behind `spec`, and its two names entered into the node's `inputs` and `outputs`."""
    read, write = f"{node.name}.{spec.name}.read", f"{node.name}.{spec.name}.write"
    put(inputs, spec.read, read)
    if spec.write < len(outputs) and outputs[spec.write]:
        write = outputs[spec.write]
    put(outputs, spec.write, write)
    return State(f"{node.name}.{spec.name}", read, write, spec.init, spec.kind, evidence)


def with_nodes(graph: Graph, nodes: Sequence[Node], types: Mapping[str, TensorType], constants: Mapping[str, Array]) -> Graph:
    """The graph with other nodes; of these, and of `types` and `constants`, what the results need."""
    nodes = live_nodes(nodes, graph.results())
    used = {name for node in nodes for name in node.inputs} | set(graph.results())
    known = used | {name for node in nodes for name in node.outputs} | set(graph.inputs) | {s.read for s in graph.states}
    return graph.replace(
        nodes=tuple(nodes),
        constants={name: array for name, array in constants.items() if name in used},
        types={name: type_ for name, type_ in types.items() if name in known},
    )
