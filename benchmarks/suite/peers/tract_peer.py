"""tract: the optimised model, prepared once; the states go back as tract's own tensors."""

from __future__ import annotations

import numpy as np
import tract

from streamrnn.ir.graph import Array
from suite.cells import CellCase, Session, UnsupportedCaseError


def ways(case: CellCase, weights: str) -> dict[str, Session]:
    if weights != "f32":
        raise UnsupportedCaseError("only float32 is tried")
    state = tract.onnx().load(case.file).into_model().into_runnable().spawn_state()
    zeros = np.zeros((1, case.batch, case.hidden), np.float32)
    fed = [tract.Tensor.from_numpy(zeros) for _ in case.states]
    run, take = state.run, tract.Tensor.from_numpy

    def step(x: Array) -> Array:
        y, *fed[:] = run([take(x), *fed])
        return y.to_numpy()

    return {"tract": Session(step, case.x_shape)}
