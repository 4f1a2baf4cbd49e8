"""`validate` passes faithful imports, whatever their kind, and finds what is wrong with others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from contract import floats
from onnx import helper as h
from streamrnn_converters import compare, convert
from streamrnn_converters.compare import Track, difference
from streamrnn_converters.laws import overflowed, prefixes
from streamrnn_converters.report import Report
from streamrnn_converters.signals import nudged
from streamrnn_converters.validate import validate

from streamrnn import Engine, Stream
from streamrnn.errors import InputError, UnsupportedError
from streamrnn.ops.pointwise_table import ROWS


def rows(report: Report, kind: str = "output") -> set[str]:
    return {row.name for row in report.rows if row.kind == kind}


def clip_law(folder: Path, frames: int | str = "T") -> tuple[Path, Any]:
    path = models.two_layers(folder / "clip.onnx", frames)
    return path, convert(path, mode="frame", time_axis={"x": 0})


class TestFaithfulImports:
    def test_a_clip_model_passes_on_every_signal(self, tmp_path: Path) -> None:
        path, graph = clip_law(tmp_path)
        report = validate(path, Engine(graph), steps=1200)
        assert report.passed, report.verdict
        assert rows(report) == {"y", "last"}
        assert {row.signal for row in report.rows} == {"random", "silent", "loud", "impulses"}
        assert all(row.compared == 1200 for row in report.rows if row.name == "y")
        assert all(chunking.block and chunking.random for chunking in report.chunkings)
        assert report.culprit is None
        assert (report.mode, report.delay, report.receptive_field) == ("frame", 0, None)

    def test_onnxruntime_is_measured_against_itself(self, tmp_path: Path) -> None:
        path, graph = clip_law(tmp_path)
        report = validate(path, Engine(graph), steps=20)
        assert all(row.noise is not None for row in report.rows if row.signal == "random")

    def test_states_are_fed_back_from_slices_of_one_output(self, tmp_path: Path) -> None:
        path = models.packed_step(tmp_path / "packed.onnx")
        engine = Engine(convert(path))
        report = validate(path, engine, steps=300)
        assert report.passed, report.verdict
        assert rows(report, "state") == {"h1", "h2"}
        assert "2 states fed back" in report.law
        assert report.state_bytes == engine.state_bytes

    @pytest.mark.parametrize(
        ("conv", "delay"),
        [({"pads": [1, 1]}, 1), ({"pads": [0, 2]}, 2), ({}, 2), ({"strides": [2], "pads": [2, 0]}, 0)],
    )
    def test_answers_and_frames_behind_a_convolution_have_exact_counterparts(
        self, tmp_path: Path, conv: dict[str, Any], delay: int
    ) -> None:
        path = models.conv_gru(tmp_path / "conv.onnx", **conv)
        engine = Engine(convert(path, mode="frame", time_axis={"x": 2}))
        assert engine.delay == delay
        report = validate(path, engine, steps=100)
        assert report.passed, report.verdict
        assert rows(report) == {"y", "last"}
        assert not report.excluded
        assert not report.notes

    def test_a_clip_that_ends_amid_a_step_is_compared_as_far_as_its_steps_go(self, tmp_path: Path) -> None:
        path = models.conv_gru(tmp_path / "odd.onnx", frames=25, strides=[4], pads=[2, 0])
        engine = Engine(convert(path, mode="frame", time_axis={"x": 2}))
        assert engine.frames == 4
        report = validate(path, engine, steps=14)
        assert report.passed, report.verdict
        assert {(row.name, row.compared) for row in report.rows} == {("y", 12), ("last", 2)}

    def test_a_clip_of_prescribed_length_is_run_with_a_reset_before_each(self, tmp_path: Path) -> None:
        path, graph = clip_law(tmp_path, frames=50)
        report = validate(path, Engine(graph), steps=130)
        assert report.passed, report.verdict
        assert {(row.name, row.compared) for row in report.rows} == {("y", 150), ("last", 3)}

    @pytest.mark.parametrize("layers", [1, 2])
    def test_backward_directions_are_compared_chunk_by_chunk(self, tmp_path: Path, layers: int) -> None:
        path = models.both_ways(tmp_path / "both.onnx", layers)
        report = validate(path, Engine(convert(path, mode="frame", time_axis={"x": 0}, lookahead=4)), steps=60)
        assert report.passed, report.verdict
        assert ("single chunks" in report.law) == (layers == 2)

    def test_equal_nan_pass_and_are_told(self, tmp_path: Path) -> None:
        nodes = [h.make_node("Div", ["x", "x"], ["one"]), h.make_node("Add", ["one", "s"], ["t"])]
        table = {"x": [1, 2], "s": [1, 2]}
        path = models.write_model(tmp_path / "nan.onnx", table, {"one": [1, 2], "t": [1, 2]}, nodes, {})
        report = validate(path, Engine(convert(path, mode="window", pair={"s": "t"})), steps=5)
        assert report.passed, report.verdict
        assert any("NaN" in note and "silent" in note for note in report.notes)

    @pytest.mark.parametrize(("name", "options"), [("dtln_pt_1", {}), ("knet_rnn", {})])
    def test_a_model_from_elsewhere_passes(self, models: Path, name: str, options: dict[str, Any]) -> None:
        path = models / "onnx" / f"{name}.onnx"
        report = validate(path, Engine(convert(path, **options)), steps=50)
        assert report.passed, report.verdict


def packed(folder: Path) -> tuple[Path, Any]:
    path = models.packed_step(folder / "packed.onnx")
    return path, convert(path)


def chunked(folder: Path) -> tuple[Path, Any]:
    path = models.both_ways(folder / "both.onnx", 2)
    return path, convert(path, mode="frame", time_axis={"x": 0}, lookahead=4)


class TestFailures:
    @pytest.mark.parametrize(
        ("make", "constant", "node"),
        [
            (clip_law, "two_R", "two"),
            (clip_law, "one_W", "one"),
            (lambda folder: clip_law(folder, 20), "two_W", "two"),
            (packed, "two_W", "two"),
            (packed, "one_R", "one"),
            (chunked, "reverse1_W", "reverse1"),
        ],
    )
    def test_a_wrong_weight_is_found_at_its_node(
        self, tmp_path: Path, make: Callable[[Path], Any], constant: str, node: str
    ) -> None:
        path, graph = make(tmp_path)
        report = validate(path, models.sabotaged(graph, constant), steps=40)
        assert not report.passed
        assert report.culprit is not None
        assert report.culprit.node == node
        assert abs(report.culprit.found - report.culprit.expected) == pytest.approx(report.culprit.max_abs)
        assert report.culprit.max_abs > report.culprit.tolerance
        assert all(apart <= 1e-4 for apart in report.culprit.inputs.values())
        for value in (report.culprit.expected, report.culprit.found):
            assert f"{value:.7g}" in str(report.culprit)

    def test_a_node_inside_the_chosen_branch_of_an_if_is_found(self, tmp_path: Path) -> None:
        path = models.two_rates(tmp_path / "rates.onnx")
        graph = convert(path, mode="window", bind={"rate": 16000})
        assert validate(path, Engine(graph), steps=10).passed
        report = validate(path, models.sabotaged(graph, "wide_W"), steps=10)
        assert report.culprit is not None
        assert (report.culprit.node, report.culprit.op) == ("wide", "GRU")

    def test_a_kernel_bound_wrongly_is_found_at_its_node(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path, graph = clip_law(tmp_path)
        monkeypatch.setitem(ROWS, "Tanh", replace(ROWS["Tanh"], kernels=ROWS["Sigmoid"].kernels))
        report = validate(path, Engine(graph), steps=20)
        assert {row.name for row in report.rows if not row.passed} == {"y"}
        assert report.culprit is not None
        assert (report.culprit.node, report.culprit.op) == ("tanh", "Tanh")

    def test_the_first_bad_step_is_the_one_after_which_a_state_differs(self, tmp_path: Path) -> None:
        path, graph = packed(tmp_path)
        # recurrent weights meet a state that is zero at step 0
        report = validate(path, models.sabotaged(graph, "one_R"), steps=10)
        assert {row.first_bad for row in report.rows if row.name == "h1" and row.signal == "random"} == {1}

    def test_a_changed_bit_in_a_block_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Careless(Stream):
            def process(self, X: Any, out: Any = None) -> Any:
                result = super().process(X, out)
                for value in result.values():
                    value[-1] = np.nextafter(value[-1], np.float32(9))
                return result

        path, graph = clip_law(tmp_path)
        monkeypatch.setattr(compare, "Stream", Careless)
        report = validate(path, Engine(graph), steps=10)
        assert not report.passed
        assert all(row.passed for row in report.rows)
        assert not any(chunking.block or chunking.random for chunking in report.chunkings)

    def test_nothing_to_compare_is_no_success(self, tmp_path: Path) -> None:
        path, graph = clip_law(tmp_path)
        inside = next(node.outputs[0] for node in graph.nodes if node.op == "LSTM")
        report = validate(path, Engine(graph.replace(outputs=(inside,))), steps=10)
        assert not report.passed
        assert "nothing" in report.verdict
        assert report.excluded[inside] == "it is no output of the file"


class TestOracle:
    def test_a_crash_of_the_optimised_session_is_survived_and_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import onnxruntime as ort

        make = ort.InferenceSession

        def fragile(model: Any, options: Any, **rest: Any) -> Any:
            if options.graph_optimization_level != ort.GraphOptimizationLevel.ORT_DISABLE_ALL:
                raise RuntimeError("boom")
            return make(model, options, **rest)

        monkeypatch.setattr(ort, "InferenceSession", fragile)
        path, graph = clip_law(tmp_path)
        report = validate(path, Engine(graph), steps=10)
        assert report.passed
        assert any("boom" in note and "without" in note for note in report.notes)

    def test_a_file_that_onnxruntime_refuses_is_an_error_with_its_message(self, tmp_path: Path) -> None:
        _, graph = clip_law(tmp_path)
        (tmp_path / "junk.onnx").write_bytes(b"junk")
        with pytest.raises(UnsupportedError, match="onnxruntime cannot run the file"):
            validate(tmp_path / "junk.onnx", Engine(graph), steps=5)


class TestGivenSignals:
    def test_a_given_signal_is_one_more(self, tmp_path: Path) -> None:
        path, graph = clip_law(tmp_path)
        engine = Engine(graph)
        shape = engine.inputs["x"].shape
        report = validate(path, engine, steps=10, inputs={"x": floats(1, 25, *shape)})
        assert report.passed
        assert {row.compared for row in report.rows if row.signal == "given" and row.name == "y"} == {25}

    def test_a_given_signal_has_whole_clips(self, tmp_path: Path) -> None:
        path, graph = clip_law(tmp_path, frames=10)
        engine = Engine(graph)
        shape = engine.inputs["x"].shape
        report = validate(path, engine, steps=10, inputs={"x": floats(1, 25, *shape)})
        assert {row.compared for row in report.rows if row.signal == "given" and row.name == "y"} == {20}
        with pytest.raises(InputError, match="clips of 10 frames"):
            validate(path, engine, steps=10, inputs={"x": floats(1, 5, *shape)})

    def test_frames_are_grouped_into_the_steps_of_a_chunk(self, tmp_path: Path) -> None:
        path, graph = chunked(tmp_path)
        report = validate(path, Engine(graph), steps=4, inputs={"x": floats(1, 22, *Engine(graph).inputs["x"].shape[1:])})
        assert {c.steps for c in report.chunkings if c.signal == "given"} == {5}

    def test_samples_are_cut_into_windows(self, tmp_path: Path) -> None:
        path, graph = packed(tmp_path)
        report = validate(path, Engine(graph), steps=4, inputs={"x": floats(1, 3 * 7 + 2)})
        assert {c.steps for c in report.chunkings if c.signal == "given"} == {7}

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({"z": floats(1, 5, 3)}, "takes"),
            ({"x": floats(1, 5, 4, 4)}, "shape"),
            ({"x": np.zeros((5, 1, 3), np.complex64)}, "complex64"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, tmp_path: Path, inputs: dict[str, Any], message: str) -> None:
        path, graph = packed(tmp_path)
        with pytest.raises(InputError, match=message):
            validate(path, Engine(graph), steps=5, inputs=inputs)


class TestMeasures:
    def test_one_sided_nan_is_an_infinite_difference(self) -> None:
        a, b = np.array([np.nan, np.nan, np.inf, np.inf, 1.0]), np.array([np.nan, 1.0, np.inf, -np.inf, 1.5])
        np.testing.assert_array_equal(difference(a, b), [0.0, np.inf, 0.0, np.inf, 0.5])

    def test_integers_must_be_equal(self) -> None:
        track = Track("output", "n", np.dtype(np.int64))
        track.add(0, np.array([1, 2]), np.array([1, 2]))
        assert track.row("s").passed
        track.add(1, np.array([1, 2]), np.array([1, 3]))
        assert track.row("s").first_bad == 1

    def test_half_precision_may_differ_in_its_last_place(self) -> None:
        track = Track("output", "y", np.dtype(np.float16))
        track.add(0, np.array([1.5], np.float16), np.array([1.5 + 2**-10], np.float16))
        assert track.row("s").passed
        track.add(1, np.array([1.5], np.float16), np.array([1.5 + 2**-9], np.float16))
        assert track.row("s").first_bad == 1

    def test_another_number_of_elements_is_a_failure(self) -> None:
        track = Track("output", "n", np.dtype(np.float32))
        track.add(3, np.zeros(2), np.zeros(3))
        assert track.row("s").first_bad == 3

    def test_tolerance_grows_with_the_peak_only_above_one(self) -> None:
        for peak, expected in ((0.01, 1e-4), (50.0, 5e-3)):
            track = Track("output", "y", np.dtype(np.float32))
            track.add(0, np.array([peak]), np.array([peak]))
            assert track.tolerance == pytest.approx(expected)

    def test_what_onnxruntime_itself_answers_to_the_last_bit_of_the_input_decides_nothing(self) -> None:
        track = Track("output", "y", np.dtype(np.float32))
        for step, noise in enumerate((0.0, 1e-2, 0.0)):
            track.add(step, np.zeros(1), np.full(1, 2e-2 if step else 0.0))
            track.add_noise(step, np.zeros(1), np.full(1, noise))
        row = track.row("s")
        assert (row.undecided, row.passed, row.first_bad, row.mark) == (True, False, None, "undecided")

    def test_noise_that_comes_later_excuses_nothing(self) -> None:
        track = Track("output", "y", np.dtype(np.float32))
        for step, noise in enumerate((0.0, 0.0, 1.0)):
            track.add(step, np.zeros(1), np.full(1, 2e-2 if step == 1 else 0.0))
            track.add_noise(step, np.zeros(1), np.full(1, noise))
        assert track.row("s").first_bad == 1

    @pytest.mark.parametrize(
        ("expected", "found", "over"),
        [([1.0, 3e38], [1.0, 3e38], False), ([1.0, np.inf], [1.0, 3e38], True), ([np.nan, np.inf], [np.inf, np.nan], False)],
    )
    def test_an_overflow_ends_the_comparison_once_other_elements_go_first(
        self, expected: list[float], found: list[float], over: bool
    ) -> None:
        assert overflowed({"s": np.array(expected)}, {"s": np.array(found)}) is over

    def test_nan_of_the_file_itself_ends_the_comparison_once_it_reaches_other_states(self) -> None:
        ring, cell = np.array([np.nan, np.nan]), np.zeros(2)
        assert overflowed({"ring": ring, "cell": cell}, {"ring": ring, "cell": ring})
        assert not overflowed({"ring": ring, "cell": cell}, {"ring": ring, "cell": cell})
        assert not overflowed({"ring": cell, "cell": cell}, {"ring": cell, "cell": ring})

    def test_a_nudge_moves_each_float_by_its_last_bit(self) -> None:
        before = {"x": floats(1, 100), "k": np.arange(3)}
        after = nudged(before, 0)
        assert 0 < np.abs(after["x"] / before["x"] - 1).max() <= 2.5e-7
        assert after["x"].dtype == np.float32
        np.testing.assert_array_equal(after["k"], before["k"])

    @pytest.mark.parametrize("n", [1, 2, 3, 10, 1000, 48000])
    def test_prefixes_reach_from_the_first_step_to_the_last(self, n: int) -> None:
        found = prefixes(n)
        assert (found[0], found[-1]) == (1, n)
        assert found == sorted(set(found))
        assert set(found) >= {k for k in (1, 2, 3) if k <= n}


def test_the_file_is_not_changed(tmp_path: Path) -> None:
    path, graph = clip_law(tmp_path)
    before = path.read_bytes()
    validate(path, models.sabotaged(graph, "two_R"), steps=5)
    assert path.read_bytes() == before
    onnx.checker.check_model(str(path))
