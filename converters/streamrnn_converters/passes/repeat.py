"""A Loop or Scan on the walk of `fold`: one walk of its body decides whether it stays a loop or is written out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from streamrnn.errors import OpenValueError, ShapeError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType, TensorType
from streamrnn.plan import MAX_TRIPS
from streamrnn_converters.onnx.raw import RawGraph, reads
from streamrnn_converters.passes.bodies import Walked, blame, open_value, problems, refused, walked
from streamrnn_converters.passes.loops import Carried, Counted
from streamrnn_converters.passes.recurrence import Recurrence
from streamrnn_converters.passes.sequences import Stack, TensorList, enlist, items
from streamrnn_converters.passes.unroll import Form, unroll

if TYPE_CHECKING:
    from streamrnn_converters.passes.fold import Walk

_NUMBER = TensorType(DType.I64, ())


def _unchanged(body: RawGraph, form: Form) -> set[int]:
    """Carried values that the body hands on as they are."""
    makers = {name: node for node in body.nodes for name in node.outputs}
    ends: dict[str, str] = {}  # value -> where its chain of Identities begins

    def end(name: str) -> str:
        chain = []
        while (node := makers.get(name)) is not None and node.op == "Identity" and name not in ends:
            ends[name] = name  # a chain may be a cycle
            chain.append(name)
            name = node.inputs[0]
        ends.update(dict.fromkeys(chain, ends.get(name, name)))
        return ends.get(name, name)

    own = {k: body.inputs[2 * form.counts + k].name for k in range(len(form.initial))}
    return {k for k, name in own.items() if name not in makers and end(body.outputs[form.counts + k].name) == name}


def _appended(body: RawGraph, form: Form, sequences: Sequence[int]) -> dict[int, str]:
    """For each of the carried sequences what the body appends to it in every iteration, where it does nothing else with it,
    else ""."""
    uses = Counter(read for node in body.nodes for read in reads(node))
    uses.update(out.name for out in body.outputs)
    inserts = {node.outputs[0]: node for node in body.nodes if node.op == "SequenceInsert" and not node.problem}
    found = {}
    for k in sequences:
        name, result = body.inputs[2 * form.counts + k].name, body.outputs[form.counts + k].name
        node = inserts.get(result)
        alone = node is not None and node.inputs[0] == name and not any(node.inputs[2:]) and uses[name] == uses[result] == 1
        found[k] = node.inputs[1] if node is not None and alone else ""
    return found


class Repeat:
    """A Loop or Scan on its way into the graph. `trip` and `start` are the trip count and the first condition where they are
    known at run time only."""

    def __init__(self, walk: Walk, form: Form, trip: str = "", start: str = "") -> None:
        self.walk = walk
        self.form = form
        self.raw = form.raw
        self.trip = trip
        self.start = start
        self.unchanged = _unchanged(form.body, form)
        self.appended: dict[int, str] = {}

    def run(self) -> None:
        form = self.form
        if form.trips == 1 and self._unrolled():
            return
        lists = [k for k, name in enumerate(form.initial) if name in self.walk.sequences and k not in self.unchanged]
        if lists:
            self.appended = _appended(form.body, form, lists)
        if not all(self.appended.values()):
            self._check_fixed("it carries a sequence")
            unroll(self.walk, form, strict=False)
            return
        body = walked(self.walk, self.raw, form.body, form.scope, self._inputs(), self._results())
        if problems(self.walk, body):
            if not self._unrolled():
                self._check_fixed(self._open(body))
                given = (self.trip, self.start, *form.initial, *(s.value for s in form.scanned))
                blame(self.walk, self.raw, tuple(name for name in given if name), form.scope, [body])
            return
        reason = self._unfit(body)
        if not reason:
            self._enter(body)
        elif not self._unrolled():
            self._check_fixed(reason)
            raise refused(self.raw, f"{reason}; export the model with a shorter loop, or with one shape")

    def _check_fixed(self, why: str) -> None:
        """OpenValueError where each iteration has to be written out, for a reason, and nobody knows how many there are."""
        if why and (self.trip or self.start):
            reason = f"{why}, so each iteration has to be written out, but how often it runs is known at run time only"
            raise open_value(self.walk, self.raw, reason, [self.trip, self.start])

    def _open(self, body: Walked) -> str:
        """What in a body has to be known at conversion, "" where that is not all that is wrong with it."""
        errors = [self.walk.bad_nodes[node.name] for node in body.nodes if node.name in self.walk.bad_nodes]
        if not errors or not all(isinstance(error, OpenValueError) for error in errors):
            return ""
        return f"in its body, {errors[0].reason}" if isinstance(errors[0], OpenValueError) else ""

    def _unrolled(self) -> bool:
        """Whether writing out every iteration works, and if so, that is done."""
        if self.trip or self.start:
            return False
        try:
            unroll(self.walk, self.form, strict=True)
        except (UnsupportedError, ShapeError):
            return False
        return True

    # -- one walk of the body ---------------------------------------------------------------------------------------

    def _inputs(self) -> list[str | TensorType]:
        walk, form = self.walk, self.form
        found: list[str | TensorType] = []
        if form.counts:
            found += [_NUMBER, walk.constant("condition", np.True_)]
        for k, name in enumerate(form.initial):
            found.append(name if k in self.unchanged or k in self.appended else walk.types[name])
        for scanned in form.scanned:
            type_ = walk.types[scanned.value]
            found.append(type_.with_shape(type_.shape[1:]))
        return found

    def _results(self) -> list[str]:
        """What to walk the body for: the condition, carried values, what is stacked, what is appended."""
        form = self.form
        names = form.results
        carried = [names[k] for k in self._carried()]
        stacked = [name for name in names[len(form.initial) :] if name]
        return [*([form.body.outputs[0].name] if form.counts else []), *carried, *stacked, *self.appended.values()]

    def _carried(self) -> list[int]:
        return [k for k in range(len(self.form.initial)) if k not in self.unchanged and k not in self.appended]

    def _unfit(self, body: Walked) -> str:
        """Why the body cannot be run again and again as it is, "" where it can."""
        walk, form = self.walk, self.form
        if any(name in walk.sequences for name in body.outputs):
            return "it carries or stacks sequences in a way that is not supported"
        if form.counts and (walk.types[body.outputs[0]].size, walk.types[body.outputs[0]].dtype) != (1, DType.BOOL):
            return f"its condition is {walk.types[body.outputs[0]]}, not one bool"
        for k, result in zip(self._carried(), body.outputs[form.counts :], strict=False):
            first = walk.types[form.initial[k]]
            if walk.types[result] != first:
                return (
                    f"what it carries as '{form.body.inputs[2 * form.counts + k].name}' is {first} at first and "
                    f"{walk.types[result]} later, but a compiled step has fixed shapes"
                )
        return ""

    # -- the node ---------------------------------------------------------------------------------------------------

    def _enter(self, body: Walked) -> None:
        walk, form = self.walk, self.form
        counts, indices = form.counts, self._carried()
        reads, writes = [body.inputs[2 * counts + k] for k in indices], body.outputs[counts : counts + len(indices)]
        carried = [Carried(read, form.initial[k], write) for read, k, write in zip(reads, indices, writes, strict=True)]
        asked = [k for k in range(len(form.stacked)) if form.wanted(k)]
        ways = [form.stacked[k][1] for k in asked] + [False] * len(self.appended)
        found = Recurrence(
            walk,
            self.raw,
            list(body.nodes),
            body.inputs[0] if counts else "",
            carried,
            list(zip(body.inputs[2 * counts + len(form.initial) :], form.scanned, strict=True)),
            list(zip(body.outputs[counts + len(indices) :], ways, strict=True)),
            {read for read, k in zip(reads, indices, strict=True) if form.output(k)},
        )
        trips = form.trips
        known: Mapping[str, Array] = {}
        if counts and trips != 0:
            counted = Counted(None, {}, {}) if self.trip or self.start else found.count(body.outputs[0], form.trips)
            trips, known = counted.trips, counted.finals
        if trips is not None and trips > MAX_TRIPS:
            raise refused(
                self.raw, f"it runs {trips} times, and a step has to end; at most {MAX_TRIPS} iterations are compiled"
            )
        if trips == 0:
            self._none(found, indices, asked)
            return
        finals = {}
        for read, k in zip(reads, indices, strict=True):
            if form.output(k) and trips is not None and read in known and read not in {c.read for c in found.carried}:
                form.scope[form.output(k)] = walk.constant(form.output(k), known[read])
                found.wanted.discard(read)
            elif form.output(k):
                finals[read] = walk.define(form.output(k), form.scope)
        if trips is None:
            trip = self.trip or (walk.constant("trips", np.int64(form.trips)) if form.trips is not None else "")
            found.loop(trip, self.start, body.outputs[0], finals)
            outputs: list[str] = []
        else:
            outputs = [self._stack_name(k) for k in asked]
            outputs += [walk.values.fresh(f"{self.raw.name}.list") for _ in self.appended]
            found.scan(trips, finals, outputs)
        self._aliases(trips or 0, asked, outputs)

    def _stack_name(self, k: int) -> str:
        """The name of what the node stacks: the output's own, unless that has its stacking axis elsewhere."""
        if self.form.stacked[k][0]:
            return self.walk.values.fresh(f"{self.raw.name}.stack")
        return self.walk.define(self.form.output(len(self.form.initial) + k), self.form.scope)

    def _none(self, found: Recurrence, indices: list[int], asked: list[int]) -> None:
        """No iteration: what is carried stays what it was, what is stacked is empty."""
        walk, form = self.walk, self.form
        for k in indices:
            form.scope[form.output(k)] = form.initial[k]
        outputs = []
        for name, _ in found.stacked:
            type_ = walk.types[name]
            outputs.append(walk.constant(f"{self.raw.name}.empty", np.zeros((0, *type_.shape), type_.dtype.numpy)))
        for k, name in zip(asked, outputs, strict=False):
            form.scope[form.output(len(form.initial) + k)] = name
        self._aliases(0, asked, outputs)

    def _aliases(self, trips: int, asked: Sequence[int], outputs: Sequence[str]) -> None:
        """Names for what the node itself does not give: what never changes, other axes, lists."""
        walk, form = self.walk, self.form
        for k in self.unchanged:
            form.scope[form.output(k)] = form.initial[k]
        for k, name in zip(asked, outputs, strict=False):
            rank, axis = walk.types[name].rank, form.stacked[k][0]
            if not -rank <= axis < rank:
                raise ShapeError(
                    f"node '{self.raw.name}' (Scan): it cannot stack along axis {axis} what is {walk.types[name]} then"
                )
            if axis:
                order = tuple(range(1, rank))
                perm = (*order[: axis % rank], 0, *order[axis % rank :])
                form.scope[form.output(len(form.initial) + k)] = walk.add("Transpose", self.raw.name, (name,), {"perm": perm})
        for k, name in zip(self.appended, outputs[len(asked) :], strict=False):
            before = items(walk, self.raw, walk.sequences[form.initial[k]])
            stack = TensorList(stack=Stack(name, 0, trips, keep=False)) if trips else TensorList()
            if form.output(k):
                joined = TensorList((*before, *items(walk, self.raw, stack))) if before else stack
                enlist(walk, self.raw, walk.define(form.output(k), form.scope), joined)
        form.scope.pop("", None)
