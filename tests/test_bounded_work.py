"""What a file may cost while it is converted: work that grows with its size, and is bounded where it names sizes itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import onnx
import pytest
from control_files import body, converted, loop, node, ops, out
from onnx import helper
from onnx_files import BOOL, F32, I64, branch, make, save
from streamrnn_converters import convert
from streamrnn_converters.passes import effort, sequences

from streamrnn import StreamRNNError

X = ("x", F32, [2, 3])
CELL = [1, 1, 4]


def work(model: onnx.ModelProto, folder: Path) -> int:
    """Calls that Python makes for a conversion: the same number on every machine."""
    path, count = save(model, folder), 0

    def tick(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += 1

    sys.setprofile(tick)
    try:
        convert(path, pair={"x": ""})
    except StreamRNNError:
        pass
    finally:
        sys.setprofile(None)
    return count


def loops(n: int) -> onnx.ModelProto:
    """n loops that are written out, one behind the other."""
    nodes = []
    for k in range(n):
        inputs = [("i", I64, []), ("c", BOOL, []), ("a", F32, None)]
        grow = body([node("Concat", ["a", "x"], ["b"], axis=0)], inputs, [("c", BOOL, []), ("b", F32, None)])  # type: ignore[arg-type]
        nodes += [node("Loop", ["two", "", "x"], [f"e{k}"], body=grow), node("ReduceSum", [f"e{k}"], [f"r{k}"])]
    return make([*nodes, node("Sum", [f"r{k}" for k in range(n)], ["y"])], [X], out("y"), {"two": np.array(2)})


def counters(n: int) -> onnx.ModelProto:
    """Carried values in a chain: whether the first is known before the run, only the last one tells."""
    nodes = [node("Add", [f"a{k + 1}", "one"], [f"b{k}"]) for k in range(n)] + [node("Add", ["x", "one"], [f"b{n}"])]
    carried = [(f"a{k}", np.float32(0), f"b{k}") for k in range(n + 1)]
    constants = {"one": np.float32(1), "trip": np.array(5), **{f"a{k}0": np.float32(0) for k in range(n + 1)}}
    results = [f"e{k}" for k in range(n + 1)]
    return make([loop(nodes, carried, results=results), node("Neg", ["e0"], ["y"])], [("x", F32, [])], out("y"), constants)


def handed_on(n: int) -> onnx.ModelProto:
    """Carried values that all go through one long chain of Identities."""
    chain = [node("Identity", [f"d{k - 1}" if k else "a0"], [f"d{k}"]) for k in range(n)]
    carried = [(f"a{k}", np.float32(0), f"d{n - 1}") for k in range(n)]
    constants = {"trip": np.array(5), **{f"a{k}0": np.float32(0) for k in range(n)}}
    results = [f"e{k}" for k in range(n)]
    return make([loop(chain, carried, results=results), node("Add", ["e0", "x"], ["y"])], [("x", F32, [])], out("y"), constants)


def slices(n: int) -> onnx.ModelProto:
    nodes = [node("Gather", [f"x{k}", "i"], [f"g{k}"], axis=0) for k in range(n)]
    nodes += [node("Add", [f"t{k - 1}" if k else "a", f"g{k}"], [f"t{k}"]) for k in range(n)]
    given = [(f"x{k}", F32, [5, 3]) for k in range(n)]
    zero = np.zeros(3, np.float32)
    return make([loop(nodes, [("a", zero, f"t{n - 1}")], results=["y"])], given, out("y"), {"trip": np.array(5), "a0": zero})


def states(n: int) -> onnx.ModelProto:
    nodes = [node("Tanh", [f"state_in_{k}"], [f"state_out_{k}"]) for k in range(n)] + [node("Neg", ["x"], ["y"])]
    named = [[(f"state_{way}_{k}", F32, [2, 3]) for k in range(n)] for way in ("in", "out")]
    return make(nodes, [X, *named[0]], [("y", F32, [2, 3]), *named[1]])


def cells(n: int) -> onnx.ModelProto:
    nodes = []
    for k in range(n):
        source = f"h_out{k - 1}" if k else "x"
        given = [source, "W", "R", "", "", f"h{k}", f"c{k}"]
        nodes.append(node("LSTM", given, ["", f"h_out{k}", f"c_out{k}"], hidden_size=4))
    inputs = [(f"{s}{k}", F32, CELL) for k in range(n) for s in "hc"]
    outputs = [(f"{s}_out{k}", F32, CELL) for k in range(n) for s in "hc"]
    weights = {name: np.zeros((1, 16, 4), np.float32) for name in "WR"}
    return make(
        [*nodes, node("Tanh", [f"h_out{n - 1}"], ["y"])], [("x", F32, CELL), *inputs], [("y", F32, CELL), *outputs], weights
    )


def open_shapes(n: int) -> onnx.ModelProto:
    """n nodes that cannot be compiled, each behind a longer chain."""
    nodes = [node("Add", [f"s{k - 1}" if k else "s", "one"], [f"s{k}"]) for k in range(n)]
    nodes += [node("Reshape", ["x", f"s{k}"], [f"r{k}"]) for k in range(n)]
    return make(
        [*nodes, node("Concat", [f"r{k}" for k in range(n)], ["y"], axis=0)],
        [X, ("s", I64, [2])],
        out("y"),
        {"one": np.array(1)},
    )


def branches(n: int) -> onnx.ModelProto:
    nodes = []
    for k in range(n):
        bodies = [branch([node(op, [f"v{k}" if k else "x"], ["a"])], out("a")) for op in ("Neg", "Abs")]
        nodes.append(node("If", ["go"], [f"v{k + 1}"], then_branch=bodies[0], else_branch=bodies[1]))
    return make([*nodes, node("Tanh", [f"v{n}"], ["y"])], [X, ("go", BOOL, [])], out("y"))


def lists(n: int) -> onnx.ModelProto:
    nodes = [node("SequenceEmpty", [], ["s0"])] + [node("SequenceInsert", [f"s{k}", "x"], [f"s{k + 1}"]) for k in range(n)]
    return make([*nodes, node("ConcatFromSequence", [f"s{n}"], ["y"], axis=0, new_axis=1)], [X], out("y"))


@pytest.mark.parametrize("made", [loops, counters, handed_on, slices, states, cells, open_shapes, branches, lists])
def test_twice_the_model_is_twice_the_work(tmp_path: Path, made: Callable[[int], onnx.ModelProto]) -> None:
    work(made(3), tmp_path)  # what is done once in a process
    assert work(made(160), tmp_path) < 2.3 * work(made(80), tmp_path)


def test_nodes_of_a_body_that_nothing_needs_cost_nothing_in_each_iteration(tmp_path: Path) -> None:
    def model(idle: int) -> onnx.ModelProto:
        nodes = [node("Concat", ["a", "x"], ["b"], axis=0), *(node("Add", ["x", f"k{k}"], [f"w{k}"]) for k in range(idle))]
        zero = np.zeros((2, 3), np.float32)
        written = loop(nodes, [("a", zero, "b")], results=["e"], constants={f"k{k}": np.float32(k) for k in range(idle)})
        return make([written, node("ReduceSum", ["e"], ["y"])], [X], out("y"), {"trip": np.array(200), "a0": zero})

    work(model(1), tmp_path)
    assert work(model(400), tmp_path) < 2 * work(model(1), tmp_path)


def swapping(trips: int) -> onnx.ModelProto:
    """A loop of nothing: in each iteration two sequences change places."""
    inner = body([], [("i", I64, []), ("c", BOOL, [])], [("go", BOOL, [])], {"go": np.array(True)})
    inner.input.extend(helper.make_tensor_sequence_value_info(name, F32, None) for name in "pq")
    inner.output.extend(helper.make_tensor_sequence_value_info(name, F32, None) for name in "qp")
    nodes = [
        node("SequenceConstruct", ["x"], ["s"]),
        node("SequenceConstruct", ["x", "x"], ["t"]),
        node("Loop", ["n", "", "s", "t"], ["u", "v"], body=inner),
        node("ConcatFromSequence", ["u"], ["y"], axis=0),
    ]
    return make(nodes, [X], out("y"), {"n": np.array(trips)})


def pieces(count: int, *, then: Sequence[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    """A value of so many rows, split into a sequence."""
    return make(
        [node("SplitToSequence", ["rows", *(["by"] if "by" in constants else [])], ["s"]), *then],
        [("rows", F32, [count, 1])],
        out("y"),
        constants,
    )


ENTERED = [node("SequenceInsert", ["s", "w"], ["t"]), node("ConcatFromSequence", ["t"], ["y"], axis=0)]
ROW = np.zeros((1, 1), np.float32)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (swapping(1 << 40), r"\(Loop\): unrolled, it has more than 4096 nodes"),
        (pieces(1 << 27, then=ENTERED, w=ROW), r"\(SequenceInsert\): the sequences of the model would become more than"),
        (
            pieces(1 << 27, then=[node("ConcatFromSequence", ["s"], ["y"], axis=0)], by=np.array(2)),
            r"\(SplitToSequence\): the sequences of the model would become more than",
        ),
    ],
)
def test_what_would_be_written_out_without_measure_is_refused(tmp_path: Path, model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(StreamRNNError, match=words):
        converted(model, tmp_path)


def test_lists_of_lists_name_a_bounded_number_of_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "MAX_LISTED", 55)
    assert ops(converted(lists(10), tmp_path))
    with pytest.raises(StreamRNNError, match=r"\(SequenceInsert\): the sequences of the model name more than 55 values"):
        converted(lists(11), tmp_path)


def test_the_length_of_a_sequence_without_elements_takes_no_memory(tmp_path: Path) -> None:
    nodes = [
        node("Slice", ["x", "none", "none"], ["x0"]),
        node("Expand", ["x0", "shape"], ["x1"]),
        node("SplitToSequence", ["x1"], ["s"], axis=1),
        node("SequenceLength", ["s"], ["n"]),
        node("Cast", ["n"], ["f"], to=F32),
        node("Add", ["x", "f"], ["y"]),
    ]
    model = make(nodes, [("x", F32, [2, 1])], out("y"), {"none": np.array([0]), "shape": np.array([0, 1 << 40])})
    graph = converted(model, tmp_path)
    assert [graph.constants[name] for name in graph.nodes[0].inputs if name in graph.constants] == [1 << 40]


def heavy(op: str, shape: Sequence[int], weights: dict[str, Any] | None = None, **attrs: Any) -> onnx.ModelProto:
    """An op on a large constant that takes three lines to write."""
    result = ["", "e"] if op == "GRU" else ["e"]
    given = ["z", *(weights or ["z"])]
    nodes = [node("ConstantOfShape", ["shape"], ["z"]), node(op, given, result, **attrs)]
    nodes += [node("ReduceSum", ["e"], ["r"]), node("Add", ["x", "r"], ["y"])]
    return make(nodes, [X], out("y"), {"shape": np.array(shape), **(weights or {})})


def repeated(trips: int, size: int) -> onnx.ModelProto:
    step = body(
        [node("MatMul", ["a", "a"], ["b"])],
        [("i", I64, []), ("c", BOOL, []), ("a", F32, [size, size])],
        [("c", BOOL, []), ("b", F32, [size, size])],
    )
    nodes = [node("ConstantOfShape", ["shape"], ["z"]), node("Loop", ["n", "", "z"], ["e"], body=step)]
    nodes += [node("ReduceSum", ["e"], ["r"]), node("Add", ["x", "r"], ["y"])]
    return make(nodes, [X], out("y"), {"shape": np.array([size, size]), "n": np.array(trips)})


CELLS = {"W": np.ones((1, 3, 1), np.float32), "R": np.ones((1, 3, 1), np.float32)}


@pytest.mark.parametrize(
    ("op", "small", "large"),
    [
        ("MatMul", heavy("MatMul", [40, 40]), heavy("MatMul", [4000, 4000])),
        ("Gemm", heavy("Gemm", [40, 40]), heavy("Gemm", [4000, 4000])),
        ("Einsum", heavy("Einsum", [40, 40], equation="ab,cb->ac"), heavy("Einsum", [4000, 4000], equation="ab,cb->ac")),
        ("Conv", heavy("Conv", [1, 1, 9, 9], pads=[4] * 4), heavy("Conv", [1, 1, 999, 999], pads=[499] * 4)),
        ("GRU", heavy("GRU", [40, 1, 1], CELLS, hidden_size=1), heavy("GRU", [1 << 20, 1, 1], CELLS, hidden_size=1)),
        ("Scan", repeated(4, 40), repeated(1000, 400)),
    ],
)
def test_what_is_expensive_on_constants_is_left_to_the_step(
    tmp_path: Path, op: str, small: onnx.ModelProto, large: onnx.ModelProto
) -> None:
    assert op not in ops(converted(small, tmp_path))
    assert op in ops(converted(large, tmp_path))


def test_folded_values_take_a_bounded_amount_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is small enough, all of them are not."""
    monkeypatch.setattr(effort, "MAX_FOLDED_TOTAL", 10 * 4096)
    nodes = [node("ConstantOfShape", ["shape"], [f"v{k}"]) for k in range(20)]
    nodes += [node("Sum", ["x", *(f"v{k}" for k in range(20))], ["y"])]
    graph = converted(make(nodes, [("x", F32, [1024])], out("y"), {"shape": np.array([1024])}), tmp_path)
    assert ops(graph).count("ConstantOfShape") == 10
