"""What a wheel brings along: models load and step from it without Numba, and nothing stale is ever taken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from contract import Case, floats
from models import conv_gru, two_layers
from recurrent import cell
from shipped_kernels import wanted
from streamrnn_converters import convert

import streamrnn
from streamrnn import Engine, Stream
from streamrnn.codegen.driver import driver_kernels
from streamrnn.ir.graph import Graph
from streamrnn.ir.verify import verify
from streamrnn.kernels._archive import LIST
from streamrnn.kernels._jit import find_kernel
from streamrnn.planner import make_plan

ROOT = Path(__file__).resolve().parent.parent
#: a device: nothing can import Numba, nothing can start the compiling process
STEP = """
import subprocess, sys
import numpy as np

class NoNumba:
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "numba":
            raise ImportError("there is no Numba")

sys.meta_path.insert(0, NoNumba())
subprocess.Popen = None
import streamrnn

assert "wheel_like" in streamrnn.__file__
for path in sys.argv[1:]:
    engine = streamrnn.load(path)
    x = {name: np.ones(port.shape, port.dtype) for name, port in engine.inputs.items()}
    np.savez(path + ".npz", *streamrnn.Stream(engine).step(x).values()) if len(engine.outputs) > 1 else np.savez(
        path + ".npz", streamrnn.Stream(engine).step(x))
"""


def node(case: Case) -> Callable[[Path], Graph]:
    return lambda folder: verify(case.graph())


MODELS: dict[str, Callable[[Path], Graph]] = {
    "LSTM": node(cell("LSTM", 1, 7, 20)),
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


def wheel_like(folder: Path, graphs: list[Graph]) -> Path:
    """A copy of the package as a wheel installs it, with the kernels of these graphs."""
    package = folder / "wheel_like" / "streamrnn"
    shutil.copytree(Path(streamrnn.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    addresses = {k.address for graph in graphs for k in driver_kernels(make_plan(graph))}
    assert addresses <= set(LIST.read_text().split()), "a wheel would not bring them along: run `make kernels`"
    (folder / "list.txt").write_text("\n".join(sorted(addresses)))
    command = [sys.executable, "-m", "streamrnn.kernels._archive", package / "kernels" / "ir.zip", folder / "list.txt"]
    subprocess.run(command, cwd=package.parent, check=True)
    return package.parent


def run(package: Path, cache: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(package), "STREAMRNN_CACHE": str(cache)}
    command = [sys.executable, "-c", STEP, *map(str, files)]
    return subprocess.run(command, env=env, cwd=package, capture_output=True, text=True, check=False)


def test_models_load_and_step_on_a_device_without_numba(tmp_path: Path) -> None:
    graphs = [make(tmp_path) for make in MODELS.values()]
    package = wheel_like(tmp_path, graphs)
    files = [tmp_path / f"{k}.srnn" for k in range(len(graphs))]
    for graph, file in zip(graphs, files, strict=True):
        Engine(graph).save(file)
    done = run(package, tmp_path / "cache", *files)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "cache").glob("*.bc"))
    for name, graph, file in zip(MODELS, graphs, files, strict=True):
        engine = Engine(graph)
        x = {n: np.ones(port.shape, port.dtype) for n, port in engine.inputs.items()}
        y = Stream(engine).step(x)
        given = np.load(f"{file}.npz")
        for key, value in zip(given.files, y.values() if isinstance(y, dict) else [y], strict=True):
            np.testing.assert_array_equal(given[key], value, err_msg=name)


def test_a_kernel_that_did_not_come_along_asks_for_numba(tmp_path: Path) -> None:
    brought, other = (verify(cell(op, 1, 3, 4).graph()) for op in ("GRU", "RNN"))
    package = wheel_like(tmp_path, [brought])
    Engine(other).save(tmp_path / "other.srnn")
    hidden = "import streamrnn.versions as v\nv.compilers().pop('numba')\n"
    env = {**os.environ, "PYTHONPATH": str(package), "STREAMRNN_CACHE": str(tmp_path / "cache")}
    code = f"{hidden}import streamrnn\nstreamrnn.load({str(tmp_path / 'other.srnn')!r})"
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=package, capture_output=True, text=True, check=False)
    assert "MissingExtraError: the kernels rnn did not come with this installation; compiling them needs Numba" in done.stderr


def test_without_llvm_a_cached_model_runs_and_another_asks_for_it(tmp_path: Path) -> None:
    cached, other = tmp_path / "cached.srnn", tmp_path / "other.srnn"
    for op, file in (("GRU", cached), ("RNN", other)):
        Engine(verify(cell(op, 1, 3, 4).graph())).save(file)
    env = {**os.environ, "STREAMRNN_CACHE": str(tmp_path / "cache")}
    load = "import sys, streamrnn\nstreamrnn.Stream(streamrnn.load(sys.argv[1]))"
    without = f"import sys\nsys.modules['llvmlite'] = sys.modules['numba'] = None\n{load}"

    def process(code: str, file: Path) -> str:
        command = [sys.executable, "-c", code, str(file)]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stderr

    assert process(load, cached) == ""
    assert process(without, cached) == ""
    assert "MissingExtraError: linking a model needs LLVM" in process(without, other)


def test_kernels_of_other_sources_or_a_newer_llvm_are_not_taken(tmp_path: Path) -> None:
    package = wheel_like(tmp_path, [verify(cell("RNN", 1, 3, 4).graph())])
    code = (
        "import sys, streamrnn.versions as v\nv.compilers().update(llvmlite=sys.argv[1])\n"
        "from streamrnn.kernels import _archive, cells\nfrom streamrnn.kernels._jit import find_kernel\n"
        "print(_archive.bitcode(find_kernel(sys.argv[2])) is not None)"
    )
    (address,) = (a for a in (tmp_path / "list.txt").read_text().split() if ":rnn" in a)

    def taken(llvmlite: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(package)}
        command = [sys.executable, "-c", code, llvmlite, address]
        return subprocess.run(command, env=env, cwd=package, capture_output=True, text=True, check=True).stdout.strip()

    assert [taken(version) for version in ("0.50.0", "0.99.1", "0.49.2")] == ["True", "True", "False"]
    with open(package / "streamrnn" / "kernels" / "gates.py", "a") as source:
        source.write("\n# edited\n")
    assert taken("0.99.1") == "False"


def test_the_list_is_all_that_the_cases_of_the_ops_and_the_examples_run() -> None:
    listed = LIST.read_text().split()
    assert listed == wanted(), "run `make kernels`"
    assert [find_kernel(address).address for address in listed] == listed
    assert len({find_kernel(address).symbol for address in listed}) == len(listed)
