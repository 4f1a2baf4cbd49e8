"""A Loop or Scan whose body is typed, as a node of the new graph: a Scan where its length is known, else a Loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from streamrnn.ir.graph import Node
from streamrnn.ir.types import DType, TensorType
from streamrnn_converters.passes.bodies import Walked, captures, enter, graph_of, open_value, refused
from streamrnn_converters.passes.edit import renamed
from streamrnn_converters.passes.loops import Carried, Counted, LoopBody
from streamrnn_converters.passes.unroll import Scanned

if TYPE_CHECKING:
    from streamrnn_converters.onnx.raw import RawNode
    from streamrnn_converters.passes.fold import Walk


@dataclass
class Recurrence:
    """The typed body of a loop.

    number:  name of the iteration number in it, "" where it has none.
    scanned: (name in the body, what it is a slice of).
    stacked: (value in the body whose slices are stacked, whether that begins with the last one).
    wanted:  carried values (by their names in the body) whose final value is wanted.
    inner:   what the body computes or is handed anew in each iteration.
    """

    walk: Walk
    raw: RawNode
    nodes: list[Node]
    number: str
    carried: list[Carried]
    scanned: list[tuple[str, Scanned]]
    stacked: list[tuple[str, bool]]
    wanted: set[str]
    inner: set[str] = field(default_factory=set, init=False)

    def count(self, condition: str, most: int | None) -> Counted:
        """Count the iterations of a Loop, and make slices and tables of what is known in each of them."""
        walk = self.walk
        body = LoopBody(self.nodes, self.number, self.carried, walk.types, walk.constants)
        closed = body.closed()
        self.inner = {name for node in self.nodes for name in node.outputs} | {c.read for c in self.carried} | {self.number}
        places = {node.inputs[1] for node in self.nodes if self._slices(node, closed)}
        roots = [name for name in (self.number, *(c.read for c in self.carried)) if name in closed]
        counted = body.count(condition, most, dict.fromkeys([*roots, *places]), closed, walk.budget.spend)
        if counted.trips is not None and counted.tables:
            self._read_slices(counted, closed)
            for name in roots:
                table = walk.constant(f"{name}.table", counted.tables[name])
                self.scanned.append((name, Scanned(table, False)))
            self.carried = [c for c in self.carried if c.read not in roots]
        return counted

    def _slices(self, node: Node, closed: set[str]) -> bool:
        """Whether a node picks one slice, known in each iteration, of a value from outside."""
        if node.op != "Gather" or node.inputs[1] not in closed or self.walk.types[node.inputs[1]].size != 1:
            return False
        if node.outputs[0] in closed:
            return False
        return node.inputs[0] not in self.inner

    def _read_slices(self, counted: Counted, closed: set[str]) -> None:
        """Every `x[i]` becomes the slice of a scan input."""
        known: dict[tuple[str, int, str], str] = {}
        aliases: dict[str, str] = {}
        nodes: list[Node] = []
        for node in self.nodes:
            if not self._slices(node, closed):
                nodes.append(renamed(node, aliases))
                continue
            x, place = node.inputs
            axis = int(str(node.attrs.get("axis", 0))) % self.walk.types[x].rank
            if (x, axis, place) not in known:
                known[x, axis, place] = self._slice(x, axis, counted.tables[place].reshape(-1))
            rank = self.walk.types[place].rank
            if rank:
                axes = self.walk.constant("axes", np.arange(axis, axis + rank))
                nodes.append(replace(node, op="Unsqueeze", inputs=(known[x, axis, place], axes), attrs={}))
            else:
                aliases[node.outputs[0]] = known[x, axis, place]
        self.nodes = nodes
        self.carried = [replace(c, write=aliases.get(c.write, c.write)) for c in self.carried]
        self.stacked = [(aliases.get(name, name), reverse) for name, reverse in self.stacked]

    def _slice(self, x: str, axis: int, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
        """The name in the body of the slice of `x` that is at `places[i]` in iteration i."""
        walk, type_ = self.walk, self.walk.types[x]
        size = type_.shape[axis]
        places = np.clip(np.where(places < 0, places + size, places), 0, max(0, size - 1))
        source, whole = x, np.arange(size)
        reverse = len(places) > 1 and np.array_equal(places, whole[::-1])
        if not reverse and not np.array_equal(places, whole):
            source = walk.add("Gather", f"{x}.places", (source, walk.constant("places", places)), {"axis": axis})
        if axis:
            order = (axis, *(d for d in range(type_.rank) if d != axis))
            source = walk.add("Transpose", f"{x}.slices", (source,), {"perm": order})
        name = walk.values.fresh(f"{x}.slice")
        walk.types[name] = type_.with_shape((*type_.shape[:axis], *type_.shape[axis + 1 :]))
        self.scanned.append((name, Scanned(source, reverse)))
        return name

    # -- what lives -------------------------------------------------------------------------------------------------

    def _prune(self, roots: Sequence[str]) -> None:
        """Leave out carried values and nodes that neither `roots` nor wanted results need."""
        carried = {c.read: c.write for c in self.carried}
        makers = {name: node for node in self.nodes for name in node.outputs if name}
        needed: set[str] = set()
        waiting = [*roots, *self.wanted, *(carried[name] for name in self.wanted if name in carried)]
        while waiting:
            name = waiting.pop()
            if not name or name in needed:
                continue
            needed.add(name)
            waiting += [carried[name]] if name in carried else []
            waiting += makers[name].inputs if name in makers else []
        self.nodes = [node for node in self.nodes if not needed.isdisjoint(node.outputs)]
        self.carried = [c for c in self.carried if c.read in needed]
        self.scanned = [(name, source) for name, source in self.scanned if name in needed]

    # -- the nodes --------------------------------------------------------------------------------------------------

    def scan(self, trips: int, finals: dict[str, str], outputs: Sequence[str]) -> None:
        """Enter a Scan. `finals`: names of the wanted final values by the carried ones; `outputs`: of what is stacked."""
        self._prune([name for name, _ in self.stacked])
        if self.number not in [name for name, _ in self.scanned] and self._reads_number():
            self._carry_number()
        inputs = (*(c.read for c in self.carried), *(name for name, _ in self.scanned))
        results = (*(c.write for c in self.carried), *(name for name, _ in self.stacked))
        body = Walked(inputs, results, tuple(self.nodes))
        shared = captures(self.walk, [body])
        attrs: dict[str, int | tuple[int, ...]] = {"states": len(self.carried), "num_scan_inputs": len(self.scanned)}
        if not self.scanned:
            attrs["trips"] = trips
        for what, ways in (("input", [s.reverse for _, s in self.scanned]), ("output", [way for _, way in self.stacked])):
            if any(ways):
                attrs[f"scan_{what}_directions"] = tuple(map(int, ways))
        given = (*(c.initial for c in self.carried), *(source.value for _, source in self.scanned), *shared)
        named = (*(finals.get(c.read, "") for c in self.carried), *outputs)
        enter(self.walk, "Scan", self.raw.name, given, named, (graph_of(self.walk, self.raw.name, body, shared),), **attrs)

    def loop(self, trip: str, start: str, condition: str, finals: dict[str, str]) -> None:
        """Enter a Loop that runs while its condition holds. Raises UnsupportedError."""
        walk = self.walk
        if self.stacked:
            raise open_value(
                walk,
                self.raw,
                "how often it runs is known at run time only, and so is the length of what it stacks, but a compiled step has "
                "fixed shapes",
                [trip, start, condition],
            )
        if not trip and condition in walk.constants:
            raise refused(self.raw, "it never ends: it has no trip count, and its condition is always true; export it again")
        self._prune([condition])
        if self._reads_number():
            self._carry_number()
        body = Walked(tuple(c.read for c in self.carried), (condition, *(c.write for c in self.carried)), tuple(self.nodes))
        shared = captures(walk, [body])
        given = (trip, start, *(c.initial for c in self.carried), *shared)
        named = [finals.get(c.read, "") for c in self.carried]
        graph = graph_of(walk, self.raw.name, body, shared)
        enter(walk, "Loop", self.raw.name, given, named, (graph,), carried=len(self.carried))

    def _reads_number(self) -> bool:
        read = {name for node in self.nodes for name in node.inputs} | {c.write for c in self.carried}
        return bool(self.number) and self.number in read | {name for name, _ in self.stacked}

    def _carry_number(self) -> None:
        """The iteration number as a carried value."""
        walk = self.walk
        following, one = walk.values.fresh(f"{self.number}.next"), walk.constant("one", np.int64(1))
        walk.types[following] = TensorType(DType.I64, ())
        self.nodes.append(Node("Add", walk.node_names.fresh(f"{self.number}.next"), (self.number, one), (following,)))
        self.carried.append(Carried(self.number, walk.constant("zero", np.int64(0)), following))
