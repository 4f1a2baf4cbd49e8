"""A new process from its import to its first step, streamrnn from a warm cache; see bench_start.py."""

from __future__ import annotations

from collections.abc import Iterator

import bench_start

from suite.parts import Setup
from suite.rows import OWN, Row


def rows(setup: Setup) -> Iterator[Row]:
    size = 64
    models = [bench_start.write_lstm(setup.work, size)] if setup.quick else []
    for found in bench_start.measure(models, runs=3 if setup.quick else 7):
        figures = {name: taken(found[name]) for name in (OWN, "onnxruntime")}
        yield Row("start", {"model": found["model"]}, figures)


def taken(found: dict[str, float | list[str]]) -> dict[str, float]:
    """CPU seconds from the start of the interpreter to after the first step, the first step over the median
    of later ones, and whether numba was imported on the way."""
    return {
        "seconds": found["ready"] / 1e3,
        "first step": found["ratio"],
        "numba": float("numba" in found["imported"]),
    }
