"""The written step model is the step: onnxruntime on it gives what the engine gives, state fed back, filler kept out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from onnx import helper as h
from streamrnn_converters import convert
from streamrnn_converters.bench import ort_step
from streamrnn_converters.onnx.writer import write_step_model
from test_streamify import C, bidirectional, clip_model, conv, gru

from streamrnn import Engine, Stream, UnsupportedError
from streamrnn.bench import random_frames
from streamrnn.ir.graph import Graph

MODELS = Path(__file__).resolve().parent.parent / "examples" / "models"


def assert_same_steps(path: Path, steps: int, tolerance: float, **options: Any) -> None:
    engine = Engine(convert(path, **options))
    oracle, stream = ort_step(path, engine, **options), Stream(engine)
    frames = random_frames(engine, steps, seed=3)
    shapes = {port.name: port.type.shape for port in engine.plan.inputs}
    for t in range(steps):
        expected = oracle.step({name: array[t].reshape(shapes[name]) for name, array in frames.items()})
        found = stream.step({name: array[t] for name, array in frames.items()})
        rows = list(found.values()) if isinstance(found, dict) else [found]
        for name, row in zip(engine.outputs, rows, strict=True):
            np.testing.assert_allclose(row.ravel(), expected[oracle.outputs[name]].ravel(), rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize(("name", "tolerance"), [("amp", 1e-5), ("vad", 1e-5), ("sensor", 1e-4)])
def test_example_models_step_alike_in_onnxruntime(name: str, tolerance: float) -> None:
    """The sensor model computes in raw units, up to a few hundred."""
    assert_same_steps(MODELS / f"{name}.onnx", 60, tolerance)


def test_delays_rings_and_gated_states_are_written(tmp_path: Path) -> None:
    nodes, weights = gru("x", "a", "first")
    more, k = conv("a", "b", "ahead", 4, 2, (2, 4))
    last, w = gru("b", "y", "second")
    path = clip_model(tmp_path, nodes + more + last, {**weights, **k, **w}, {"a": [1, C, "T"], "y": [1, C, "T"]})
    assert_same_steps(path, 40, 1e-5)


def test_a_step_model_and_its_packed_state_run_as_they_are(tmp_path: Path) -> None:
    assert_same_steps(models.packed_step(tmp_path / "packed.onnx"), 30, 1e-5)


def test_answers_so_far_wait_for_the_frames_behind_them(tmp_path: Path) -> None:
    """`last` is known before the convolution that looks ahead has spoken: it is delayed without a time axis."""
    nodes, weights = gru("x", "a", "first")
    more, k = conv("x", "y", "ahead", 5, 1, (2, 2))
    nodes += [*more, h.make_node("Identity", ["first_last"], ["last"], name="last")]
    nodes[1].output.append("first_last")
    path = clip_model(tmp_path, nodes, {**weights, **k}, {"y": [1, C, "T"], "last": [1, 1, C]})
    assert_same_steps(path, 30, 1e-5)


def test_an_answer_picked_by_a_scalar_index_keeps_its_rank(tmp_path: Path) -> None:
    nodes, weights = gru("x", "a", "first")
    nodes.append(h.make_node("Gather", ["a", "end"], ["last"], axis=2, name="pick"))
    nodes.append(h.make_node("Gemm", ["last", "K"], ["y"], name="dense"))
    constants = {**weights, "end": np.array(-1), "K": np.eye(C, 2, dtype=np.float32)}
    assert_same_steps(clip_model(tmp_path, nodes, constants, {"y": [1, 2]}), 12, 1e-5)


def test_names_that_the_model_uses_itself_stay_its_own(tmp_path: Path) -> None:
    nodes, weights = gru("a", "b", "first")
    more, k = conv("x", "a", "ahead", 3, 1, (1, 1))
    taken = ["step", "step.in", "step.out", "one", "after1", "delay1", "y.now", "ahead.window.in", "ahead.window.all"]
    chain = ["b", *taken, "y"]
    nodes = [*more, *nodes, *(h.make_node("Tanh", [s], [t], name=t) for s, t in pairwise(chain))]
    path = clip_model(tmp_path, nodes, {**weights, **k}, {"y": [1, C, "T"]})
    assert_same_steps(path, 12, 1e-5)


def test_a_sum_over_time_has_no_counterpart(tmp_path: Path) -> None:
    nodes, weights = gru("x", "a", "first")
    nodes.append(h.make_node("CumSum", ["a", "two"], ["y"], name="total"))
    path = clip_model(tmp_path, nodes, {**weights, "two": np.array(2)}, {"y": [1, C, "T"]})
    engine = Engine(convert(path))
    with pytest.raises(UnsupportedError, match=r"'total' \(CumSum\) has no counterpart"):
        ort_step(path, engine)


def test_a_step_of_several_frames_is_refused(tmp_path: Path) -> None:
    path, stages = bidirectional(tmp_path), dict[str, Graph]()
    final = convert(path, mode="frame", lookahead=4, dump=stages.__setitem__)
    with pytest.raises(UnsupportedError, match="several frames a step"):
        write_step_model(stages["align"].replace(meta=final.meta))


def test_random_nodes_keep_their_generators_to_themselves(tmp_path: Path) -> None:
    nodes, weights = gru("x", "a", "first")
    nodes.append(h.make_node("RandomUniformLike", ["a"], ["n"], dtype=1, low=-1e-7, high=1e-7))
    nodes.append(h.make_node("Add", ["a", "n"], ["y"]))
    path = clip_model(tmp_path, nodes, weights, {"a": [1, C, "T"], "y": [1, C, "T"]})
    assert_same_steps(path, 20, 1e-5)


def test_a_fused_graph_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="was fused"):
        write_step_model(convert(MODELS / "vad.onnx"))
