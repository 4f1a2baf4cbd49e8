"""How late single calls are at worst, by the clock on the wall, on a quiet machine and on one whose cores are all taken.

A step is one frame of an LSTM; a callback is 64 frames of it, which a sound card at 48 kHz waits 1.33 ms for. The engines take
turns, so that all of them meet the same disturbances. The control adds numbers for as long as streamrnn's call takes: it needs
next to no memory and asks nothing of the system, so its tail is the machine's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from suite.cells import CellCase, noise
from suite.own import engine, session
from suite.parts import Setup
from suite.parts.cells import bound_of
from suite.rows import CONTROL, OWN, Row
from suite.timing import Side, calls_for, once

HIDDEN = 64
CALLBACK = 64
DEADLINE_NS = 1e9 * CALLBACK / 48_000
#: calls of one side in a row
TURN = 500


def rows(setup: Setup) -> Iterator[Row]:
    seconds = 1.5 if setup.quick else 12.0
    for steps, load in ((1, "none"), (CALLBACK, "none"), (1, "all cores busy"), (CALLBACK, "all cores busy")):
        case = CellCase("LSTM", HIDDEN, setup.work, steps)
        sessions = {OWN: session(case, engine(case, "f32"))}
        if "onnxruntime" in setup.peers:
            sessions |= setup.peers["onnxruntime"].ways(case, "f32")
        x = noise(case.x_shape)
        sides = {name: (s.call, x.reshape(s.shape)) for name, s in sessions.items()}
        sides[CONTROL] = control(sides[OWN])
        with background(load != "none"):
            samples = walled(list(sides.values()), seconds)
        way = "step" if steps == 1 else f"callback of {steps}"
        axes = {"cell": "LSTM", "H": HIDDEN, "way": way, "load": load}
        figures = dict(zip(sides, map(tail, samples), strict=True))
        figures[OWN]["roofline"] = steps * bound_of(setup.roofline, case, "f32") / figures[OWN]["ns"]
        yield Row("tails", axes, figures)


def control(side: Side) -> Side:
    """Additions that take as long as a call of `side`."""
    least, clock = 1_000_000, time.process_time_ns
    number = tuple(range(1000))
    own, thousand = (once(s, calls_for(s, least, clock), clock) for s in (side, (sum, number)))
    return sum, tuple(range(max(1, round(1000 * own / thousand))))


@contextmanager
def background(wanted: bool) -> Iterator[None]:
    """A busy process for each core."""
    busy = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(busy) for _ in range(os.cpu_count() or 1)] if wanted else []
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def walled(sides: Sequence[Side], seconds: float) -> list[npt.NDArray[np.float64]]:
    """Wall-clock nanoseconds of single calls of each side, TURN at a time."""
    for call, x in sides:
        for _ in range(TURN):
            call(x)
    samples: list[list[int]] = [[] for _ in sides]
    clock = time.perf_counter_ns
    end, order = clock() + seconds * 1e9, list(range(len(sides)))
    while clock() < end:
        for i in order:
            call, x = sides[i]
            stamps = [clock()]
            for _ in range(TURN):
                call(x)
                stamps.append(clock())
            samples[i] += np.diff(stamps).tolist()
        order.reverse()
    return [np.asarray(s, np.float64) for s in samples]


def tail(samples: npt.NDArray[np.float64]) -> dict[str, float]:
    """Percentiles, and the share of calls that a deadline of 64 frames at 48 kHz would have missed."""
    p50, p99, p999 = (float(p) for p in np.percentile(samples, [50, 99, 99.9]))
    figures = {"ns": p50, "p99": p99, "p99.9": p999, "max": float(samples.max())}
    return {**figures, "calls": float(len(samples)), "misses": float((samples > DEADLINE_NS).sum())}
