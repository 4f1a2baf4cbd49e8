"""What can be said about a loop before it runs: how often it does, and which of its values are known in each iteration.

A value is *closed* where it depends on nothing but constants, the iteration number and carried values that are closed
themselves: counters, and the conditions and positions made of them. Closed values are computed here, iteration by iteration,
so that a loop that counts to the end of a clip is one of known length, and `x[i]` a slice of a scan input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamrnn.ir.graph import Array, Node
from streamrnn.ir.op import Site, get_op
from streamrnn.ir.types import TensorType
from streamrnn_converters.passes.edit import live_nodes
from streamrnn_converters.passes.effort import NODE, effort

#: elements of a carried value that may be closed: counters are small, and a table of them has one row for each iteration
MAX_CLOSED = 16


@dataclass(frozen=True)
class Carried:
    """A value that goes from iteration to iteration: its name in the body, where it comes from, its next value in the body."""

    read: str
    initial: str
    write: str


@dataclass(frozen=True)
class Counted:
    """trips: iterations, None where only the run tells.
    tables: value -> its array in each iteration, stacked along axis 0.
    finals: what closed carried values are in the end, by their names in the body.
    """

    trips: int | None
    tables: Mapping[str, Array]
    finals: Mapping[str, Array]


@dataclass
class LoopBody:
    """The typed nodes of a body. `number` is the name of the iteration number in it."""

    nodes: Sequence[Node]
    number: str
    carried: Sequence[Carried]
    types: Mapping[str, TensorType]
    constants: Mapping[str, Array]

    def closed(self) -> set[str]:
        """All closed values of the body, constants aside."""
        made = {name for node in self.nodes for name in node.outputs}
        begun = {c.read for c in self.carried if c.initial in self.constants and self.types[c.read].size <= MAX_CLOSED}
        users: dict[str, list[tuple[str, ...]]] = {}
        for names, results in [(n.inputs, n.outputs) for n in self.nodes] + [((c.write,), (c.read,)) for c in self.carried]:
            for name in names:
                users.setdefault(name, []).append(results)
        known = {self.number, *begun, *made}
        waiting = [name for name in users if name and name not in known and name not in self.constants]
        waiting += [name for node in self.nodes if node.bodies or not get_op(node).deterministic for name in node.outputs]
        opened = {"", *waiting}
        while waiting:
            for results in users.get(waiting.pop(), ()):
                waiting += [name for name in results if name not in opened]
                opened.update(results)
        return known - opened

    def count(
        self, condition: str, most: int | None, wanted: Iterable[str], closed: set[str], spend: Callable[[float], bool]
    ) -> Counted:
        """Run the closed part of the body until its condition is false or `most` iterations are over.

        wanted: closed values to keep a table of.
        spend:  says whether so much work may be done; where it says no, what needs more stays unknown.
        """
        always = condition in self.constants and bool(self.constants[condition].all())
        if (always and most is None) or (condition not in self.constants and condition not in closed):
            return Counted(None, {}, {})
        carried, keep = [c for c in self.carried if c.read in closed], list(wanted)
        if always and keep in ([], [self.number]) and not carried:
            assert most is not None
            return Counted(most, {self.number: np.arange(most)} if keep and spend(most * NODE) else {}, {})
        nodes = live_nodes(self.nodes, [condition, *keep, *(c.write for c in carried)])
        read = {name for node in nodes for name in node.inputs} | {condition, *keep, *(c.write for c in carried)}
        constants = {name: self.constants[name] for name in read if name in self.constants}
        values: dict[str, Array] = {c.read: self.constants[c.initial] for c in carried}
        rows: list[list[Array]] = []
        running = True
        work = sum((effort(site, site.outputs) for site in map(self._site, nodes)), float(NODE))
        if always and not spend((most or 0) * work):
            return Counted(most, {}, {})
        steps = [self._step(node) for node in nodes]
        while running and (most is None or len(rows) < most):
            if not always and not spend(work):
                return Counted(None, {}, {})
            found = {**constants, **values, self.number: np.array(len(rows))}
            for step in steps:
                step(found)
            rows.append([found[name] for name in keep])
            values = {c.read: found[c.write] for c in carried}
            running = bool(found[condition].all())
        return Counted(len(rows), {name: self._table(name, [row[k] for row in rows]) for k, name in enumerate(keep)}, values)

    def _table(self, name: str, rows: Sequence[Array]) -> Array:
        type_ = self.types[name]
        return np.array(rows, type_.dtype.numpy).reshape(len(rows), *type_.shape)

    def _site(self, node: Node) -> Site:
        types, outputs = ([self.types[name] if name else None for name in names] for names in (node.inputs, node.outputs))
        constants = tuple(self.constants.get(name) if name else None for name in node.inputs)
        return Site(node, tuple(types), constants, tuple(outputs))

    def _step(self, node: Node) -> Callable[[dict[str, Array]], None]:
        """What one node does to the values of an iteration."""
        site, op = self._site(node), get_op(node)
        outputs = site.outputs

        def run(values: dict[str, Array]) -> None:
            results = op.reference(site, *(values[name] if name else None for name in node.inputs))
            for name, value, type_ in zip(node.outputs, results, outputs, strict=False):
                if name and type_ is not None:
                    values[name] = np.asarray(value).astype(type_.dtype.numpy).reshape(type_.shape)

        return run
