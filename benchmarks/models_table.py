"""One row for each model of a folder: what it is, how far from onnxruntime, how long a step takes beside onnxruntime's.

    python benchmarks/models_table.py FOLDER [-o docs/models.md] [--only NAME ...]

FOLDER is described in model_folder.py. Every file runs in window mode over the manifest's number of steps beside onnxruntime,
the state fed back on both sides. Times are medians of single calls, interleaved in one process, one thread each. A file whose
time axis is free is also converted for frame mode and validated there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from model_folder import OUTPUT_TOLERANCE, STATE_TOLERANCE, Caller, Comparison, Folder, arguments, compare
from streamrnn_converters import convert
from streamrnn_converters.validate import validate

from streamrnn import BindingError, Engine, Stream, StreamRNNError

FRAME_STEPS = 200
ROUNDS = 10
FRAMES = 64


@dataclass
class Row:
    """One file. Times in microseconds."""

    name: str
    problem: str = ""
    ops: int = 0
    states: int = 0
    state_bytes: int = 0
    steps: int = 0
    found: Comparison = field(default_factory=Comparison)
    frame: str = ""
    reason: str = ""
    convert_seconds: float = 0.0
    step_us: float = 0.0
    onnxruntime_us: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.problem and self.found.passed

    def cells(self) -> list[str]:
        if self.problem:
            return [self.name, "", "", "", self.problem, "", "", "", ""]
        found = self.found
        error = f"{found.output_error:.1e} / {found.state_error:.1e}" if self.states else f"{found.output_error:.1e}"
        for ruling in found.rulings:
            error += f" (from float64: {ruling.engine:.1e}, onnxruntime {ruling.oracle:.1e})"
        if found.random:
            error += " (random: " + ", ".join(found.random) + ")"
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


def measure(folder: Folder, name: str) -> Row:
    """Convert, compare, time."""
    row = Row(name, steps=folder.steps(name))
    began = time.perf_counter()
    try:
        graph = folder.window(name)
    except StreamRNNError as error:
        row.problem = str(error).splitlines()[0]
        return row
    engine = Engine(graph)
    row.convert_seconds = time.perf_counter() - began
    row.ops = len(graph.nodes)
    own = [s.init.nbytes for s in graph.states if s.kind != "generator"]
    row.states, row.state_bytes = len(own), sum(own)
    row.found = compare(folder, name, engine)
    time_both(folder, engine, row)
    row.frame, row.reason = frame_mode(folder, name)
    return row


def time_both(folder: Folder, engine: Engine, row: Row) -> None:
    """Medians of single calls over the feed's own frames, taken in turns."""
    caller = Caller(folder, row.name, engine)
    stream, feed = Stream(engine), folder.feed(row.name)
    calls = [feed(t) for t in range(min(row.steps, FRAMES))]
    own = [arguments(engine, call) for call in calls]
    ways: list[Callable[[int], object]] = [lambda t: stream.step(own[t]), lambda t: caller.step(calls[t])]
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
    ruled = [row.name for row in rows if row.passed and not row.found.close]
    beyond = (
        f" {len(ruled)} of them ({', '.join(ruled)}) by the file in float64, to which onnxruntime is further off."
        if ruled
        else ""
    )
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
