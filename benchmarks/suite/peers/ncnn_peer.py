"""ncnn: a net of the one layer, whose param text and weights are written here; the states go back as ncnn's own matrices."""

from __future__ import annotations

import struct
from typing import Any

import ncnn
import numpy as np

from streamrnn.ir.graph import Array
from suite.cells import CellCase, Session, UnsupportedCaseError

ORDERS = {"LSTM": "ifoc", "GRU": "rzh", "RNN": "h"}

#: what stands before a weight in the file: how it is stored
FLOAT32, INT8 = 0, 0x000D4B38


def ways(case: CellCase, weights: str) -> dict[str, Session]:
    if weights == "f16":
        raise UnsupportedCaseError("only float32 and int8 are tried")
    if case.batch > 1:
        raise UnsupportedCaseError("its recurrent layers take no batch")
    net = opened(case, weights == "int8")
    take, create = ncnn.Mat, net.create_extractor
    zeros = np.zeros((1, case.hidden), np.float32)
    state: list[Any] = [ncnn.Mat(zeros) for _ in case.states]
    named = [(name, f"{name}n") for name in case.states]

    def step(x: Array) -> Array:
        run = create()
        run.input("x", take(x))
        for (source, _), value in zip(named, state, strict=True):
            run.input(source, value)
        _, y = run.extract("y")
        for k, (_, target) in enumerate(named):
            _, state[k] = run.extract(target)
        return np.array(y, copy=False)

    step.owners = net, zeros  # a matrix over an array does not keep it
    return {"ncnn": Session(step, (case.steps, case.hidden))}


def opened(case: CellCase, int8: bool) -> Any:
    param, model = case.file.with_suffix(".param"), case.file.with_suffix(".bin")
    states = case.states
    layers = [f"Input {name} 0 1 {name}" for name in ("x", *states)]
    ends = " ".join(("x", *states, "y", *(f"{s}n" for s in states)))
    size, n = case.gates * case.hidden**2, 1 + len(states)
    layers.append(f"{case.cell} cell {n} {n} {ends} 0={case.hidden} 1={size} 2=0 8={2 * int8}")
    param.write_text("\n".join(["7767517", f"{len(layers)} {2 * n}", *layers, ""]))
    model.write_bytes(weight_bytes(case, int8))
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    if net.load_param(str(param)) or net.load_model(str(model)):
        raise UnsupportedCaseError("it refuses the net that was written for it")
    return net


def weight_bytes(case: CellCase, int8: bool) -> bytes:
    order = ORDERS[case.cell]
    W, R = (case.gates_as(order, case.weights[name]) for name in "WR")
    own, state = (case.gates_as(order, bias) for bias in case.weights["B"])
    bias = own + state
    if case.cell == "GRU":  # the bias of the state inside of the reset gate stands apart
        inside = slice(2 * case.hidden, None)
        bias = np.concatenate([bias[: 2 * case.hidden], own[inside], state[inside]])
    if not int8:
        return b"".join(struct.pack("<I", FLOAT32) + a.tobytes() for a in (W, bias, R))
    scales = [127 / np.abs(a).max(axis=1) for a in (W, R)]
    W8, R8 = (np.rint(a * s[:, None]).astype(np.int8) for a, s in zip((W, R), scales, strict=True))
    parts = [(INT8, W8), (FLOAT32, bias), (INT8, R8)]
    return b"".join(
        [*(struct.pack("<I", tag) + padded(a.tobytes()) for tag, a in parts), *(s.astype(np.float32).tobytes() for s in scales)]
    )


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
