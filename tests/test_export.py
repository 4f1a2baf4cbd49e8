"""Exports: the same bits as the Stream's from C, from Python without streamrnn and through `streamrnn.load`; objects for other
CPUs that need nothing from elsewhere; one clear error for what cannot be exported."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_files as files
import pytest
from exports import MODELS, noise_frames, run_main, stream_rows
from onnx import TensorProto
from onnx import helper as h
from onnx_files import F32
from typer.testing import CliRunner

from streamrnn import Engine, Stream, cli, load
from streamrnn.codegen import elf, exported
from streamrnn.codegen.abi import Policy
from streamrnn.errors import StreamRNNError, UnsupportedError
from streamrnn.export import artefact, objects
from streamrnn.export.artefact import export_model
from streamrnn.export.header import c_name
from streamrnn.export.targets import HOST, TARGETS, find_target
from streamrnn.memory import aligned_bytes
from streamrnn.snapshot import Snapshot

STEPS = 200
#: e_machine of the ELF specification, and whether pointers have 64 bits
MACHINES = {"aarch64": (183, True), "armv7": (40, False), "thumbv": (40, False), "riscv64": (243, True), "x86_64": (62, True)}
SYMBOLS = {"init", "step", "process", "reset", "snapshot_size"}
#: run by a Python that has neither streamrnn nor compilers
ALONE = """
import sys
sys.modules.update({name: None for name in ("streamrnn", "numba", "llvmlite")})
import numpy as np
from m import Stream
frames = dict(np.load("x.npz"))
n = len(next(iter(frames.values())))
stream = Stream()
singles = [stream.step({k: v[i] for k, v in frames.items()}) for i in range(n)]
taken = stream.snapshot()
stream.reset()
blocks = [stream.process({k: v[a:b] for k, v in frames.items()}) for a, b in ((0, 7), (7, 60), (60, n))]
open("snapshot", "wb").write(stream.snapshot())
assert taken == stream.snapshot()
other = Stream()
other.restore(taken)
more = other.step({k: v[0] for k, v in frames.items()})
def rows(outs):
    outs = [y if isinstance(y, dict) else {"y": y} for y in outs]
    return {k: np.concatenate([y[k] for y in outs]) for k in outs[0]}
block = rows(blocks)
single = rows([{k: v[None] for k, v in (y if isinstance(y, dict) else {"y": y}).items()} for y in singles])
assert all(np.array_equal(block[k], single[k]) for k in block)
np.savez("y.npz", more=np.concatenate([v.ravel() for v in (more.values() if isinstance(more, dict) else [more])]), **block)
"""
#: run by a Python that has streamrnn, and no compilers
WITHOUT_COMPILERS = """
import sys
sys.modules.update({name: None for name in ("numba", "llvmlite")})
import numpy as np
import streamrnn
engine = streamrnn.load(sys.argv[1])
stream = streamrnn.Stream(engine)
frames = dict(np.load("x.npz"))
y = stream.process(frames)
np.savez("z.npz", **(y if isinstance(y, dict) else {"y": y}))
open("snapshot2", "wb").write(stream.snapshot().to_bytes())
"""


@pytest.fixture(scope="module", params=["amp-f32", "vad-f32", "vad-int8", "sensor-f16"])
def engine(request: pytest.FixtureRequest) -> Engine:
    model, weights = request.param.split("-")
    return load(MODELS / f"{model}.onnx", weights=weights)


@pytest.fixture(scope="module")
def sensor() -> Engine:
    return load(MODELS / "sensor.onnx")


@pytest.fixture(scope="module", params=["in the object", "in a file"])
def folder(engine: Engine, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export for this machine."""
    place = tmp_path_factory.mktemp("export") / "m"
    made = export_model(engine, find_target(HOST), place, name="m", weights_file=request.param == "in a file")
    assert made.missing == "" or made.library is None
    return place


@pytest.fixture
def library(folder: Path) -> Path:
    if not (folder / "libm.so").exists():
        pytest.skip("there is no linker on this machine (cc, or pip install ziglang)")
    return folder / "libm.so"


def test_main_c_prints_the_bits_of_the_stream(engine: Engine, folder: Path) -> None:
    wanted = stream_rows(engine, noise_frames(engine, STEPS))
    np.testing.assert_array_equal(run_main(folder, STEPS).astype(np.float32), wanted)


def test_the_loader_gives_the_bits_of_the_stream_without_streamrnn(engine: Engine, folder: Path, library: Path) -> None:
    frames = noise_frames(engine, STEPS)
    np.savez(folder / "x.npz", **frames)
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(folder / "y.npz")
    wanted = stream_rows(engine, frames)
    given = np.concatenate([found[k].reshape(STEPS, -1) for k in found if k != "more"], axis=1)
    np.testing.assert_array_equal(given, wanted)

    stream = Stream(engine)
    stream.process(frames)
    snapshot = Snapshot.load(folder / "snapshot")
    assert snapshot == stream.snapshot()
    stream.reset()
    stream.restore(snapshot)
    y = stream.step({name: values[0] for name, values in frames.items()})
    more = np.concatenate([v.ravel() for v in (y.values() if isinstance(y, dict) else [y])])
    np.testing.assert_array_equal(found["more"], more)


def test_load_gives_engine_and_stream_over_a_library_without_a_compiler(engine: Engine, folder: Path, library: Path) -> None:
    frames = noise_frames(engine, STEPS)
    np.savez(folder / "x.npz", **frames)
    env = {**os.environ, "STREAMRNN_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", WITHOUT_COMPILERS, str(library)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(folder / "z.npz")
    given = np.concatenate([found[k].reshape(STEPS, -1) for k in found], axis=1)
    np.testing.assert_array_equal(given, stream_rows(engine, frames))

    opened = load(library)
    assert (opened.name, opened.fingerprint, opened.delay) == (engine.name, engine.fingerprint, engine.delay)
    assert (opened.inputs, opened.outputs, opened.weights_bytes) == (engine.inputs, engine.outputs, engine.weights_bytes)
    stream, own = Stream(opened), Stream(engine)
    stream.restore(Snapshot.load(folder / "snapshot2"))
    own.process(frames)
    one = {name: values[3] for name, values in frames.items()}
    np.testing.assert_equal(stream.step(one), own.step(one))
    with pytest.raises(UnsupportedError, match="exported library"):
        _ = opened.graph


def test_a_snapshot_in_c_is_a_copy_of_the_first_bytes_and_a_refused_frame_changes_nothing(
    engine: Engine, folder: Path, library: Path
) -> None:
    functions = ctypes.CDLL(str(library))
    about = json.loads((folder / "m.json").read_text())
    memory = aligned_bytes(about["arena_bytes"])
    memory[:] = 0xAA  # init takes memory of any content
    state = ctypes.c_void_p(memory.ctypes.data)
    weights = aligned_bytes(about["weights_bytes"])
    if about["weights_file"]:
        weights[:] = np.fromfile(folder / about["weights_file"], np.uint8)
        functions.m_init(state, ctypes.c_void_p(weights.ctypes.data))
    else:
        functions.m_init(state)
    size = functions.m_snapshot_size()
    frames = noise_frames(engine, 3)
    outputs = [np.zeros(port.type.shape, port.type.dtype.numpy) for port in engine.layout.outputs]

    def step(i: int, scale: float = 1.0) -> list[bytes]:
        given = [np.ascontiguousarray(values[i] * np.float32(scale)) for values in frames.values()]
        made = functions.m_step(state, *(ctypes.c_void_p(a.ctypes.data) for a in (*given, *outputs)))
        return [a.tobytes() for a in outputs] if made == 1 else []

    step(0)
    saved = memory[:size].copy()
    wanted = step(1)
    memory[:size] = saved
    assert step(1) == wanted
    memory[8:16].view(np.int64)[0] = Policy.RAISE
    before = memory[64:size].copy()
    assert step(2, np.nan) == []
    np.testing.assert_array_equal(memory[64:size], before)
    functions.m_reset(state)
    memory[8:16].view(np.int64)[0] = Policy.PASS
    step(0)
    assert step(1) == wanted


def test_one_altered_weight_changes_what_main_c_prints(sensor: Engine, tmp_path: Path) -> None:
    export_model(sensor, find_target(HOST), tmp_path / "s", weights_file=True)
    before = run_main(tmp_path / "s", 20)
    (stored,) = (tmp_path / "s").glob("*.weights")
    weights = np.frombuffer(stored.read_bytes(), np.float32).copy()
    weights[np.flatnonzero(weights)[100]] += np.float32(0.5)
    stored.write_bytes(weights.tobytes())
    assert not np.array_equal(before, run_main(tmp_path / "s", 20))


def test_code_for_x86_64_v3_prints_the_bits_of_the_stream(sensor: Engine, tmp_path: Path) -> None:
    target = TARGETS["x86-64-v3"]
    lacking = exported.missing_features(target.features, exported.cpu_flags()) if os.uname().machine == "x86_64" else ["x86"]
    if lacking or not exported.cpu_flags():
        pytest.skip(f"this CPU cannot run x86-64-v3 code: it lacks {lacking}")
    export_model(sensor, target, tmp_path / "s")
    wanted = stream_rows(sensor, noise_frames(sensor, STEPS))
    np.testing.assert_array_equal(run_main(tmp_path / "s", STEPS).astype(np.float32), wanted)


@pytest.mark.parametrize("name", TARGETS)
def test_objects_for_every_target_need_nothing_from_elsewhere(name: str, sensor: Engine, tmp_path: Path) -> None:
    target = TARGETS[name]
    made = export_model(sensor, target, tmp_path / "s", name="s")
    code = (made.folder / "model.o").read_bytes()
    assert objects.undefined(code) == set()
    if target.is_wasm:
        assert code.startswith(b"\0asm")
    else:
        machine, wide = next(found for arch, found in MACHINES.items() if target.arch.startswith(arch))
        assert (elf.machine_of(code), elf.is_wide(code)) == (machine, wide)
        assert wide == (target.pointer_bytes == 8)
        defined = {symbol for symbol, section, _ in elf.symbols_of(code, elf.sections_of(code)) if section}
        assert {f"s_{what}" for what in SYMBOLS} <= defined
    assert (made.library is not None) == (target.has_system or target.is_wasm), made.missing
    about = json.loads((made.folder / "s.json").read_text())
    assert about["target"]["triple"] == target.triple
    header = (made.folder / "model.h").read_text()
    assert f"#define S_ARENA_BYTES {made.arena_bytes} " in header
    assert f"#define S_TEXT_BYTES {made.text_bytes} " in header


@pytest.mark.parametrize("name", ["cortex-m4", "armv7", "wasm32-simd", "riscv64"])
def test_weights_in_fewer_bits_need_nothing_from_elsewhere_either(name: str, tmp_path: Path) -> None:
    for weights in ("int8", "f16"):
        made = export_model(load(MODELS / "vad.onnx", weights=weights), TARGETS[name], tmp_path / weights)
        assert objects.undefined((made.folder / "model.o").read_bytes()) == set()


def test_microcontrollers_spare_the_memory_that_blocks_of_steps_need(sensor: Engine, tmp_path: Path) -> None:
    made = export_model(sensor, TARGETS["cortex-m4"], tmp_path / "s")
    assert made.arena_bytes == sensor.layout.step_bytes < sensor.arena_bytes


def double_model(folder: Path) -> Engine:
    nodes = [h.make_node("Mul", ["x", "x"], ["y"], "squared")]
    shape = ["time", 1, 2]
    model = files.make(nodes, [("x", TensorProto.DOUBLE, shape)], [("y", TensorProto.DOUBLE, shape)])
    return load(files.save(model, folder), time_axis={"x": 0})


def test_what_the_target_has_no_instructions_for_is_named_with_its_node(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as raised:
        export_model(double_model(tmp_path), TARGETS["cortex-m4"], tmp_path / "out")
    for part in ("cortex-m4", "'squared' (Mul)", "__aeabi_dmul", "float64"):
        assert part in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # nothing of the export is left


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pi44", "'pi4'"),
        ("cortexm4", "'cortex-m4'"),
        ("WASM", "'wasm32'"),
        ("??", "Targets: pi3"),
        ("thumbv7em-none-eabihf", "no target"),
    ],
)
def test_an_unknown_target_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(hint)):
        find_target(name)


def test_a_triple_by_hand_takes_cpu_and_features(sensor: Engine, tmp_path: Path) -> None:
    target = find_target("aarch64-unknown-linux-gnu", "neoverse-n1", "+neon,+dotprod")
    export_model(sensor, target, tmp_path / "s")
    assert elf.machine_of((tmp_path / "s" / "model.o").read_bytes()) == 183
    with pytest.raises(UnsupportedError, match="triple"):
        find_target("pi4", cpu="cortex-a76")
    with pytest.raises(UnsupportedError, match="not a recognized processor"):
        export_model(sensor, find_target("aarch64-unknown-linux-gnu", "no-such-cpu"), tmp_path / "t")
    with pytest.raises(UnsupportedError, match="LLVM's names"):
        find_target("aarch64-unknown-linux-gnu", "x y;")


def test_without_a_linker_object_and_header_are_written(
    sensor: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefact, "find_linker", lambda target: None)
    made = export_model(sensor, TARGETS["pi4"], tmp_path / "s")
    assert made.library is None
    assert "no linker for pi4" in made.missing
    assert "pip install ziglang" in made.missing
    assert {"model.o", "model.h", "main.c", "README.md"} <= {path.name for path in made.folder.iterdir()}


def test_the_command_writes_the_folder_and_says_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "out"
    given = ["export", str(MODELS / "sensor.onnx"), "--target", "pi4", "-o", str(place), "--name", "board"]
    monkeypatch.setattr(artefact, "find_linker", lambda target: None)
    done = CliRunner().invoke(cli.app, given)
    assert done.exit_code == 1  # no shared library, and all the rest
    assert "no linker for pi4" in done.stderr.replace("\n", " ")
    assert {"libboard.a", "board.json", "board.py", "model.h"} <= {path.name for path in place.iterdir()}
    monkeypatch.undo()
    done = CliRunner().invoke(cli.app, [*given, "--weights-file", "--weights", "f16"])
    assert (done.exit_code, (place / "libboard.so").exists()) == (0, True), done.output
    assert (place / "board.weights").stat().st_size == json.loads((place / "board.json").read_text())["weights_bytes"]
    assert re.search(r"target +aarch64-unknown-linux-gnu, cortex-a72", done.stdout)


def test_a_folder_appears_whole_or_not_at_all(sensor: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "s"
    export_model(sensor, find_target(HOST), place, name="first")
    export_model(sensor, find_target(HOST), place, name="second")
    assert not list(place.glob("*first*"))
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artefact, "main_text", fail)
    with pytest.raises(OSError, match="No space left"):
        export_model(sensor, find_target(HOST), place, name="third")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_folder_that_cannot_be_written_or_holds_other_things_is_refused(sensor: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        export_model(sensor, find_target(HOST), tmp_path / "file" / "s")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(StreamRNNError, match="no export wrote"):
            export_model(sensor, find_target(HOST), place)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["2x", "a-b", "x;y", "class", "streamrnn", "x" * 60])
def test_a_prefix_that_is_no_identifier_is_refused(name: str, sensor: Engine, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="--name"):
        export_model(sensor, find_target(HOST), tmp_path / "s", name=name)


def test_names_of_a_model_never_become_code(tmp_path: Path) -> None:
    evil, other = '*/ #error x /* " \\', "*/ #error x /* ' \\"
    model = files.make([h.make_node("Tanh", [evil], [other])], [(evil, F32, ["t", 1, 3])], [(other, F32, ["t", 1, 3])])
    model.graph.name = evil
    engine = load(files.save(model, tmp_path, '"; import os.onnx'), time_axis={evil: 0})
    export_model(engine, find_target(HOST), tmp_path / "out")
    assert re.fullmatch(r"[A-Za-z]\w*", c_name(engine.name))
    np.testing.assert_array_equal(
        run_main(tmp_path / "out", 20).astype(np.float32), stream_rows(engine, noise_frames(engine, 20))
    )
    for path in (tmp_path / "out").iterdir():
        if path.suffix in (".c", ".h", ".py", ".md"):
            assert "#error" not in path.read_text()


def test_a_library_of_another_cpu_is_one_clear_error(sensor: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = "pi4" if os.uname().machine != "aarch64" else "x86-64-v3"
    made = export_model(sensor, TARGETS[there], tmp_path / "s")
    assert made.library is not None, made.missing
    with pytest.raises(StreamRNNError, match=r"was compiled for (aarch64|x86_64), this machine is"):
        load(made.library)
    cut = tmp_path / "cut.so"
    cut.write_bytes(made.library.read_bytes()[:100])
    with pytest.raises(StreamRNNError):
        load(cut)
    (tmp_path / "text.so").write_text("not a library")
    with pytest.raises(StreamRNNError, match="no shared library"):
        load(tmp_path / "text.so")


def test_a_cpu_without_the_instructions_of_a_library_is_one_clear_error(
    sensor: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the library of this test is for x86-64")
    made = export_model(sensor, TARGETS["x86-64-v3"], tmp_path / "s")
    assert made.library is not None, made.missing
    monkeypatch.setattr(exported, "cpu_flags", lambda: frozenset({"sse2", "pni"}))
    with pytest.raises(StreamRNNError, match=r"this CPU lacks .*avx2.*--target host"):
        load(made.library)
