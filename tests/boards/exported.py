"""Runs an exported library on its machine: under QEMU with `main.c`, or in wasmtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from board_models import STEPS
from machines import HERE, ROOT, need, need_module, output_of

from streamrnn import Engine
from streamrnn.engine import PortInfo
from streamrnn.ir.graph import Array

CORTEX_M = ROOT / "examples" / "cortex_m"
_STATIC = ("-static", "-O1")
_NEWLIB = ("arm-none-eabi-gcc", "-O1", "-mthumb", "-mfloat-abi=hard", "--specs=rdimon.specs", "-T", str(CORTEX_M / "mps2.ld"))
_BOARD = (
    "qemu-system-arm",
    "-nographic",
    "-monitor",
    "none",
    "-serial",
    "none",
    "-semihosting-config",
    "enable=on,target=native",
)


@dataclass(frozen=True)
class Machine:
    """How a program is linked for a target, and what runs it. Empty for WebAssembly, which wasmtime runs in this process."""

    link: tuple[str, ...] = ()
    run: tuple[str, ...] = ()


#: by the name of the target
MACHINES = {
    "pi3": Machine(("aarch64-linux-gnu-gcc", *_STATIC), ("qemu-aarch64-static", "-cpu", "cortex-a53")),
    "pi-zero-2": Machine(("aarch64-linux-gnu-gcc", *_STATIC), ("qemu-aarch64-static", "-cpu", "cortex-a53")),
    "pi4": Machine(("aarch64-linux-gnu-gcc", *_STATIC), ("qemu-aarch64-static", "-cpu", "cortex-a72")),
    "pi5": Machine(("aarch64-linux-gnu-gcc", *_STATIC), ("qemu-aarch64-static", "-cpu", "cortex-a76")),
    "armv7": Machine(("arm-linux-gnueabihf-gcc", *_STATIC), ("qemu-arm-static", "-cpu", "cortex-a7")),
    "riscv64": Machine(("riscv64-linux-gnu-gcc", *_STATIC), ("qemu-riscv64-static",)),
    "cortex-m4": Machine(
        (*_NEWLIB, "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", str(CORTEX_M / "startup.c")),
        (*_BOARD, "-M", "mps2-an386", "-kernel"),
    ),
    "cortex-m7": Machine(
        (*_NEWLIB, "-mcpu=cortex-m7", "-mfpu=fpv5-d16", str(CORTEX_M / "startup.c")), (*_BOARD, "-M", "mps2-an500", "-kernel")
    ),
    "cortex-m33": Machine(
        (
            *_NEWLIB,
            "-mcpu=cortex-m33",
            "-mfpu=fpv5-sp-d16",
            "-Wl,--defsym=FLASH_AT=0x10000000,--defsym=RAM_AT=0x38000000",
            str(CORTEX_M / "startup.c"),
        ),
        (*_BOARD, "-M", "mps2-an505", "-kernel"),
    ),
    "wasm32": Machine(),
    "wasm32-simd": Machine(),
}


def need_machine(target: str) -> None:
    """Skip the test where the machine cannot be had."""
    machine = MACHINES[target]
    need(*machine.link[:1], *machine.run[:1])
    if not machine.run:
        need_module("wasmtime", "ziglang")


def run(target: str, folder: Path, engine: Engine, X: dict[str, Array]) -> dict[str, Array]:
    """The outputs over STEPS single steps of a model that was exported under the name "model" into a folder."""
    ins, outs = list(engine.inputs.values()), list(engine.outputs.values())
    data = b"".join(X[port.name][t].tobytes() for t in range(STEPS) for port in ins)
    found = _in_wasmtime(folder, ins, outs, data) if not MACHINES[target].run else _emulated(target, folder, ins, outs, data)
    rows = np.frombuffer(found, np.uint8).reshape(STEPS, -1)
    result, at = {}, 0
    for port in outs:
        size = nbytes(port)
        result[port.name] = np.ascontiguousarray(rows[:, at : at + size]).view(port.dtype).reshape(STEPS, *port.shape)
        at += size
    return result


def nbytes(port: PortInfo) -> int:
    """Of one step."""
    return int(np.prod(port.shape, dtype=np.int64)) * port.dtype.itemsize


def _emulated(target: str, folder: Path, ins: list[PortInfo], outs: list[PortInfo], data: bytes) -> bytes:
    machine = MACHINES[target]
    arguments = [f"(void *){side}[{k}]" for side, ports in (("in", ins), ("out", outs)) for k in range(len(ports))]
    sizes = {side: [nbytes(port) for port in ports] for side, ports in (("IN", ins), ("OUT", outs))}
    told = {
        "STEPS": str(STEPS),
        "MOST": str(max(*sizes["IN"], *sizes["OUT"])),
        **{f"{side}_BYTES": ",".join(map(str, values)) for side, values in sizes.items()},
        "ARGUMENTS": ",".join(arguments),
    }
    macros = [f"-D{name}={value}" for name, value in told.items()]
    program = folder / "program"
    output_of(*machine.link, *macros, f"-I{folder}", HERE / "main.c", folder / "libmodel.a", "-o", program)
    (folder / "x.bin").write_bytes(data)
    output_of(*machine.run, program, cwd=folder, timeout=600)
    return (folder / "y.bin").read_bytes()


def _in_wasmtime(folder: Path, ins: list[PortInfo], outs: list[PortInfo], data: bytes) -> bytes:
    import wasmtime

    store = wasmtime.Store()
    module = wasmtime.Module.from_file(store.engine, str(folder / "model.wasm"))
    assert not module.imports, "a model needs nothing from its host"
    exports = wasmtime.Instance(store, module, []).exports(store)
    memory = exports["memory"]
    places = []
    end = -(-exports["__heap_base"].value(store) // 64) * 64
    arena = int(_defined(folder / "model.h", "MODEL_ARENA_BYTES"))
    for size in (arena, *map(nbytes, (*ins, *outs))):
        places.append(end)
        end += -(-size // 64) * 64
    memory.grow(store, max(0, -(-(end - memory.data_len(store)) // 65536)))
    state, *ports = places
    exports["model_init"](store, state)
    found, step = [], sum(map(nbytes, ins))
    for t in range(STEPS):
        at = t * step
        for port, place in zip(ins, ports, strict=False):
            memory.write(store, data[at : at + nbytes(port)], place)
            at += nbytes(port)
        assert exports["model_step"](store, state, *ports) == 1
        for port, place in zip(outs, ports[len(ins) :], strict=True):
            found.append(bytes(memory.read(store, place, place + nbytes(port))))
    return b"".join(found)


def _defined(header: Path, name: str) -> str:
    """The value of a macro."""
    return next(line.split()[2] for line in header.read_text().splitlines() if line.startswith(f"#define {name} "))
