"""Float ops give what the ONNX standard's own node tests expect, from the file to the compiled step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contract import close
from onnx_nodes import NodeTest, node_tests
from streamrnn_converters import convert

from streamrnn import Engine, Stream
from streamrnn.ir.op import find_op
from streamrnn.ir.types import DType

#: op -> how many of its first inputs are fed to a step; the others are parameters
FED = {
    "DFT": 1, "STFT": 1, "HannWindow": 0, "HammingWindow": 0, "BlackmanWindow": 0, "MelWeightMatrix": 0, "Resize": 1,
    "Upsample": 1,
}  # fmt: skip
#: old name -> new name
NEWER = {"Upsample": "Resize"}
#: onnxruntime itself gives another result, by the text of the operator's page; so does this project
DISPUTED = {"test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners"}
HELD = {dtype.numpy for dtype in DType} - {np.dtype(np.float64)}
TESTS = [
    test
    for op in FED
    for test in node_tests(op)
    if test.name not in DISPUTED
    and all(np.asarray(value).dtype in HELD for value in (*test.inputs.values(), *test.outputs.values()))
]


def test_the_standard_has_tests_for_all_of_them() -> None:
    assert {test.node.op_type for test in TESTS} == set(FED)


@pytest.mark.parametrize("test", TESTS, ids=str)
def test_one_call_gives_the_expected_outputs(test: NodeTest, tmp_path: Path) -> None:
    op = find_op(NEWER.get(test.node.op_type, test.node.op_type))
    assert op is not None
    path = tmp_path / "model.onnx"
    path.write_bytes(test.model.SerializeToString())
    fed = [name for name in test.node.input if name][: FED[test.node.op_type]]
    bound = {name: array for name, array in test.inputs.items() if name not in fed}
    made = Engine(convert(path, mode="window", bind=bound, pair=dict.fromkeys(fed, "")))
    given = {name: np.asarray(test.inputs[name]).reshape(port.shape) for name, port in made.inputs.items()}
    result = Stream(made).step(given)
    found = result if isinstance(result, dict) else {next(iter(made.outputs)): result}
    assert set(found) == set(test.outputs)
    for name, value in found.items():
        expected = np.asarray(test.outputs[name])
        assert value.dtype == expected.dtype
        close(value.reshape(expected.shape), expected, op, name)
