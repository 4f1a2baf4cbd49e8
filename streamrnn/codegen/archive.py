"""Writes the archive of kernels that a wheel brings along:

    python -m streamrnn.codegen.archive FILE [LIST]

LIST holds one `Kernel.address` a line, by default kernels/shipped.txt. Kernels that the cache has are taken from there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from streamrnn.codegen.library import compile_missing, kernel_bitcode
from streamrnn.kernels._archive import ABOUT, LIST
from streamrnn.kernels._jit import find_kernel, kernel_sources
from streamrnn.versions import compilers


def write(addresses: Iterable[str], file: Path) -> None:
    """The archive of the kernels at these addresses. Raises StreamRNNError where one does not compile."""
    kernels = [find_kernel(address) for address in addresses]
    compile_missing(kernels)
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        archive.writestr(ABOUT, json.dumps({"sources": kernel_sources(), **compilers()}))
        for kernel in kernels:
            archive.writestr(kernel.symbol, kernel_bitcode(kernel))


if __name__ == "__main__":
    file, *lists = map(Path, sys.argv[1:])
    write((lists[0] if lists else LIST).read_text().split(), file)
