"""What the compiler makes of every kernel: nothing that a target would have to bring along, nothing that widens by accident."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import Case, as_dict, close, floats
from recurrent import cell

from streamrnn import Engine, Stream, kernels
from streamrnn.codegen.build import link, machine
from streamrnn.codegen.cpu import primitives
from streamrnn.codegen.driver import driver_kernels, driver_text
from streamrnn.codegen.elf import undefined_symbols
from streamrnn.codegen.flush import flush_text
from streamrnn.codegen.interpret import Interpreter
from streamrnn.codegen.library import compile_missing, kernel_bitcode
from streamrnn.errors import GraphError
from streamrnn.ir.lowering import Apply, Place, Register
from streamrnn.ir.types import DType
from streamrnn.ir.verify import verify
from streamrnn.kernels import cells, scalar
from streamrnn.kernels._jit import Kernel, find_kernel, llvm_type
from streamrnn.kernels.activations import TABLE
from streamrnn.kernels.simd import ONE_REGISTER
from streamrnn.ops.pointwise_table import ROWS
from streamrnn.plan import ALIGN, HEADER, Loop, Slot, StepPlan

#: what every C library has, freestanding ones too
EVERYWHERE = {"memcpy", "memset", "memmove"}
#: without fused multiply-add and SSE4.1; with SSE4.2; with AVX2; with AVX-512
CPUS = ("x86-64", "nehalem", "haswell", "skylake-avx512")
#: instructions that came with AVX or later, in the text of an assembler
_AVX = r"^\s+v[a-z]|%[yz]mm"
#: those of SSE3, SSSE3, SSE4.1 and SSE4.2 that a compiler chooses by itself
_SSE4 = (
    r"^\s+(addsub|haddp|hsubp|lddqu|mov(ddup|shdup|sldup|ntdqa)|palignr|pshufb|pabs|phadd|phsub|pmaddub|pmulhrs|psign|p?blend|"
    r"dpp[sd]|extractps|insertps|mpsadbw|packusdw|pcmp(eqq|gtq|[ei]str)|p(extr|insr)[bdq]|phminpos|p(max|min)(sb|sd|ud|uw)|"
    r"pmov[sz]x|pmuldq|pmulld|ptest|round[ps][sd]|crc32|popcnt)"
)
_AVX512 = r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])|%k[0-7]"
#: what a CPU lacks
LACKING = {"x86-64": f"{_AVX}|{_SSE4}", "nehalem": _AVX, "haswell": _AVX512, "skylake-avx512": r"^\s+vpdpbusd|^\s+v\w+ph\s"}
#: what of this machine's features code for a CPU needs, to be run here
NEEDS = {"x86-64": "sse2", "nehalem": "sse4.2", "haswell": "fma", "skylake-avx512": "avx512f"}
RUN = """
import sys, numpy as np, streamrnn
for folder in sys.argv[1:]:
    stream = streamrnn.Stream(streamrnn.load(folder + "/m.srnn"))
    found = stream.step(np.load(folder + "/x.npy"))
    np.savez(folder + "/y.npz", **(found if isinstance(found, dict) else {"o0": found}))
"""
#: of those, what primitives have definitions for
FEATURES = {
    "x86-64": "+sse2",
    "nehalem": "+sse2",
    "haswell": "+sse2,+avx2,+f16c",
    "skylake-avx512": "+sse2,+avx2,+f16c,+avx512f,+avx512bw",
}
#: elements of a loop: whole vectors and a rest
N = 83


#: what gives each vector kernel rows in ones, twos and fours, tiles in ones and twos, whole vectors and a rest
NODES = (
    cell("LSTM", 5, 7, 20, batch=5, D=2, direction="bidirectional"),
    cell("GRU", 5, 7, 20, batch=5, linear_before_reset=1),
    cell("GRU", 5, 7, 20, batch=5),
    cell("RNN", 5, 7, 20, batch=5),
    cell("LSTM", 5, 3, 34),
    cell("GRU", 5, 3, 40, linear_before_reset=1),
    Case("Conv", (floats(1, 1, 9, 19), floats(2, 36, 9, 3))),
    Case("Conv", (floats(1, 3, 9, 7), floats(2, 36, 9, 3))),
    Case("MatMul", (floats(1, 7, 30), floats(2, 30, 70))),
)


def all_kernels() -> dict[str, Kernel]:
    """Every kernel of the package, every element type of the pointwise ones, every activation of a cell."""
    found: list[Kernel] = []
    for module in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}."):
        if not module.name.endswith(("_half", "_lanes", "_linked", "_compile")):
            found += (value for value in vars(importlib.import_module(module.name)).values() if isinstance(value, Kernel))
    found += (kernel for row in ROWS.values() for kernel in row.kernels)
    found += (cells.rnn.bind(act_f=row.kernel) for row in TABLE.values())
    return {kernel.address: kernel for kernel in found}


KERNELS = all_kernels()
#: compare a number drawn from 53 random bits with a float32, which would round the drawn one up to 1
FIFTY_THREE_BITS = {"streamrnn.kernels.random:bernoulli", "streamrnn.kernels.random:multinomial"}


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    compile_missing(KERNELS.values())


def loops() -> StepPlan:
    """A plan that runs every scalar kernel in a loop of its own."""
    buffers: list[tuple[str, Slot]] = []
    calls = []

    def place(kind: DType) -> Place:
        buffers.append(("scratch", Slot(HEADER + len(buffers) * 8 * ALIGN * 2, N * kind.size)))
        return Place(len(buffers) - 1, kind)

    for row in ROWS.values():
        for kernel in row.kernels:
            inputs = tuple((place(DType.of_ctype(ctype)), (1,)) for _, ctype in kernel.params)
            body = (Apply(kernel, tuple(map(Register, range(len(inputs))))),)
            calls.append(Loop(kernel.address, (N,), inputs, body, place(DType.of_ctype(str(kernel.returns)))))
    return StepPlan(
        calls=tuple(calls), commit=(), inputs=(), outputs=(), states=(), buffers=tuple(buffers), state_bytes=HEADER,
        weights=np.zeros(ALIGN, np.uint8), arena_bytes=HEADER + len(buffers) * 16 * ALIGN, frames=1, work=1,
    )  # fmt: skip


def kept(kernels: dict[str, Kernel]) -> str:
    """A module that refers to every kernel, so that none is dropped."""
    lines = []
    for kernel in kernels.values():
        args = ", ".join(llvm_type(ctype) for _, ctype in kernel.params)
        lines.append(f'declare {llvm_type(kernel.returns) if kernel.returns else "void"} @"{kernel.symbol}"({args})')
    pointers = ", ".join(f'ptr @"{kernel.symbol}"' for kernel in kernels.values())
    return "\n".join([*lines, f"@kept = constant [{len(kernels)} x ptr] [{pointers}]"])


@cache
def linked(cpu: str) -> tuple[bytes, str]:
    """All kernels as an object for a CPU, and the same as text."""
    target, text = machine(cpu, ""), []

    def emit(module: Any) -> bytes:
        text.append(target.emit_assembly(module))
        return bytes(type(target).emit_object(target, module))

    target.emit_object = emit
    head = f"{kept(KERNELS)}\n{primitives(FEATURES[cpu])}"
    return link(head, list(KERNELS.values()), target), text[0]


@pytest.mark.parametrize("cpu", CPUS)
def test_kernels_need_nothing_from_a_library(cpu: str) -> None:
    assert undefined_symbols(linked(cpu)[0]) <= EVERYWHERE


@pytest.mark.parametrize("cpu", CPUS)
def test_element_loops_need_nothing_from_a_library(cpu: str) -> None:
    plan = loops()
    host = machine(cpu, "")
    code = link(f"{driver_text(plan)}\n{flush_text(host.triple)}", driver_kernels(plan), host)
    assert undefined_symbols(code) <= EVERYWHERE


@pytest.mark.parametrize("cpu", CPUS)
def test_a_cpu_gets_no_instruction_that_it_lacks(cpu: str) -> None:
    assert {line.group() for line in re.finditer(rf"(?m)({LACKING[cpu]}).*", linked(cpu)[1])} == set()


@pytest.mark.parametrize(("older", "newer"), list(pairwise(CPUS)))
def test_a_newer_cpu_gets_what_the_older_one_lacks(older: str, newer: str) -> None:
    assert re.search(rf"(?m){LACKING[older]}", linked(newer)[1])


@pytest.mark.parametrize("cpu", CPUS)
def test_code_for_an_older_cpu_gives_the_results(cpu: str, tmp_path: Path) -> None:
    import llvmlite.binding as llvm

    if not llvm.get_host_cpu_features().get(NEEDS[cpu], False):
        pytest.skip("this machine does not run that code")
    folders = [tmp_path / str(k) for k in range(len(NODES))]
    for node, folder in zip(NODES, folders, strict=True):
        folder.mkdir()
        node.engine.save(folder / "m.srnn")
        x = np.asarray(node.inputs[0], np.float32)
        np.save(folder / "x.npy", x.reshape(node.engine.inputs["i0"].shape))
    env = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    subprocess.run([sys.executable, "-c", RUN, *map(str, folders)], env=env, check=True)
    for node, folder in zip(NODES, folders, strict=True):
        found, plain = np.load(folder / "y.npz"), Interpreter(node.engine.plan).step([np.load(folder / "x.npy")])
        for name, expected, value in zip(node.results, node.reference, plain, strict=True):
            close(found[name].reshape(expected.shape), expected, node.impl, f"{name}: {cpu} against float64")
            close(found[name].reshape(value.shape), value, node.impl, f"{name}: {cpu} against plain Python")


@pytest.mark.parametrize("address", KERNELS)
def test_float32_kernels_never_widen(address: str) -> None:
    import llvmlite.binding as llvm

    kernel = KERNELS[address]
    text = str(llvm.parse_bitcode(kernel_bitcode(kernel)))
    ctypes = {ctype.removesuffix("p") for ctype in (*(ctype for _, ctype in kernel.params), str(kernel.returns))}
    if "f64" not in ctypes and address not in FIFTY_THREE_BITS:
        assert "double" not in text


@pytest.mark.parametrize("node", NODES, ids=str)
def test_the_width_of_registers_changes_no_bits(node: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for wide in (0, 1):
        text = f'@"{ONE_REGISTER}" = constant i8 {wide}'
        monkeypatch.setattr("streamrnn.codegen.cpu.primitives", lambda features, text=text: text)
        engine = Engine(verify(node.graph()))
        x = node.inputs[0]
        assert x is not None
        found.append(as_dict(engine, Stream(engine).step(x.reshape(engine.inputs["i0"].shape))))
    for name in node.results:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_every_kernel_is_found_by_its_address() -> None:
    for address, kernel in KERNELS.items():
        again = find_kernel(address)
        assert (again.address, again.params, again.returns) == (address, kernel.params, kernel.returns)


def test_another_type_needs_a_parameter_to_go_to() -> None:
    with pytest.raises(GraphError, match=r"kernel add has no parameter \['c'\]"):
        scalar.add.typed(c="i64")


def test_a_library_call_would_be_found() -> None:
    body = "  %y = call float @llvm.sin.f32(float %x)\n  ret float %y"
    text = f"declare float @llvm.sin.f32(float)\ndefine float @f(float %x) {{\n{body}\n}}"
    assert undefined_symbols(link(f"{text}\n@kept = constant ptr @f", [], machine("x86-64", ""))) == {"sinf"}
