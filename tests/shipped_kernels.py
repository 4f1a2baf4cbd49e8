"""Writes streamrnn/kernels/shipped.txt: the kernels that a wheel brings along. `make kernels` runs it after kernels changed.

They are all those of the cases of the op contract, whole and frame by frame, and of the example models, with weights
of every type.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from contract import Contract
from streamrnn_converters import convert
from streamrnn_converters.passes.narrow import narrow

from streamrnn.codegen.driver import driver_kernels
from streamrnn.codegen.pool_driver import pool_kernels
from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Graph
from streamrnn.ir.verify import verify
from streamrnn.kernels._archive import LIST
from streamrnn.kernels._jit import Kernel
from streamrnn.lanes import across_streams
from streamrnn.plan import StepPlan
from streamrnn.planner import make_plan

TESTS = Path(__file__).resolve().parent


def graphs() -> Iterator[Graph]:
    """Step graphs of the cases of all ops, and the example models."""
    for file in sorted(TESTS.glob("test_*.py")):
        for suite in vars(importlib.import_module(file.stem)).values():
            if isinstance(suite, type) and issubclass(suite, Contract):
                for case in suite.cases:
                    yield verify(case.graph())
                    if case.time and not case.refused:
                        yield case.step_graph
    for file in sorted((TESTS.parent / "examples" / "models").glob("*.onnx")):
        yield convert(file)


def kernels(plan: StepPlan) -> list[Kernel]:
    """What a stream of a plan runs, and what pools of its streams run."""
    found = driver_kernels(plan)
    with suppress(UnsupportedError):
        found += [*pool_kernels(across_streams(plan)), *pool_kernels(across_streams(plan, eight=True))]
    return found


def wanted() -> list[str]:
    """Addresses of the kernels of this package that those graphs run, sorted."""
    stored = (narrow(graph, weights) for graph in graphs() for weights in ("f32", "f16", "int8"))
    found = {kernel.address for graph in stored for kernel in kernels(make_plan(graph))}
    return sorted(address for address in found if address.startswith("streamrnn.kernels."))


if __name__ == "__main__":
    LIST.write_text("\n".join(wanted()) + "\n")
