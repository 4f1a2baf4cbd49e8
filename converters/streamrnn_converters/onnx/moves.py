"""Where the elements of a value are moved to: ops that move and compute nothing, run on arrays of element numbers."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array, Graph, Node
from streamrnn.ir.op import get_op
from streamrnn.ir.verify import site_of

#: ops that move elements and compute nothing
MOVES = frozenset(
    {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Split", "Gather", "Concat"}
    | {"ScatterND", "ScatterElements"}
)  # fmt: skip
CELLS: Mapping[str, Sequence[tuple[int, int]]] = {
    "LSTM": ((5, 1), (6, 2)),
    "GRU": ((5, 1),),
    "RNN": ((5, 1),),
    "DynamicQuantizeLSTM": ((5, 1), (6, 2)),
}


def recurrences(node: Node) -> Sequence[tuple[int, int]]:
    """(input, output) of a node for each value that goes round in it: what it begins with, and what that is in the end."""
    if node.op == "Scan":
        return [(k, k) for k in range(int(str(node.attrs.get("states", 0))))]
    return CELLS.get(node.op, ())


#: elements of a value that is followed through a graph, and of all that are followed at a time
MAX_FOLLOWED, MAX_FOLLOWED_TOTAL = 1 << 20, 1 << 24


def moved_inputs(node: Node) -> Collection[int]:
    """Which inputs of a moving op its elements come from."""
    return range(len(node.inputs)) if node.op == "Concat" else (0, 2) if node.op.startswith("Scatter") else (0,)


class Moves:
    """The moving ops of a graph. What they move are arrays of element numbers, -1 for elements from elsewhere."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users: dict[str, list[int]] = {}
        self.beginnings: dict[str, list[tuple[Node, int]]] = {}  # value -> where it is what a recurrence begins with
        self.seeded = 0
        for index, node in enumerate(graph.nodes):
            for source, _ in recurrences(node):
                if source < len(node.inputs):
                    self.beginnings.setdefault(node.inputs[source], []).append((node, source))
            if node.op in MOVES:
                for name in {node.inputs[k] for k in moved_inputs(node) if k < len(node.inputs)}:
                    self.users.setdefault(name, []).append(index)

    def takes(self, name: str) -> bool:
        """Whether an input is small enough to be followed together with those that were asked for before."""
        size = self.graph.types[name].size
        if size > MAX_FOLLOWED or self.seeded + size > MAX_FOLLOWED_TOTAL:
            return False
        self.seeded += size
        return True

    def begins(self, moved: Mapping[str, Array]) -> list[tuple[Node, int]]:
        """The recurrences (node, input) that begin with elements that were moved."""
        names = [name for name, numbers in moved.items() if name in self.beginnings and (numbers >= 0).any()]
        return [found for name in names for found in self.beginnings[name]]

    def spread(self, name: str) -> dict[str, Array]:
        """Where the elements of a value are moved to."""
        type_ = self.graph.types[name]
        if type_.size > MAX_FOLLOWED:
            return {}
        return self.follow({name: np.arange(type_.size, dtype=np.int64).reshape(type_.shape)})

    def follow(self, seeds: Mapping[str, Array]) -> dict[str, Array]:
        """Element numbers of all values that are made of `seeds`. Very large values are not followed."""
        known = {name: numbers for name, numbers in seeds.items() if numbers.size <= MAX_FOLLOWED}
        total = sum(numbers.size for numbers in known.values())
        waiting = list({index for name in known for index in self.users.get(name, ())})
        seen = set(waiting)
        heapq.heapify(waiting)
        while waiting:
            node = self.graph.nodes[heapq.heappop(waiting)]
            total += sum(self.graph.types[name].size for name in node.outputs if name)
            if total > 2 * MAX_FOLLOWED_TOTAL:
                break
            found = self._moved(node, known)
            known.update(found)
            for index in (index for name in found for index in self.users.get(name, ())):
                if index not in seen:
                    seen.add(index)
                    heapq.heappush(waiting, index)
        return known

    def _moved(self, node: Node, known: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of a node; none where its indices are computed at run time, or where a value is very large."""
        graph, moved = self.graph, moved_inputs(node)
        if any(graph.types[name].size > MAX_FOLLOWED for name in (*node.inputs, *node.outputs) if name):
            return {}
        arrays = [graph.const(name) for name in node.inputs]
        for k in moved:
            if k < len(arrays) and node.inputs[k]:
                elsewhere = np.full(graph.types[node.inputs[k]].shape, -1, np.int64)
                arrays[k] = known.get(node.inputs[k], elsewhere)
        if any(name and array is None for name, array in zip(node.inputs, arrays, strict=True)):
            return {}
        try:
            values = get_op(node).reference(site_of(graph, node), *arrays)
        except (ShapeError, UnsupportedError, TypeError, ValueError):
            return {}
        return {n: v for n, v in zip(node.outputs, values, strict=False) if n}
