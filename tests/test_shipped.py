"""What a wheel brings along: the kernels that models run, and nothing stale is ever taken. `test_wheel` installs one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from recurrent import cell
from shipped_kernels import wanted

import streamrnn
from streamrnn import Engine
from streamrnn.codegen.driver import driver_kernels
from streamrnn.ir.graph import Graph
from streamrnn.ir.verify import verify
from streamrnn.kernels._archive import LIST
from streamrnn.kernels._jit import find_kernel
from streamrnn.planner import make_plan


def wheel_like(folder: Path, graphs: list[Graph]) -> Path:
    """A copy of the package as a wheel installs it, with the kernels of these graphs."""
    package = folder / "wheel_like" / "streamrnn"
    shutil.copytree(Path(streamrnn.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    addresses = {k.address for graph in graphs for k in driver_kernels(make_plan(graph))}
    assert addresses <= set(LIST.read_text().split()), "a wheel would not bring them along: run `make kernels`"
    (folder / "list.txt").write_text("\n".join(sorted(addresses)))
    command = [sys.executable, "-m", "streamrnn.codegen.archive", package / "kernels" / "ir.zip", folder / "list.txt"]
    subprocess.run(command, cwd=package.parent, check=True)
    return package.parent


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
