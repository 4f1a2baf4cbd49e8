"""Shared libraries and WebAssembly modules from an object: by the system's compiler for the target, or by ziglang from PyPI."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from streamrnn.errors import StreamRNNError
from streamrnn.export.targets import Target

#: what linking a library needs where there is none on the machine
ADVICE = "pip install ziglang (the extra streamrnn[export])"


def library_name(name: str, target: Target) -> str | None:
    """The file that a linker makes; None for machines that load no libraries."""
    if target.is_wasm:
        return f"{name}.wasm"
    return f"lib{name}.so" if target.has_system else None


def find_linker(target: Target) -> list[str] | None:
    """The command that links for a target, None where there is none on this machine."""
    arch, _, *rest = target.triple.split("-")
    system = "-".join(rest)
    if target.has_system:
        native = arch == platform.machine() and sys.platform == "linux"
        family = "arm" if arch.startswith("arm") else arch
        for command in (*(("cc", "gcc", "clang") if native else ()), f"{family}-{system}-gcc"):
            if shutil.which(command):
                return [command, "-nostdlib"]
    if importlib.util.find_spec("ziglang") is None:
        return None
    zig = "wasm32-freestanding" if target.is_wasm else f"{'arm' if arch.startswith('arm') else arch}-{system}"
    return [sys.executable, "-m", "ziglang", "cc", "-target", zig, "-nostdlib"]


def link_library(linker: list[str], target: Target, obj: Path, library: Path, symbols: list[str]) -> None:
    """Raises StreamRNNError where the linker fails."""
    if target.is_wasm:
        wanted = [f"-Wl,--export={symbol}" for symbol in (*symbols, "__heap_base")]
        command = [*linker, "-Wl,--no-entry", *wanted, "-o", str(library), str(obj)]
    else:
        # the library needs nothing from elsewhere, and says so if it did
        flags = ["-shared", f"-Wl,-soname,{library.name}", "-Wl,--no-undefined", "-Wl,-z,noexecstack"]
        command = [*linker, *flags, "-o", str(library), str(obj)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise StreamRNNError(f"the linker {command[0]} failed for {target.name}: {said[-1] if said else done.returncode}")
