"""LSTM, GRU and RNN give what the ONNX standard's own node tests expect, from the file to the compiled step."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract import close
from onnx import helper
from onnx_nodes import NodeTest, node_tests
from streamrnn_converters import convert

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Array
from streamrnn.ir.op import find_op

TESTS = [test for op in ("LSTM", "GRU", "RNN") for test in node_tests(op)]
#: inputs that are fed to a step; the others are the node's weights
FED = ("X", "sequence_lens", "initial_h", "initial_c")


def attribute(test: NodeTest, name: str) -> object:
    return next((helper.get_attribute_value(a) for a in test.node.attribute if a.name == name), None)


FORWARD = [test for test in TESTS if attribute(test, "direction") is None]


def engine(test: NodeTest, folder: Path, fed: tuple[str, ...], **options: object) -> Engine:
    path = folder / "model.onnx"
    path.write_bytes(test.model.SerializeToString())
    weights = {name: array for name, array in test.inputs.items() if name not in fed}
    return Engine(convert(path, bind=weights, **options))  # type: ignore[arg-type]


def check(test: NodeTest, found: dict[str, Array]) -> None:
    """The outputs named in `found` are those that the standard expects."""
    op = find_op(test.node.op_type)
    assert op is not None
    for name, value in found.items():
        expected = test.outputs[name]
        close(value.reshape(expected.shape), expected, op, name)


def by_name(made: Engine, result: object) -> dict[str, Array]:
    return result if isinstance(result, dict) else {next(iter(made.outputs)): result}  # type: ignore[dict-item]


def test_the_standard_has_tests_for_all_three() -> None:
    assert {test.node.op_type for test in TESTS} == {"LSTM", "GRU", "RNN"}
    assert len(TESTS) >= 18


@pytest.mark.parametrize("test", TESTS, ids=str)
def test_one_call_gives_the_expected_outputs(test: NodeTest, tmp_path: Path) -> None:
    no_state = {name: "" for name in ("initial_h", "initial_c") if name in test.inputs}
    made = engine(test, tmp_path, FED, mode="window", pair=no_state)
    given = {name: test.inputs[name].reshape(port.shape) for name, port in made.inputs.items()}
    found = by_name(made, Stream(made).step(given))
    assert set(found) == set(test.outputs)
    check(test, found)


@pytest.mark.parametrize("test", FORWARD, ids=str)
def test_the_answer_after_the_last_frame_is_the_expected_one(test: NodeTest, tmp_path: Path) -> None:
    axis = 1 if attribute(test, "layout") else 0
    made = engine(test, tmp_path, ("X",), mode="frame", time_axis={"X": axis})
    clip = test.inputs["X"].swapaxes(0, axis)
    found = by_name(made, Stream(made).process(clip.reshape(len(clip), *made.inputs["X"].shape)))
    check(test, {"Y_h": found["Y_h"][-1]})
