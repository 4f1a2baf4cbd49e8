"""Split keeps the contract of ops; pieces that are one run of memory are views."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, floats
from moving import Moves, calls, indices

from streamrnn.errors import ShapeError
from streamrnn.ir.graph import Node
from streamrnn.planner import make_plan


def split(
    x: tuple[int, ...], axis: int, sizes: tuple[int, ...] = (), count: int = 0, time: int | None = None, refused: str = ""
) -> Case:
    inputs = (floats(1, *x), indices(*sizes)) if sizes else (floats(1, *x),)
    attrs = {"axis": axis} if sizes else {"axis": axis, "num_outputs": count}
    return Case(
        "Split", inputs, attrs, outputs=len(sizes) or count, time={} if time is None else {0: time}, refused=refused,
        label=f"Split {x} axis {axis} {sizes or count} time {time}",
    )  # fmt: skip


class TestSplit(Moves):
    cases = [  # noqa: RUF012
        split((6, 2), 0, count=3),
        split((7, 2), 0, count=3),
        split((2, 7), 1, (1, 4, 2)),
        split((2, 7), -1, (0, 7)),
        split((1, 5, 3), 1, (2, 3)),
        split((1, 12, 6), 2, count=2, time=1),
        split((2, 12, 5), -1, (1, 4), time=1),
        split((12, 5), 0, (4, 8), time=0, refused="along time"),
    ]


@pytest.mark.parametrize("node", [split((6, 2), 0, count=3), split((1, 1, 7, 3), 2, (3, 4)), split((4, 3), 1, (0, 3))], ids=str)
def test_pieces_that_are_one_run_are_views(node: Case) -> None:
    assert calls(node) == 0


def test_a_piece_that_nobody_wants_costs_nothing() -> None:
    whole = split((4, 6), 1, count=3)
    part = Node("Split", "node", ("i0",), ("o0", "", "o2"), whole.attrs)
    graph = whole.graph().replace(nodes=(part,), outputs=("o0", "o2"))
    assert calls(whole) == 3
    assert len(make_plan(graph).calls) == 2


@pytest.mark.parametrize("sizes", [(3, 4), (-1, 7)])
def test_pieces_that_do_not_add_up_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="add up"):
        split((2, 6), 1, sizes).site()


@pytest.mark.parametrize("count", [0, 7, 4])
def test_a_number_of_pieces_that_cannot_be_is_refused(count: int) -> None:
    case = split((2, 5), 1, count=count)
    with pytest.raises(ShapeError, match="pieces"):
        case.impl.infer(Case("Split", case.inputs, case.attrs, outputs=max(1, count)).site())


def test_the_old_default_is_one_equal_piece_per_output() -> None:
    case = Case("Split", (floats(1, 4, 6),), {"axis": 1}, outputs=3, onnx=False)
    assert [t.shape for t in case.site().outputs if t] == [(4, 2)] * 3
    np.testing.assert_array_equal(np.concatenate(case.reference, 1), case.inputs[0])
