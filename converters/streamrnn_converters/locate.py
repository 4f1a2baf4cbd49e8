"""Where a failure comes from: the first node whose value leaves the tolerance.

The file and the step graph are both changed so that every value whose name they share becomes an output. Names survive the
import, but for nodes that were folded or fused into others. So do values in the bodies of If, Loop and Scan, see `inside`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx

from streamrnn import Engine, Stream
from streamrnn.errors import StreamRNNError
from streamrnn.ir.graph import Array, Graph, Node
from streamrnn.plan import Port
from streamrnn_converters.compare import difference, peak, tolerance
from streamrnn_converters.inside import Inner, expose, visible
from streamrnn_converters.laws import CallLaw, ChunkLaw, ClipLaw, Law
from streamrnn_converters.oracle import Calls, ClipOracle, StepOracle, frames_first
from streamrnn_converters.report import Culprit
from streamrnn_converters.signals import Signal
from streamrnn_converters.surgery import computed_values, inlined, read_model, with_outputs

#: bytes of intermediate values held at a time
_HELD = 256 << 20


def locate(law: Law, signal: Signal, step: int) -> Culprit:
    """The culprit of a failure of `signal` at `step`, its first bad step."""
    graph = law.engine.graph
    model = inlined(read_model(law.session.model), {name for node in graph.nodes for name in node.outputs if name})
    with suppress(StreamRNNError):  # values that have another shape in each iteration, for instance, cannot be stacked
        opened, exposed, inner = expose(model, graph)
        if inner:
            return _first(law, signal, step, opened, exposed, inner)
    return _first(law, signal, step, model, graph, {})


def _first(law: Law, signal: Signal, step: int, model: onnx.ModelProto, graph: Graph, inner: Mapping[str, Inner]) -> Culprit:
    """The first of the values that file and step graph share. `inner`: those of bodies, which come before their node's own."""
    start = law.start(step)
    in_file = set(computed_values(model))
    shared = [
        (node, name)
        for node in graph.nodes
        for name in sorted(node.outputs, key=lambda name: name not in inner)
        if name in in_file and name not in graph.constants
    ]
    if not shared:
        return _nameless(signal, step, "no value inside the file has kept its name in the step graph")
    diffs: dict[str, float] = {}
    steps = 1 if isinstance(law, CallLaw) else step + 1 - start
    for group in _groups(graph, shared, steps):
        names = [name for _, name in group]
        session = law.session.on(with_outputs(model, names))
        pairs = _values(law, graph, signal, start, step, session, names, inner)
        for node, name in group:
            if name not in pairs:
                continue
            expected, found = pairs[name]
            apart = difference(expected, found)
            diffs[name] = float(apart.max(initial=0.0))
            limit = tolerance("output", peak(expected), expected.dtype)
            if diffs[name] > limit and name in inner:
                return _inside(signal, step, {n: pairs[n] for k, n in group if k is node and n in inner and n in pairs}, inner)
            if diffs[name] > limit:
                return _culprit(signal, step, node, name, (expected, found, apart), limit, diffs)
    return _nameless(
        signal,
        step,
        f"each of the {len(diffs)} values inside agrees once all of them are kept, so no kernel is to blame: look at what the "
        f"plan lets share memory (streamrnn inspect --plan), and at what the fusion made",
    )


def _groups(graph: Graph, shared: list[tuple[Node, str]], steps: int) -> Iterator[list[tuple[Node, str]]]:
    group: list[tuple[Node, str]] = []
    held = 0
    for node, name in shared:
        size = graph.types[name].nbytes * steps
        if group and held + size > _HELD:
            yield group
            group, held = [], 0
        group.append((node, name))
        held += size
    yield group


def _values(
    law: Law, graph: Graph, signal: Signal, start: int, step: int, session: Calls, names: list[str], inner: Mapping[str, Inner]
) -> dict[str, tuple[Array, Array]]:
    """(oracle, engine) of each value that has a counterpart, at `step` or, with a time axis, at all steps up to it."""
    probe = Engine(graph.replace(outputs=tuple(names)))
    ports = {port.name: port for port in probe.plan.outputs}
    inputs = signal.block(start, step + 1)
    if isinstance(law, CallLaw):
        oracle = StepOracle(law.session, law.view)
        for t in range(step):
            oracle.step({name: a[t] for name, a in inputs.items()})
        expected = session.run(oracle.feeds({name: a[step] for name, a in inputs.items()}))
        found = _run(probe, names, inputs, last=True)
        matched = (
            (n, _stacked(ports[n], expected[n], found[n], inner[n].stacks))
            if n in inner
            else (n, _matched(ports[n], expected[n], found[n], late=False, complete=True))
            for n in names
        )
        return {name: pair for name, pair in matched if pair is not None}
    frames = (step + 1 - start) * law.engine.frames
    if isinstance(law, ClipLaw):
        inputs, frames = law.clip(signal, start, step + 1)
    expected = ClipOracle(session, law.view).run(inputs, frames)
    found = _run(probe, names, {name: a[: step + 1 - start] for name, a in inputs.items()}, last=False)
    late = isinstance(law, ChunkLaw)
    complete = frames == (step + 1 - start) * law.engine.frames
    matched = ((name, _matched(ports[name], expected[name], found[name], late, complete)) for name in names)
    return {name: pair for name, pair in matched if pair is not None}


def _run(probe: Engine, names: list[str], inputs: Mapping[str, Array], *, last: bool) -> dict[str, Array]:
    """Values of every step, or of the last one alone."""
    stream = Stream(probe)
    n = len(next(iter(inputs.values())))
    if last:
        for t in range(n - 1):
            stream.step({name: a[t] for name, a in inputs.items()})
        inputs = {name: a[n - 1 :] for name, a in inputs.items()}
    result = stream.process(inputs)
    return result if isinstance(result, dict) else {names[0]: result}


def _stacked(port: Port, expected: Array, found: Array, stacks: int) -> tuple[Array, Array] | None:
    """A value of a body at the last step, for as many iterations as both sides keep."""
    shape = port.type.shape
    if expected.ndim != len(shape) or expected.shape[stacks:] != shape[stacks:]:
        return None
    both = tuple(slice(min(a, b)) for a, b in zip(expected.shape, shape, strict=True))
    return expected[both], found[-1].reshape(shape)[both]


def _matched(port: Port, expected: Array, found: Array, late: bool, complete: bool) -> tuple[Array, Array] | None:
    """The part of a value that oracle and engine both have; None where there is none, or where a pass gave the name to a
    value of another shape."""
    stream = port.stream
    if expected.ndim != port.type.rank or any(
        n != port.type.shape[d] for d, n in enumerate(expected.shape) if stream is None or d != stream.axis
    ):
        return None
    if stream is None:
        return expected, found[-1].reshape(expected.shape)
    if stream.axis is None:
        return (expected, found[-1].reshape(expected.shape)) if complete and not stream.delay else None
    frames = frames_first(port, found)[stream.delay :]
    clip = np.moveaxis(expected, stream.axis, 0)
    if late:
        per = port.type.shape[stream.axis]
        return (clip[-per:], frames[-per:]) if not stream.delay else None
    count = min(len(frames), len(clip))
    return (clip[:count], frames[:count]) if count else None


def _culprit(
    signal: Signal,
    step: int,
    node: Node,
    name: str,
    values: tuple[Array, Array, Array],
    limit: float,
    diffs: Mapping[str, float],
) -> Culprit:
    expected, found, apart = values
    index = np.unravel_index(int(np.argmax(apart)), apart.shape)
    inputs = {n: diffs[n] for n in dict.fromkeys(node.inputs) if n in diffs}
    return Culprit(
        signal.name, step, node.name, node.op, name, tuple(int(i) for i in index),
        float(expected[index]), float(found[index]), float(apart[index]), limit, inputs,
    )  # fmt: skip


def _inside(signal: Signal, step: int, pairs: Mapping[str, tuple[Array, Array]], inner: Mapping[str, Inner]) -> Culprit:
    """The first value inside a node to leave the tolerance: that of the first iteration, and there the first."""
    bad = []
    for order, (name, (expected, found)) in enumerate(pairs.items()):
        limit = tolerance("output", peak(expected), expected.dtype)
        places = np.argwhere(difference(expected, found) > limit)
        if len(places):
            bad.append((tuple(int(i) for i in places[0][: inner[name].stacks]), order, name, limit))
    turn, _, name, limit = min(bad)
    known = inner[name]

    def at(name: str) -> tuple[Array, Array, Array]:
        expected, found = (np.asarray(value[turn]) for value in pairs[name])
        return expected, found, np.asarray(difference(expected, found))

    alike = [n for n in known.node.inputs if visible(n) in pairs and inner[visible(n)].stacks == known.stacks]
    diffs = {n: float(at(visible(n))[2].max(initial=0.0)) for n in alike}
    return replace(_culprit(signal, step, known.node, known.value, at(name), limit, diffs), inside=known.where(turn))


def _nameless(signal: Signal, step: int, remark: str) -> Culprit:
    return Culprit(signal.name, step, "", "", "", (), float("nan"), float("nan"), float("nan"), 0.0, {}, remark)
