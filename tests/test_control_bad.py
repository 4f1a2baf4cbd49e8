"""What a file cannot do with branches and loops: hang the converter, take its memory, or end in anything but a reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from control_files import CONDITION, NUMBER, body, check, converted, loop, node, ops, out, typed
from onnx_files import BOOL, F32, I64, Typed, branch, make, noise

from streamrnn import StreamRNNError, UnsupportedError
from streamrnn.errors import OpenValueError

X: Typed = ("x", F32, [2, 3])
GO: Typed = ("go", BOOL, [])
A0 = noise(3, 2, 3)
STEP = [node("Mul", ["a", "x"], ["p"]), node("Tanh", ["p"], ["t"])]


def refused(model: onnx.ModelProto, folder: Path, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        converted(model, folder)


@pytest.mark.parametrize("stacked", [(), ("p",)])
@pytest.mark.parametrize("trips", [1 << 60, 1 << 40, (1 << 24) + 1])
def test_more_iterations_than_a_step_can_make_are_refused(tmp_path: Path, trips: int, stacked: Sequence[str]) -> None:
    model = make([loop(STEP, [("a", A0, "t")], stacked)], [X, typed(A0, "a0")], out("a_end"), {"trip": np.array(trips)})
    refused(model, tmp_path, rf"\(Loop\): it runs {trips} times, and a step has to end")


def test_a_counter_that_never_reaches_its_limit_is_not_waited_for(tmp_path: Path) -> None:
    """A condition that only the first million iterations can tell is left to the run, where a bound ends it."""
    nodes = [*STEP, node("Add", ["n", "one"], ["m"]), node("Less", ["m", "limit"], ["more"])]
    carried = [("a", A0, "t"), ("n", np.array(0), "m")]
    constants = {"one": np.array(1), "limit": np.array(1 << 50), "n0": np.array(0), "yes": np.array(True)}
    ended = [loop(nodes, carried, trip="", cond="yes", going="more", results=["a_end"])]
    graph = converted(make(ended, [X, typed(A0, "a0")], out("a_end"), constants), tmp_path)
    assert "Loop" in ops(graph)
    stacking = [loop(nodes, carried, ["p"], trip="", cond="yes", going="more", results=["a_end", "n_end", "p_all"])]
    refused(make(stacking, [X, typed(A0, "a0")], out("p_all"), constants), tmp_path, "the length of what it stacks")


@pytest.mark.parametrize("trip", ["", "most"])
def test_a_loop_that_nothing_ends_is_refused(tmp_path: Path, trip: str) -> None:
    constants = {"yes": np.array(True), "most": np.array(2**63 - 1)}
    nodes = [loop(STEP, [("a", A0, "t")], trip=trip, cond="yes")]
    refused(make(nodes, [X, typed(A0, "a0")], out("a_end"), constants), tmp_path, "never ends")


def test_a_loop_of_unknown_length_may_not_stack(tmp_path: Path) -> None:
    model = make([loop(STEP, [("a", A0, "t")], ["p"])], [X, typed(A0, "a0"), ("trip", I64, [])], out("a_end", "p_all"))
    refused(model, tmp_path, r"the length of what it stacks.*--bind trip=VALUE")
    check(model, tmp_path, {"x": A0, "a0": A0, "trip": np.array(3)}, bind=["trip"])


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Unsqueeze", ["i", "zero"], ["j"]), node("Slice", ["a", "zero", "j"], ["b"])], "the ends"),
        ([node("Concat", ["a", "x"], ["b"], axis=0)], "at first and"),
    ],
)
def test_what_has_to_be_written_out_needs_a_known_length(tmp_path: Path, nodes: list[onnx.NodeProto], message: str) -> None:
    inputs = [X, ("trip", I64, [])]
    model = make([loop(nodes, [("a", A0, "b")])], [*inputs, typed(A0, "a0")], out("a_end"), {"zero": np.array([0])})
    with pytest.raises(OpenValueError, match=rf"\(Loop\): .*{message}.*written out.*--bind trip=VALUE") as error:
        converted(model, tmp_path)
    assert error.value.inputs == ("trip",)


def test_a_large_number_of_iterations_is_neither_tabled_nor_computed(tmp_path: Path) -> None:
    """Ten million iterations that read their number, on constants: they stay a computation of the step."""
    nodes = [node("Cast", ["i"], ["f"], to=F32), node("Max", ["a", "f"], ["b"])]
    model = make(
        [loop(nodes, [("a", np.float32(0), "b")]), node("Add", ["a_end", "x"], ["y"])],
        [("x", F32, [])],
        out("y"),
        {"trip": np.array(10_000_000), "a0": np.float32(0)},
    )
    graph = converted(model, tmp_path)
    assert ops(graph).count("Scan") == 1
    assert sum(a.nbytes for a in graph.constants.values()) < 1000


def test_loops_that_would_be_written_out_ten_to_the_eighth_times_are_refused(tmp_path: Path) -> None:
    """Eight loops, each in the body of the next, each with ten iterations that grow what is carried."""
    inner: Any = [node("Concat", ["a0", "x"], ["b0"], axis=0)]
    for level in range(8):
        inputs = [(f"i{level}", I64, []), (f"c{level}", BOOL, []), (f"a{level}", F32, None)]
        graph = body(inner, inputs, [(f"c{level}", BOOL, []), *out(f"b{level}")])  # type: ignore[arg-type]
        inner = [node("Loop", ["ten", "", f"a{level + 1}"], [f"b{level + 1}"], body=graph)]
    model = make([*inner, node("ReduceSum", ["b8"], ["y"])], [X, ("a8", F32, [2, 3])], out("y"), {"ten": np.array(10)})
    with pytest.raises(UnsupportedError, match="fixed shapes"):
        converted(model, tmp_path)


def nest(levels: int, kind: str) -> onnx.ModelProto:
    """So many bodies inside one another."""
    inner = [node("Neg", ["x"], ["y0"])]
    for level in range(levels):
        result = out(f"y{level}")
        if kind == "Loop":
            graph = body(inner, [(f"i{level}", I64, []), (f"c{level}", BOOL, [])], [(f"c{level}", BOOL, []), *result])
            inner = [node("Loop", ["two", ""], [f"y{level + 1}"], body=graph)]
        else:
            other = branch([node("Abs", ["x"], [f"z{level}"])], out(f"z{level}"))
            inner = [node("If", ["go"], [f"y{level + 1}"], then_branch=branch(inner, result), else_branch=other)]
    return make(inner, [X, GO], out(f"y{levels}"), {"two": np.array(2)})


@pytest.mark.parametrize("kind", ["Loop", "If"])
def test_bodies_nested_too_deep_end_in_a_reason(tmp_path: Path, kind: str) -> None:
    """Thirty levels are about what protobuf can hold."""
    refused(nest(30, kind), tmp_path, "more than 16 bodies")


def test_branches_that_fold_may_be_nested_as_deep_as_a_file_can_say(tmp_path: Path) -> None:
    assert ops(converted(nest(30, "If"), tmp_path, bind={"go": True})) == ["Neg"]


def arity(inputs: int, outputs: int, op: str, given: Sequence[str], results: Sequence[str], **attrs: Any) -> onnx.ModelProto:
    """A Loop or Scan whose body has so many inputs and outputs."""
    names = [(f"u{k}", F32, [2, 3]) for k in range(inputs)]
    if op == "Loop":
        names = [NUMBER, CONDITION, *names][:inputs]
    graph = body([node("Neg", ["x"], [f"v{k}"]) for k in range(outputs)], names, out(*(f"v{k}" for k in range(outputs))))
    nodes = [node(op, list(given), list(results), body=graph, **attrs)]
    return make(nodes, [X, ("s", F32, [4, 2, 3])], out(results[0]), {"n": np.array(2), "yes": np.array(True)})


@pytest.mark.parametrize(
    "model",
    [
        arity(3, 0, "Loop", ["n", "", "x"], ["y"]),
        arity(3, 1, "Loop", ["n", "", "x"], ["y"]),
        arity(2, 2, "Loop", ["n", "", "x"], ["y"]),
        arity(4, 2, "Loop", ["n", "", "x"], ["y"]),
        arity(3, 2, "Loop", ["n", "", "x"], ["y", "z"]),
        arity(2, 0, "Scan", ["x", "s"], ["y"], num_scan_inputs=1),
        arity(1, 2, "Scan", ["x", "s"], ["y"], num_scan_inputs=1),
        arity(2, 1, "Scan", ["x", "s"], ["y", "z"], num_scan_inputs=1),
        arity(2, 2, "Scan", ["x", "s"], ["y", "z"], num_scan_inputs=7),
        arity(2, 2, "Scan", ["x", "s"], ["y", "z"], num_scan_inputs=0),
        arity(2, 2, "Scan", ["x", "s"], ["y", "z"], num_scan_inputs=-1),
        arity(2, 2, "Scan", ["x", "s"], ["y", "z"], num_scan_inputs=1, scan_input_axes=[3]),
        arity(2, 2, "Scan", ["x", "s"], ["y", "z"], num_scan_inputs=1, scan_input_axes=[0, 0]),
        arity(2, 2, "Scan", ["x", "s"], ["z", "y"], num_scan_inputs=1, scan_output_axes=[9]),
        arity(2, 2, "Scan", ["x", "s"], ["y", "z"], num_scan_inputs=1, scan_output_directions=[1, 1, 1]),
        make([node("If", ["go"], ["y"], then_branch=branch([], ()), else_branch=branch([], ()))], [X, GO], out("y")),
        make([node("If", ["x"], ["y"], then_branch=branch([], out("x")), else_branch=branch([], out("x")))], [X], out("y")),
    ],
)
def test_bodies_that_do_not_fit_are_refused_with_the_node(tmp_path: Path, model: onnx.ModelProto) -> None:
    with pytest.raises(StreamRNNError, match=r"\((If|Loop|Scan)\)"):
        converted(model, tmp_path)
