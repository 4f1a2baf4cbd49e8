"""Ops that ONNX defines by other ops: the definition takes the node's place, for the types that the node sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import NodeProto, helper
from onnx_files import F32, I64, make, noise, save
from streamrnn_converters import backend, convert

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.op import op_names

node = helper.make_node


def three(*shape: int) -> dict[str, Array]:
    return {name: noise(seed, *shape) for seed, name in enumerate("abc")}


CASES: dict[str, tuple[NodeProto, dict[str, Array]]] = {
    "attention": (node("Attention", ["a", "b", "c"], ["y"]), three(1, 2, 5, 4)),
    "causal": (node("Attention", ["a", "b", "c"], ["y"], is_causal=1), three(2, 2, 5, 4)),
    "heads in one dimension": (
        node("Attention", ["a", "b", "c", "m"], ["y"], q_num_heads=2, kv_num_heads=2, scale=0.3),
        {**three(1, 5, 8), "m": noise(3, 5, 5)},
    ),
    "rotary": (
        node("RotaryEmbedding", ["x", "c", "s"], ["y"], interleaved=1),
        {"x": noise(0, 1, 2, 3, 4), "c": noise(1, 1, 3, 2), "s": noise(2, 1, 3, 2)},
    ),
    "variance": (node("MeanVarianceNormalization", ["x"], ["y"], axes=[2]), {"x": noise(0, 2, 3, 7)}),
    "loss": (
        node("SoftmaxCrossEntropyLoss", ["x", "t"], ["y", "p"], reduction="sum"),
        {"x": noise(0, 3, 5), "t": np.array([4, 0, 2])},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_definition_gives_what_onnxruntime_gives(name: str) -> None:
    """onnxruntime has kernels of its own for these ops."""
    op, inputs = CASES[name]
    assert op.op_type not in op_names()
    typed = [(n, I64 if a.dtype == np.int64 else F32, a.shape) for n, a in inputs.items()]
    model = make([op], typed, [(out, F32, None) for out in op.output], opset=23)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, inputs)
    for own, other in zip(backend.prepare(model).run(inputs), expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6)


def test_no_node_of_a_defined_op_is_left(tmp_path: Path) -> None:
    op, inputs = CASES["attention"]
    model = make([op], [(n, F32, a.shape) for n, a in inputs.items()], [("y", F32, None)], opset=23)
    graph = convert(save(model, tmp_path), mode="window")
    assert {n.op for n in graph.nodes} <= set(op_names())
    assert (graph.inputs, graph.outputs) == (("a", "b", "c"), ("y",))


def test_what_is_wrong_inside_a_definition_is_said_under_the_nodes_name(tmp_path: Path) -> None:
    op = node("Attention", ["a", "b", "c"], ["y"], name="look")
    typed = [("a", F32, [1, 2, 5, 4]), ("b", F32, [1, 2, 5, 3]), ("c", F32, [1, 2, 5, 4])]
    with pytest.raises(ShapeError, match=r"'look\."):
        convert(save(make([op], typed, [("y", F32, None)], opset=23), tmp_path), mode="window")


def test_a_definition_that_onnx_does_not_give_is_an_error_of_the_node(tmp_path: Path) -> None:
    op = node("Attention", ["", "b", "c"], ["y"], name="look")
    model = make([op], [(n, F32, [1, 2, 5, 4]) for n in "bc"], [("y", F32, None)], opset=23)
    with pytest.raises(UnsupportedError, match="'look'"):
        convert(save(model, tmp_path), mode="window")


def test_two_nodes_of_one_op_do_not_share_names() -> None:
    nodes = [node("MeanVarianceNormalization", [a], [b], axes=[0]) for a, b in (("x", "z"), ("z", "y"))]
    x = noise(0, 6, 2)
    (y,) = backend.run_model(make(nodes, [("x", F32, x.shape)], [("y", F32, None)]), [x])
    z = (x - x.mean(0)) / x.std(0)
    np.testing.assert_allclose(y, (z - z.mean(0)) / z.std(0), rtol=1e-5, atol=1e-6)


def test_what_it_needs_at_conversion_is_traced_to_the_models_inputs() -> None:
    op = node("CenterCropPad", ["x", "size"], ["y"])
    rep = backend.prepare(make([op], [("x", F32, [5, 4]), ("size", I64, [2])], [("y", F32, None)], opset=18))
    x = noise(0, 5, 4)
    assert np.array_equal(rep.run([x, np.array([3, 2])])[0], x[1:4, 1:3])
    assert rep.bound == ("size",)
