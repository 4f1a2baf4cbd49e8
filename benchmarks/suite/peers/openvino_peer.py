"""OpenVINO: two infer requests over shared tensors, each reading the states that the other one wrote."""

from __future__ import annotations

import numpy as np
import openvino as ov

from streamrnn.ir.graph import Array
from suite.cells import CellCase, Session, UnsupportedCaseError

CONFIG = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}


def ways(case: CellCase, weights: str) -> dict[str, Session]:
    if weights != "f32":
        raise UnsupportedCaseError("only float32 is tried")
    core = ov.Core()
    compiled = core.compile_model(core.read_model(case.file), "CPU", CONFIG)
    state = (1, case.batch, case.hidden)
    x, y = np.zeros(case.x_shape, np.float32), np.zeros((case.steps, 1, case.batch, case.hidden), np.float32)
    buffers = {s: [np.zeros(state, np.float32) for _ in range(2)] for s in case.states}
    requests = []
    for source, target in ((0, 1), (1, 0)):
        request = compiled.create_infer_request()
        request.set_tensor("x", ov.Tensor(x, shared_memory=True))
        request.set_tensor("y", ov.Tensor(y, shared_memory=True))
        for name, arrays in buffers.items():
            request.set_tensor(name, ov.Tensor(arrays[source], shared_memory=True))
            request.set_tensor(f"{name}n", ov.Tensor(arrays[target], shared_memory=True))
        requests.append(super(ov.InferRequest, request).infer)
    turn = 0

    def step(frame: Array) -> Array:
        nonlocal turn
        x[...] = frame
        requests[turn]({}, share_outputs=True, decode_strings=False)
        turn ^= 1
        return y

    step.owners = buffers  # a shared tensor does not keep the memory that it points to
    return {"openvino": Session(step, case.x_shape)}
