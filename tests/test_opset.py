"""Nodes of every old opset, brought to the newest form, compute what they did.

The oracle is onnxruntime twice: on the file as it is, and on the upgraded nodes written as a file of a new opset.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_files import BOOL, F32, I64, Typed, branch, make, noise, run_file, save
from streamrnn_converters.onnx.raw import RawGraph, RawModel
from streamrnn_converters.onnx.reader import read_model

from streamrnn.ir.graph import Array

node = helper.make_node

#: opset of the files that upgraded nodes are written to
NEW = 22


def rewritten(graph: RawGraph, inputs: Sequence[Typed], outputs: Sequence[Typed]) -> onnx.ModelProto:
    """The upgraded nodes as an ONNX model of a new opset."""
    nodes = []
    for n in graph.nodes:
        assert not n.problem
        attrs = dict(n.attrs)
        if n.op == "ConstantOfShape":
            attrs = {"value": numpy_helper.from_array(np.array([attrs["value"]], str(attrs["dtype"])))}
        for key, body in n.subgraphs.items():
            typed = [(o.name, TensorProto.FLOAT, o.dims) for o in body.outputs]
            attrs[key] = rewritten(body, (), typed).graph
        nodes.append(node(n.op, n.inputs, n.outputs, n.name, **attrs))
    return make(nodes, inputs, outputs, graph.constants, opset=NEW)


X = noise(0, 2, 3, 4)
x = ("x", F32, [2, 3, 4])
ANY: Sequence[int | str | None] = [None] * 3


def case(op: str, opset: int, given: Sequence[str] = (), **attrs: object) -> pytest.param:
    """One node on x [2, 3, 4] and on constants by name."""
    return pytest.param(node(op, ["x", *given], ["y"], **attrs), opset, id=f"{op}-{opset}-{'-'.join(map(str, attrs.values()))}")


CONSTANTS: dict[str, Array] = {
    "axes": np.array([0, 2]),
    "low": np.array(-0.5, np.float32),
    "scales": np.array([1, 1, 2], np.float32),
    "index": np.array([[[1], [0], [1]]]),
    "updates": noise(5, 1, 3, 1),
    "single": np.array([0.7], np.float32),
    "shift": np.array([-0.2], np.float32),
    "one": noise(1, 3), "two": noise(2, 3), "three": noise(3, 3), "four": np.abs(noise(4, 3)),
}  # fmt: skip
REDUCE = [
    "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "opset"),
    [
        *(case(op, opset, axes=[1], keepdims=k) for op in REDUCE for opset in (7, 11) for k in (0, 1)),
        *(case(op, 13, axes=[-1, 0]) for op in REDUCE if op != "ReduceSum"),
        *(case(op, 11) for op in REDUCE),
        *(case(op, opset, axis=a) for op in ("Softmax", "LogSoftmax", "Hardmax") for opset in (7, 11) for a in (0, 1, 2)),
        *(case(op, 11, axis=-1) for op in ("Softmax", "LogSoftmax", "Hardmax")),
        *(case(op, opset) for op in ("Softmax", "LogSoftmax", "Hardmax") for opset in (7, 12, 13)),
        case("Unsqueeze", 7, axes=[0, 2]),
        case("Unsqueeze", 11, axes=[-1]),
        case("Slice", 7, starts=[1, 0], ends=[3, 2], axes=[1, 2]),
        case("Slice", 9, starts=[0, -2], ends=[1, 9]),
        case("Pad", 7, pads=[0, 1, 2, 0, 0, 1]),
        case("Pad", 10, pads=[0, 1, 2, 0, 0, 1], value=1.5),
        case("Pad", 7, pads=[0, 1, 2, 0, 0, 1], mode="reflect"),
        case("Clip", 7, min=-0.5, max=0.25),
        case("Clip", 10, max=0.25),
        case("Clip", 7),
        case("Clip", 11, ["low"]),
        case("Upsample", 7, scales=[1.0, 1.0, 3.0]),
        case("Upsample", 9, ["scales"]),
        case("Resize", 10, ["scales"]),
        case("Resize", 10, ["scales"], mode="linear"),
        case("Scatter", 9, ["index", "updates"], axis=1),
        case("Dropout", 7, ratio=0.3),
        case("Dropout", 13),
        case("BatchNormalization", 7, ["one", "two", "three", "four"], epsilon=1e-3),
        case("BatchNormalization", 9, ["one", "two", "three", "four"], momentum=0.5),
        case("BatchNormalization", 15, ["one", "two", "three", "four"]),
        case("GroupNormalization", 18, ["one", "two"], num_groups=3),
        case("GroupNormalization", 20, ["single", "shift"], num_groups=1, epsilon=1e-3),
    ],
)
def test_an_upgraded_node_computes_what_the_old_one_did(tmp_path: Path, old: onnx.NodeProto, opset: int) -> None:
    used = {name: CONSTANTS[name] for name in old.input if name in CONSTANTS}
    check(tmp_path, make([old], [x], [("y", F32, None)], used, opset=opset))  # type: ignore[list-item]


def check(folder: Path, model: onnx.ModelProto) -> RawModel:
    """Both files give the same; returns the upgraded model."""
    path = save(model, folder)
    raw = read_model(path)
    outputs = [(o.name, o.type.tensor_type.elem_type, None) for o in model.graph.output]
    new = save(rewritten(raw, [x], outputs), folder, "new.onnx")  # type: ignore[arg-type]
    for expected, found in zip(run_file(path, {"x": X}), run_file(new, {"x": X}), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    return raw


@pytest.mark.parametrize("opset", [7, 13, 18])
def test_split_has_sizes_or_a_number_of_parts(tmp_path: Path, opset: int) -> None:
    parts = [(name, F32, None) for name in "abc"]
    attrs = {"num_outputs": 3} if opset == 18 else {}
    check(tmp_path, make([node("Split", ["x"], list("abc"), axis=1, **attrs)], [x], parts, opset=opset))  # type: ignore[arg-type]
    if opset == 7:
        old = node("Split", ["x"], list("ab"), axis=2, split=[1, 3])
        check(tmp_path, make([old], [x], parts[:2], opset=opset))  # type: ignore[arg-type]


@pytest.mark.parametrize("opset", [7, 11])
def test_squeeze_takes_its_axes_as_an_input(tmp_path: Path, opset: int) -> None:
    nodes = [node("Unsqueeze", ["x"], ["u"], axes=[0, 4]), node("Squeeze", ["u"], ["y"], axes=[4])]
    check(tmp_path, make(nodes, [x], [("y", F32, ANY)], opset=opset))


def test_top_k_takes_k_as_an_input(tmp_path: Path) -> None:
    check(tmp_path, make([node("TopK", ["x"], ["y", "i"], k=2, axis=1)], [x], [("y", F32, ANY), ("i", I64, ANY)], opset=9))


@pytest.mark.parametrize(("opset", "dtype"), [(9, F32), (10, BOOL), (13, BOOL)])
def test_the_mask_of_a_dropout_is_full(tmp_path: Path, opset: int, dtype: int) -> None:
    model = make([node("Dropout", ["x"], ["y", "mask"])], [x], [("y", F32, ANY), ("mask", dtype, ANY)], opset=opset)
    raw = read_model(save(model, tmp_path))
    new = save(rewritten(raw, [x], [("y", F32, ANY), ("mask", dtype, ANY)]), tmp_path, "new.onnx")
    y, mask = run_file(new, {"x": X})
    np.testing.assert_array_equal(y, X)
    assert mask.dtype == helper.tensor_dtype_to_np_dtype(dtype)
    assert mask.shape == X.shape
    assert mask.all()


@pytest.mark.parametrize("axis", [1, -2])
def test_the_axis_of_a_dft_becomes_an_input(tmp_path: Path, axis: int) -> None:
    old = node("DFT", ["x"], ["y"], onesided=1, **({} if axis == 1 else {"axis": axis}))
    signal = ("x", F32, [2, 8, 1])
    raw = read_model(save(make([old], [signal], [("y", F32, ANY)], opset=17), tmp_path))
    feed = noise(9, 2, 8, 1)
    (found,) = run_file(save(rewritten(raw, [signal], [("y", F32, ANY)]), tmp_path, "new.onnx"), {"x": feed})
    expected = np.fft.rfft(feed[..., 0].astype(np.float64), axis=1)
    np.testing.assert_allclose(found, np.stack([expected.real, expected.imag], -1), atol=1e-5)


def test_nodes_inside_branches_are_upgraded_too(tmp_path: Path) -> None:
    body = branch([node("ReduceSum", ["x"], ["o"], axes=[1])], [("o", F32, [2, 1, 4])])
    other = branch([node("ReduceSum", ["x"], ["p"], axes=[1])], [("p", F32, [2, 1, 4])])
    test = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Greater", ["m", "m"], ["g"])]
    nodes = [*test, node("If", ["g"], ["y"], then_branch=body, else_branch=other)]
    raw = check(tmp_path, make(nodes, [x], [("y", F32, ANY)], opset=11))
    assert all(len(b.nodes[0].inputs) == 2 for b in raw.nodes[-1].subgraphs.values())


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_batch_first_recurrent_nodes_are_turned_round(tmp_path: Path, op: str, direction: str) -> None:
    """onnxruntime refuses layout 1, so the oracle is layout 0 with the axes swapped by hand, as the operator's page defines."""
    D, G, H, B, S, I = (2 if direction == "bidirectional" else 1), GATES[op], 5, 2, 3, 4  # noqa: E741
    weights = {"w": noise(1, D, G * H, I), "r": noise(2, D, G * H, H), "b": noise(3, D, 2 * G * H)}
    states = {name: noise(k, B, D, H) for k, name in enumerate(("h0", "c0") if op == "LSTM" else ("h0",))}
    finals = ["yh", "yc"][: len(states)]
    cell = node(op, ["x", "w", "r", "b", "", *states], ["y", *finals], hidden_size=H, direction=direction, layout=1)
    outputs = [(name, F32, None) for name in ("y", *finals)]
    model = make([cell], [x], outputs, {**weights, **states}, opset=14)  # type: ignore[arg-type]
    raw = read_model(save(model, tmp_path))
    found = run_file(save(rewritten(raw, [x], outputs), tmp_path, "new.onnx"), {"x": X})  # type: ignore[arg-type]
    cell.attribute.remove(next(a for a in cell.attribute if a.name == "layout"))
    swapped = {name: np.ascontiguousarray(h.swapaxes(0, 1)) for name, h in states.items()}
    plain = make([cell], [("x", F32, [S, B, I])], outputs, {**weights, **swapped}, opset=14)  # type: ignore[arg-type]
    y, *last = run_file(save(plain, tmp_path, "plain.onnx"), {"x": np.ascontiguousarray(X.swapaxes(0, 1))})
    np.testing.assert_allclose(found[0], np.moveaxis(y, 2, 0), rtol=1e-6, atol=1e-6)
    for a, b in zip(found[1:], last, strict=True):
        np.testing.assert_allclose(a, b.swapaxes(0, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "opset", "reason"),
    [
        (node("Dropout", ["x", "", "yes"], ["y"]), 13, "training mode"),
        (node("Dropout", ["x", "", "asked"], ["y"]), 13, "training mode"),
        (node("BatchNormalization", ["x", "one", "two", "three", "four"], ["y"], training_mode=1), 15, "training mode"),
        (node("BatchNormalization", ["x", "one", "two", "three", "four"], ["y", "m", "v"]), 9, "training mode"),
        (node("BatchNormalization", ["x", "one", "two", "three", "four"], ["y"], spatial=0), 7, "spatial=0"),
    ],
)
def test_what_has_no_newest_form_carries_the_reason(tmp_path: Path, old: onnx.NodeProto, opset: int, reason: str) -> None:
    constants = {**CONSTANTS, "yes": np.array(True)}
    model = make([old], [x, ("asked", BOOL, [])], [("y", F32, ANY)], constants, opset=opset)
    (found,) = read_model(save(model, tmp_path)).nodes
    assert reason in found.problem
