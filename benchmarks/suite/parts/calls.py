"""What a call from Python adds to a step: `step(x)` and `step()` beside the same steps made by a loop in native code."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from streamrnn import Stream
from suite.cells import CellCase, noise
from suite.native import in_kernel
from suite.own import engine
from suite.parts import Setup
from suite.rows import KERNEL, Row
from suite.targets import CALLS, GATED
from suite.timing import Side, abba

HIDDEN = (8, 16, 32, 64, 128)
#: steps of one call from native code
REPEAT = 256


def rows(setup: Setup) -> Iterator[Row]:
    for cell, H in product(GATED, HIDDEN if not setup.quick else (8, 32)):
        yield row(setup, CellCase(cell, H, setup.work))


def row(setup: Setup, case: CellCase) -> Row:
    """One cell. What is added is the median of the rounds' own differences, which drift of the machine cannot tilt."""
    built = engine(case, "f32")
    x = noise(built.inputs["x"].shape)
    given, viewing = Stream(built), Stream(built)
    viewing.inputs["x"][...] = x
    native = in_kernel(built.layout, built.step, [x])
    sides: dict[str, Side] = {KERNEL: (native, REPEAT), "step(x)": (given.step, x), "step()": (viewing.step, None)}
    times = abba(list(sides.values()), setup.budget)
    times[:, 0] /= REPEAT
    figures = {name: {"ns": float(np.median(column))} for name, column in zip(sides, times.T, strict=True)}
    for k, name in enumerate(CALLS, 1):
        figures[name]["over the kernel, ns"] = float(np.median(times[:, k] - times[:, 0]))
    return Row("calls", {"cell": case.cell, "H": case.hidden}, figures)
