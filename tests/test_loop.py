"""Loops of ONNX files, call by call beside onnxruntime: of fixed length, ending early, nested, unrolled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from control_files import CONDITION, NUMBER, body, check, loop, node, ops, out, typed
from onnx_files import BOOL, F32, I64, Typed, branch, make, noise

X: Typed = ("x", F32, [2, 3])
Y: Typed = ("y", F32, None)  # type: ignore[assignment]
GO: Typed = ("go", BOOL, [])
YES, NO = np.array(True), np.array(False)

STEP = [node("Mul", ["a", "x"], ["p"]), node("Add", ["p", "k"], ["b"]), node("Tanh", ["b"], ["t"])]
A0 = noise(3, 2, 3)
K = {"k": noise(4, 3)}


def test_a_loop_of_fixed_length_carries_and_stacks(tmp_path: Path) -> None:
    nodes = [loop(STEP, [("a", A0, "t")], ["b", "p"], constants=K), node("Neg", ["a_end"], ["y"])]
    model = make(nodes, [X, typed(A0, "a0")], [Y, *out("b_all", "p_all")], {"trip": np.array(7)})
    graph = check(model, tmp_path, {"x": noise(0, 2, 3), "a0": A0}, {"x": noise(1, 2, 3), "a0": -A0})
    assert "Scan" in ops(graph)
    assert "Loop" not in ops(graph)


@pytest.mark.parametrize("trip", [0, -3, 1])
def test_a_loop_runs_not_at_all_or_once(tmp_path: Path, trip: int) -> None:
    nodes = [loop(STEP, [("a", A0, "t")], ["b"], constants=K)]
    model = make(nodes, [X, typed(A0, "a0")], out("a_end", "b_all"), {"trip": np.array(trip)})
    graph = check(model, tmp_path, {"x": noise(0, 2, 3), "a0": A0})
    assert not {"Loop", "Scan"} & set(ops(graph))


def test_a_first_condition_that_is_false_lets_nothing_run(tmp_path: Path) -> None:
    nodes = [loop(STEP, [("a", A0, "t")], ["b"], constants=K, trip="", cond="never")]
    model = make(nodes, [X, typed(A0, "a0")], out("a_end", "b_all"), {"never": NO})
    check(model, tmp_path, {"x": noise(0, 2, 3), "a0": A0})


def test_a_condition_made_of_counters_is_a_fixed_length(tmp_path: Path) -> None:
    """A counter that starts at 2 and goes up by 3 while its square is below 150; what it is in each iteration is known."""
    counting = [
        node("Add", ["n", "three"], ["m"]),
        node("Mul", ["m", "m"], ["mm"]),
        node("Less", ["mm", "limit"], ["more"]),
        node("Cast", ["n"], ["f"], to=F32),
        node("Mul", ["f", "x"], ["row"]),
    ]
    constants = {"three": np.array(3, np.int32), "limit": np.array(150, np.int32)}
    nodes = [loop(counting, [("n", np.int32(2), "m")], ["row"], trip="", cond="yes", going="more", constants=constants)]
    model = make(nodes, [X], out("n_end:int32", "row_all"), {"n0": np.int32(2), "yes": YES})
    graph = check(model, tmp_path, {"x": noise(0, 2, 3)})
    assert "Scan" in ops(graph)


def test_an_omitted_condition_input_does_not_keep_the_body_from_ending_the_loop(tmp_path: Path) -> None:
    """The standard's text leaves it open; onnxruntime looks at the body's condition whatever the first one was."""
    more = [*STEP, node("Less", ["i", "two"], ["more"])]
    nodes = [loop(more, [("a", A0, "t")], going="more", constants={**K, "two": np.array(2)})]
    model = make(nodes, [X, typed(A0, "a0")], out("a_end"), {"trip": np.array(9)})
    check(model, tmp_path, {"x": noise(0, 2, 3), "a0": A0})


GROWING = [node("Add", ["a", "x"], ["b"]), node("ReduceSum", ["b"], ["s"], keepdims=0), node("Less", ["s", "limit"], ["more"])]


@pytest.mark.parametrize(("trip", "cond"), [("trip", ""), ("trip", "go"), ("", "go"), ("many", "")])
def test_a_loop_ends_early_where_its_condition_says_so(tmp_path: Path, trip: str, cond: str) -> None:
    """Ends after some iterations, by the trip count, never begins: as the inputs say."""
    counted = [*GROWING, node("Cast", ["i"], ["fi"], to=F32), node("Add", ["c", "fi"], ["d"])]
    carried = [("a", A0, "b"), ("c", np.float32(0), "d")]
    nodes = [loop(counted, carried, trip=trip, cond=cond, going="more")]
    inputs = [X, ("limit", F32, []), typed(A0, "a0"), *([GO] if cond else [])]
    constants = {"trip": np.array(6), "many": np.array(2**63 - 1), "c0": np.float32(0)}
    model = make(nodes, inputs, out("a_end", "c_end"), constants)
    one = np.ones((2, 3), np.float32)
    feeds = [{"x": one, "a0": one * 0, "limit": np.float32(limit), "go": go} for limit in (0, 13, 25) for go in (YES, NO)]
    feeds = [{k: v for k, v in feed.items() if cond or k != "go"} for feed in feeds]
    graph = check(model, tmp_path, *feeds)
    assert "Loop" in ops(graph)


def test_a_trip_count_may_be_an_input(tmp_path: Path) -> None:
    nodes = [loop(STEP, [("a", A0, "t")], constants=K)]
    model = make(nodes, [X, typed(A0, "a0"), ("trip", I64, [])], out("a_end"))
    check(model, tmp_path, *({"x": noise(0, 2, 3), "a0": A0, "trip": np.array(n)} for n in (3, 0, 1, -1, 5)))


def test_loops_in_loops_with_captures_from_every_level(tmp_path: Path) -> None:
    """The inner loop carries what the outer one carries, reads its number, and stacks into what the outer one stacks."""
    inner_nodes = [
        node("Cast", ["i"], ["fi"], to=F32),
        node("Mul", ["fj", "k"], ["fk"]),
        node("Add", ["fi", "fk"], ["u"]),
        node("Add", ["c", "u"], ["v"]),
        node("Mul", ["v", "x"], ["w"]),
    ]
    inner = body(inner_nodes, [NUMBER, CONDITION, typed(A0, "c")], [CONDITION, *out("v", "w")], {"k": np.float32(10)})
    outer_nodes = [
        node("Cast", ["j"], ["fj"], to=F32),
        node("Loop", ["three", "", "a"], ["c_end", "w_all"], body=inner),
        node("Sub", ["c_end", "a0"], ["b"]),
    ]
    outer = body(outer_nodes, [("j", I64, []), ("go_on", BOOL, []), typed(A0, "a")], [("go_on", BOOL, []), *out("b", "w_all")])
    nodes = [node("Loop", ["two", "", "a0"], ["y", "all"], body=outer)]
    model = make(nodes, [X, typed(A0, "a0")], [Y, *out("all")], {"three": np.array(3), "two": np.array(2)})
    graph = check(model, tmp_path, {"x": noise(0, 2, 3), "a0": A0})
    assert ops(graph).count("Scan") == 2


def test_an_if_in_a_loop_on_what_is_carried(tmp_path: Path) -> None:
    up, down = branch([node("Mul", ["a", "x"], ["r"])], out("r")), branch([node("Sub", ["a", "x"], ["r2"])], out("r2"))
    nodes = [
        node("ReduceSum", ["a"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["high"]),
        node("If", ["high"], ["b"], then_branch=up, else_branch=down),
    ]
    model = make(
        [loop(nodes, [("a", A0, "b")], ["s"])],
        [X, typed(A0, "a0")],
        out("a_end", "s_all"),
        {"trip": np.array(9), "zero": np.float32(0)},
    )
    check(model, tmp_path, *({"x": noise(k, 2, 3), "a0": A0} for k in range(3)))


def test_an_if_on_the_iteration_number_is_a_branch_and_on_a_constant_folds(tmp_path: Path) -> None:
    first, rest = branch([node("Neg", ["a"], ["r"])], out("r")), branch([node("Add", ["a", "x"], ["r2"])], out("r2"))
    odd = branch([node("ReduceSum", ["x"], ["q"])], out("q"))
    nodes = [
        node("Equal", ["i", "zero"], ["is_first"]),
        node("If", ["is_first"], ["b"], then_branch=first, else_branch=rest),
        node("Shape", ["b"], ["shape"]),
        node("Gather", ["shape", "zero"], ["rows"]),
        node("Equal", ["rows", "zero"], ["empty"]),
        node("If", ["empty"], ["c"], then_branch=odd, else_branch=branch([node("Tanh", ["b"], ["q2"])], out("q2"))),
    ]
    model = make(
        [loop(nodes, [("a", A0, "c")])], [X, typed(A0, "a0")], out("a_end"), {"trip": np.array(4), "zero": np.array(0)}
    )
    graph = check(model, tmp_path, {"x": noise(0, 2, 3), "a0": A0})
    assert ops(graph).count("If") == 1


PICKS = {
    "forward": ([node("Gather", ["z", "i"], ["row"], axis=0)], 5),
    "part": ([node("Gather", ["z", "i"], ["row"], axis=0)], 3),
    "backward": ([node("Sub", ["last", "i"], ["j"]), node("Gather", ["z", "j"], ["row"], axis=0)], 5),
    "negative": ([node("Sub", ["minus", "i"], ["j"]), node("Gather", ["z", "j"], ["row"], axis=0)], 5),
    "other axis": ([node("Gather", ["w", "i"], ["row"], axis=1)], 5),
    "kept axis": ([node("Unsqueeze", ["i", "zero"], ["j"]), node("Gather", ["z", "j"], ["r1"], axis=0),
                   node("Squeeze", ["r1", "zero"], ["row"])], 5),
    "kept inner axis": ([node("Unsqueeze", ["i", "zero"], ["j"]), node("Gather", ["w", "j"], ["r1"], axis=1),
                         node("Squeeze", ["r1", "axis"], ["row"])], 5),
    "twice": ([node("Gather", ["z", "i"], ["r1"], axis=0), node("Sub", ["last", "i"], ["j"]),
               node("Gather", ["z", "j"], ["r2"], axis=0), node("Gather", ["z", "i"], ["r3"], axis=0),
               node("Mul", ["r1", "r2"], ["r4"]), node("Sub", ["r4", "r3"], ["row"])], 5),
    "by a table": ([node("Gather", ["order", "i"], ["j"]), node("Gather", ["z", "j"], ["row"], axis=0)], 5),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKS)
def test_what_is_picked_by_a_counter_is_scanned(tmp_path: Path, name: str) -> None:
    picks, trips = PICKS[name]
    z, w = noise(5, 5, 3), noise(6, 3, 5)
    nodes = [*picks, node("Add", ["a", "row"], ["b"]), node("Tanh", ["b"], ["t"])]
    constants = {
        "zero": np.array([0]),
        "axis": np.array([1]),
        "last": np.array(4),
        "minus": np.array(-1),
        "order": np.array([3, 0, 4, 0, 1]),
    }
    model = make(
        [loop(nodes, [("a", z[0], "t")], ["b"])],
        [typed(z, "z"), typed(w, "w"), typed(z[0], "a0")],
        out("a_end", "b_all"),
        {"trip": np.array(trips), **constants},
    )
    feeds = {"z": z, "w": w, "a0": z[1]}
    used = {i for n in picks for i in n.input}
    model.graph.input.remove(model.graph.input[0 if "w" in used else 1])
    graph = check(model, tmp_path, {k: v for k, v in feeds.items() if k in used or k == "a0"})
    [scan] = [n for n in graph.nodes if n.op == "Scan"]
    inner = [n.op for n in scan.bodies[0].nodes]
    assert "Gather" not in inner or name == "by a table"


def test_what_a_loop_hands_on_unchanged_is_no_state(tmp_path: Path) -> None:
    """A shape carried as a constant stays a constant, a tensor stays where it is; counters nobody reads disappear."""
    nodes = [
        node("Identity", ["n"], ["n_same"]),
        node("Identity", ["z"], ["z1"]),
        node("Identity", ["z1"], ["z_same"]),
        node("Gather", ["z", "c"], ["row"], axis=0),
        node("Add", ["c", "one"], ["d"]),
        node("Reshape", ["row", "n"], ["r"]),
        node("Add", ["a", "r"], ["b"]),
        node("Less", ["d", "five"], ["more"]),
    ]
    z = noise(5, 5, 3)
    carried = [("n", np.array([3]), "n_same"), ("z", z, "z_same"), ("c", np.array(0), "d"), ("a", z[0], "b")]
    constants = {"n0": np.array([3]), "c0": np.array(0), "one": np.array(1), "five": np.array(5), "yes": YES}
    model = make(
        [loop(nodes, carried, trip="", cond="yes", going="more")],
        [typed(z, "z0"), typed(z[0], "a0")],
        out("n_end:int64", "z_end", "c_end:int64", "a_end"),
        constants,
    )
    graph = check(model, tmp_path, {"z0": z, "a0": z[1]})
    [scan] = [n for n in graph.nodes if n.op == "Scan"]
    assert scan.attrs["states"] == 1
    assert scan.inputs[1:] == ("z0",)


def test_a_value_that_grows_in_each_iteration_is_unrolled(tmp_path: Path) -> None:
    """y = Concat(y, x[i]) in a loop, as scripted models collect their outputs."""
    z = noise(5, 5, 3)
    nodes = [
        node("Gather", ["z", "i"], ["row"], axis=0),
        node("Unsqueeze", ["row", "zero"], ["r1"]),
        node("Concat", ["a", "r1"], ["b"], axis=0),
    ]
    model = make(
        [loop(nodes, [("a", z[:1], "b")])],
        [typed(z, "z"), typed(z[:1], "a0")],
        out("a_end"),
        {"trip": np.array(5), "zero": np.array([0])},
    )
    graph = check(model, tmp_path, {"z": z, "a0": z[:1]})
    assert not {"Loop", "Scan"} & set(ops(graph))


def test_slices_at_the_iteration_number_are_unrolled(tmp_path: Path) -> None:
    z = noise(5, 6, 3)
    nodes = [
        node("Unsqueeze", ["i", "zero"], ["from"]),
        node("Add", ["from", "two"], ["to"]),
        node("Slice", ["z", "from", "to", "zero"], ["part"]),
        node("Add", ["a", "part"], ["b"]),
    ]
    model = make(
        [loop(nodes, [("a", z[:2], "b")], ["part"])],
        [typed(z, "z"), typed(z[:2], "a0")],
        out("a_end", "part_all"),
        {"trip": np.array(5), "zero": np.array([0]), "two": np.array([2])},
    )
    check(model, tmp_path, {"z": z, "a0": z[:2]})


def test_a_loop_on_constants_is_a_constant(tmp_path: Path) -> None:
    nodes = [loop(STEP, [("a", A0, "t")], ["b"], constants={**K, "x": noise(9, 2, 3)}), node("Add", ["a_end", "z"], ["y"])]
    graph = check(make(nodes, [typed(A0, "z")], [Y], {"trip": np.array(7), "a0": A0}), tmp_path, {"z": A0})
    assert ops(graph) == ["Add"]


def test_a_slice_of_a_slice_that_is_known_in_each_iteration(tmp_path: Path) -> None:
    """The diagonal of a matrix: x[i][i]."""
    nodes = [node("Gather", ["xs", "i"], ["row"]), node("Gather", ["row", "i"], ["e"]), node("Add", ["a", "e"], ["b"])]
    model = make(
        [loop(nodes, [("a", np.float32(0), "b")], ["e"])],
        [("xs", F32, [4, 4])],
        out("a_end", "e_all"),
        {"trip": np.array(4), "a0": np.float32(0)},
    )
    check(model, tmp_path, {"xs": noise(0, 4, 4)}, {"xs": noise(1, 4, 4)})
