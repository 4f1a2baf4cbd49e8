"""What the aarch64 Python runs: step through models, and say on what machine.

python guest.py FOLDER          reads NAME.srnn and NAME.x.npz, writes NAME.y.npz; prints JSON
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np

import streamrnn
from streamrnn.codegen.build import host


def run(file: Path) -> None:
    """One stream by single steps and one by blocks of 7 and of what is left; both go into the result."""
    engine = streamrnn.load(file)
    X = dict(np.load(file.with_suffix(".x.npz")))
    steps = len(next(iter(X.values())))
    singly, chunked = streamrnn.Stream(engine), streamrnn.Stream(engine)
    single = [named(engine, singly.step({name: x[t] for name, x in X.items()})) for t in range(steps)]
    blocks = [named(engine, chunked.process({n: x[:7] for n, x in X.items()}))]
    blocks.append(named(engine, chunked.process({n: x[7:] for n, x in X.items()})))
    found = {f"step/{n}": np.stack([y[n] for y in single]) for n in engine.outputs}
    found |= {f"block/{n}": np.concatenate([y[n] for y in blocks]) for n in engine.outputs}
    np.savez(file.with_suffix(".y.npz"), **found)


def named(engine: streamrnn.Engine, y: object) -> dict[str, np.ndarray]:
    return y if isinstance(y, dict) else {next(iter(engine.outputs)): y}


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).glob("*.srnn")):
        run(path)
    cpu, told = host()
    features = sorted(name[1:] for name in told.split(",") if name.startswith("+"))
    about = {"machine": platform.machine(), "cpu": cpu, "features": features}
    print(json.dumps(about | {"numba": "numba" in sys.modules, "package": streamrnn.__file__}))
