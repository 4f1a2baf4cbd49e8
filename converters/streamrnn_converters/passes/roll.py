"""The Scan of a loop that was found written out, put in the place of its nodes; see reroll.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.ir.graph import Array, Graph, Node, Stage
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import infer_node, site_of, verify
from streamrnn_converters.names import Names
from streamrnn_converters.passes.edit import live_nodes


@dataclass(frozen=True)
class Pick:
    """Frame `at` of axis `track[1]` of value `track[0]`; kept: whether the axis stays, with size 1."""

    track: tuple[str, int]
    at: int
    kept: bool


@dataclass(frozen=True)
class Loop:
    """What was found in `graph`.

    picks:   frames by name, over which it runs; length: how many.
    levels:  of each value that depends on frames, the last of these.
    block:   the nodes of frame 1.
    states:  the values of frame 0 that they read, and the value of frame 1 that is the next of each.
    initial: what each state begins with, a value or an array.
    columns: Concats of one value of each frame, by what they give.
    finals:  values of the last frame that are read from outside, and the value of frame 1 that each stands for.
    rest:    nodes that stay, in order.
    """

    graph: Graph
    picks: Mapping[str, Pick]
    length: int
    levels: Mapping[str, int]
    block: Sequence[Node]
    states: Mapping[str, str]
    initial: Mapping[str, str] | Mapping[str, Array]
    columns: Mapping[str, Node]
    finals: Mapping[str, str]
    rest: Sequence[Node]


def roll(loop: Loop) -> Graph:
    """The graph with a Scan in the place of the loop."""
    return _Roll(loop).graph()


class _Roll:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.types, self.constants = dict(loop.graph.types), dict(loop.graph.constants)
        self.fresh = Names([*loop.graph.types, *(node.name for node in loop.graph.all_nodes())])
        #: nodes in front of the Scan, in its body in front of the block, and behind it
        self.before: list[Node] = []
        self.inner: list[Node] = []
        self.behind: list[Node] = []

    def graph(self) -> Graph:
        """What does not depend on frames, the Scan, what is made of its results, all others."""
        loop = self.loop
        late = [any(name in loop.levels for name in node.outputs) for node in loop.rest]
        early = [node for node, is_late in zip(loop.rest, late, strict=True) if not is_late]
        scan = self._scan()
        nodes = [*early, *self.before, scan, *self.behind, *(n for n, is_late in zip(loop.rest, late, strict=True) if is_late)]
        results = list(loop.graph.results())
        nodes = live_nodes(nodes, results)
        used = {*results, *(name for node in nodes for name in node.inputs)}
        constants = {name: array for name, array in self.constants.items() if name in used}
        known = {*used, *constants, *loop.graph.inputs, *(name for node in nodes for name in node.outputs)}
        known |= {name for state in loop.graph.states for name in (state.read, state.write)}
        types = {name: type_ for name, type_ in self.types.items() if name in known}
        return verify(loop.graph.replace(nodes=tuple(nodes), types=types, constants=constants))

    def _scan(self) -> Node:
        loop = self.loop
        nexts = list(loop.states.values())
        stacked = [node.inputs[1] for node in loop.columns.values()]
        stacked = list(dict.fromkeys([*stacked, *(value for value in loop.finals.values() if value not in nexts)]))
        read = list(dict.fromkeys([*(name for node in loop.block for name in node.inputs), *nexts, *stacked]))
        slices = self._slices([name for name in read if loop.levels.get(name) == 1 and name in loop.picks])
        shared = [name for name in read if name and name not in loop.levels and name not in self.constants]
        outputs = (*nexts, *stacked)
        nodes = live_nodes([*self.inner, *loop.block], outputs)
        known = {
            *loop.states,
            *slices.values(),
            *shared,
            *outputs,
            *(n for node in nodes for n in (*node.inputs, *node.outputs)),
        }
        name = self.fresh.fresh(f"{loop.block[0].name}.scan")
        body = Graph(
            name,
            Stage.BODY,
            (*loop.states, *slices.values(), *shared),
            outputs,
            tuple(nodes),
            {n: self.types[n] for n in known if n},
            {n: self.constants[n] for n in known if n in self.constants},
        )
        rows = {value: self.fresh.fresh(f"{value}.all") for value in stacked}
        ends = {value: old for old, value in loop.finals.items()}
        finals = [ends.pop(new, "") for new in nexts]
        given = (*map(self._begun, loop.states), *(self._in_front(x, axis) for x, axis in slices), *shared)
        attrs = {"states": len(loop.states), "num_scan_inputs": len(slices)}
        scan = self._typed(Node("Scan", name, given, (*finals, *rows.values()), attrs, (body,)))
        for output, node in loop.columns.items():
            self._join(rows[node.inputs[1]], node, output)
        for old, value in loop.finals.items():
            if value in rows and value not in nexts:
                last = self._constant("last", np.array(loop.length - 1))
                self.behind.append(
                    self._typed(Node("Gather", self.fresh.fresh(f"{old}.last"), (rows[value], last), (old,), {"axis": 0}))
                )
        return scan

    def _slices(self, names: Sequence[str]) -> dict[tuple[str, int], str]:
        """The name of the slice of each value that frames are picked from; those of `names` that keep its axis get it back."""
        slices: dict[tuple[str, int], str] = {}
        for name in sorted(names, key=lambda n: self.loop.picks[n].kept):
            pick = self.loop.picks[name]
            x, axis = pick.track
            if pick.track not in slices:
                slices[pick.track] = self.fresh.fresh(f"{x}.frame") if pick.kept else name
                shape = [size for d, size in enumerate(self.types[x].shape) if d != axis]
                self.types[slices[pick.track]] = self.types[x].with_shape(tuple(shape))
            if pick.kept:
                axes = self._constant("axes", np.array([axis]))
                node = Node("Unsqueeze", self.fresh.fresh(f"{name}.axis"), (slices[pick.track], axes), (name,))
                self.inner.append(self._typed(node))
        return slices

    def _in_front(self, x: str, axis: int) -> str:
        """`x` with its axis of frames in front."""
        if axis == 0:
            return x
        order = (axis, *(d for d in range(self.types[x].rank) if d != axis))
        name = self.fresh.fresh(f"{x}.frames")
        self.before.append(self._typed(Node("Transpose", name, (x,), (name,), {"perm": order})))
        return name

    def _begun(self, state: str) -> str:
        initial = self.loop.initial[state]
        return initial if isinstance(initial, str) else self._constant(f"{state}.initial", initial)

    def _join(self, rows: str, node: Node, output: str) -> None:
        """What a Concat gave, of its inputs one behind the other along a new axis 0."""
        rank = self.types[rows].rank
        axis = int(str(node.attrs.get("axis", 0))) % (rank - 1)
        if axis:
            order = (*range(1, axis + 1), 0, *range(axis + 1, rank))
            turned = self.fresh.fresh(f"{rows}.turned")
            self.behind.append(self._typed(Node("Transpose", turned, (rows,), (turned,), {"perm": order})))
            rows = turned
        if self.types[rows].shape[axis + 1] == 1:
            op, constant = "Squeeze", self._constant("axes", np.array([axis + 1]))
        else:
            op, constant = "Reshape", self._constant("shape", np.array(self.types[output].shape))
        self.behind.append(self._typed(Node(op, node.name, (rows, constant), (output,))))

    def _constant(self, base: str, array: Array) -> str:
        name = self.fresh.fresh(base)
        self.constants[name], self.types[name] = array, TensorType.of(array)
        return name

    def _typed(self, node: Node) -> Node:
        infer_node(self.types, site_of(self.loop.graph.replace(types=self.types, constants=self.constants), node))
        return node
