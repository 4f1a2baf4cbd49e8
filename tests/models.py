"""Small ONNX files that tests write with onnx.helper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from contract import OPSET, floats
from onnx import helper as h

from streamrnn import Engine
from streamrnn.ir.graph import Array, Graph

Dims = Sequence[int | str]


def cell(op: str, name: str, x: str, n_in: int, hidden: int, seed: int, *, h0: str = "", direction: str = "forward") -> Any:
    """(node, constants) of a recurrent node with outputs <name>_all and <name>_last."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    constants = {
        f"{name}_W": floats(seed, 1, gates * hidden, n_in, scale=0.4),
        f"{name}_R": floats(seed + 1, 1, gates * hidden, hidden, scale=0.3),
        f"{name}_B": floats(seed + 2, 1, 2 * gates * hidden, scale=0.2),
    }
    attrs: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if op == "GRU":
        attrs["linear_before_reset"] = 1
    inputs = [x, *constants, *(["", h0] if h0 else [])]
    return h.make_node(op, inputs, [f"{name}_all", f"{name}_last"], name=name, **attrs), constants


def write_model(
    path: Path,
    inputs: Mapping[str, Dims],
    outputs: Mapping[str, Dims],
    nodes: Sequence[Any],
    constants: Mapping[str, Array],
    kinds: Mapping[str, int] | None = None,
) -> Path:
    """An ONNX file; float32 wherever `kinds` does not say otherwise."""
    kinds = kinds or {}

    def infos(table: Mapping[str, Dims]) -> list[Any]:
        return [h.make_tensor_value_info(n, kinds.get(n, onnx.TensorProto.FLOAT), list(d)) for n, d in table.items()]

    initializers = [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = h.make_graph(list(nodes), "g", infos(inputs), infos(outputs), initializers)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", OPSET)], ir_version=10), path)
    return path


def two_layers(path: Path, frames: int | str = "T", hidden: int = 5) -> Path:
    """x [T, 1, 3] -> LSTM -> GRU -> y [T, 1, hidden], last [1, 1, hidden]."""
    first, a = cell("LSTM", "one", "x", 3, hidden, 10)
    second, b = cell("GRU", "two", "mid", hidden, hidden, 20)
    nodes = [
        first,
        h.make_node("Squeeze", ["one_all", "axis"], ["mid"], name="squeeze"),
        second,
        h.make_node("Squeeze", ["two_all", "axis"], ["flat"], name="squeeze_two"),
        h.make_node("Tanh", ["flat"], ["y"], name="tanh"),
        h.make_node("Identity", ["two_last"], ["last"], name="final"),
    ]
    outputs: dict[str, Dims] = {"y": [frames, 1, hidden], "last": [1, 1, hidden]}
    return write_model(path, {"x": [frames, 1, 3]}, outputs, nodes, {**a, **b, "axis": np.array([1])})


def packed_step(path: Path, hidden: int = 4) -> Path:
    """A step model: x [1, 1, 3], h1, h2 -> y, packed [2, 1, hidden], whose rows are the new h1 and h2."""
    first, a = cell("GRU", "one", "x", 3, hidden, 30, h0="h1")
    second, b = cell("GRU", "two", "one_last", hidden, hidden, 40, h0="h2")
    nodes = [
        first,
        second,
        h.make_node("Concat", ["one_last", "two_last"], ["packed"], axis=0, name="pack"),
        h.make_node("Sigmoid", ["two_last"], ["y"], name="sigmoid"),
    ]
    state = [1, 1, hidden]
    inputs: dict[str, Dims] = {"x": [1, 1, 3], "h1": state, "h2": state}
    return write_model(path, inputs, {"y": state, "packed": [2, 1, hidden]}, nodes, {**a, **b})


def conv_gru(path: Path, hidden: int = 4, frames: int | str = "T", **conv: Any) -> Path:
    """x [1, 3, T] -> Conv of 3 taps, with the attributes given -> GRU -> y [T', 1, hidden] and last, its final state."""
    recurrent, constants = cell("GRU", "gru", "time_first", 2, hidden, 50)
    nodes = [
        h.make_node("Conv", ["x", "K", "k"], ["conv"], name="conv", **conv),
        h.make_node("Transpose", ["conv"], ["time_first"], perm=[2, 0, 1], name="transpose"),
        recurrent,
        h.make_node("Squeeze", ["gru_all", "axis"], ["y"], name="squeeze"),
        h.make_node("Tanh", ["gru_last"], ["last"], name="tanh"),
    ]
    constants |= {"K": floats(60, 2, 3, 3), "k": floats(61, 2), "axis": np.array([1])}
    outputs: dict[str, Dims] = {"y": ["Y", 1, hidden], "last": [1, 1, hidden]}
    return write_model(path, {"x": [1, 3, frames]}, outputs, nodes, constants)


def both_ways(path: Path, layers: int = 1, hidden: int = 3) -> Path:
    """x [T, 1, 2] -> layers of an LSTM forward and one backward in time, joined -> y [T, 1, 2 * hidden]."""
    nodes, constants, x, n_in = [], {"axis": np.array([1])}, "x", 2
    for k in range(layers):
        halves = []
        for way in ("forward", "reverse"):
            node, more = cell("LSTM", f"{way}{k}", x, n_in, hidden, 70 + 10 * k + len(way), direction=way)
            halves.append(f"{way}{k}_flat")
            nodes += [node, h.make_node("Squeeze", [f"{way}{k}_all", "axis"], halves[-1:], name=f"squeeze_{way}{k}")]
            constants |= more
        x, n_in = (f"out{k}" if k < layers - 1 else "y"), 2 * hidden
        nodes.append(h.make_node("Concat", halves, [x], axis=2, name=f"join{k}"))
    return write_model(path, {"x": ["T", 1, 2]}, {"y": ["T", 1, 2 * hidden]}, nodes, constants)


def two_rates(path: Path, hidden: int = 3) -> Path:
    """x [5, 1, 2], rate -> y [1, 1, hidden], by one GRU for a rate of 16000 and by another for the rest."""
    branches, constants = [], {"wanted": np.array(16000)}
    for k, name in enumerate(("wide", "narrow")):
        node, more = cell("GRU", name, "x", 2, hidden, 90 + 10 * k)
        result = h.make_tensor_value_info(f"{name}_out", onnx.TensorProto.FLOAT, [1, 1, hidden])
        nodes = [node, h.make_node("Tanh", [f"{name}_last"], [f"{name}_out"], name=f"{name}_tanh")]
        branches.append(h.make_graph(nodes, name, [], [result]))
        constants |= more
    nodes = [
        h.make_node("Equal", ["rate", "wanted"], ["is_wide"], name="equal"),
        h.make_node("If", ["is_wide"], ["y"], name="choose", then_branch=branches[0], else_branch=branches[1]),
    ]
    inputs: dict[str, Dims] = {"x": [5, 1, 2], "rate": []}
    kinds = {"rate": onnx.TensorProto.INT64}
    return write_model(path, inputs, {"y": [1, 1, hidden]}, nodes, constants, kinds)


def sabotaged(graph: Graph, name: str) -> Engine:
    """An engine in which one constant is not what it was."""
    return Engine(graph.replace(constants={**graph.constants, name: graph.constants[name] * np.float32(1.1)}))
