"""Branches and loops of a step are branches and loops of the written step model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from control_files import body, loop, node, out, typed
from onnx_files import branch, noise
from streamrnn_converters import convert
from streamrnn_converters.bench import ort_step
from test_recurrence import COUNTER, FRAME_I, GRU_LIKE, HIDDEN, LOOKING_AHEAD, ROW, counted, file, scanned
from test_writer import assert_same_steps

from streamrnn import Engine, UnsupportedError


@pytest.mark.parametrize("nodes", [scanned(), counted(FRAME_I), COUNTER, [*LOOKING_AHEAD, *scanned("z")]])
def test_a_recurrence_steps_alike_in_onnxruntime(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    assert_same_steps(file(nodes, tmp_path), 20, 1e-5)


def in_the_cell(nodes: Sequence[onnx.NodeProto], folder: Path) -> Path:
    """The scan of `scanned` with more nodes between h1 and its output y1."""
    inner = body([*GRU_LIKE[:-1], *nodes], [typed(HIDDEN, "h"), typed(ROW, "x")], out("h1", "y1"))
    path = file([node("Scan", ["h0", "x_all"], ["last", "y"], body=inner, num_scan_inputs=1)], folder, outputs=["y"])
    model = onnx.load(path)
    constants = {"low": np.float32(0), "three": np.array(3), "k": noise(3, 4), "big": np.float32(2), "yes": np.array(True)}
    there = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in constants.items() if n not in there)
    onnx.save(model, path)
    return path


SUM = node("ReduceSum", ["h1"], ["s"], keepdims=0)
HIGH = node("Greater", ["s", "low"], ["high"])
UP = branch([node("Mul", ["h1", "k"], ["u"])], out("u"))
DOWN = branch([node("Identity", ["x"], ["same"]), node("Neg", ["h1"], ["d"])], out("d"))
GROWING = [node("Add", ["a", "a"], ["b"]), node("ReduceSum", ["b"], ["t"], keepdims=0), node("Less", ["t", "big"], ["more"])]
TANH = [node("Tanh", ["a"], ["b"])]


@pytest.mark.parametrize(
    "nodes",
    [
        [SUM, HIGH, node("If", ["high"], ["y1"], then_branch=UP, else_branch=DOWN)],
        [node("Abs", ["h1"], ["a0"]), loop(GROWING, [("a", HIDDEN, "b")], trip="three", going="more", results=["y1"])],
        [node("Abs", ["h1"], ["a0"]), loop(GROWING, [("a", HIDDEN, "b")], trip="", cond="yes", going="more", results=["y1"])],
        [node("Identity", ["h1"], ["a0"]), loop(TANH, [("a", HIDDEN, "b")], trip="three", results=["y1"])],
    ],
    ids=["If", "Loop with a bound", "Loop", "Scan without inputs"],
)  # fmt: skip
def test_control_in_the_body_of_a_recurrence_steps_alike(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    assert_same_steps(in_the_cell(nodes, tmp_path), 20, 1e-5)


@pytest.mark.parametrize("name", ["coffee_loop", "precise_mk1", "precise_mycroft"])
def test_real_models_whose_cells_are_loops_step_alike(models: Path, name: str) -> None:
    assert_same_steps(models / "onnx" / f"{name}.onnx", 40, 1e-5)


def test_random_numbers_in_a_body_are_refused(tmp_path: Path) -> None:
    nodes = [node("RandomNormalLike", ["h1"], ["r"]), node("Add", ["h1", "r"], ["y1"])]
    path = in_the_cell(nodes, tmp_path)
    with pytest.raises(UnsupportedError, match="draws random numbers in its body"):
        ort_step(path, Engine(convert(path)))
