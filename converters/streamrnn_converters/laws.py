"""How the steps of an engine correspond to calls of the file: one class for each way.

CallLaw   one step is one call; states are fed back                    step models, window mode
ClipLaw   frame j of a clip leaves the engine `delay` frames later;    frame mode
          one answer for a clip is the answer so far
ChunkLaw  frame mode with bounded look-ahead, where backward directions start anew at the end of each step's chunk
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from streamrnn import Engine
from streamrnn.errors import InputError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.plan import Port
from streamrnn_converters.answers import Answers
from streamrnn_converters.compare import Block, Cuts, Track
from streamrnn_converters.grid import Unit
from streamrnn_converters.oracle import Calls, ClipOracle, FileView, StepOracle
from streamrnn_converters.report import Chunking
from streamrnn_converters.signals import Signal, nudged

#: prefixes of a clip on which onnxruntime is run, at most; they are spaced by their logarithm
PREFIXES = 12


@dataclass
class Outcome:
    """What one signal gave."""

    tracks: list[Track]
    chunking: Chunking
    notes: list[str] = field(default_factory=list)


class Expected(NamedTuple):
    """What the file has for an output at a step of a block. `prefix`: the length of the prefix that gave it, in steps."""

    name: str
    step: int
    prefix: int
    value: Array


@dataclass
class Law(ABC):
    """One way to compare. `other` is a second session, to measure onnxruntime against itself: best one without optimisations.

    excluded: outputs that are not compared, with the reason; grows while signals run.
    random:   outputs and states that depend on random numbers; `draws` judges them.
    units:    of outputs and states that lie on a grid.
    nudge:    whether `other` gets its input moved by a unit in the last place.
    """

    engine: Engine
    session: Calls
    other: Calls
    seed: int
    excluded: dict[str, str] = field(default_factory=dict)
    random: tuple[str, ...] = ()
    units: Mapping[str, Unit] = field(default_factory=dict)
    nudge: bool = True

    @property
    @abstractmethod
    def text(self) -> str:
        """What is compared with what, in words."""

    @abstractmethod
    def run(self, signal: Signal, *, noise: bool) -> Outcome:
        """Compare on one signal; with `noise`, onnxruntime with itself too."""

    def start(self, step: int) -> int:
        """The step after whose reset `step` was compared."""
        return 0

    def until(self, signal: Signal, step: int) -> Signal:
        """As much of a signal as is needed to repeat what was compared up to `step`."""
        return signal

    def calls(self, signal: Signal) -> int:
        """Calls of the file that a signal takes; 0 where that depends on the signal."""
        return 0

    def moved(self, inputs: dict[str, Array], seed: int) -> dict[str, Array]:
        """What `other` gets in the place of `inputs`."""
        return nudged(inputs, seed) if self.nudge else inputs

    @cached_property
    def view(self) -> FileView:
        return FileView(self.engine)

    def compared(self) -> list[Port]:
        """Outputs that are compared value by value."""
        return [port for port in self.engine.plan.outputs if port.name not in (*self.excluded, *self.random)]

    def output_tracks(self) -> dict[str, Track]:
        return {p.name: Track("output", p.name, p.type.dtype.numpy, unit=self.units.get(p.name)) for p in self.compared()}

    def state_tracks(self, names: list[str]) -> dict[str, Track]:
        inits = self.view.inits
        left_out = {*self.excluded, *self.random}
        return {n: Track("state", n, inits[n].dtype, unit=self.units.get(n)) for n in names if n in inits and n not in left_out}

    def enter(
        self, tracks: Mapping[str, Track], block: Block, first: Iterable[Expected], again: Iterable[Expected] | None
    ) -> None:
        """Compare a block with what the file has for it, and with `again`, what it has for a nudged one."""
        others = {(e.name, e.step, e.prefix): e.value for e in again or ()}
        for e in first:
            track, step = tracks[e.name], block.start + e.step
            track.add(step, e.value, block.outputs[e.name][e.step])
            other = others.get((e.name, e.step, e.prefix))
            if other is not None:
                track.add_noise(step, e.value, other)


class CallLaw(Law):
    """Output t of the engine is output of call t of the file."""

    @property
    def text(self) -> str:
        pairs = self.view.pairs(self.session.outputs)
        fed = f", {len(pairs)} state{'s' * (len(pairs) != 1)} fed back" if pairs else ", no state"
        cut = "; the cells' states were made inputs and outputs, for each step has a grid of its own" if self.view.cut else ""
        return f"each step with one onnxruntime call of the file{fed}{cut}"

    def until(self, signal: Signal, step: int) -> Signal:
        return replace(signal, steps=step + 1)

    def calls(self, signal: Signal) -> int:
        return signal.steps

    def run(self, signal: Signal, *, noise: bool) -> Outcome:
        oracle = StepOracle(self.session, self.view)
        other = StepOracle(self.other, self.view) if noise else None
        outputs, states = self.output_tracks(), self.state_tracks([p.source for p in oracle.pairs])
        cuts, notes = Cuts(self.engine, signal, self.seed), list[str]()
        for block in cuts.blocks():
            for i in range(0 if notes else len(block)):
                step, frame = block.start + i, block.frame(i)
                expected = oracle.step(frame)
                if overflowed(oracle.states, block.states[i]):
                    notes.append(
                        f"signal '{signal.name}': the file's own state overflows (NaN or Inf in onnxruntime) at step {step}; "
                        f"from there on nothing is compared"
                    )
                    break
                for name, track in outputs.items():
                    track.add(step, expected[name], block.outputs[name][i])
                for name, track in states.items():
                    track.add(step, oracle.states[name], block.states[i][name])
                if other is not None:
                    again = other.step(self.moved(frame, self.seed + step))
                    if self.view.cut:  # a state that is saturated forgets a nudged input, and rounds another way on a grid
                        other.states = self.moved(other.states, self.seed + step)
                    for name, track in outputs.items():
                        track.add_noise(step, expected[name], again[name])
                    for name, track in states.items():
                        track.add_noise(step, oracle.states[name], other.states[name])
        return Outcome([*outputs.values(), *states.values()], cuts.chunking(), notes)


def overflowed(expected: Mapping[str, Array], found: Mapping[str, Array]) -> bool:
    """Whether a state of the file is no longer finite, and the engine's states are not so in the same elements.

    Past the largest float, rounding decides which elements go first; and from NaN on, onnxruntime's own answer depends on how a
    kernel was written: its GRU keeps the state and its LSTM counts one up where they have a bias, and give NaN where not.
    """
    finite = [
        (np.isfinite(value).reshape(-1), np.isfinite(found[name]).reshape(-1))
        for name, value in expected.items()
        if value.dtype.kind == "f"
    ]
    return not all(a.all() for a, _ in finite) and any(not np.array_equal(a, b) for a, b in finite)


class ClipLaw(Law):
    """Prefixes of a clip, or clips of the prescribed length."""

    @cached_property
    def fixed(self) -> int | None:
        """Frames of a clip where the file prescribes them."""
        return self.view.fixed_frames(self.session)

    @property
    def text(self) -> str:
        if self.fixed is not None:
            return (
                f"onnxruntime on clips of the file's own {self.fixed} frames, the engine reset before each: frame by frame, "
                f"and one answer for the clip at its end"
            )
        return (
            f"onnxruntime on the whole clip and on up to {PREFIXES} prefixes: frame by frame, later by the delay; one answer "
            f"for the clip with the engine's answer so far"
        )

    def run(self, signal: Signal, *, noise: bool) -> Outcome:
        tracks = self.output_tracks()
        cuts = Cuts(self.engine, signal, self.seed)
        for start, stop in self._clips(signal):
            block = _joined(list(cuts.blocks(start, stop)))
            inputs, frames = self.clip(signal, start, stop)
            again = self._expected(self.other, self.moved(inputs, self.seed), frames, len(block)) if noise else None
            self.enter(tracks, block, self._expected(self.session, inputs, frames, len(block)), again)
        return Outcome([t for name, t in tracks.items() if name not in self.excluded], cuts.chunking())

    @property
    def _span(self) -> int:
        """Steps from one prescribed clip to the next; the last of them is left out where a clip ends amid a step."""
        assert self.fixed is not None
        return -(-self.fixed // self.engine.frames)

    @property
    def whole(self) -> int:
        """Whole steps of a prescribed clip."""
        assert self.fixed is not None
        return self.fixed // self.engine.frames

    def start(self, step: int) -> int:
        return 0 if self.fixed is None else step - step % self._span

    def clip(self, signal: Signal, start: int, stop: int) -> tuple[dict[str, Array], int]:
        """The file's input for steps start .. stop, as steps, and the number of frames in it."""
        if self.fixed is None:
            return signal.block(start, stop), (stop - start) * self.engine.frames
        return signal.block(start, start + self._span), self.fixed

    def _clips(self, signal: Signal) -> Iterator[tuple[int, int]]:
        if self.fixed is None:
            yield 0, signal.steps
            return
        count = -(-signal.steps // self._span) if signal.endless else signal.steps // self._span
        if count == 0 or self.whole == 0:
            raise InputError(
                f"signal '{signal.name}' has {signal.steps} steps of {self.engine.frames} frames, the file takes clips of "
                f"{self.fixed} frames; give at least {self._span} steps"
            )
        for k in range(count):
            yield k * self._span, k * self._span + self.whole

    def _expected(self, session: Calls, inputs: Mapping[str, Array], frames: int, steps: int) -> Iterator[Expected]:
        """Of a clip of `frames` frames, which takes `steps` whole steps. Shorter prefixes give their last step alone."""
        oracle, F = ClipOracle(session, self.view), self.engine.frames
        answers = Answers(self.engine, session, oracle.feeds(inputs, frames))
        for prefix in [steps] if self.fixed is not None else prefixes(steps):
            try:
                outputs = oracle.run(inputs, frames if prefix == steps else prefix * F)
            except UnsupportedError:
                if prefix == steps:
                    raise
                continue  # shorter than a kernel without padding
            for port in self.compared():
                stream = port.stream
                if stream is not None and stream.axis is not None:
                    yield from frames_of(port, outputs[port.name], prefix, first=0 if prefix == steps else prefix - 1)
                elif stream is not None and (stream.delay or frames != steps * F):
                    value = self._answer(port, answers, prefix)
                    if value is not None:
                        yield Expected(port.name, prefix - 1, prefix, value)
                else:
                    yield Expected(port.name, prefix - 1, prefix, outputs[port.name])

    def _answer(self, port: Port, answers: Answers, steps: int) -> Array | None:
        try:
            return answers.at(port, steps)
        except UnsupportedError as error:
            self.excluded[port.name] = str(error)
            return None


def frames_of(port: Port, clip: Array, steps: int, first: int) -> Iterator[Expected]:
    """Steps first .. steps of an output with a time axis: frame j of the clip is the engine's frame j + delay, and before that
    lies filler, which is zero. What the file gives beyond the last step, and steps that it has no frames for, are left out."""
    stream = port.stream
    assert stream is not None
    assert stream.axis is not None
    per = port.type.shape[stream.axis]
    frames = np.moveaxis(clip, stream.axis, 0)
    filler = np.zeros((min(stream.delay, steps * per), *frames.shape[1:]), frames.dtype)
    late = np.concatenate([filler, frames])
    for step in range(first, min(steps, len(late) // per)):
        yield Expected(port.name, step, steps, late[step * per : (step + 1) * per])


class ChunkLaw(Law):
    """Backward directions see the chunk of a step only: step k equals the last frames of the file on k + 1 chunks, as long as
    nothing that is remembered comes out of a backward direction. Where something does, only the first step after a reset has
    a counterpart."""

    @cached_property
    def remembered(self) -> bool:
        """Whether a state depends on a backward direction."""
        marked: set[str] = set()
        for node in self.engine.graph.nodes:
            if node.attrs.get("chunked") or marked.intersection(node.inputs):
                marked.update(node.outputs)
        return any(state.write in marked for state in self.engine.graph.states)

    def start(self, step: int) -> int:
        return step if self.remembered else 0

    @property
    def text(self) -> str:
        chunk = self.engine.frames
        if self.remembered:
            return (
                f"onnxruntime on single chunks of {chunk} frames, the engine reset before each: later layers remember what "
                f"backward directions gave, so longer clips have no counterpart in the file"
            )
        return (
            f"the last {chunk} frames of onnxruntime on 1, 2, ... chunks of {chunk} frames: backward directions start anew at "
            f"the end of each chunk"
        )

    def run(self, signal: Signal, *, noise: bool) -> Outcome:
        for port in self.compared():
            if port.stream is not None and port.stream.delay:
                self.excluded[port.name] = "it lags behind its chunk, and the file pads where the stream waits"
        tracks = self.output_tracks()
        cuts = Cuts(self.engine, signal, self.seed)
        block = _joined(list(cuts.blocks()))
        if self.remembered:
            for step in np.unique(np.linspace(0, len(block) - 1, PREFIXES).astype(int)):
                single = _joined(list(cuts.blocks(int(step), int(step) + 1)))
                self._compare(tracks, single, noise=noise)
        else:
            self._compare(tracks, block, noise=noise)
        return Outcome([t for name, t in tracks.items() if name not in self.excluded], cuts.chunking())

    def _compare(self, tracks: Mapping[str, Track], block: Block, *, noise: bool) -> None:
        again = self._expected(self.other, self.moved(block.inputs, self.seed), len(block)) if noise else None
        self.enter(tracks, block, self._expected(self.session, block.inputs, len(block)), again)

    def _expected(self, session: Calls, inputs: Mapping[str, Array], steps: int) -> Iterator[Expected]:
        oracle = ClipOracle(session, self.view)
        for prefix in prefixes(steps):
            outputs = oracle.run(inputs, prefix * self.engine.frames)
            for port in self.compared():
                value = outputs[port.name]
                if port.stream is not None and port.stream.axis is not None:
                    value = np.moveaxis(value, port.stream.axis, 0)[-port.type.shape[port.stream.axis] :]
                yield Expected(port.name, prefix - 1, prefix, value)


def prefixes(n: int) -> list[int]:
    """1, 2, 3, ... n, at most PREFIXES of them, about evenly spaced by logarithm."""
    return sorted({round(v) for v in np.geomspace(1, n, PREFIXES)} | {min(k, n) for k in (1, 2, 3)})


def _joined(blocks: list[Block]) -> Block:
    def chain(parts: list[dict[str, Array]]) -> dict[str, Array]:
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    states = [state for block in blocks for state in block.states]
    return Block(blocks[0].start, chain([b.inputs for b in blocks]), chain([b.outputs for b in blocks]), states)


def choose_law(
    engine: Engine, session: Calls, other: Calls, seed: int, excluded: dict[str, str], random: tuple[str, ...]
) -> Law:
    """The way to compare this engine with its file."""
    view = FileView(engine)
    kind: type[Law] = CallLaw
    if view.mode == "frame" and not view.cut:
        kind = ChunkLaw if view.lookahead > 1 else ClipLaw
    return kind(engine, session, other, seed, dict(excluded), random)
