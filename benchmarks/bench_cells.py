"""One step of a recurrent cell beside onnxruntime, in one process, one thread each, interleaved.

    python benchmarks/bench_cells.py [--hidden 8,16,...] [--rounds N] [--json FILE]

Per cell and size (as many inputs as hidden units):

    us            `stream.step(x)` from Python, which carries the state itself
    ort us        onnxruntime's `session.run` on the same file, with the state fed back by name
    block ns      one step inside `stream.process` over 256 frames: the compiled step without the call
    build s       a new process from import to its first step, with an empty cache
    cached s      the same with the code in the cache
    error         largest difference between the two over a block

Step times are CPU times of the calling thread, medians over rounds of ABBA order, so that a busy machine disturbs little and
disturbs both. Build times are wall-clock times. The floor is the largest share of onnxruntime's time that a step may take.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnxruntime as ort
import typer
from onnx import helper, numpy_helper
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import streamrnn
from streamrnn.ir.graph import Array

CELLS = {"LSTM": (4, ("h", "c"), {}), "GRU": (3, ("h",), {"linear_before_reset": 1}), "RNN": (1, ("h",), {})}
#: frames of the block in which the compiled step is timed
BLOCK = 256
#: seconds that one timing of one side takes at least
SLICE = 2e-3

_CHILD = """
import sys, time
start = time.perf_counter()
import numpy as np
import streamrnn
engine = streamrnn.load(sys.argv[1])
[(name, port)] = engine.inputs.items()
streamrnn.Stream(engine).step(np.zeros(port.shape, port.dtype))
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Row:
    """Times in nanoseconds, build times in seconds."""

    cell: str
    hidden: int
    step: float
    onnxruntime: float
    in_block: float
    floor: float
    first_build: float
    cached_build: float
    error: float

    @property
    def ratio(self) -> float:
        return self.step / self.onnxruntime

    @property
    def holds(self) -> bool:
        return self.ratio <= self.floor


def floor_of(hidden: int) -> float:
    """The share of onnxruntime's time that a step may take."""
    return 1 / 10 if hidden <= 32 else 1 / 3 if hidden <= 128 else 1.0


def weights(cell: str, H: int) -> dict[str, Array]:
    gates = CELLS[cell][0]
    rng = np.random.default_rng(0)
    shapes = {"W": (1, gates * H, H), "R": (1, gates * H, H), "B": (1, 2 * gates * H)}
    return {name: (rng.standard_normal(shape) / np.sqrt(H)).astype(np.float32) for name, shape in shapes.items()}


def onnx_model(cell: str, H: int) -> onnx.ModelProto:
    """One step as a file would hold it: x [1, 1, H] and the states go in, y and the new states come out."""
    _, states, attrs = CELLS[cell]
    inputs, outputs = ["x", "W", "R", "B", "", *states], ["y", *(f"{s}n" for s in states)]
    node = helper.make_node(cell, inputs, outputs, hidden_size=H, **attrs)
    info = helper.make_tensor_value_info
    live = [info(n, onnx.TensorProto.FLOAT, [1, 1, H]) for n in ("x", *states)]
    given = [info(n, onnx.TensorProto.FLOAT, [1, 1, 1, H] if n == "y" else [1, 1, H]) for n in outputs]
    constants = [numpy_helper.from_array(a, n) for n, a in weights(cell, H).items()]
    graph = helper.make_graph([node], cell, live, given, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def onnxruntime_step(path: Path, cell: str, H: int) -> Callable[[Array], Array]:
    """A closure that makes one step and feeds the state back."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    run, states = session.run, CELLS[cell][1]
    feed = {s: np.zeros((1, 1, H), np.float32) for s in states}

    def step(x: Array) -> Array:
        feed["x"] = x
        y, *new = run(None, feed)
        feed.update(zip(states, new, strict=True))
        return np.asarray(y)

    return step


def abba(sides: list[tuple[Callable[[Array], object], Array]], rounds: int) -> list[float]:
    """Median nanoseconds per call of each side, a function with its argument."""
    counts = []
    for call, x in sides:
        call(x)
        start = time.thread_time()
        call(x)
        counts.append(max(1, int(SLICE / (time.thread_time() - start))))
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        order = range(len(sides))
        for i in (*order, *reversed(order)):
            call, x = sides[i]
            start = time.thread_time()
            for _ in range(counts[i]):
                call(x)
            times[i].append((time.thread_time() - start) / counts[i] * 1e9)
    return [statistics.median(t) for t in times]


def build_times(engine: streamrnn.Engine, folder: Path) -> tuple[float, float]:
    """Seconds from import to the first step in a new process: with an empty cache, and from the cache."""
    path = folder / "model.srnn"
    engine.save(path)
    env = {**os.environ, "STREAMRNN_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", _CHILD, str(path)]
    runs = [subprocess.run(command, env=env, capture_output=True, text=True, check=True) for _ in range(4)]
    first, *cached = (float(run.stdout) for run in runs)
    return first, min(cached)


def measure(cell: str, H: int, rounds: int, folder: Path) -> Row:
    path = folder / "step.onnx"
    path.write_bytes(onnx_model(cell, H).SerializeToString())
    engine = streamrnn.load(path)
    stream, other = streamrnn.Stream(engine), onnxruntime_step(path, cell, H)
    clip = np.random.default_rng(1).standard_normal((BLOCK, *engine.inputs["x"].shape)).astype(np.float32)
    found = stream.process(clip)
    expected = np.concatenate([other(x.reshape(1, 1, H)) for x in clip])
    error = float(np.abs(np.asarray(found).reshape(expected.shape) - expected).max())
    if error > 1e-4:
        raise SystemExit(f"{cell} H={H}: the outputs differ by {error}; there is nothing to compare")
    sides = [(stream.step, clip[0]), (other, clip[0].reshape(1, 1, H)), (stream.process, clip)]
    step, theirs, block = abba(sides, rounds)
    return Row(cell, H, step, theirs, block / BLOCK, floor_of(H), *build_times(engine, folder), error)


def table(rows: list[Row]) -> Table:
    out = Table(title="one step, one thread, input size = H", box=SIMPLE, padding=(0, 1, 0, 0))
    for title in ("", "H", "us", "ort us", "ratio", "floor", "block ns", "build s", "cached s", "error"):
        out.add_column(title, justify="right", no_wrap=True)
    for r in rows:
        times = (f"{r.step / 1e3:.2f}", f"{r.onnxruntime / 1e3:.1f}", f"{r.in_block:.0f}")
        ratio = f"[{'green' if r.holds else 'red'}]1/{1 / r.ratio:.1f}"
        builds = (f"{r.first_build:.2f}", f"{r.cached_build:.2f}")
        out.add_row(r.cell, str(r.hidden), *times[:2], ratio, f"1/{1 / r.floor:.0f}", times[2], *builds, f"{r.error:.0e}")
    return out


def main(
    hidden: Annotated[str, typer.Option(help="Hidden sizes, separated by commas.")] = "8,16,32,64,128,256",
    cells: Annotated[str, typer.Option(help="Cells, separated by commas.")] = "LSTM,GRU,RNN",
    rounds: Annotated[int, typer.Option(help="Rounds of ABBA order.")] = 25,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file.")] = None,
) -> None:
    """Time cells beside onnxruntime and print a table."""
    console = Console()
    rows = []
    for cell in cells.split(","):
        for H in map(int, hidden.split(",")):
            with console.status(f"{cell} H={H}"), tempfile.TemporaryDirectory() as folder:
                rows.append(measure(cell, H, rounds, Path(folder)))
    console.print(table(rows))
    if json_file is not None:
        about = {
            "machine": platform.processor() or platform.machine(),
            "streamrnn": streamrnn.__version__,
            "onnxruntime": ort.__version__,
        }
        json_file.write_text(json.dumps({**about, "rows": [{**asdict(r), "ratio": r.ratio} for r in rows]}, indent=1))


if __name__ == "__main__":
    typer.run(main)
