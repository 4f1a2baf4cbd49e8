"""streamrnn's own sessions of a cell."""

from __future__ import annotations

from dataclasses import replace

from streamrnn import Engine, Stream, StreamPool, load
from suite.cells import CellCase, Session, UnsupportedCaseError


def engine(case: CellCase, weights: str) -> Engine:
    """The engine of a cell. Raises UnsupportedCaseError where it has no such weights."""
    path = replace(case, steps=1, batch=1).file
    if weights == "f32":
        return load(path)
    try:
        return load(path, weights=weights)
    except TypeError:
        raise UnsupportedCaseError(f"this streamrnn has no option weights={weights!r}") from None


def session(case: CellCase, built: Engine) -> Session:
    """A step, or a block of `case.steps` frames."""
    stream = Stream(built)
    if case.steps > 1:
        return Session(stream.process, (case.steps, *built.inputs["x"].shape))
    return Session(stream.step, built.inputs["x"].shape)


def pooled(case: CellCase, built: Engine) -> Session:
    """One step of `case.batch` streams."""
    pool = StreamPool(built, case.batch)
    for _ in range(case.batch):
        pool.join()
    return Session(pool.step, (case.batch, *built.inputs["x"].shape))
