"""Control flow: nodes that run bodies. A body sees what it is handed and nothing else: its captures are inputs of the node.

    If    condition, captures..                       bodies then(captures..) and else(captures..) -> outputs..
    Loop  trip count, condition, carried.., captures..   body(carried.., captures..) -> condition, carried..
    Scan  states.., scan inputs.., captures..         body(states.., slices.., captures..) -> states.., slices..

If    runs one branch; both give the same types.
Loop  runs its body while the condition holds and the trip count is not reached; either may be omitted. Attribute carried
      counts the carried values. A Loop that makes no scan outputs has no iteration number here: what needs one carries it.
Scan  runs its body once for each slice of its scan inputs along axis 0, and stacks the slices that it gives along axis 0.
      Attributes states and num_scan_inputs count, scan_input_directions and scan_output_directions are 1 where a scan runs
      from the last slice; trips is the number of iterations where there is no scan input.

The importer brings ONNX's forms to these: other axes are transposed, a Loop of known length is a Scan. A value keeps its shape
from iteration to iteration. In frame mode a Scan along time is a recurrence: one step runs its body once for each frame, and
its states are states of the stream. An If whose condition stands still, and a Scan along another axis, stream where their
bodies compute each frame from that frame alone.
Source  onnx.ai/onnx/operators, pages of If, Loop, Scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import numpy as np

from streamrnn.errors import GraphError, NotStreamableError
from streamrnn.ir.evaluate import evaluate
from streamrnn.ir.graph import Array, Graph
from streamrnn.ir.lowering import Lowering, Moving, Place
from streamrnn.ir.op import Op, Site, StateSpec, Streamed, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.ops._bodies import streamed_body, unused_name
from streamrnn.ops._time import first_frame, joined, one_frame


def bodies(site: Site, count: int) -> tuple[Graph, ...]:
    """The bodies of a node. Raises GraphError where there are not `count`."""
    found = site.node.bodies
    if len(found) != count:
        raise GraphError(f"node '{site.node.name}' ({site.node.op}) has {len(found)} bodies, the op runs {count}")
    return found


def _check(site: Site, what: str, graph: Graph, names: Sequence[str], wanted: Sequence[TensorType]) -> None:
    """ShapeError where the values `names` of a body are not of the types `wanted`."""
    found = [graph.types[name] for name in names]
    if len(found) != len(wanted):
        raise site.shape_error(f"its body has {len(found)} {what}, the node has {len(wanted)}")
    for name, has, wants in zip(names, found, wanted, strict=True):
        if has != wants:
            raise site.shape_error(f"in its body '{name}' is {has}, around it {wants}")


def _given(site: Site, first: int) -> list[TensorType]:
    return [site.type(k) for k in range(first, len(site.node.inputs))]


def _check_scalar(site: Site, index: int, dtype: DType, what: str) -> None:
    if site.has(index) and (site.type(index).size != 1 or site.type(index).dtype is not dtype):
        raise site.shape_error(f"its {what} is {site.type(index)}, not one {dtype.value}")


def _agreed(site: Site, index: int, then: StreamType | None, other: StreamType | None) -> StreamType | None:
    """How time runs through an output that two branches give; a constant goes with anything."""
    bodies_of = zip((then, other), site.node.bodies, strict=True)
    live = [stream for stream, body in bodies_of if body.outputs[index] not in body.constants]
    if len(set(live)) > 1:
        raise site.not_streamable(f"its branches give output {index} with time on different axes, or one without time")
    return live[0] if live else None


def _cut_constants(site: Site, body: Graph, streams: Sequence[StreamType | None]) -> Graph:
    """A branch with one frame of each constant that it gives where the other branch gives a stream."""
    constants, outputs = dict(body.constants), list(body.outputs)
    for k, (name, stream) in enumerate(zip(body.outputs, streams, strict=True)):
        if name in body.constants and stream is not None and stream.axis is not None:
            outputs[k] = unused_name(f"{name}.frame{k}", body)
            constants[outputs[k]] = first_frame(site, f"'{name}' in a branch", body.constants[name], stream.axis)
    return body.replace(constants=constants, outputs=tuple(outputs))


@register
class If(Op):
    """See the module's text."""

    name = "If"

    def handed(self, site: Site) -> tuple[TensorType, ...]:
        return tuple(_given(site, 1))

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        site.type(0)
        _check_scalar(site, 0, DType.BOOL, "condition")
        then, other = bodies(site, 2)
        for body in (then, other):
            _check(site, "inputs", body, body.inputs, self.handed(site))
        types = tuple(then.types[name] for name in then.outputs)
        _check(site, "outputs", other, other.outputs, types)
        return types

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        condition, *captures = (np.asarray(value) for value in inputs)
        return tuple(evaluate(site.node.bodies[0 if condition.any() else 1], captures))

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        """Branches stream where each computes a frame from that frame alone and what chooses stands still."""
        if streams[0] is not None:
            raise site.not_streamable(
                "its condition is computed from the stream, and each new frame may choose again for all frames before it"
            )
        clock = joined(site, streams, None)
        inside = [_moved(stream, clock, 0) for stream in streams[1:]]
        found = [streamed_body(site, body, inside) for body in bodies(site, 2)]
        results = [_agreed(site, k, *pair) for k, pair in enumerate(zip(*(ways for _, ways in found), strict=True))]
        return Streamed(tuple(results), bodies=tuple(_cut_constants(site, body, results) for body, _ in found))

    def lower(self, site: Site, low: Lowering) -> None:
        condition, *captures = (low.input(k) for k in range(len(site.node.inputs)))
        outputs = [low.output(k) for k in range(len(site.node.bodies[0].outputs))]
        for body, value in ((0, True), (1, False)):
            with low.when(condition, value):
                low.inline(body, captures, outputs)


@register
class Loop(Op):
    """See the module's text."""

    name = "Loop"

    def handed(self, site: Site) -> tuple[TensorType, ...]:
        return tuple(_given(site, 2))

    def _carried(self, site: Site) -> int:
        carried = site.attr_int("carried", 0)
        if not 0 <= carried <= len(site.node.inputs) - 2:
            raise site.shape_error(f"attribute carried is {carried}, with {len(site.node.inputs)} inputs")
        return carried

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        carried = self._carried(site)
        _check_scalar(site, 0, DType.I64, "trip count")
        _check_scalar(site, 1, DType.BOOL, "condition")
        (body,) = bodies(site, 1)
        given = self.handed(site)
        _check(site, "inputs", body, body.inputs, given)
        _check(site, "outputs behind the condition", body, body.outputs[1:], given[:carried])
        running = body.types[body.outputs[0]] if body.outputs else None
        if running is None or running.size != 1 or running.dtype is not DType.BOOL:
            raise site.shape_error(f"the condition that its body gives is {running}, not one bool")
        return tuple(given[:carried])

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        carried = self._carried(site)
        trip, condition, *rest = inputs
        values, captures = [np.asarray(v) for v in rest[:carried]], [np.asarray(v) for v in rest[carried:]]
        running = condition is None or bool(condition.any())
        for _ in repeat(None) if trip is None else range(int(trip.item())):
            if not running:
                break
            held, *values = evaluate(site.node.bodies[0], [*values, *captures])
            running = bool(held.any())
        return tuple(values)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        raise site.not_streamable("it loops until a condition that it computes, which may need the whole clip")

    def lower(self, site: Site, low: Lowering) -> None:
        carried = self._carried(site)
        values = [low.update(k, 2 + k) for k in range(carried)]
        captures = [low.input(k) for k in range(2 + carried, len(site.node.inputs))]
        running = low.scratch(DType.BOOL, 1)
        low.copy(low.input(1) if site.has(1) else low.weight(np.ones(1, np.bool_)), running, 1)
        with low.repeat(None, count=low.input(0) if site.has(0) else None, condition=running):
            low.inline(0, [*values, *captures], [running, *values])


@register
class Scan(Op):
    """See the module's text."""

    name = "Scan"

    def _counts(self, site: Site) -> tuple[int, int]:
        """(states, scan inputs)."""
        states, scans = site.attr_int("states", 0), site.attr_int("num_scan_inputs", 0)
        if min(states, scans) < 0 or states + scans > len(site.node.inputs):
            raise site.shape_error(f"{states} states and {scans} scan inputs, with {len(site.node.inputs)} inputs")
        return states, scans

    def handed(self, site: Site) -> tuple[TensorType, ...]:
        states, scans = self._counts(site)
        given = _given(site, 0)
        slices = (t.with_shape(t.shape[1:]) for t in given[states : states + scans])
        return (*given[:states], *slices, *given[states + scans :])

    def trips(self, site: Site) -> int:
        """Number of iterations."""
        states, scans = self._counts(site)
        if not scans:
            trips = site.attr_int("trips", -1)
            if trips < 0:
                raise site.shape_error("without a scan input nothing says how often it runs")
            return trips
        lengths = {site.type(k).shape[:1] for k in range(states, states + scans)}
        if len(lengths) != 1 or () in lengths:
            listed = ", ".join(str(site.type(k)) for k in range(states, states + scans))
            raise site.shape_error(f"its scan inputs are of different lengths along axis 0: {listed}")
        return int(lengths.pop()[0])

    def reverse(self, site: Site, what: str, index: int) -> bool:
        """Whether scan input or output `index` runs from the last slice."""
        directions = site.attr_ints(f"scan_{what}_directions", ())
        return index < len(directions) and directions[index] == 1

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        states, _ = self._counts(site)
        trips = self.trips(site)
        (body,) = bodies(site, 1)
        given = _given(site, 0)
        _check(site, "inputs", body, body.inputs, self.handed(site))
        _check(site, "states", body, body.outputs[:states], given[:states])
        stacked = (body.types[name] for name in body.outputs[states:])
        return (*given[:states], *(t.with_shape((trips, *t.shape)) for t in stacked))

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        (states, scans), trips, body = self._counts(site), self.trips(site), site.node.bodies[0]
        given = [np.asarray(value) for value in inputs]
        values, captures = given[:states], given[states + scans :]
        read = [x[::-1] if self.reverse(site, "input", k) else x for k, x in enumerate(given[states : states + scans])]
        rows: list[list[Array]] = []
        for i in range(trips):
            found = evaluate(body, [*values, *(x[i] for x in read), *captures])
            values = found[:states]
            rows.append(found[states:])
        stacked = []
        for k, name in enumerate(body.outputs[states:]):
            slices = [row[k] for row in rows][:: -1 if self.reverse(site, "output", k) else 1]
            empty = np.zeros((0, *body.types[name].shape), body.types[name].dtype.numpy)
            stacked.append(np.stack(slices) if slices else empty)
        return (*values, *stacked)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        states, scans = self._counts(site)
        along = any(s is not None and s.axis == 0 for s in streams[states : states + scans])
        return self._along_time(site, streams) if along else self._inside_frame(site, streams)

    def _inside_frame(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        """Along another axis, or over nothing: each frame has iterations of its own, which begin anew."""
        states, scans = self._counts(site)
        clock = joined(site, streams, None)
        given = [_moved(s, clock, -(states <= k < states + scans)) for k, s in enumerate(streams)]
        try:
            body, found = streamed_body(site, site.node.bodies[0], given)
        except NotStreamableError:  # something in the body meets a carried value with the frames of the clip in it
            found = []
        if found[:states] != given[:states]:
            given = [s or self._begun(site, k, streams, clock) if k < states else s for k, s in enumerate(given)]
            body, found = streamed_body(site, site.node.bodies[0], given)
        if found[:states] != given[:states]:
            raise site.not_streamable("what it carries has time on another axis, or none, after an iteration")
        consts: dict[int, Array] = {}
        for k, stream in enumerate(given[:states]):
            cut = one_frame(site, k, stream.axis) if streams[k] is None and stream and stream.axis is not None else None
            consts.update({} if cut is None else {k: cut})
        stacked = (_moved(stream, clock, 1) for stream in found[states:])
        return Streamed((*found[:states], *stacked), consts=consts, bodies=(body,))

    def _begun(self, site: Site, index: int, streams: Sequence[StreamType | None], clock: StreamType) -> StreamType | None:
        """How time runs through a state that begins without a stream: along the axis that is as long as the clip."""
        frames = {site.type(k).shape[s.axis] for k, s in enumerate(streams) if s is not None and s.axis is not None}
        axis = next((d for d, size in enumerate(site.type(index).shape) if size in frames), None)
        return None if axis is None else StreamType(axis, clock.delay, clock.stride)

    def _along_time(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        """A recurrence: its states are states of the stream."""
        states, scans = self._counts(site)
        consts: dict[int, Array] = {}
        for k, stream in enumerate(streams):
            scanned = states <= k < states + scans
            if stream is not None and not (scanned and stream.axis == 0):
                raise site.not_streamable(
                    "it scans along time and along another axis at once"
                    if scanned
                    else "its body needs more of a stream than one frame"
                )
            if scanned and self.reverse(site, "input", k - states):
                raise site.not_streamable("it runs from the last frame of the clip")
            cut = one_frame(site, k, 0) if scanned and stream is None else None
            if cut is not None:
                consts[k] = cut
        if any(self.reverse(site, "output", k) for k in range(len(site.node.bodies[0].outputs) - states)):
            raise site.not_streamable("its result begins with the last frame of the clip")
        y = joined(site, streams, 0)
        latest = StreamType(None, y.delay, y.stride)
        outputs = len(site.node.bodies[0].outputs) - states
        initial = [site.const(k) for k in range(states)]
        added = tuple(StateSpec(f"state{k}", k, k, value, "explicit") for k, value in enumerate(initial) if value is not None)
        kept = tuple(k for k, value in enumerate(initial) if value is None)
        given = (*(latest for _ in initial), *(y for _ in range(outputs)))
        return Streamed(given, consts=consts, states=added, kept=kept)

    def lower(self, site: Site, low: Lowering) -> None:
        (states, scans), trips, body = self._counts(site), self.trips(site), site.node.bodies[0]
        values = [low.update(k, k) for k in range(states)]
        read = [low.input(k) for k in range(states, states + scans)]
        captures = [low.input(k) for k in range(states + scans, len(site.node.inputs))]
        stacked = list(self._outputs(low, body, states))
        with low.repeat(trips, low.skip(trips)) as moving:
            slices = [
                _slice(moving, place, site.type(states + k).size // max(1, trips), trips, self.reverse(site, "input", k))
                for k, place in enumerate(read)
            ]
            rows = [
                _slice(moving, place, size, trips, self.reverse(site, "output", k)) for k, (place, size) in enumerate(stacked)
            ]
            low.inline(0, [*values, *slices, *captures], [*values, *rows])

    def _outputs(self, low: Lowering, body: Graph, states: int) -> Iterator[tuple[Place, int]]:
        """Where each scan output lies and how many elements apart its slices are; what nobody wants has one slice."""
        for k, name in enumerate(body.outputs[states:], states):
            type_ = body.types[name]
            yield (low.output(k), type_.size) if low.wanted(k) else (low.scratch(type_.dtype, type_.size), 0)


def _moved(stream: StreamType | None, clock: StreamType, by: int) -> StreamType | None:
    """The stream on the clock of a body, with its time axis moved."""
    if stream is None:
        return None
    return StreamType(None if stream.axis is None else stream.axis + by, clock.delay, clock.stride)


def _slice(moving: Moving, place: Place, size: int, trips: int, reverse: bool) -> Place:
    """The slice of one iteration, `size` elements from the next."""
    return moving(place.at((trips - 1) * size), -size) if reverse else moving(place, size)
