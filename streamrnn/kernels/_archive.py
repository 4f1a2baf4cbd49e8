"""The kernels' bitcode that a wheel brings along, so that a device compiles none: a zip archive beside their sources.

    python -m streamrnn.kernels._archive FILE [LIST]     writes one with the kernels of LIST, by default shipped.txt

It counts only with the very sources that it was made of, and where LLVM is no older than the one that wrote it: LLVM reads the
bitcode of older versions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile

from streamrnn.kernels._jit import find_kernel, kernel_sources
from streamrnn.versions import compilers

if TYPE_CHECKING:
    from streamrnn.kernels._jit import Kernel

#: one `Kernel.address` a line: what a wheel brings along
LIST = Path(__file__).with_name("shipped.txt")
#: where an installed wheel has them
ARCHIVE = Path(__file__).with_name("ir.zip")
#: the member that says what the others were made of
_ABOUT = "about.json"


def write(addresses: Iterable[str], file: Path) -> None:
    """Compile the kernels at these addresses. For a process of its own: it switches Numba's LLVM passes off."""
    from streamrnn.kernels._compile import kernel_bitcode, numba_passes_off

    numba_passes_off()
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        archive.writestr(_ABOUT, json.dumps({"sources": kernel_sources(), **compilers()}))
        for address in addresses:
            kernel = find_kernel(address)
            archive.writestr(kernel.symbol, kernel_bitcode(kernel))


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
    made = json.loads(archive.read(_ABOUT))
    fits = made["sources"] == kernel_sources() and _number(made["llvmlite"]) <= _number(compilers().get("llvmlite", ""))
    return archive if fits else None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


if __name__ == "__main__":
    file, *lists = map(Path, sys.argv[1:])
    write((lists[0] if lists else LIST).read_text().split(), file)
