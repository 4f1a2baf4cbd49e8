"""The compiling process: `python -m streamrnn.kernels._compile` writes one bitcode file for each line that it reads.

A line is the JSON list [address of a kernel, its key, file]; the answer is one line, a JSON string: why it failed, empty where
it did not. The process ends with its input, or when nothing comes for a while. All sources are read before the first line, so
what is compiled later is what the keys say.

It runs apart from the user's program for two reasons. Numba's own LLVM passes must be off, or helpers compiled for this
host would bring their vector widths along to other targets; and that switch is global to a process. And the user's program
never has to import Numba.

A written file holds one function `void <symbol>(parameters)` (or a scalar result) with every helper inlined: Numba's status
and return pointers are gone.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import IO

from streamrnn.files import write_aside
from streamrnn.kernels._jit import Kernel, find_kernel, kernel_sources, llvm_type

#: names of what a linker may define anew for the CPU
OWN = "streamrnn."
#: seconds without a request after which the process ends: it holds some 200 MB
IDLE = 20.0


def numba_passes_off() -> None:
    """Make this process one that compiles kernels."""
    from numba.core import config

    config.OPT = config._OptLevel(0)
    config.LOOP_VECTORIZE = 0
    config.SLP_VECTORIZE = 0
    config.DEBUGINFO_DEFAULT = 0
    importlib.import_module("streamrnn.kernels._lanes")


def _entry(kernel: Kernel, mangled: str) -> str:
    """LLVM text of the C-like entry around Numba's calling convention (status result, pointers for value and exception)."""
    kinds = [llvm_type(ctype) for _, ctype in kernel.params]
    args = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(kinds))
    declared = ", ".join(["ptr", "ptr", *kinds])
    called = ", ".join(["ptr %ret", "ptr %exc", *(f"{kind} %a{i}" for i, kind in enumerate(kinds))])
    result = llvm_type(kernel.returns) if kernel.returns else "void"
    slot = result if kernel.returns else "i64"
    tail = f"  %r = load {result}, ptr %ret\n  ret {result} %r" if kernel.returns else "  ret void"
    return (
        f'declare i32 @"{mangled}"({declared})\n'
        f'define {result} @"{kernel.symbol}"({args}) {{\n'
        f"  %ret = alloca {slot}\n  %exc = alloca ptr\n"
        f'  %status = call i32 @"{mangled}"({called})\n{tail}\n}}\n'
    )


def kernel_bitcode(kernel: Kernel) -> bytes:
    """LLVM bitcode of a module with nothing but `kernel.symbol` in it, not yet tied to a CPU."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    ir, mangled = kernel.compile()
    module = llvm.parse_assembly(ir)
    module.link_in(llvm.parse_assembly(_entry(kernel, mangled)))
    for function in module.functions:
        if not function.is_declaration and function.name != kernel.symbol and not function.name.startswith(OWN):
            function.linkage = "internal"
            function.add_function_attribute("alwaysinline")
    for variable in module.global_variables:
        if not variable.is_declaration and not variable.name.startswith(OWN):
            variable.linkage = "internal"
    # a neutral machine: nothing that follows may depend on the CPU
    machine = llvm.Target.from_default_triple().create_target_machine(cpu="generic", opt=1)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=0))
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)
    module.verify()
    left = [f.name for f in module.functions if f.name != kernel.symbol and not f.name.startswith(("llvm.", OWN))]
    if left:
        raise RuntimeError(f"kernel {kernel.address} calls {left}, which no target has")
    return bytes(module.as_bitcode())


def main(requests: IO[str], answers: IO[str]) -> None:
    """Answer all requests."""
    numba_passes_off()
    kernel_sources()
    while True:
        idle = threading.Timer(IDLE, os._exit, (0,))
        idle.start()
        line = requests.readline()
        idle.cancel()
        if not line:
            return
        address, key, file = json.loads(line)
        reason = ""
        try:
            kernel = find_kernel(address)
            if kernel.key != key:
                raise RuntimeError("sources of kernels were edited while the program ran; start it again")
            write_aside(Path(file), kernel_bitcode(kernel))
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
        print(json.dumps(reason), file=answers, flush=True)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    main(sys.stdin, answers)
