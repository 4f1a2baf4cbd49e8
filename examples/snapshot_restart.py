"""A process dies and its successor goes on as if nothing had happened: the hidden state survives in a file.

python examples/snapshot_restart.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import streamrnn

HERE = Path(__file__).parent
HALF = 300


def readings() -> np.ndarray:
    return np.loadtxt(HERE / "audio" / "sensor_10hz.csv", delimiter=",", skiprows=1, dtype=np.float32)


def new_stream() -> streamrnn.Stream:
    return streamrnn.Stream(streamrnn.load(HERE / "models" / "sensor.onnx"))


def second_life(folder: Path) -> None:
    """What runs after the restart: a new process that knows the file alone."""
    stream = new_stream()
    stream.restore(streamrnn.Snapshot.load(folder / "state.snapshot"))
    np.save(folder / "rest.npy", stream.process(readings()[HALF:])["score"])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stream = new_stream()
        stream.process(readings()[:HALF])
        stream.snapshot().save(folder / "state.snapshot")  # written aside, then renamed: never half a state
        del stream
        subprocess.run([sys.executable, __file__, name], check=True)
        continued = np.load(folder / "rest.npy")
        size = (folder / "state.snapshot").stat().st_size
    uninterrupted = new_stream().process(readings())["score"][HALF:]
    print(f"snapshot of {size} bytes after {HALF} steps")
    print(f"{len(continued)} steps after the restart are bit-identical: {np.array_equal(continued, uninterrupted)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        second_life(Path(sys.argv[1]))
    else:
        main()
