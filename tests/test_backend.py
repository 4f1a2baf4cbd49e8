"""ONNX's backend interface: a model compiled for the arrays it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import F32, I64, make, noise, save
from streamrnn_converters import backend, convert

from streamrnn.errors import InputError, OpenValueError, UnsupportedError

PLUS = make([helper.make_node("Add", ["a", "b"], ["y"])], [("a", F32, [2, 3]), ("b", F32, [3])], [("y", F32, [2, 3])])
SHAPED = make([helper.make_node("Reshape", ["x", "s"], ["y"])], [("x", F32, ["n", 4]), ("s", I64, [2])], [("y", F32, None)])


def test_inputs_are_taken_by_position_and_by_name() -> None:
    a, b = noise(0, 2, 3), noise(1, 3)
    rep = backend.prepare(PLUS)
    assert np.array_equal(rep.run([a, b])[0], a + b)
    assert np.array_equal(rep.run({"b": b, "a": a}).y, a + b)  # type: ignore[attr-defined]
    assert np.array_equal(backend.run_model(PLUS, (a, b))["y"], a + b)  # type: ignore[call-overload]


def test_one_model_runs_with_arrays_of_several_shapes() -> None:
    rep = backend.prepare(SHAPED)
    for rows, shape in ((3, [2, 6]), (5, [4, 5]), (3, [12, 1]), (3, [2, 6])):
        x = noise(rows, rows, 4)
        assert np.array_equal(rep.run([x, np.array(shape)])[0], x.reshape(shape))


def test_only_what_decides_a_shape_becomes_a_constant() -> None:
    rep = backend.prepare(SHAPED)
    rep.run([noise(0, 3, 4), np.array([2, 6])])
    assert rep.bound == ("s",)
    assert rep.graph([noise(0, 3, 4), np.array([2, 6])]).inputs == ("x",)
    plus = backend.prepare(PLUS)
    plus.run([noise(0, 2, 3), noise(1, 3)])
    assert plus.bound == ()


def test_a_run_leaves_nothing_behind_for_the_next() -> None:
    nodes = [helper.make_node("GRU", ["x", "w", "r", "", "", "h"], ["y", "last"], hidden_size=2)]
    inputs = [("x", F32, [3, 1, 2]), ("h", F32, [1, 1, 2])]
    model = make(nodes, inputs, [("y", F32, None), ("last", F32, None)], {"w": noise(2, 1, 6, 2), "r": noise(3, 1, 6, 2)})
    rep = backend.prepare(model)
    first, again = (rep.run([noise(0, 3, 1, 2), noise(1, 1, 1, 2)]) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_results_have_the_declared_rank() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)]
    y, s = backend.run_model(make(nodes, [("x", F32, [1, 3])], [("y", F32, [1, 3]), ("s", F32, [])]), [noise(0, 1, 3)])
    assert y.shape == (1, 3)
    assert s.shape == ()


def test_one_node_runs_by_itself() -> None:
    x = noise(0, 2, 5)
    (y,) = backend.run_node(helper.make_node("Clip", ["x", "", "top"], ["y"]), [x, np.float32(0.5)])
    assert np.array_equal(y, np.minimum(x, np.float32(0.5)))
    (old,) = backend.run_node(helper.make_node("Clip", ["x"], ["y"], max=0.5), [x], opset_version=7)
    assert np.array_equal(old, y)


def test_it_runs_on_the_cpu() -> None:
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA:1")
    assert not backend.supports_device("abacus")
    with pytest.raises(UnsupportedError, match="CUDA"):
        backend.prepare(PLUS, "CUDA")


def test_compatible_is_what_can_be_read_and_has_known_ops() -> None:
    assert backend.is_compatible(PLUS)
    unknown = helper.make_node("NonMaxSuppression", ["x", "x"], ["y"])
    assert not backend.is_compatible(make([unknown], [("x", F32, [1, 1, 4])], [("y", I64, None)]))
    assert not backend.is_compatible(onnx.ModelProto())


def test_inputs_that_do_not_fit_are_refused() -> None:
    rep = backend.prepare(PLUS)
    with pytest.raises(InputError, match="the model takes"):
        rep.run([noise(0, 2, 3)])
    with pytest.raises(InputError, match="the model takes"):
        rep.run({"a": noise(0, 2, 3), "c": noise(1, 3)})
    with pytest.raises(InputError, match="float64"):
        rep.run([noise(0, 2, 3).astype(np.float64), noise(1, 3)])


def test_a_value_that_depends_on_the_data_and_decides_a_shape_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64), helper.make_node("Reshape", ["x", "i"], ["y"])]
    model = make(nodes, [("x", F32, [1])], [("y", F32, None)])
    with pytest.raises(OpenValueError, match="--bind x=VALUE") as caught:
        convert(save(model, tmp_path), mode="window")
    assert caught.value.inputs == ("x",)
    rep = backend.prepare(model)
    assert np.array_equal(rep.run([np.ones(1, np.float32)])[0], [1])
    assert rep.bound == ("x",)


def test_a_weight_that_is_fed_is_named_by_the_input_it_comes_from() -> None:
    nodes = [helper.make_node("Neg", ["k"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"])]
    rep = backend.prepare(make(nodes, [("x", F32, [1, 1, 5]), ("k", F32, [1, 1, 1])], [("y", F32, None)]))
    x = noise(0, 1, 1, 5)
    assert np.array_equal(rep.run([x, np.full((1, 1, 1), 2, np.float32)])[0], -2 * x)
    assert rep.bound == ("k",)
