"""Where a wrong value comes from, when it comes from inside a branch or a loop: the node there, its iteration, both values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_files as files
import pytest
from lint_files import node
from onnx import helper as h
from onnx_files import BOOL, F32, I64
from streamrnn_converters import convert
from streamrnn_converters.inside import expose
from streamrnn_converters.validate import validate

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Graph
from streamrnn.ir.verify import verify

W = {"W": (np.eye(3) * 1.3).astype(np.float32)}


def branching(folder: Path) -> Path:
    """s = s + tanh(x W) where sum(x) > 0, else s = s + sigmoid(x)."""
    then = files.branch([node("MatMul", "x W", "a"), node("Tanh", "a", "b")], [("b", F32, [1, 3])], W)
    other = files.branch([node("Sigmoid", "x", "d")], [("d", F32, [1, 3])])
    nodes = [
        node("ReduceSum", "x", "r", keepdims=0),
        node("Greater", "r zero", "cond"),
        h.make_node("If", ["cond"], ["z"], name="choose", then_branch=then, else_branch=other),
        node("Add", "z s", "s_out"),
        node("Neg", "s_out", "y"),
    ]
    inputs, outputs = [("x", F32, [1, 3]), ("s", F32, [1, 3])], [("y", F32, [1, 3]), ("s_out", F32, [1, 3])]
    return files.save(files.make(nodes, inputs, outputs, {"zero": np.float32(0)}), folder)


def looping(folder: Path) -> Path:
    """s = tanh(s W + x), up to four times in a step, until its largest element is above 0.9."""
    body_nodes = [
        node("MatMul", "h W", "hw"),
        node("Add", "hw x", "hx"),
        node("Tanh", "hx", "h2"),
        node("ReduceMax", "h2", "m", keepdims=0),
        node("Less", "m limit", "go"),
    ]
    given, results = [("i", I64, []), ("c", BOOL, []), ("h", F32, [1, 3])], [("go", BOOL, []), ("h2", F32, [1, 3])]
    body = files.make(body_nodes, given, results, {**W, "limit": np.float32(0.9)}).graph
    nodes = [h.make_node("Loop", ["n", "", "s"], ["s_out"], name="loop", body=body), node("Neg", "s_out", "y")]
    inputs, outputs = [("x", F32, [1, 3]), ("s", F32, [1, 3])], [("y", F32, [1, 3]), ("s_out", F32, [1, 3])]
    return files.save(files.make(nodes, inputs, outputs, {"n": np.array(4)}), folder)


def sabotaged(graph: Graph) -> Graph:
    """W is not what it was, in whatever body it lies."""
    constants = {n: a * np.float32(1.1) if n.startswith("W") else a for n, a in graph.constants.items()}
    nodes = tuple(replace(n, bodies=tuple(map(sabotaged, n.bodies))) for n in graph.nodes)
    return graph.replace(constants=constants, nodes=nodes)


def scanning(folder: Path, axis: int = 0) -> Path:
    """s = tanh(row W + s) over the rows of x [3, 2, 3], y the stacked tanh of tanh."""
    body_nodes = [
        node("MatMul", "row W", "rw"),
        node("Add", "rw h", "hx"),
        node("Tanh", "hx", "h2"),
        node("Sigmoid", "h2", "out"),
    ]
    given, results = [("h", F32, [1, 3]), ("row", F32, [1, 3])], [("h2", F32, [1, 3]), ("out", F32, [1, 3])]
    body = files.make(body_nodes, given, results, W).graph
    scan = h.make_node("Scan", ["s", "x"], ["s_out", "ys"], name="scan", body=body, num_scan_inputs=1)
    inputs, outputs = [("x", F32, [4, 1, 3]), ("s", F32, [1, 3])], [("ys", F32, [4, 1, 3]), ("s_out", F32, [1, 3])]
    return files.save(files.make([scan], inputs, outputs), folder)


def nested(folder: Path) -> Path:
    """`looping` whose body chooses: h W where the sum of h is positive, else sigmoid(h)."""
    then = files.branch([node("MatMul", "h W", "p")], [("p", F32, [1, 3])], W)
    other = files.branch([node("Sigmoid", "h", "q")], [("q", F32, [1, 3])])
    body_nodes = [
        node("ReduceSum", "h", "r", keepdims=0),
        node("Greater", "r zero", "positive"),
        h.make_node("If", ["positive"], ["hw"], name="choose", then_branch=then, else_branch=other),
        node("Add", "hw x", "hx"),
        node("Tanh", "hx", "h2"),
        node("ReduceMax", "h2", "m", keepdims=0),
        node("Less", "m limit", "go"),
    ]
    given, results = [("i", I64, []), ("c", BOOL, []), ("h", F32, [1, 3])], [("go", BOOL, []), ("h2", F32, [1, 3])]
    body = files.make(body_nodes, given, results, {"zero": np.float32(0), "limit": np.float32(0.9)}).graph
    nodes = [h.make_node("Loop", ["n", "", "s"], ["s_out"], name="loop", body=body), node("Neg", "s_out", "y")]
    inputs, outputs = [("x", F32, [1, 3]), ("s", F32, [1, 3])], [("y", F32, [1, 3]), ("s_out", F32, [1, 3])]
    return files.save(files.make(nodes, inputs, outputs, {"n": np.array(4)}), folder)


@pytest.mark.parametrize(
    ("make", "value", "inside"),
    [
        (branching, "a", "in a branch of 'choose' (If)"),
        (looping, "hw", r"in iteration \d of 'loop' (Loop)"),
        (scanning, "rw", "in iteration 0 of 'scan' (Scan)"),
        (nested, "p", r"in a branch of 'choose' (If), in iteration \d of 'loop' (Loop)"),
    ],
)
def test_the_node_inside_a_body_is_named_with_its_iteration_and_both_values(
    tmp_path: Path, make: Callable[[Path], Path], value: str, inside: str
) -> None:
    path = make(tmp_path)
    graph = convert(path)
    assert any(node.bodies for node in graph.nodes)
    assert validate(path, Engine(graph), steps=20).passed
    culprit = validate(path, Engine(sabotaged(graph)), steps=20).culprit
    assert culprit is not None
    assert (culprit.op, culprit.value) == ("MatMul", value)
    assert re.fullmatch(re.sub(r"[()]", r"\\\g<0>", inside), culprit.inside)
    assert culprit.inside in str(culprit)
    assert abs(culprit.found - culprit.expected) == pytest.approx(culprit.max_abs)
    assert culprit.found == pytest.approx(culprit.expected * 1.1, rel=1e-4)
    for number in (culprit.expected, culprit.found):
        assert f"{number:.7g}" in str(culprit)


def test_a_scan_along_time_names_the_frame(tmp_path: Path) -> None:
    body_nodes = [node("Tanh", "row", "t"), node("MatMul", "t W", "tw"), node("Add", "tw h", "sum"), node("Tanh", "sum", "h2")]
    given, results = [("h", F32, [1, 3]), ("row", F32, [1, 3])], [("h2", F32, [1, 3]), ("h2", F32, [1, 3])]
    body = files.make(body_nodes, given, results, W).graph
    scan = h.make_node("Scan", ["zeros", "x"], ["last", "ys"], name="scan", body=body, num_scan_inputs=1)
    model = files.make([scan], [("x", F32, ["T", 1, 3])], [("ys", F32, ["T", 1, 3])], {"zeros": np.zeros((1, 3), np.float32)})
    path = files.save(model, tmp_path)
    graph = convert(path, mode="frame", time_axis={"x": 0})
    assert validate(path, Engine(graph), steps=20).passed
    culprit = validate(path, Engine(sabotaged(graph)), steps=20).culprit
    assert culprit is not None
    assert (culprit.value, culprit.inside) == ("tw", "in iteration 0 of 'scan' (Scan)")


def test_exposing_changes_nothing_else(tmp_path: Path) -> None:
    for make in (branching, looping, scanning, nested):
        path = make(tmp_path)
        graph = convert(path)
        opened, exposed, inner = expose(onnx.load(path), graph)
        assert inner
        verify(exposed)
        x = {name: files.noise(3, *graph.types[name].shape) for name in (*graph.inputs, *(s.read for s in graph.states))}
        onnx.save(opened, tmp_path / "opened.onnx")
        for before, after in zip(files.run_file(path, x), files.run_file(tmp_path / "opened.onnx", x), strict=True):
            np.testing.assert_array_equal(before, after)
        engine = Engine(graph)
        stream, other = Stream(engine), Stream(Engine(exposed))
        for k in range(5):
            frame = {name: files.noise(k, *port.shape) for name, port in engine.inputs.items()}
            stream.step(frame)
            other.step(frame)
            for name, value in stream.state().items():
                np.testing.assert_array_equal(other.state()[name], value)
