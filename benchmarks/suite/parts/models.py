"""Real models of a folder with a manifest beside onnxruntime: one step is one call of the file, the state fed back.

onnxruntime runs in two ways: `run`, and io-binding with the states going to and fro between two sets of buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from model_folder import Caller, Folder, arguments, error, named
from streamrnn_converters.draws import random_results

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Array
from suite.parts import Setup
from suite.roofline import step_bound
from suite.rows import OWN, Row
from suite.timing import Side, abba, medians, ratios

QUICK = ("silero_v6_openvino", "gtcrn_simple")
#: largest relative difference of the outputs; docs/models.md judges them one by one
TOLERANCE = 1e-3


class Bound:
    """onnxruntime with all of its inputs and outputs bound to arrays of the caller's."""

    def __init__(self, caller: Caller, first: Mapping[str, Array]) -> None:
        import onnxruntime as ort

        state = {name: np.array(value) for name, value in caller.state.items()}
        outputs = {name: np.array(value) for name, value in caller.step(first).items()}
        self.inputs = {name: np.array(value) for name, value in first.items()}
        whole = {source: target for source, (target, row) in caller.pairs.items() if row is None}
        #: a state that is some rows of an output is copied; one that is a whole output is that output in the next call
        self.rows = [(state[s], outputs[t], row) for s, (t, row) in caller.pairs.items() if row is not None]
        twins = {target: (state[source], outputs[target]) for source, target in whole.items()}
        self.outputs = outputs
        value = ort.OrtValue.ortvalue_from_numpy
        self.bindings = []
        for turn in (0, 1):
            binding = caller._session.io_binding()
            for name, array in (self.inputs | {s: a for s, a in state.items() if s not in whole}).items():
                binding.bind_ortvalue_input(name, value(array))
            for source, target in whole.items():
                binding.bind_ortvalue_input(source, value(twins[target][turn]))
            for name, array in outputs.items():
                binding.bind_ortvalue_output(name, value(twins[name][1 - turn] if name in twins else array))
            self.bindings.append(binding._iobinding)
        self.run = caller._session._sess.run_with_iobinding
        self.turn = 0
        self.owners = twins, state

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        for name, array in inputs.items():
            self.inputs[name][...] = array
        self.run(self.bindings[self.turn], None)
        self.turn ^= 1
        for state, output, row in self.rows:
            state[...] = output[row : row + 1]
        return self.outputs


def rows(setup: Setup) -> Iterator[Row]:
    if setup.models is None or not (setup.models / "manifest.json").exists():
        yield Row("models", {"model": "all"}, {}, {OWN: "no folder of models: --models FOLDER or STREAMRNN_MODELS"})
        return
    folder = Folder(setup.models)
    for name in QUICK if setup.quick else folder.entries:
        yield row(folder, name, setup)


def row(folder: Folder, name: str, setup: Setup) -> Row:
    feed, steps = folder.feed(name), min(folder.steps(name), 16)
    engine = Engine(folder.window(name))
    stream, caller = Stream(engine), Caller(folder, name, engine)
    calls = [feed(t) for t in range(steps)]
    own = [arguments(engine, call) for call in calls]
    off = max(differ(engine, stream.step(own[t]), caller.step(calls[t])) for t in range(steps))
    if not off <= TOLERANCE:
        return Row("models", {"model": name}, {}, {OWN: f"outputs differ by {off:.1e} from onnxruntime's"})
    skipped: dict[str, str] = {}
    sides: dict[str, Side] = {OWN: (each(stream.step), own)}
    try:
        bound = Bound(Caller(folder, name, engine), calls[0])
        bound.step(calls[0])
        sides["onnxruntime"] = (each(bound.step), calls)
    except Exception as problem:  # onnxruntime raises many unrelated types
        skipped["onnxruntime"] = f"io-binding: {str(problem).splitlines()[0]}"
    sides["onnxruntime run"] = (each(caller.step), calls)
    times = abba(list(sides.values()), setup.budget) / steps
    figures = {n: {"ns": ns, "ratio": r} for n, ns, r in zip(sides, medians(times), ratios(times), strict=True)}
    figures["onnxruntime run"]["error"] = off
    figures[OWN]["roofline"] = step_bound(setup.roofline, engine.plan) / figures[OWN]["ns"]
    return Row("models", {"model": name}, figures, skipped)


def each(step: Callable[[Any], object]) -> Callable[[list[Any]], None]:
    """A function that makes a step for each of a list of frames."""

    def run(frames: list[Any]) -> None:
        for frame in frames:
            step(frame)

    return run


def differ(engine: Engine, found: Any, expected: Mapping[str, Array]) -> float:
    """The largest relative difference of the outputs that are no random draws."""
    drawn = random_results(engine.graph)
    return max((error(value, expected[key]) for key, value in named(engine, found).items() if key not in drawn), default=0.0)
