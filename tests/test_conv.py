"""Conv keeps the contract of ops, whatever way computes it."""

from __future__ import annotations

from contract import Case, Contract, floats


def conv(
    x: tuple[int, ...],
    m: int,
    kernel: tuple[int, ...],
    *,
    group: int = 1,
    bias: bool = True,
    time: int | None = None,
    **attrs: object,
) -> Case:
    n = x[1] // group
    size = n * int(__import__("math").prod(kernel))
    inputs = (floats(1, *x), floats(2, m, n, *kernel, scale=size**-0.5), floats(3, m) if bias else None)
    return Case("Conv", inputs, {"group": group, **attrs}, time={} if time is None else {0: time})  # type: ignore[dict-item]


class TestConv(Contract):
    cases = [  # noqa: RUF012
        conv((1, 5, 1), 7, (1,)),
        conv((2, 3, 6), 18, (3,), bias=False),
        conv((1, 4, 12), 20, (3,), pads=(2, 0), time=2),
        conv((1, 4, 12), 6, (3,), pads=(1, 1), time=2),
        conv((1, 2, 12), 6, (2,), pads=(3, 0), dilations=(2,), time=2),
        conv((1, 2, 12), 6, (3,), time=2, strides=(2,), dilations=(2,)),
        conv((1, 2, 12), 6, (4,), time=2, strides=(3,), pads=(1, 2)),
        conv((1, 2, 12), 6, (2,), time=2, strides=(3,)),
        conv((1, 2, 12), 6, (3,), time=2, auto_pad="SAME_LOWER"),
        conv((1, 20, 9), 20, (3,), group=20, pads=(2, 0), time=2),
        conv((1, 3, 9), 12, (3,), group=3, pads=(2, 0), time=2),
        conv((1, 6, 9), 8, (3,), group=2, time=2),
        conv((5, 2, 3), 4, (3,), pads=(1, 1), time=0),
        conv((1, 2, 40), 6, (5,), pads=(2, 2)),
        conv((1, 2, 40), 3, (5,), strides=(2,), auto_pad="SAME_UPPER"),
        conv((2, 20, 40), 20, (3,), group=20, pads=(1, 1)),
        conv((1, 1, 640), 18, (256,), strides=(128,)),
        conv((1, 3, 6, 18), 5, (2, 3), pads=(1, 1, 0, 1), time=2),
        conv((1, 3, 6, 18), 17, (2, 3), pads=(1, 1, 0, 1), strides=(1, 2), time=2),
        conv((1, 3, 9, 6), 17, (3, 2), pads=(1, 1, 0, 0), time=3),
        conv((1, 4, 6, 18), 4, (3, 3), group=4, pads=(2, 1, 0, 1), dilations=(1, 2), time=2),
        conv((1, 4, 3, 18), 6, (1, 1), time=2),
    ]
