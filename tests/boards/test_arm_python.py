"""An aarch64 Python with Numba, LLVM and onnxruntime, on emulated Raspberry Pis: the same package, the same numbers."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from board_models import NAMES, STEPS, assert_close, frames, graph, on_the_host, tolerance, with_one_weight_altered
from machines import CPUS, HERE, ROOT, guest_python, need, need_guest, output_of
from test_flush import halving
from test_shipped import wheel_like

from streamrnn import Engine
from streamrnn.export.artefact import export_model
from streamrnn.export.targets import find_target

#: instructions that only the newer core has, as /proc/cpuinfo tells them: the last one by a reading of our own
NEWER = {"aes", "sha2", "dotprod"}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    need_guest()
    folder = tmp_path_factory.mktemp("models")
    return {name: Engine(graph(name, folder)) for name in NAMES} | {"halving": halving()}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, engines: dict[str, Engine]) -> Path:
    """The package as a wheel installs it, with the bitcode of the kernels of `engines`."""
    return wheel_like(tmp_path_factory.mktemp("package"), [engine.graph for engine in engines.values()])


def impulse() -> np.ndarray:
    x = np.zeros((STEPS, 3), np.float32)
    x[0] = 1, 0.7, 0.3
    return x


@pytest.mark.parametrize("cpu", CPUS)
def test_models_compute_there_what_they_compute_here(
    cpu: str, engines: dict[str, Engine], package: Path, tmp_path: Path
) -> None:
    inputs = {name: frames(engine) for name, engine in engines.items()}
    inputs["halving"] = {"x": impulse()}
    for name, engine in engines.items():
        engine.save(tmp_path / f"{name}.srnn")
        np.savez(tmp_path / f"{name}.x.npz", **inputs[name])
    python = guest_python(tmp_path, cpu, str(package), STREAMRNN_CACHE=str(tmp_path / "cache"))
    about = json.loads(output_of(python, HERE / "guest.py", tmp_path))
    assert (about["machine"], about["cpu"]) == ("aarch64", cpu)
    assert "neon" in about["features"]
    assert (set(about["features"]) >= NEWER) == (cpu == "cortex-a76")
    assert about["package"].startswith(str(package))
    assert not about["numba"], "the kernels' bitcode is shipped"

    for name, engine in engines.items():
        found = dict(np.load(tmp_path / f"{name}.y.npz"))
        single = {n: found[f"step/{n}"] for n in engine.outputs}
        for output, y in single.items():
            np.testing.assert_array_equal(found[f"block/{output}"], y, err_msg=f"{name}: chunking is observable")
        assert_close(single, on_the_host(engine, inputs[name]), tolerance(name))
    decayed = np.load(tmp_path / "halving.y.npz")["step/y"].reshape(STEPS, 3)
    assert ((decayed == 0) | (decayed >= np.finfo(np.float32).tiny)).all(), "denormals are flushed"
    np.testing.assert_array_equal(decayed[:120, 0], 0.5 ** np.arange(120))
    assert not decayed[130:].any()


def test_one_altered_weight_is_seen_from_there(engines: dict[str, Engine], package: Path, tmp_path: Path) -> None:
    engine = engines["lstm"]
    Engine(with_one_weight_altered(engine.graph)).save(tmp_path / "lstm.srnn")
    inputs = frames(engine)
    np.savez(tmp_path / "lstm.x.npz", **inputs)
    python = guest_python(tmp_path, "cortex-a72", str(package), STREAMRNN_CACHE=str(tmp_path / "cache"))
    output_of(python, HERE / "guest.py", tmp_path)
    found = np.load(tmp_path / "lstm.y.npz")
    with pytest.raises(AssertionError, match="differs by"):
        assert_close({n: found[f"step/{n}"] for n in engine.outputs}, on_the_host(engine, inputs))


def test_numba_compiles_kernels_there(tmp_path: Path) -> None:
    """The package of the checkout, which brings no bitcode along: Numba makes it, in a process that the first one starts."""
    need_guest()
    engine = halving()
    engine.save(tmp_path / "small.srnn")
    inputs = frames(engine)
    np.savez(tmp_path / "small.x.npz", **inputs)
    cache = tmp_path / "cache"
    python = guest_python(tmp_path, "cortex-a72", str(ROOT), STREAMRNN_CACHE=str(cache))
    output_of(python, HERE / "guest.py", tmp_path)
    assert len(list(cache.glob("*.bc"))) >= 2
    found = np.load(tmp_path / "small.y.npz")
    assert_close({n: found[f"step/{n}"] for n in engine.outputs}, on_the_host(engine, inputs))


LOAD = """
import sys
import numpy as np
sys.modules["numba"] = sys.modules["llvmlite"] = None
sys.path.insert(0, sys.argv[1])
X = np.load("x.npy")
import model
np.save("by_loader.npy", model.Stream().process(X))
import streamrnn
np.save("by_streamrnn.npy", streamrnn.Stream(streamrnn.load(sys.argv[1] + "/libmodel.so")).process(X))
"""


@pytest.mark.parametrize(("target", "cpu"), [("pi4", "cortex-a72"), ("pi5", "cortex-a76")])
def test_an_exported_library_runs_there_without_numba_and_llvm(
    target: str, cpu: str, engines: dict[str, Engine], tmp_path: Path
) -> None:
    """By the loader that lies beside it, which knows NumPy alone, and by `streamrnn.load`."""
    need("aarch64-linux-gnu-gcc")
    engine = engines["lstm"]
    export_model(engine, find_target(target), tmp_path / "out", name="model")
    X = frames(engine)
    np.save(tmp_path / "x.npy", next(iter(X.values())))
    python = guest_python(tmp_path, cpu, str(ROOT), STREAMRNN_CACHE=str(tmp_path / "cache"))
    output_of(python, "-c", LOAD, tmp_path / "out", cwd=tmp_path)
    for name in ("by_loader", "by_streamrnn"):
        assert_close({"y": np.load(tmp_path / f"{name}.npy")}, on_the_host(engine, X))
    assert not list((tmp_path / "cache").glob("*")), "nothing was compiled"


@pytest.mark.parametrize("cpu", CPUS)
def test_validate_passes_there_beside_onnxruntime(cpu: str, package: Path, tmp_path: Path) -> None:
    path = f"{package}:{ROOT / 'converters'}:{ROOT}"
    python = guest_python(tmp_path, cpu, path, STREAMRNN_CACHE=str(tmp_path / "cache"))
    model = ROOT / "examples" / "models" / "sensor.onnx"
    command = [
        python,
        "-c",
        "import streamrnn_command as c; c.main()",
        "validate",
        model,
        "--steps",
        str(STEPS),
        "--json",
        tmp_path / "report.json",
    ]
    output_of(*command, cwd=tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert all(row["passed"] for row in report["rows"])
    assert report["versions"]["CPU"] == f"aarch64 {cpu}"
    assert report["versions"]["onnxruntime"] == version("onnxruntime")
