"""OneHot, Trilu, EyeLike, CastLike, Compress, NonZero and Unique keep the contract of ops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import Case, floats
from moving import Moves, compiled, indices, numbers, plain
from onnx import helper
from onnx_files import F32, I64, make, ops, save
from streamrnn_converters.onnx.reader import read_model
from streamrnn_converters.passes.declutter import declutter
from streamrnn_converters.passes.fold import fold

from streamrnn import Stream
from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType


def hot(
    index: Array,
    depth: int,
    values: tuple[Any, Any] = (0, 1),
    axis: int = -1,
    dtype: DType = DType.F32,
    time: int | None = None,
) -> Case:
    # onnxruntime has a kernel for few combinations of element types
    onnx = dtype in (DType.F32, DType.I64) and index.dtype != np.int32
    return Case(
        "OneHot", (index, np.array(depth, index.dtype), np.array(values, dtype.numpy)), {"axis": axis}, live=(0,), onnx=onnx,
        time={} if time is None else {0: time},
        label=f"OneHot {index.dtype}{list(index.shape)} {depth} {axis} {dtype.value} {time}",
    )  # fmt: skip


def ints(*rows: Any, dtype: Any = np.int64) -> Array:
    return np.array(rows, dtype)


class TestOneHot(Moves):
    cases = [  # noqa: RUF012
        hot(ints(0, 2, 1), 3),
        hot(ints([0, -1], [-3, 2]), 3, (-1, 5), axis=0),
        hot(ints([0, 7], [-4, 2]), 3, axis=1),
        hot(ints([1.7, -0.5], [0.2, 2.9], dtype=np.float32), 3),
        hot(ints(1, 0, dtype=np.int32), 2, dtype=DType.I64),
        hot(ints([0, 1, 2, 1, 0, -1, 2, 2, 1, 0, 1, 1]), 3, time=1),
        hot(ints([0, 1, 2, 1, 0, -1, 2, 2, 1, 0, 1, 1]), 3, axis=1, time=1),
    ]


@pytest.mark.parametrize("dtype", DType)
def test_one_hot_gives_every_element_type(dtype: DType) -> None:
    case = hot(ints(0, 2, -1), 3, (0, 1), dtype=dtype)
    (y,) = compiled(case)
    assert y.dtype == dtype.numpy
    np.testing.assert_array_equal(y, np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1]]).astype(dtype.numpy))


@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.BOOL])
def test_indices_may_be_of_any_number(dtype: DType) -> None:
    (y,) = compiled(hot(ints(2, 0, 5, dtype=dtype.numpy), 3))
    np.testing.assert_array_equal(y, [[0, 0, 1], [1, 0, 0], [0, 0, 0]])


def test_indices_that_are_not_finite_mark_no_place() -> None:
    (y,) = plain(hot(ints(np.nan, np.inf, -np.inf, 1, dtype=np.float32), 2))
    np.testing.assert_array_equal(y, [[0, 0], [0, 0], [0, 0], [0, 1]])


def test_on_and_off_may_change_from_step_to_step() -> None:
    case = hot(ints(1, 0), 2, (3, 9))
    case.live = (0, 2)
    np.testing.assert_array_equal(compiled(case)[0], [[3, 9], [9, 3]])


def triangle(x: Array, k: int | None = None, upper: int = 1, time: int | None = None, refused: str = "") -> Case:
    return Case(
        "Trilu", (x,) if k is None else (x, np.array(k)), {"upper": upper}, live=(0, 1), time={} if time is None else {0: time},
        refused=refused, label=f"Trilu {x.dtype}{list(x.shape)} {k} {upper} {time}",
    )  # fmt: skip


class TestTrilu(Moves):
    cases = [  # noqa: RUF012
        *(triangle(floats(1, 3, 5), k, upper) for k in (None, 0, 2, -2, 9, -9) for upper in (0, 1)),
        triangle(floats(2, 2, 3, 4, 4), 1, 0),
        triangle(floats(2, 0, 4), 1),
        triangle(numbers((4, 4), DType.I64), -1),
        triangle(numbers((4, 4), DType.BOOL), 1, 0),
        triangle(floats(3, 12, 3, 4), time=0),
        triangle(floats(3, 12, 4), time=0, refused="place in the clip"),
    ]


def eye(dtype: DType, k: int = 0, to: DType | None = None, shape: tuple[int, int] = (3, 5)) -> Case:
    attrs: dict[str, Any] = {"k": k}
    own = attrs if to is None else {**attrs, "dtype": to.value}
    kind = {} if to is None else {"dtype": helper.np_dtype_to_tensor_dtype(to.numpy)}
    return Case(
        "EyeLike", (numbers(shape, dtype),), own, onnx_attrs={**attrs, **kind},
        label=f"EyeLike {dtype.value}{list(shape)} {k} {to}",
    )  # fmt: skip


class TestEyeLike(Moves):
    cases = [  # noqa: RUF012
        eye(DType.F32),
        eye(DType.I64, 1),
        eye(DType.F32, -2, DType.I32),
        eye(DType.I32, 9),
        eye(DType.F64, 0, DType.I64),
    ]


def test_an_identity_matrix_has_any_element_type() -> None:
    for to in DType:
        (y,) = plain(eye(DType.F64, 1, to))
        assert y.dtype == to.numpy
        np.testing.assert_array_equal(y, np.eye(3, 5, 1))


class TestCastLike(Moves):
    cases = [  # noqa: RUF012
        Case("CastLike", (floats(1, 2, 12), numbers((3,), DType.I64)), live=(0, 1), time={0: 1}),
        Case("CastLike", (numbers((2, 3), DType.I64), floats(1, 1))),
        Case("CastLike", (floats(1, 2, 3), floats(2, 4))),
    ]


@pytest.mark.parametrize(
    ("source", "to"), [("float32", "int32"), ("int64", "float64"), ("bool", "uint8"), ("float16", "int16"), ("uint8", "int8")]
)
def test_bits_become_those_of_another_element_type(source: str, to: str) -> None:
    x = numbers((2, 12), DType(source))
    case = Case("BitCast", (x,), {"to": to}, time={0: 1})
    for (y,) in (compiled(case), plain(case)):
        assert y.dtype == to
        assert y.tobytes() == x.tobytes()
    frames = np.ascontiguousarray(x.T).reshape(12, *case.stream_engine.inputs["i0"].shape)
    assert Stream(case.stream_engine).process(frames).tobytes() == frames.tobytes()
    with pytest.raises(ShapeError, match="not of one size"):
        Case("BitCast", (x,), {"to": "uint64" if to != "float64" else "int8"}).site()


def squeezed(x: Array, condition: list[int], axis: int | None = None, time: int | None = None, refused: str = "") -> Case:
    return Case(
        "Compress", (x, np.array(condition, bool)), {} if axis is None else {"axis": axis},
        time={} if time is None else {0: time}, refused=refused, label=f"Compress {list(x.shape)} {condition} {axis} {time}",
    )  # fmt: skip


class TestCompress(Moves):
    cases = [  # noqa: RUF012
        squeezed(floats(1, 3, 4), [0, 1, 1], 0),
        squeezed(floats(1, 3, 4), [1, 0, 0, 1], -1),
        squeezed(floats(1, 3, 4), [0, 1, 0, 0, 1, 1]),
        squeezed(floats(1, 3, 4), [0, 0], 1),
        squeezed(numbers((2, 3), DType.BOOL), [1, 0, 1], 1),
        squeezed(floats(1, 12, 4), [1, 0, 0, 1], 1, time=0),
        squeezed(floats(1, 12, 4), [0, 1], 0, time=0, refused="fixed places"),
        squeezed(floats(1, 12, 4), [0, 1], None, time=0, refused="fixed places"),
    ]


class TestOfConstants(Moves):
    cases = [  # noqa: RUF012
        *(Case("NonZero", (x,), live=()) for x in (np.array([[1, 0], [0, 3]]), np.zeros((2, 2), np.float32))),
        # the standard says [0, count] for a single number, onnxruntime gives [1, count]
        Case("NonZero", (np.array(5),), live=(), onnx=False),
        *(
            Case("Unique", (x,), attrs, outputs=4, live=(), label=f"Unique {x.tolist()} {attrs}")
            for x, attrs in (
                (np.float32([2, 1, 1, 3, 4, 3]), {}),
                (np.float32([2, 1, 1, 3, 4, 3]), {"sorted": 0}),
                (np.float32([[1, 0, 0], [1, 0, 0], [2, 3, 4]]), {"axis": 0}),
                (np.float32([[5, 3, 5], [1, 0, 1]]), {"axis": -1, "sorted": 0}),
                (np.array([[7, 7], [2, 9]]), {}),
            )
        ),
    ]


@pytest.mark.parametrize("op", ["NonZero", "Unique", "Compress"])
def test_a_shape_that_run_time_values_decide_is_refused_with_the_reason(op: str) -> None:
    inputs = (floats(1, 3), np.ones(3, bool))[: 2 if op == "Compress" else 1]
    with pytest.raises(UnsupportedError, match="computed at run time, but a compiled step has fixed shapes"):
        Case(op, inputs, live=(0, 1)).site()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ShapeError, match="not one number of classes"):
        hot(indices(0), -1).site()
    with pytest.raises(ShapeError, match="off and on"):
        hot(indices(0), 2, (0, 1, 2)).site()  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="no rows and columns"):
        triangle(floats(1, 3)).site()
    with pytest.raises(ShapeError, match="does not fit the 3 elements"):
        squeezed(floats(1, 3), [0, 0, 0, 1], 0).site()
    with pytest.raises(ShapeError, match="two dimensions"):
        Case("EyeLike", (floats(1, 3),)).site()
    with pytest.raises(UnsupportedError, match="bfloat16"):
        Case("EyeLike", (floats(1, 3, 3),), {"dtype": "bfloat16"}).site()


def test_what_depends_on_a_type_alone_is_folded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("EyeLike", ["x"], ["eye"]),
        helper.make_node("CastLike", ["one", "x"], ["cast"]),
        helper.make_node("CastLike", ["n", "x"], ["real"]),
        helper.make_node("Mul", ["eye", "cast"], ["product"]),
        helper.make_node("Add", ["product", "real"], ["y"]),
    ]
    model = make(nodes, [("x", F32, [2, 3]), ("n", I64, [2, 3])], [("y", F32, [2, 3])], {"one": np.array(2)})
    graph = declutter(fold(read_model(save(model, tmp_path))))
    assert ops(graph) == ["Cast", "Add"]
    np.testing.assert_array_equal(graph.constants["product"], 2 * np.eye(2, 3))
