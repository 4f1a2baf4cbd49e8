"""onnxruntime's own ops are read as what they are made of, and give what onnxruntime gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_files import make, ops, run_file, save
from streamrnn_converters import convert
from streamrnn_converters.onnx.contrib import contrib_names

from streamrnn import Engine, Stream
from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array

DOMAIN = "com.microsoft"


def floats(seed: int, *shape: int, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def q(seed: int, dtype: str, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)


def one(value: float, dtype: str = "float32") -> Array:
    return np.array(value, dtype)


@dataclass(frozen=True)
class Example:
    """A node with its inputs, of which `live` are fed and the rest are initializers; None is an omitted one.

    outputs: names of its outputs, "" for one that is not wanted. units: how far an integer may be off.
    """

    op: str
    inputs: tuple[Array | None, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    live: tuple[int, ...] = (0,)
    outputs: tuple[str, ...] = ("y",)
    units: int = 0
    domain: str = DOMAIN
    opset: int = 18
    label: str = ""

    def __str__(self) -> str:
        return self.label or self.op

    def file(self, folder: Path) -> Path:
        names = ["" if a is None else f"i{k}" for k, a in enumerate(self.inputs)]
        given = {n: a for n, a in zip(names, self.inputs, strict=True) if a is not None}
        fed = [names[k] for k in self.live]
        node = helper.make_node(self.op, names, self.outputs, domain=self.domain, **self.attrs)

        def typed(name: str) -> tuple[str, int, Any]:
            return name, int(helper.np_dtype_to_tensor_dtype(given[name].dtype)), given[name].shape

        kinds = [(n, onnx.TensorProto.UNDEFINED, None) for n in self.outputs if n]
        constants = {n: a for n, a in given.items() if n not in fed}
        model = make([node], [typed(n) for n in fed], [], constants, opset=self.opset, domains=[DOMAIN])
        model.graph.output.extend(onnx.ValueInfoProto(name=n) for n, _, _ in kinds)
        return save(model, folder)

    def fed(self) -> dict[str, Array]:
        return {f"i{k}": a for k in self.live if (a := self.inputs[k]) is not None}


X = floats(1, 2, 5, 8)
K, BIAS = floats(2, 6, 8, 3, scale=0.3), floats(3, 6)
_S, _Z = one(0.04), one(120, "uint8")
_QX = q(4, "uint8", 2, 5, 8)
_TO = one(0.03), one(110, "uint8")
_PROBABILITY = one(1 / 256), one(0, "uint8")
_GAMMA, _BETA = floats(5, 8), floats(6, 8)


def conv(activation: str, *params: float, z: Array | None = None) -> Example:
    attrs: dict[str, Any] = {"activation": activation, "kernel_shape": [3], "pads": [1, 1]}
    if params:
        attrs["activation_params"] = list(params)
    x = floats(7, 1, 8, 10)
    return Example("FusedConv", (x, K, BIAS, *([] if z is None else [z])), attrs, label=f"FusedConv {activation} {len(params)}")


def gemm(activation: str, **params: float) -> Example:
    attrs = {"activation": activation, "transB": 1, **{f"activation_{name}": value for name, value in params.items()}}
    return Example("FusedGemm", (floats(8, 3, 5), floats(9, 4, 5), floats(10, 4)), attrs, label=f"FusedGemm {activation}")


def norm(op: str, *inputs: Array | None, outputs: tuple[str, ...] = ("y",), label: str = "") -> Example:
    return Example(op, (X, floats(11, 2, 5, 8), *inputs), {"epsilon": 1e-5}, (0, 1), outputs, label=label)


FLOATS = [
    Example("Gelu", (X,)),
    Example("BiasGelu", (X, floats(2, 8))),
    Example("FastGelu", (X,)),
    Example("FastGelu", (X, floats(2, 8)), label="FastGelu with bias"),
    Example("QuickGelu", (X,), {"alpha": 1.7}),
    *(conv(name) for name in ("Relu", "Tanh", "Sigmoid")),
    conv("LeakyRelu", 0.2),
    conv("Clip", -0.4, 0.7),
    conv("HardSigmoid", 0.3, 0.4),
    conv("Relu", z=floats(12, 1, 6, 10)),
    *(gemm(name) for name in ("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign")),
    gemm("LeakyRelu", alpha=0.2),
    gemm("HardSigmoid", alpha=0.3, beta=0.4),
    gemm("Elu", alpha=0.7),
    Example("FusedMatMul", (floats(1, 2, 5, 7), floats(2, 2, 9, 7)), {"transB": 1, "alpha": 0.3}, (0, 1)),
    Example("TransposeMatMul", (floats(1, 7, 5), floats(2, 7, 9)), {"transA": 1}),
    norm("SkipLayerNormalization", _GAMMA, _BETA),
    norm("SkipLayerNormalization", _GAMMA, None, floats(13, 8), label="SkipLayerNormalization with bias alone"),
    norm(
        "SkipLayerNormalization", _GAMMA, _BETA, floats(13, 8), outputs=("y", "", "", "sum"), label="SkipLayerNormalization sum"
    ),
    norm("SkipSimplifiedLayerNormalization", _GAMMA),
    norm("SkipSimplifiedLayerNormalization", _GAMMA, floats(13, 8), outputs=("y", "", "", "sum"), label="SkipSimplified sum"),
    Example("SimplifiedLayerNormalization", (X, _GAMMA), {"axis": -1, "epsilon": 1e-5}, domain=""),
    Example("LayerNormalization", (X, _GAMMA, _BETA), {"axis": -1}, domain="", opset=13),
    Example("DynamicQuantizeMatMul", (floats(1, 5, 8), q(2, "int8", 8, 6), one(0.01), one(0, "int8"), floats(3, 6))),
    Example("DynamicQuantizeMatMul", (floats(1, 2, 5, 8), q(2, "uint8", 8, 6), one(0.01)), label="DynamicQuantizeMatMul bare"),
    Example(
        "MatMulIntegerToFloat",
        (q(1, "uint8", 5, 8), q(2, "int8", 8, 6), _S, np.abs(floats(3, 6)), _Z, q(4, "int8", 6), floats(5, 6)),
    ),
    Example("QGemm", (q(1, "uint8", 3, 5), _S, _Z, q(2, "int8", 5, 4), one(0.02), one(0, "int8")), label="QGemm to float32"),
    Example("DequantizeLinear", (q(1, "int16", 4, 5), _S, one(7, "int16")), opset=13),
]

QUANTISED = [
    Example("QuantizeLinear", (floats(1, 4, 5, scale=30), _S, one(7, "int16")), opset=13),
    Example(
        "QGemm",
        (q(1, "uint8", 3, 5), _S, _Z, q(2, "int8", 4, 5), np.abs(floats(3, 4)) * one(0.02), np.zeros(4, np.int8),
         np.arange(4, dtype=np.int32) * 900, one(0.9), _Z),
        {"transB": 1, "alpha": 0.5},
    ),
    *(Example(op, (_QX, _S, _Z, q(5, "uint8", 8), one(0.05), _Z, *_TO), units=1) for op in ("QLinearAdd", "QLinearMul")),
    Example("QLinearAdd", (q(1, "uint8", 4), _S, _Z, q(5, "uint8", 4), _S, _Z, _S), live=(0, 3), units=1, label="no zero"),
    Example("QLinearSigmoid", (_QX, _S, _Z, *_PROBABILITY)),
    Example("QLinearLeakyRelu", (_QX, _S, _Z, *_TO), {"alpha": 0.2}),
    Example(
        "QLinearConcat",
        (*_TO, _QX, _S, _Z, q(6, "uint8", 2, 3, 8), one(0.07), one(90, "uint8")),
        {"axis": 1},
        live=(2, 5),
    ),
    Example("QLinearAveragePool", (_QX, _S, _Z, *_TO), {"kernel_shape": [3], "strides": [2]}, units=1),
    Example(
        "QLinearAveragePool",
        (_QX.reshape(2, 5, 2, 4), _S, _Z, *_TO),
        {"kernel_shape": [3, 2], "channels_last": 1},
        units=1,
        label="QLinearAveragePool channels last",
    ),
    Example("QLinearGlobalAveragePool", (_QX, _S, _Z, *_TO), units=1),
    Example("QLinearSoftmax", (_QX, _S, _Z, *_PROBABILITY), {"axis": -1, "opset": 13}),
    Example("QLinearSoftmax", (_QX, _S, _Z, one(1 / 254.9), one(3, "uint8")), {"axis": -1, "opset": 13}, label="a scale cut"),
    Example("QLinearSoftmax", (_QX, _S, _Z, *_PROBABILITY), {"axis": 1, "opset": 12}, label="flat softmax"),
    Example(
        "QLinearWhere",
        (q(7, "uint8", 2, 5, 8) > 128, _QX, _S, _Z, q(8, "uint8", 2, 5, 8), _S, _Z, *_TO),
        live=(0, 1, 4),
        units=1,
    ),
    Example(
        "QLinearConv",
        (q(9, "uint8", 1, 8, 10), _S, _Z, q(2, "int8", 6, 8, 3), one(0.01), one(0, "int8"), one(1.1), _Z),
        {"channels_last": 0},
    ),
    Example(
        "QLinearConv",
        (q(9, "uint8", 1, 10, 8), _S, _Z, q(2, "int8", 6, 8, 3), one(0.01), one(0, "int8"), one(1.1), _Z),
        {"channels_last": 1},
        label="QLinearConv channels last",
    ),
]  # fmt: skip


def results(example: Example, folder: Path) -> tuple[list[Array], list[Array]]:
    """(onnxruntime's, the engine's) outputs."""
    path = example.file(folder)
    # no input is a state, however much an output looks like it
    engine = Engine(convert(path, mode="window", pair=dict.fromkeys(example.fed(), "")))
    given = {n: a.reshape(engine.inputs[n].shape) for n, a in example.fed().items()}
    found = Stream(engine).step(given)
    values = list(found.values()) if isinstance(found, dict) else [found]
    expected = run_file(path, example.fed())
    return expected, [v.reshape(e.shape) for v, e in zip(values, expected, strict=True)]


@pytest.mark.parametrize("example", FLOATS, ids=str)
def test_floats_are_those_of_onnxruntime(example: Example, tmp_path: Path) -> None:
    for expected, found in zip(*results(example, tmp_path), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("example", QUANTISED, ids=str)
def test_integers_are_those_of_onnxruntime(example: Example, tmp_path: Path) -> None:
    for expected, found in zip(*results(example, tmp_path), strict=True):
        assert found.dtype == expected.dtype
        assert np.abs(found.astype(np.int64) - expected).max() <= example.units
        assert (found == expected).mean() > 0.9


def test_every_op_of_the_table_has_an_example() -> None:
    tested = {f"{example.domain}.{example.op}" for example in (*FLOATS, *QUANTISED) if example.domain}
    # the LSTM has a test file of its own; FusedMatMulActivation is no op of the CPU
    assert tested == set(contrib_names()) - {f"{DOMAIN}.DynamicQuantizeLSTM", f"{DOMAIN}.FusedMatMulActivation"}


def test_an_activation_behind_a_transposed_product() -> None:
    """onnxruntime has this op on other devices alone."""
    from streamrnn_converters.onnx.contrib import RULES
    from streamrnn_converters.onnx.opset import upgrade
    from streamrnn_converters.onnx.raw import RawGraph, RawNode

    attrs = {"transB": 1, "activation": "LeakyRelu", "activation_alpha": 0.3}
    node = RawNode("com.microsoft.FusedMatMulActivation", "n", ("a", "b"), ("y",), attrs)
    found = upgrade(RawGraph("g", (), (), (node,), {}), 18, RULES).nodes
    assert [(n.op, dict(n.attrs)) for n in found] == [("FusedMatMul", {"transB": 1}), ("LeakyRelu", {"alpha": 0.3})]
    assert found[-1].outputs == ("y",)


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (Example("QLinearGlobalAveragePool", (_QX, _S, _Z, *_TO), {"channels_last": 1}), "channels_last=1"),
        (Example("FusedConv", (X, K), {"activation": "Mystery"}), "activation Mystery is not supported"),
        (norm("SkipLayerNormalization", _GAMMA, _BETA, outputs=("y", "mean")), "outputs mean and inv_std_var"),
        (Example("SimplifiedLayerNormalization", (X, _GAMMA), outputs=("y", "v"), domain=""), "second output"),
        (Example("Attention", (X, X)), "an op of onnxruntime, not of ONNX"),
    ],
    ids=lambda value: str(value),
)
def test_what_has_no_parts_is_refused_with_the_reason(example: Example, text: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=rf"\((com.microsoft.)?{example.op}\): .*{text}"):
        convert(example.file(tmp_path), mode="window")


def test_an_expansion_is_one_loop_where_it_can_be(tmp_path: Path) -> None:
    graph = convert(Example("BiasGelu", (X, floats(2, 8))).file(tmp_path), mode="window")
    assert ops(graph) == ["Fused"]
    graph = convert(FLOATS[-4].file(tmp_path), mode="window")
    assert FLOATS[-4].op == "DynamicQuantizeMatMul"
    assert ops(graph) == ["DynamicQuantizeLinear", "MatMulInteger", "Mul", "Fused"]
