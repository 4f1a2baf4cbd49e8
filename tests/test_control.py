"""Control ops as they stand in a graph: a branch or a loop computes what its bodies say, in any nesting, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contract import floats
from safetensors import safe_open
from small import typed
from test_plan import assert_no_overlap

from streamrnn import Engine, GraphError, ModelFileError, ShapeError, Stream, UnsupportedError
from streamrnn.codegen.interpret import Interpreter
from streamrnn.ir.evaluate import evaluate
from streamrnn.ir.file import fingerprint, load_graph, save_graph
from streamrnn.ir.graph import Array, Attr, Graph, Node, Stage, State
from streamrnn.ir.text import graph_text
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import MAX_DEPTH, verify
from streamrnn.plan import MAX_TRIPS
from streamrnn.planner import make_plan

ONE, YES = np.array([1], np.int64), np.array(True)


def graph(
    nodes: Sequence[Node],
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
    stage: Stage = Stage.BODY,
    states: tuple[State, ...] = (),
) -> Graph:
    """A graph whose inputs are of the types of the arrays given."""
    types = {name: TensorType.of(np.asarray(a)) for name, a in {**inputs, **{s.read: s.init for s in states}}.items()}
    return typed(Graph("g", stage, tuple(inputs), tuple(outputs), tuple(nodes), types, dict(constants or {}), states))


def control(
    op: str, inputs: Sequence[str], outputs: Sequence[str], bodies: Sequence[Graph], name: str = "", **attrs: Attr
) -> Node:
    return Node(op, name or op.lower(), tuple(inputs), tuple(outputs), attrs, tuple(bodies))


def node(op: str, inputs: Sequence[str], output: str, **attrs: Attr) -> Node:
    return Node(op, output, tuple(inputs), (output,), attrs)


def run(step: Graph, *feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of the last step: compiled, checked against plain Python after every step; reference too, where there is
    no state."""
    engine = Engine(step)
    assert_no_overlap(engine.plan)
    stream, plain = Stream(engine), Interpreter(engine.plan)
    found: list[Array] = []
    for given in feeds:
        result = stream.step({n: np.asarray(a).reshape(engine.inputs[n].shape) for n, a in given.items()})
        found = list(result.values()) if isinstance(result, dict) else [result]
        again = plain.step([np.asarray(given[port.name]) for port in engine.plan.inputs])
        expected = again if step.states else evaluate(step, [np.asarray(given[n]) for n in step.inputs])
        for compiled, interpreted, reference in zip(found, again, expected, strict=True):
            np.testing.assert_array_equal(compiled.reshape(interpreted.shape), interpreted)
            np.testing.assert_allclose(interpreted, reference, rtol=2e-6, atol=1e-6)
    return [np.array(a) for a in found]


def step_graph(nodes: Sequence[Node], inputs: Mapping[str, Array], outputs: Sequence[str], **more: object) -> Graph:
    return graph(nodes, inputs, outputs, stage=Stage.STEP, **more)  # type: ignore[arg-type]


X = floats(1, 5, 3)


def branches() -> Node:
    """y = x @ x.T @ x if go else x + 1, with temporaries of different sizes."""
    inputs = {"x": X, "k": X}
    then = graph(
        [node("Transpose", ["x"], "t"), node("MatMul", ["x", "t"], "m"), node("MatMul", ["m", "k"], "r")], inputs, ["r"]
    )
    other = graph([node("Add", ["x", "one"], "a")], inputs, ["a"], {"one": np.float32([1])})
    return control("If", ["go", "x", "x2"], ["y"], [then, other])


def test_a_branch_runs_and_the_other_does_not() -> None:
    step = step_graph([node("Neg", ["x"], "x2"), branches(), node("Neg", ["y"], "z")], {"x": X, "go": YES}, ["z"])
    np.testing.assert_allclose(run(step, {"x": X, "go": YES})[0].reshape(5, 3), X @ X.T @ X, rtol=1e-5)
    np.testing.assert_allclose(run(step, {"x": X, "go": ~YES})[0].reshape(5, 3), -(X + 1), rtol=1e-5)


def test_branches_may_give_captures_constants_and_the_same_value_twice() -> None:
    inputs = {"x": X}
    then = graph([], inputs, ["x", "k", "x"], {"k": X * 2})
    other = graph([node("Neg", ["x"], "n")], inputs, ["n", "x", "n"])
    step = step_graph([control("If", ["go", "x"], ["a", "b", "c"], [then, other])], {"x": X, "go": YES}, ["a", "b", "c", "x"])
    for found, expected in zip(run(step, {"x": X, "go": YES}), (X, 2 * X, X, X), strict=True):
        np.testing.assert_array_equal(found.reshape(5, 3), expected)
    for found, expected in zip(run(step, {"x": X, "go": ~YES}), (-X, X, -X, X), strict=True):
        np.testing.assert_array_equal(found.reshape(5, 3), expected)


def sum_scan(**attrs: Attr) -> Node:
    """s, y = running sum of x and its double, with k added to each."""
    body = graph(
        [node("Add", ["s", "x"], "t"), node("Add", ["t", "k"], "s1"), node("Add", ["s1", "s1"], "y")],
        {"s": X[0], "x": X[0], "k": X[0]},
        ["s1", "y"],
    )
    return control("Scan", ["s0", "x", "k"], ["s", "y"], [body], states=1, num_scan_inputs=1, **attrs)


@pytest.mark.parametrize("directions", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_scan_runs_along_axis_0_from_either_end(directions: tuple[int, int]) -> None:
    scan = sum_scan(scan_input_directions=directions[:1], scan_output_directions=directions[1:])
    step = step_graph([scan], {"s0": X[0], "x": X, "k": X[0]}, ["s", "y"])
    k = floats(3, 3)
    s, y = run(step, {"s0": X[1], "x": X, "k": k})
    rows = X[1] + np.cumsum((X[::-1] if directions[0] else X) + k, axis=0)
    np.testing.assert_allclose(s.ravel(), rows[-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y.reshape(5, 3), 2 * (rows[::-1] if directions[1] else rows), rtol=1e-5, atol=1e-6)


def test_states_that_trade_places_keep_their_old_values_until_the_body_has_run() -> None:
    """Fibonacci: a, b = b, a + b; and a third that takes a's old value."""
    one = np.float32([1])
    body = graph([node("Add", ["a", "b"], "n")], {"a": one, "b": one, "c": one}, ["b", "n", "a"])
    scan = control("Scan", ["x", "x", "x"], ["p", "q", "r"], [body], states=3, trips=10)
    p, q, r = run(step_graph([scan], {"x": one}, ["p", "q", "r"]), {"x": one})
    assert (p.item(), q.item(), r.item()) == (89, 144, 55)


def test_a_loop_without_iterations_gives_its_initial_values() -> None:
    body = graph([node("Neg", ["a"], "n")], {"a": X}, ["n", "n"])
    scan = control("Scan", ["x"], ["p", "y"], [body], states=1, trips=0)
    p, y = run(step_graph([scan], {"x": X}, ["p", "y"]), {"x": X})
    np.testing.assert_array_equal(p.reshape(5, 3), X)
    assert y.size == 0


def halving(trip: str = "", cond: str = "") -> Node:
    """n, v: v is halved while it is above the limit."""
    body = graph(
        [node("Mul", ["v", "half"], "w"), node("Add", ["n", "one"], "m"), node("Greater", ["w", "limit"], "more")],
        {"n": ONE, "v": np.float32([1]), "limit": np.float32([1])},
        ["more", "m", "w"],
        {"half": np.float32([0.5]), "one": ONE},
    )
    return control("Loop", [trip, cond, "n0", "v0", "limit"], ["n", "v"], [body], carried=2)


@pytest.mark.parametrize(
    ("trip", "cond", "feeds", "times"),
    [
        ("", "", {}, 7),
        ("", "go", {"go": YES}, 7),
        ("", "go", {"go": ~YES}, 0),
        ("trip", "", {"trip": np.array(3)}, 3),
        ("trip", "", {"trip": np.array(0)}, 0),
        ("trip", "", {"trip": np.array(-5)}, 0),
        ("trip", "go", {"trip": np.array(1 << 60), "go": YES}, 7),
    ],
)
def test_a_loop_ends_with_its_condition_or_its_trip_count(trip: str, cond: str, feeds: dict[str, Array], times: int) -> None:
    held = {"n0": ONE * 0, "v0": np.float32([100]), "limit": np.float32([1])}
    step = step_graph([halving(trip, cond)], {**held, **feeds}, ["n", "v"])
    n, v = run(step, {**held, **feeds})
    assert (n.item(), v.item()) == (times, 100 / 2**times)


def test_a_loop_that_never_ends_by_itself_ends_with_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamrnn.emit.MAX_TRIPS", 1000)
    held = {"n0": ONE * 0, "v0": np.float32([1]), "limit": np.float32([-1])}
    engine = Engine(step_graph([halving()], held, ["n", "v"]))
    assert Stream(engine).step(held)["n"].item() == 1000  # type: ignore[index]


def nested() -> Node:
    """For each row of x a loop over the columns of z, in which a branch looks at the row: scans of scans."""
    cell = {"t": np.float32(0), "z": np.float32(0), "r": np.float32(0)}
    up = graph([node("Add", ["t", "z"], "u")], {"t": cell["t"], "z": cell["z"]}, ["u"])
    down = graph([node("Sub", ["t", "z"], "u")], {"t": cell["t"], "z": cell["z"]}, ["u"])
    inner = graph(
        [node("Greater", ["r", "zero"], "up"), control("If", ["up", "t", "z"], ["u"], [up, down])],
        {"t": cell["t"], "z": cell["z"], "r": cell["r"]},
        ["u", "u"],
        {"zero": np.float32(0)},
    )
    outer = graph(
        [
            node("ReduceSum", ["x"], "r", keepdims=0),
            control("Scan", ["s", "z", "r"], ["s1", "row"], [inner], states=1, num_scan_inputs=1),
            node("Add", ["row", "x"], "y"),
        ],
        {"s": np.float32(0), "x": X[0], "z": X[0]},
        ["s1", "y"],
    )
    return control("Scan", ["s", "x", "z"], ["s1", "y"], [outer], states=1, num_scan_inputs=1, scan_output_directions=(1,))


def nested_reference(s: float, x: Array, z: Array) -> tuple[float, Array]:
    rows = []
    for row in x.astype(float):
        found = []
        for v in z:
            s = s + v if row.sum() > 0 else s - v
            found.append(s)
        rows.append(np.array(found) + row)
    return s, np.stack(rows[::-1])


def test_loops_in_loops_and_branches_in_them() -> None:
    z = floats(5, 3)
    step = step_graph([nested()], {"s": np.float32(0), "x": X, "z": z}, ["s1", "y"])
    s, y = run(step, {"s": np.float32(2), "x": X, "z": z})
    expected, rows = nested_reference(2.0, X, z)
    np.testing.assert_allclose(s.item(), expected, rtol=1e-5)
    np.testing.assert_allclose(y.reshape(5, 3), rows, rtol=1e-5, atol=1e-5)


def test_a_recurrent_node_in_a_body_updates_its_state_in_place_and_carries_it() -> None:
    """LSTM steps in a scan: what the LSTM over the whole clip gives."""
    W, R = floats(1, 1, 16, 3, scale=0.4), floats(2, 1, 16, 4, scale=0.3)
    zero = np.zeros((1, 1, 4), np.float32)
    body = graph(
        [
            node("Reshape", ["x", "shape"], "x3"),
            Node("LSTM", "cell", ("x3", "W", "R", "", "", "h", "c"), ("", "h1", "c1"), {"hidden_size": 4}),
            node("Squeeze", ["h1"], "y"),
        ],
        {"h": zero, "c": zero, "x": X[0]},
        ["h1", "c1", "y"],
        {"W": W, "R": R, "shape": np.array([1, 1, 3])},
    )
    scan = control("Scan", ["h0", "c0", "x"], ["h", "c", "y"], [body], states=2, num_scan_inputs=1)
    states = (State("h", "h0", "h", zero), State("c", "c0", "c", zero))
    step = step_graph([scan], {"x": X}, ["y"], states=states)
    assert not make_plan(step).commit
    clip = floats(8, 20, 3)
    found = run(step, *({"x": clip[t : t + 5]} for t in range(0, 20, 5)))[0].reshape(5, 4)
    whole = Node("LSTM", "cell", ("x", "W", "R"), ("y",), {"hidden_size": 4})
    expected = evaluate(graph([whole], {"x": clip[:, None]}, ["y"], {"W": W, "R": R}), [clip[:, None].astype(np.float64)])
    np.testing.assert_allclose(found, expected[0].reshape(20, 4)[15:], rtol=1e-5, atol=1e-6)


def test_memory_of_a_body_is_shared_between_iterations_and_branches() -> None:
    """A hundred iterations take no more scratch than one, besides what they give."""
    rows = floats(2, 100, 3)
    few, many = (step_graph([sum_scan()], {"s0": X[0], "x": x, "k": X[0]}, ["s", "y"]) for x in (X, rows))
    grown = make_plan(many).arena_bytes - make_plan(few).arena_bytes
    assert grown <= 2 * (rows.nbytes - X.nbytes) + 128


def test_a_graph_with_bodies_goes_through_a_file(tmp_path: Path) -> None:
    inputs = {"s": np.float32(0), "x": X, "z": floats(5, 3), "go": YES, "x2": X}
    branch = replace(branches(), outputs=("chosen",))
    step = step_graph([nested(), branch], inputs, ["s1", "y", "chosen"])
    save_graph(step, tmp_path / "m.srnn")
    again = load_graph(tmp_path / "m.srnn")
    assert graph_text(again) == graph_text(step)
    assert fingerprint(again) == fingerprint(step)
    for found, expected in zip(run(again, inputs), run(step, inputs), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_only_a_file_with_bodies_needs_a_reader_that_knows_them(tmp_path: Path) -> None:
    for nodes, format_ in (([node("Neg", ["x"], "y")], "1"), ([branches()], "2")):
        save_graph(step_graph(nodes, {"x": X, "x2": X, "go": YES}, ["y"]), tmp_path / "m.srnn")
        with safe_open(tmp_path / "m.srnn", framework="numpy") as file:
            assert file.metadata()["format"] == format_


def test_the_fingerprint_sees_the_weights_of_a_body() -> None:
    def with_weight(value: float) -> Graph:
        body = graph([node("Mul", ["x", "k"], "y")], {"x": X[0]}, ["y"], {"k": np.float32(value)})
        return step_graph([control("Scan", ["x"], ["y"], [body], num_scan_inputs=1)], {"x": X}, ["y"])

    assert fingerprint(with_weight(1)) != fingerprint(with_weight(2))
    assert fingerprint(with_weight(1)) == fingerprint(with_weight(1))


def test_the_plan_prints_what_a_loop_holds_indented() -> None:
    lines = Engine(step_graph([nested()], {"s": np.float32(0), "x": X, "z": X[0]}, ["s1", "y"])).plan.lines()
    heads = [line for line in lines if ": for i" in line or ": when " in line]
    assert [len(line) - len(line[4:].lstrip()) - 4 for line in heads] == [2, 4, 6, 6]
    assert "+i0*-12" in "".join(lines)


def test_the_text_of_a_graph_shows_its_bodies() -> None:
    text = graph_text(step_graph([branches()], {"x": X, "x2": X, "go": YES}, ["y"]))
    assert "    graph g (body)" in text
    assert "m = MatMul(x, t)" in text


# -- what is wrong --------------------------------------------------------------------------------------------------


def deep(levels: int) -> Graph:
    inner = graph([node("Neg", ["x"], "y")], {"x": X}, ["y"])
    for _ in range(levels):
        inner = graph([control("Scan", ["x"], ["y"], [inner], states=1, trips=1)], {"x": X}, ["y"])
    return inner.replace(stage=Stage.STEP)


def test_bodies_are_nested_to_a_bounded_depth() -> None:
    assert verify(deep(MAX_DEPTH))
    with pytest.raises(GraphError, match="nested"):
        deep(MAX_DEPTH + 1)


def test_a_file_nested_without_end_is_refused_as_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("streamrnn.ir.verify.MAX_DEPTH", 300)
        save_graph(deep(60), tmp_path / "m.srnn")
    with pytest.raises(ModelFileError):
        load_graph(tmp_path / "m.srnn")


def test_more_iterations_than_a_step_may_take_are_refused() -> None:
    body = graph([node("Neg", ["a"], "n")], {"a": X}, ["n"])
    many = graph([control("Scan", ["a"], ["n"], [body], "many", states=1, trips=MAX_TRIPS)], {"a": X}, ["n"])
    make_plan(many.replace(stage=Stage.STEP))
    twice = control("Scan", ["a"], ["n"], [many], "twice", states=1, trips=2)
    with pytest.raises(UnsupportedError, match=r"'many' \(Scan\).*iterations"):
        make_plan(step_graph([twice], {"a": X}, ["n"]))


ROW = graph([node("Neg", ["x"], "y")], {"x": X[0]}, ["y"])
SAME = graph([node("Neg", ["x"], "y")], {"x": X}, ["y"])


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (control("If", ["go", "x"], ["y"], [SAME]), GraphError, "has 1 bodies"),
        (control("If", ["x", "x"], ["y"], [SAME, SAME]), ShapeError, "condition is"),
        (control("If", ["go", "x"], ["y"], [SAME, ROW]), ShapeError, "in its body 'x' is"),
        (control("If", ["go"], ["y"], [SAME, SAME]), ShapeError, "has 1 inputs, the node has 0"),
        (control("Scan", ["x"], ["y"], [SAME], num_scan_inputs=1), ShapeError, "in its body 'x'"),
        (control("Scan", ["x"], ["y"], [SAME], states=1), ShapeError, "how often"),
        (control("Scan", ["x"], ["y"], [SAME], states=3), ShapeError, "3 states"),
        (control("Scan", ["x", "row"], ["y"], [ROW], num_scan_inputs=2), ShapeError, "different lengths"),
        (control("Loop", ["", "", "x"], ["y"], [SAME], carried=1), ShapeError, "condition"),
        (control("Loop", ["", "", "x"], ["y"], [SAME], carried=7), ShapeError, "carried is 7"),
        (control("Loop", ["", "x", "x"], ["y"], [SAME], carried=1), ShapeError, "its condition is"),
    ],
)
def test_bodies_that_do_not_fit_their_node_are_refused(bad: Node, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        step_graph([bad], {"x": X, "row": X[0], "go": YES}, ["y"])
