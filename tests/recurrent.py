"""Cases of the recurrent operators, for their test files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from contract import Case, floats

from streamrnn.ir.graph import Array

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
INPUTS = {"X": 0, "W": 1, "R": 2, "B": 3, "lens": 4, "h": 5, "c": 6, "P": 7}
#: indices of inputs, for `Case.live`
X, LENS, H0, C0 = (INPUTS[name] for name in ("X", "lens", "h", "c"))


def cell(op: str, S: int, n_in: int, H: int, *, batch: int = 1, D: int = 1, label: str = "", **attrs: object) -> Case:
    """A recurrent node over S frames; a stream too where it has one direction."""
    gates = GATES[op]
    inputs = (
        floats(1, S, batch, n_in),
        floats(2, D, gates * H, n_in, scale=0.4),
        floats(3, D, gates * H, H, scale=0.3),
        floats(4, D, 2 * gates * H, scale=0.2),
    )
    time = {0: 0} if D == 1 else {}
    outputs = 3 if op == "LSTM" else 2
    return Case(op, inputs, {"hidden_size": H, **attrs}, outputs=outputs, time=time, label=label)  # type: ignore[arg-type]


def given(case: Case, **inputs: Array | None) -> Case:
    """`case` with some inputs replaced, by name."""
    row = [*case.inputs, *[None] * (8 - len(case.inputs))]
    for name, value in inputs.items():
        row[INPUTS[name]] = value
    while row[-1] is None:
        row.pop()
    return replace(case, inputs=tuple(row))


def fed(case: Case, *live: int) -> Case:
    """The case as one step over the whole clip, with these inputs fed at run time."""
    return replace(case, live=(X, *live), time={})


def once(case: Case) -> Case:
    """The case as one step over the whole clip."""
    return fed(case)


def state(seed: int, H: int, batch: int = 1, D: int = 1) -> Array:
    """An initial state."""
    return floats(seed, D, batch, H, scale=0.5)


def lens(*values: int) -> Array:
    """sequence_lens."""
    return np.array(values, np.int32)
