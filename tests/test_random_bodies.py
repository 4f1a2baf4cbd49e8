"""Random ops inside of branches and loops: their generators go on from iteration to iteration and from step to step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from control_files import body, converted, loop, node, out, typed
from onnx_files import BOOL, F32, I64, branch, make, noise, save
from streamrnn_converters import convert

from streamrnn import Engine, Stream
from streamrnn.codegen.interpret import Interpreter
from streamrnn.ir.graph import Array

X = np.zeros((2, 3), np.float32)
DRAW = node("RandomNormalLike", ["x"], ["r"])
ONLY = {"x": X}


def values(result: Any) -> list[Array]:
    return [np.array(a) for a in (result.values() if isinstance(result, dict) else [result])]


def run(engine: Engine, *feeds: dict[str, Array]) -> list[list[Array]]:
    """The outputs of each step, the same as plain Python and again after a reset."""
    stream, plain = Stream(engine), Interpreter(engine.plan)
    shaped = [{n: np.asarray(f[n]).reshape(engine.inputs[n].shape) for n in engine.inputs} for f in feeds]
    found = [values(stream.step(f)) for f in shaped]
    stream.reset()
    again = [values(stream.step(f)) for f in shaped]
    interpreted = [plain.step([np.asarray(f[p.name]) for p in engine.plan.inputs]) for f in feeds]
    for first, second, third in zip(found, again, interpreted, strict=True):
        for a, b, c in zip(first, second, third, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a.ravel(), c.ravel(), rtol=1e-6, atol=1e-6)
    return found


def distinct(*arrays: Array) -> bool:
    numbers = np.concatenate([a.ravel() for a in arrays])
    return len(np.unique(numbers)) == len(numbers)


def looped(trip: str) -> onnx.ModelProto:
    """a + one draw for each iteration, in a loop in a loop; with a known trip count the draws are stacked as well."""
    inner = loop([DRAW, node("Add", ["a", "r"], ["b"])], [("a", X, "b")], ["r"] if trip == "trip" else [], trip="three")
    nodes = [
        node("Identity", ["s"], ["a0"]),
        inner,
        node("Add", ["a_end", "x"], ["t"]),
    ]
    outer = loop(nodes, [("s", X, "t")], ["r_all"] if trip == "trip" else [], trip=trip, constants={"three": np.array(3)})
    inputs = [typed(X, "x"), *([("count", I64, [])] if trip == "count" else [])]
    outputs = out("s_end", "r_all_all") if trip == "trip" else out("s_end")
    return make([outer], inputs, outputs, {"s0": X, "trip": np.array(4)})


def test_iterations_and_steps_draw_different_numbers(tmp_path: Path) -> None:
    engine = Engine(converted(looped("trip"), tmp_path))
    assert [state.kind for state in engine.graph.states] == ["generator"]
    steps = run(engine, ONLY, ONLY, ONLY)
    assert distinct(*(draws for _, draws in steps))
    for total, draws in steps:
        np.testing.assert_allclose(total.ravel(), draws.reshape(12, 6).sum(axis=0), rtol=1e-4, atol=1e-5)


def test_a_loop_of_unknown_length_draws_as_often_as_it_runs(tmp_path: Path) -> None:
    engine = Engine(converted(looped("count"), tmp_path))
    once, more = (run(engine, *({**ONLY, "count": np.array(n)} for n in counts)) for counts in ((2, 1), (1, 1, 1)))
    np.testing.assert_allclose(once[0][0] + once[1][0], more[0][0] + more[1][0] + more[2][0], rtol=1e-5, atol=1e-5)
    assert not np.array_equal(run(engine, {**ONLY, "count": np.array(0)})[0][0], once[0][0])


def test_only_the_branch_that_runs_draws(tmp_path: Path) -> None:
    draw = branch([DRAW], out("r"))
    still = branch([node("Neg", ["x"], ["n"])], out("n"))
    model = make([node("If", ["go"], ["y"], then_branch=draw, else_branch=still)], [typed(X, "x"), ("go", BOOL, [])], out("y"))
    engine = Engine(converted(model, tmp_path))
    yes, no = ({**ONLY, "go": np.array(go)} for go in (True, False))
    mixed, straight = run(engine, yes, no, no, yes), run(engine, yes, yes)
    assert distinct(*(y for step in straight for y in step))
    np.testing.assert_array_equal(mixed[3][0], straight[1][0])
    assert not mixed[1][0].any()


@pytest.mark.parametrize("frames", ["T", 7])
def test_a_cell_with_noise_streams(tmp_path: Path, frames: int | str) -> None:
    """The states of a scan along time, and the generator in it, both go on from frame to frame."""
    nodes = [DRAW, node("Add", ["x", "r"], ["n"]), node("Add", ["h", "n"], ["h1"]), node("Identity", ["h1"], ["y1"])]
    inner = body(nodes, [typed(X[0], "h"), typed(X[0], "x")], out("h1", "y1"))
    scan = node("Scan", ["h0", "clip"], ["", "y"], body=inner, num_scan_inputs=1)
    path = save(make([scan], [("clip", F32, [frames, 3])], out("y"), {"h0": X[0]}), tmp_path)
    engine = Engine(convert(path))
    assert engine.meta["mode"] == "frame", engine.meta["mode_reason"]
    assert sorted(state.kind for state in engine.graph.states) == ["accumulator", "generator"]
    frames_in = noise(1, 400, 3)
    y = np.array(Stream(engine).process(frames_in))
    drawn = np.diff(y, axis=0, prepend=0) - frames_in
    assert abs(drawn.mean()) < 0.1
    assert abs(drawn.std() - 1) < 0.1
