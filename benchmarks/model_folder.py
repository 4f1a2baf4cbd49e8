"""A folder of models with a manifest, and each of its models beside onnxruntime on the original file.

The folder holds a manifest.json (name, file, state_pairs, steps) and a feeds.py with `feed(name)(t) -> {input: array}`. The
table in docs/ and the tests both run its models through here.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from streamrnn_converters import convert
from streamrnn_converters.draws import random_results
from streamrnn_converters.oracle import quiet_session
from streamrnn_converters.rows import Ruling
from streamrnn_converters.validate import validate

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Array, Graph

OUTPUT_TOLERANCE, STATE_TOLERANCE = 1e-4, 5e-4


class Folder:
    """A manifest and its feeds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {e["name"]: e for e in json.loads((path / "manifest.json").read_text())}
        spec = importlib.util.spec_from_file_location("feeds", path / "feeds.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.feed: Callable[[str], Callable[[int], dict[str, Array]]] = module.feed

    def file(self, name: str) -> Path:
        return self.path / str(self.entries[name]["file"])

    def steps(self, name: str) -> int:
        return int(self.entries[name]["steps"])

    def options(self, name: str) -> dict[str, Any]:
        """What a user says: the shapes of a call, and the sample rate where it is an input."""
        first = self.feed(name)(0)
        rate = {k: a for k, a in first.items() if k == "sr"}
        return {"shape": {k: a.shape for k, a in first.items() if k not in rate}, "bind": rate}

    def window(self, name: str) -> Graph:
        """The model in window mode: one step is one call of the file."""
        return convert(self.file(name), mode="window", **self.options(name))

    def pairs(self, name: str) -> dict[str, tuple[str, int | None]]:
        """State input -> (state output, row of it or None for all)."""
        table = self.entries[name]["state_pairs"]
        return {s: (t, None) if isinstance(t, str) else (t[0], t[1]) for s, t in table.items()}


class Caller:
    """onnxruntime on the original file, one thread, the state fed back."""

    def __init__(self, folder: Folder, name: str, engine: Engine) -> None:
        self.pairs = folder.pairs(name)
        self.state = {s.read: s.init for s in engine.graph.states if s.read in self.pairs}
        self._session = quiet_session(str(folder.file(name)))
        self._names = [output.name for output in self._session.get_outputs()]

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs of one call; the state moves on."""
        result = dict(zip(self._names, self._session.run(None, {**inputs, **self.state}), strict=True))
        for source, (target, row) in self.pairs.items():
            self.state[source] = result[target] if row is None else result[target][row : row + 1]
        return result


@dataclass
class Comparison:
    """Errors are the largest |difference| / max(1, largest |value|) over all steps.

    rulings: where a tolerance is left, what the file in float64 says about it, see `streamrnn_converters.referee`.
    repeats: whether a second run after `reset`, in one block and in uneven chunks, gave the same bits.
    random:  outputs that are random draws, of which only shape and type are compared.
    """

    output_error: float = 0.0
    state_error: float = 0.0
    rulings: tuple[Ruling, ...] = ()
    repeats: bool = True
    random: tuple[str, ...] = ()

    @property
    def close(self) -> bool:
        return self.output_error <= OUTPUT_TOLERANCE and self.state_error <= STATE_TOLERANCE

    @property
    def ruled(self) -> bool:
        """Within the tolerance of float64 where onnxruntime is further off."""
        return bool(self.rulings) and all(ruling.right == "engine" for ruling in self.rulings)

    @property
    def passed(self) -> bool:
        return self.repeats and (self.close or self.ruled)


def compare(folder: Folder, name: str, engine: Engine) -> Comparison:
    """One step beside one call, over the manifest's number of steps."""
    feed, stream, caller = folder.feed(name), Stream(engine), Caller(folder, name, engine)
    result = Comparison(random=tuple(random_results(engine.graph)))
    calls, answers = [], []
    for t in range(folder.steps(name)):
        inputs = feed(t)
        calls.append(arguments(engine, inputs))
        expected, found = caller.step(inputs), named(engine, stream.step(calls[-1]))
        answers.append(found)
        for key, value in found.items():
            if key in result.random:
                assert (value.size, value.dtype) == (expected[key].size, expected[key].dtype), key
            else:
                result.output_error = max(result.output_error, error(value, expected[key]))
        state = stream.state()
        for source in caller.pairs:
            result.state_error = max(result.state_error, error(state[source], caller.state[source]))
    if not result.close:
        inputs = {key: np.stack([call[key] for call in calls]) for key in engine.inputs}
        report = validate(folder.file(name), engine, inputs=inputs, built_in=False)
        result.rulings = tuple(row.ruling for row in report.rows if row.ruling is not None)
    result.repeats = repeats(stream, calls, answers)
    return result


def repeats(stream: Stream, calls: list[dict[str, Array]], answers: list[dict[str, Array]]) -> bool:
    """Whether the stream, reset, answers the same calls with the same bits in one block and in uneven chunks."""
    block = {k: np.stack([call[k] for call in calls]) for k in stream.engine.inputs}
    expected = {k: np.stack([answer[k] for answer in answers]) for k in stream.engine.outputs}
    same = True
    for cuts in ([len(calls)], [1, 3, 8, 17, len(calls)]):
        stream.reset()
        at, parts = 0, []
        for cut in cuts:
            if at < min(cut, len(calls)):
                parts.append(named(stream.engine, stream.process({k: a[at:cut] for k, a in block.items()})))
                at = cut
        same &= all(np.concatenate([p[k] for p in parts]).tobytes() == a.tobytes() for k, a in expected.items())
    return same


def error(found: Array, expected: Array) -> float:
    """Largest difference over max(1, largest value); inf where a NaN stands against a number, or the sizes differ."""
    a, b = np.ravel(found).astype(np.float64), np.ravel(expected).astype(np.float64)
    if a.size != b.size:
        return float("inf")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not np.isfinite(a[~same]).all() or not np.isfinite(b[~same]).all():
        return float("inf")
    scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
    return float(np.abs(a - b)[~same].max(initial=0.0)) / scale


def arguments(engine: Engine, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A call's inputs as a step takes them."""
    return {k: a.reshape(engine.inputs[k].shape) for k, a in inputs.items() if k in engine.inputs}


def named(engine: Engine, result: Any) -> dict[str, Array]:
    """Copies of the outputs, by name."""
    table = result if isinstance(result, dict) else {next(iter(engine.outputs)): result}
    return {k: np.array(v) for k, v in table.items()}
