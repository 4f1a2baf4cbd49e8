"""How long models take to become ready, each measurement in a new process.

    python benchmarks/bench_build.py FOLDER [--only NAME ...] [--runs N] [--steps N]

FOLDER holds a manifest.json and a feeds.py, as for models_table.py. Per model:

    convert + validate   the ONNX file is converted, built and compared with onnxruntime over the manifest's number of steps, or
                         as many as --steps says; the whole process
    first run            `load`, `Stream` and the first step of the .srnn file with no object in the cache, and the imports that
                         this takes beyond `import streamrnn`
    from the cache       the same with the ready engine in the cache; after `import streamrnn`
    peak memory          of the largest of these processes

The bitcode of the kernels is at hand throughout. Times are CPU times, wall-clock times in brackets; medians over --runs
processes for the loads, one process for the conversion.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_CONVERT = """
import sys
from pathlib import Path
from model_folder import Folder
from streamrnn import Engine
from streamrnn_converters.validate import validate

folder, name, steps, target = Folder(Path(sys.argv[1])), *sys.argv[2:]
engine = Engine(folder.window(name))
report = validate(folder.file(name), engine, steps=int(steps))
engine.save(target)
print(int(report.passed))
"""

_LOAD = """
import sys, time
import numpy as np
import streamrnn

cpu, wall = time.process_time(), time.perf_counter()
engine = streamrnn.load(sys.argv[1])
streamrnn.Stream(engine).step({name: np.zeros(port.shape, port.dtype) for name, port in engine.inputs.items()})
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


@dataclass(frozen=True)
class Run:
    """What a process printed and used: CPU and wall-clock seconds, bytes of memory at its peak."""

    printed: list[float]
    cpu: float
    wall: float
    memory: int


def run(code: str, *args: str | Path) -> Run:
    """One new process. Raises SystemExit where it fails."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, args))}: the process ended with {process.returncode}")
        wall = time.perf_counter() - start
        out.seek(0)
        printed = [float(text) for text in out.read().split()]
    return Run(printed, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024)


def forget_objects(cache: Path) -> None:
    for path in (*cache.glob("*.o"), *cache.glob("*.engine")):
        path.unlink()


def measure(folder: Path, name: str, steps: int, runs: int, work: Path) -> list[str]:
    """The cells of one row."""
    cache, target = work / "cache", work / f"{name}.srnn"
    os.environ["STREAMRNN_CACHE"] = str(cache)
    run(_CONVERT, folder, name, "1", target)  # compiles the kernels
    forget_objects(cache)
    converted = run(_CONVERT, folder, name, str(steps), target)

    def loads(prepare: Callable[[Path], None]) -> Iterator[Run]:
        for _ in range(runs):
            prepare(cache)
            yield run(_LOAD, target)

    first, cached = list(loads(forget_objects)), list(loads(lambda _: None))
    peak = max(r.memory for r in (converted, *first, *cached))
    agreed = "" if converted.printed == [1.0] else ", not passed"
    return [
        name,
        f"{steps}",
        f"{converted.cpu:.1f} s ({converted.wall:.1f}){agreed}",
        "{:.2f} s ({:.2f})".format(*(statistics.median(r.printed[i] for r in first) for i in (0, 1))),
        "{:.0f} ms ({:.0f})".format(*(1e3 * statistics.median(r.printed[i] for r in cached) for i in (0, 1))),
        f"{peak / 2**20:.0f} MB",
    ]


def main() -> None:
    """Print a table in Markdown, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    head = ["model", "steps", "convert + validate", "first run", "from the cache", "peak memory"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for entry in json.loads((args.folder / "manifest.json").read_text()):
        if not args.only or entry["name"] in args.only:
            with tempfile.TemporaryDirectory() as work:
                steps = args.steps or entry["steps"]
                print(f"| {' | '.join(measure(args.folder, entry['name'], steps, args.runs, Path(work)))} |", flush=True)


if __name__ == "__main__":
    main()
