"""Gather, GatherElements and GatherND keep the contract of ops; no index of a live stream reads outside of the data."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import DTYPES, SHAPES, Moves, calls, compiled, indices, numbers, plain

from streamrnn.errors import ShapeError
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType


def gather(
    x: tuple[int, ...], index: object, axis: int = 0, live: tuple[int, ...] = (0,), time: int | None = None, refused: str = ""
) -> Case:
    given_ = np.array(index, np.int64)
    return Case(
        "Gather", (floats(1, *x), given_), {"axis": axis}, live=live, time={} if time is None else {live[0]: time},
        refused=refused, label=f"Gather {x} at {given_.tolist()} axis {axis} live {live} time {time}",
    )  # fmt: skip


def elements(x: tuple[int, ...], index: Array, axis: int, live: tuple[int, ...] = (0, 1), **rest: object) -> Case:
    label = f"GatherElements {x} {index.shape} axis {axis} live {live} {rest}"
    return Case("GatherElements", (floats(1, *x), index), {"axis": axis}, live=live, label=label, **rest)  # type: ignore[arg-type]


def nd(x: tuple[int, ...], index: Array, batch: int = 0, live: tuple[int, ...] = (0, 1), **rest: object) -> Case:
    label = f"GatherND {x} {index.shape} batch_dims {batch} live {live} {rest}"
    return Case("GatherND", (floats(1, *x), index), {"batch_dims": batch}, live=live, label=label, **rest)  # type: ignore[arg-type]


def draw(seed: int, size: int, *shape: int) -> Array:
    """Valid indices, negative ones among them."""
    return np.random.default_rng(seed).integers(-size, size, shape)


class TestGather(Moves):
    cases = [  # noqa: RUF012
        gather((4, 3), 2),
        gather((4, 3), -1, 1),
        gather((4, 3), [0, 2, 3, -4]),
        gather((4, 6), [[5, 0], [-2, 3]], 1),
        gather((2, 5, 3), [1, 2, 3], 1),
        gather((2, 6, 3), [5, 3, 1], 1),
        gather((2, 5, 3), [2, 2, 2], -2),
        gather((2, 12, 3), [[1, 2, 5, 6], [-5, -4, -1, -2]], 1),
        gather((2, 12, 3), [0, 1, 4, 5, 8, 9], 1),
        gather((30,), [[29, 27, 19, 17], [24, 22, 14, 12]]),
        gather((4, 3), [], 0),
        gather((4, 3), [1, -1, 0], 0, live=(0, 1)),
        gather((2, 4, 3), [[1, -4, 0]], 1, live=(1,)),
        gather((12, 5, 2), [3, 0, 1], 1, time=0),
        gather((1, 5, 12), 3, 1, time=2),
        gather((1, 5, 12), [[3, 0], [4, 4]], 1, time=2),
        gather((12, 3), -1, 0, time=0),
        gather((1, 12, 3), [-1], 1, time=1),
        gather((12, 3), 0, 0, time=0, refused="fixed places"),
        gather((12, 3), [4, -1], 0, time=0, refused="fixed places"),
        gather((7, 3), draw(1, 7, 12).tolist(), 0, live=(1,), time=0),
        gather((2, 7, 3), draw(2, 7, 1, 12).tolist(), 1, live=(1,), time=1),
    ]


class TestGatherElements(Moves):
    cases = [  # noqa: RUF012
        elements((4, 3), draw(1, 4, 2, 3), 0),
        elements((4, 3), draw(2, 3, 4, 5), -1),
        elements((2, 4, 3), draw(3, 4, 2, 6, 3), 1),
        elements((4, 5, 3), draw(4, 5, 2, 4, 2), 1),
        elements((4, 3), draw(5, 4, 0, 3), 0),
        elements((12, 4), draw(6, 4, 12, 2), 1, time={0: 0, 1: 0}),
        elements((12, 4), draw(7, 12, 12, 4), 0, time={0: 0, 1: 0}, refused="places of the clip"),
    ]


class TestGatherND(Moves):
    cases = [  # noqa: RUF012
        nd((4, 3), draw(1, 3, 5, 2)),
        nd((4, 3), draw(2, 4, 5, 1)),
        nd((3, 4, 2), draw(3, 3, 2, 3, 2)),
        nd((2, 4, 3), draw(4, 4, 2, 3, 1), 1),
        nd((2, 3, 4, 2), draw(5, 4, 2, 3, 5, 1), 2),
        nd((4, 3), draw(6, 3, 0, 2)),
        nd((5, 3), draw(7, 3, 12, 2), live=(1,), time={1: 0}),
        nd((12, 3), draw(8, 3, 4, 1), live=(0,), time={0: 0}, refused="change over time"),
    ]


@pytest.mark.parametrize(
    "node", [gather((4, 3), 2), gather((1, 5, 3), [1, 2, 3], 1), gather((1, 1, 6), 4, 2), gather((4, 3), [0, 1, 2, 3])], ids=str
)
def test_one_run_of_memory_is_a_view(node: Case) -> None:
    assert calls(node) == 0


@given(SHAPES, DTYPES, st.booleans(), st.data())
@settings(deadline=None, max_examples=100)
def test_any_gather_is_numpys_take(shape: tuple[int, ...], dtype: DType, live: bool, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = shape[axis]
    values = data.draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=6))
    kind = data.draw(st.sampled_from([np.int64, np.int32]))
    index = np.array(values, kind).reshape(data.draw(st.sampled_from([(-1,), (1, -1), (-1, 1)])))
    x = numbers(shape, dtype)
    (y,) = plain(Case("Gather", (x, index), {"axis": axis}, live=(0, 1) if live else (0,)))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, np.take(x, index, axis))


EXTREMES = [np.iinfo(np.int64).min, -(1 << 40), -5, -4, -1, 0, 3, 4, 1 << 40, np.iinfo(np.int64).max]
CLAMPED = [0, 0, 0, 0, 3, 0, 3, 3, 3, 3]


@pytest.mark.parametrize("run", [plain, compiled])
@pytest.mark.parametrize("dtype", DType)
def test_a_live_index_out_of_range_is_clamped_to_the_nearest_element(run: object, dtype: DType) -> None:
    assert callable(run)
    x, index = numbers((2, 4, 3), dtype), np.array(EXTREMES)
    (y,) = run(Case("Gather", (x, index), {"axis": 1}, live=(0, 1)))
    np.testing.assert_array_equal(y, x[:, CLAMPED])
    (y,) = run(Case("Gather", (x, index), {"axis": 1}, live=(1,)))
    np.testing.assert_array_equal(y, x[:, CLAMPED])


@pytest.mark.parametrize("run", [plain, compiled])
def test_live_int32_indices_are_clamped_too(run: object) -> None:
    assert callable(run)
    index = np.clip(EXTREMES, np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype(np.int32)
    x = numbers((4, 3))
    (y,) = run(Case("Gather", (x, index), {"axis": 0}, live=(0, 1)))
    np.testing.assert_array_equal(y, x[CLAMPED])


@pytest.mark.parametrize("run", [plain, compiled])
def test_no_gather_reads_outside_of_its_data(run: object) -> None:
    assert callable(run)
    x, index = numbers((4, 4)), np.array(EXTREMES)
    (y,) = run(Case("GatherElements", (x, np.tile(index[:, None], (1, 4))), {"axis": 0}, live=(0, 1)))
    np.testing.assert_array_equal(y, x[CLAMPED])
    (y,) = run(Case("GatherND", (x, np.stack([index, index[::-1]], 1)), live=(0, 1)))
    np.testing.assert_array_equal(y, x[CLAMPED, CLAMPED[::-1]])


def test_the_reference_clamps_as_the_kernels_do() -> None:
    case = Case("Gather", (numbers((4, 3)), np.array(EXTREMES)), {"axis": 0}, live=(0, 1))
    np.testing.assert_array_equal(case.reference[0], numbers((4, 3))[CLAMPED])


@pytest.mark.parametrize("index", [4, -5, [0, 1 << 40]])
def test_a_constant_index_out_of_range_is_refused(index: object) -> None:
    with pytest.raises(ShapeError, match="out of range for 4 elements"):
        gather((4, 3), index).site()


def test_indices_must_be_integers() -> None:
    with pytest.raises(ShapeError, match="not int64 or int32"):
        Case("Gather", (floats(1, 4), np.ones(2, np.float32))).site()


def test_an_axis_without_elements_has_nothing_to_gather() -> None:
    with pytest.raises(ShapeError, match="without elements"):
        Case("Gather", (floats(1, 0, 2), indices(0)), live=(0, 1)).site()
