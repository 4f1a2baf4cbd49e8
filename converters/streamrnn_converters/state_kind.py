"""What an explicit state is for, found from what the graph does with it.

    hidden, cell   it enters a recurrent op as its initial h or c ("hidden+cell": both, packed into one); or, in a cell made of
                   smaller ops, it is multiplied by weights on its way to its own next value (hidden), or a sigmoid gates it
                   and nothing else happens to it (cell)
    conv ring      the last frames of a signal, moved along by one step, in front of a convolution
    K/V ring       the same in front of a product of two computed values: keys and values of attention
    ring           the same in front of something else
    overlap        the tail of a frame, which is added to the next one
    accumulator    a running sum, mean or extreme: nothing but arithmetic on the old value
    explicit       none of these

Rings that the compiler added are told apart in the same way; what goes round in a Scan is what its body makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from streamrnn.ir.graph import Array, Graph, Node, State
from streamrnn_converters.onnx.moves import CELLS, MOVES, Moves, moved_inputs

_CONVS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv"})
_PRODUCTS = frozenset({"MatMul", "Gemm", "Einsum", "FusedMatMul", "FusedGemm", "MatMulInteger", "QLinearMatMul"})
_SIGMOIDS = frozenset({"Sigmoid", "HardSigmoid"})
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Sum", "Mean", "Max", "Min", "Where", "Clip"})
#: what a ring may go through before the op that it is there for
_LIGHT = (
    MOVES | _ARITHMETIC | {"Cast", "Expand", "Pad", "Pow", "Sqrt", "Relu", "PRelu", "BatchNormalization", "Window", "Fused"}
)


def with_state_kinds(graph: Graph) -> Graph:
    """The graph with a kind for every explicit state and every ring."""
    moves = Moves(graph)
    return graph.replace(states=tuple(_named(graph, moves, state) for state in graph.states))


def _named(graph: Graph, moves: Moves, state: State) -> State:
    if state.kind == "ring":
        return replace(state, kind=_ring(graph, {state.read}))
    return replace(state, kind=_kind(graph, moves, state)) if state.kind == "explicit" else state


def _kind(graph: Graph, moves: Moves, state: State) -> str:
    """The kind of an explicit state of a typed graph."""
    moved = moves.spread(state.read)
    initial = {_of_input(node, source) for node, source in moves.begins(moved)}
    if initial:
        return _joined(initial)
    kept = moved[state.write].reshape(-1) if state.write in moved else np.zeros(0, np.int64)
    if ((kept >= 0) & (kept != np.arange(kept.size))).any():
        return _ring(graph, moved)
    kinds = set()
    leaves = _leaves(graph, moved)
    for source in _sources(graph, state.write):
        lands = _arrived(moves.spread(source).get(state.write))
        for leaf in leaves:
            elements = moved[leaf].reshape(-1)
            if lands.size and lands[elements[elements >= 0]].any() and (path := _path(graph, leaf, source)):
                kinds.add(_recurrence(graph, path, leaf))
    return _joined(kinds) if kinds else _ring(graph, moved)


def _of_input(node: Node, source: int) -> str:
    """What an input is for that goes round in a recurrent op or a Scan."""
    if node.op != "Scan":
        return "hidden" if (source, 1) in CELLS[node.op] else "cell"
    body = node.bodies[0]
    read, write = body.inputs[source], body.outputs[source]
    type_ = body.types[read]
    return _kind(body, Moves(body), State(read, read, write, np.zeros(type_.shape, type_.dtype.numpy)))


def _joined(kinds: set[str]) -> str:
    order = ("hidden", "cell", "conv ring", "K/V ring", "ring", "overlap", "accumulator", "explicit")
    named = [kind for kind in order if kind in kinds and (kind != "explicit" or len(kinds) == 1)]
    return "+".join(named)


def _arrived(numbers: Array | None) -> Array:
    """At which places of a value an element was moved to."""
    return np.zeros(0, np.bool_) if numbers is None else np.asarray(numbers.reshape(-1) >= 0)


def _leaves(graph: Graph, moved: Mapping[str, Array]) -> list[str]:
    """Values with elements of the state that something is computed from."""
    used = {name for node in graph.nodes if node.op not in MOVES for name in node.inputs}
    return [name for name, numbers in moved.items() if name in used and (numbers >= 0).any()]


def _sources(graph: Graph, write: str) -> list[str]:
    """Computed values whose elements are moved into the new state."""
    producers = graph.producers()
    found, seen, waiting = [], set[str](), [write]
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        if node.op in MOVES:
            waiting += [node.inputs[k] for k in moved_inputs(node)]
        else:
            found.append(name)
    return found


def _path(graph: Graph, leaf: str, source: str) -> list[Node]:
    """The nodes between two values."""
    ahead = {leaf}
    for node in graph.nodes:
        if ahead.intersection(node.inputs):
            ahead.update(name for name in node.outputs if name)
    behind = {source}
    found = []
    for node in reversed(graph.nodes):
        if behind.intersection(node.outputs) and ahead.intersection(node.inputs):
            behind.update(ahead.intersection(node.inputs))
            found.append(node)
    return found[::-1]


def _recurrence(graph: Graph, path: Sequence[Node], leaf: str) -> str:
    """The kind of a state whose next value is computed from it along `path`."""
    ops = {node.op for node in path}
    if ops & (_PRODUCTS | _CONVS):
        return "hidden"
    if not ops <= MOVES | _ARITHMETIC | {"Cast", "Pad", "Expand"}:
        return "explicit"
    if ops & {"Pad", "Concat", "ScatterND", "ScatterElements"} and ops & {"Add", "Sum"}:
        return "overlap"
    on_path = {leaf} | {name for node in path for name in node.outputs}
    producers = graph.producers()
    gates = (name for node in path if node.op == "Mul" for name in node.inputs if name not in on_path)
    if any(_from_sigmoid(producers, gate) for gate in gates):
        return "cell"
    return "accumulator" if ops & _ARITHMETIC else "explicit"


def _from_sigmoid(producers: Mapping[str, Node], name: str) -> bool:
    while (node := producers.get(name)) is not None and node.op in MOVES and node.inputs[0]:
        name = node.inputs[0]
    return node is not None and node.op in _SIGMOIDS


def _ring(graph: Graph, start: Iterable[str]) -> str:
    """The kind of a ring by the first op of weight behind it. `start`: values that hold elements of the state."""
    held = set(start)
    reached = set(held)
    for node in graph.nodes:
        if not reached.intersection(node.inputs):
            continue
        others = [name for name in node.inputs if name and name not in reached and name not in graph.constants]
        if node.op in _CONVS and node.inputs[0] in reached:
            return "conv ring"
        if node.op == "Attention" or (node.op in _PRODUCTS and not any(n in graph.constants for n in node.inputs[:2])):
            return "K/V ring"
        if node.op == "Mul" and others and _is_summed(graph, node.outputs[0]):
            return "K/V ring"
        if node.op in ("Add", "Sum") and others and held.intersection(node.inputs):
            return "overlap"
        if node.op in _LIGHT:
            reached.update(_outputs(node))
            held.update(_outputs(node) if node.op in MOVES else ())
    return "ring"


def _is_summed(graph: Graph, name: str) -> bool:
    """Whether a product of two values is summed: an inner product."""
    return any(node.op == "ReduceSum" and name == node.inputs[0] for node in graph.nodes)


def _outputs(node: Node) -> Iterator[str]:
    """Values that carry what goes in: not the new state of a Window."""
    yield from (name for name in (node.outputs[:1] if node.op == "Window" else node.outputs) if name)
