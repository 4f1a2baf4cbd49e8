"""Products of a QDQ file run in integers: no product of floats is left, and onnxruntime's own integer ops agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from contract import floats
from onnx import helper as h
from onnx_files import run_file
from quantised import attention, convolution, static
from streamrnn_converters import convert
from streamrnn_converters.compare import UNIT_SHARE
from streamrnn_converters.oracle import quiet_session
from streamrnn_converters.passes import PIPELINE
from streamrnn_converters.validate import validate

from streamrnn import Engine, Stream
from streamrnn.codegen.interpret import Interpreter
from streamrnn.ir.graph import Array, Graph
from streamrnn.plan import Call, each

N = 24
#: kernels whose sums are of integers, by module
INTEGER = {"streamrnn.kernels.byte_products", "streamrnn.kernels.byte_conv", "streamrnn.kernels.integer"}
#: kernels that multiply matrices or filters of floats
FLOAT = {"streamrnn.kernels.dense", "streamrnn.kernels.conv", "streamrnn.kernels.contract"}
SCALARS: Mapping[str, Array] = {"s": np.float32(0.05), "z": np.uint8(7), "ws": np.float32(0.02), "wz": np.int8(-3)}


def layers(folder: Path) -> Path:
    """x [1, N, T] -> two convolutions over time, a pool between, one of them by channels -> MatMul, Gemm -> y [T, 5]."""
    constants = {"flat": np.array([-1, N])}
    for k, shape in {"a": (N, N, 3), "d": (N, 1, 3), "m": (N, 2 * N), "g": (5, 2 * N)}.items():
        constants |= {f"{k}K": floats(20 + len(constants), *shape, scale=0.3)}
    constants |= {"ak": floats(31, N, scale=0.2), "dk": floats(32, N, scale=0.2)}
    constants |= {"mk": floats(33, 2 * N, scale=0.2), "gk": floats(34, 5, scale=0.2)}
    nodes = [
        h.make_node("Conv", ["x", "aK", "ak"], ["a"], name="whole", kernel_shape=[3], pads=[2, 0]),
        h.make_node("Relu", ["a"], ["r"], name="relu"),
        h.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2], pads=[1, 0]),
        h.make_node("Conv", ["p", "dK", "dk"], ["d"], name="own", kernel_shape=[3], pads=[4, 0], dilations=[2], group=N),
        h.make_node("Transpose", ["d"], ["t"], name="turn", perm=[2, 0, 1]),
        h.make_node("Reshape", ["t", "flat"], ["f"], name="reshape"),
        h.make_node("MatMul", ["f", "mK"], ["m"], name="wide"),
        h.make_node("Add", ["m", "mk"], ["b"], name="bias"),
        h.make_node("Relu", ["b"], ["br"], name="relu_again"),
        h.make_node("Gemm", ["br", "gK", "gk"], ["y"], name="head", transB=1),
    ]
    return models.write_model(folder / "layers.onnx", {"x": [1, N, "T"]}, {"y": ["T", 5]}, nodes, constants)


def modules(graph: Graph) -> set[str]:
    """Where the kernels of a plan come from."""
    plan = Engine(graph).plan
    calls = [item for item, _ in each(plan.calls) if isinstance(item, Call)]
    return {call.kernel.function.__module__ for call in calls}


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.all_nodes()]


#: onnxruntime has no uint8 weights beside int8 activations
KINDS = [("QUInt8", "QInt8", False), ("QUInt8", "QInt8", True), ("QUInt8", "QUInt8", False), ("QInt8", "QInt8", True)]
KIND = pytest.mark.parametrize(("numbers", "weights", "per_channel"), KINDS)


class TestFilesOfQuantizeStatic:
    @KIND
    def test_every_product_is_of_integers(self, tmp_path: Path, numbers: str, weights: str, per_channel: bool) -> None:
        path = static("QDQ", numbers, weights, per_channel=per_channel)(layers(tmp_path))
        graph = convert(path, mode="frame", time_axis={"x": 2})
        assert ops(graph).count("ConvInteger") == ops(graph).count("MatMulInteger") == 2
        assert not {"Conv", "MatMul", "Gemm"} & set(ops(graph))
        found = modules(graph)
        assert found & INTEGER
        assert not found & FLOAT

    @KIND
    def test_onnxruntimes_own_integer_ops_agree_within_one_unit(
        self, tmp_path: Path, numbers: str, weights: str, per_channel: bool
    ) -> None:
        """By default onnxruntime takes QLinearConv and QLinearMatMul for the same file."""
        path = static("QDQ", numbers, weights, per_channel=per_channel)(layers(tmp_path))
        x = floats(50, 1, N, 200)
        (expected,) = run_file(path, {"x": x})
        found = Stream(Engine(convert(path, mode="frame", time_axis={"x": 2}))).process(x[0].T)
        unit = np.diff(np.unique(expected)).min()
        off = np.abs(found.reshape(expected.shape) - expected) / unit
        assert off.max() < 1.01
        assert np.mean(off > 0.01) <= UNIT_SHARE
        assert np.unique(expected).size > 50

    @KIND
    def test_validate_passes_by_step_and_by_block(self, tmp_path: Path, numbers: str, weights: str, per_channel: bool) -> None:
        path = static("QDQ", numbers, weights, per_channel=per_channel)(layers(tmp_path))
        report = validate(path, Engine(convert(path, mode="frame", time_axis={"x": 2})), steps=60)
        assert report.passed, report.verdict

    def test_steps_blocks_and_plain_python_give_the_same_bits(self, tmp_path: Path) -> None:
        path = static("QDQ", "QUInt8", per_channel=True)(layers(tmp_path))
        engine = Engine(convert(path, mode="frame", time_axis={"x": 2}))
        frames = floats(51, 70, N)
        whole = Stream(engine).process(frames)
        stream, interpreter = Stream(engine), Interpreter(engine.plan)
        for frame, expected in zip(frames[:40], whole, strict=False):
            np.testing.assert_array_equal(np.asarray(stream.step(frame)), expected)
            np.testing.assert_array_equal(interpreter.step([frame])[0].reshape(expected.shape), expected)

    def test_a_layer_without_a_quantiser_behind_it_gives_floats(self, tmp_path: Path) -> None:
        """A recurrent op reads what the convolutions give; its own products stay floats, as in the file."""
        graph = convert(static("QDQ", "QUInt8")(convolution(tmp_path)))
        assert ops(graph).count("ConvInteger") == 2
        assert "GRU" in ops(graph)

    def test_rings_hold_bytes(self, tmp_path: Path) -> None:
        graph = convert(static("QDQ", "QInt8")(layers(tmp_path)), mode="frame", time_axis={"x": 2})
        rings = {s.name: s.init for s in graph.states if s.kind == "conv ring"}
        assert {str(rings[f"{name}.window.ring"].dtype) for name in ("whole", "own")} == {"int8"}
        zero = graph.constants["x_zero_point"]
        assert zero != 0
        assert (rings["whole.window.ring"] == zero).all()

    def test_attention_multiplies_what_two_layers_computed_in_integers(self, tmp_path: Path) -> None:
        graph = convert(static("QDQ", "QUInt8")(attention(tmp_path)), mode="window")
        assert "MatMulInteger" in ops(graph)
        assert not {"MatMul", "Gemm"} & set(ops(graph))
        assert not modules(graph) & FLOAT


def written(
    folder: Path, nodes: list[Any], x: list[int | str], y: list[int | str], constants: Mapping[str, Array], **scalars: Array
) -> Path:
    """A file whose node reads the values q (x quantised and dequantised) and w (dequantised weights W)."""
    given = {**SCALARS, "W": np.zeros(1, np.int8), **constants, **scalars}
    wide = [
        h.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="quantise"),
        h.make_node("DequantizeLinear", ["xq", "s", "z"], ["q"], name="real"),
        h.make_node("DequantizeLinear", ["W", "ws", "wz"], ["w"], name="weights", axis=0),
    ]
    names = {name for node in (*wide, *nodes) for name in node.input}
    used = {name: np.asarray(array) for name, array in given.items() if name in names}
    return models.write_model(folder / "written.onnx", {"x": x}, {"y": y}, [*wide, *nodes], used)


def integers_of(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(-128, 128, shape, np.int8)


MATRIX = integers_of(1, 6, 4)
C = floats(3, 4)
GEMMS = {
    "alpha and beta": ({"alpha": 0.5, "beta": 2.0}, MATRIX, {"c": C}),
    "without C": ({}, MATRIX, {}),
    "C for each row": ({}, MATRIX, {"c": floats(4, 3, 1)}),
    "weights turned": ({"transB": 1}, MATRIX.T.copy(), {"c": C}),
    "weights turned, scales by row": (
        {"transB": 1},
        MATRIX.T.copy(),
        {"c": C, "ws": np.abs(floats(5, 4)) + np.float32(0.01), "wz": np.zeros(4, np.int8)},
    ),
}


def compared(path: Path, graph: Graph, x: Array, tolerance: float) -> None:
    """The engine agrees with onnxruntime on the nodes as they are written."""
    (expected,) = quiet_session(str(path), as_written=True).run(None, {"x": x})
    engine = Engine(graph)
    found = np.asarray(Stream(engine).step(x.reshape(engine.inputs["x"].shape))).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


class TestFormsOfAProduct:
    def check(self, path: Path, x: Array) -> Graph:
        """The graph, which multiplies integers and agrees with onnxruntime."""
        graph = convert(path, mode="window")
        assert not {"MatMul", "Gemm", "Conv"} & set(ops(graph))
        compared(path, graph, x, 1e-6)
        return graph

    @pytest.mark.parametrize(("attrs", "W", "constants"), GEMMS.values(), ids=GEMMS)
    def test_gemm(self, tmp_path: Path, attrs: dict[str, Any], W: Array, constants: dict[str, Array]) -> None:
        node = h.make_node("Gemm", ["q", "w", *(["c"] if "c" in constants else [])], ["y"], name="gemm", **attrs)
        self.check(written(tmp_path, [node], [3, 6], [3, 4], {"W": W, **constants}), floats(9, 3, 6))

    def test_gemm_with_its_input_turned(self, tmp_path: Path) -> None:
        node = h.make_node("Gemm", ["q", "w"], ["y"], name="gemm", transA=1)
        self.check(written(tmp_path, [node], [6, 3], [3, 4], {"W": MATRIX}), floats(9, 6, 3))

    def test_weights_that_are_transposed_behind_their_dequantiser(self, tmp_path: Path) -> None:
        """As PyTorch's exporters write a linear layer, with a scale for each output."""
        scales = {"ws": np.abs(floats(5, 4)) + np.float32(0.01), "wz": np.zeros(4, np.int8)}
        nodes = [
            h.make_node("Transpose", ["w"], ["t"], name="turn", perm=[1, 0]),
            h.make_node("MatMul", ["q", "t"], ["p"], name="product"),
            h.make_node("Add", ["p", "c"], ["y"], name="bias"),
        ]
        path = written(tmp_path, nodes, [3, 6], [3, 4], {"W": MATRIX.T.copy(), "c": C, **scales})
        assert "MatMulInteger" in ops(self.check(path, floats(9, 3, 6)))

    @pytest.mark.parametrize("bias", [True, False])
    def test_conv_in_groups_with_a_bias_of_floats(self, tmp_path: Path, bias: bool) -> None:
        attrs = {"kernel_shape": [2, 3], "pads": [1, 0, 0, 2], "strides": [1, 2], "group": 2}
        node = h.make_node("Conv", ["q", "w", *(["c"] if bias else [])], ["y"], name="conv", **attrs)
        scales = {"ws": np.abs(floats(5, 4)) + np.float32(0.01), "wz": np.zeros(4, np.int8), "c": C}
        path = written(tmp_path, [node], [1, 6, 5, 9], [1, 4, 5, 5], {"W": integers_of(2, 4, 3, 2, 3), **scales})
        self.check(path, floats(9, 1, 6, 5, 9))

    def test_moves_between_two_quantisers_of_one_grid_are_taken_on_integers(self, tmp_path: Path) -> None:
        nodes = [
            h.make_node("Transpose", ["q"], ["t"], name="turn", perm=[1, 0]),
            h.make_node("QuantizeLinear", ["t", "s", "z"], ["tq"], name="again"),
            h.make_node("Reshape", ["tq", "flat"], ["f"], name="flat"),
            h.make_node("DequantizeLinear", ["f", "s", "z"], ["y"], name="out"),
        ]
        path = written(tmp_path, nodes, [3, 4], [12], {"flat": np.array([12])})
        graph = convert(path, mode="window")
        assert ops(graph) == ["QuantizeLinear", "Transpose", "Reshape", "DequantizeLinear"]
        x = floats(9, 3, 4)
        np.testing.assert_array_equal(np.asarray(Stream(Engine(graph)).step(x)), run_file(path, {"x": x})[0])


class TestWhatStaysInFloats:
    """Each of these is outside of what the integer ops take, and is computed as the file says."""

    def stays(self, path: Path, op: str, x: Array) -> None:
        graph = convert(path, mode="window")
        assert op in ops(graph)
        assert not {"MatMulInteger", "ConvInteger"} & set(ops(graph))
        compared(path, graph, x, 1e-5)

    def test_a_convolution_of_three_dimensions(self, tmp_path: Path) -> None:
        node = h.make_node("Conv", ["q", "w"], ["y"], name="conv", kernel_shape=[2, 2, 2])
        path = written(tmp_path, [node], [1, 2, 3, 4, 5], [1, 4, 2, 3, 4], {"W": integers_of(2, 4, 2, 2, 2, 2)})
        self.stays(path, "Conv", floats(9, 1, 2, 3, 4, 5))

    def test_an_input_that_no_quantiser_makes(self, tmp_path: Path) -> None:
        path = written(tmp_path, [h.make_node("MatMul", ["x", "w"], ["y"], name="m")], [3, 6], [3, 4], {"W": MATRIX})
        self.stays(path, "MatMul", floats(9, 3, 6))

    def test_weights_with_a_scale_for_each_product(self, tmp_path: Path) -> None:
        scales = {"ws": np.abs(floats(5, 6)) + np.float32(0.01), "wz": np.zeros(6, np.int8)}
        path = written(tmp_path, [h.make_node("MatMul", ["q", "w"], ["y"], name="m")], [3, 6], [3, 4], {"W": MATRIX, **scales})
        self.stays(path, "MatMul", floats(9, 3, 6))

    def test_a_sum_that_32_bits_may_not_hold(self, tmp_path: Path) -> None:
        W = integers_of(2, 33026, 1)
        path = written(tmp_path, [h.make_node("MatMul", ["q", "w"], ["y"], name="m")], [1, 33026], [1, 1], {"W": W})
        self.stays(path, "MatMul", floats(9, 1, 33026))


def test_weights_of_8_bits_that_no_product_takes_are_floats_again(tmp_path: Path) -> None:
    nodes = [h.make_node("Add", ["q", "w"], ["a"], name="add"), h.make_node("MatMul", ["x", "w"], ["m"], name="m")]
    nodes += [h.make_node("Add", ["a", "m"], ["y"], name="sum")]
    graph = convert(written(tmp_path, nodes, [4, 4], [4, 4], {"W": integers_of(2, 4, 4)}), mode="window")
    expected = (integers_of(2, 4, 4).astype(np.float32) + 3) * SCALARS["ws"]
    np.testing.assert_array_equal(graph.constants["w"], expected)
    assert "W" not in graph.constants


def test_the_pass_stands_in_front_of_those_that_look_for_time() -> None:
    order = list(PIPELINE)
    assert order.index("declutter") < order.index("integers") < order.index("reroll") < order.index("streamify")
