"""Files that onnxruntime's quantisers and its optimiser write convert and pass; what is wrong in them is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import quantised
from onnx import TensorProto, numpy_helper
from onnx import helper as h
from onnx_files import make, run_file, save
from quantised import Tool, attention, convolution, dynamic, ops_of, recurrent, saved, static
from streamrnn_converters import convert
from streamrnn_converters.bench import ort_step
from streamrnn_converters.compare import UNIT_SHARE, Track
from streamrnn_converters.grid import MOVED, Unit, moved, units
from streamrnn_converters.importer import Mode
from streamrnn_converters.lint.rules import findings_of
from streamrnn_converters.report import Report
from streamrnn_converters.validate import validate

from streamrnn import Engine, NotStreamableError, Stream, UnsupportedError
from streamrnn.ir.graph import Array

F32 = TensorProto.FLOAT


def judged(path: Path, mode: Mode = "auto", steps: int = 60) -> Report:
    return validate(path, Engine(convert(path, mode=mode)), steps=steps)


def altered(path: Path, weight: str, units_off: int) -> Engine:
    """The engine of a file in which one element of a quantised weight is a few units off."""
    model = onnx.load(path)
    (tensor,) = (t for t in model.graph.initializer if t.name == weight)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[3] += units_off if values.flat[3] < 100 else -units_off
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return Engine(convert(save(model, path.parent, "altered.onnx")))


class TestDynamicQuantisation:
    @pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
    @pytest.mark.parametrize(
        "tool",
        [
            dynamic("QInt8"),
            dynamic("QUInt8", per_channel=True),
            dynamic("QInt8", per_channel=True, reduce_range=True),
        ],
    )  # fmt: skip
    def test_cells_and_layers_run_frame_by_frame(self, tmp_path: Path, op: str, tool: Tool) -> None:
        path = tool(recurrent(tmp_path, op))
        assert {"DynamicQuantizeLinear", "MatMulInteger", "DynamicQuantizeLSTM" if op == "LSTM" else op} <= ops_of(path)
        report = judged(path)
        assert report.passed, report.verdict
        assert report.mode == "frame"
        assert "the cells' states were made inputs and outputs" in report.law
        assert {row.name for row in report.rows if row.kind == "output" and row.signal == "random" and row.passed} == {"y"}

    def test_frames_of_any_range_have_the_grid_that_a_call_for_each_of_them_has(self, tmp_path: Path) -> None:
        quantise = h.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="quantise")
        nodes = [quantise, h.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="real")]
        path = save(make(nodes, [("x", F32, ["T", 4])], [("y", F32, ["T", 4])]), tmp_path)
        stream = Stream(Engine(convert(path, mode="frame", time_axis={"x": 0})))
        x = (
            np.random.default_rng(1).standard_normal((40, 4)).astype(np.float32)
            * np.geomspace(0.01, 100, 40, dtype=np.float32)[:, None]
        )
        expected = np.concatenate([run_file(path, {"x": frame[None]})[0] for frame in x])
        np.testing.assert_array_equal(stream.process(x), expected)
        assert not np.array_equal(run_file(path, {"x": x})[0], expected)

    def test_lint_says_that_each_step_has_a_grid_of_its_own(self, tmp_path: Path) -> None:
        path = dynamic("QInt8")(recurrent(tmp_path, "LSTM"))
        (found,) = (f for f in findings_of(convert(path).meta) if f.code == "SR304")
        assert "cell_quant" in found.where

    @pytest.mark.parametrize(("make_file", "op"), [(attention, "MatMulInteger"), (lambda p: convolution(p, 9), "ConvInteger")])
    def test_a_call_for_a_window_is_quantised_as_in_the_file(
        self, tmp_path: Path, make_file: Callable[[Path], Path], op: str
    ) -> None:
        path = dynamic("QInt8")(make_file(tmp_path))
        assert op in ops_of(path)
        report = judged(path, "window")
        assert report.passed, report.verdict

    def test_a_convolution_over_time_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        path = dynamic("QInt8")(convolution(tmp_path))
        with pytest.raises(
            NotStreamableError, match=r"\(ConvInteger\): it remembers frames on the grid of X.*nodes_to_exclude"
        ):
            convert(path, mode="frame", time_axis={"x": 2})

    def test_integers_of_a_passing_grid_are_not_remembered(self, tmp_path: Path) -> None:
        """A pool over time of integers, whose scale is another one at each step."""
        nodes = [
            h.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="quantise"),
            h.make_node("MaxPool", ["q"], ["p"], name="pool", kernel_shape=[3], pads=[2, 0]),
            h.make_node("DequantizeLinear", ["p", "s", "z"], ["y"], name="real"),
        ]
        path = save(make(nodes, [("x", F32, [1, 4, "T"])], [("y", F32, [1, 4, "T"])]), tmp_path)
        with pytest.raises(NotStreamableError, match=r"'pool' \(MaxPool\): remembers 'q'.*grid that each step makes anew"):
            convert(path, mode="frame", time_axis={"x": 2})

    def test_filler_amid_a_step_is_not_quantised_with_its_frames(self, tmp_path: Path) -> None:
        """Look-ahead by one frame, two frames a step."""
        nodes = [
            h.make_node("Conv", ["x", "K"], ["c"], name="ahead", pads=[0, 1], kernel_shape=[2]),
            h.make_node("DynamicQuantizeLinear", ["c"], ["q", "s", "z"], name="quantise"),
            h.make_node("DequantizeLinear", ["q", "s", "z"], ["r"], name="real"),
            h.make_node("Conv", ["r", "K"], ["y"], name="halve", strides=[2], kernel_shape=[2]),
        ]
        model = make(nodes, [("x", F32, [1, 4, "T"])], [("y", F32, [1, 4, None])], {"K": np.ones((4, 4, 2), np.float32)})
        with pytest.raises(NotStreamableError, match=r"'quantise'.*2 frames, and the first real ones come amid a step"):
            convert(save(model, tmp_path), mode="frame", time_axis={"x": 2})

    def test_states_of_a_quantised_cell_in_a_step_model_are_traced(self, tmp_path: Path) -> None:
        cell, constants = models.cell("LSTM", "cell", "x", 3, 5, 10, h0="h")
        cell.input.append("c")
        cell.output.append("cell_memory")
        ports = {"x": [1, 1, 3], "h": [1, 1, 5], "c": [1, 1, 5]}
        shapes = {"cell_last": [1, 1, 5], "cell_memory": [1, 1, 5]}
        path = dynamic("QInt8")(models.write_model(tmp_path / "step.onnx", ports, shapes, [cell], constants))
        graph = convert(path)
        assert graph.meta["pairs"] == [["h", "cell_last", "traced"], ["c", "cell_memory", "traced"]]
        report = validate(path, Engine(graph), steps=60)
        assert report.passed, report.verdict

    def test_a_ring_beside_it_cannot_be_judged_and_says_so(self, tmp_path: Path) -> None:
        nodes = [
            h.make_node("Conv", ["x", "K"], ["c"], name="conv", pads=[2, 0]),
            h.make_node("DynamicQuantizeLinear", ["c"], ["q", "s", "z"], name="quantise"),
            h.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="real"),
        ]
        model = make(nodes, [("x", F32, [1, 4, "T"])], [("y", F32, [1, 4, "T"])], {"K": np.ones((4, 4, 3), np.float32)})
        path = save(model, tmp_path)
        engine = Engine(convert(path, mode="frame", time_axis={"x": 2}))
        with pytest.raises(UnsupportedError, match=r"'quantise' \(DynamicQuantizeLinear\).*'conv.window' \(Window\) remembers"):
            validate(path, engine, steps=5)

    @pytest.mark.parametrize("weight", ["cell_R_quantized", "K_quantized"])
    def test_a_weight_that_is_a_few_units_off_is_found(self, tmp_path: Path, weight: str) -> None:
        path = dynamic("QInt8")(recurrent(tmp_path, "LSTM"))
        report = validate(path, altered(path, weight, 4), steps=60)
        assert not report.passed, report.verdict

    def test_the_step_model_for_onnxruntime_has_the_quantised_cell(self, tmp_path: Path) -> None:
        path = dynamic("QInt8")(recurrent(tmp_path, "LSTM"))
        engine = Engine(convert(path))
        oracle, stream = ort_step(path, engine), Stream(engine)
        for frame in np.random.default_rng(3).standard_normal((20, quantised.I)).astype(np.float32):
            expected = oracle.step({"x": frame.reshape(1, 1, -1)})[oracle.outputs["y"]]
            np.testing.assert_allclose(stream.step(frame), expected.ravel(), atol=1e-5)


class TestStaticQuantisation:
    @pytest.mark.parametrize("layout", ["QDQ", "QOperator"])
    @pytest.mark.parametrize(
        ("numbers", "weights", "per_channel"),
        [("QUInt8", "QInt8", False), ("QInt8", "QInt8", True), ("QUInt8", "QUInt8", False)],
    )
    def test_convolutions_run_frame_by_frame_and_end_on_a_grid(
        self, tmp_path: Path, layout: str, numbers: str, weights: str, per_channel: bool
    ) -> None:
        path = static(layout, numbers, weights, per_channel=per_channel)(convolution(tmp_path))
        assert ("QLinearConv" in ops_of(path)) == (layout == "QOperator")
        report = judged(path)
        assert report.passed, report.verdict
        assert report.mode == "frame"
        assert all(row.unit > 1e-3 and row.grid.endswith("(DequantizeLinear)") for row in report.rows if row.name == "y")

    @pytest.mark.parametrize("layout", ["QDQ", "QOperator"])
    @pytest.mark.parametrize("numbers", ["QUInt8", "QInt8"])
    def test_attention_passes(self, tmp_path: Path, layout: str, numbers: str) -> None:
        report = judged(static(layout, numbers)(attention(tmp_path)))
        assert report.passed, report.verdict

    @pytest.mark.parametrize("layout", ["QDQ", "QOperator"])
    @pytest.mark.parametrize(("weight", "units_off"), [("aK", 4), ("G", 4)])
    def test_a_weight_that_is_a_few_units_off_is_found(self, tmp_path: Path, layout: str, weight: str, units_off: int) -> None:
        path = static(layout, "QUInt8")(convolution(tmp_path))
        report = validate(path, altered(path, f"{weight}_quantized", units_off), steps=60)
        assert not report.passed, report.verdict


class TestSavedByTheOptimiser:
    @pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
    @pytest.mark.parametrize(
        ("make_file", "op"),
        [
            (lambda p: recurrent(p, "RNN"), "RNN"),
            (lambda p: recurrent(p, "LSTM"), "LSTM"),
            (convolution, "GRU"),
            (attention, "Gelu|Erf"),
            (lambda p: dynamic("QInt8")(attention(p)), "DynamicQuantizeMatMul|MatMulInteger"),
            (lambda p: dynamic("QInt8")(recurrent(p, "LSTM")), "DynamicQuantizeLSTM"),
            (lambda p: static("QDQ", "QUInt8", per_channel=True)(convolution(p)), "QLinearConv|Conv"),
            (lambda p: static("QOperator", "QInt8")(convolution(p)), "QLinearConv"),
            (lambda p: static("QDQ", "QUInt8")(attention(p)), "QLinearSoftmax|Softmax"),
        ],
        ids=[
            "RNN",
            "LSTM",
            "conv",
            "attention",
            "dynamic attention",
            "dynamic LSTM",
            "QDQ conv",
            "QLinear conv",
            "QDQ attention",
        ],
    )
    def test_its_files_pass(self, tmp_path: Path, level: str, make_file: Callable[[Path], Path], op: str) -> None:
        path = saved(level)(make_file(tmp_path))
        assert set(op.split("|")) & ops_of(path)
        report = judged(path, steps=40)
        assert report.passed, report.verdict


class TestGridUnits:
    @staticmethod
    def tail(*nodes: onnx.NodeProto, **constants: Array) -> onnx.ModelProto:
        quantise = h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantise")
        scales = {"s": np.array(0.25, np.float32), "z": np.array(3, np.uint8), **constants}
        model = make([quantise, *nodes], [("x", F32, [4])], [], scales)
        model.graph.output.append(onnx.ValueInfoProto(name="y"))
        return model

    def test_the_unit_comes_from_the_node_that_makes_the_output(self) -> None:
        real = h.make_node("DequantizeLinear", ["q", "s", "z"], ["r"], name="real")
        moves = h.make_node("Identity", ["r"], ["y"])
        assert units(self.tail(real, moves)) == {"y": Unit(0.25, "node 'real' (DequantizeLinear)")}
        assert units(self.tail(h.make_node("Identity", ["q"], ["y"]))) == {"y": Unit(1.0, "node 'quantise' (QuantizeLinear)")}

    def test_nothing_else_has_a_unit(self) -> None:
        real = h.make_node("DequantizeLinear", ["q", "s", "z"], ["r"], name="real")
        per_element = {"w": np.full(4, 0.25, np.float32), "v": np.zeros(4, np.uint8)}
        for nodes, constants in (
            ((real, h.make_node("Tanh", ["r"], ["y"])), {}),
            ((h.make_node("Cast", ["q"], ["y"], to=F32),), {}),
            ((h.make_node("DequantizeLinear", ["q", "w", "v"], ["y"], axis=0),), per_element),
            ((h.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),), {"c": np.zeros(4, np.uint8)}),
        ):
            assert units(self.tail(*nodes, **constants)) == {}

    def test_a_tie_goes_up_in_one_moved_file_and_down_in_the_other(self, tmp_path: Path) -> None:
        model = self.tail(h.make_node("Identity", ["q"], ["y"]))
        x = np.array([0.375, 0.5, -0.375, 0.3], np.float32)
        found = []
        for by in (MOVED, -MOVED):
            changed = moved(model, by)
            assert changed is not None
            (tmp_path / "moved.onnx").write_bytes(changed)
            found.append(run_file(tmp_path / "moved.onnx", {"x": x})[0].tolist())
        assert found == [[4, 5, 2, 4], [5, 5, 1, 4]]
        ranged = [h.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"], name="ranged")]
        whole = make(ranged, [("x", F32, [4])], [])
        whole.graph.output.append(onnx.ValueInfoProto(name="y"))
        x = np.array([0.0, 255.0, 0.5, 1.5], np.float32)
        for by, expected in ((MOVED, [0, 255, 0, 1]), (-MOVED, [0, 255, 1, 2])):
            changed = moved(whole, by)
            assert changed is not None
            (tmp_path / "moved.onnx").write_bytes(changed)
            assert run_file(tmp_path / "moved.onnx", {"x": x})[0].tolist() == expected
        assert moved(make([h.make_node("Tanh", ["x"], ["y"])], [("x", F32, [4])], [("y", F32, [4])]), MOVED) is None

    @pytest.mark.parametrize(
        ("off", "share", "mark"),
        [(0.25, 0.01, "ok"), (0.25, 0.05, "undecided"), (0.5, 0.01, "0"), (0.1, 0.01, "0"), (np.nan, 0.01, "0")],
    )
    def test_few_elements_may_be_exactly_one_unit_off(self, off: float, share: float, mark: str) -> None:
        assert 0.01 < UNIT_SHARE < 0.05
        track = Track("output", "y", np.dtype(np.float32), unit=Unit(0.25, "node 'real' (DequantizeLinear)"))
        expected = np.zeros(1000, np.float32)
        found = expected.copy()
        found[: int(share * 1000)] = off
        track.add(0, expected, found)
        row = track.row("s")
        assert row.mark == mark
        assert row.passed == (mark == "ok")
        assert row.allowed == "1.00e-04 or 1 unit of 2.50e-01"
        assert row.grid == "node 'real' (DequantizeLinear)"

    def test_a_fine_grid_within_the_tolerance_needs_no_unit(self) -> None:
        track = Track("output", "y", np.dtype(np.float32), unit=Unit(1e-5, "node 'real' (DequantizeLinear)"))
        track.add(0, np.zeros(10), np.full(10, 1e-5))
        assert track.row("s").passed

    def test_the_report_says_how_many_are_off_and_why(self, tmp_path: Path) -> None:
        """The altered engine rounds a tie downwards: its scale is the next float."""
        nodes = [h.make_node("Identity", ["q"], ["y"], name="out")]
        path = save(self.tail(*nodes), tmp_path)
        graph = convert(path, mode="window")
        engine = Engine(graph.replace(constants={**graph.constants, "s": np.nextafter(graph.constants["s"], np.float32(1))}))
        x = np.full((200, 4), 0.3, np.float32)
        x[0] = 0.375, 0.5, 0.6, 0.7
        report = validate(path, engine, steps=20, inputs={"x": x})
        (row,) = (row for row in report.rows if row.signal == "given")
        assert (row.max_abs, row.one_off, row.passed) == (1.0, 1 / 800, True)
        (note,) = (note for note in report.notes if "one unit off" in note)
        assert "node 'quantise' (QuantizeLinear)" in note


def test_a_wrong_unit_in_front_of_the_output_is_not_excused(tmp_path: Path) -> None:
    path = static("QDQ", "QUInt8")(convolution(tmp_path))
    graph = convert(path)
    (scale,) = (name for name in graph.constants if name == "p_scale")
    report = validate(path, models.sabotaged(graph, scale), steps=40)
    assert not report.passed
