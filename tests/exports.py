"""Exported models in tests: C compilers, and the noise that main.c makes."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Array

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "examples" / "models"


def c_compiler() -> list[str]:
    """The command of a C compiler for this machine."""
    for command in ("cc", "gcc", "clang"):
        if shutil.which(command):
            return [command]
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("there is no C compiler on this machine (cc, or pip install ziglang)")
    return [sys.executable, "-m", "ziglang", "cc"]


def run_main(folder: Path, steps: int) -> Array:
    """Compile main.c of an export with its static library and run it there: [steps, all outputs]."""
    (library,) = folder.glob("lib*.a")
    strict = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([*c_compiler(), *strict, "main.c", library.name, "-o", "main"], cwd=folder, check=True)
    done = subprocess.run(["./main", str(steps)], cwd=folder, check=True, capture_output=True, text=True)
    return np.array([[float(value) for value in line.split()] for line in done.stdout.splitlines()])


def noise_frames(engine: Engine, steps: int) -> dict[str, Array]:
    """What main.c feeds to a model with float32 inputs."""
    state = np.uint32(1)
    rows: dict[str, list[Array]] = {name: [] for name in engine.inputs}
    with np.errstate(over="ignore"):
        for _ in range(steps):
            for name, port in engine.inputs.items():
                frame = np.empty(int(np.prod(port.shape)), np.float32)
                for k in range(frame.size):
                    state = state * np.uint32(1664525) + np.uint32(1013904223)
                    frame[k] = np.float32(int(state) >> 8) / np.float32(8388608) - np.float32(1)
                rows[name].append(frame.reshape(port.shape))
    return {name: np.array(frames) for name, frames in rows.items()}


def stream_rows(engine: Engine, frames: dict[str, Array]) -> Array:
    """[steps, all outputs] of a Stream of its own, step by step."""
    stream = Stream(engine)
    n = len(next(iter(frames.values())))
    rows = []
    for i in range(n):
        y = stream.step({name: values[i] for name, values in frames.items()})
        rows.append(np.concatenate([value.ravel() for value in (y.values() if isinstance(y, dict) else [y])]))
    return np.array(rows)
