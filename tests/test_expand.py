"""Expand and Tile keep the contract of ops."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, floats
from moving import Moves, calls, compiled, indices, numbers

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.types import DType


def expand(x: tuple[int, ...], target: tuple[int, ...], time: int | None = None) -> Case:
    return Case(
        "Expand", (np.asarray(floats(1, *x)), indices(*target)), time={} if time is None else {0: time},
        label=f"Expand {x} to {target} time {time}",
    )  # fmt: skip


def tile(x: tuple[int, ...], repeats: tuple[int, ...], time: int | None = None, refused: str = "") -> Case:
    return Case(
        "Tile", (floats(1, *x), indices(*repeats)), time={} if time is None else {0: time}, refused=refused,
        label=f"Tile {x} by {repeats} time {time}",
    )  # fmt: skip


class TestExpand(Moves):
    cases = [  # noqa: RUF012
        expand((3, 1), (3, 4)),
        expand((3, 1), (2, 1, 6)),
        expand((2, 1, 3), (1, 4, 1)),
        expand((3, 4), (1, 1)),
        expand((), (2, 3)),
        expand((1, 3), (0, 3)),
        expand((12, 1, 3), (2, 12, 4, 3), time=0),
        expand((1, 12, 1), (1, 1, 5), time=1),
    ]


class TestTile(Moves):
    cases = [  # noqa: RUF012
        tile((3,), (4,)),
        tile((2, 3), (2, 2)),
        tile((2, 3, 2), (1, 2, 3)),
        tile((2, 3), (1, 1)),
        tile((2, 3), (0, 2)),
        tile((1, 12, 3), (2, 1, 2), time=1),
        tile((12, 3), (2, 1), time=0, refused="repeats the clip"),
    ]


def test_nothing_to_repeat_is_a_view() -> None:
    assert calls(expand((3, 4), (1, 4))) == 0
    assert calls(expand((3, 4), (1, 1, 3, 4))) == 0
    assert calls(tile((3, 4), (1, 1))) == 0


@pytest.mark.parametrize("dtype", DType)
def test_compiled_code_repeats_every_element_type(dtype: DType) -> None:
    x = numbers((2, 1, 3), dtype)
    np.testing.assert_array_equal(compiled(Case("Expand", (x, indices(2, 4, 3))))[0], np.broadcast_to(x, (2, 4, 3)))
    np.testing.assert_array_equal(compiled(Case("Tile", (x, indices(1, 2, 2))))[0], np.tile(x, (1, 2, 2)))


@pytest.mark.parametrize("target", [(2, 3), (-1, 1), (4, 4)])
def test_shapes_that_do_not_broadcast_are_refused(target: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="does not expand"):
        expand((3, 1), target).site()


@pytest.mark.parametrize("repeats", [(2,), (-1, 1)])
def test_repeats_that_do_not_fit_are_refused(repeats: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="do not fit"):
        tile((3, 1), repeats).site()


def test_an_enormous_result_is_refused_before_any_memory_is_taken() -> None:
    huge = 1 << 50
    for case in (expand((3, 1), (3, huge)), tile((3, 1), (1, huge))):
        site = case.site()
        assert site.outputs[0] is not None
        assert site.outputs[0].shape == (3, huge)
        with pytest.raises(UnsupportedError, match="bytes"):
            calls(case)
