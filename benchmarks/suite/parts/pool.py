"""N streams of one cell stepped together: a StreamPool beside the peers that take a batch of N."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from suite.beside import measured, peer_sessions
from suite.cells import CellCase
from suite.own import engine, pooled
from suite.parts import Setup
from suite.rows import OWN, Row

STREAMS = (1, 8, 64, 512)
HIDDEN = (8, 32, 128, 256)


def rows(setup: Setup) -> Iterator[Row]:
    hidden, streams = (HIDDEN, STREAMS) if not setup.quick else (HIDDEN[:1], (8, 64))
    for cell, H, n in product(("LSTM", "GRU"), hidden, streams):
        case = CellCase(cell, H, setup.work, 1, n)
        built = engine(case, "f32")
        others, skipped = peer_sessions(setup.peers, case, "f32")
        own = pooled(case, built)
        figures, wrong = measured(case, "f32", {OWN: own, **others}, pooled(case, built), setup.budget)
        bound = setup.roofline.bound(4 * case.parameters, n * case.flops)
        figures[OWN]["roofline"] = bound / figures[OWN]["ns"]
        yield Row("pool", {"cell": cell, "H": H, "streams": n}, figures, {**skipped, **wrong})
