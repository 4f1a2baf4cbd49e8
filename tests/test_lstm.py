"""LSTM keeps the contract of ops."""

from __future__ import annotations

from contract import Case, Contract, floats


def lstm(T: int, I: int, H: int, *, batch: int = 1, D: int = 1, **attrs: object) -> Case:  # noqa: E741
    inputs = (
        floats(1, T, batch, I),
        floats(2, D, 4 * H, I, scale=0.4),
        floats(3, D, 4 * H, H, scale=0.3),
        floats(4, D, 8 * H, scale=0.2),
    )
    time = {0: 0} if D == 1 else {}
    return Case("LSTM", inputs, {"hidden_size": H, **attrs}, outputs=3, time=time)  # type: ignore[dict-item]


class TestLSTM(Contract):
    cases = [lstm(9, 3, 5), lstm(7, 2, 16), lstm(6, 1, 20, batch=2), lstm(5, 2, 3, D=2, direction="bidirectional")]  # noqa: RUF012
