"""Who says what a model file computes: onnxruntime for ONNX, a formula in float64 for audio formats.

`validate` asks an Oracle, whichever the file has, and knows neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from streamrnn import Engine
from streamrnn.errors import UnsupportedError
from streamrnn_converters.audio import is_audio
from streamrnn_converters.draws import judge, random_results
from streamrnn_converters.float64 import BUDGET, Clock, Float64
from streamrnn_converters.grid import MOVED, moved, units
from streamrnn_converters.laws import Law, Outcome, choose_law
from streamrnn_converters.lint.repair import as_judged
from streamrnn_converters.lint.rules import findings_of
from streamrnn_converters.locate import locate
from streamrnn_converters.oracle import FileView, Session
from streamrnn_converters.referee import agrees
from streamrnn_converters.referee import judge as judge_exactly
from streamrnn_converters.report import Culprit, Draw
from streamrnn_converters.signals import Signal, built_in_signals
from streamrnn_converters.surgery import read_model, with_states

#: ways of nudging the input that are tried where the tolerance is left
NUDGES = 5
#: steps of noise on which float64 has to agree with onnxruntime
FIRST_STEPS = 8


class Oracle(Protocol):
    """What a file computes, found without the engine's own code."""

    @property
    def name(self) -> str:
        """Who this is, for sentences: "onnxruntime"."""

    @property
    def text(self) -> str:
        """What is compared with what, in words."""

    @property
    def noise(self) -> str:
        """What the noise in the report is."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader should know before trusting the verdict; grows while signals run."""

    @property
    def excluded(self) -> Mapping[str, str]:
        """Outputs and states that are not compared, each with the reason; grows while signals run."""

    def run(self, signal: Signal, *, noise: bool) -> Outcome:
        """The engine against the oracle on one signal; with `noise`, the oracle against itself too."""

    def appeal(self, signal: Signal, outcome: Outcome) -> None:
        """Where tracks of an outcome leave their tolerance, ask float64 and give them its ruling, if there is one."""

    def draws(self, signal: Signal) -> Sequence[Draw]:
        """Outputs and states that depend on random numbers, judged by their distribution under one signal."""

    def own_tests(self) -> Sequence[tuple[Signal, Outcome]]:
        """What the file itself says about certain signals, compared."""

    def locate(self, signal: Signal, step: int) -> Culprit | None:
        """Where a difference comes from, which `signal` first shows at `step`."""


def oracle_for(path: str | Path, engine: Engine, seed: int, notify: Callable[[str], None] = lambda text: None) -> Oracle:
    """The oracle of the file that `engine` was converted from. Raises what reading the file raises, MissingExtraError."""
    if is_audio(Path(path)):
        from streamrnn_converters.audio.judge import AudioOracle

        return AudioOracle(Path(path), engine, seed)
    return OnnxOracle(path, engine, seed, notify)


class OnnxOracle:
    """onnxruntime on the original file. How steps correspond to its calls is a Law."""

    name = "onnxruntime"
    noise = (
        "without its graph optimisations, with each float of the input moved by a unit in its last place, and where that does "
        f"not explain a difference, with each float in front of a quantiser moved by {MOVED:.1e} of it, or in float64"
    )

    def __init__(self, path: str | Path, engine: Engine, seed: int, notify: Callable[[str], None]) -> None:
        self.notes: list[str] = []
        self._notify = notify
        self._clock = Clock(BUDGET, notify)
        model: str | bytes = as_judged(path, engine.meta)
        if cut := FileView(engine).cut:
            model = with_states(read_model(model), cut)
        for fixed in findings_of(engine.meta, "fixes"):
            self.notes.append(
                f"onnxruntime runs the file with the repair of {fixed.code} at {fixed.where}, not the file as it is"
            )
        session = Session(model, notify=self.notes.append)
        other = self._other(model, session)
        excluded = {name: "it is no output of the file" for name in engine.outputs if name not in session.outputs}
        self.random = tuple(name for name in random_results(engine.graph) if name not in excluded)
        self.law: Law = choose_law(engine, session, other, seed, excluded, self.random)
        grids = units(read_model(model))
        targets = {pair.source: pair.target for pair in self.law.view.pairs(session.outputs)}
        self.law.units = grids | {name: grids[target] for name, target in targets.items() if target in grids}

    def _other(self, model: str | bytes, session: Session) -> Session:
        """The file without graph optimisations, to measure onnxruntime against itself."""
        try:
            return Session(model, optimise=False)
        except UnsupportedError as error:
            self.notes.append(f"onnxruntime runs the file with its graph optimisations alone: {error}")
            return session

    @property
    def text(self) -> str:
        return self.law.text

    @property
    def excluded(self) -> Mapping[str, str]:
        return self.law.excluded

    def run(self, signal: Signal, *, noise: bool) -> Outcome:
        """Once more with other noise, while it explains too little: a model may be so sensitive that one nudge says nothing."""
        outcome = self.law.run(signal, noise=noise)
        for law in self._noisier if noise else ():
            if all(track.row(signal.name).passed or track.row(signal.name).undecided for track in outcome.tracks):
                break
            for track, more in zip(outcome.tracks, law.run(signal, noise=True).tracks, strict=True):
                track.noise = {step: max(track.noise.get(step, 0.0), apart) for step, apart in more.noise.items()}
        return outcome

    @property
    def _noisier(self) -> Iterator[Law]:
        yield from (replace(self.law, other=other) for other in self.rounded)
        yield from (replace(self.law, seed=self.law.seed + k) for k in range(1, NUDGES))

    @cached_property
    def rounded(self) -> list[Session]:
        """The file with quantisers that decide ties upwards, and downwards; none where it has no quantiser."""
        models = (moved(read_model(self.law.session.model), by) for by in (MOVED, -MOVED))
        return [Session(model, optimise=False) for model in models if model is not None]

    @cached_property
    def _float64(self) -> Float64:
        return Float64(self.law.session.model, self._clock)

    @cached_property
    def _believed(self) -> bool:
        first, *_ = built_in_signals(self.law.engine, FIRST_STEPS, self.law.seed)
        return agrees(self.law, self._float64, first)

    def appeal(self, signal: Signal, outcome: Outcome) -> None:
        tracks = [track for track in outcome.tracks if track.beyond()]
        if not tracks or self.rounded:  # in front of a quantiser, the last bit of float64 decides a tie no better
            return
        spent = self._clock.spent
        self._notify(
            f"signal '{signal.name}' leaves the tolerance of onnxruntime; judging both in float64, at most {BUDGET:.0f} s"
        )
        try:
            judge_exactly(self.law, self._float64, signal, tracks, self._believed)
        except UnsupportedError as error:
            outcome.notes.append(f"signal '{signal.name}': float64 does not decide, because {error}")
        self._notify(f"float64 took {self._clock.spent - spent:.0f} s")

    def draws(self, signal: Signal) -> Sequence[Draw]:
        return judge(self.law, signal, self.random) if self.random else ()

    def own_tests(self) -> Sequence[tuple[Signal, Outcome]]:
        return ()

    def locate(self, signal: Signal, step: int) -> Culprit | None:
        return locate(self.law, signal, step)
