"""The machines that a model can be exported for, and how LLVM calls them."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from streamrnn.codegen.build import default_triple, host
from streamrnn.errors import UnsupportedError

#: LLVM target triples that an export by hand may name: those whose objects are ELF or WebAssembly. "none-eabihf" without a
#: vendor in front, which would silently be soft-float, is none
_TRIPLE = re.compile(r"(x86_64|aarch64|armv\d\w*|thumbv[\w.]+|riscv(32|64)|wasm(32|64))-\w+-(linux|none|unknown|wasi)(-\w+)?")


@dataclass(frozen=True)
class Target:
    """A machine.

    triple, cpu, features, abi: as LLVM takes them; `features` also says which instructions of their own the kernels may use.
    summary:  for people
    """

    name: str
    triple: str
    cpu: str
    features: str
    abi: str
    summary: str

    @property
    def arch(self) -> str:
        """The first part of the triple: aarch64, thumbv7em, wasm32 ..."""
        return self.triple.split("-")[0]

    @property
    def is_wasm(self) -> bool:
        return self.arch.startswith("wasm")

    @property
    def has_system(self) -> bool:
        """Whether programs run on an operating system there, which loads shared libraries."""
        return "linux" in self.triple

    @property
    def pointer_bytes(self) -> int:
        return 8 if self.arch.endswith("64") else 4


_AARCH64, _X86 = "aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"
_M4, _M33 = "thumbv7em-unknown-none-eabihf", "thumbv8m.main-unknown-none-eabihf"
_WASM = "wasm32-unknown-unknown"
_V3 = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe"

TARGETS = {
    target.name: target
    for target in (
        Target("pi3", _AARCH64, "cortex-a53", "+neon", "", "Raspberry Pi 3, 64-bit Linux"),
        Target("pi4", _AARCH64, "cortex-a72", "+neon", "", "Raspberry Pi 4, 64-bit Linux"),
        Target("pi5", _AARCH64, "cortex-a76", "+neon,+dotprod,+fullfp16", "", "Raspberry Pi 5, 64-bit Linux"),
        Target("pi-zero-2", _AARCH64, "cortex-a53", "+neon", "", "Raspberry Pi Zero 2 W, 64-bit Linux"),
        Target("armv7", "armv7-unknown-linux-gnueabihf", "cortex-a7", "", "", "32-bit Linux on ARMv7 with NEON and VFPv4"),
        Target("cortex-m4", _M4, "cortex-m4", "", "", "microcontroller, single-precision FPU, no operating system"),
        Target("cortex-m7", _M4, "cortex-m7", "", "", "microcontroller, double-precision FPU, no operating system"),
        Target("cortex-m33", _M33, "cortex-m33", "", "", "microcontroller, single-precision FPU, no operating system"),
        Target("riscv64", "riscv64-unknown-linux-gnu", "generic-rv64", "+m,+a,+f,+d,+c", "lp64d", "RV64GC, Linux"),
        Target("wasm32", _WASM, "generic", "", "", "WebAssembly 1.0"),
        Target("wasm32-simd", _WASM, "generic", "+simd128", "", "WebAssembly with 128-bit SIMD: every browser since 2023"),
        Target("x86-64-v3", _X86, "x86-64-v3", _V3, "", "PC with AVX2 and FMA, Linux"),
    )
}
#: the machine that exports
HOST = "host"


def host_target() -> Target:
    """This machine. Raises MissingExtraError where there is no llvmlite, UnsupportedError where it does not run Linux."""
    cpu, features = host()
    target = Target(HOST, default_triple(), cpu, features, "", "this machine")
    if not target.has_system:
        raise UnsupportedError(
            f"exports are ELF and WebAssembly, this machine is {target.triple}: choose one of {', '.join(TARGETS)}"
        )
    return target


def find_target(name: str, cpu: str = "", features: str = "", abi: str = "") -> Target:
    """The target of this name, or of an LLVM triple by hand; `cpu`, `features` and `abi` belong to a triple.

    Raises UnsupportedError, which suggests the nearest name.
    """
    by_hand = _TRIPLE.fullmatch(name) is not None
    if by_hand:
        for what, value in (("CPU", cpu), ("features", features), ("ABI", abi)):
            if not re.fullmatch(r"[\w.+,-]*", value):
                raise UnsupportedError(f"{what} {value!r}: LLVM's names have letters, digits and . + - _ in them")
        return Target("custom", name, cpu or "generic", features, abi, f"{name}, {cpu or 'generic'}")
    if cpu or features or abi:
        raise UnsupportedError(
            f"target '{name}' has a CPU, features and an ABI of its own; to choose them, give an LLVM triple"
        )
    if name == HOST:
        return host_target()
    if name not in TARGETS:
        known = [*TARGETS, HOST]
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise UnsupportedError(f"there is no target '{name}'{hint} Targets: {', '.join(known)}, or an LLVM triple by hand")
    return TARGETS[name]
