"""Pools keep the contract of ops."""

from __future__ import annotations

from contract import Case, Contract, floats


class TestMaxPool(Contract):
    cases = [  # noqa: RUF012
        Case("MaxPool", (floats(1, 1, 3, 12) - 3,), {"kernel_shape": (3,), "pads": (1, 1)}, time={0: 2}),
        Case("MaxPool", (floats(2, 1, 3, 12),), {"kernel_shape": (2,), "strides": (2,), "dilations": (2,)}, time={0: 2}),
        Case("MaxPool", (floats(3, 2, 3, 11),), {"kernel_shape": (3,), "strides": (2,), "ceil_mode": 1, "pads": (1, 1)}),
        Case(
            "MaxPool",
            (floats(4, 1, 2, 6, 8),),
            {"kernel_shape": (2, 3), "strides": (1, 2), "auto_pad": "SAME_UPPER"},
            time={0: 2},
        ),
        Case("MaxPool", (floats(4, 1, 2, 6, 8),), {"kernel_shape": (2, 3), "pads": (1, 0, 0, 1)}, time={0: 3}),
        Case(
            "MaxPool",
            (floats(5, 1, 2, 6),),
            {"kernel_shape": (3,), "strides": (2,), "auto_pad": "SAME_UPPER"},
            time={0: 2},
            refused="SAME",
        ),
    ]


class TestAveragePool(Contract):
    cases = [  # noqa: RUF012
        Case("AveragePool", (floats(1, 1, 3, 12),), {"kernel_shape": (3,)}, time={0: 2}),
        Case(
            "AveragePool",
            (floats(1, 1, 3, 12),),
            {"kernel_shape": (4,), "pads": (1, 2), "strides": (2,), "count_include_pad": 1},
            time={0: 2},
        ),
        Case(
            "AveragePool",
            (floats(2, 1, 3, 12),),
            {"kernel_shape": (3,), "pads": (1, 1)},
            time={0: 2},
            refused="ends of the clip",
        ),
        Case("AveragePool", (floats(3, 2, 3, 11),), {"kernel_shape": (4,), "strides": (3,), "ceil_mode": 1}),
        Case("AveragePool", (floats(4, 1, 2, 6, 8),), {"kernel_shape": (2, 3), "pads": (1, 0, 0, 1), "count_include_pad": 1}),
        Case("AveragePool", (floats(4, 1, 2, 6, 8),), {"kernel_shape": (2, 3), "pads": (0, 1, 0, 1)}, time={0: 2}),
    ]


class TestGlobalPool(Contract):
    cases = [  # noqa: RUF012
        Case(op, (floats(1, *shape),), time=time, refused=refused)
        for op in ("GlobalMaxPool", "GlobalAveragePool")
        for shape, time, refused in (((2, 3, 33), {}, ""), ((5, 3, 4, 2), {0: 0}, ""), ((1, 3, 9), {0: 2}, "over time"))
    ]
