"""Kernels as LLVM bitcode: shipped with the package, or made once per machine and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from streamrnn.codegen.cache import cache_folder, touch
from streamrnn.codegen.compiler import compiler
from streamrnn.errors import MissingExtraError
from streamrnn.kernels import _archive
from streamrnn.versions import compilers

if TYPE_CHECKING:
    from streamrnn.kernels._jit import Kernel


def kernel_file(kernel: Kernel) -> Path:
    return cache_folder() / f"{kernel.key}.bc"


def compile_missing(kernels: Iterable[Kernel], notify: Callable[[str], None] = lambda text: None) -> None:
    """Make the bitcode of the kernels that are neither shipped nor in the cache, in a process of its own.

    Raises StreamRNNError where the compiling process fails; MissingExtraError where there is no Numba.
    """
    missing = []
    for kernel in kernels:
        if _archive.bitcode(kernel) is None:
            touch(kernel_file(kernel))
            if not kernel_file(kernel).exists():
                missing.append(kernel)
    if not missing:
        return
    if "numba" not in compilers():
        names = ", ".join(sorted({kernel.__name__ for kernel in missing}))
        raise MissingExtraError(
            f"the kernels {names} did not come with this installation; compiling them needs Numba: pip install numba"
        )
    notify(f"compiling {len(missing)} kernels (once per machine)")
    for kernel in missing:
        if not kernel_file(kernel).exists():  # another process may have made it by now
            compiler().compile(kernel, kernel_file(kernel))


def kernel_bitcode(kernel: Kernel) -> bytes:
    """Bitcode of one kernel that is shipped or that `compile_missing` has made."""
    found = _archive.bitcode(kernel)
    return kernel_file(kernel).read_bytes() if found is None else found
