"""The kernels' bitcode that a wheel brings along, so that a device compiles none: a zip archive beside their sources, which
`codegen.archive` writes.

It counts only with the very sources that it was made of, and where LLVM is no older than the one that wrote it: LLVM reads the
bitcode of older versions.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from streamrnn.kernels._jit import kernel_sources
from streamrnn.versions import compilers

if TYPE_CHECKING:
    from streamrnn.kernels._jit import Kernel

#: one `Kernel.address` a line: what a wheel brings along
LIST = Path(__file__).with_name("shipped.txt")
#: where an installed wheel has them
ARCHIVE = Path(__file__).with_name("ir.zip")
#: the member that says what the others were made of
ABOUT = "about.json"


def bitcode(kernel: Kernel) -> bytes | None:
    """The bitcode of a kernel, where it was brought along."""
    archive = _archive()
    if archive is None or kernel.symbol not in archive.namelist():
        return None
    return archive.read(kernel.symbol)


@cache
def _archive() -> ZipFile | None:
    if not ARCHIVE.exists():
        return None
    archive = ZipFile(ARCHIVE)
    made = json.loads(archive.read(ABOUT))
    fits = made["sources"] == kernel_sources() and _number(made["llvmlite"]) <= _number(compilers().get("llvmlite", ""))
    return archive if fits else None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
