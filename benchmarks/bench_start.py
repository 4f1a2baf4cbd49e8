"""A new process, from its import to its first answer: streamrnn from a warm cache beside onnxruntime.

    python benchmarks/bench_start.py [MODEL.onnx ...] [--runs N] [--json FILE]

Without models: LSTMs of 8 to 512 units and the example models. Each run is two new processes, one of each, in turn (ABBA). The
columns are medians of CPU times in ms once the interpreter runs. `ready` is the sum: import, load or session, first step; both
import NumPy, whose own time stands first. `first/steady` is the first step over the median of the 64 after it. `imported`
names what a streamrnn process should not load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from streamrnn import load

ROOT = Path(__file__).resolve().parent.parent
SIZES = (8, 32, 128, 256, 512)
EXAMPLES = ("amp", "vad", "sensor")

_CLOCKS = """
import functools, json, sys, time
cpu, one = time.process_time, time.thread_time
marks = [cpu()]
import numpy as np
marks.append(cpu())
"""
_REPORT = """
def timed(call):
    before = one()
    call(x)
    return one() - before
for _ in range(8):
    timed(id)  # the first uses of the clock and of this function are not the step's
first = timed(run)
marks.append(cpu())
steady = [timed(run) for _ in range(64)]
heavy = [name for name in ("numba", "llvmlite", "onnx", "safetensors") if name in sys.modules]
parts = dict(zip(("numpy", "import", "load", "first"), (1e3 * (b - a) for a, b in zip(marks, marks[1:]))))
print(json.dumps({**parts, "ratio": first / sorted(steady)[32], "imported": heavy}))
"""
_OURS = f"""{_CLOCKS}
import streamrnn
marks.append(cpu())
engine = streamrnn.load(sys.argv[1])
stream = streamrnn.Stream(engine)
marks.append(cpu())
x = {{name: np.zeros(port.shape, port.dtype) for name, port in engine.inputs.items()}}
if len(x) == 1:
    x = next(iter(x.values()))
run = stream.step
{_REPORT}"""
_ONNXRUNTIME = f"""{_CLOCKS}
import onnxruntime
marks.append(cpu())
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
marks.append(cpu())
kinds = {{"tensor(float)": np.float32, "tensor(int64)": np.int64}}
x = {{i.name: np.zeros([n if isinstance(n, int) else 1 for n in i.shape], kinds[i.type]) for i in session.get_inputs()}}
run = functools.partial(session.run, None)
{_REPORT}"""


def write_lstm(folder: Path, H: int) -> Path:
    """An LSTM whose state goes in and comes out, as an ONNX file: x [1, 1, H], h and c [1, 1, H] -> y, hn, cn."""
    rng = np.random.default_rng(0)
    shapes = {"W": (1, 4 * H, H), "R": (1, 4 * H, H), "B": (1, 8 * H)}
    weights = [numpy_helper.from_array((rng.standard_normal(s) / H**0.5).astype(np.float32), n) for n, s in shapes.items()]
    node = helper.make_node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["y", "hn", "cn"], name="lstm", hidden_size=H)
    infos = {n: helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, H]) for n in ("x", "h", "c", "hn", "cn")}
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 1, H])
    graph = helper.make_graph([node], "g", [infos[n] for n in ("x", "h", "c")], [y, infos["hn"], infos["cn"]], weights)
    file = folder / f"LSTM {H}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), file)
    return file


def _process(code: str, file: Path, cache: Path) -> dict[str, Any]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env |= {"STREAMRNN_CACHE": str(cache), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(file)], env=env, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "ready": found["numpy"] + found["import"] + found["load"] + found["first"]}


def _median(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    numbers = {key: statistics.median(row[key] for row in rows) for key in rows[0] if key != "imported"}
    return {**numbers, "imported": rows[0]["imported"]}


def measure(models: Sequence[Path] = (), runs: int = 9) -> list[dict[str, Any]]:
    """One row per model: its name, and the medians of streamrnn and of onnxruntime."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = list(models)
        if not files:
            files = [write_lstm(Path(folder), size) for size in SIZES]
            files += [ROOT / "examples" / "models" / f"{name}.onnx" for name in EXAMPLES]
        for file in files:
            ready = Path(folder) / f"{file.stem}.srnn"
            load(file).save(ready)
            sides = ((_OURS, ready), (_ONNXRUNTIME, file))
            for code, target in sides:
                _process(code, target, Path(folder))  # fills the cache, and that of the byte code
            taken: dict[str, list[dict[str, Any]]] = {_OURS: [], _ONNXRUNTIME: []}
            for turn in range(runs):
                for code, target in sides if turn % 2 else sides[::-1]:
                    taken[code].append(_process(code, target, Path(folder)))
            rows.append({"model": file.stem, "streamrnn": _median(taken[_OURS]), "onnxruntime": _median(taken[_ONNXRUNTIME])})
    return rows


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = measure(args.models, args.runs)
    head = ["model", "numpy", "import", "load", "first", "ready", "onnxruntime ready", "ratio", "first/steady", "imported"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        ours, other = row["streamrnn"], row["onnxruntime"]
        times = [f"{ours[key]:.1f}" for key in ("numpy", "import", "load", "first", "ready")]
        ratio = other["ready"] / ours["ready"]
        cells = [
            row["model"],
            *times,
            f"{other['ready']:.1f}",
            f"{ratio:.2f}x",
            f"{ours['ratio']:.1f}",
        ]
        print(f"| {' | '.join([*cells, ', '.join(ours['imported']) or 'nothing'])} |")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
