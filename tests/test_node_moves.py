"""The ops that move elements give what the ONNX standard's own node tests expect."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case
from moving import compiled
from onnx import helper, numpy_helper
from onnx_nodes import NodeTest, node_tests

from streamrnn.ir.graph import Array, Attr
from streamrnn.ir.types import DType

#: op -> inputs that are fed at run time; the others are parameters
LIVE = {
    "Reshape": (0,), "Squeeze": (0,), "Unsqueeze": (0,), "Flatten": (0,), "Transpose": (0,), "Concat": (0, 1), "Split": (0,),
    "Slice": (0,), "Gather": (0, 1), "GatherElements": (0, 1), "GatherND": (0, 1), "Pad": (0,), "Expand": (0,), "Tile": (0,),
    "Shape": (0,), "Size": (0,), "ConstantOfShape": (), "Range": (), "ScatterND": (0, 1, 2), "ScatterElements": (0, 1, 2),
}  # fmt: skip
#: modules that are not called like their op
MODULES = {"Range": "rangeop"}
HELD = {dtype.numpy for dtype in DType}
TESTS = [
    test
    for op in LIVE
    for test in node_tests(op, MODULES.get(op, ""))
    if all(np.asarray(value).dtype in HELD for value in test.inputs.values())
]


def attributes(test: NodeTest) -> dict[str, Attr]:
    attrs: dict[str, Attr] = {}
    for attribute in test.node.attribute:
        value = helper.get_attribute_value(attribute)
        if test.node.op_type == "ConstantOfShape":
            array = numpy_helper.to_array(value)
            attrs.update(value=array.item(), dtype=array.dtype.name)
        else:
            attrs[attribute.name] = (
                value.decode() if isinstance(value, bytes) else tuple(value) if isinstance(value, list) else value
            )
    return attrs


def as_case(test: NodeTest) -> Case:
    inputs: tuple[Array | None, ...] = tuple(np.asarray(test.inputs[n]) if n else None for n in test.node.input)
    return Case(test.node.op_type, inputs, attributes(test), outputs=len(test.node.output), live=LIVE[test.node.op_type])


def test_the_standard_has_tests_for_all_of_them() -> None:
    assert {test.node.op_type for test in TESTS} == set(LIVE)


@pytest.mark.parametrize("test", TESTS, ids=str)
def test_the_expected_outputs_come_out(test: NodeTest) -> None:
    case = as_case(test)
    expected = [test.outputs[name] for name in test.node.output]
    values = case.impl.reference(case.site(), *case.inputs)
    for found in (values[: len(expected)], compiled(case)):
        for value, wanted in zip(found, expected, strict=True):
            assert value.dtype == wanted.dtype
            np.testing.assert_array_equal(value, wanted)
