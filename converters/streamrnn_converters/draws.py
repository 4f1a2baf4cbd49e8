"""Outputs that depend on random numbers, judged by their distribution.

The engine has a generator of its own, so no value can agree with onnxruntime's. What must agree, given the same inputs, is the
distribution of every element at every step. So one signal begins anew many times on both sides, the generators going on, and
each element's two samples are put to the test of Kolmogorov and Smirnov, and its range to a count of what lies outside.
Runs are independent of each other whatever the steps in them share, so both tests hold without further assumptions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Array, Graph
from streamrnn.ir.op import get_op
from streamrnn.plan import Port
from streamrnn_converters.compare import peak, tolerance
from streamrnn_converters.laws import CallLaw, ClipLaw, Law, frames_of
from streamrnn_converters.oracle import ClipOracle, StepOracle
from streamrnn_converters.report import Draw
from streamrnn_converters.rows import Kind
from streamrnn_converters.signals import Signal

#: runs of a signal: as many as the signals have steps, within these bounds
LEAST_RUNS, MOST_RUNS = 100, 1000
#: steps of a run that are looked at, and elements of each
STEPS, ELEMENTS = 3, 64
#: chance that two equal distributions are told apart, for one output under one signal
FALSE_ALARM = 1e-6

#: what a run gave: (kind, name) -> values
Values = dict[tuple[Kind, str], Array]


def judge(law: Law, signal: Signal, names: Sequence[str]) -> list[Draw]:
    """The outputs and states `names` under one signal. Those without a counterpart in the file are entered into
    `law.excluded`."""
    if not isinstance(law, CallLaw | ClipLaw):
        reason = "it depends on a random draw, which is judged for whole clips and calls alone"
        law.excluded.update(dict.fromkeys(names, reason))
        return []
    count = min(max(signal.steps, LEAST_RUNS), MOST_RUNS)
    runs = _calls(law, signal, names) if isinstance(law, CallLaw) else _clips(law, signal, names)
    pairs = [next(runs) for _ in range(count)]
    return [
        compared(signal.name, kind, name, *(np.stack([pair[side][kind, name] for pair in pairs]) for side in (0, 1)))
        for kind, name in pairs[0][0]
    ]


def compared(signal: str, kind: Kind, name: str, expected: Array, found: Array) -> Draw:
    """Two samples [runs, values] of the same distributions, or not."""
    runs, values = expected.shape
    a, b = (np.where(np.isnan(x), np.inf, x) for x in (np.asarray(expected, np.float64), np.asarray(found, np.float64)))
    slack = tolerance(kind, peak(a), expected.dtype)
    chance = FALSE_ALARM / max(1, values)
    return Draw(
        signal, kind, name, runs, values,
        distance=max((distance(a[:, k], b[:, k], slack) for k in range(values)), default=0.0),
        limit=math.sqrt(-math.log(chance / 2) / runs),
        outside=max((outside(a[:, k], b[:, k], slack) for k in range(values)), default=0),
        most_outside=math.ceil(-math.log2(chance)),
    )  # fmt: skip


def distance(a: Array, b: Array, slack: float) -> float:
    """Largest difference of the two distribution functions, where values may also be off by `slack`."""
    a, b = np.sort(a), np.sort(b)
    share = np.arange(1, len(a) + 1)
    gaps = [share - np.searchsorted(y, x + slack, "right") for x, y in ((a, b), (b, a))]
    return max(0.0, float(np.max(gaps)) / len(a))


def outside(a: Array, b: Array, slack: float) -> int:
    """How many values of one sample lie on one side of all those of the other. With equal distributions each of the outermost
    values belongs to either sample, so n on one side have a chance of at most 2**-n."""
    sides = ((x, y) for x, y in ((a, b), (b, a)))
    return max(max(int((x > y.max() + slack).sum()), int((x < y.min() - slack).sum())) for x, y in sides)


# -- runs -----------------------------------------------------------------------------------------------------------


@dataclass
class _Restarts:
    """A stream that begins anew, while its generators go on."""

    engine: Engine

    def __post_init__(self) -> None:
        self.stream = Stream(self.engine)
        plan = self.engine.plan
        at = sum(port.type.nbytes for port in plan.inputs)
        self.generators: list[slice] = []
        for state in plan.states:
            if state.kind == "generator":
                self.generators.append(slice(at, at + state.type.nbytes))
            at += state.type.nbytes

    def restart(self) -> Stream:
        used = self.stream.snapshot().state
        self.stream.reset()
        first = self.stream.snapshot()
        state = bytearray(first.state)
        for part in self.generators:
            state[part] = used[part]
        self.stream.restore(replace(first, state=bytes(state)))
        return self.stream


def _calls(law: CallLaw, signal: Signal, names: Sequence[str]) -> Iterator[tuple[Values, Values]]:
    """One step is one call: the outputs of the first steps, the states behind them."""
    steps = min(STEPS, signal.steps)
    block = signal.block(0, steps)
    oracle, restarts = StepOracle(law.session, law.view), _Restarts(law.engine)
    outputs = [name for name in names if name in law.session.outputs and name in law.engine.outputs]
    states = [name for name in names if name in oracle.states]
    law.excluded.update(
        {n: "it depends on a random draw, and the file does not give it" for n in names if n not in outputs + states}
    )
    while True:
        oracle.reset()
        rows = [oracle.step({name: a[t] for name, a in block.items()}) for t in range(steps)]
        stream = restarts.restart()
        result = _named(law.engine, stream.process(block))
        after = stream.state()
        expected: Values = {("output", n): _picked([row[n] for row in rows]) for n in outputs}
        found: Values = {("output", n): _picked(list(result[n])) for n in outputs}
        expected |= {("state", n): _picked([oracle.states[n]]) for n in states}
        found |= {("state", n): _picked([after[n]]) for n in states}
        yield expected, found


def _clips(law: ClipLaw, signal: Signal, names: Sequence[str]) -> Iterator[tuple[Values, Values]]:
    """A clip: its last steps; of one answer for all of it the answer."""
    ports = [port for port in law.engine.plan.outputs if port.name in names]
    lagging = [p.name for p in ports if p.stream is not None and p.stream.axis is None and p.stream.delay]
    law.excluded.update(dict.fromkeys(lagging, "it depends on a random draw, and it lags behind the clip that it answers"))
    ports = [p for p in ports if p.name not in lagging]
    late = max((p.stream.delay * p.stream.stride for p in ports if p.stream is not None), default=0)
    steps = law.whole if law.fixed is not None else min(-(-late // law.engine.frames) + STEPS, signal.steps)
    inputs, frames = law.clip(signal, 0, steps)
    block = {name: a[:steps] for name, a in inputs.items()}
    oracle, restarts = ClipOracle(law.session, law.view), _Restarts(law.engine)
    while True:
        clip = oracle.run(inputs, frames)
        result = _named(law.engine, restarts.restart().process(block))
        expected: Values = {}
        found: Values = {}
        for port in ports:
            rows = _rows(port, clip[port.name], steps)
            expected["output", port.name] = _picked([value for _, value in rows])
            found["output", port.name] = _picked([result[port.name][step] for step, _ in rows])
        yield expected, found


def _rows(port: Port, clip: Array, steps: int) -> list[tuple[int, Array]]:
    """(step, what the file has for it) of the last steps."""
    if port.stream is None or port.stream.axis is None:
        return [(steps - 1, clip)]
    return [(e.step, e.value) for e in frames_of(port, clip, steps, first=max(0, steps - STEPS))]


def _picked(rows: Sequence[Array]) -> Array:
    """Some elements of each row, in one line."""
    flat = [np.asarray(row).reshape(-1) for row in rows]
    return np.concatenate([row[:: max(1, -(-row.size // ELEMENTS))] for row in flat])


def _named(engine: Engine, result: Array | Mapping[str, Array]) -> Mapping[str, Array]:
    return result if isinstance(result, Mapping) else {next(iter(engine.outputs)): result}


def random_results(graph: Graph) -> list[str]:
    """Outputs, and states by name, that depend on a node which draws random numbers; its generator is none of them."""
    random: set[str] = set()
    while True:
        before = len(random)
        for node in graph.nodes:
            if not get_op(node).deterministic or random.intersection(node.inputs):
                random.update(name for name in node.outputs if name)
        random |= {state.read for state in graph.states if state.write in random}
        if len(random) == before:
            break
    states = (s.name for s in graph.states if s.write in random and s.kind != "generator")
    return [*(n for n in graph.outputs if n in random), *states]
