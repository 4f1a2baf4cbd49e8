"""ScatterND and ScatterElements keep the contract of ops; no index of a live stream writes outside of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contract import Case, floats
from moving import Moves, compiled, indices, numbers, plain
from onnx import helper as h
from onnx_files import F32, I64, make, save
from streamrnn_converters import convert

from streamrnn import Engine, Stream
from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType
from streamrnn.plan import Copy


def distinct(seed: int, sizes: tuple[int, ...], count: int) -> Array:
    """`count` different index tuples, half of them counted from the end."""
    rng = np.random.default_rng(seed)
    flat = rng.permutation(int(np.prod(sizes)))[:count]
    tuples = np.stack(np.unravel_index(flat, sizes), axis=1).astype(np.int64)
    return np.where(rng.integers(0, 2, tuples.shape) > 0, tuples, tuples - np.array(sizes))


def nd(x: tuple[int, ...], index: Array, reduction: str = "none", live: tuple[int, ...] = (0, 1, 2)) -> Case:
    updates = floats(2, *index.shape[:-1], *x[index.shape[-1] :])
    return Case(
        "ScatterND", (floats(1, *x), index, updates), {"reduction": reduction}, live=live,
        label=f"ScatterND {x} {index.shape} {reduction} live {live}",
    )  # fmt: skip


def elements(
    x: tuple[int, ...], index: Array, axis: int, reduction: str = "none", time: int | None = None, refused: str = ""
) -> Case:
    return Case(
        "ScatterElements", (floats(1, *x), index, floats(2, *index.shape)), {"axis": axis, "reduction": reduction},
        live=(0, 1, 2), time={} if time is None else dict.fromkeys(range(3), time), refused=refused,
        label=f"ScatterElements {x} {index.shape} axis {axis} {reduction} time {time}",
    )  # fmt: skip


def columns(seed: int, size: int, rows: int, count: int) -> Array:
    """[rows, count] indices, different within a row."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(size)[:count] for _ in range(rows)]).astype(np.int64)


class TestScatter(Moves):
    cases = [  # noqa: RUF012
        nd((4, 3), distinct(1, (4, 3), 5)),
        nd((5, 2, 3), distinct(2, (5,), 3)),
        nd((5, 2, 3), distinct(3, (5, 2), 4).reshape(2, 2, 2), live=(0, 2)),
        nd((4, 3), np.zeros((0, 2), np.int64)),
        nd((6, 3), indices(4, 2, 0)[:, None], live=(0, 2)),
        nd((2, 9), np.array([[r, c] for r in (1, -2) for c in (0, 3, -3)]), live=(0, 2)),
        nd((2, 9), np.array([[0, 1], [0, 2], [1, 1], [1, 3]]), live=(0, 2)),
        nd((4, 3), np.array([[1], [1]]), live=(0, 2)),
        nd((4,), indices(1, 1, 3, 1)[:, None], "add"),
        nd((4, 2), indices(1, -3, 3)[:, None], "mul"),
        nd((4,), indices(1, 1, 3, 1)[:, None], "max"),
        nd((4,), indices(1, 1, 3, 1)[:, None], "min"),
        elements((3, 6), columns(1, 6, 3, 4), 1),
        elements((4, 3), columns(2, 4, 2, 2).T, 0),
        elements((2, 3, 5), columns(3, 5, 6, 2).reshape(2, 3, 2), -1),
        elements((3, 6), np.array([[1, 1, -5], [0, 0, 0]]), 1, "add"),
        elements((3, 6), np.array([[1, 1, -5], [0, 0, 0]]), 1, "max"),
        elements((12, 6), columns(4, 6, 12, 3), 1, time=0),
        elements((12, 3), columns(5, 12, 3, 12).T, 0, time=0, refused="places of the clip"),
    ]


@pytest.mark.parametrize("dtype", DType)
def test_compiled_code_writes_every_element_type(dtype: DType) -> None:
    x, updates = np.zeros((4, 3), dtype.numpy), numbers((2, 3), dtype)
    (y,) = compiled(Case("ScatterND", (x, np.array([[3], [-4]], np.int32), updates), live=(0, 1, 2)))
    expected = x.copy()
    expected[[3, 0]] = updates
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.BOOL])
def test_every_number_is_reduced(reduction: str, dtype: DType) -> None:
    """float16 is rounded once, integers wrap around."""
    x, index = np.array([3, 1, 2, 5]).astype(dtype.numpy), indices(1, 3, 1, 1)
    updates = np.array([2, 1, 7, 3]).astype(dtype.numpy)
    if dtype.numpy.kind != "u":
        x, updates = -x, (updates - 4).astype(dtype.numpy)
    ufunc = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction]
    expected = x.copy()
    ufunc.at(expected, index, updates)
    for case in (
        Case("ScatterND", (x, index[:, None], updates), {"reduction": reduction}, live=(0, 1, 2)),
        Case("ScatterElements", (x, index, updates), {"reduction": reduction}, live=(0, 1, 2)),
    ):
        np.testing.assert_array_equal(compiled(case)[0], expected)


OUTSIDE = [np.iinfo(np.int64).min, -(1 << 40), -5, 4, 1 << 40, np.iinfo(np.int64).max]


@pytest.mark.parametrize("run", [plain, compiled])
def test_a_live_index_out_of_range_writes_nothing(run: object) -> None:
    assert callable(run)
    x, index = numbers((4, 2)), np.array([*OUTSIDE, 2])
    expected = x.copy()
    expected[2] = -1
    updates = np.full((len(index), 2), -1, np.float32)
    for case in (
        Case("ScatterND", (x, index[:, None], updates), live=(0, 1, 2)),
        Case("ScatterElements", (x, np.stack([index, index], 1), updates), live=(0, 1, 2)),
    ):
        np.testing.assert_array_equal(run(case)[0], expected)
        np.testing.assert_array_equal(case.reference[0], expected)


def cache(x: tuple[int, ...], count: int, first: tuple[int, ...] | None, axis: int = -2, mode: str = "linear") -> Case:
    shape = list(x)
    shape[axis] = count
    index = () if first is None else (np.array(first),)
    # onnxruntime 1.31 knows no opset with this op
    return Case(
        "TensorScatter", (floats(1, *x), floats(2, *shape), *index), {"axis": axis, "mode": mode}, live=(0, 1, 2), onnx=False,
        label=f"TensorScatter {x} {count} {first} {axis} {mode}",
    )  # fmt: skip


class TestTensorScatter(Moves):
    cases = [  # noqa: RUF012
        cache((2, 3, 5, 4), 2, (1, 3)),
        cache((2, 3, 5, 4), 2, None),
        cache((2, 5, 3), 1, (4, 0), axis=1),
        cache((1, 6, 2), 6, (0,)),
        cache((2, 6, 2), 3, (5, 8), mode="circular"),
        cache((2, 6, 2), 3, (-1, 13), mode="circular"),
    ]


def test_rows_behind_the_end_of_a_cache_are_left_out() -> None:
    case = cache((2, 4, 1), 2, (3, -1))
    x, update = (np.asarray(a) for a in case.inputs[:2])
    expected = x.copy()
    expected[0, 3], expected[1, 0] = update[0, 0], update[1, 1]
    np.testing.assert_array_equal(compiled(case)[0], expected)
    np.testing.assert_array_equal(case.reference[0], expected)


def test_a_cache_is_written_in_place(tmp_path: Path) -> None:
    """A key cache fed back: the step writes its one row, and copies nothing."""
    nodes = [
        h.make_node("TensorScatter", ["past", "x", "at"], ["present"], mode="circular", axis=1),
        h.make_node("ReduceSum", ["present"], ["y"], keepdims=0),
    ]
    inputs = [("x", F32, [1, 1, 4]), ("past", F32, [1, 8, 4]), ("at", I64, [1])]
    model = make(nodes, inputs, [("y", F32, []), ("present", F32, [1, 8, 4])], opset=24)
    engine = Engine(convert(save(model, tmp_path), pair={"past": "present"}))
    assert not engine.plan.commit
    assert not any(isinstance(call, Copy) for call in engine.plan.calls)
    stream, rows = Stream(engine), floats(1, 11, 1, 4)
    for t, row in enumerate(rows):
        y = stream.step({"x": row.reshape(engine.inputs["x"].shape), "at": np.full(engine.inputs["at"].shape, t)})
        np.testing.assert_allclose(y, rows[max(0, t - 7) : t + 1].sum(), rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    x = floats(1, 4, 3)
    with pytest.raises(ShapeError, match="updates"):
        Case("ScatterND", (x, indices(1)[:, None], floats(2, 1, 2)), live=(0, 2)).site()
    with pytest.raises(ShapeError, match="out of range for 4 elements"):
        Case("ScatterND", (x, indices(4)[:, None], floats(2, 1, 3)), live=(0, 2)).site()
    with pytest.raises(ShapeError, match="larger than the data"):
        Case("ScatterElements", (x, np.zeros((2, 4), np.int64), floats(2, 2, 4)), live=(0, 2)).site()
    for node in (cache((2, 4, 1), 5, (0, 0)), cache((2, 4, 1), 1, (0,))):
        with pytest.raises(ShapeError, match=r"does not fit the cache|one int64 for each"):
            node.site()
    with pytest.raises(ShapeError, match="axis 0 is that of the batch"):
        cache((2, 4, 1), 1, (0, 0), axis=0).site()
    with pytest.raises(UnsupportedError, match="not linear or circular"):
        cache((2, 4, 1), 1, (0, 0), mode="other").site()
    with pytest.raises(UnsupportedError, match="reduction 'mean'"):
        Case("ScatterND", (x, indices(1)[:, None], floats(2, 1, 3)), {"reduction": "mean"}, live=(0, 2)).site()
