"""Weights that are NaN or Inf are named; masks and limits are left in peace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_files import F32, make, noise, save
from streamrnn_converters.onnx.reader import read_model
from streamrnn_converters.passes.finite import check_finite
from streamrnn_converters.passes.fold import fold

from streamrnn.errors import ModelFileError
from streamrnn.ir.graph import Array, Graph


def one_node(folder: Path, op: str, array: Array) -> Graph:
    """y = op(x [2, 3], w)"""
    node = helper.make_node(op, ["x", "w"], ["y"], name="m")
    return fold(read_model(save(make([node], [("x", F32, [2, 3])], [("y", F32, [None, None])], {"w": array}), folder)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, bad: float) -> None:
    weights = noise(1, 3, 4)
    weights[2, 1] = bad
    with pytest.raises(ModelFileError, match=r"'w' of node 'm' \(MatMul\) has 1 of 12.*first at \[2, 1\]"):
        check_finite(one_node(tmp_path, "MatMul", weights))


def test_infinity_in_a_mask_is_no_fault(tmp_path: Path) -> None:
    graph = one_node(tmp_path, "Add", np.float32([0, -np.inf, 0]))
    assert check_finite(graph) is graph


def test_nan_in_a_mask_is_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="NaN or Inf"):
        check_finite(one_node(tmp_path, "Add", np.float32([0, np.nan, 0])))
