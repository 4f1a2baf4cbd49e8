"""How long a step takes, call by call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamrnn.engine import Engine
from streamrnn.ir.graph import Array
from streamrnn.stream import Stream

#: steps of one compiled block
BLOCK = 256


@dataclass(frozen=True)
class Times:
    """Nanoseconds per step of one way to make steps."""

    way: str
    p50: float
    p99: float
    p999: float
    max: float

    @staticmethod
    def of(way: str, samples: npt.ArrayLike) -> Times:
        """Percentiles of single steps in nanoseconds."""
        values = np.asarray(samples, np.float64)
        p50, p99, p999 = np.percentile(values, [50, 99, 99.9])
        return Times(way, float(p50), float(p99), float(p999), float(values.max()))


def random_frames(engine: Engine, steps: int, seed: int = 0) -> dict[str, Array]:
    """Noise for every input, [steps, *frame shape]; integer inputs are zero, truth values true."""
    rng = np.random.default_rng(seed)
    frames: dict[str, Array] = {}
    for name, port in engine.inputs.items():
        shape = (steps, *port.shape)
        if port.dtype.kind == "f":
            frames[name] = rng.standard_normal(shape).astype(port.dtype)
        else:
            frames[name] = np.full(shape, port.dtype.kind == "b", port.dtype)
    return frames


def timed(call: Callable[[], object], steps: int) -> npt.NDArray[np.float64]:
    """Nanoseconds of each of `steps` calls, the cost of reading the clock taken off."""
    clock = time.perf_counter_ns
    stamps = np.empty(steps + 1, np.int64)
    for i in range(steps):
        stamps[i] = clock()
        call()
    stamps[steps] = clock()
    empty = np.empty(101, np.int64)
    for i in range(101):
        empty[i] = clock()
    return np.asarray(np.maximum(0.0, np.diff(stamps) - np.median(np.diff(empty))), np.float64)


def ways(engine: Engine, frames: Mapping[str, Array]) -> dict[str, Callable[[], object]]:
    """Ways to make one step: with an array, and on the stream's own views."""
    stream, views = Stream(engine), Stream(engine)
    first = {name: array[0] for name, array in frames.items()}
    x = next(iter(first.values())) if len(first) == 1 else first
    for name, array in first.items():
        views.inputs[name][...] = array
    return {"step(x)": lambda: stream.step(x), "step() on views": views.step}


def bench(engine: Engine, steps: int = 2000) -> list[Times]:
    """Times of a step through Python, and per step of a block of 256, interleaved. One thread."""
    frames = random_frames(engine, BLOCK)
    calls = ways(engine, frames)
    stream = Stream(engine)
    rounds = 8
    samples: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in (*calls, "process, per step")}
    for call in calls.values():
        timed(call, 200)
    stream.process(frames)
    for turn in range(rounds):
        for name in sorted(calls, reverse=bool(turn % 2)):
            samples[name].append(timed(calls[name], max(1, steps // rounds)))
        blocks = timed(lambda: stream.process(frames), max(2, steps // rounds // BLOCK + 2))
        samples["process, per step"].append(blocks / BLOCK)
    return [Times.of(name, np.concatenate(parts)) for name, parts in samples.items()]
