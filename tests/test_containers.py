"""The backend takes and gives sequences and optional values, beside onnxruntime; the step knows tensors alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx_files import BOOL, F32, I64, branch, make, noise, save
from streamrnn_converters import backend, convert

from streamrnn.errors import InputError, ShapeError, UnsupportedError
from streamrnn.ir.graph import Array

TENSOR = helper.make_tensor_type_proto(F32, None)
ROWS = helper.make_sequence_type_proto(TENSOR)
#: types of inputs and outputs by the first letter of their names: o for optional, q for an optional sequence, s for a sequence
KINDS = {"s": ROWS, "o": helper.make_optional_type_proto(TENSOR), "q": helper.make_optional_type_proto(ROWS), "x": TENSOR}


def model(nodes: Sequence[onnx.NodeProto], inputs: str, outputs: str, opset: int = 18) -> onnx.ModelProto:
    """Inputs and outputs are named in a text; those that begin with none of `KINDS` are int64 scalars, or bool if with b."""

    def declared(name: str) -> onnx.ValueInfoProto:
        other = helper.make_tensor_type_proto(BOOL if name[0] == "b" else I64, [])
        return helper.make_value_info(name, KINDS.get(name[0], other))

    graph = helper.make_graph(list(nodes), "test", [*map(declared, inputs.split())], [*map(declared, outputs.split())])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def same(own: Any, other: Any) -> None:
    if isinstance(other, list):
        assert isinstance(own, list)
        assert len(own) == len(other)
        for a, b in zip(own, other, strict=True):
            same(a, b)
    elif other is None:
        assert own is None
    else:
        assert own.dtype == other.dtype
        np.testing.assert_array_equal(own, other)


def check(proto: onnx.ModelProto, *feeds: list[Any]) -> backend.Rep:
    """One Rep gives what onnxruntime does, call after call."""
    rep = backend.prepare(proto)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for feed in feeds:
        given = dict(zip((i.name for i in session.get_inputs()), feed, strict=True))
        same(list(rep.run(feed)), session.run(None, given))
    return rep


def rows(*sizes: int) -> list[Array]:
    return [noise(n, n, 2) for n in sizes]


def test_a_sequence_of_any_length_and_shapes_goes_in_and_comes_out() -> None:
    insert = helper.make_node("SequenceInsert", ["s", "x", "i"], ["s_out"])
    proto = model([insert], "s x i", "s_out")
    x = noise(9, 3)
    rep = check(proto, [rows(1, 2), x, np.array(0)], [rows(3), x, np.array(-1)], [rows(1, 2), x, np.array(1)])
    assert rep.bound == ("i",)
    assert set(rep.graph([rows(1, 2), x, np.array(1)]).inputs) == {"s.0", "s.1", "x"}


def test_a_sequence_may_be_empty() -> None:
    node = helper.make_node("SequenceLength", ["s"], ["n"])
    same(backend.run_model(model([node], "s", "n"), [[]])[0], np.array(0))
    erase = helper.make_node("SequenceErase", ["s"], ["s_out"])
    check(model([erase], "s", "s_out"), [rows(2)], [rows(2, 1)])


def test_the_outputs_of_a_model_may_be_tensors_and_sequences() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], axis=0),
        helper.make_node("Neg", ["x"], ["x_out"]),
        helper.make_node("SequenceLength", ["s"], ["n"]),
    ]
    check(model(nodes, "x", "x_out s n"), [noise(0, 3, 2)], [noise(1, 5)])


def test_a_sequence_is_mapped() -> None:
    body = helper.make_graph(
        [helper.make_node("Mul", ["a", "b"], ["p"]), helper.make_node("Shape", ["a"], ["n"])],
        "body",
        [helper.make_tensor_value_info(name, F32, None) for name in "ab"],
        [helper.make_tensor_value_info("p", F32, None), helper.make_tensor_value_info("n", I64, None)],
    )
    node = helper.make_node("SequenceMap", ["s", "x"], ["s_out", "t"], body=body)
    proto = model([node], "s x", "s_out")
    check(proto, [rows(1, 2, 3), noise(0, 2)], [rows(2), noise(1, 2)])


def test_the_condition_that_chooses_a_sequence_becomes_a_constant() -> None:
    made = [helper.make_node("SequenceConstruct", names, ["s"]) for names in (["x"], ["x", "x"])]
    then, other = (branch([node], []) for node in made)
    for body in (then, other):
        body.output.append(helper.make_value_info("s", ROWS))
    node = helper.make_node("If", ["b"], ["s_out"], then_branch=then, else_branch=other)
    x = noise(0, 2)
    rep = check(model([node], "b x", "s_out"), [np.array(True), x], [np.array(False), x])
    assert rep.bound == ("b",)


OPTIONAL = [
    helper.make_node("OptionalHasElement", ["o"], ["b"]),
    helper.make_node("If", ["b"], ["x_out"], then_branch=branch([helper.make_node("OptionalGetElement", ["o"], ["y"])], []),
                     else_branch=branch([helper.make_node("Neg", ["x"], ["y"])], [])),
]  # fmt: skip


def test_an_optional_value_is_there_or_not() -> None:
    for attribute in OPTIONAL[1].attribute:
        del attribute.g.output[:]
        attribute.g.output.append(helper.make_value_info("y", TENSOR))
    proto = model(OPTIONAL, "o x", "x_out b")
    x, given = noise(0, 3), noise(1, 3)
    rep = check(proto, [given, x], [None, x])
    same(rep.run([given, x])[0], given)
    same(rep.run([None, x])[0], -x)
    assert rep.bound == ()


@pytest.mark.parametrize("value", [None, [], rows(2), rows(1, 3)], ids=["none", "0", "1", "2"])
def test_an_optional_sequence_goes_through(value: list[Array] | None) -> None:
    proto = model([helper.make_node("Identity", ["q"], ["q_out"])], "q", "q_out")
    same(backend.run_model(proto, [value])[0], value)


def test_an_optional_value_that_is_taken_and_not_there_is_named() -> None:
    proto = model([helper.make_node("OptionalGetElement", ["o"], ["x"])], "o", "x")
    x = noise(0, 2)
    same(backend.run_model(proto, [x])[0], x)
    with pytest.raises(ShapeError, match=r"OptionalGetElement.*not there"):
        backend.run_model(proto, [None])


def test_values_of_another_kind_are_refused() -> None:
    rep = backend.prepare(model([helper.make_node("SequenceLength", ["s"], ["n"])], "s", "n"))
    with pytest.raises(InputError, match=r"'s' is a sequence.*not ndarray"):
        rep.run([noise(0, 2)])
    rep = backend.prepare(model([helper.make_node("SequenceAt", ["s", "i"], ["x"])], "s i", "x"))
    with pytest.raises(InputError, match="float64"):
        rep.run([[np.zeros(2)], np.array(0)])


def test_names_that_the_items_would_have_may_be_taken() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["s.0"]), helper.make_node("SequenceAt", ["s", "i"], ["x_out"])]
    nodes.append(helper.make_node("Add", ["s.0", "x_out"], ["x_sum"]))
    proto = make(nodes, [("x", F32, [2])], [("x_sum", F32, [2])])
    proto.graph.input.extend(model([], "s i", "").graph.input)
    x, items = noise(0, 2), [noise(1, 2), noise(2, 2)]
    same(backend.run_model(proto, [x, items, np.array(1)])[0], items[1] - x)


def test_a_converted_file_has_tensors_alone(tmp_path: Path) -> None:
    path = save(model([helper.make_node("Identity", ["q"], ["q_out"])], "q", "q_out"), tmp_path)
    with pytest.raises(UnsupportedError, match="optional, which a step cannot take"):
        convert(path, mode="window")
    nothing = helper.make_node("Optional", [], ["o"], type=TENSOR)
    path = save(model([nothing, helper.make_node("Neg", ["x"], ["x_out"])], "x", "x_out o"), tmp_path)
    with pytest.raises(UnsupportedError, match="an optional value that is not there"):
        convert(path, mode="window", shape={"x": [3]})
    assert convert(path, mode="window", shape={"x": [3]}, outputs=["x_out"]).outputs == ("x_out",)
