"""Absorbing: constants go into the weights in front of them, formulas become functions; onnxruntime computes the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_files import F32, Typed, make, noise, ops, run_file, run_graph, save
from streamrnn_converters.onnx.reader import read_model
from streamrnn_converters.passes.absorb import absorb
from streamrnn_converters.passes.fold import fold

from streamrnn.ir.graph import Array, Graph

node = helper.make_node
Y: Typed = ("y", F32, None)  # type: ignore[assignment]
NORM = {"scale": noise(1, 6), "shift": noise(2, 6), "mean": noise(3, 6), "var": np.abs(noise(4, 6)) + np.float32(0.01)}


def absorbed(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array],
    shape: Sequence[int],
    outputs: Sequence[Typed] = (Y,),
) -> Graph:
    """The graph of a file on x of `shape`, absorbed and checked against onnxruntime on that file."""
    path = save(make(nodes, [("x", F32, list(shape))], outputs, constants), folder)
    graph, x = absorb(fold(read_model(path))), noise(0, *shape) * 3
    for found, expected in zip(run_graph(graph, {"x": x}), run_file(path, {"x": x}), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    return graph


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_normalisation_is_in_the_filters_in_front_of_it(tmp_path: Path, op: str, bias: bool, groups: int) -> None:
    W = noise(5, 6, 6 // groups, 3)
    constants = {**NORM, "W": W} | ({"b": noise(6, 6)} if bias else {})
    layer = node(op, ["x", "W", *(["b"] if bias else [])], ["a"], group=groups, pads=[1, 1])
    norm = node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["y"], epsilon=1e-3)
    assert ops(absorbed(tmp_path, [layer, norm], constants, (2, 6, 7))) == [op]


def test_filters_that_somebody_else_reads_keep_their_values(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "W"], ["a"]),
        node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    graph = absorbed(tmp_path, nodes, {**NORM, "W": noise(5, 6, 6, 1)}, (1, 6, 7))
    assert ops(graph) == ["Conv", "BatchNormalization", "Add"]


def test_a_factor_beyond_float32_stays_where_it_is(tmp_path: Path) -> None:
    constants = {**NORM, "W": np.full((6, 6, 1), 1e30, np.float32), "scale": np.full(6, 1e10, np.float32)}
    path = save(
        make(
            [
                node("Conv", ["x", "W"], ["a"]),
                node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["y"]),
            ],
            [("x", F32, [1, 6, 7])],
            [Y],
            constants,
        ),
        tmp_path,
    )
    assert ops(absorb(fold(read_model(path)))) == ["Conv", "BatchNormalization"]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("shape", "found"), [((3, 4), ["Gemm"]), ((2, 3, 4), ["Reshape", "Gemm", "Reshape"])])
def test_a_row_that_is_added_to_a_product_is_its_bias(
    tmp_path: Path, shape: tuple[int, ...], found: list[str], turned: bool
) -> None:
    added = ["k", "a"] if turned else ["a", "k"]
    nodes = [node("MatMul", ["x", "W"], ["a"]), node("Add", added, ["y"])]
    assert ops(absorbed(tmp_path, nodes, {"W": noise(1, 4, 5), "k": noise(2, 5)}, shape)) == found


@pytest.mark.parametrize("k", [noise(1, 1), noise(1, 3, 1), noise(1, 3, 5), noise(1, 2, 1, 5)], ids=str)
def test_what_is_no_row_of_the_product_stays_an_add(tmp_path: Path, k: Array) -> None:
    nodes = [node("MatMul", ["x", "W"], ["a"]), node("Add", ["a", "k"], ["y"])]
    assert ops(absorbed(tmp_path, nodes, {"W": noise(2, 4, 5), "k": k}, (3, 4))) == ["MatMul", "Add"]


@pytest.mark.parametrize("turned", [False, True])
def test_mish_is_one_function(tmp_path: Path, turned: bool) -> None:
    factors = ["b", "x"] if turned else ["x", "b"]
    nodes = [node("Softplus", ["x"], ["a"]), node("Tanh", ["a"], ["b"]), node("Mul", factors, ["y"])]
    assert ops(absorbed(tmp_path, nodes, {}, (2, 50))) == ["Mish"]


def test_mish_of_another_value_is_none(tmp_path: Path) -> None:
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("Softplus", ["n"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("Mul", ["x", "b"], ["y"]),
    ]
    assert ops(absorbed(tmp_path, nodes, {}, (2, 50))) == ["Neg", "Softplus", "Tanh", "Mul"]
