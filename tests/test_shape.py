"""Shape and Size keep the contract of ops."""

from __future__ import annotations

import numpy as np
from contract import Case, Contract, floats


def shape(x: tuple[int, ...], time: int | None = None, refused: str = "", **attrs: int) -> Case:
    return Case(
        "Shape", (np.asarray(floats(1, *x)),), attrs, time={} if time is None else {0: time}, refused=refused,
        label=f"Shape of {x} {attrs}",
    )  # fmt: skip


class TestShape(Contract):
    cases = [  # noqa: RUF012
        shape((2, 3, 4)),
        shape((2, 3, 4), start=1),
        shape((2, 3, 4), start=-2, end=-1),
        shape((2, 3, 4), start=2, end=1),
        shape((2, 3, 4), start=-9, end=9),
        shape(()),
        Case("Size", (floats(1, 2, 3),)),
        Case("Size", (np.asarray(floats(1)),)),
        shape((9, 3), time=0, refused="length of the clip"),
    ]
