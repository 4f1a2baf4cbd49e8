"""Damaged copies of a file, each converted, run and judged in a process that may die.

A copy has one byte flipped, one byte doubled, or the rest cut off, at a place drawn with a seed. What is acceptable:
refused      one of the package's own errors
right        it runs, and onnxruntime gives the same on the same bytes
unjudged     it runs, and onnxruntime refuses the bytes, dies on them, or its own answer is NaN or not decided by its last bits
Everything else (crash, hang, another exception, wrong) is a fault.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

WAYS = ("flip", "double", "cut")
FINE = ("refused", "right", "unjudged")
#: seconds for one copy before it counts as a hang
PATIENCE = 120.0
STEPS = 3


@dataclass(frozen=True)
class Damage:
    """way: flip (with a mask), double or cut; at: place of the byte."""

    way: str
    at: int
    mask: int

    def done_to(self, data: bytes) -> bytes:
        if self.way == "cut":
            return data[: self.at]
        if self.way == "double":
            return data[: self.at + 1] + data[self.at :]
        return data[: self.at] + bytes([data[self.at] ^ self.mask]) + data[self.at + 1 :]


def damages(count: int, places: Sequence[int], seed: int) -> list[Damage]:
    """`count` damages at some of the `places`, each way as often as the others."""
    rng = random.Random(seed)
    ways = WAYS
    return [Damage(ways[k % len(ways)], rng.choice(places), 1 << rng.randrange(8)) for k in range(count)]


def structure(data: bytes, longest: int = 64) -> list[int]:
    """Places of an ONNX file outside long runs of weights: tensors with more than `longest` raw bytes are left out."""
    import onnx

    proto = onnx.ModelProto.FromString(data)
    hidden: set[int] = set()
    for tensor in [*proto.graph.initializer, *(a.t for n in proto.graph.node for a in n.attribute if a.HasField("t"))]:
        if len(tensor.raw_data) > longest and (at := data.find(tensor.raw_data)) >= 0:
            hidden.update(range(at, at + len(tensor.raw_data)))
    return [k for k in range(len(data)) if k not in hidden]


def verdicts(
    path: Path, all_of: Sequence[Damage], folder: Path, options: Mapping[str, Any]
) -> Iterator[tuple[Damage, str, str]]:
    """(damage, verdict, reason) of each damaged copy of `path`."""
    data, worker = path.read_bytes(), None
    for k, damage in enumerate(all_of):
        copy = folder / f"copy{k}{path.suffix}"
        copy.write_bytes(damage.done_to(data))
        worker = worker if worker is not None and worker.alive else _Worker(options)
        yield (damage, *worker.judge(copy))
        copy.unlink()
    if worker is not None:
        worker.stop()


class _Worker:
    def __init__(self, options: Mapping[str, Any]) -> None:
        command = [sys.executable, str(Path(__file__)), json.dumps(options)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.lines: Queue[str] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def judge(self, copy: Path) -> tuple[str, str]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{copy}\n")
        self.process.stdin.flush()
        ran = False
        while True:
            try:
                line = self.lines.get(timeout=PATIENCE)
            except Empty:
                self.stop()
                return ("unjudged", "onnxruntime hangs") if ran else ("hang", f"no answer in {PATIENCE:g} s")
            if not line:
                self.stop()
                return ("unjudged", "onnxruntime dies") if ran else ("crash", f"exit code {self.process.returncode}")
            verdict, reason = json.loads(line)
            if verdict != "ran":
                return verdict, reason
            ran = True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _main() -> None:
    import warnings

    from streamrnn_converters import convert

    from streamrnn import Engine, Stream, StreamRNNError
    from streamrnn.bench import random_frames

    warnings.simplefilter("error")
    options = json.loads(sys.argv[1])

    def say(verdict: str, reason: str = "") -> None:
        print(json.dumps([verdict, reason]), flush=True)

    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        try:
            engine = Engine(convert(path, **options))
            Stream(engine).process(random_frames(engine, STEPS))
        except StreamRNNError as error:
            say("refused", str(error)[:300])
            continue
        except BaseException as error:
            say("exception", repr(error)[:300])
            continue
        say("ran")
        try:
            say(*_judged(path, engine))
        except StreamRNNError as error:
            say("unjudged", str(error)[:300])
        except BaseException as error:
            say("exception", f"while judging: {error!r}"[:300])


def _judged(path: Path, engine: Any) -> tuple[str, str]:
    from streamrnn_converters.validate import validate

    report = validate(path, engine, steps=STEPS)
    if report.passed:
        return "right", ""
    failed = [row for row in report.rows if row.first_bad is not None]
    if not failed and all(c.passed for c in report.chunkings):
        return "unjudged", report.verdict
    return "wrong", f"{report.verdict}; {report.culprit}"


if __name__ == "__main__":
    _main()
