"""The process that compiles for other machines: `python -m streamrnn.export._compile` reads a request as one JSON object, and
writes the answer as another.

It runs apart from the user's program because LLVM ends a process that asks for an instruction which the CPU lacks, and because
what LLVM complains about goes to stderr.

request   text (driver, functions, data), kernels (addresses), exported (names), target (the fields of a Target), file
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
from streamrnn.codegen.cpu import primitives
from streamrnn.codegen.flush import flush_text
from streamrnn.export.arithmetic import NAMES
from streamrnn.export.objects import undefined
from streamrnn.export.runtime import runtime_text
from streamrnn.export.targets import Target
from streamrnn.kernels._jit import Kernel, find_kernel


def target_machine(target: Target) -> Any:
    """LLVM's machine for a target, at the highest optimisation. Raises RuntimeError where LLVM does not know the triple."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # without an operating system, and in WebAssembly, code stays where the linker puts it
    reloc = "pic" if target.has_system else "static"
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc=reloc, codemodel="default", abiname=target.abi
    )


def compiled(text: str, kernels: list[Kernel], exported: tuple[str, ...], target: Target) -> bytes:
    """The object file of a module, with what depends on the target behind it."""
    machine = target_machine(target)
    head = "\n".join([text, primitives(target.features), flush_text(target.triple)])
    code = link(f"{head}\n{runtime_text(target)}", kernels, machine, exported)
    # which functions LLVM calls is known once there is machine code
    wanted = undefined(code) & NAMES
    if wanted:
        code = link(f"{head}\n{runtime_text(target, wanted)}", kernels, machine, exported)
    return code


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    kernels = [find_kernel(address) for address in request["kernels"]]
    code = compiled(request["text"], kernels, tuple(request["exported"]), Target(**request["target"]))
    Path(request["file"]).write_bytes(code)
    json.dump({"undefined": sorted(undefined(code))}, answers)
    answers.close()


if __name__ == "__main__":
    main()
