"""ReverseSequence keeps the contract of ops."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract, floats
from moving import compiled

from streamrnn.errors import ShapeError
from streamrnn.ir.graph import Array

BATCH_FIRST = {"time_axis": 1, "batch_axis": 0}


def clip(*shape: int, lens: list[int]) -> tuple[Array, Array]:
    return floats(1, *shape), np.array(lens)


class TestReverseSequence(Contract):
    cases = [  # noqa: RUF012
        Case("ReverseSequence", clip(5, 3, lens=[5, 1, 2]), live=(0, 1)),
        Case("ReverseSequence", clip(5, 3, 4, lens=[1, 4, 3])),
        Case("ReverseSequence", clip(3, 5, 4, lens=[5, 1, 2]), BATCH_FIRST, time={0: 2}),
        Case("ReverseSequence", clip(5, 3, lens=[5, 0, -7]), live=(0, 1), onnx=False),
        Case("ReverseSequence", clip(5, 2, lens=[5, 5]), time={0: 0}, refused="reverses the clip"),
    ]


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_elements_of_every_type_are_moved(dtype: str) -> None:
    x = np.arange(12).reshape(4, 3).astype(dtype)
    (found,) = compiled(Case("ReverseSequence", (x, np.array([4, 2, 99])), live=(0, 1)))
    np.testing.assert_array_equal(found, np.stack([x[::-1, 0], x[[1, 0, 2, 3], 1], x[::-1, 2]], axis=1))


@pytest.mark.parametrize("bad", [Case("ReverseSequence", clip(5, 3, lens=[1, 2])), Case("ReverseSequence", clip(5, lens=[1]))])
def test_what_is_no_batch_of_sequences_is_refused(bad: Case) -> None:
    with pytest.raises(ShapeError):
        bad.site()
