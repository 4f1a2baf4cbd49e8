"""Denormals count as zero inside of a step, and the caller's floating-point mode is what it was."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable

import llvmlite.binding as llvm
import numpy as np
import pytest
from small import recurrent_engine, typed
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, NonFiniteError, Stream, StreamPool
from streamrnn.codegen.build import machine
from streamrnn.codegen.flush import flush_text
from streamrnn.ir.graph import Graph, Node, Stage
from streamrnn.ir.types import TensorType

#: the flags that round denormal results and operands to zero
FTZ, DAZ = 0x8000, 0x0040

MODE = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define i64 @get() {
  %at = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %at)
  %old = load i32, ptr %at
  %mode = zext i32 %old to i64
  ret i64 %mode
}
define i64 @set(i32 %mode) {
  %at = alloca i32
  store i32 %mode, ptr %at
  call void @llvm.x86.sse.ldmxcsr(ptr %at)
  ret i64 0
}
"""

needs_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads MXCSR")


@pytest.fixture(scope="module")
def mode() -> tuple[Callable[[], int], Callable[[int], int], object]:
    """Functions that read and write MXCSR of the calling thread, and what keeps their code."""
    module = llvm.parse_assembly(MODE)
    host = machine("generic", "")
    module.triple, module.data_layout = host.triple, str(host.target_data)
    jit = llvm.create_lljit_compiler(host, use_jit_link=False)
    library = llvm.JITLibraryBuilder().add_ir(module).export_symbol("get").export_symbol("set").link(jit, "mode")
    get, put = ctypes.PYFUNCTYPE(ctypes.c_int64), ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_uint32)
    return get(library["get"]), put(library["set"]), (library, jit)


def halving() -> Engine:
    """h = relu(x + h / 2) in three units, as an RNN cell; y = h."""
    constants = {"W": np.eye(3, dtype=np.float32)[None], "R": np.eye(3, dtype=np.float32)[None] / 2}
    nodes = (Node("RNN", "cell", ("x", "W", "R"), ("y",), {"hidden_size": 3, "activations": ("Relu",)}),)
    graph = Graph("halving", Stage.SEQUENCE, ("x",), ("y",), nodes, {"x": TensorType.of(np.zeros((4, 1, 3), "f4"))}, constants)
    return Engine(align(streamify(typed(graph), {"x": 0})))


@needs_x86
def test_a_decaying_state_ends_in_zero_and_is_never_denormal() -> None:
    frames = np.zeros((400, 3), np.float32)
    frames[0] = 1, 0.7, 0.3
    tiny = np.finfo(np.float32).tiny
    by_block = Stream(halving()).process(frames)
    stream = Stream(halving())
    by_step = np.stack([stream.step(x) for x in frames])
    for found in (by_block, by_step):
        found = found.reshape(400, 3)
        assert ((found == 0) | (found >= tiny)).all()
        assert not found[130:].any(), "2 ** -127 and less is denormal"
        np.testing.assert_array_equal(found[:120, 0], 0.5 ** np.arange(120))


@needs_x86
@pytest.mark.parametrize("flags", [0, FTZ | DAZ, FTZ, 0x6000], ids=["as usual", "flushing", "results only", "towards zero"])
def test_the_mode_of_the_caller_is_the_same_after_a_step_a_block_and_a_refusal(mode, flags: int) -> None:  # type: ignore[no-untyped-def]
    get, put, _ = mode
    engine = recurrent_engine()
    stream, pool = Stream(engine, on_nonfinite="raise"), StreamPool(engine, 2)
    pool.join()
    x, bad = np.full(3, 1e-40, np.float32), np.full(3, np.nan, np.float32)
    before = get()
    try:
        put(before | flags)
        given = get()
        stream.step(x)
        assert get() == given
        stream.step()
        assert get() == given
        stream.process(np.stack([x, x]))
        assert get() == given
        pool.step(np.stack([x, x]))
        assert get() == given
        with pytest.raises(NonFiniteError):
            stream.step(bad)
        assert get() == given
        with pytest.raises(NonFiniteError):
            stream.process(np.stack([x, bad, x]))
        assert get() == given
    finally:
        put(before)


@needs_x86
def test_other_threads_keep_their_denormals() -> None:
    done: list[float] = []
    stream = Stream(recurrent_engine(hidden=64))
    block = np.zeros((20000, 3), np.float32)
    thread = threading.Thread(target=lambda: done.append(float(stream.process(block)[-1, 0])))
    thread.start()
    tiny = np.full(8, np.finfo(np.float32).tiny)
    while thread.is_alive():
        assert (tiny * np.float32(0.5) > 0).all()
    thread.join()
    assert len(done) == 1


@pytest.mark.parametrize(
    ("triple", "cpu", "register"),
    [
        ("x86_64-unknown-linux-gnu", "", "mxcsr"),
        ("aarch64-unknown-linux-gnu", "", "fpcr"),
        ("arm64-apple-macosx", "", "fpcr"),
        ("armv7-unknown-linux-gnueabihf", "", "fpscr"),
        ("thumbv7em-unknown-none-eabihf", "cortex-m7", "fpscr"),
        ("thumbv6m-unknown-none-eabi", "cortex-m0", None),
        ("riscv64-unknown-linux-gnu", "", None),
        ("wasm32-unknown-unknown", "", None),
    ],
)
def test_each_target_sets_and_restores_its_own_register_or_none(triple: str, cpu: str, register: str | None) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    user = "define void @f(ptr %g) {\n %m = call i64 @flush()\n call void %g()\n call void @unflush(i64 %m)\n ret void\n}"
    module = llvm.parse_assembly(f"{flush_text(triple)}\n{user}")
    target = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    module.triple, module.data_layout = triple, str(target.target_data)
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    lines = [line.strip().lower() for line in target.emit_assembly(module).splitlines()]
    touched = [line for line in lines if any(r in line.split("#")[0] for r in ("mxcsr", "fpcr", "fpscr"))]
    if register is None:
        assert touched == []
    else:
        assert len(touched) >= 3, "read, set, restored"
        assert all(register in line for line in touched)
