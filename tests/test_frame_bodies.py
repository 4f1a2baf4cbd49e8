"""Branches and loops inside of a frame, frame by frame beside onnxruntime on whole clips and on prefixes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from control_files import body, node, ops, out
from onnx_files import BOOL, F32, Typed, branch, make, noise, run_file, save
from streamrnn_converters import convert

from streamrnn import Engine, NotStreamableError, Stream
from streamrnn.ir.graph import Graph

C = 3
FRAMES = 9
GO: Typed = ("go", BOOL, [])
GAIN: Typed = ("gain", F32, [])
CELL = {"W": noise(1, 1, 3 * C, C), "R": noise(2, 1, 3 * C, C)}


def cell(x: str, y: str, width: int = C) -> list[onnx.NodeProto]:
    """A GRU over time: the model has a memory, and time an axis."""
    weights = ["W", "R"] if width == C else [f"W{width}", f"R{width}"]
    return [
        node("GRU", [x, *weights], [f"{y}_all"], hidden_size=width, name=f"cell_{y}"),
        node("Squeeze", [f"{y}_all", "one"], [y], name=f"flat_{y}"),
    ]


def model(nodes: Sequence[onnx.NodeProto], *knobs: Typed, length: int | str = "T", **constants: Any) -> onnx.ModelProto:
    """[T, 1, C] -> "y"."""
    given = {**CELL, "one": np.array([1]), **{name: np.asarray(value) for name, value in constants.items()}}
    return make(nodes, [("x", F32, [length, 1, C]), *knobs], out("y"), given)


def choose(then: Sequence[Any], other: Sequence[Any], **constants: Any) -> onnx.NodeProto:
    """c = an If on "go"; branches as (nodes, name of their result)."""
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    bodies = [branch(nodes, out(result), arrays) for nodes, result in (then, other)]
    return node("If", ["go"], ["c"], then_branch=bodies[0], else_branch=bodies[1], name="choice")


def check(made: onnx.ModelProto, folder: Path, *knobs: Mapping[str, Any], axis: int = 0) -> Graph:
    """In frame mode, for each setting of the knobs: after t frames the stream gave what onnxruntime gives for the clip of t
    frames, `delay` later."""
    path = save(made, folder)
    graph = convert(path, mode="frame", time_axis={"x": 0})
    engine = Engine(graph)
    clip = noise(5, FRAMES, 1, C)
    for setting in knobs:
        held = {name: np.asarray(value) for name, value in setting.items()}
        steps = {name: np.repeat(value[None], FRAMES, 0) for name, value in held.items()}
        found = np.asarray(Stream(engine).process({"x": clip[:, 0], **steps} if steps else clip[:, 0]))
        for t in range(engine.delay + 1, FRAMES + 1):
            whole = np.moveaxis(run_file(path, {"x": clip[:t], **held})[0], axis, 0)
            np.testing.assert_allclose(found[t - 1].ravel(), whole[t - 1 - engine.delay].ravel(), atol=1e-5)
    return graph


KNOB: tuple[Mapping[str, Any], ...] = ({"go": True}, {"go": False})


def test_a_knob_chooses_between_what_is_done_to_each_frame(tmp_path: Path) -> None:
    then = [node("MatMul", ["h", "M"], ["m"]), node("Tanh", ["m"], ["t"])]
    other = [node("Mul", ["h", "x"], ["p"]), node("Softmax", ["p"], ["s"], axis=-1)]
    nodes = [*cell("x", "h"), choose((then, "t"), (other, "s"), M=noise(3, C, C)), *cell("c", "y")]
    graph = check(model(nodes, GO), tmp_path, *KNOB)
    assert ops(graph).count("If") == 1


def test_a_branch_may_mute_the_stream(tmp_path: Path) -> None:
    """Its constant is as long as the clip of the conversion; each frame of it is the same."""
    mute = [node("Shape", ["h"], ["shape"]), node("ConstantOfShape", ["shape"], ["none"])]
    as_it_is = [node("Identity", ["h"], ["same"])]
    nodes = [*cell("x", "h"), choose((as_it_is, "same"), (mute, "none")), node("Tanh", ["c"], ["y"])]
    check(model(nodes, GO), tmp_path, *KNOB)


def test_branches_in_branches_and_knobs_that_are_computed(tmp_path: Path) -> None:
    inner = [branch([node(op, ["h", "gain"], ["r"])], out("r")) for op in ("Mul", "Sub")]
    deep = [node("Less", ["gain", "half"], ["soft"]), node("If", ["soft"], ["q"], then_branch=inner[0], else_branch=inner[1])]
    nodes = [
        *cell("x", "h"),
        node("Greater", ["gain", "half"], ["go"]),
        choose((deep, "q"), ([node("Neg", ["h"], ["n"])], "n"), half=np.float32(2)),
        node("Tanh", ["c"], ["y"]),
    ]
    check(model(nodes, GAIN, half=np.float32(0.5)), tmp_path, *({"gain": np.float32(g)} for g in (0.2, 1, 3)))


def test_a_branch_behind_a_look_ahead_waits_like_all_else(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], ["xt"], perm=[1, 2, 0]),
        node("Conv", ["xt", "K"], ["a"], pads=[1, 1]),
        node("Transpose", ["a"], ["at"], perm=[2, 0, 1]),
        choose(([node("Add", ["at", "x"], ["s"])], "s"), ([node("Sub", ["x", "at"], ["d"])], "d")),
        *cell("c", "y"),
    ]
    made = model(nodes, GO, K=noise(4, C, C, 3))
    path = save(made, tmp_path)
    engine = Engine(convert(path, mode="frame", time_axis={"x": 0}))
    clip = noise(5, FRAMES, 1, C)
    assert engine.delay == 1
    for go in (True, False):
        found = np.asarray(Stream(engine).process({"x": clip[:, 0], "go": np.full(FRAMES, go)}))
        whole = run_file(path, {"x": clip, "go": np.array(go)})[0]
        np.testing.assert_allclose(found[1:].ravel(), whole[:-1].ravel(), atol=1e-5)


def bins(nodes: Sequence[onnx.NodeProto] = (), **attrs: Any) -> list[onnx.NodeProto]:
    """A recurrence over the channels of each frame, [T, 1, C], written as a Scan over axis 2."""
    step = nodes or [
        node("Mul", ["s", "k"], ["sk"]),
        node("Add", ["sk", "u"], ["a"]),
        node("Tanh", ["a"], ["s1"]),
        node("Mul", ["s1", "u"], ["p"]),
    ]
    typed: list[Typed] = [("s", F32, None), ("u", F32, None)]  # type: ignore[list-item]
    inner = body(step, typed, out("s1", "p"), {"k": np.float32(0.7)})
    return [
        node("Shape", ["h"], ["whole"]),
        node("Slice", ["whole", "zero", "two"], ["rows"]),
        node("ConstantOfShape", ["rows"], ["s0"]),
        node("Scan", ["s0", "h"], ["last", "all"], body=inner, num_scan_inputs=1, scan_input_axes=[2], name="bins", **attrs),
    ]


BINS = {"zero": np.array([0]), "two": np.array([2])}


@pytest.mark.parametrize(
    "attrs", [{}, {"scan_input_directions": [1], "scan_output_directions": [1]}, {"scan_output_axes": [2]}]
)
def test_a_recurrence_inside_each_frame_begins_anew_with_each(tmp_path: Path, attrs: dict[str, Any]) -> None:
    nodes = [*cell("x", "h"), *bins(**attrs), node("Tanh", ["all"], ["y"])]
    axis = 0 if "scan_output_axes" in attrs else 1
    graph = check(model(nodes, **BINS), tmp_path, {}, axis=axis)
    assert ops(graph).count("Scan") == 1
    assert {state.kind for state in graph.states} == {"hidden"}


def test_what_it_carries_in_the_end_is_a_stream_too(tmp_path: Path) -> None:
    check(model([*cell("x", "h"), *bins(), node("Neg", ["last"], ["y"])], **BINS), tmp_path, {})


def test_a_loop_of_fixed_length_refines_each_frame(tmp_path: Path) -> None:
    step = [node("Mul", ["a", "h"], ["p"]), node("Tanh", ["p"], ["b"]), node("Identity", ["c0"], ["c1"])]
    inner = body(step, [("i", onnx.TensorProto.INT64, []), ("c0", BOOL, []), ("a", F32, None)], [("c1", BOOL, []), *out("b")])  # type: ignore[arg-type]
    nodes = [*cell("x", "h"), node("Loop", ["four", "", "h"], ["y"], body=inner, name="refine")]
    check(model(nodes, four=np.array(4)), tmp_path, {})


REFUSED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], str]] = {
    "a cell in a branch": (
        [*cell("x", "h"), choose((cell("h", "g"), "g"), ([node("Neg", ["h"], ["n"])], "n")), node("Tanh", ["c"], ["y"])],
        {},
        r"'choice' \(If\): 'cell_g' \(GRU\) in its body needs other frames.*move the node out.*window mode",
    ),
    "a sum over the clip in a branch": (
        [*cell("x", "h"), choose(([node("ReduceMean", ["h", "zero"], ["m"], name="mean"), node("Sub", ["h", "m"], ["d"])], "d"),
                                 ([], "h")), node("Tanh", ["c"], ["y"])],
        {"zero": np.array([0])},
        r"'mean' \(ReduceMean\)",
    ),
    "a condition made of the stream": (
        [*cell("x", "h"), node("Gather", ["h", "minus"], ["newest"]), node("ReduceMax", ["newest"], ["top"], keepdims=0),
         node("Greater", ["top", "level"], ["go"]), choose(([], "h"), ([node("Neg", ["h"], ["n"])], "n")),
         node("Tanh", ["c"], ["y"])],
        {"minus": np.array(-1), "level": np.float32(0)},
        r"'choice' \(If\): its condition is computed from the stream.*choose again for all frames.*window mode",
    ),
    "branches with time in different places": (
        [*cell("x", "h"), node("Squeeze", ["h", "one"], ["flat"]), node("MatMul", ["flat", "square"], ["a"]),
         node("Transpose", ["a"], ["b"]),
         choose(([], "a"), ([], "b")), node("Tanh", ["c"], ["y"])],
        {"square": noise(1, C, FRAMES)},
        "time on different axes",
    ),
    "a memory in an iteration": (
        [*cell("x", "h"), *bins([*cell("v", "g", 1), node("Unsqueeze", ["u", "two"], ["v"]),
                                               node("Squeeze", ["g", "two"], ["s1"]), node("Add", ["s", "s1"], ["p"])]),
         node("Tanh", ["all"], ["y"])],
        {**BINS, "W1": noise(1, 1, 3, 1), "R1": noise(2, 1, 3, 1)},
        r"cell_g",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_body_may_not_do_in_a_stream_is_named(tmp_path: Path, name: str) -> None:
    nodes, constants, reason = REFUSED[name]
    fed = any("go" in n.output for n in nodes)
    knobs = [GO] if any("go" in n.input for n in nodes) and not fed else []
    path = save(model(nodes, *knobs, length=FRAMES, **constants), tmp_path)
    with pytest.raises(NotStreamableError, match=reason):
        convert(path, mode="frame", time_axis={"x": 0})


def test_what_a_state_was_before_the_clip_is_not_known_later_in_a_stream(tmp_path: Path) -> None:
    """y = f(x, h0) + h0: the cell's state moves on, and the sum needs the old one in every frame."""
    nodes = [
        node("GRU", ["x", "W", "R", "", "", "h0"], ["all", "hn"], hidden_size=C),
        node("Squeeze", ["all", "one"], ["f"]),
        node("Add", ["f", "h0"], ["y"], name="sum"),
    ]
    inputs: list[Typed] = [("x", F32, ["T", 1, C]), ("h0", F32, [1, 1, C])]
    path = save(make(nodes, inputs, out("y", "hn"), {**CELL, "one": np.array([1])}), tmp_path)
    with pytest.raises(NotStreamableError, match=r"'sum' \(Add\): its input 'h0' is what a state.*before the clip"):
        convert(path, mode="frame", time_axis={"x": 0})
