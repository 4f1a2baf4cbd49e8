"""onnxruntime: `run` with the state fed back by name, and io-binding between two sets of buffers that are used in turn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quantize_dynamic

from streamrnn.ir.graph import Array
from suite.cells import CellCase, Session, UnsupportedCaseError


def session(path: Path) -> Any:
    """A session with one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ways(case: CellCase, weights: str) -> dict[str, Session]:
    path = case.file
    if weights == "f16":
        raise UnsupportedCaseError("its recurrent ops take no float16 on a CPU")
    if weights == "int8":
        if case.cell != "LSTM":
            raise UnsupportedCaseError(f"quantize_dynamic leaves {case.cell} in float32")
        path = quantised(path)
    return {
        "onnxruntime": Session(bound(session(path), case), case.x_shape),
        "onnxruntime run": Session(plain(session(path), case), case.x_shape),
    }


def quantised(path: Path) -> Path:
    """The file with int8 weights, made by onnxruntime's own quantizer (LSTM becomes DynamicQuantizeLSTM)."""
    target = path.with_suffix(".int8.onnx")
    logging.disable(logging.WARNING)  # it advises to prepare the file, which changes nothing in one of a single node
    quantize_dynamic(path, target, per_channel=True, weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)
    return target


def plain(live: Any, case: CellCase) -> Callable[[Array], Array]:
    run, states = live.run, case.states
    feed: dict[str, Array] = {s: np.zeros((1, case.batch, case.hidden), np.float32) for s in states}

    def step(x: Array) -> Array:
        feed["x"] = x
        y, *new = run(None, feed)
        feed.update(zip(states, new, strict=True))
        return y

    return step


def bound(live: Any, case: CellCase) -> Callable[[Array], Array]:
    """The input is written into the bound buffer; the states go to and fro between two buffers, never copied."""
    shapes = {"x": case.x_shape, "y": (case.steps, 1, case.batch, case.hidden)}
    state = (1, case.batch, case.hidden)
    x, y = (np.zeros(shapes[n], np.float32) for n in "xy")
    buffers = {s: [ort.OrtValue.ortvalue_from_numpy(np.zeros(state, np.float32)) for _ in range(2)] for s in case.states}
    x_value, y_value = ort.OrtValue.ortvalue_from_numpy(x), ort.OrtValue.ortvalue_from_numpy(y)
    bindings = []
    for source, target in ((0, 1), (1, 0)):
        binding = live.io_binding()
        binding.bind_ortvalue_input("x", x_value)
        binding.bind_ortvalue_output("y", y_value)
        for name, values in buffers.items():
            binding.bind_ortvalue_input(name, values[source])
            binding.bind_ortvalue_output(f"{name}n", values[target])
        bindings.append(binding._iobinding)
    run, turn = live._sess.run_with_iobinding, 0

    def step(frame: Array) -> Array:
        nonlocal turn
        x[...] = frame
        run(bindings[turn], None)
        turn ^= 1
        return y

    step.owners = (x_value, y_value, buffers)  # a binding does not keep the memory that it points to
    return step
