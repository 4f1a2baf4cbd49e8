"""Building and loading: cold starts, the cache, threads, foreign names, missing parts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from contract import floats
from small import recurrent_clip, recurrent_engine, typed
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

import streamrnn
from streamrnn import Engine, MissingExtraError, ModelFileError, Stream, StreamRNNError
from streamrnn.cli.talk import summary
from streamrnn.codegen import build, elf
from streamrnn.codegen.build import object_code
from streamrnn.codegen.cache import cache_folder
from streamrnn.codegen.driver import driver_text
from streamrnn.ir.file import fingerprint
from streamrnn.ir.graph import Graph, Node, Stage
from streamrnn.ir.types import DType, TensorType

LOAD = """
import sys, numpy as np, streamrnn
engine = streamrnn.load(sys.argv[1])
y = streamrnn.Stream(engine).step(np.ones(3, np.float32))
print(engine.step.from_cache, 'numba' in sys.modules, 'onnx' in sys.modules, y.tolist())
"""


def load_in_a_new_process(path: Path, cache: Path, **variables: str) -> list[str]:
    env = {**os.environ, "STREAMRNN_CACHE": str(cache), **variables}
    command = [sys.executable, "-c", LOAD, str(path)]
    done = subprocess.run(command, env=env, cwd=path.parent, capture_output=True, text=True, check=True)
    return done.stdout.split(maxsplit=3)


def test_a_cached_engine_loads_without_numba_and_steps_alike(tmp_path: Path) -> None:
    recurrent_engine().save(tmp_path / "m.srnn")
    first = load_in_a_new_process(tmp_path / "m.srnn", tmp_path / "cache")
    second = load_in_a_new_process(tmp_path / "m.srnn", tmp_path / "cache")
    assert first[:3] == ["False", "False", "False"], "kernels are compiled in a process of their own"
    assert second[:3] == ["True", "False", "False"]
    assert first[3] == second[3]


def alter(folder: Path, pattern: str, at: int) -> None:
    """Change one byte of every file of the folder that fits the pattern."""
    for path in folder.glob(pattern):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(bytes(data))


@pytest.mark.parametrize("at", [-5, 0, 40, 60])
def test_what_was_altered_in_the_cache_is_built_anew(at: int, tmp_path: Path) -> None:
    recurrent_engine().save(tmp_path / "m.srnn")
    first = load_in_a_new_process(tmp_path / "m.srnn", tmp_path / "cache")
    for patterns, from_cache in ((["*.engine"], "True"), (["*.engine", "*.o"], "False")):
        for pattern in patterns:
            alter(tmp_path / "cache", pattern, at)
        again = load_in_a_new_process(tmp_path / "m.srnn", tmp_path / "cache")
        assert again[0] == from_cache
        assert again[3] == first[3]


def test_a_ready_engine_gives_its_graph_and_plan_when_asked_though_the_file_is_gone(tmp_path: Path) -> None:
    made = recurrent_engine()
    made.save(tmp_path / "m.srnn")
    first, again = streamrnn.load(tmp_path / "m.srnn"), streamrnn.load(tmp_path / "m.srnn")
    (tmp_path / "m.srnn").unlink()
    assert "graph" in first.__dict__
    assert again.receptive_field == made.receptive_field
    assert summary(again) == summary(made)
    assert "graph" not in again.__dict__
    assert again.fingerprint == made.fingerprint
    assert fingerprint(again.graph) == made.fingerprint
    assert again.plan.lines() == made.plan.lines()
    assert (again.name, again.meta, again.inputs, again.outputs) == (made.name, made.meta, made.inputs, made.outputs)
    assert (again.delay, again.frames, again.state_bytes) == (made.delay, made.frames, made.state_bytes)


def test_weights_are_aligned_and_read_only(tmp_path: Path) -> None:
    made = recurrent_engine()
    made.save(tmp_path / "m.srnn")
    for engine in (made, streamrnn.load(tmp_path / "m.srnn"), streamrnn.load(tmp_path / "m.srnn")):
        assert engine.layout.weights.ctypes.data % 64 == 0
        assert not engine.layout.weights.flags.writeable
        np.testing.assert_array_equal(engine.layout.weights, made.plan.weights)


def test_an_object_steps_alike_whoever_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = recurrent_engine()
    code = object_code(engine.plan)
    x = floats(0, 50, 3)
    expected = np.asarray(Stream(engine).process(x))
    loaders = {"own": elf.load, "LLVM": lambda code, wanted: None}
    assert elf.load(code, build.SYMBOLS) is not None
    for name, loader in loaders.items():
        monkeypatch.setattr(elf, "load", loader)
        engine.step = build.load_object(code, name, from_cache=False)
        np.testing.assert_array_equal(np.asarray(Stream(engine).process(x)), expected)


def test_the_loader_leaves_to_llvm_what_it_does_not_know() -> None:
    code = object_code(recurrent_engine().plan)
    other_cpu = code[:0x12] + b"\xb7\0" + code[0x14:]
    assert elf.load(other_cpu, build.SYMBOLS) is None
    assert elf.load(b"MZ" + code[2:], build.SYMBOLS) is None
    needs = "declare void @streamrnn_nowhere()\ndefine void @f() {\n  call void @streamrnn_nowhere()\n  ret void\n}"
    assert elf.load(build.link(needs + "\n@kept = constant ptr @f", [], build.machine(*build.host())), ()) is None
    writes = "@x = global i64 1\n@kept = constant ptr @x"
    assert elf.load(build.link(writes, [], build.machine(*build.host())), ()) is None


def test_an_edited_kernel_another_cpu_and_another_model_are_built_anew(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    recurrent_engine().save(tmp_path / "m.srnn")
    recurrent_engine(hidden=9).save(tmp_path / "other.srnn")
    edited = tmp_path / "edited" / "streamrnn"
    shutil.copytree(Path(streamrnn.__file__).parent, edited, ignore=shutil.ignore_patterns("__pycache__"))
    with open(edited / "kernels" / "gates.py", "a") as source:
        source.write("\n# edited\n")
    first = load_in_a_new_process(tmp_path / "m.srnn", cache)
    assert load_in_a_new_process(tmp_path / "other.srnn", cache)[0] == "False"
    assert load_in_a_new_process(tmp_path / "m.srnn", cache, NUMBA_CPU_NAME="generic")[0] == "False"
    changed = load_in_a_new_process(tmp_path / "m.srnn", cache, PYTHONPATH=str(edited.parent))
    assert changed[0] == "False"
    assert changed[3] == first[3]
    for again in ({}, {"NUMBA_CPU_NAME": "generic"}, {"PYTHONPATH": str(edited.parent)}):
        assert load_in_a_new_process(tmp_path / "m.srnn", cache, **again)[0] == "True"


def test_the_cache_is_readable_by_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMRNN_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder().stat().st_mode & 0o077 == 0


def test_a_cache_that_cannot_be_made_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STREAMRNN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StreamRNNError, match="set STREAMRNN_CACHE"):
        cache_folder()


def test_streams_in_threads_do_not_disturb_each_other() -> None:
    engine = recurrent_engine(hidden=24)
    clips = [floats(seed, 3000, 3) for seed in range(4)]
    expected = [Stream(engine).process(clip) for clip in clips]
    found: dict[int, np.ndarray] = {}

    def play(k: int) -> None:
        stream = Stream(engine)
        found[k] = np.concatenate([np.asarray(stream.process(clips[k][i : i + 50])) for i in range(0, 3000, 50)])

    threads = [threading.Thread(target=play, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, value in enumerate(expected):
        np.testing.assert_array_equal(found[k], value)


def test_names_of_a_model_never_reach_generated_code() -> None:
    evil = 'x"; } define void @evil() { ret void } ; \n\t\\22 %'
    nodes = (Node("Add", f"node {evil}", (evil, evil), (f"out {evil}",)),)
    graph = typed(Graph(evil, Stage.STEP, (evil,), (f"out {evil}",), nodes, {evil: TensorType(DType.F32, (3,))}))
    engine = Engine(graph)
    assert "evil" not in driver_text(engine.plan)
    np.testing.assert_array_equal(Stream(engine).step({evil: np.ones(3, np.float32)}), [2, 2, 2])


def test_without_the_converters_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "streamrnn_converters", None)
    with pytest.raises(MissingExtraError, match=r"streamrnn\[convert\]"):
        streamrnn.load(tmp_path / "m.onnx")


def test_options_of_a_conversion_do_not_fit_a_converted_file(tmp_path: Path) -> None:
    recurrent_engine().save(tmp_path / "m.srnn")
    with pytest.raises(ModelFileError, match="converted already"):
        streamrnn.load(tmp_path / "m.srnn", mode="window")


def test_one_engine_from_code_and_from_its_file_have_one_fingerprint(tmp_path: Path) -> None:
    engine = Engine(align(streamify(recurrent_clip(op="GRU"), {"x": 0})))
    engine.save(tmp_path / "m.srnn")
    assert streamrnn.load(tmp_path / "m.srnn").fingerprint == engine.fingerprint


def test_an_engine_says_what_goes_in_and_out() -> None:
    engine = recurrent_engine()
    assert {n: (p.shape, p.dtype.name, p.delay) for n, p in engine.inputs.items()} == {"x": ((3,), "float32", 0)}
    assert {n: p.shape for n, p in engine.outputs.items()} == {"y": (2,)}
    assert (engine.delay, engine.frames, engine.latency, engine.stride, engine.receptive_field) == (0, 1, 0, 1, None)
    assert engine.state_bytes == 2 * 5 * 4
