"""The wheel itself, built and installed as on a device without Numba: models step from it with the bits that they have here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from contract import Case, as_dict, floats
from models import conv_gru, two_layers
from recurrent import cell
from streamrnn_converters import convert
from streamrnn_converters.passes.narrow import narrow

from streamrnn import Engine, Stream, StreamPool
from streamrnn.ir.graph import Graph
from streamrnn.ir.verify import verify

ROOT = Path(__file__).resolve().parent.parent
#: the packages installed beside this one, which as an editable install is found by a site folder alone
INSTALLED = Path(np.__file__).resolve().parent.parent
STEP = """
import sys
import numpy as np
import streamrnn

print(streamrnn.__file__)
for path in sys.argv[1:]:
    engine = streamrnn.load(path)
    x = {name: np.ones(port.shape, port.dtype) for name, port in engine.inputs.items()}
    pool = streamrnn.StreamPool(engine, 16)
    pool.join()
    rows = {name: np.repeat(value[None], 16, axis=0) for name, value in x.items()}
    for way, y in (("stream", streamrnn.Stream(engine).step(x)), ("pool", pool.step(rows))):
        np.savez(f"{path}.{way}.npz", **(y if isinstance(y, dict) else {name: y for name in engine.outputs}))
"""


def node(case: Case, weights: str = "f32") -> Callable[[Path], Graph]:
    return lambda folder: narrow(verify(case.graph()), weights)


MODELS: dict[str, Callable[[Path], Graph]] = {
    "LSTM": node(cell("LSTM", 1, 7, 20)),
    "LSTM in float16": node(cell("LSTM", 1, 7, 20), "f16"),
    "LSTM in int8": node(cell("LSTM", 1, 7, 20), "int8"),
    "GRU": node(cell("GRU", 1, 7, 20)),
    "GRU, linear before reset": node(cell("GRU", 1, 7, 20, linear_before_reset=1)),
    "RNN": node(cell("RNN", 1, 7, 20)),
    "Conv": node(Case("Conv", (floats(1, 1, 3, 19), floats(2, 6, 3, 3)))),
    "MatMul": node(Case("MatMul", (floats(1, 7, 30), floats(2, 30, 70)))),
    "LayerNormalization": node(Case("LayerNormalization", (floats(1, 2, 19), floats(2, 19), floats(3, 19)))),
    "Softmax": node(Case("Softmax", (floats(1, 3, 19),))),
    "two layers": lambda folder: convert(two_layers(folder / "m.onnx")),
    "conv and GRU": lambda folder: convert(conv_gru(folder / "m.onnx")),
    **{n: (lambda folder, n=n: convert(ROOT / "examples" / "models" / f"{n}.onnx")) for n in ("amp", "vad", "sensor")},
}


def run(command: Sequence[str | Path], folder: Path, **variables: str) -> str:
    """What a command prints that runs in `folder`, from where this package is not seen."""
    env = {**os.environ, **variables}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment `venv` into which the wheel is installed. The kernels for it come from the cache of the
    tests where they have been compiled before."""
    folder = tmp_path_factory.mktemp("device")
    source, pip = folder / "source", [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for part in ("streamrnn", "converters", "wheel"):
        shutil.copytree(ROOT / part, source / part, ignore=skipped)
    for part in ("pyproject.toml", "README.md", "LICENSE", "streamrnn_command.py"):
        shutil.copy(ROOT / part, source)
    run([*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source], folder)
    (wheel,) = folder.glob("*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
    run([*pip, "--python", folder / "venv" / "bin" / "python", "install", "--no-index", "--no-deps", wheel], folder)
    return folder


def without_numba(folder: Path) -> dict[str, str]:
    """Variables of a process in which whatever imports Numba fails, as do the processes that it starts to compile."""
    stub = folder / "stub" / "numba" / "__init__.py"
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.write_text("raise ImportError('there is no Numba')\n")
    path = os.pathsep.join(map(str, (stub.parent.parent, INSTALLED)))
    return {"PYTHONPATH": path, "STREAMRNN_CACHE": str(folder / "cache")}


def test_models_load_and_step_from_an_installed_wheel_without_numba(device: Path, tmp_path: Path) -> None:
    engines = {name: Engine(make(tmp_path)) for name, make in MODELS.items()}
    files = {name: tmp_path / f"{k}.srnn" for k, name in enumerate(engines)}
    for name, file in files.items():
        engines[name].save(file)
    said = run([device / "venv" / "bin" / "python", "-c", STEP, *files.values()], tmp_path, **without_numba(tmp_path))
    assert Path(said.strip()).is_relative_to(device / "venv")
    assert not list((tmp_path / "cache").glob("*.bc"))
    for name, engine in engines.items():
        x = {n: np.ones(port.shape, port.dtype) for n, port in engine.inputs.items()}
        pool = StreamPool(engine, 16)
        pool.join()
        rows = {n: np.repeat(value[None], 16, axis=0) for n, value in x.items()}
        for way, y in (("stream", Stream(engine).step(x)), ("pool", pool.step(rows))):
            given = np.load(f"{files[name]}.{way}.npz")
            for key, value in as_dict(engine, y).items():
                np.testing.assert_array_equal(given[key], value, err_msg=f"{name}, {way}")


def test_the_command_of_an_installed_wheel_runs_a_model_without_numba(device: Path, tmp_path: Path) -> None:
    file = tmp_path / "sensor.srnn"
    Engine(convert(ROOT / "examples" / "models" / "sensor.onnx")).save(file)
    said = run([device / "venv" / "bin" / "streamrnn", "inspect", "--plan", file], tmp_path, **without_numba(tmp_path))
    assert "gru(" in said
