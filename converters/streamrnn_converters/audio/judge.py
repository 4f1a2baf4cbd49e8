"""The oracle of `validate` for audio formats: the formula in float64 on the file, and the test that the file brings along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamrnn import Engine
from streamrnn.errors import ModelFileError
from streamrnn.ir.graph import Array
from streamrnn_converters.audio import read_audio
from streamrnn_converters.audio._build import OUTPUT, step_graph
from streamrnn_converters.audio.locate import locate
from streamrnn_converters.audio.model import AudioModel, SelfTest
from streamrnn_converters.audio.oracle import output
from streamrnn_converters.compare import Cuts, Track
from streamrnn_converters.laws import Outcome
from streamrnn_converters.passes import Pipeline
from streamrnn_converters.report import Culprit, Draw
from streamrnn_converters.signals import Signal, nudged

#: runs on differently moved inputs that noise is measured by: where rounding grows without end, one run alone is luck
_PROBES = 4


class AudioOracle:
    """The formula of `oracle` on a file.

    Its noise is what float32 makes of the same formula on an input moved by a unit in the last place: recurrences that
    amplify rounding, and cells that sum without end, show there.
    """

    name = "the float64 formula"
    noise = f"in {_PROBES} runs in float32, with each float of the input moved by a unit in its last place"

    def __init__(self, path: Path, engine: Engine, seed: int) -> None:
        layers, silence = engine.meta.get("layers", ""), engine.meta.get("prewarmed", 0)
        self.model = read_audio(path, str(layers))
        self.silence = silence if isinstance(silence, int) else 0
        self.engine = engine
        self.seed = seed
        self.notes: list[str] = []
        self.excluded: dict[str, str] = {}
        expected = [name for name, _ in self.model.inputs]
        if expected != list(engine.inputs) or set(engine.outputs) != {OUTPUT}:
            raise ModelFileError(f"{path}: the engine has the inputs {list(engine.inputs)}, the file {expected}")

    @property
    def text(self) -> str:
        start = f"after {self.silence} frames of silence" if self.silence else "from the initial state in the file"
        return f"each step with a float64 NumPy reading of the file, written from the format's formula, {start}"

    def run(self, signal: Signal, *, noise: bool) -> Outcome:
        track = Track("output", OUTPUT, np.dtype(np.float32))
        cuts = Cuts(self.engine, signal, self.seed)
        blocks = list(cuts.blocks())
        inputs = {name: np.concatenate([block.inputs[name] for block in blocks]) for name in self.engine.inputs}
        expected = output(self.model, inputs, self.silence).reshape(signal.steps, -1)
        others = [
            output(self.model, nudged(inputs, self.seed + k), self.silence, np.float32).reshape(signal.steps, -1)
            for k in range(_PROBES if noise else 0)
        ]
        for block in blocks:
            for i, found in enumerate(block.outputs[OUTPUT]):
                step = block.start + i
                track.add(step, expected[step], found)
                for other in others:
                    track.add_noise(step, expected[step], other[step])
        return Outcome([track], cuts.chunking())

    def appeal(self, signal: Signal, outcome: Outcome) -> None:
        """The oracle is float64 itself."""

    def draws(self, signal: Signal) -> Sequence[Draw]:
        return ()

    def own_tests(self) -> Sequence[tuple[Signal, Outcome]]:
        test = self.model.self_test
        if test is None:
            return ()
        if len(self.model.inputs) > 1 or self.engine.frames > 1:
            self.notes.append("the test in the file has one number per frame, the model more; it was left out")
            return ()
        return (_own_test(self.model, test),)

    def locate(self, signal: Signal, step: int) -> Culprit | None:
        ours = signal.engine is self.engine
        return locate(self.model if ours else _bare(self.model), self.silence if ours else 0, signal, step)


def _bare(model: AudioModel) -> AudioModel:
    """The layers and the skip, without gains."""
    return replace(model, in_gain=1.0, out_gain=1.0)


def _own_test(model: AudioModel, test: SelfTest) -> tuple[Signal, Outcome]:
    """The file's own test: the layers alone, without gains, from zero state."""
    bare = Engine(step_graph(_bare(model), Pipeline()))

    def frame(port: str, step: int) -> Array:
        return test.input[step : step + 1]

    signal = Signal("file's own", test.input.size, bare, frame, endless=False)
    cuts = Cuts(bare, signal, 0)
    track = Track("output", OUTPUT, np.dtype(np.float32), limit=test.tolerance)
    for block in cuts.blocks():
        for i, found in enumerate(block.outputs[OUTPUT]):
            track.add(block.start + i, test.output[block.start + i], found)
    return signal, Outcome([track], cuts.chunking())
