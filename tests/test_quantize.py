"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear keep the contract of ops; the edges of their grids."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from contract import Case, Contract, floats, onnxruntime_outputs
from moving import compiled
from streamrnn_converters.passes.fuse import fuse

from streamrnn import Engine, Stream
from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array, Graph, Node, Stage
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import infer_node, site_of, verify

X = floats(1, 1, 3, 8, scale=40)
SCALE = np.array(0.37, np.float32)
SCALES = np.array([0.31, 0.07, 1.9], np.float32)
KINDS = ("uint8", "int8", "uint16", "int16")


def scalar(value: int, dtype: str) -> Array:
    return np.array(value, dtype)


def integers(seed: int, dtype: str, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)


def number(dtype: str) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class TestQuantizeLinear(Contract):
    cases = [  # noqa: RUF012
        *(Case("QuantizeLinear", (X, SCALE, scalar(3, kind)), time={0: 2}) for kind in KINDS),
        Case("QuantizeLinear", (X, SCALE), time={0: 2}),
        Case("QuantizeLinear", (X, SCALE), {"output_dtype": "int8"}, onnx_attrs={"output_dtype": number("int8")}),
        Case("QuantizeLinear", (X, SCALES, integers(2, "int8", 3)), {"axis": 1}, time={0: 2}),
        Case("QuantizeLinear", (X[0], SCALES, integers(3, "uint8", 3)), {"axis": -2}, time={0: 1}),
        Case("QuantizeLinear", (X[0], SCALES, integers(3, "uint8", 3)), {"axis": 0}, time={0: 0}, refused="frame to frame"),
        Case("QuantizeLinear", (X[0], np.abs(floats(4, 3, 3)) + SCALE), {"axis": 1, "block_size": 3}),
        Case(
            "QuantizeLinear", (X[0], np.abs(floats(5, 2, 8)) + SCALE, integers(6, "int8", 2, 8)), {"axis": 0, "block_size": 2}
        ),
        Case("QuantizeLinear", (X, SCALE, scalar(3, "int8")), live=(0, 1, 2)),
        Case("QuantizeLinear", (np.array(3.3, np.float32), SCALE, scalar(3, "int8"))),
        # onnxruntime has no kernel for int32
        Case("QuantizeLinear", (integers(7, "int32", 4, 5) // 2**20, SCALE, scalar(3, "int8")), onnx=False),
    ]


class TestDequantizeLinear(Contract):
    cases = [  # noqa: RUF012
        *(Case("DequantizeLinear", (integers(1, kind, 1, 3, 6), SCALE, scalar(7, kind)), time={0: 2}) for kind in KINDS),
        Case("DequantizeLinear", (integers(2, "uint8", 1, 3, 6), SCALE), time={0: 2}),
        Case("DequantizeLinear", (integers(3, "int32", 2, 5), SCALE)),
        Case("DequantizeLinear", (integers(4, "int8", 1, 3, 6), SCALES, integers(5, "int8", 3)), {"axis": 1}, time={0: 2}),
        Case("DequantizeLinear", (integers(4, "int32", 1, 3, 6), SCALE.reshape(1), scalar(3, "int32")), time={0: 2}),
        Case("DequantizeLinear", (integers(6, "int8", 2, 7), floats(7, 2, 3)), {"axis": 1, "block_size": 3}),
        Case("DequantizeLinear", (integers(8, "int8", 2, 3), SCALES, scalar(0, "int8").repeat(3)), live=(0, 1, 2)),
        Case("DequantizeLinear", (integers(9, "int8", 2, 3), SCALE), {"output_dtype": "float16"}, onnx=False),
    ]


class TestDynamicQuantizeLinear(Contract):
    cases = [  # noqa: RUF012
        Case("DynamicQuantizeLinear", (X,), outputs=3),
        Case("DynamicQuantizeLinear", (np.abs(X),), outputs=3),
        Case("DynamicQuantizeLinear", (-np.abs(floats(3, 37)),), outputs=3),
        Case("DynamicQuantizeLinear", (np.zeros((2, 3), np.float32),), outputs=3),
        Case("DynamicQuantizeLinear", (np.array(-2.5, np.float32),), outputs=3),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_even_and_the_rest_is_cut_to_the_range(kind: str) -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e9, -1e9, np.inf, -np.inf, np.nan, 3e38, 1e-40], np.float32)
    case = Case("QuantizeLinear", (x, np.array(1, np.float32), scalar(4, kind)))
    [found], info = compiled(case), np.iinfo(kind)
    low, high = info.min, info.max
    np.testing.assert_array_equal(found, [2, 2, 4, 4, 6, 6, high, low, high, low, low, high, 4])
    np.testing.assert_array_equal(found, onnxruntime_outputs(case)[0])


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_every_quantised_number_comes_back_to_itself(kind: str) -> None:
    q = np.arange(256).astype(kind)
    zero = scalar(-3 if kind == "int8" else 100, kind)
    [x] = compiled(Case("DequantizeLinear", (q, SCALE, zero)))
    np.testing.assert_array_equal(compiled(Case("QuantizeLinear", (x, SCALE, zero)))[0], q)


def test_an_int32_is_dequantised_from_all_its_bits() -> None:
    q, zero = np.array([2**31 - 1, -(2**31), 2**24 + 1], np.int32), np.array(2**24, np.int32)
    expected = (q.astype(np.int64) - zero).astype(np.int32).astype(np.float32)
    np.testing.assert_array_equal(compiled(Case("DequantizeLinear", (q, np.array(1, np.float32), zero)))[0], expected)


def test_quantisation_of_a_whole_tensor_joins_the_chain_around_it() -> None:
    constants = {"s": SCALE, "z": scalar(9, "uint8")}
    nodes = (
        Node("Tanh", "tanh", ("x",), ("a",)),
        Node("QuantizeLinear", "q", ("a", "s", "z"), ("b",)),
        Node("DequantizeLinear", "d", ("b", "s", "z"), ("c",)),
        Node("Relu", "relu", ("c",), ("y",)),
    )
    types = {"x": TensorType.of(X), **{name: TensorType.of(array) for name, array in constants.items()}}
    graph = Graph("chain", Stage.STEP, ("x",), ("y",), nodes, types, constants)
    for node in nodes:
        infer_node(types, site_of(graph, node))
    graph = verify(graph)
    fused = fuse(graph)
    assert [node.op for node in fused.nodes] == ["Fused"]
    single, merged = (Stream(Engine(g)).step(X[0]) for g in (graph, fused))
    np.testing.assert_array_equal(single, merged)


@pytest.mark.parametrize(
    ("example", "error", "text"),
    [
        (Case("QuantizeLinear", (X, SCALES[:2])), ShapeError, "fits neither axis 1"),
        (Case("QuantizeLinear", (X, SCALE, scalar(0, "uint8").repeat(3))), ShapeError, "same shape"),
        (Case("QuantizeLinear", (X, SCALE), {"output_dtype": "float8e5m2"}), UnsupportedError, "float8e5m2 is not supported"),
        (Case("QuantizeLinear", (X, SCALE, np.array(0))), UnsupportedError, "int64 is not supported, only uint8"),
        (Case("DequantizeLinear", (np.arange(3), SCALE)), UnsupportedError, "int64 is not supported"),
        (Case("DynamicQuantizeLinear", (X.astype(np.float64),)), UnsupportedError, "float64 is not supported"),
        (Case("DynamicQuantizeLinear", (X[:0],)), ShapeError, "no elements"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_reason(example: Case, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"node 'node'.*{text}"):
        example.site()
