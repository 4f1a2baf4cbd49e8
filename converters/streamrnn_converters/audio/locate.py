"""Where an audio model's failure comes from: the first layer whose value leaves the tolerance.

The formula and the builder go through the layers of a file in the same order, and both keep what stands behind each. Those of
these values that kept their name in the step graph are compared; a layer whose value is gone is found at the one behind it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Array
from streamrnn_converters.audio._build import OUTPUT, wires
from streamrnn_converters.audio.model import AudioModel
from streamrnn_converters.audio.oracle import layers, output
from streamrnn_converters.compare import difference, peak, tolerance
from streamrnn_converters.oracle import frames_first
from streamrnn_converters.report import Culprit
from streamrnn_converters.signals import Signal


def locate(model: AudioModel, silence: int, signal: Signal, step: int) -> Culprit:
    """The culprit of a failure of `signal` at `step`, its first bad step. `silence`: frames of zeros before the signal."""
    graph = signal.engine.graph
    producers = graph.producers()
    named = [(k, name) for k, name in enumerate((*wires(model), OUTPUT)) if name in producers]
    inputs = signal.block(0, step + 1)
    expected = [*layers(model, inputs, silence), output(model, inputs, silence)]
    found = _values(signal.engine, [name for _, name in named], inputs)
    before: dict[str, float] = {}
    for k, name in named:
        count = min(len(expected[k]), len(found[name]))
        a, b = expected[k][:count], found[name][:count]
        apart = difference(a, b)
        limit = tolerance("output", peak(a), np.dtype(np.float32))
        if apart.max(initial=0.0) > limit:
            index = np.unravel_index(int(np.argmax(apart)), apart.shape)
            node = producers[name]
            return Culprit(
                signal.name, step, node.name, node.op, name, tuple(int(i) for i in index), float(a[index]), float(b[index]),
                float(apart[index]), limit, dict(list(before.items())[-1:]), oracle="the float64 formula",
            )  # fmt: skip
        before[name] = float(apart.max(initial=0.0))
    nothing = Culprit(signal.name, step, "", "", "", (), float("nan"), float("nan"), float("nan"), 0.0)
    return replace(
        nothing,
        remark=f"{len(named)} of {len(expected)} values behind the layers were compared, and agree with the float64 formula "
        f"once all of them are kept: look at what the plan lets share memory (streamrnn inspect --plan), and at the test in "
        f"the file, where that failed",
    )


def _values(engine: Engine, names: list[str], inputs: dict[str, Array]) -> dict[str, Array]:
    """Values inside a step graph, [frames, width] each."""
    if not names:
        return {}
    probe = Engine(engine.graph.replace(outputs=tuple(names)))
    result = Stream(probe).process(inputs)
    found = result if isinstance(result, dict) else {names[0]: result}
    rows = ((port.name, frames_first(port, found[port.name])) for port in probe.plan.outputs)
    return {name: row.reshape(len(row), -1) for name, row in rows}
