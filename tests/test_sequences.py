"""Sequences are gone once a file is read: what was done with them is done with tensors, call by call beside onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from control_files import CONDITION, NUMBER, check, converted, node, ops, out
from onnx import helper
from onnx_files import BOOL, F32, I64, Typed, branch, make, noise

from streamrnn import ShapeError, StreamRNNError, UnsupportedError
from streamrnn.ir.graph import Array

X: Typed = ("x", F32, [4, 6])
FEED = {"x": noise(0, 4, 6)}
CONSTANTS = {
    "zero": np.array(0), "one": np.array(1), "two": np.array(2), "minus": np.array(-1), "sizes": np.array([1, 3, 2]),
    "ones": np.array([1, 1, 1, 1]), "yes": np.array(True), "go": np.array(True), "trip": np.array(5),
}  # fmt: skip


def model(nodes: Sequence[onnx.NodeProto], outputs: Sequence[Typed], inputs: Sequence[Typed] = (X,)) -> onnx.ModelProto:
    used = {name for n in nodes for name in n.input}
    used |= {name for n in nodes for a in n.attribute if a.HasField("g") for inner in a.g.node for name in inner.input}
    given = {name for name, _, _ in inputs}
    return make(nodes, inputs, outputs, {k: v for k, v in CONSTANTS.items() if k in used and k not in given})


def test_items_are_put_in_taken_out_and_found_by_their_places(tmp_path: Path) -> None:
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("Abs", ["x"], ["a"]),
        node("SequenceEmpty", [], ["s0"]),
        node("SequenceInsert", ["s0", "x"], ["s1"]),
        node("SequenceInsert", ["s1", "n", "zero"], ["s2"]),  # n x
        node("SequenceInsert", ["s2", "a", "minus"], ["s3"]),  # n a x
        node("SequenceConstruct", ["x", "a", "n"], ["t"]),
        node("SequenceErase", ["t"], ["t1"]),  # x a
        node("SequenceErase", ["t1", "zero"], ["t2"]),  # a
        node("SequenceAt", ["s3", "zero"], ["y0"]),
        node("SequenceAt", ["s3", "one"], ["y1"]),
        node("SequenceAt", ["s3", "minus"], ["y2"]),
        node("SequenceAt", ["t2", "zero"], ["y3"]),
        node("SequenceLength", ["s3"], ["n3"]),
        node("Identity", ["t2"], ["t3"]),
        node("SequenceLength", ["t3"], ["n1"]),
        *(node("Tanh", [f"y{k}"], [f"z{k}"]) for k in range(4)),
    ]
    graph = check(model(nodes, out("z0", "z1", "z2", "z3", "n3:int64", "n1:int64")), tmp_path, FEED)
    assert not any("Sequence" in op for op in ops(graph))


WAYS = [("", 1), ("", 0), ("one", 1), ("one", 0), ("two", 1)]


@pytest.mark.parametrize(
    ("split", "keepdims", "axis"),
    [*((split, keep, axis) for split, keep in WAYS for axis in (0, 1, -1)), ("ones", 1, 0), ("sizes", 1, 1), ("sizes", 1, -1)],
)
def test_a_tensor_is_split_and_joined_again(tmp_path: Path, split: str, keepdims: int, axis: int) -> None:
    """In every way in which the pieces can be joined, and one piece alone."""
    nodes = [
        node("SplitToSequence", ["x", *([split] if split else [])], ["s"], axis=axis, keepdims=keepdims),
        node("SequenceAt", ["s", "two" if split in ("sizes", "") else "one"], ["p"]),
        node("Neg", ["p"], ["y"]),
    ]
    outputs = out("y")
    rank = 1 if split in ("", "one") and not keepdims else 2
    for a in range(-rank, rank):
        if split != "sizes" or a % rank == axis % 2:
            nodes.append(node("ConcatFromSequence", ["s"], [f"c{a + 3}"], axis=a))
            outputs += out(f"c{a + 3}")
    for a in range(-rank - 1, rank + 1):
        if split != "sizes":
            nodes.append(node("ConcatFromSequence", ["s"], [f"n{a + 3}"], axis=a, new_axis=1))
            outputs += out(f"n{a + 3}")
    check(model(nodes, outputs), tmp_path, FEED)


@pytest.mark.parametrize(("keepdims", "axis"), [(0, 0), (1, 1)])
def test_a_place_that_is_known_at_run_time_only_picks_a_slice(tmp_path: Path, keepdims: int, axis: int) -> None:
    nodes = [
        node("SplitToSequence", ["x"], ["s"], axis=axis, keepdims=keepdims),
        node("SequenceAt", ["s", "i"], ["p"]),
        node("Neg", ["p"], ["y"]),
    ]
    graph = check(model(nodes, out("y"), [X, ("i", I64, [])]), tmp_path, *({**FEED, "i": np.array(i)} for i in (0, 3, -1)))
    assert "Split" not in ops(graph)


def test_a_place_that_is_known_at_run_time_only_in_a_list_of_values(tmp_path: Path) -> None:
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("SequenceConstruct", ["x", "n"], ["s"]),
        node("SequenceAt", ["s", "i"], ["p"]),
        node("Abs", ["p"], ["y"]),
    ]
    check(model(nodes, out("y"), [X, ("i", I64, [])]), tmp_path, *({**FEED, "i": np.array(i)} for i in (0, 1, -2)))


def over_frames(inner: Sequence[onnx.NodeProto], *after: onnx.NodeProto, start: str = "empty") -> list[onnx.NodeProto]:
    """frames of x in a loop that carries a sequence `q`, which `inner` makes `r` of."""
    sequence = helper.make_tensor_sequence_value_info
    body = helper.make_graph(
        [node("Identity", ["cond"], ["going"]), *inner],
        "body",
        [helper.make_tensor_value_info(*NUMBER), helper.make_tensor_value_info(*CONDITION), sequence("q", F32, None)],
        [helper.make_tensor_value_info("going", BOOL, []), sequence("r", F32, None)],
    )
    return [
        node("SplitToSequence", ["x"], ["frames"], axis=0, keepdims=0),
        node("SequenceLength", ["frames"], ["count"]),
        node("SequenceEmpty", [], ["empty"]),
        node("SequenceConstruct", ["x"], ["full"]),
        node("Loop", ["count", "", start], ["end"], body=body),
        *after,
    ]


JOINED = (node("ConcatFromSequence", ["end"], ["c"], axis=0, new_axis=1), node("Neg", ["c"], ["y"]))


def test_what_a_loop_appends_is_stacked(tmp_path: Path) -> None:
    inner = [
        node("SequenceAt", ["frames", "i"], ["f"]),
        node("Tanh", ["f"], ["t"]),
        node("SequenceInsert", ["q", "t"], ["r"]),
    ]
    last = [node("SequenceAt", ["end", "minus"], ["l"]), node("Abs", ["l"], ["z"]), node("SequenceLength", ["end"], ["n"])]
    graph = check(model(over_frames(inner, *JOINED, *last), out("y", "z", "n:int64")), tmp_path, FEED)
    assert ops(graph).count("Scan") == 1
    assert "Gather" not in next(n for n in graph.nodes if n.op == "Scan").bodies[0].nodes


def test_what_a_loop_appends_to_a_list_that_is_not_empty_follows_it(tmp_path: Path) -> None:
    inner = [node("Mul", ["x", "x"], ["t"]), node("SequenceInsert", ["q", "t"], ["r"])]
    graph = check(model(over_frames(inner, *JOINED, start="full"), out("y")), tmp_path, FEED)
    assert ops(graph).count("Scan") == 1


@pytest.mark.parametrize(
    "inner",
    [
        [node("Tanh", ["x"], ["t"]), node("SequenceInsert", ["q", "t", "zero"], ["r"])],
        [node("SequenceLength", ["q"], ["n"]), node("Cast", ["n"], ["f"], to=F32), node("Mul", ["x", "f"], ["t"]),
         node("SequenceInsert", ["q", "t"], ["r"])],
        [node("SequenceAt", ["q", "minus"], ["l"]), node("Tanh", ["l"], ["t"]), node("SequenceInsert", ["q", "t"], ["r0"]),
         node("SequenceErase", ["r0", "zero"], ["r"])],
    ],
)  # fmt: skip
def test_a_loop_that_does_more_with_its_list_is_written_out(tmp_path: Path, inner: list[onnx.NodeProto]) -> None:
    graph = check(model(over_frames(inner, *JOINED, start="full"), out("y")), tmp_path, FEED)
    assert not {"Scan", "Loop"} & set(ops(graph))


def test_an_if_on_a_constant_may_give_a_sequence(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", F32, None)
    branches = [branch([node("SequenceConstruct", ["x", name], ["s"])], ()) for name in ("n", "x")]
    for body in branches:
        body.output.append(sequence)
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("If", ["go"], ["t"], then_branch=branches[0], else_branch=branches[1]),
        node("ConcatFromSequence", ["t"], ["c"], axis=0),
        node("Neg", ["c"], ["y"]),
    ]
    check(model(nodes, out("y")), tmp_path, FEED)
    with pytest.raises(UnsupportedError, match=r"\(If\): .*its branches give sequences.*--bind go=VALUE"):
        converted(model(nodes, out("y"), [X, ("go", BOOL, [])]), tmp_path)


# -- what is refused ------------------------------------------------------------------------------------------------


FANCY = node("Fancy", ["x"], ["t"], domain="own")


def bad(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    return [node("SplitToSequence", ["x"], ["s"], axis=0), *nodes, node("Neg", ["p"], ["y"])]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (bad([node("SequenceAt", ["s", "far"], ["p"])]), "position 9 is out of range for 4"),
        (bad([node("SequenceErase", ["s", "far"], ["e"]), node("SequenceAt", ["e", "zero"], ["p"])]), "out of range"),
        (bad([node("SequenceErase", ["s", "i"], ["e"]), node("SequenceAt", ["e", "zero"], ["p"])]), "is computed at run time"),
        (bad([node("SequenceInsert", ["s", "s"], ["e"]), node("SequenceAt", ["e", "zero"], ["p"])]), "not a tensor"),
        (bad([node("SequenceAt", ["x", "zero"], ["p"])]), "'x' is no sequence"),
        (bad([node("Tanh", ["s"], ["p"])]), r"\(Tanh\): its input 's' is a sequence"),
        (bad([node("SequenceEmpty", [], ["e"]), node("ConcatFromSequence", ["e"], ["p"], axis=0)]), "the sequence is empty"),
        (bad([node("ConcatFromSequence", ["s"], ["p"], axis=7)]), "axis 7 is out of range"),
        (bad([node("SplitToSequence", ["x", "i"], ["e"]), node("SequenceAt", ["e", "zero"], ["p"])]), "sizes of its pieces"),
        (bad([node("SplitToSequence", ["x", "odd"], ["e"]), node("SequenceAt", ["e", "zero"], ["p"])]), "do not add up"),
        (bad([node("SequenceConstruct", ["x", "row"], ["e"]), node("SequenceAt", ["e", "i"], ["p"])]), "2 different types"),
        ([node("SplitToSequence", ["x"], ["y"], axis=0)], "output 'y' is a sequence"),
        ([node("SequenceAt", ["q", "zero"], ["y"])], "'q' is of sequence"),
        (over_frames([FANCY, node("SequenceInsert", ["q", "t"], ["r"])], *JOINED), "own.Fancy"),
    ],
)  # fmt: skip
def test_what_cannot_be_resolved_is_refused_with_the_reason(tmp_path: Path, nodes: list[onnx.NodeProto], message: str) -> None:
    constants: dict[str, Array] = {**CONSTANTS, "far": np.array(9), "odd": np.array([3, 3]), "row": noise(1, 6)}
    file = make(nodes, [X, ("i", I64, [])], out("y"), constants, domains=["own"])
    file.graph.input.append(helper.make_tensor_sequence_value_info("q", F32, None))
    with pytest.raises(StreamRNNError, match=message) as error:
        converted(file, tmp_path)
    assert isinstance(error.value, UnsupportedError | ShapeError)


def test_a_list_carried_for_too_long_is_refused(tmp_path: Path) -> None:
    inner = [node("Tanh", ["x"], ["t"]), node("SequenceInsert", ["q", "t", "zero"], ["r"])]
    file = model(over_frames(inner, *JOINED), out("y"), [("x", F32, [3000, 2])])
    with pytest.raises(UnsupportedError, match=r"\(Loop\): unrolled, it has more than 4096 nodes"):
        converted(file, tmp_path)
    counted = over_frames(inner, *JOINED)
    counted[4].input[0] = "trips"
    with pytest.raises(UnsupportedError, match=r"it carries a sequence.*--bind trips=VALUE"):
        converted(model(counted, out("y"), [X, ("trips", I64, [])]), tmp_path)
