"""One row for each model of a folder: what it is, how far from onnxruntime, how long a step takes beside onnxruntime's.

    python benchmarks/models_table.py FOLDER [-o docs/models.md] [--only NAME ...]

FOLDER holds a manifest.json (name, file, state_pairs, steps) and a feeds.py with `feed(name)(t) -> {input: array}`. Every
file runs in window mode over the manifest's number of steps beside onnxruntime, the state fed back on both sides. Times are
medians of single calls, interleaved in one process, one thread each. A file whose time axis is free is also converted for
frame mode and validated there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from streamrnn_converters import convert
from streamrnn_converters.compare import NOISE_FACTOR
from streamrnn_converters.draws import random_results
from streamrnn_converters.oracle import quiet_session
from streamrnn_converters.signals import nudged
from streamrnn_converters.validate import validate

from streamrnn import BindingError, Engine, Stream, StreamRNNError
from streamrnn.ir.graph import Array

OUTPUT_TOLERANCE, STATE_TOLERANCE = 1e-4, 5e-4
FRAME_STEPS = 200
ROUNDS = 10
FRAMES = 64


@dataclass
class Row:
    """One file. Errors are the largest |difference| / max(1, largest |value|) over all steps; times in microseconds.

    noise: where a tolerance is left, the largest error of onnxruntime against itself with each float of its input moved by
    a unit in the last place.
    """

    name: str
    problem: str = ""
    ops: int = 0
    calls: int = 0
    states: int = 0
    state_bytes: int = 0
    steps: int = 0
    output_error: float = 0.0
    state_error: float = 0.0
    noise: float | None = None
    repeats: bool = True
    random: tuple[str, ...] = ()
    frame: str = ""
    reason: str = ""
    convert_seconds: float = 0.0
    step_us: float = 0.0
    onnxruntime_us: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.problem and self.repeats and (self.close or self.undecided)

    @property
    def close(self) -> bool:
        return self.output_error <= OUTPUT_TOLERANCE and self.state_error <= STATE_TOLERANCE

    @property
    def undecided(self) -> bool:
        """Off by no more than validate grants to what onnxruntime itself makes of its input's last place."""
        return self.noise is not None and max(self.output_error, self.state_error) <= NOISE_FACTOR * self.noise

    def cells(self) -> list[str]:
        if self.problem:
            return [self.name, "", "", "", self.problem, "", "", "", ""]
        error = f"{self.output_error:.1e} / {self.state_error:.1e}" if self.states else f"{self.output_error:.1e}"
        if self.noise is not None:
            error += f" (onnxruntime from itself: {self.noise:.1e})"
        if self.random:
            error += " (random: " + ", ".join(self.random) + ")"
        return [
            self.name,
            f"{self.ops}",
            f"{self.states} ({self.state_bytes} B)" if self.states else "none",
            f"{self.steps}",
            error if self.passed else f"**{error}**",
            self.frame,
            f"{self.step_us:.1f}",
            f"{self.onnxruntime_us:.1f}",
            f"{self.onnxruntime_us / self.step_us:.1f}x",
        ]


HEAD = [
    "file", "ops", "states", "steps", "worst error: outputs / states", "frame by frame", "step, us", "onnxruntime, us", "ratio",
]  # fmt: skip


class Folder:
    """A manifest and its feeds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {e["name"]: e for e in json.loads((path / "manifest.json").read_text())}
        spec = importlib.util.spec_from_file_location("feeds", path / "feeds.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.feed: Callable[[str], Callable[[int], dict[str, Array]]] = module.feed

    def file(self, name: str) -> Path:
        return self.path / str(self.entries[name]["file"])

    def options(self, name: str) -> dict[str, Any]:
        """What a user says: the shapes of a call, and the sample rate where it is an input."""
        first = self.feed(name)(0)
        rate = {k: a for k, a in first.items() if k == "sr"}
        return {"mode": "window", "shape": {k: a.shape for k, a in first.items() if k not in rate}, "bind": rate}

    def pairs(self, name: str) -> dict[str, tuple[str, int | None]]:
        """State input -> (state output, row of it or None for all)."""
        table = self.entries[name]["state_pairs"]
        return {s: (t, None) if isinstance(t, str) else (t[0], t[1]) for s, t in table.items()}


@dataclass
class Oracle:
    """onnxruntime on the original file, one thread, the state fed back."""

    path: Path
    pairs: Mapping[str, tuple[str, int | None]]
    state: dict[str, Array]
    session: Any = field(init=False)
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.session = quiet_session(str(self.path))
        self.names = [output.name for output in self.session.get_outputs()]

    @staticmethod
    def of(folder: Folder, name: str, engine: Engine) -> Oracle:
        pairs = folder.pairs(name)
        return Oracle(folder.file(name), pairs, {s.read: s.init for s in engine.graph.states if s.read in pairs})

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        result = dict(zip(self.names, self.session.run(None, {**inputs, **self.state}), strict=True))
        for source, (target, row) in self.pairs.items():
            self.state[source] = result[target] if row is None else result[target][row : row + 1]
        return result


def measure(folder: Folder, name: str) -> Row:
    """Convert, compare, time."""
    row = Row(name, steps=int(folder.entries[name]["steps"]))
    began = time.perf_counter()
    try:
        graph = convert(folder.file(name), **folder.options(name))
    except StreamRNNError as error:
        row.problem = str(error).splitlines()[0]
        return row
    engine = Engine(graph)
    row.convert_seconds = time.perf_counter() - began
    row.ops, row.calls = len(graph.nodes), len(engine.plan.calls)
    own = [s.init.nbytes for s in graph.states if s.kind != "generator"]
    row.states, row.state_bytes = len(own), sum(own)
    compare(folder, engine, row)
    time_both(folder, engine, row)
    row.frame, row.reason = frame_mode(folder, name)
    return row


def compare(folder: Folder, engine: Engine, row: Row) -> None:
    """Errors over the manifest's steps; a second run after `reset`, in one block, must give the same bits."""
    feed, stream = folder.feed(row.name), Stream(engine)
    oracle = Oracle.of(folder, row.name, engine)
    row.random = tuple(random_results(engine.graph))
    calls, answers = [], []
    for t in range(row.steps):
        inputs = feed(t)
        calls.append(arguments(engine, inputs))
        expected, found = oracle.step(inputs), named(engine, stream.step(calls[-1]))
        answers.append(found)
        for key, value in found.items():
            if key not in row.random:
                row.output_error = max(row.output_error, error(value, expected[key]))
        for source in oracle.pairs:
            row.state_error = max(row.state_error, error(stream.state()[source], oracle.state[source]))
    if not row.close:
        row.noise = own_noise(folder, engine, row)
    stream.reset()
    again = named(engine, stream.process({k: np.stack([c[k] for c in calls]) for k in engine.inputs}))
    row.repeats = all(
        np.array_equal(again[k], np.stack([a[k] for a in answers]), equal_nan=again[k].dtype.kind == "f") for k in again
    )


def own_noise(folder: Folder, engine: Engine, row: Row) -> float:
    """How far onnxruntime is from itself with its input moved by a unit in the last place."""
    plain, moved = (Oracle.of(folder, row.name, engine) for _ in range(2))
    largest, feed = 0.0, folder.feed(row.name)
    for t in range(row.steps):
        inputs = feed(t)
        expected = plain.step(inputs)
        found = moved.step(nudged(inputs, t))
        pairs = [(found[k], expected[k]) for k in engine.outputs if k not in row.random]
        pairs += [(moved.state[source], plain.state[source]) for source in plain.pairs]
        largest = max(largest, *(error(a, b) for a, b in pairs))
    return largest


def error(found: Array, expected: Array) -> float:
    """Largest difference over max(1, largest value); inf where a NaN stands against a number."""
    a, b = np.ravel(found).astype(np.float64), np.ravel(expected).astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not np.isfinite(a[~same]).all() or not np.isfinite(b[~same]).all():
        return float("inf")
    scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
    return float(np.abs(a - b)[~same].max(initial=0.0)) / scale


def arguments(engine: Engine, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {k: a.reshape(engine.inputs[k].shape) for k, a in inputs.items() if k in engine.inputs}


def named(engine: Engine, result: Any) -> dict[str, Array]:
    """Copies of the outputs, by name."""
    table = result if isinstance(result, dict) else {next(iter(engine.outputs)): result}
    return {k: np.array(v) for k, v in table.items()}


def time_both(folder: Folder, engine: Engine, row: Row) -> None:
    """Medians of single calls over the feed's own frames, taken in turns."""
    oracle = Oracle.of(folder, row.name, engine)
    stream, feed = Stream(engine), folder.feed(row.name)
    calls = [feed(t) for t in range(min(row.steps, FRAMES))]
    own = [arguments(engine, call) for call in calls]
    ways: list[Callable[[int], object]] = [lambda t: stream.step(own[t]), lambda t: oracle.step(calls[t])]
    samples: list[list[float]] = [[], []]
    for turn in range(ROUNDS + 1):
        for k in (0, 1) if turn % 2 else (1, 0):
            end, t = time.perf_counter() + 0.1, 0
            while time.perf_counter() < end:
                start = time.perf_counter_ns()
                ways[k](t)
                if turn:  # the first turn warms up
                    samples[k].append((time.perf_counter_ns() - start) / 1000)
                t = (t + 1) % len(calls)
    row.step_us, row.onnxruntime_us = (float(np.median(s)) if s else float("nan") for s in samples)


def frame_mode(folder: Folder, name: str) -> tuple[str, str]:
    """Whether the file also runs one frame of its time axis at a time, without a hint; else the reason.

    A file with open dimensions that are not time gets the shapes of one call as well."""
    path, given = folder.file(name), folder.options(name)
    try:
        try:
            graph = convert(path, bind=given["bind"])
        except BindingError:
            graph = convert(path, bind=given["bind"], shape=given["shape"])
        if graph.meta["mode"] != "frame":
            if folder.pairs(name):
                return "one call is one step", ""
            return "no", str(graph.meta["mode_reason"]).splitlines()[0].partition("; use window mode")[0]
        engine = Engine(graph)
        report = validate(path, engine, steps=FRAME_STEPS)
    except StreamRNNError as problem:
        if folder.pairs(name):
            return "one call is one step", ""
        return "no", str(problem).splitlines()[0]
    delay = f", {engine.delay} late" if engine.delay else ""
    return (f"yes{delay}" if report.passed else "**differs**"), ""


def markdown(rows: list[Row], command: str) -> str:
    lines = ["# Real models beside onnxruntime", "", f"Made by `{command}`."]
    passed = sum(row.passed for row in rows)
    faster = sum(row.onnxruntime_us > row.step_us for row in rows if not row.problem)
    undecided = [row.name for row in rows if row.passed and not row.close]
    beyond = ""
    if undecided:
        beyond = (
            f" {len(undecided)} of them ({', '.join(undecided)}) only within {NOISE_FACTOR} times what onnxruntime moves for "
        )
        beyond += "one unit in the last place of its input."
    lines += [
        "",
        f"{passed} of {len(rows)} files pass: outputs within {OUTPUT_TOLERANCE:.0e}, states within {STATE_TOLERANCE:.0e} of "
        f"max(1, largest value), the same bits after `reset` and in one block.{beyond} {faster} are faster than onnxruntime.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
    ]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row.cells()) + " |" for row in rows]
    lines += ["", "Why not frame by frame:", ""]
    lines += [f"- {row.name}: {row.reason}" for row in rows if row.reason]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/models.md"))
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    folder, rows = Folder(args.folder), []
    for name in args.only or folder.entries:
        row = measure(folder, name)
        rows.append(row)
        print(" | ".join(row.cells()), f"({row.convert_seconds:.1f} s)", "" if row.passed else "FAILS", flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(markdown(rows, "make table STREAMRNN_MODELS=FOLDER"))
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
