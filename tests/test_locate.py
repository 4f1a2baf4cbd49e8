"""Where a wrong value comes from, when it comes from inside a branch or a loop: the node that runs it, with both values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_files as files
import pytest
from lint_files import node
from onnx import helper as h
from onnx_files import BOOL, F32, I64
from streamrnn_converters import convert
from streamrnn_converters.validate import validate

from streamrnn import Engine
from streamrnn.ir.graph import Graph

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


@pytest.mark.parametrize(("make", "name", "op"), [(branching, "choose", "If"), (looping, "loop", "Loop")])
def test_the_node_that_runs_a_body_is_named(tmp_path: Path, make: object, name: str, op: str) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    graph = convert(path)
    assert any(node.bodies for node in graph.nodes)
    assert validate(path, Engine(graph), steps=20).passed
    report = validate(path, Engine(sabotaged(graph)), steps=20)
    culprit = report.culprit
    assert culprit is not None
    assert (culprit.node, culprit.op) == (name, op)
    assert abs(culprit.found - culprit.expected) == pytest.approx(culprit.max_abs)
    for value in (culprit.expected, culprit.found):
        assert f"{value:.7g}" in str(culprit)
