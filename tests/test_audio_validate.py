"""`validate` judges audio formats by a float64 formula and by the file's own test, and finds what is wrong with an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import audio_files as files
import audio_formulas as formulas
import audio_nam
import models
import numpy as np
import pytest
from streamrnn_converters import convert
from streamrnn_converters.audio import read_audio
from streamrnn_converters.audio.oracle import output
from streamrnn_converters.bench import ort_step
from streamrnn_converters.report import Report
from streamrnn_converters.validate import validate

from streamrnn import Engine, Stream
from streamrnn.errors import ModelFileError

Json = dict[str, Any]


def report_of(path: Path, steps: int = 150, **options: Any) -> Report:
    return validate(path, Engine(convert(path, **options)), steps=steps)


def self_tested(wrong: float = 0.0) -> Json:
    """An AIDA-X file with a test of its own: the layers and the skip, without gains."""
    data = files.aidax(in_skip=1, in_gain=6.0, out_gain=-4.0)
    x = np.random.default_rng(5).normal(0, 0.3, 80).astype(np.float32).astype(float)
    y = formulas.rtneural(data, x[:, None])[:, 0] + x
    y[40] += wrong
    return {**data, "input_batch": x.tolist(), "output_batch": y.tolist()}


FILES: dict[str, Callable[[], Json]] = {
    "rtneural": lambda: files.rtneural_models()["conv1d"],
    "conv2d": lambda: files.rtneural_models()["conv2d"],
    "strided": lambda: files.rtneural_models()["strided"],
    "aidax": self_tested,
    "guitarml": lambda: files.guitarml(inputs=2),
    "guitarml gru": lambda: files.guitarml("GRU"),
    "nam lstm": audio_nam.lstm,
    "nam wavenet of all": audio_nam.wavenet_of_all,
    "nam sequential": audio_nam.sequential,
}


class TestFaithful:
    @pytest.mark.parametrize("name", FILES)
    def test_an_import_passes_on_every_signal_and_says_who_judged(self, tmp_path: Path, name: str) -> None:
        report = report_of(files.write(tmp_path / "m.json", FILES[name]()))
        assert report.passed, report.verdict
        assert report.oracle == "the float64 formula"
        assert "float64" in report.law
        assert "float64 formula" in report.verdict
        assert {row.signal for row in report.rows} >= {"random", "silent", "loud", "impulses"}
        assert {row.compared for row in report.rows if row.signal != "file's own"} == {150}
        assert all(chunking.block and chunking.random for chunking in report.chunkings)
        assert all(row.noise is not None for row in report.rows if row.signal == "random")

    def test_a_torch_state_dict_is_read_again_with_the_topology_it_was_given(self, tmp_path: Path) -> None:
        state, layers = files.torch_state()
        assert report_of(files.write(tmp_path / "m.json", state), layers=layers).passed

    def test_a_prewarmed_import_is_judged_behind_the_same_silence(self, tmp_path: Path) -> None:
        data = {**audio_nam.lstm(1), "sample_rate": 4000}
        report = report_of(files.write(tmp_path / "amp.nam", data), prewarm=True)
        assert report.passed, report.verdict
        assert "2000 frames of silence" in report.law

    def test_the_file_s_own_test_runs_without_gains(self, tmp_path: Path) -> None:
        report = report_of(files.write(tmp_path / "amp.json", self_tested()))
        own = [row for row in report.rows if row.signal == "file's own"]
        assert [(row.compared, row.passed, row.tolerance) for row in own] == [(80, True, 1e-5)]

    def test_the_formula_of_the_package_is_the_formula_of_the_description(self, tmp_path: Path) -> None:
        data = audio_nam.wavenet_of_all()
        x = np.random.default_rng(3).normal(0, 0.5, (50, 1))
        mine = output(read_audio(files.write(tmp_path / "m.nam", data)), {"audio": x})
        np.testing.assert_allclose(mine, audio_nam.nam(data, x), rtol=1e-6, atol=1e-6)


class TestFailures:
    @pytest.mark.parametrize(
        ("name", "constant", "node"),
        [
            ("nam lstm", "lstm.R", "lstm"),
            ("nam lstm", "lstm.W_1", "lstm_1"),
            ("nam lstm", "dense.bias", "dense"),
            ("aidax", "dense.bias", "dense"),
            ("aidax", "out_gain.factor", "out_gain"),
            ("rtneural", "conv.weight", "conv"),
            ("rtneural", "conv.weight_1", "conv_1"),
            ("conv2d", "conv2d.weight_1", "channels_1"),
            ("strided", "conv.bias_1", "conv_1"),
            ("guitarml gru", "gru.R", "gru"),
            ("nam wavenet of all", "layer.weight_1", "residual_1"),
            ("nam wavenet of all", "head.weight", "head"),
        ],
    )
    def test_a_wrong_weight_fails_and_its_layer_is_named_with_both_values(
        self, tmp_path: Path, name: str, constant: str, node: str
    ) -> None:
        path = files.write(tmp_path / "m.json", FILES[name]())
        report = validate(path, models.sabotaged(convert(path), constant), steps=100)
        assert not report.passed
        assert any(row.first_bad is not None for row in report.rows)
        culprit = report.culprit
        assert culprit is not None
        assert culprit.node == node
        assert abs(culprit.found - culprit.expected) == pytest.approx(culprit.max_abs)
        assert culprit.max_abs > culprit.tolerance
        assert f"is {culprit.found:.7g}, the float64 formula has {culprit.expected:.7g}" in str(culprit)

    def test_a_file_that_fails_its_own_test_fails(self, tmp_path: Path) -> None:
        report = report_of(files.write(tmp_path / "amp.json", self_tested(wrong=1e-3)))
        assert not report.passed
        assert [(row.signal, row.first_bad) for row in report.rows if not row.passed] == [("file's own", 40)]
        assert "agree with the float64 formula" in str(report.culprit)

    def test_another_model_s_engine_is_refused(self, tmp_path: Path) -> None:
        one = files.write(tmp_path / "one.json", files.guitarml(inputs=2))
        other = files.write(tmp_path / "other.json", files.guitarml(inputs=1))
        with pytest.raises(ModelFileError, match="the engine has the inputs"):
            validate(one, Engine(convert(other)), steps=5)

    def test_a_recurrence_that_amplifies_rounding_decides_nothing(self, tmp_path: Path) -> None:
        """A GRU pushed into chaos: float32 leaves any float64 path, so that the row is undecided and not failed."""
        d = files.Dice(3)
        rng = np.random.default_rng(0)
        wild = files.layer("gru", 8, [d.list(1, 24), (rng.normal(0, 6, (8, 24))).tolist(), d.list(2, 24)])
        report = report_of(files.write(tmp_path / "wild.json", files.rtneural([wild, files.dense(d, 8, 1)])), steps=400)
        assert all(row.first_bad is None for row in report.rows)
        assert any(row.undecided for row in report.rows)


@pytest.mark.parametrize("name", ["nam lstm", "nam wavenet of all", "guitarml", "conv2d"])
def test_onnxruntime_on_the_written_step_model_agrees_too(tmp_path: Path, name: str) -> None:
    """A second, quite different judge: the step graph as an ONNX model, its states fed back."""
    path = files.write(tmp_path / "m.json", FILES[name]())
    engine = Engine(convert(path))
    beside, stream = ort_step(path, engine), Stream(engine)
    shapes = {port.name: port.type.shape for port in engine.plan.inputs}
    rng = np.random.default_rng(4)
    for _ in range(40):
        frame = {key: rng.normal(0, 0.5, port.shape).astype(np.float32) for key, port in engine.inputs.items()}
        expected = beside.step({key: value.reshape(shapes[key]) for key, value in frame.items()})[beside.outputs["output"]]
        found = stream.step(frame if len(frame) > 1 else next(iter(frame.values())))
        np.testing.assert_allclose(np.ravel(found), np.ravel(expected), atol=3e-6)  # type: ignore[arg-type]
