"""If on a value that is known at run time only, call by call beside onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from control_files import check, converted, node, ops, out
from onnx_files import BOOL, F32, Typed, branch, make, noise

from streamrnn import Engine, Stream, UnsupportedError

X: Typed = ("x", F32, [2, 3])
Y: Typed = ("y", F32, None)  # type: ignore[assignment]
GO: Typed = ("go", BOOL, [])
YES, NO = np.array(True), np.array(False)


def test_an_if_on_a_run_time_value_is_a_branch(tmp_path: Path) -> None:
    then = branch([node("Add", ["x", "k"], ["a"]), node("Tanh", ["a"], ["b"])], out("b"), {"k": noise(1, 3)})
    other = branch([node("Softmax", ["r"], ["s"])], out("s"))
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("If", ["go"], ["c"], then_branch=then, else_branch=other),
        node("Neg", ["c"], ["y"]),
    ]
    x = noise(0, 2, 3)
    graph = check(make(nodes, [X, GO], [Y]), tmp_path, {"x": x, "go": YES}, {"x": x, "go": NO}, {"x": -x, "go": YES})
    assert ops(graph).count("If") == 1


def test_branches_in_branches_with_captures_from_every_level(tmp_path: Path) -> None:
    inner = [branch([node(op, ["v", "x"], ["w"])], out("w")) for op in ("Add", "Mul")]
    outer = [
        branch(
            [node("Mul", ["x", "k"], ["v"]), node("If", ["up"], ["w2"], then_branch=a, else_branch=b)],
            out("w2"),
            {"k": np.float32(k)},
        )
        for k, (a, b) in enumerate((inner, inner[::-1]), 2)
    ]
    nodes = [node("If", ["go"], ["y"], then_branch=outer[0], else_branch=outer[1])]
    x = noise(0, 2, 3)
    feeds = [{"x": x, "go": np.array(a), "up": np.array(b)} for a in (True, False) for b in (True, False)]
    check(make(nodes, [X, GO, ("up", BOOL, [])], [Y]), tmp_path, *feeds)


def test_a_branch_gives_what_lies_around_it_constants_and_only_what_is_wanted(tmp_path: Path) -> None:
    same = node("Identity", ["x"], ["x2"])
    then = branch([same, node("MatMul", ["k", "t"], ["n"])], out("x2", "n", "k"), {"k": noise(1, 2, 3), "t": noise(2, 3, 3)})
    other = branch([same, node("Neg", ["x"], ["m"]), node("Abs", ["x"], ["n"])], out("m", "n", "x2"))
    nodes = [node("If", ["go"], ["y", "unread", "z"], then_branch=then, else_branch=other)]
    x = noise(0, 2, 3)
    check(make(nodes, [X, GO], [Y, *out("z")]), tmp_path, {"x": x, "go": YES}, {"x": x, "go": NO})


def test_a_recurrent_node_in_a_branch_keeps_its_own_shapes(tmp_path: Path) -> None:
    """Cells of different width in the two branches, as in models for two sample rates."""
    branches = []
    for name, hidden in (("wide", 8), ("narrow", 3)):
        constants = {"W": noise(1, 1, 3 * hidden, 3), "R": noise(2, 1, 3 * hidden, hidden), "D": noise(3, hidden, 2)}
        nodes = [
            node("GRU", ["seq", "W", "R"], ["", "h"], hidden_size=hidden, name=name),
            node("MatMul", ["h", "D"], ["o"]),
        ]
        branches.append(branch(nodes, out("o"), constants))
    nodes = [
        node("Unsqueeze", ["x", "one"], ["seq"]),
        node("If", ["go"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    model = make(nodes, [X, GO], [Y], {"one": np.array([1])})
    check(model, tmp_path, {"x": noise(0, 2, 3), "go": YES}, {"x": noise(0, 2, 3), "go": NO})


def test_a_state_that_only_one_branch_changes_is_carried(tmp_path: Path) -> None:
    then = branch([node("Add", ["h", "x"], ["n"])], out("n"))
    other = branch([node("Identity", ["h"], ["same"])], out("same"))
    model = make(
        [node("If", ["go"], ["h_out"], then_branch=then, else_branch=other), node("Neg", ["h_out"], ["y"])],
        [X, GO, ("h", F32, [2, 3])],
        [Y, ("h_out", F32, [2, 3])],
    )
    engine = Engine(converted(model, tmp_path))
    assert [state.name for state in engine.graph.states] == ["h"]
    stream, total = Stream(engine), np.zeros((2, 3), np.float32)
    for t, go in enumerate((True, False, True, True, False)):
        x = noise(t, 2, 3)
        total = total + x if go else total
        np.testing.assert_allclose(np.ravel(stream.step({"x": x, "go": np.array(go)})), -total.ravel(), rtol=1e-6)


def test_what_is_not_supported_in_a_branch_is_named(tmp_path: Path) -> None:
    good, bad = branch([node("Neg", ["x"], ["a"])], out("a")), branch([node("Fancy", ["x"], ["b"], domain="own")], out("b"))
    model = make([node("If", ["go"], ["y"], then_branch=good, else_branch=bad)], [X, GO], [Y], domains=["own"])
    with pytest.raises(UnsupportedError, match=r"\(own.Fancy\)"):
        converted(model, tmp_path)
