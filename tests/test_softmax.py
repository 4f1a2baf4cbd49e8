"""Softmax and LogSoftmax keep the contract of ops."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract, close, floats

from streamrnn import Stream
from streamrnn.ir.graph import Array


class TestSoftmax(Contract):
    cases = [  # noqa: RUF012
        *(
            case
            for op in ("Softmax", "LogSoftmax")
            for case in (
                Case(op, (floats(1, 3, 7),)),
                Case(op, (floats(2, 5, 2, 40, scale=5),), {"axis": -1}, time={0: 0}),
                Case(op, (floats(3, 2, 33, 20),), {"axis": 1}),
                Case(op, (floats(4, 1, 17, 6),), {"axis": 1}, time={0: 2}),
                Case(op, (floats(5, 4, 3, 2) - 100,), {"axis": 0}, time={0: 0}, refused="over time"),
                Case(op, (floats(6, 2, 3, 6),), {"axis": 1, "flatten": 1}, onnx=False, time={0: 0}),
                Case(op, (floats(6, 2, 3, 6),), {"axis": 1, "flatten": 1}, onnx=False, time={0: 2}, refused="over time"),
                Case(op, (floats(7, 3, 7).astype(np.float64),), time={0: 0}),
                Case(op, (floats(8, 2, 5, 3).astype(np.float64),), {"axis": 1}, time={0: 2}),
            )
        ),
    ]


def run(case: Case) -> Array:
    x = case.inputs[0]
    assert x is not None
    found = Stream(case.engine).step(x.reshape(case.engine.inputs["i0"].shape))
    assert isinstance(found, np.ndarray)
    return found.reshape(case.reference[0].shape)


class TestHardmax(Contract):
    cases = [  # noqa: RUF012
        Case("Hardmax", (floats(1, 3, 20),), time={0: 0}),
        Case("Hardmax", (floats(2, 3, 4, 5),), {"axis": 1}, time={0: 2}),
        Case("Hardmax", (floats(5, 3, 4).astype(np.float64),), onnx=False),
        Case("Hardmax", (np.array([[1, 3, 3, 2], [0, 0, 0, 0]], np.float32),)),
        Case("Hardmax", (floats(3, 2, 3, 4),), {"axis": 1, "flatten": 1}, onnx=False),
        Case("Hardmax", (floats(4, 6, 4),), {"axis": 0}, time={0: 0}, refused="of all time"),
    ]


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_flatten_is_the_softmax_of_onnxruntime_before_opset_13(op: str) -> None:
    import onnxruntime as ort
    from onnx import TensorProto
    from onnx import helper as h

    x = floats(1, 2, 3, 4)
    ports = [h.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"]
    graph = h.make_graph([h.make_node(op, ["x"], ["y"], axis=1)], "g", ports[:1], ports[1:])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 11)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    case = Case(op, (x,), {"axis": 1, "flatten": 1})
    close(run(case), expected, case.impl, "compiled against onnxruntime at opset 11")


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("columns", [3, 20])
def test_a_row_has_the_same_bits_alone_and_among_neighbours(op: str, columns: int) -> None:
    x = floats(1, 37, columns)
    together = run(Case(op, (x,), {"axis": 0}))
    for c in range(columns):
        alone = run(Case(op, (np.ascontiguousarray(x[:, c]),), {"axis": 0}))
        np.testing.assert_array_equal(alone, together[:, c])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("shape", [(20,), (20, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_reaches_the_whole_row_and_large_numbers_do_not_overflow(op: str, shape: tuple[int, ...], dtype: str) -> None:
    x = np.full(shape, 0.99 * np.finfo(dtype).max, dtype)
    x[:2] = -np.inf
    if op == "Softmax":
        assert np.isfinite(run(Case(op, (x,), {"axis": 0}))).all()
    x[:2] = x[2]
    assert np.isfinite(run(Case(op, (x,), {"axis": 0}))).all()
    x[5] = np.nan
    assert np.isnan(run(Case(op, (x,), {"axis": 0}))).all()
