"""The process that compiles for other machines: `python -m streamrnn.export._compile` reads a request as one JSON object, and
writes the answer as another.

It runs apart from the user's program because LLVM ends a process that asks for an instruction which the CPU lacks, and because
what LLVM complains about goes to stderr.

request   text (driver, functions, data), kernels (addresses), exported (names), target (triple, cpu, features, abi), file
answer    undefined: names that the object in `file` expects from elsewhere
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from streamrnn.codegen.build import link
from streamrnn.export.objects import undefined
from streamrnn.kernels._jit import find_kernel


def target_machine(triple: str, cpu: str, features: str, abi: str) -> Any:
    """LLVM's machine for a target, at the highest optimisation. Raises RuntimeError where LLVM does not know the triple."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # on a machine without an operating system, and in WebAssembly, code stays where the linker puts it
    reloc = "pic" if "linux" in triple or not triple.startswith(("thumb", "arm", "wasm")) else "static"
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc=reloc, codemodel="default", abiname=abi)


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    machine = target_machine(**request["target"])
    kernels = [find_kernel(address) for address in request["kernels"]]
    code = link(request["text"], kernels, machine, tuple(request["exported"]))
    Path(request["file"]).write_bytes(code)
    json.dump({"undefined": sorted(undefined(code))}, answers)
    answers.close()


if __name__ == "__main__":
    main()
