"""onnxruntime's step beside this engine's: the same model, the state fed back, one thread, interleaved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn import Engine
from streamrnn.bench import Times, random_frames, timed, ways
from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array, Graph
from streamrnn_converters.audio import is_audio
from streamrnn_converters.importer import convert
from streamrnn_converters.lint.repair import as_judged
from streamrnn_converters.onnx.writer import write_step_model
from streamrnn_converters.oracle import FileView, Session, opened


@dataclass(frozen=True)
class OrtStep:
    """onnxruntime on a step model: `state` goes in and is replaced by what comes out.

    feedback: state input -> position of its next value among the session's outputs, and the rows of it (None for all).
    outputs:  output of the engine -> its position.
    """

    session: Any
    state: dict[str, Array]
    feedback: Mapping[str, tuple[int, slice | None]]
    outputs: Mapping[str, int]

    def step(self, inputs: Mapping[str, Array]) -> list[Array]:
        """One call; outputs in the session's order."""
        outputs: list[Array] = self.session.run(None, {**inputs, **self.state})
        for name, (index, rows) in self.feedback.items():
            value = outputs[index] if rows is None else outputs[index][rows]
            shape = self.state[name].shape
            self.state[name] = value if value.shape == shape else value.reshape(shape)
        return outputs


def ort_step(path: str | Path, engine: Engine, **options: Any) -> OrtStep:
    """onnxruntime's way to make the steps of `engine`: the file itself where one step is one call of it, else the step model
    written from the graph.

    options: those of the conversion that made `engine`. Raises UnsupportedError where there is no such way.
    """
    if is_audio(Path(path)):
        return _written(path, options)
    view = FileView(engine)
    if view.mode == "frame":
        # auto mode may have tried several axes: the graph of the engine's own is wanted
        return _written(path, {**options, "mode": "frame", "time_axis": engine.meta["time_axes"]})
    model = as_judged(path, engine.meta)
    session = Session(model)
    places = {name: i for i, name in enumerate(session.outputs)}
    state = {name: session.inputs[name].fitted(value) for name, value in view.constant_feeds(session).items()}
    feedback = {
        pair.source: (places[pair.target], None if pair.start is None else slice(pair.start, pair.stop))
        for pair in view.pairs(session.outputs)
        if pair.source in view.inits
    }
    plain = opened(model, session.optimised)
    return OrtStep(plain, state, feedback, {name: places[name] for name in engine.outputs})


def _written(path: str | Path, options: Mapping[str, Any]) -> OrtStep:
    stages: dict[str, Graph] = {}
    final = convert(path, dump=stages.__setitem__, **options)
    model = write_step_model(stages["align"].replace(meta=final.meta))
    session = opened(model.proto.SerializeToString())
    places = {output.name: i for i, output in enumerate(session.get_outputs())}
    feedback = {name: (places[out], None) for name, out in model.feedback.items()}
    return OrtStep(session, dict(model.init), feedback, {name: places[out] for name, out in model.outputs.items()})


def bench_against_onnxruntime(path: str | Path, engine: Engine, steps: int = 2000, **options: Any) -> list[Times]:
    """Times of `step(x)`, of `step()` on views and of onnxruntime's `run`, in ABBA order so that drift hits all alike.

    options: those of the conversion that made `engine`. Raises UnsupportedError.
    """
    oracle = ort_step(path, engine, **options)
    frames = random_frames(engine, 1)
    shapes = {port.name: port.type.shape for port in engine.plan.inputs}
    first = {name: array[0].reshape(shapes[name]) for name, array in frames.items()}
    try:
        oracle.step(first)
    except Exception as error:  # onnxruntime raises many unrelated types
        raise UnsupportedError(f"onnxruntime cannot run the file: {error}") from None
    calls: dict[str, Callable[[], object]] = {**ways(engine, frames), "onnxruntime run": lambda: oracle.step(first)}
    for call in calls.values():
        timed(call, 100)
    rounds = 8
    samples: dict[str, list[Any]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in sorted(calls, reverse=bool(turn % 2)):
            samples[name].append(timed(calls[name], max(1, steps // rounds)))
    return [Times.of(name, np.concatenate(parts)) for name, parts in samples.items()]
