"""onnxruntime's step beside this engine's: the same model, the state fed back, one thread, interleaved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from streamrnn import Engine
from streamrnn.bench import Times, random_frames, timed, ways
from streamrnn.ir.graph import Array, Graph
from streamrnn_converters.importer import convert
from streamrnn_converters.onnx.writer import initial_state, write_step_model


@dataclass(frozen=True)
class OrtStep:
    """onnxruntime on a step model: `state` goes in and is replaced by what comes out.

    feedback: state input -> position of its next value among the outputs, and the rows of it (None for all).
    """

    session: onnxruntime.InferenceSession
    state: dict[str, Array]
    feedback: Mapping[str, tuple[int, slice | None]]

    def step(self, inputs: Mapping[str, Array]) -> list[Array]:
        """One call; outputs in the session's order."""
        outputs: list[Array] = self.session.run(None, {**inputs, **self.state})
        for name, (index, rows) in self.feedback.items():
            self.state[name] = outputs[index] if rows is None else outputs[index][rows]
        return outputs


def quiet_session(model: str | bytes) -> onnxruntime.InferenceSession:
    """A session with one thread that does not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ort_step(path: str | Path, engine: Engine, **options: Any) -> OrtStep:
    """onnxruntime's way to make the steps of `engine`: the file itself where one step is one call of it, else the step model
    written from the graph. Raises UnsupportedError where there is none."""
    if engine.meta.get("mode") == "frame":
        return _written(path, options)
    session = quiet_session(str(path))
    places = {output.name: i for i, output in enumerate(session.get_outputs())}
    feedback: dict[str, tuple[int, slice | None]] = {}
    for source, target, _ in _pairs(engine):
        name, _, rows = target.partition("[")
        bounds = [int(n) for n in rows.rstrip("]").split(":")] if rows else []
        feedback[source] = (places[name], slice(*bounds) if rows else None)
    state = {s.name: s.init for s in engine.graph.states}
    dtypes = {i.name: i.type for i in session.get_inputs()}
    bind = engine.meta.get("bind", {})
    for name, value in (bind if isinstance(bind, dict) else {}).items():
        if name in dtypes:
            kind = (
                dtypes[name].removeprefix("tensor(").removesuffix(")").replace("float", "float32").replace("double", "float64")
            )
            state[name] = np.array(value, kind)
    return OrtStep(session, state, feedback)


def _pairs(engine: Engine) -> list[list[str]]:
    found = engine.meta.get("pairs", [])
    return found if isinstance(found, list) else []


def _written(path: str | Path, options: Mapping[str, Any]) -> OrtStep:
    stages: dict[str, Graph] = {}
    final = convert(path, dump=stages.__setitem__, **options)
    graph = stages["align"].replace(meta=final.meta)
    model = write_step_model(graph)
    session = quiet_session(model.SerializeToString())
    places = {output.name: i for i, output in enumerate(session.get_outputs())}
    state = initial_state(graph, model)
    return OrtStep(session, state, {name: (places[f"{name}.out"], None) for name in state})


def bench_against_onnxruntime(path: str | Path, engine: Engine, steps: int = 2000, **options: Any) -> list[Times]:
    """Times of `step(x)`, of `step()` on views and of onnxruntime's `run`, in ABBA order so that drift hits all alike.

    options: those of the conversion that made `engine`. Raises UnsupportedError.
    """
    oracle = ort_step(path, engine, **options)
    frames = random_frames(engine, 1)
    shapes = {port.name: port.type.shape for port in engine.plan.inputs}
    first = {name: array[0].reshape(shapes[name]) for name, array in frames.items()}
    calls: dict[str, Callable[[], object]] = {**ways(engine, frames), "onnxruntime run": lambda: oracle.step(first)}
    for call in calls.values():
        timed(call, 100)
    rounds = 8
    samples: dict[str, list[Any]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in sorted(calls, reverse=bool(turn % 2)):
            samples[name].append(timed(calls[name], max(1, steps // rounds)))
    return [Times.of(name, np.concatenate(parts)) for name, parts in samples.items()]
