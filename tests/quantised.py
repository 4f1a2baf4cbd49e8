"""Float models as they are given to onnxruntime's tools, and these tools: its quantisers, and its optimiser's saved file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import onnxruntime
from contract import floats
from onnx import helper as h
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from streamrnn.ir.graph import Array

I, H = 8, 16  # noqa: E741  sizes of the input and of what is inside
Tool = Callable[[Path], Path]


def recurrent(folder: Path, op: str) -> Path:
    """x [T, 1, I] -> cell -> linear layer -> tanh -> y [T, 1, 4]."""
    cell, constants = models.cell(op, "cell", "x", I, H, 10)
    constants |= {"axis": np.array([1]), "K": floats(13, H, 4, scale=0.4), "k": floats(14, 4, scale=0.2)}
    nodes = [
        cell,
        h.make_node("Squeeze", ["cell_all", "axis"], ["h"], name="squeeze"),
        h.make_node("MatMul", ["h", "K"], ["product"], name="head"),
        h.make_node("Add", ["product", "k"], ["sum"], name="bias"),
        h.make_node("Tanh", ["sum"], ["y"], name="tanh"),
    ]
    return models.write_model(folder / f"{op}.onnx", {"x": ["T", 1, I]}, {"y": ["T", 1, 4]}, nodes, constants)


def convolution(folder: Path, frames: int | str = "T") -> Path:
    """x [1, I, T] -> two causal convolutions, batch norm, a sum around -> GRU -> y [T, 4], on the grid once it is quantised."""
    cell, constants = models.cell("GRU", "cell", "frames", H, H, 10)
    for k, n in (("a", I), ("b", H)):
        constants |= {f"{k}K": floats(20 + n, H, n, 3, scale=0.3), f"{k}k": floats(21 + n, H, scale=0.2)}
    constants |= {"gain": 1 + floats(30, H, scale=0.1), "shift": floats(31, H, scale=0.1), "mean": floats(32, H, scale=0.1)}
    constants |= {"variance": np.abs(floats(33, H)) + 1, "flat": np.array([-1, H]), "axis": np.array([1])}
    constants |= {"G": floats(34, H, 4, scale=0.4), "g": floats(35, 4, scale=0.2)}
    nodes = [
        h.make_node("Conv", ["x", "aK", "ak"], ["a"], name="first", kernel_shape=[3], pads=[2, 0]),
        h.make_node("BatchNormalization", ["a", "gain", "shift", "mean", "variance"], ["n"], name="norm"),
        h.make_node("Relu", ["n"], ["r"], name="relu"),
        h.make_node("Conv", ["r", "bK", "bk"], ["b"], name="second", kernel_shape=[3], pads=[4, 0], dilations=[2]),
        h.make_node("LeakyRelu", ["b"], ["l"], name="leaky", alpha=0.1),
        h.make_node("Add", ["l", "r"], ["s"], name="around"),
        h.make_node("Transpose", ["s"], ["frames"], name="turn", perm=[2, 0, 1]),
        cell,
        h.make_node("Reshape", ["cell_all", "flat"], ["h"], name="reshape"),
        h.make_node("Gemm", ["h", "G", "g"], ["p"], name="head"),
        h.make_node("Sigmoid", ["p"], ["y"], name="sigmoid"),
    ]
    return models.write_model(folder / "conv.onnx", {"x": [1, I, frames]}, {"y": [frames, 4]}, nodes, constants)


def attention(folder: Path, frames: int = 5) -> Path:
    """x [1, frames, I] -> a transformer's encoder layer, GELU written out as exporters do -> y [1, frames, H]."""
    nodes, constants = list[Any](), dict[str, Array]()

    def node(op: str, inputs: str, output: str, **attrs: Any) -> None:
        nodes.append(h.make_node(op, inputs.split(), [output], name=f"make_{output}", **attrs))

    def linear(x: str, y: str, rows: int, columns: int) -> None:
        seed = 40 + 2 * len(constants)
        constants[f"{y}W"], constants[f"{y}B"] = floats(seed, rows, columns, scale=0.3), floats(seed + 1, columns, scale=0.2)
        node("MatMul", f"{x} {y}W", f"{y}_product")
        node("Add", f"{y}_product {y}B", y)

    def norm(x: str, y: str) -> None:
        constants[f"{y}G"], constants[f"{y}S"] = 1 + floats(7, H, scale=0.2), floats(8, H, scale=0.2)
        node("LayerNormalization", f"{x} {y}G {y}S", y, axis=-1)

    constants |= {"heads": np.array([0, 0, 4, H // 4]), "merged": np.array([0, 0, H]), "scale": np.array(0.5, np.float32)}
    constants |= {"root": np.sqrt(np.array(2, np.float32)), "one": np.array(1, np.float32)}
    linear("x", "embedded", I, H)
    for name, perm in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3))):
        linear("embedded", name, H, H)
        node("Reshape", f"{name} heads", f"{name}_split")
        node("Transpose", f"{name}_split", f"{name}_heads", perm=perm)
    node("MatMul", "q_heads k_heads", "raw_scores")
    node("Mul", "raw_scores scale", "scores")
    node("Softmax", "scores", "weights", axis=-1)
    node("MatMul", "weights v_heads", "mixed_heads")
    node("Transpose", "mixed_heads", "mixed_split", perm=(0, 2, 1, 3))
    node("Reshape", "mixed_split merged", "mixed")
    linear("mixed", "projected", H, H)
    node("Add", "projected embedded", "around")
    norm("around", "normed")
    linear("normed", "wide", H, 2 * H)
    node("Div", "wide root", "wide_root")
    node("Erf", "wide_root", "wide_erf")
    node("Add", "wide_erf one", "wide_one")
    node("Mul", "wide wide_one", "wide_twice")
    node("Mul", "wide_twice scale", "gelu")
    linear("gelu", "narrow", 2 * H, H)
    node("Add", "narrow normed", "around_again")
    norm("around_again", "y")
    return models.write_model(folder / "attention.onnx", {"x": [1, frames, I]}, {"y": [1, frames, H]}, nodes, constants)


class Noise(CalibrationDataReader):  # type: ignore[misc]
    """A few clips of noise for every input."""

    def __init__(self, path: Path) -> None:
        self.clips = self._clips(path)

    @staticmethod
    def _clips(path: Path) -> Iterator[dict[str, Array]]:
        inputs = onnx.load(path).graph.input
        for seed in range(4):
            yield {i.name: floats(seed, *(d.dim_value or 30 for d in i.type.tensor_type.shape.dim)) for i in inputs}

    def get_next(self) -> dict[str, Array] | None:
        return next(self.clips, None)


def dynamic(weights: str, *, per_channel: bool = False, reduce_range: bool = False) -> Tool:
    def tool(path: Path) -> Path:
        found = path.with_suffix(".dynamic.onnx")
        quantize_dynamic(path, found, weight_type=QuantType[weights], per_channel=per_channel, reduce_range=reduce_range)
        return found

    return tool


def static(layout: str, numbers: str, weights: str = "QInt8", *, per_channel: bool = False) -> Tool:
    """layout: QDQ or QOperator. numbers: type of what runs through the model."""

    def tool(path: Path) -> Path:
        found = path.with_suffix(".static.onnx")
        quantize_static(
            path, found, Noise(path), quant_format=QuantFormat[layout], activation_type=QuantType[numbers],
            weight_type=QuantType[weights], per_channel=per_channel,
        )  # fmt: skip
        return found

    return tool


def saved(level: str) -> Tool:
    """The file that onnxruntime saves at a level of its optimiser."""

    def tool(path: Path) -> Path:
        found = path.with_suffix(f".{level}.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.__members__[f"ORT_ENABLE_{level}"]
        options.optimized_model_filepath = str(found)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return found

    return tool


def ops_of(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}
