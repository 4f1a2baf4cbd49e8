"""Recurrent models at a higher rate: their state is read one trained sample back, and what would not be stable is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import audio_files as files
import audio_nam
import numpy as np
import pytest
import soundfile
from contract import floats
from small import recurrent_clip, typed
from streamrnn_converters import convert
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, Stream
from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Graph, Node, Stage
from streamrnn.ir.types import TensorType
from streamrnn.rate import at_rate, interpolation, largest_pole
from streamrnn.resample import resample

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def small(op: str = "LSTM") -> Graph:
    return align(streamify(recurrent_clip(op=op), {"x": 0}))


def played(graph: Graph, x: Any) -> Any:
    """The output, by blocks and by single steps alike."""
    stream = Stream(Engine(graph))
    whole = stream.process(x)
    stream.reset()
    assert np.stack([stream.step(frame) for frame in x]).tobytes() == whole.tobytes()  # type: ignore[arg-type, union-attr]
    return whole


class TestInterpolation:
    @pytest.mark.parametrize("factor", [1.0884, 1.5, 2.1769, 2.5, 3.9, 4.35])
    def test_cubics_are_met_exactly(self, factor: float) -> None:
        first, weights = interpolation(factor)
        for power in range(4):
            met = sum(w * (first + k) ** power for k, w in enumerate(weights))
            assert met == pytest.approx(factor**power)

    @pytest.mark.parametrize("factor", [2.1, 2.9, 3.5, 7.25])
    def test_the_wanted_delay_lies_between_the_middle_two(self, factor: float) -> None:
        first, weights = interpolation(factor)
        assert first + 1 <= factor <= first + 2
        assert len(weights) == 4

    @pytest.mark.parametrize("factor", [1, 2, 4])
    def test_whole_factors_are_plain_delays(self, factor: int) -> None:
        assert interpolation(factor) == (factor, (1.0,))


class TestDelayedState:
    @pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
    @pytest.mark.parametrize("factor", [2, 3])
    def test_at_a_whole_factor_interleaved_signals_are_independent(self, op: str, factor: int) -> None:
        """Sample n sees the state of sample n - factor alone: every factor-th sample is a signal at the trained rate."""
        graph = small(op)
        x = floats(5, 12 * factor, 3)
        fast = played(at_rate(graph, factor), x)
        for phase in range(factor):
            np.testing.assert_array_equal(fast[phase::factor], played(graph, x[phase::factor]))

    @pytest.mark.parametrize("factor", [1.25, 2.5])
    def test_a_fraction_follows_the_formula(self, factor: float) -> None:
        """An Elman cell by hand: h[n] = tanh(W x[n] + R (sum of weights times past h) + b)."""
        graph = small("RNN")
        first, weights = interpolation(factor)
        c = {name: np.asarray(a, float) for name, a in graph.constants.items()}
        W, R, b = c["W"][0], c["R"][0], c["B"][0].reshape(2, -1).sum(0)
        x = floats(6, 40, 3).astype(float)
        past = [np.zeros(len(R))] * 8
        expected = []
        for frame in x:
            mixed = sum(w * past[-(first + k)] for k, w in enumerate(weights))
            past.append(np.tanh(W @ frame + R @ mixed + b))
            expected.append(past[-1] @ c["K"] + c["k"])
        np.testing.assert_allclose(played(at_rate(graph, factor), floats(6, 40, 3)), expected, atol=2e-6)

    def test_the_initial_state_holds_for_all_that_lies_before(self, tmp_path: Path) -> None:
        graph = convert(files.write(tmp_path / "amp.nam", audio_nam.lstm(1)))
        for state, line in zip(graph.states, at_rate(graph, 2.5).states, strict=True):
            np.testing.assert_array_equal(line.init, np.tile(state.init.reshape(1, -1), (4, 1)))

    def test_the_model_s_own_rate_changes_nothing(self) -> None:
        graph = small()
        assert at_rate(graph, 1.0) is graph

    def test_the_rates_are_in_the_file(self, tmp_path: Path) -> None:
        graph = convert(files.write(tmp_path / "amp.nam", audio_nam.lstm()))
        meta = at_rate(graph, 96000 / 48000).meta
        assert (meta["trained_rate"], meta["sample_rate"]) == (48000, 96000)


class TestListening:
    """The guitar through the example amp: at a higher rate with the state delayed, it is what it is at its own rate."""

    @pytest.mark.parametrize("rate", [96000, 64000, 52000])
    def test_the_amp_sounds_as_at_its_own_rate(self, rate: int) -> None:
        guitar, own = soundfile.read(EXAMPLES / "audio" / "guitar_48k.wav", dtype="float32", frames=24000)
        graph = convert(EXAMPLES / "models" / "amp.onnx")

        def amp(g: Graph, x: Any) -> Any:
            return Stream(Engine(g)).process({"audio": x[:, None], "drive": np.full((len(x), 1), 0.6, np.float32)})[:, 0]  # type: ignore[call-overload, index]

        def error(y: Any) -> float:
            """Energy of the difference over that of the signal (error-to-signal ratio)."""
            inner = slice(500, len(reference) - 500)
            return float(np.sum((y[inner] - reference[inner]) ** 2) / np.sum(reference[inner] ** 2))

        reference = amp(graph, guitar)
        fast = resample(guitar, own, rate)
        ignored = error(resample(amp(graph, fast), rate, own))
        delayed = error(resample(amp(at_rate(graph, rate / own, {"drive": 0.6}), fast), rate, own))
        assert delayed < 5e-4
        assert ignored > 10 * delayed


class TestRefusals:
    def test_lower_rates_are(self) -> None:
        with pytest.raises(UnsupportedError, match="resample"):
            at_rate(small(), 0.9)

    def test_the_past_of_a_convolution_is(self, tmp_path: Path) -> None:
        graph = convert(files.write(tmp_path / "amp.nam", audio_nam.wavenet()))
        with pytest.raises(UnsupportedError, match="is not that of a recurrent layer"):
            at_rate(graph, 2.0)

    def test_a_recurrence_that_an_interpolator_would_tip_over_is(self) -> None:
        """h[n] = -0.99 h[n - 1] + x[n] near zero: stable, alternating; between samples an alternation is amplified."""
        graph = alternating(-0.99)
        assert largest_pole(graph, 1.0) == pytest.approx(0.99, abs=1e-4)
        assert largest_pole(graph, 2.0) == pytest.approx(0.99**0.5, abs=1e-4)
        assert largest_pole(graph, 1.5) > 1.0
        with pytest.raises(UnsupportedError, match="not be stable"):
            at_rate(graph, 1.5)
        engine = Engine(at_rate(graph, 2.0))
        assert np.abs(Stream(engine).process(np.zeros((50, 1), np.float32))).max() == 0  # type: ignore[arg-type]

    def test_what_is_refused_would_have_grown(self) -> None:
        """The bound is no formality: the same recurrence, delayed all the same, leaves silence for good."""
        e, first, weights = -0.99, *interpolation(1.5)
        past = [1e-6] + [0.0] * 8
        for _ in range(3000):
            past.insert(0, np.tanh(e * sum(w * past[first + k - 1] for k, w in enumerate(weights))))
        assert abs(past[0]) > 0.01


def alternating(weight: float) -> Graph:
    """An Elman cell of one unit with this recurrent weight."""
    constants = {
        "W": np.ones((1, 1, 1), np.float32), "R": np.full((1, 1, 1), weight, np.float32), "B": np.zeros((1, 2), np.float32),
        "one": np.array([1]),
    }  # fmt: skip
    nodes = (
        Node("RNN", "cell", ("x", "W", "R", "B"), ("all",), {"hidden_size": 1}),
        Node("Squeeze", "squeeze", ("all", "one"), ("y",)),
    )
    types = {"x": TensorType.of(np.zeros((6, 1, 1), np.float32))}
    return align(streamify(typed(Graph("tilt", Stage.SEQUENCE, ("x",), ("y",), nodes, types, constants)), {"x": 0}))
