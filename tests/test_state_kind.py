"""What a state is for, found from what the graph does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx_files as files
import pytest
from contract import floats
from onnx import helper as h
from onnx_files import F32
from streamrnn_converters import convert

from streamrnn.cli.talk import initial
from streamrnn.ir.graph import Array

N = 4


def kind(folder: Path, nodes: Sequence[Any], state: Sequence[int], constants: Mapping[str, Array], x: Sequence[int]) -> str:
    """Of the state s -> s_out of a step model with input x and output y."""
    inputs = [("x", F32, x), ("s", F32, state)]
    proto = files.make(nodes, inputs, [("y", F32, None), ("s_out", F32, state)], constants)  # type: ignore[list-item]
    graph = convert(files.save(proto, folder), pair={"s": "s_out"})
    return {found.name: found.kind for found in graph.states}["s"]


def node(op: str, inputs: str, outputs: str, **attrs: Any) -> Any:
    return h.make_node(op, inputs.split(), outputs.split(), name=outputs.split()[0], **attrs)


def ring(use: Sequence[Any]) -> list[Any]:
    """x [1, 2, 1] joins the ring s [1, 2, 2] as `w` [1, 2, 3], whose tail is the new ring; `use` makes y of w."""
    return [node("Concat", "s x", "w", axis=2), node("Slice", "w one three two", "s_out"), *use]


BOUNDS = {"one": np.array([1]), "three": np.array([3]), "two": np.array([2])}
GATED = [
    node("Sigmoid", "x", "gate"),
    node("Mul", "gate s", "kept"),
    node("Tanh", "x", "new"),
    node("Add", "kept new", "s_out"),
    node("Tanh", "s_out", "y"),
]
CASES: dict[str, tuple[str, Sequence[Any], Sequence[int], Mapping[str, Array], Sequence[int]]] = {
    "an Elman cell made of small ops": (
        "hidden",
        [node("Gemm", "s U", "us"), node("Add", "us x", "sum"), node("Tanh", "sum", "s_out"), node("Neg", "s_out", "y")],
        [1, N], {"U": floats(1, N, N)}, [1, N],
    ),
    "the gated memory of an LSTM made of small ops": ("cell", GATED, [1, N], {}, [1, N]),
    "a running sum": ("accumulator", [node("Add", "s x", "s_out"), node("Neg", "s_out", "y")], [1, N], {}, [1, N]),
    "an exponential average": (
        "accumulator",
        [
            node("Mul", "s decay", "kept"),
            node("Mul", "x rest", "new"),
            node("Add", "kept new", "s_out"),
            node("Div", "x s_out", "y"),
        ],
        [1, N], {"decay": np.float32([0.9]), "rest": np.float32([0.1])}, [1, N],
    ),
    "a running maximum": ("accumulator", [node("Max", "s x", "s_out"), node("Sub", "x s_out", "y")], [1, N], {}, [1, N]),
    "frames in front of a convolution": (
        "conv ring", ring([node("Conv", "w K", "y")]), [1, 2, 2], {"K": floats(1, 3, 2, 3), **BOUNDS}, [1, 2, 1],
    ),
    "one frame in front of a convolution": (
        "conv ring",
        [
            node("Concat", "s x", "w", axis=2),
            node("Identity", "x", "s_out"),
            node("Relu", "w", "r"),
            node("Conv", "r K", "y"),
        ],
        [1, 2, 1], {"K": floats(1, 3, 2, 2)}, [1, 2, 1],
    ),
    "keys of attention": (
        "K/V ring", ring([node("MatMul", "x_row w", "y"), node("Transpose", "x", "x_row", perm=[0, 2, 1])][::-1]),
        [1, 2, 2], BOUNDS, [1, 2, 1],
    ),
    "keys of attention by products and sums": (
        "K/V ring",
        ring([node("Mul", "x w", "xw"), node("ReduceSum", "xw one", "y", keepdims=0)]),
        [1, 2, 2], BOUNDS, [1, 2, 1],
    ),
    "frames for a maximum": ("ring", ring([node("ReduceMax", "w two", "y")]), [1, 2, 2], BOUNDS, [1, 2, 1]),
    "the tail of a frame for the next": (
        "overlap",
        [node("Split", "x", "head tail", num_outputs=2, axis=1), node("Add", "head s", "y"), node("Neg", "tail", "s_out")],
        [1, N], {}, [1, 2 * N],
    ),
    "an overlap of more than two frames": (
        "overlap",
        [
            node("Pad", "s pads", "longer"),
            node("Add", "longer x", "sum"),
            node("Split", "sum", "y rest", axis=1, num_outputs=2),
            node("Identity", "rest", "s_out"),
        ],
        [1, N], {"pads": np.array([0, 0, 0, N])}, [1, 2 * N],
    ),
    "something else": (
        "explicit", [node("Mul", "s x", "p"), node("Sin", "p", "s_out"), node("Neg", "s_out", "y")], [1, N], {}, [1, N],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("expected", "nodes", "state", "constants", "x"), CASES.values(), ids=CASES)
def test_the_graph_tells_what_a_state_is_for(
    tmp_path: Path,
    expected: str,
    nodes: Sequence[Any],
    state: Sequence[int],
    constants: Mapping[str, Array],
    x: Sequence[int],
) -> None:
    assert kind(tmp_path, nodes, state, constants, x) == expected


@pytest.mark.parametrize("parts", [("one", "two"), ("two", "one")])
def test_parts_of_a_packed_state_are_told_apart_element_by_element(tmp_path: Path, parts: tuple[str, str]) -> None:
    """h and c of an LSTM made of small ops, packed in one tensor in either order: c' does not go through the weights of c."""
    h_at, c_at = parts
    nodes = [
        node("Split", "s", "one two", axis=0, num_outputs=2),
        node("Gemm", f"{h_at} U x", "gates"),
        node("Split", "gates", "i f g o", axis=1, num_outputs=4),
        *(node("Sigmoid", gate, f"{gate}s") for gate in "ifo"),
        node("Tanh", "g", "gt"),
        node("Mul", f"fs {c_at}", "kept"),
        node("Mul", "is gt", "new"),
        node("Add", "kept new", f"{c_at}_new"),
        node("Tanh", f"{c_at}_new", "ct"),
        node("Mul", "os ct", f"{h_at}_new"),
        node("Concat", "one_new two_new", "s_out", axis=0),
        node("Neg", f"{h_at}_new", "y"),
    ]
    assert kind(tmp_path, nodes, [2, N], {"U": floats(1, N, 4 * N)}, [1, 4 * N]) == "hidden+cell"


def test_states_of_recurrent_ops_and_rings_of_the_compiler_have_their_kinds(tmp_path: Path) -> None:
    step = convert(models.packed_step(tmp_path / "step.onnx"))
    assert [state.kind for state in step.states] == ["hidden", "hidden"]
    stream = convert(models.conv_gru(tmp_path / "stream.onnx", pads=[2, 0]))
    assert {state.kind for state in stream.states} == {"conv ring", "head", "hidden"}
    layers = convert(models.two_layers(tmp_path / "layers.onnx"))
    assert [state.kind for state in layers.states] == ["hidden", "cell", "hidden"]


def test_an_initial_value_is_named() -> None:
    rows = {"zeros": np.zeros(3), "constant 0.5": np.full(3, 0.5), "stored, -1 .. 2": np.array([-1, 0, 2.0])}
    for text, value in rows.items():
        assert initial(value) == text
