"""Kernels as LLVM bitcode, made once per machine and kept in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from streamrnn.codegen.compiler import compiler
from streamrnn.errors import StreamRNNError
from streamrnn.kernels._jit import Kernel


def cache_folder() -> Path:
    """Where compiled code lies: STREAMRNN_CACHE, else XDG_CACHE_HOME/streamrnn, else ~/.cache/streamrnn. Made on demand and
    readable by its owner alone, because what lies there is executed. Raises StreamRNNError where it cannot be made."""
    given = os.environ.get("STREAMRNN_CACHE")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamrnn"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StreamRNNError(
            f"the folder for compiled code, {base}, cannot be made ({error.strerror}); set STREAMRNN_CACHE to one that can"
        ) from None
    return base


def kernel_file(kernel: Kernel) -> Path:
    return cache_folder() / f"{kernel.key}.bc"


def compile_missing(kernels: Iterable[Kernel], notify: Callable[[str], None] = lambda text: None) -> None:
    """Make the bitcode of the kernels that are not in the cache, in a process of its own.

    Raises StreamRNNError where the compiling process fails.
    """
    missing = [k for k in kernels if not kernel_file(k).exists()]
    if not missing:
        return
    notify(f"compiling {len(missing)} kernels (once per machine)")
    for kernel in missing:
        if not kernel_file(kernel).exists():  # another process may have made it by now
            compiler().compile(kernel, kernel_file(kernel))


def kernel_bitcode(kernel: Kernel) -> bytes:
    """Bitcode of one kernel that `compile_missing` has made."""
    return kernel_file(kernel).read_bytes()
