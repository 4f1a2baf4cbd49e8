"""The kernels' bitcode that a wheel brings along: a zip archive beside their sources, made when the wheel was.

It counts only with the very sources that it was made of, and where LLVM is no older than the one that wrote it: LLVM reads the
bitcode of older versions.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from streamrnn import kernels
from streamrnn.kernels._jit import kernel_sources
from streamrnn.versions import compilers

if TYPE_CHECKING:
    from streamrnn.kernels._jit import Kernel

#: name of the archive, and of the member that says what it was made of
ARCHIVE, ABOUT = "ir.zip", "about.json"


def about() -> dict[str, str]:
    """What an archive made here and now is made of."""
    return {"sources": kernel_sources(), **compilers()}


def bitcode(kernel: Kernel) -> bytes | None:
    """The bitcode of a kernel of this package, where it was shipped."""
    archive = _archive()
    if archive is None or kernel.symbol not in archive.namelist():
        return None
    return archive.read(kernel.symbol)


@cache
def _archive() -> ZipFile | None:
    file = Path(kernels.__path__[0]) / ARCHIVE
    if not file.exists():
        return None
    archive = ZipFile(file)
    made = json.loads(archive.read(ABOUT))
    fits = made["sources"] == kernel_sources() and _number(made["llvmlite"]) <= _number(compilers().get("llvmlite", ""))
    return archive if fits else None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
