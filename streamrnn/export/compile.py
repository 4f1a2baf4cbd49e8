"""From an Engine to an object file for another machine, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from streamrnn.codegen.driver import driver_kernels, driver_text
from streamrnn.codegen.library import compile_missing
from streamrnn.errors import StreamRNNError, UnsupportedError
from streamrnn.export.interface import Interface
from streamrnn.export.targets import Target
from streamrnn.kernels._jit import Kernel, llvm_type
from streamrnn.plan import Call, Loop, StepPlan, each

_COMMAND = (sys.executable, "-P", "-m", "streamrnn.export._compile")
#: what LLVM says of a CPU or a feature that it does not know; it would go on with another
_UNKNOWN = "is not a recognized"


def plan_for(plan: StepPlan, target: Target) -> StepPlan:
    """The plan as it is compiled for a target: without blocks of steps where memory is dear."""
    if target.has_system or target.is_wasm:
        return plan
    return replace(plan, block=None, arena_bytes=plan.step_bytes, block_bytes=0)


def object_code(
    plan: StepPlan, interface: Interface, target: Target, ops: Mapping[str, str], notify: Callable[[str], None]
) -> bytes:
    """The object file. ops: the op of each node, for errors.

    Raises UnsupportedError where it would need what the target lacks, StreamRNNError where LLVM fails.
    """
    kernels = driver_kernels(plan)
    compile_missing(kernels, notify)
    notify(f"compiling for {target.name}")
    text = "\n".join([driver_text(plan), interface.text()])
    code, missing = _compiled(text, kernels, interface.symbols, target)
    if missing:
        raise UnsupportedError(_lacking(plan, missing, target, ops))
    return code


def _compiled(text: str, kernels: list[Kernel], exported: list[str], target: Target) -> tuple[bytes, list[str]]:
    """(object, names that it expects from elsewhere) of a module."""
    addresses = [kernel.address for kernel in kernels]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.o")
        request = {"text": text, "kernels": addresses, "exported": exported, "target": asdict(target), "file": str(file)}
        done = subprocess.run(_COMMAND, input=json.dumps(request), capture_output=True, text=True, env=env, check=False)
        said = done.stderr.strip().splitlines()
        unknown = next((line for line in said if _UNKNOWN in line), None)
        if unknown:
            raise UnsupportedError(f"target {target.name}: LLVM says {unknown}; choose --cpu and --features by LLVM's names")
        if done.returncode:
            reason = said[-1] if said else f"it ended with code {done.returncode}"
            raise StreamRNNError(f"LLVM cannot compile this model for {target.name} ({target.triple}, {target.cpu}): {reason}")
        return file.read_bytes(), json.loads(done.stdout)["undefined"]


def _lacking(plan: StepPlan, missing: list[str], target: Target, ops: Mapping[str, str]) -> str:
    """Which nodes need which functions that the target has no instructions for: their kernels are compiled one by one."""
    users: dict[str, set[str]] = {}
    for call, _ in each((*plan.calls, *plan.commit)):
        if isinstance(call, Call | Loop):
            functions = [call.kernel] if isinstance(call, Call) else [apply.function for apply in call.body]
            for kernel in functions:
                users.setdefault(kernel.address, set()).add(call.node)
    found = []
    for kernel in plan.kernels():
        needed = _compiled(_calling(kernel), [kernel], ["user"], target)[1]
        if needed:
            nodes = ", ".join(f"'{node}' ({ops.get(node, 'part of the step')})" for node in sorted(users[kernel.address]))
            found.append(f"{nodes} needs {', '.join(needed)}")
    what = "; ".join(found) or f"its step needs {', '.join(missing)}"
    return (
        f"the model cannot run on {target.name}, which has no instructions for what it computes, and the library brings no "
        f"such functions along: {what}. Convert the model without float64 there, or choose a target with such instructions"
    )


def _calling(kernel: Kernel) -> str:
    """A module that keeps one kernel."""
    args = ", ".join(llvm_type(ctype) for _, ctype in kernel.params)
    result = llvm_type(kernel.returns) if kernel.returns else "void"
    return f'declare {result} @"{kernel.symbol}"({args})\n@user = constant ptr @"{kernel.symbol}"'
