"""How the steps of an engine correspond to calls of the file: one class for each way.

CallLaw   one step is one call; states are fed back                    step models, window mode
ClipLaw   frame j of a clip leaves the engine `delay` frames later;    frame mode
          one answer for a clip is the answer so far
ChunkLaw  frame mode with bounded look-ahead, where backward directions start anew at the end of each step's chunk
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from streamrnn import Engine
from streamrnn.errors import InputError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.plan import Port
from streamrnn_converters.answers import Answers
from streamrnn_converters.compare import Block, Cuts, Track
from streamrnn_converters.oracle import ClipOracle, FileView, Session, StepOracle, frames_first
from streamrnn_converters.report import Chunking
from streamrnn_converters.signals import Signal

#: prefixes of a clip on which onnxruntime is run, at most; they are spaced by their logarithm
PREFIXES = 12


@dataclass
class Outcome:
    """What one signal gave."""

    tracks: list[Track]
    chunking: Chunking


@dataclass
class Law(ABC):
    """One way to compare. `plain` is a session without optimisations, to measure onnxruntime against itself.

    excluded: outputs that are not compared, with the reason; grows while signals run.
    """

    engine: Engine
    session: Session
    plain: Session | None
    seed: int
    excluded: dict[str, str] = field(default_factory=dict)

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

    @cached_property
    def view(self) -> FileView:
        return FileView(self.engine)

    def compared(self) -> list[Port]:
        """Outputs that take part."""
        return [port for port in self.engine.plan.outputs if port.name not in self.excluded]

    def output_tracks(self) -> dict[str, Track]:
        return {p.name: Track("output", p.name, not p.type.dtype.is_float) for p in self.compared()}

    def state_tracks(self, names: list[str]) -> dict[str, Track]:
        inits = self.view.inits
        return {n: Track("state", n, inits[n].dtype.kind != "f") for n in names if n in inits and n not in self.excluded}


class CallLaw(Law):
    """Output t of the engine is output of call t of the file."""

    @property
    def text(self) -> str:
        pairs = self.view.pairs(self.session.outputs)
        fed = f", {len(pairs)} state{'s' * (len(pairs) != 1)} fed back" if pairs else ", no state"
        return f"each step with one onnxruntime call of the file{fed}"

    def run(self, signal: Signal, *, noise: bool) -> Outcome:
        oracle = StepOracle(self.session, self.view)
        other = StepOracle(self.plain, self.view) if noise and self.plain else None
        outputs, states = self.output_tracks(), self.state_tracks([p.source for p in oracle.pairs])
        cuts = Cuts(self.engine, signal, self.seed)
        for block in cuts.blocks():
            for i in range(len(block)):
                frame = block.frame(i)
                expected = oracle.step(frame)
                for name, track in outputs.items():
                    track.add(block.start + i, expected[name], block.outputs[name][i])
                for name, track in states.items():
                    track.add(block.start + i, oracle.states[name], block.states[i][name])
                if other is not None:
                    again = other.step(frame)
                    for name, track in outputs.items():
                        track.add_noise(expected[name], again[name])
                    for name, track in states.items():
                        track.add_noise(oracle.states[name], other.states[name])
        return Outcome([*outputs.values(), *states.values()], cuts.chunking())


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
            self._compare(signal, block, tracks, noise=noise and start == 0)
        return Outcome([t for t in tracks.values() if t.steps], cuts.chunking())

    @property
    def _span(self) -> int:
        """Steps from one prescribed clip to the next; the last of them is left out where a clip ends amid a step."""
        assert self.fixed is not None
        return -(-self.fixed // self.engine.frames)

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
        whole = self.fixed // self.engine.frames
        if count == 0 or whole == 0:
            raise InputError(
                f"signal '{signal.name}' has {signal.steps} steps of {self.engine.frames} frames, the file takes clips of "
                f"{self.fixed} frames; give at least {self._span} steps"
            )
        for k in range(count):
            yield k * self._span, k * self._span + whole

    def _compare(self, signal: Signal, block: Block, tracks: dict[str, Track], *, noise: bool) -> None:
        oracle, n = ClipOracle(self.session, self.view), len(block)
        inputs, frames = self.clip(signal, block.start, block.start + n)
        whole = oracle.run(inputs, frames)
        answers = Answers(self.engine, self.session, oracle.feeds(inputs, frames))
        for length in [n] if self.fixed is not None else prefixes(n):
            expected = whole if length == n else self._prefix(oracle, inputs, length)
            if expected is not None:
                self._one(block, tracks, expected, answers, length, amid=frames != n * self.engine.frames)
        if noise and self.plain is not None:
            again = ClipOracle(self.plain, self.view).run(inputs, frames)
            for name, track in tracks.items():
                track.add_noise(whole[name], again[name])

    def _prefix(self, oracle: ClipOracle, inputs: Mapping[str, Array], length: int) -> dict[str, Array] | None:
        try:
            return oracle.run(inputs, length * self.engine.frames)
        except UnsupportedError:
            return None  # shorter than a kernel without padding: the whole clip has run already

    def _one(
        self,
        block: Block,
        tracks: Mapping[str, Track],
        expected: Mapping[str, Array],
        answers: Answers,
        length: int,
        *,
        amid: bool,
    ) -> None:
        """Compare the outputs after `length` steps; `amid`: the file's clip ends some frames later, amid a step."""
        for port in self.compared():
            stream, track = port.stream, tracks[port.name]
            if stream is not None and stream.axis is not None:
                self._frames(port, track, expected[port.name], block, length)
            elif stream is not None and (stream.delay or amid):
                self._answer(port, track, answers, block, length)
            else:
                track.add(block.start + length - 1, expected[port.name], block.outputs[port.name][length - 1])

    def _frames(self, port: Port, track: Track, expected: Array, block: Block, length: int) -> None:
        """Frame j of the prefix is the engine's frame j + delay; before that lies filler, which is zero. Shorter prefixes add
        nothing to the plots, so only the whole clip is entered step by step."""
        stream = port.stream
        assert stream is not None
        assert stream.axis is not None
        per = port.type.shape[stream.axis]
        clip = np.moveaxis(expected, stream.axis, 0)
        found = frames_first(port, block.outputs[port.name][:length])
        filler = np.zeros((min(stream.delay, len(found)), *found.shape[1:]), found.dtype)
        wanted = np.concatenate([filler, clip.reshape(len(clip), *found.shape[1:])])[: len(found)]
        first = 0 if length == len(block) else max(0, len(wanted) // per - 1)
        for step in range(first, len(wanted) // per):
            track.add(block.start + step, wanted[step * per : (step + 1) * per], found[step * per : (step + 1) * per])

    def _answer(self, port: Port, track: Track, answers: Answers, block: Block, length: int) -> None:
        try:
            expected = answers.at(port, length)
        except UnsupportedError as error:
            self.excluded[port.name] = str(error)
            return
        if expected is not None:
            track.add(block.start + length - 1, expected, block.outputs[port.name][length - 1])


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
        oracle, F = ClipOracle(self.session, self.view), self.engine.frames
        if self.remembered:
            for step in np.unique(np.linspace(0, len(block) - 1, PREFIXES).astype(int)):
                single = _joined(list(cuts.blocks(int(step), int(step) + 1)))
                self._add(tracks, oracle.run(single.inputs, F), single, int(step), 0)
        else:
            for length in prefixes(len(block)):
                self._add(tracks, oracle.run(block.inputs, length * F), block, length - 1, length - 1)
        if noise and self.plain is not None:
            first, again = (ClipOracle(s, self.view).run(block.inputs, F) for s in (self.session, self.plain))
            for name, track in tracks.items():
                track.add_noise(first[name], again[name])
        return Outcome([t for t in tracks.values() if t.steps], cuts.chunking())

    def _add(self, tracks: dict[str, Track], expected: Mapping[str, Array], block: Block, step: int, index: int) -> None:
        for port in self.compared():
            value, found = expected[port.name], block.outputs[port.name][index]
            if port.stream is not None and port.stream.axis is not None:
                per = port.type.shape[port.stream.axis]
                value = np.moveaxis(value, port.stream.axis, 0)[-per:]
                found = frames_first(port, found[None])
            tracks[port.name].add(step, value, found)


def prefixes(n: int) -> list[int]:
    """1, 2, 3, ... n, at most PREFIXES of them, about evenly spaced by logarithm."""
    return sorted({round(v) for v in np.geomspace(1, n, PREFIXES)} | {min(k, n) for k in (1, 2, 3)})


def _joined(blocks: list[Block]) -> Block:
    def chain(parts: list[dict[str, Array]]) -> dict[str, Array]:
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    states = [state for block in blocks for state in block.states]
    return Block(blocks[0].start, chain([b.inputs for b in blocks]), chain([b.outputs for b in blocks]), states)


def choose_law(engine: Engine, session: Session, plain: Session | None, seed: int, excluded: dict[str, str]) -> Law:
    """The way to compare this engine with its file."""
    view = FileView(engine)
    kind: type[Law] = CallLaw
    if view.mode == "frame":
        kind = ChunkLaw if view.lookahead > 1 else ClipLaw
    return kind(engine, session, plain, seed, dict(excluded))
