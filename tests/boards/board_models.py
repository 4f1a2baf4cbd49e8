"""The models that every board runs, and what the host computes with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from contract import floats
from machines import ROOT
from models import cell, write_model
from onnx import helper as h
from streamrnn_converters import convert

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Array, Graph

STEPS = 200
#: share of the largest value that the host computes, or of 1: float32 without fused multiply-adds, over 200 recurrent steps
TOLERANCE = 2e-5
#: the same with int8 weights: an activation that lies between two of its 255 steps may round to either
TOLERANCE_INT8 = 1e-3
#: the project's own models, and two cells
NAMES = ("amp", "vad", "sensor", "lstm", "gru_int8")


def graph(name: str, folder: Path) -> Graph:
    """The step graph of a model."""
    if name in ("amp", "vad", "sensor"):
        return convert(ROOT / "examples" / "models" / f"{name}.onnx")
    op, _, weights = name.partition("_")
    node, constants = cell(op.upper(), "cell", "x", 8, 32, 5)
    squeeze = h.make_node("Squeeze", ["cell_all", "axis"], ["y"], name="squeeze")
    file = write_model(
        folder / f"{name}.onnx", {"x": ["T", 1, 8]}, {"y": ["T", 1, 32]}, [node, squeeze], {**constants, "axis": np.array([1])}
    )
    return convert(file, weights=weights or "f32")


def with_one_weight_altered(graph: Graph) -> Graph:
    """By a tenth of the largest of its matrix."""
    constants = dict(graph.constants)
    name = max(constants, key=lambda name: constants[name].size)
    constants[name] = weights = constants[name].copy()
    weights.flat[7] += weights.dtype.type(
        np.abs(weights).max() // 10 if weights.dtype.kind == "i" else np.abs(weights).max() / 10
    )
    return graph.replace(constants=constants)


def tolerance(name: str) -> float:
    """What a model may differ by from the host."""
    return TOLERANCE_INT8 if name.endswith("int8") else TOLERANCE


def frames(engine: Engine) -> dict[str, Array]:
    """STEPS frames for every input: of recorded speech where the model listens to it, else noise."""
    if engine.name in ("vad", "silero_v6_openvino"):
        ((name, port),) = engine.inputs.items()
        speech, _ = soundfile.read(ROOT / "examples" / "audio" / "speech_16k.wav", dtype="float32")
        hop = len(speech) // STEPS
        rows = [speech[t * hop : t * hop + port.shape[-1]] for t in range(STEPS)]
        return {name: np.stack(rows).reshape(STEPS, *port.shape)}
    return {
        name: floats(40 + k, STEPS, *port.shape, scale=0.5).astype(port.dtype)
        for k, (name, port) in enumerate(engine.inputs.items())
    }


def on_the_host(engine: Engine, X: dict[str, Array]) -> dict[str, Array]:
    """What this machine computes, by name of the output. All of it moves: a constant would agree with much that is wrong."""
    Y = Stream(engine).process(X)
    named = Y if isinstance(Y, dict) else {next(iter(engine.outputs)): Y}
    assert all(np.ptp(y) > 0.1 for y in named.values())
    return named


def assert_close(found: dict[str, Array], expected: dict[str, Array], tolerance: float = TOLERANCE) -> float:
    """All outputs of all steps within the tolerance, a share of the largest value or of 1; returns the largest such share."""
    assert found.keys() == expected.keys()
    worst = 0.0
    for name, y in expected.items():
        assert found[name].shape == y.shape
        scale = max(1.0, float(np.abs(y).max()))
        assert np.isfinite(found[name]).all(), f"{name} is not finite"
        worst = max(worst, float(np.abs(found[name].astype(np.float64) - y).max()) / scale)
    assert worst <= tolerance, f"differs by {worst:.2g} from the host"
    return worst
