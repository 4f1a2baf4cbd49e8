"""float16 in a file: what it stores stays float16, what it computes is computed in float32 and rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import make, noise, ops, run_file, save
from streamrnn_converters import convert
from streamrnn_converters.validate import validate

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Array

HALF = TensorProto.FLOAT16
#: of a number near 1
ULP = 2.0**-10


def half(seed: int, *shape: int) -> Array:
    return (noise(seed, *shape) * np.float32(0.4)).astype(np.float16)


def one(op: str, *inputs: Array, file: Path, **attrs: object) -> Path:
    """A file with one node, whose inputs other than the first are constants."""
    names = [f"i{k}" for k in range(len(inputs))]
    constants = dict(zip(names[1:], inputs[1:], strict=True))
    node = helper.make_node(op, names, ["y"], **attrs)
    return save(make([node], [("i0", HALF, inputs[0].shape)], [("y", HALF, None)], constants, opset=20), file)


@pytest.mark.parametrize(
    ("op", "more", "attrs"),
    [
        ("Sigmoid", (), {}),
        ("Add", (half(2, 5),), {}),
        ("MatMul", (half(3, 5, 4),), {}),
        ("ReduceSum", (np.array([1]),), {}),
        ("Softmax", (), {"axis": -1}),
        ("Slice", (np.array([1]), np.array([3]), np.array([1])), {}),
        ("Where", (), {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_op_gives_what_float32_gives_rounded_to_float16(
    op: str, more: tuple[Array, ...], attrs: dict[str, object], tmp_path: Path
) -> None:
    x = half(1, 3, 5)
    if op == "Where":
        proto = make(
            [helper.make_node("Where", ["c", "i0", "z"], ["y"])],
            [("i0", HALF, [3, 5])], [("y", HALF, None)],
            {"c": noise(4, 3, 5) > 0, "z": half(5, 5)},
        )  # fmt: skip
        path = save(proto, tmp_path)
    else:
        path = one(op, x, *more, file=tmp_path, **attrs)
    engine = Engine(convert(path, mode="window"))
    found = Stream(engine).step(x)
    [expected] = run_file(path, {"i0": x})
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=ULP, atol=1e-7)


def test_what_is_only_moved_has_no_casts(tmp_path: Path) -> None:
    path = one("Transpose", half(1, 3, 5), file=tmp_path, perm=[1, 0])
    assert ops(convert(path, mode="window")) == ["Transpose"]


def test_functions_of_constants_are_folded_in_float16(tmp_path: Path) -> None:
    k = half(1, 5)
    nodes = [helper.make_node("Exp", ["k"], ["e"]), helper.make_node("Concat", ["x", "e"], ["y"], axis=0)]
    path = save(make(nodes, [("x", HALF, [2])], [("y", HALF, [7])], {"k": k}), tmp_path)
    graph = convert(path, mode="window")
    assert ops(graph) == ["Concat"]
    np.testing.assert_allclose(next(iter(graph.constants.values())), np.exp(k.astype(np.float64)), rtol=ULP)


def recurrent(folder: Path) -> Path:
    """x [T, 1, 3] -> LSTM -> MatMul -> Add -> Tanh, all in float16."""
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["all"], hidden_size=6),
        helper.make_node("Squeeze", ["all", "one"], ["flat"]),
        helper.make_node("MatMul", ["flat", "K"], ["scores"]),
        helper.make_node("Add", ["scores", "k"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["y"]),
    ]
    constants = {
        "W": half(1, 1, 24, 3), "R": half(2, 1, 24, 6), "B": half(3, 1, 48), "K": half(4, 6, 2), "k": half(5, 2),
        "one": np.array([1]),
    }  # fmt: skip
    return save(make(nodes, [("x", HALF, ["T", 1, 3])], [("y", HALF, ["T", 1, 2])], constants), folder)


def test_a_recurrent_model_in_float16_streams_and_validates(tmp_path: Path) -> None:
    path = recurrent(tmp_path)
    onnx.checker.check_model(onnx.load(path))
    engine = Engine(convert(path))
    assert engine.meta["mode"] == "frame"
    assert (engine.inputs["x"].dtype, engine.outputs["y"].dtype) == (np.float16, np.float16)
    x = half(7, 40, 1, 3)
    found = Stream(engine).process(x.reshape(40, *engine.inputs["x"].shape))
    [expected] = run_file(path, {"x": x})
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=2 * ULP)
    assert validate(path, engine, steps=40).passed


def test_the_state_of_a_float16_step_model_is_float16(tmp_path: Path) -> None:
    nodes = [helper.make_node("GRU", ["x", "W", "R", "", "", "h"], ["", "hn"], hidden_size=4, linear_before_reset=1)]
    inputs = [("x", HALF, [1, 1, 3]), ("h", HALF, [1, 1, 4])]
    path = save(make(nodes, inputs, [("hn", HALF, [1, 1, 4])], {"W": half(1, 1, 12, 3), "R": half(2, 1, 12, 4)}), tmp_path)
    engine = Engine(convert(path))
    stream, h = Stream(engine), np.zeros((1, 1, 4), np.float16)
    for x in half(3, 20, 1, 1, 3):
        stream.step(x.reshape(engine.inputs["x"].shape))
        [h] = run_file(path, {"x": x, "h": h})
    [state] = stream.state().values()
    assert state.dtype == np.float16
    np.testing.assert_allclose(state.ravel(), h.ravel(), rtol=0, atol=4 * ULP)
