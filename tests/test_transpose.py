"""Transpose keeps the contract of ops; one that only moves axes of size 1 is a view."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import DTYPES, SHAPES, Moves, calls, compiled, numbers, plain

from streamrnn.errors import ShapeError
from streamrnn.ir.types import DType


def transpose(x: tuple[int, ...], perm: tuple[int, ...] | None, time: int | None = None) -> Case:
    attrs = {} if perm is None else {"perm": perm}
    return Case(
        "Transpose",
        (np.asarray(floats(1, *x)),),
        attrs,
        time={} if time is None else {0: time},
        label=f"Transpose {x} {perm} time {time}",
    )


class TestTranspose(Moves):
    cases = [  # noqa: RUF012
        transpose((2, 3), None),
        transpose((2, 3, 4), None),
        transpose((2, 3, 4, 5), (0, 2, 1, 3)),
        transpose((2, 3, 4, 5), (0, 3, 1, 2)),
        transpose((2, 3, 2, 3, 2), (4, 1, 3, 0, 2)),
        transpose((1, 3, 1, 2), (1, 0, 3, 2)),
        transpose((), None),
        transpose((3, 0), None),
        transpose((1, 12, 3), (1, 0, 2), time=1),
        transpose((1, 3, 12), (0, 2, 1), time=2),
        transpose((2, 3, 12, 4), (2, 0, 3, 1), time=2),
    ]


@pytest.mark.parametrize(("shape", "perm"), [((1, 7, 3), (1, 0, 2)), ((4, 1, 5, 1), (1, 0, 3, 2)), ((1, 1, 6), (2, 1, 0))])
def test_moving_axes_of_size_one_is_a_view(shape: tuple[int, ...], perm: tuple[int, ...]) -> None:
    assert calls(transpose(shape, perm)) == 0


def test_in_a_step_of_one_frame_the_time_axis_moves_for_free() -> None:
    plan = transpose((1, 3, 12), (0, 2, 1), time=2).stream_engine.plan
    assert plan.calls == ()


@given(SHAPES, DTYPES, st.data())
@settings(deadline=None, max_examples=60)
def test_any_permutation_is_numpys_transpose(shape: tuple[int, ...], dtype: DType, data: st.DataObject) -> None:
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    x = numbers(shape, dtype)
    (y,) = plain(Case("Transpose", (x,), {"perm": perm}))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x.transpose(perm))


@pytest.mark.parametrize("dtype", DType)
def test_compiled_code_moves_every_element_type(dtype: DType) -> None:
    x = numbers((3, 4, 5), dtype)
    (y,) = compiled(Case("Transpose", (x,), {"perm": (2, 0, 1)}))
    np.testing.assert_array_equal(y, x.transpose(2, 0, 1))


@pytest.mark.parametrize("perm", [(0, 0), (0,), (0, 2), (-1, 0)])
def test_what_is_no_permutation_is_refused(perm: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="no permutation"):
        transpose((2, 3), perm).site()
