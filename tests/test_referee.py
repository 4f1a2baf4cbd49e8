"""Where a comparison leaves its tolerance, the file in float64 says who is right, and excuses nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import onnx_files as files
import pytest
from contract import floats
from lint_files import node
from onnx import helper as h
from onnx import numpy_helper
from onnx_files import BOOL, F32, I64
from rich.console import Console
from streamrnn_converters import convert, oracles
from streamrnn_converters.compare import Track
from streamrnn_converters.float64 import Clock, Float64
from streamrnn_converters.oracle import Session
from streamrnn_converters.page import report_html
from streamrnn_converters.referee import agrees, ruling
from streamrnn_converters.report import Report, report_table
from streamrnn_converters.signals import built_in_signals
from streamrnn_converters.validate import validate

from streamrnn import Engine
from streamrnn.errors import UnsupportedError
from streamrnn.ir.evaluate import evaluate_all
from streamrnn.ir.graph import Array, Graph
from streamrnn.ops.pointwise_table import ROWS

DRIFT_FROM, DRIFT = 20, 2e-3


def quiet(text: str) -> None:
    pass


def exact(path: Path) -> Float64:
    return Float64(path, Clock(60.0, quiet))


@pytest.fixture
def drifting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime that is off from call DRIFT_FROM on, always in the same way, so that its noise shows nothing."""
    run = Session.run

    def drifts(self: Session, feeds: Mapping[str, Array]) -> dict[str, Array]:
        calls = self.__dict__["calls"] = self.__dict__.get("calls", -1) + 1
        found = run(self, feeds)
        return {n: a + np.float32(DRIFT) if calls % 40 >= DRIFT_FROM else a for n, a in found.items()}

    monkeypatch.setattr(Session, "run", drifts)


def packed(folder: Path) -> tuple[Path, Graph]:
    path = models.packed_step(folder / "packed.onnx")
    return path, convert(path)


class TestFloat64:
    def test_a_step_is_the_formula_to_the_last_digits(self, tmp_path: Path) -> None:
        path, graph = packed(tmp_path)
        given = {"x": floats(1, 1, 1, 3), "h1": floats(2, 1, 1, 4), "h2": floats(3, 1, 1, 4)}
        wide = {name: value.astype(np.float64) for name, value in given.items()}
        constants = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in graph.constants.items()}
        reference = evaluate_all(graph.replace(constants=constants), wide)
        found = exact(path).run(given)
        assert {a.dtype for a in found.values()} == {np.dtype(np.float64)}
        np.testing.assert_allclose(found["y"], reference["y"], rtol=1e-13)

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_transposed_convolutions_put_each_group_in_its_place(self, tmp_path: Path, groups: int) -> None:
        how = {"strides": [2, 1], "dilations": [1, 3], "pads": [1, 0, 0, 2], "output_padding": [1, 0], "group": groups}
        nodes = [node("ConvTranspose", "x W b", "y", **how)]
        constants = {"W": floats(4, 4, 3, 3, 2), "b": floats(5, 3 * groups)}
        self._agree(tmp_path, nodes, [1, 4, 5, 6], constants)

    def test_batch_normalization_uses_stored_statistics_in_old_files_too(self, tmp_path: Path) -> None:
        constants = {"s": floats(1, 4), "b": floats(2, 4), "m": floats(3, 4), "v": np.abs(floats(4, 4)) + np.float32(0.1)}
        nodes = [node("BatchNormalization", "x s b m v", "y")]
        self._agree(tmp_path, nodes, [2, 4, 3], constants, opset=11)

    def test_a_loop_sees_what_it_carries_and_stacks_along_a_new_axis(self, tmp_path: Path) -> None:
        body_nodes = [
            node("Mul", "s x", "p"),
            node("Add", "p half", "s2"),
            node("Identity", "c", "go"),
            node("Neg", "s2", "row"),
        ]
        given, results = [("i", I64, []), ("c", BOOL, []), ("s", F32, [1, 3])], [("go", BOOL, []), ("s2", F32, [1, 3])]
        body = files.make(body_nodes, given, [*results, ("row", F32, [1, 3])], {"half": np.float32(0.5)}).graph
        nodes = [h.make_node("Loop", ["n", "", "x"], ["last", "y"], body=body)]
        self._agree(tmp_path, nodes, [1, 3], {"n": np.array(3)})

    def test_a_run_beyond_the_budget_ends_as_soon_as_that_is_foreseeable(self) -> None:
        clock = Clock(10.0, quiet)
        clock.ask(1000)
        clock.check(0.1)
        clock.check(0.1)
        with pytest.raises(UnsupportedError, match="longer than 10 s: about 100 s"):
            clock.check(0.1)

    @staticmethod
    def _agree(folder: Path, nodes: Any, shape: list[int], constants: Mapping[str, Array], opset: int = 17) -> None:
        model = files.make(nodes, [("x", F32, shape)], [("y", F32, None)], constants)
        del model.opset_import[:]
        model.opset_import.append(h.make_opsetid("", opset))
        path, x = files.save(model, folder), floats(7, *shape)
        np.testing.assert_allclose(exact(path).run({"x": x})["y"], Session(path).run({"x": x})["y"], atol=1e-5)


def tracks(engine: list[float], oracle: list[float], apart: list[float]) -> tuple[Track, Track]:
    """A state with tolerance 5e-4: engine against onnxruntime, and (engine, onnxruntime) against float64."""
    first, second = (Track("state", "h", np.dtype(np.float32)) for _ in range(2))
    for step, (a, b, c) in enumerate(zip(apart, engine, oracle, strict=True)):
        first.add(step, np.zeros(1), np.array([a]))
        second.add(step, np.zeros(1), np.array([b]))
        second.add_noise(step, np.zeros(1), np.array([c]))
    return first, second


class TestRuling:
    @pytest.mark.parametrize(
        ("engine", "oracle", "right"),
        [
            ([0, 0, 2e-4], [0, 1e-4, 4.1e-4], "engine"),
            ([0, 0, 6e-4], [0, 1e-4, 9e-4], "neither"),
            ([0, 0, 6e-4], [0, 1e-4, 0], "onnxruntime"),
            ([0, 0, 4.1e-4], [0, 0, 2e-4], "neither"),
            ([0, 6e-4, 2e-4], [0, 1e-4, 9e-4], "neither"),
            ([0, 0, 0], [1, 1, 1], "nobody"),
        ],
    )
    def test_is_for_the_engine_where_it_is_near_float64_and_onnxruntime_is_further(
        self, engine: list[float], oracle: list[float], right: str
    ) -> None:
        first, second = tracks(engine, oracle, [0, 0, 6e-4])
        first.ruling = ruling(first, second)
        assert first.ruling.right == right
        assert first.row("s").passed == (right == "engine")

    def test_nobody_is_believed_about_the_very_first_step(self) -> None:
        assert ruling(*tracks([0.0, 0.0], [6e-4, 0.0], [6e-4, 0.0])).right == "nobody"

    def test_the_very_first_step_is_judged_where_float64_is_believed_for_another_signal(self) -> None:
        assert ruling(*tracks([0.0, 0.0], [6e-4, 0.0], [6e-4, 0.0]), believed=True).right == "engine"
        assert ruling(*tracks([6e-4, 0.0], [0.0, 0.0], [6e-4, 0.0]), believed=True).right == "onnxruntime"

    def test_nothing_follows_for_a_step_that_float64_did_not_reach(self) -> None:
        first, _ = tracks([0, 0, 0], [0, 0, 0], [0, 0, 6e-4])
        _, second = tracks([0, 0], [0, 6e-4], [0, 0])
        assert ruling(first, second).right == "nobody"

    def test_an_onnxruntime_that_grows_does_not_widen_the_tolerance(self) -> None:
        first, second = (Track("state", "h", np.dtype(np.float32)) for _ in range(2))
        for oracle, engine in ((0.0, 0.0), (0.0, 0.0), (1e6, 10.0)):
            first.add(len(first.steps), np.array([oracle]), np.array([engine]))
            second.add_noise(len(second.steps), np.zeros(1), np.array([oracle]))
            second.add(len(second.steps), np.zeros(1), np.array([engine]))
        assert first.tolerance > 10.0
        assert ruling(first, second).right == "neither"

    def test_noise_does_not_excuse_an_engine_that_alone_leaves_float64(self) -> None:
        first, second = tracks([0, 0, 6e-4], [0, 0, 0], [0, 0, 6e-4])
        first.add_noise(2, np.zeros(1), np.array([6e-4]))
        assert first.row("s").undecided
        first.ruling = ruling(first, second)
        assert (first.row("s").undecided, first.row("s").first_bad) == (False, 2)

    def test_what_float64_leaves_open_is_undecided_by_noise(self) -> None:
        first, second = tracks([0, 0, 6e-4], [0, 0, 1e-3], [0, 0, 6e-4])
        first.add_noise(2, np.zeros(1), np.array([6e-4]))
        first.ruling = ruling(first, second)
        assert first.row("s").undecided


def told(report: Report) -> str:
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(report_table(report))
    return console.export_text()


@pytest.mark.usefixtures("drifting")
class TestValidate:
    def test_an_onnxruntime_that_drifts_off_does_not_fail_the_engine_and_all_numbers_are_told(self, tmp_path: Path) -> None:
        path, graph = packed(tmp_path)
        said: list[str] = []
        report = validate(path, Engine(graph), steps=40, notify=said.append)
        assert report.passed, report.verdict
        ruled = [row for row in report.rows if row.ruling is not None]
        assert {row.name for row in ruled} == {"y", "h1", "h2"}
        assert "by float64" in report.verdict
        assert any("judging both in float64, at most" in text for text in said)
        for row in ruled:
            assert row.ruling is not None
            assert row.mark == "referee"
            assert row.ruling.engine < 1e-6 < row.tolerance < row.ruling.oracle
            for number in (row.max_abs, row.ruling.engine, row.ruling.oracle):
                assert f"{number:.2e}" in told(report)
                assert f"{number:.2e}" in report_html(report)
        records = [record for record in json.loads(report.to_json())["rows"] if record["ruling"]]
        assert records[0]["ruling"]["right"] == "engine"
        assert records[0]["passed"]

    @pytest.mark.parametrize("constant", ["one_R", "two_W"])
    def test_a_weight_slightly_off_fails_beside_it(self, tmp_path: Path, constant: str) -> None:
        path, graph = packed(tmp_path)
        weight = graph.constants[constant] * np.float32(1.004)
        report = validate(path, Engine(graph.replace(constants={**graph.constants, constant: weight})), steps=40)
        assert not report.passed
        assert any(row.ruling is not None and row.ruling.right != "engine" for row in report.rows)

    def test_a_kernel_bound_wrongly_fails_beside_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path, graph = packed(tmp_path)
        monkeypatch.setitem(ROWS, "Sigmoid", replace(ROWS["Sigmoid"], kernels=ROWS["Tanh"].kernels))
        assert not validate(path, Engine(graph), steps=40).passed

    def test_a_clip_is_judged_from_its_beginning(self, tmp_path: Path) -> None:
        path = models.two_layers(tmp_path / "clip.onnx")
        graph = convert(path, mode="frame", time_axis={"x": 0})
        assert not validate(path, models.sabotaged(graph, "two_R"), steps=30).passed

    def test_a_file_that_float64_cannot_run_is_told_and_fails(self, tmp_path: Path) -> None:
        nodes = [node("QuickGelu", "x", "y", domain="com.microsoft")]
        model = files.make(nodes, [("x", F32, [1, 3])], [("y", F32, [1, 3])], domains=["com.microsoft"])
        path = files.save(model, tmp_path)
        report = validate(path, Engine(convert(path)), steps=40)
        assert not report.passed
        assert any("float64 does not decide" in note for note in report.notes)

    def test_without_time_nothing_is_excused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(oracles, "BUDGET", 0.0)
        path, graph = packed(tmp_path)
        report = validate(path, Engine(graph), steps=40)
        assert not report.passed
        assert any("longer than 0 s" in note for note in report.notes)


def test_an_engine_that_is_wrong_fails_where_onnxruntime_is_right(tmp_path: Path) -> None:
    path, graph = packed(tmp_path)
    report = validate(path, models.sabotaged(graph, "one_R"), steps=40)
    assert not report.passed
    assert any(row.ruling is not None and row.ruling.right == "onnxruntime" for row in report.rows)
    assert any("onnxruntime is right" in note for note in report.notes)


def test_float64_is_believed_where_onnxruntime_gives_the_same_on_noise(tmp_path: Path) -> None:
    path, graph = packed(tmp_path)
    law = oracles.OnnxOracle(path, Engine(graph), 0, quiet).law
    noise, *_ = built_in_signals(law.engine, 8, 0)
    assert agrees(law, exact(path), noise)
    (tmp_path / "other").mkdir()
    model = onnx.load(path)
    (weight,) = (t for t in model.graph.initializer if t.name == "one_R")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.5), weight.name))
    assert not agrees(law, exact(files.save(model, tmp_path / "other")), noise)


def test_an_underflow_of_onnxruntime_alone_is_told_and_does_not_fail_the_engine(tmp_path: Path) -> None:
    """Its Sigmoid is 0 from about -18 on, where float32 has 1e-8, and the logarithm of that is no number any more."""
    nodes = [
        node("Sigmoid", "x", "s"), node("Log", "s", "l"), node("Max", "l least", "m"), node("Mul", "h half", "k"),
        node("Add", "m k", "h_out"), node("Tanh", "h_out", "y"),
    ]  # fmt: skip
    typed = [[("x", F32, [1, 3]), ("h", F32, [1, 3])], [("y", F32, [1, 3]), ("h_out", F32, [1, 3])]]
    path = files.save(files.make(nodes, *typed, {"least": np.float32(-100), "half": np.float32(0.5)}), tmp_path)
    loud = np.full((6, 1, 3), -30.0, np.float32)
    report = validate(path, Engine(convert(path, mode="window")), inputs={"x": loud[:, 0]}, built_in=False)
    assert report.passed, report.verdict
    underflows = bool((files.run_file(path, {"x": loud[0], "h": np.zeros((1, 3), np.float32)})[1] < -31).any())
    rulings = [row.ruling.right for row in report.rows if row.ruling is not None and row.kind == "state"]
    assert rulings == (["engine"] if underflows else [])


def test_given_inputs_can_be_all_that_is_compared(tmp_path: Path) -> None:
    path, graph = packed(tmp_path)
    engine = Engine(graph)
    inputs = {name: floats(1, 12, *info.shape) for name, info in engine.inputs.items()}
    report = validate(path, engine, inputs=inputs, built_in=False)
    assert {(row.signal, row.compared) for row in report.rows} == {("given", 12)}


def test_onnxruntime_is_further_off_than_the_engine_in_a_model_from_elsewhere(models: Path) -> None:
    path = models / "onnx" / "silero_v4.onnx"
    report = validate(path, Engine(convert(path, bind={"sr": 16000}, shape={"input": (1, 512)})), steps=320)
    assert report.passed, report.verdict
    assert not any(row.first_bad is not None for row in report.rows)
