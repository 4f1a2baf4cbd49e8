"""Softmax and LogSoftmax keep the contract of ops."""

from __future__ import annotations

from contract import Case, Contract, floats


class TestSoftmax(Contract):
    cases = [  # noqa: RUF012
        *(
            case
            for op in ("Softmax", "LogSoftmax")
            for case in (
                Case(op, (floats(1, 3, 7),)),
                Case(op, (floats(2, 5, 2, 40, scale=5),), {"axis": -1}, time={0: 0}),
                Case(op, (floats(3, 2, 33, 20),), {"axis": 1}),
                Case(op, (floats(4, 1, 17, 6),), {"axis": 1}, time={0: 2}),
                Case(op, (floats(5, 4, 3, 2) - 100,), {"axis": 0}, time={0: 0}, refused="over time"),
                Case(op, (floats(6, 2, 3, 6),), {"axis": 1, "flatten": 1}, onnx=False, time={0: 0}),
                Case(op, (floats(6, 2, 3, 6),), {"axis": 1, "flatten": 1}, onnx=False, time={0: 2}, refused="over time"),
            )
        ),
    ]
