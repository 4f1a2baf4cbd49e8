"""onnxruntime on the original file: the oracle of `validate`.

Arrays go in and out in the file's own shapes; `clip` and `frames_first` turn the engine's steps into those and back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from streamrnn import Engine
from streamrnn.errors import MissingExtraError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.op import get_op
from streamrnn.plan import Port
from streamrnn_converters.onnx.moves import CELLS
from streamrnn_converters.surgery import next_of

_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    **{f"tensor({s}int{n})": f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)},
}  # fmt: skip
_SLICE = re.compile(r"(?P<name>.*)\[(?P<start>\d+):(?P<stop>\d+)\]")


@dataclass(frozen=True)
class FileInput:
    """An input as the file declares it; an open dimension is None."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | None, ...]

    def fitted(self, value: Array) -> Array:
        """`value` in this input's element type."""
        return np.ascontiguousarray(value, self.dtype)

    @property
    def sizes(self) -> list[int]:
        """The dimensions; open ones are 1."""
        return [1 if d is None else d for d in self.dims]

    def zeros(self) -> Array:
        """Zeros; open dimensions are 1."""
        return np.zeros(self.sizes, self.dtype)


class Calls(Protocol):
    """Something that runs a file: onnxruntime, or its float64."""

    model: str | bytes

    @property
    def inputs(self) -> Mapping[str, FileInput]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""

    def on(self, model: bytes) -> Calls:
        """Another form of the file, run alike."""


class Session:
    """One onnxruntime session on one thread, with the ops of the file as written. Where it crashes with graph optimisations it
    is made again without.

    model:    path of a file, or a serialised model.
    optimise: False for ORT_DISABLE_ALL from the start.
    """

    def __init__(self, model: str | Path | bytes, *, optimise: bool = True, notify: Callable[[str], None] = lambda text: None):
        self.model = model if isinstance(model, bytes) else str(model)
        self._notify = notify
        self.optimised = optimise
        self._session: Any = None
        _onnxruntime()
        declared = self._guarded(lambda session: (session.get_inputs(), session.get_outputs()))
        self.inputs = {
            i.name: FileInput(i.name, _dtype(i.type, i.name), tuple(d if isinstance(d, int) else None for d in i.shape))
            for i in declared[0]
        }
        self.outputs: tuple[str, ...] = tuple(o.name for o in declared[1])

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises UnsupportedError with onnxruntime's own message."""
        given = {name: self.inputs[name].fitted(value) for name, value in feeds.items() if name in self.inputs}
        values = self._guarded(lambda session: session.run(None, given))
        return dict(zip(self.outputs, values, strict=True))

    def on(self, model: bytes) -> Session:
        """Another form of the file, run with optimisations if this one is."""
        return Session(model, optimise=self.optimised)

    def _guarded(self, action: Callable[[Any], Any]) -> Any:
        """What `action` gives on the session. A failure that optimisations are not to blame for leaves the session as it is."""
        # onnxruntime raises many unrelated types, all of them direct children of Exception
        try:
            if self._session is None:
                self._session = quiet_session(self.model, self.optimised, as_written=True)
            return action(self._session)
        except Exception as error:
            if not self.optimised:
                raise UnsupportedError(f"onnxruntime cannot run the file: {error}") from None
            reason = str(error).strip().splitlines()[0]
        try:
            plain = quiet_session(self.model, optimise=False, as_written=True)
            result = action(plain)
        except Exception as error:
            raise UnsupportedError(f"onnxruntime cannot run the file: {error}") from None
        self._session, self.optimised = plain, False
        self._notify(f"onnxruntime fails with its graph optimisations ({reason}); the oracle runs without them")
        return result


def quiet_session(model: str | bytes, optimise: bool = True, *, as_written: bool = False) -> Any:
    """An onnxruntime session with one thread that does not spin. Raises MissingExtraError.

    as_written: keep ops between DequantizeLinear and QuantizeLinear as they are. By default onnxruntime takes its QLinear ops
                for them, some of which are less exact (QLinearSoftmax cuts the reciprocal of its scale to an integer).
    """
    options = _onnxruntime().SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    if as_written:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not optimise:
        options.graph_optimization_level = _onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    return _onnxruntime().InferenceSession(model, options, providers=["CPUExecutionProvider"])


def opened(model: str | bytes, optimise: bool = True) -> Any:
    """A quiet session. Raises UnsupportedError with onnxruntime's own message."""
    _onnxruntime()
    try:
        return quiet_session(model, optimise)
    except Exception as error:  # many unrelated types
        raise UnsupportedError(f"onnxruntime cannot run the file: {error}") from None


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"validation runs onnxruntime on the original file ({error}); pip install 'streamrnn[convert]'"
        ) from None
    return onnxruntime


def _dtype(text: str, name: str) -> np.dtype[Any]:
    if text not in _DTYPES:
        raise UnsupportedError(f"input '{name}' is a {text}; only tensors of numbers can be validated")
    return np.dtype(_DTYPES[text])


@dataclass(frozen=True)
class StatePair:
    """State input `source` of the file takes `target`, or rows start .. stop of it on axis 0, at the next call."""

    source: str
    target: str
    start: int | None = None
    stop: int | None = None

    def next(self, outputs: Mapping[str, Array]) -> Array:
        """The new state among the outputs of a call."""
        value = outputs[self.target]
        return value if self.start is None else value[self.start : self.stop]


@dataclass(frozen=True)
class FileView:
    """What the oracle has to know about an engine beside its file: states, bound inputs, shapes, time."""

    engine: Engine

    @property
    def mode(self) -> str:
        return str(self.engine.meta.get("mode", "frame" if self.engine.graph.streams else "window"))

    @property
    def lookahead(self) -> int:
        """Frames of a chunk at whose end backward directions start anew; 0 where there is none."""
        value = self.engine.meta.get("lookahead", 0)
        return value if isinstance(value, int) else 0

    @property
    def lengths(self) -> list[str]:
        """Inputs of the file that say how long a clip is."""
        return cast(list[str], self.engine.meta.get("as_long_as_the_clip", []))

    @cached_property
    def inits(self) -> dict[str, Array]:
        """Initial value of each state by name."""
        return {state.name: state.init for state in self.engine.graph.states}

    @cached_property
    def cut(self) -> dict[str, tuple[str, int, int]]:
        """The states with which the file has to be called step by step, as `surgery.with_states` takes them; none where a call
        for the whole clip says the same.

        A clip in one call has one grid of 8 bits where a stream has one for each step, see `Op.regrids`. Raises
        UnsupportedError where something else than a cell remembers.
        """
        graph = self.engine.graph
        made = [n for n in graph.nodes if get_op(n).regrids and any(graph.streams.get(name) for name in n.outputs)]
        if not made or self.mode != "frame" or self.lookahead > 1:
            return {}
        found = {}
        for state in graph.states:
            node = next(n for n in graph.nodes if state.read in n.inputs)
            place = next((p for p in CELLS.get(node.op, ()) if node.inputs[p[0]] == state.read), None)
            output = next((name for name in node.outputs if name and name != state.write), state.write)
            if place is None:
                raise UnsupportedError(
                    f"node '{made[0].name}' ({made[0].op}) quantises the frames of each step together, and node "
                    f"'{node.name}' ({node.op}) remembers frames, which no call of the file can be given: onnxruntime has no "
                    f"answer to compare with; quantise with fixed scales (quantize_static) instead"
                )
            found[state.name] = (output, *place)
        return found

    def pairs(self, outputs: Sequence[str]) -> list[StatePair]:
        """The state map of the file, whose outputs are `outputs`."""
        found = [StatePair(name, next_of(name)) for name in self.cut]
        for source, text, *_ in cast(list[list[str]], self.engine.meta.get("pairs", [])):
            match = None if text in outputs else _SLICE.fullmatch(text)
            if match:
                found.append(StatePair(source, match["name"], int(match["start"]), int(match["stop"])))
            else:
                found.append(StatePair(source, text))
        return found

    def constant_feeds(self, session: Calls) -> dict[str, Array]:
        """Feeds of the file's inputs that are no inputs of the engine: bound ones, initial states, unused ones (zeros)."""
        bind = cast(Mapping[str, Any], self.engine.meta.get("bind", {}))
        shapes = cast(Mapping[str, Sequence[int]], self.engine.meta.get("shapes", {}))
        feeds: dict[str, Array] = {}
        for name, file in session.inputs.items():
            if name in self.engine.inputs:
                continue
            if name in bind:
                value = np.asarray(bind[name], file.dtype)
                feeds[name] = value.reshape(file.sizes) if value.size == math.prod(file.sizes) else value
            elif name in self.inits:
                feeds[name] = self.inits[name]
            elif name in shapes:
                feeds[name] = np.zeros(tuple(shapes[name]), file.dtype)
            else:
                feeds[name] = file.zeros()
        return feeds

    def fixed_frames(self, session: Calls) -> int | None:
        """The clip length that the file prescribes, or None where its time axis is open."""
        for port in self.engine.plan.inputs:
            if port.stream is not None and port.stream.axis is not None and port.name in session.inputs:
                dims = session.inputs[port.name].dims
                length = dims[port.stream.axis] if dims else None  # none are declared where the file leaves the rank open
                if length is not None:
                    return length
        return None


class StepOracle:
    """The file called once a step, its states fed back. For step models and window mode."""

    def __init__(self, session: Calls, view: FileView) -> None:
        self.session = session
        self.view = view
        self.pairs = view.pairs(session.outputs)
        self._constant = view.constant_feeds(session)
        self.reset()

    def reset(self) -> None:
        """Back to the initial state."""
        self.states = {pair.source: self.view.inits[pair.source] for pair in self.pairs if pair.source in self.view.inits}

    def feeds(self, frames: Mapping[str, Array]) -> dict[str, Array]:
        """What the next call gets: `frames` holds one step of each input in the engine's frame shape."""
        inputs = {port.name: frames[port.name].reshape(port.type.shape) for port in self.view.engine.plan.inputs}
        return {**self._constant, **inputs, **self.states}

    def step(self, frames: Mapping[str, Array]) -> dict[str, Array]:
        """One call; the states move on. All outputs of the file."""
        outputs = self.session.run(self.feeds(frames))
        self.states = {
            pair.source: pair.next(outputs).reshape(self.states[pair.source].shape)
            for pair in self.pairs
            if pair.source in self.states
        }
        return outputs


class ClipOracle:
    """The file called once for a whole clip or a prefix of one. For frame mode."""

    def __init__(self, session: Calls, view: FileView) -> None:
        self.session = session
        self.view = view
        self._constant = view.constant_feeds(session)

    def run(self, steps: Mapping[str, Array], frames: int) -> dict[str, Array]:
        """Outputs for the first `frames` input frames of a signal given as steps [n, *frame shape]."""
        return self.session.run(self.feeds(steps, frames))

    def feeds(self, steps: Mapping[str, Array], frames: int) -> dict[str, Array]:
        """What the file gets for that prefix."""
        ports = self.view.engine.plan.inputs
        lengths = {name: np.full(self._constant[name].shape, frames) for name in self.view.lengths}
        return {**self._constant, **lengths, **{port.name: clip(port, steps[port.name], frames) for port in ports}}


def frames_first(port: Port, steps: Array) -> Array:
    """Steps [n, *frame shape] of a port with a time axis as frames [n * frames, *port shape without the time axis]."""
    assert port.stream is not None
    assert port.stream.axis is not None
    rest = [d for k, d in enumerate(port.type.shape) if k != port.stream.axis]
    found: Array = steps.reshape(len(steps) * port.type.shape[port.stream.axis], *rest)
    return found


def clip(port: Port, steps: Array, frames: int) -> Array:
    """The first `frames` frames of steps [n, *frame shape] in the file's shape; an input without time as it is at step 0."""
    if port.stream is None or port.stream.axis is None:
        return steps[:1].reshape(port.type.shape)
    found: Array = np.moveaxis(frames_first(port, steps)[:frames], 0, port.stream.axis)
    return found
