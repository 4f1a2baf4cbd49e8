"""What the tests of ops that only move elements share: more properties of the contract, and runs of one-node plans."""

from __future__ import annotations

import numpy as np
from contract import Case, Contract, as_dict
from hypothesis import strategies as st
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, Stream
from streamrnn.codegen.interpret import Interpreter
from streamrnn.ir.graph import Array, Stage
from streamrnn.ir.types import DType
from streamrnn.ir.verify import verify
from streamrnn.planner import make_plan


class Moves(Contract):
    """The contract, and that a step of several frames gives what steps of one frame give."""

    def test_steps_of_three_frames_give_the_whole_clip(self, stream_case: Case) -> None:
        case = stream_case
        axes = {case.names[k]: axis for k, axis in case.time.items()}
        engine = Engine(align(streamify(verify(case.graph(Stage.SEQUENCE)), axes, chunk=3)))
        assert engine.frames % 3 == 0
        found = as_dict(engine, Stream(engine).process(case.frames(engine)))
        for name, expected in zip(case.results, case.reference, strict=True):
            self._check_prefix(case, engine, name, found[name], expected)


def fed(case: Case) -> dict[str, Array]:
    return {n: a for k, n in enumerate(case.names) if case.fed(k) and (a := case.inputs[k]) is not None}


def plain(case: Case) -> list[Array]:
    """One step of the case's plan in plain Python."""
    plan = make_plan(verify(case.graph()))
    return Interpreter(plan).step([fed(case)[port.name] for port in plan.inputs])


def compiled(case: Case) -> list[Array]:
    """One step of the case's plan in machine code, in the shapes of the op's outputs."""
    engine = Engine(verify(case.graph()))
    found = as_dict(engine, Stream(engine).step({n: a.reshape(engine.inputs[n].shape) for n, a in fed(case).items()}))
    return [found[n].reshape(t.shape) for n, t in zip(case.results, case.site().outputs, strict=True) if t is not None]


def calls(case: Case) -> int:
    """How many calls and copies one step of the case makes; none where every output is a view."""
    plan = make_plan(verify(case.graph()))
    return len(plan.calls) + len(plan.commit)


def numbers(shape: tuple[int, ...], dtype: DType = DType.F32) -> Array:
    """Different numbers as far as the element type has them."""
    count = int(np.prod(shape))
    values = np.arange(1, count + 1).reshape(shape)
    return values % 2 == 1 if dtype is DType.BOOL else values.astype(dtype.numpy)


def indices(*values: int) -> Array:
    return np.array(values, np.int64)


DTYPES = st.sampled_from(list(DType))
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
