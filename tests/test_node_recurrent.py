"""LSTM, GRU and RNN give what the ONNX standard's own node tests expect."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, close
from onnx import helper
from onnx_nodes import NodeTest, node_tests

from streamrnn import Stream
from streamrnn.ir.graph import Array

TESTS = [test for op in ("LSTM", "GRU", "RNN") for test in node_tests(op)]
LIVE = ("X", "sequence_lens", "initial_h", "initial_c")


def frames_first(test: NodeTest) -> NodeTest:
    """The same test in layout 0: layout 1 has the batch as first axis of X, Y and all states."""
    attrs = {a.name: helper.get_attribute_value(a) for a in test.node.attribute}
    if not attrs.pop("layout", 0):
        return test
    node = helper.make_node(test.node.op_type, test.node.input, test.node.output, **attrs)
    moved = {n: a.swapaxes(0, 1) if n in LIVE and a.ndim > 1 else a for n, a in test.inputs.items()}
    # Y is [batch, frames, direction, unit] there, [frames, direction, batch, unit] here
    expected = {n: a.transpose(1, 2, 0, 3) if a.ndim == 4 else a.swapaxes(0, 1) for n, a in test.outputs.items()}
    return NodeTest(test.name, node, moved, expected)


def as_case(test: NodeTest) -> Case:
    attrs = {a.name: helper.get_attribute_value(a) for a in test.node.attribute}
    attrs = {k: v.decode() if isinstance(v, bytes) else v for k, v in attrs.items()}
    inputs = tuple(np.ascontiguousarray(test.inputs[n]) if n else None for n in test.node.input)
    live = tuple(k for k, n in enumerate(test.node.input) if n in LIVE)
    return Case(test.node.op_type, inputs, attrs, outputs=len(test.node.output), live=live)


def expected(test: NodeTest, case: Case) -> dict[str, Array]:
    """The wanted outputs under the names of the case."""
    return {name: test.outputs[given] for name, given in zip(case.results, test.node.output, strict=True) if given}


def test_the_standard_has_tests_for_all_three() -> None:
    assert {test.node.op_type for test in TESTS} == {"LSTM", "GRU", "RNN"}
    assert len(TESTS) >= 18


@pytest.mark.parametrize("test", TESTS, ids=str)
def test_reference_gives_the_expected_outputs(test: NodeTest) -> None:
    test = frames_first(test)
    case = as_case(test)
    found = dict(zip(case.results, case.reference, strict=True))
    for name, value in expected(test, case).items():
        close(found[name], value, case.impl, name)


@pytest.mark.parametrize("test", TESTS, ids=str)
def test_compiled_step_gives_the_expected_outputs(test: NodeTest) -> None:
    test = frames_first(test)
    case = as_case(test)
    engine = case.engine
    given = {n: a for k, n in enumerate(case.names) if case.fed(k) and (a := case.inputs[k]) is not None}
    found = Stream(engine).step({n: a.reshape(engine.inputs[n].shape) for n, a in given.items()})
    assert isinstance(found, dict)
    for name, value in expected(test, case).items():
        close(found[name].reshape(value.shape), value, case.impl, name)
