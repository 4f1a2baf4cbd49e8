"""Decluttering: fewer nodes, the same numbers, the same inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_files import F32, Typed, make, noise, ops, run_file, run_graph, save
from streamrnn_converters.onnx.reader import read_model
from streamrnn_converters.passes.declutter import declutter
from streamrnn_converters.passes.fold import fold

from streamrnn.errors import GraphError
from streamrnn.ir.graph import Array, Graph, Stage

node = helper.make_node
X: Typed = ("x", F32, [2, 3, 4])
Y: Typed = ("y", F32, None)  # type: ignore[assignment]


def decluttered(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array] | None = None,
    outputs: Sequence[Typed] = (Y,),
    opset: int = 18,
) -> Graph:
    """The decluttered graph of a file on x [2, 3, 4], checked against onnxruntime on that file."""
    path = save(make(nodes, [X], outputs, constants, opset=opset), folder)
    graph = declutter(fold(read_model(path)))
    x = noise(0, 2, 3, 4)
    assert graph.outputs == tuple(name for name, *_ in outputs)
    for found, expected in zip(run_graph(graph, {"x": x}), run_file(path, {"x": x}), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    return graph


def after_relu(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    """x -> Relu -> "a" -> the nodes -> "b" -> Tanh -> y"""
    return [node("Relu", ["x"], ["a"]), *nodes, node("Tanh", ["b"], ["y"])]


INTS: dict[str, Array] = {
    "same": np.array([2, 3, 4]), "ones": np.array([1, 1, 1]), "zeros": np.array([0, 0, 0]), "ends": np.array([9, 9, 9]),
    "first": np.array([0]), "last": np.array([3]), "none": np.zeros(6, np.int64), "pairs": np.array([4, 6]),
    "flat": np.array([24]), "rows": np.array([6, 4]), "all": np.array([4]),
}  # fmt: skip


@pytest.mark.parametrize(
    "nothing",
    [
        node("Transpose", ["a"], ["b"], perm=[0, 1, 2]),
        node("Reshape", ["a", "same"], ["b"]),
        node("Expand", ["a", "ones"], ["b"]),
        node("Tile", ["a", "ones"], ["b"]),
        node("Cast", ["a"], ["b"], to=F32),
        node("Slice", ["a", "zeros", "ends"], ["b"]),
        node("Slice", ["a", "zeros", "ends", "", "ones"], ["b"]),
        node("Concat", ["a"], ["b"], axis=1),
        node("Split", ["a", "all"], ["b"], axis=2),
        node("Pad", ["a", "none"], ["b"]),
        node("Identity", ["a"], ["b"]),
        node("Sum", ["a"], ["b"]),
        node("Max", ["a"], ["b"]),
        node("Clip", ["a"], ["b"]),
        node("Mul", ["a", "one"], ["b"]),
        node("Mul", ["one", "a"], ["b"]),
        node("Div", ["a", "one"], ["b"]),
        node("Add", ["a", "nil"], ["b"]),
        node("Add", ["nil", "a"], ["b"]),
        node("Sub", ["a", "nil"], ["b"]),
        node("Pow", ["a", "one"], ["b"]),
    ],
    ids=lambda n: f"{n.op_type}-{'-'.join(n.input)}",
)
def test_ops_that_do_nothing_disappear(tmp_path: Path, nothing: onnx.NodeProto) -> None:
    constants = {**INTS, "one": np.ones(4, np.float32), "nil": np.zeros((3, 1), np.float32)}
    graph = decluttered(tmp_path, after_relu(nothing), constants)
    assert ops(graph) == ["Relu", "Tanh"]
    assert not graph.constants


@pytest.mark.parametrize(
    ("something", "op"),
    [
        (node("Transpose", ["a"], ["b"], perm=[1, 0, 2]), "Transpose"),
        (node("Transpose", ["a"], ["b"]), "Transpose"),
        (node("Slice", ["a", "minus", "start", "", "back"], ["b"]), "Slice"),
        (node("Sub", ["nil", "a"], ["b"]), "Sub"),
        (node("Div", ["one", "c"], ["b"]), "Div"),
        (node("Add", ["a", "wide"], ["b"]), "Add"),
    ],
)
def test_ops_that_look_like_nothing_but_are_not_stay(tmp_path: Path, something: onnx.NodeProto, op: str) -> None:
    constants = {
        "minus": np.array([-1, -1, -1]), "start": np.array([-9, -9, -9]), "back": np.array([-1, -1, -1]),
        "one": np.ones(4, np.float32), "nil": np.zeros(4, np.float32), "wide": np.zeros((2, 1, 1, 1), np.float32),
    }  # fmt: skip
    before = [node("Sigmoid", ["a"], ["c"])] if op == "Div" else []
    assert op in ops(decluttered(tmp_path, after_relu(*before, something), constants))


@pytest.mark.parametrize(("second", "left"), [([2, 0, 1], 0), ([1, 2, 0], 1)])
def test_transposes_in_a_row_are_one_or_none(tmp_path: Path, second: list[int], left: int) -> None:
    nodes = after_relu(node("Transpose", ["a"], ["t"], perm=[1, 2, 0]), node("Transpose", ["t"], ["b"], perm=second))
    assert ops(decluttered(tmp_path, nodes)).count("Transpose") == left


def test_a_long_row_of_transposes_is_one(tmp_path: Path) -> None:
    chain = [node("Transpose", [f"t{k}"], [f"t{k + 1}"], perm=[1, 2, 0]) for k in range(4)]
    nodes = [node("Relu", ["x"], ["t0"]), *chain, node("Tanh", ["t4"], ["y"])]
    graph = decluttered(tmp_path, nodes)
    assert ops(graph) == ["Relu", "Transpose", "Tanh"]


def test_a_transpose_that_others_read_stays_for_them(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[2, 1, 0]),
        node("Transpose", ["t"], ["b"], perm=[2, 1, 0]),
        node("Relu", ["b"], ["y"]),
        node("Relu", ["t"], ["z"]),
    ]
    graph = decluttered(tmp_path, nodes, outputs=[Y, ("z", F32, None)])  # type: ignore[list-item]
    assert sorted(ops(graph)) == ["Relu", "Relu", "Transpose"]


def test_reshapes_in_a_row_are_one_or_none(tmp_path: Path) -> None:
    one = after_relu(node("Reshape", ["a", "flat"], ["t"]), node("Reshape", ["t", "pairs"], ["b"]))
    assert ops(decluttered(tmp_path, one, INTS)) == ["Relu", "Reshape", "Tanh"]
    none = after_relu(node("Flatten", ["a"], ["t"]), node("Reshape", ["t", "same"], ["b"]))
    assert ops(decluttered(tmp_path, none, INTS)) == ["Relu", "Tanh"]


def test_squeeze_takes_back_what_unsqueeze_did(tmp_path: Path) -> None:
    pair = node("Unsqueeze", ["a", "last"], ["t"]), node("Squeeze", ["t", "last"], ["b"])
    assert ops(decluttered(tmp_path, after_relu(*pair), INTS)) == ["Relu", "Tanh"]
    moved = node("Unsqueeze", ["a", "last"], ["t"]), node("Unsqueeze", ["t", "first"], ["b"])
    assert ops(decluttered(tmp_path, after_relu(*moved), INTS)) == ["Relu", "Unsqueeze", "Unsqueeze", "Tanh"]


@pytest.mark.parametrize(("axis", "left"), [(2, ["Softmax"]), (1, ["Flatten", "Softmax", "Reshape"])])
def test_an_old_softmax_over_one_axis_is_a_plain_one(tmp_path: Path, axis: int, left: list[str]) -> None:
    graph = decluttered(tmp_path, [node("Softmax", ["x"], ["y"], axis=axis)], opset=11)
    assert ops(graph) == left


@pytest.mark.parametrize("own", [{}, {"pads": [1, 0, 0, 2]}, {"auto_pad": "VALID"}, {"strides": [2, 1], "dilations": [1, 2]}])
@pytest.mark.parametrize("named", [False, True])
def test_zeros_in_front_of_a_conv_become_its_padding(tmp_path: Path, own: dict[str, object], named: bool) -> None:
    constants = {
        "w": noise(1, 5, 3, 2, 2), "shape": np.array([1, 3, 2, 4]),
        "pads": np.array([2, 1, 0, 3]) if named else np.array([0, 0, 2, 1, 0, 0, 0, 3]),
        "axes": np.array([2, -1]),
    }  # fmt: skip
    pad = node("Pad", ["r", "pads", "", "axes"] if named else ["r", "pads"], ["p"])
    nodes = [node("Reshape", ["x", "shape"], ["r"]), pad, node("Conv", ["p", "w"], ["y"], **own)]
    graph = decluttered(tmp_path, nodes, constants)
    assert ops(graph) == ["Reshape", "Conv"]


@pytest.mark.parametrize(
    ("pads", "value", "attrs", "conv"),
    [
        ([0, 1, 0, 0, 0, 0], 0.0, {}, {}),
        ([0, 0, 1, 0, 0, 0], 1.0, {}, {}),
        ([0, 0, 1, 0, 0, 0], 0.0, {"mode": "edge"}, {}),
        ([0, 0, -1, 0, 0, 2], 0.0, {}, {}),
        ([0, 0, 1, 0, 0, 0], 0.0, {}, {"auto_pad": "SAME_UPPER"}),
    ],
)
def test_other_padding_in_front_of_a_conv_stays(
    tmp_path: Path, pads: list[int], value: float, attrs: dict[str, str], conv: dict[str, str]
) -> None:
    constants = {"pads": np.array(pads), "value": np.float32(value), "w": noise(1, 5, 3 + sum(pads[1::3]), 2)}
    nodes = [node("Pad", ["x", "pads", "value"], ["p"], **attrs), node("Conv", ["p", "w"], ["y"], **conv)]
    assert ops(decluttered(tmp_path, nodes, constants)) == ["Pad", "Conv"]


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("names", "constants", "axis", "pads"),
    [
        (["k", "a"], {"k": zeros(2, 3, 2)}, 2, [0, 0, 2, 0, 0, 0]),
        (["a", "k"], {"k": zeros(2, 1, 4) + 5}, 1, [0, 0, 0, 0, 1, 0]),
        (["k", "l", "a", "k"], {"k": zeros(1, 3, 4) - 1, "l": zeros(2, 3, 4) - 1}, -3, [3, 0, 0, 1, 0, 0]),
    ],
)
def test_one_number_around_a_value_is_a_pad(
    tmp_path: Path, names: list[str], constants: dict[str, Array], axis: int, pads: list[int]
) -> None:
    graph = decluttered(tmp_path, after_relu(node("Concat", names, ["b"], axis=axis)), constants)
    assert ops(graph) == ["Relu", "Pad", "Tanh"]
    np.testing.assert_array_equal(graph.constants[graph.nodes[1].inputs[1]], pads)


@pytest.mark.parametrize(
    ("names", "constants"),
    [
        (["k", "a"], {"k": np.arange(24, dtype=np.float32).reshape(2, 3, 4)}),
        (["k", "a", "l"], {"k": zeros(2, 3, 4), "l": zeros(2, 3, 4) + 1}),
        (["a", "k", "a"], {"k": zeros(2, 3, 4)}),
        (["k", "a"], {"k": zeros(2, 3, 4) + np.float32(np.nan)}),
    ],
)
def test_other_joins_stay(tmp_path: Path, names: list[str], constants: dict[str, Array]) -> None:
    graph = decluttered(tmp_path, after_relu(node("Concat", names, ["b"], axis=1)), constants)
    assert ops(graph) == ["Relu", "Concat", "Tanh"]


def test_zeros_joined_in_front_of_a_conv_become_its_padding(tmp_path: Path) -> None:
    nodes = after_relu(node("Concat", ["k", "a"], ["c"], axis=2), node("Conv", ["c", "w"], ["b"]))
    graph = decluttered(tmp_path, nodes, {"k": zeros(2, 3, 2), "w": noise(1, 5, 3, 3)})
    assert ops(graph) == ["Relu", "Conv", "Tanh"]
    assert graph.nodes[1].attrs["pads"] == (2, 0)


def test_outputs_keep_their_names(tmp_path: Path) -> None:
    """Nothing stands for x, r and a constant under other names; only the copies that are needed stay."""
    nodes = [
        node("Reshape", ["x", "same"], ["copy"]),
        node("Relu", ["x"], ["r"]),
        node("Reshape", ["r", "same"], ["r1"]),
        node("Tanh", ["r1"], ["t"]),
        node("Transpose", ["t"], ["t1"], perm=[0, 1, 2]),
        node("Cast", ["t"], ["t2"], to=TensorProto.FLOAT),
        node("Neg", ["t2"], ["n"]),
    ]
    names = ["copy", "r", "r1", "t1", "t2", "n"]
    graph = decluttered(tmp_path, nodes, INTS, [(name, F32, None) for name in names])  # type: ignore[misc]
    assert sorted(ops(graph)) == ["Identity", "Identity", "Identity", "Neg", "Relu", "Tanh"]


def test_step_graphs_are_refused(tmp_path: Path) -> None:
    graph = decluttered(tmp_path, [node("Relu", ["x"], ["y"])])
    with pytest.raises(GraphError, match="before streamify"):
        declutter(graph.replace(stage=Stage.STEP))


def test_a_decluttered_graph_is_not_changed_again(tmp_path: Path) -> None:
    graph = decluttered(tmp_path, after_relu(node("Transpose", ["a"], ["b"])))
    assert declutter(graph) is graph


MOVES = st.lists(
    st.sampled_from(["transpose", "reshape", "flatten", "unsqueeze", "squeeze", "slice", "add", "relu"]), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(moves=MOVES, seed=st.integers(0, 1 << 16), tapped=st.booleans())
def test_any_chain_of_moves_keeps_its_result(
    tmp_path_factory: pytest.TempPathFactory, moves: list[str], seed: int, tapped: bool
) -> None:
    """Random chains, with an output in the middle or without one, against onnxruntime on the file."""
    rng = np.random.default_rng(seed)
    shape, nodes, constants = (2, 3, 4), [], {}
    for k, move in enumerate(moves):
        source, target, ints = f"v{k}" if k else "x", f"v{k + 1}", f"i{k}"
        rank = len(shape)
        if move == "transpose":
            perm = [int(p) for p in rng.permutation(rank)]
            nodes.append(node("Transpose", [source], [target], perm=perm))
            shape = tuple(shape[p] for p in perm)
        elif move == "flatten":
            axis = int(rng.integers(rank + 1))
            nodes.append(node("Flatten", [source], [target], axis=axis))
            shape = (int(np.prod(shape[:axis])), int(np.prod(shape[axis:])))
        elif move in ("relu", "add"):
            constants[ints] = np.zeros(1, np.float32)
            nodes.append(node("Relu", [source], [target]) if move == "relu" else node("Add", [source, ints], [target]))
        else:
            if move == "reshape":
                shape = [(2, 3, 4), (4, 6), (24,), (1, 24, 1), (3, 2, 4)][int(rng.integers(5))]
                constants[ints] = np.array(shape)
            elif move == "unsqueeze":
                axis = int(rng.integers(rank + 1))
                shape, constants[ints] = (*shape[:axis], 1, *shape[axis:]), np.array([axis])
            elif move == "squeeze":
                constants[ints] = np.array([d for d, n in enumerate(shape) if n == 1], np.int64)
                shape = tuple(n for n in shape if n != 1)
            else:
                constants[ints], constants[f"e{k}"] = np.zeros(rank, np.int64), np.array(shape)
            extra = [f"e{k}"] if move == "slice" else []
            nodes.append(node(move.capitalize(), [source, ints, *extra], [target]))
    names = dict.fromkeys([f"v{1 + seed % len(moves)}" if tapped else f"v{len(moves)}", f"v{len(moves)}"])
    outputs: list[Typed] = [(name, F32, None) for name in names]  # type: ignore[misc]
    decluttered(tmp_path_factory.mktemp("chain"), nodes, constants, outputs)


REAL = ["silero_v6_openvino", "pose_gru", "dtln_1", "dtln_pt_1", "fairtalk_a", "lisennet", "gtcrn_simple"]


@pytest.mark.parametrize("name", REAL)
def test_decluttered_real_models_compute_what_they_did(models: Path, name: str) -> None:
    model = read_model(models / "onnx" / f"{name}.onnx")
    folded = fold(model, {"input": (1, 30, 34)} if name == "pose_gru" else {})
    graph = declutter(folded)
    assert len(graph.nodes) <= len(folded.nodes)
    feeds = {key: 0.1 * noise(k, *graph.types[key].shape) for k, key in enumerate(graph.inputs)}
    for found, expected in zip(run_graph(graph, feeds), run_graph(folded, feeds), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
