"""TopK keeps the contract of ops; ties and NaN have one order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import Case, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import Moves, compiled, indices, plain

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.types import DType

NUMBERS = [d for d in (DType.F32, DType.F64, DType.I64, DType.I32, DType.I8, DType.U8)]


def ties(seed: int, *shape: int, dtype: Any = np.float32) -> Array:
    """Small whole numbers, many of them equal."""
    return np.random.default_rng(seed).integers(0, 5, shape).astype(dtype)


def best(x: Array, k: int, time: int | None = None, refused: str = "", **attrs: int) -> Case:
    return Case(
        "TopK", (x, indices(k)), attrs, outputs=2, time={} if time is None else {0: time}, refused=refused,
        label=f"TopK {x.dtype}{list(x.shape)} {k} {attrs} time {time}",
    )  # fmt: skip


class TestTopK(Moves):
    cases = [  # noqa: RUF012
        best(floats(1, 3, 40), 7),
        best(floats(1, 3, 40), 7, largest=0),
        best(floats(2, 40), 40),
        best(floats(3, 2, 9, 3), 4, axis=1),
        best(floats(3, 2, 9, 3), 1, axis=0, largest=0),
        best(ties(1, 4, 33), 12),
        best(ties(2, 4, 33), 12, largest=0),
        best(ties(3, 33, 2), 33, axis=0),
        *(best(ties(4, 2, 21, dtype=dtype.numpy), 6, largest=largest) for dtype in NUMBERS for largest in (0, 1)),
        best(floats(5, 2, 3), 0),
        best(floats(6, 10, 8), 3, time=0),
        best(floats(6, 1, 10, 8), 3, axis=-1, time=1),
        best(floats(7, 10, 8), 3, axis=0, time=0, refused="whole clip"),
    ]


@given(st.lists(st.sampled_from([0.0, -0.0, 1.0, np.nan, -np.inf, np.inf]), min_size=1, max_size=9), st.booleans(), st.data())
@settings(deadline=None, max_examples=200)
def test_equal_elements_keep_their_order_and_nan_comes_last(x: list[float], largest: bool, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(x)))
    case = best(np.array(x, np.float32), k, largest=int(largest))
    order = sorted(range(len(x)), key=lambda i: (np.isnan(x[i]), 0.0 if np.isnan(x[i]) else -x[i] if largest else x[i], i))
    for values, where in (plain(case), case.reference):
        np.testing.assert_array_equal(where, order[:k])
        np.testing.assert_array_equal(values, np.array(x, np.float32)[order[:k]])


@pytest.mark.parametrize("wanted", [0, 1])
def test_either_output_may_be_left_out(wanted: int) -> None:
    from streamrnn import Engine, Stream
    from streamrnn.ir.verify import verify

    case = best(floats(1, 3, 8), 2)
    graph = case.graph()
    (node,) = graph.nodes
    name = node.outputs[wanted]
    outputs = tuple(n if n == name else "" for n in node.outputs)
    types = {n: t for n, t in graph.types.items() if n not in node.outputs or n == name}
    cut = graph.replace(nodes=(type(node)(node.op, node.name, node.inputs, outputs, node.attrs),), outputs=(name,), types=types)
    found = Stream(Engine(verify(cut))).step(case.inputs[0])
    np.testing.assert_array_equal(found, compiled(case)[wanted])


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ShapeError, match="up to the 3 elements"):
        best(floats(1, 2, 3), 4).site()
    with pytest.raises(UnsupportedError, match="no order"):
        best(np.ones(3, bool), 1).site()
    with pytest.raises(UnsupportedError, match=r"K .* is computed at run time"):
        Case("TopK", (floats(1, 3), indices(1)), outputs=2, live=(0, 1)).site()
