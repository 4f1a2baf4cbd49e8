"""Loops in the form that both Loop and Scan have, and what they are where every iteration is written out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamrnn.errors import ShapeError
from streamrnn_converters.onnx.raw import RawGraph, RawNode
from streamrnn_converters.passes.bodies import inside, open_value, refused

if TYPE_CHECKING:
    from streamrnn_converters.passes.fold import Scope, Walk

#: nodes of a loop that is unrolled
MAX_UNROLLED = 4096
#: inputs and outputs of a node that counts as one; a larger node counts as several
VALUES_OF_A_NODE = 16
#: nodes walked for loops that are unrolled, whether that succeeds or not, in a model
MAX_UNROLLED_TOTAL = 2 * MAX_UNROLLED


@dataclass(frozen=True)
class Scanned:
    """A value whose slices along axis 0 are read or made, from the last one where `reverse`."""

    value: str
    reverse: bool


@dataclass(frozen=True)
class Form:
    """A Loop or Scan.

    counts:  whether its body has the iteration number and the condition in front of the rest (a Loop).
    initial: the carried values before the first iteration.
    scanned: what the body gets slices of.
    trips:   the most iterations there may be; None where the file names no bound.
    stacked: for each stacked output its axis and whether it begins with the last slice.
    """

    raw: RawNode
    body: RawGraph
    scope: Scope
    counts: bool
    initial: tuple[str, ...]
    scanned: tuple[Scanned, ...]
    trips: int | None
    stacked: tuple[tuple[int, bool], ...]

    @property
    def results(self) -> list[str]:
        """The names in the body of what the carried values become and of the slices of stacked outputs, in order; "" where
        nobody wants an output."""
        names = [out.name for out in self.body.outputs[self.counts :]]
        return [*names[: len(self.initial)], *(n if self.wanted(k) else "" for k, n in enumerate(names[len(self.initial) :]))]

    def wanted(self, stacked: int) -> bool:
        """Whether anything reads stacked output `stacked`."""
        return bool(self.output(len(self.initial) + stacked))

    def output(self, index: int) -> str:
        """The file's name of output `index`, "" where it is not wanted."""
        return self.raw.outputs[index] if index < len(self.raw.outputs) else ""


class TooLongError(Exception):
    """A loop that is unrolled has too many nodes."""


def weight(raw: RawNode) -> int:
    """As how many nodes a node counts."""
    return 1 + (len(raw.inputs) + len(raw.outputs)) // VALUES_OF_A_NODE


def count_down(walk: Walk, nodes: int) -> None:
    """So many more nodes are walked."""
    if walk.left is None:
        return
    walk.unrolled += nodes
    walk.left -= nodes
    if walk.left < 0 or walk.unrolled > MAX_UNROLLED_TOTAL:
        raise TooLongError


@contextmanager
def _trial(walk: Walk) -> Iterator[None]:
    """What was walked inside is undone where an error leaves it. A walk only ever adds: under names that nothing else has, and
    at the end."""
    tables: list[dict[str, Any]] = [walk.types, walk.constants, walk.bad_values, walk.bad_nodes, walk.sequences]
    sizes = [len(table) for table in tables]
    count, folded, left = len(walk.nodes), walk.budget.nbytes, walk.left
    walk.left = start = MAX_UNROLLED if left is None else min(left, MAX_UNROLLED)
    try:
        yield
    except Exception:
        for table, size in zip(tables, sizes, strict=True):
            while len(table) > size:
                table.popitem()
        del walk.nodes[count:]
        walk.budget.nbytes = folded
        raise
    finally:
        walk.left = None if left is None else left - (start - walk.left)


def unroll(walk: Walk, form: Form, *, strict: bool) -> None:
    """Write out every iteration in place of the loop.

    strict: refuse it also where a body holds what is not supported; else that shows itself at the nodes in question.

    Raises UnsupportedError with the reason, and nothing is left of the attempt.
    """
    try:
        with _trial(walk):
            results = _written_out(walk, form)
            if strict and not walk.failed.isdisjoint(results.values()):
                raise refused(form.raw, "its body holds what is not supported")
    except TooLongError:
        if walk.left is not None:  # the loop around is unrolled as well, and this one has used up what it may
            raise
        raise refused(
            form.raw, f"unrolled, it has more than {MAX_UNROLLED} nodes; export the model with a shorter loop"
        ) from None
    form.scope.update(results)


def _written_out(walk: Walk, form: Form) -> dict[str, str]:
    """The values of the loop's outputs, by their names in the file."""
    carried = list(form.initial)
    rows: list[list[str]] = [[] for _ in form.stacked]
    values = len(form.body.inputs) + len(form.body.outputs)
    trip = 0
    running = True
    while running and (form.trips is None or trip < form.trips):
        before = walk.unrolled
        inner = form.scope.new_child()
        for declared, name in zip(form.body.inputs, _arguments(walk, form, trip, carried), strict=True):
            inner[declared.name] = name
        wanted = [name for name in form.results if name]
        condition = [form.body.outputs[0].name] if form.counts else []
        found = dict(zip([*condition, *wanted], inside(walk, form.raw, form.body, inner, [*condition, *wanted]), strict=True))
        running = not form.counts or _holds(walk, form, found[form.body.outputs[0].name])
        carried = [found[name] for name in form.results[: len(carried)]]
        for k, name in enumerate(form.results[len(carried) :]):
            rows[k].append(found[name] if name else "")
        # an iteration takes its time also where it has no nodes
        count_down(walk, max(values // VALUES_OF_A_NODE, walk.unrolled == before))
        trip += 1
    results = {form.output(k): name for k, name in enumerate(carried)}
    for k, (axis, reverse) in enumerate(form.stacked):
        if form.wanted(k):
            results[form.output(len(carried) + k)] = _stack(walk, form, rows[k][:: -1 if reverse else 1], axis)
    results.pop("", None)
    return results


def _arguments(walk: Walk, form: Form, trip: int, carried: Sequence[str]) -> list[str]:
    """The values of the body's inputs in one iteration."""
    if form.counts:
        return [walk.constant("number", np.int64(trip)), walk.constant("condition", np.True_), *carried]
    slices = []
    for k, scanned in enumerate(form.scanned):
        at = (form.trips or 0) - 1 - trip if scanned.reverse else trip
        slices.append(walk.add("Gather", f"{form.raw.name}.slice{k}", (scanned.value, walk.constant("number", np.int64(at)))))
    return [*carried, *slices]


def _holds(walk: Walk, form: Form, condition: str) -> bool:
    value = walk.constants.get(condition)
    if condition in walk.failed or value is None:
        raise open_value(walk, form.raw, "how often it runs is known at run time only", [condition])
    return bool(value.all())


def _stack(walk: Walk, form: Form, rows: Sequence[str], axis: int) -> str:
    if not rows:
        raise refused(form.raw, "it does not run, so nothing says what its outputs are")
    if any(name in walk.sequences for name in rows):
        raise refused(form.raw, "it stacks sequences")
    if walk.failed.isdisjoint(rows) and len({walk.types[name] for name in rows}) > 1:
        raise ShapeError(f"node '{form.raw.name}' ({form.raw.op}): what it stacks has another shape in each iteration")
    where = walk.constant("axis", np.array([axis]))
    return walk.add(
        "Concat", form.raw.name, [walk.add("Unsqueeze", f"{name}.row", (name, where)) for name in rows], {"axis": axis}
    )
