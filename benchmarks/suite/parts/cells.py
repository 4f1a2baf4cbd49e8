"""One layer of LSTM, GRU or RNN, as many inputs as hidden units: a step and a block, three kinds of weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from suite.beside import measured, peer_sessions
from suite.cells import BLOCK, CELLS, WEIGHTS, CellCase, UnsupportedCaseError, noise
from suite.native import in_kernel
from suite.own import engine, session
from suite.parts import Setup
from suite.roofline import Roofline
from suite.rows import KERNEL, OWN, Row

HIDDEN = (8, 16, 32, 64, 128, 256, 512, 1024)
#: steps of one call from native code
REPEAT = 64


def rows(setup: Setup) -> Iterator[Row]:
    cells, hidden = (CELLS, HIDDEN) if not setup.quick else (("LSTM", "GRU"), (32, 256))
    for cell, H, weights, steps in product(cells, hidden, WEIGHTS, (1, BLOCK)):
        yield row(setup, CellCase(cell, H, setup.work, steps), weights)


def row(setup: Setup, case: CellCase, weights: str) -> Row:
    """One case beside the peers with such weights, and beside onnxruntime in float32."""
    way = "step" if case.steps == 1 else f"block of {case.steps}"
    axes = {"cell": case.cell, "H": case.hidden, "weights": weights, "way": way}
    try:
        built = engine(case, weights)
    except UnsupportedCaseError as reason:
        return Row("cells", axes, {}, {OWN: str(reason)})
    others, skipped = peer_sessions(setup.peers, case, weights)
    if weights != "f32" and "onnxruntime" in setup.peers:
        others["onnxruntime f32"] = setup.peers["onnxruntime"].ways(case, "f32")["onnxruntime"]
    sessions = {OWN: session(case, built), **others}
    extra = {}
    if case.steps == 1:
        extra = {KERNEL: ((in_kernel(built.layout, built.step, [noise((case.hidden,))]), REPEAT), REPEAT)}
    figures, wrong = measured(case, weights, sessions, session(case, engine(case, "f32")), setup.budget, extra)
    bound = bound_of(setup.roofline, case, weights)
    for name in (OWN, *extra):
        figures[name]["roofline"] = bound / figures[name]["ns"]
    return Row("cells", axes, figures, {**skipped, **wrong})


def bound_of(roof: Roofline, case: CellCase, weights: str) -> float:
    """Nanoseconds of one frame at best. A block reads the weights of the input once for many frames, those of the state for
    each. Arithmetic on bytes counts as nothing: CPUs differ too much in what they have for it."""
    size = case.parameters * WEIGHTS[weights]
    return roof.bound(size if case.steps == 1 else size // 2, 0 if weights == "int8" else case.flops)
