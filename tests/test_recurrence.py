"""A Scan or Loop along time is a recurrence: one step runs its body once for each frame, and keeps its states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from contract import Case, Contract, floats
from control_files import body, loop, node, ops, out, typed
from onnx_files import F32, Typed, branch, make, noise, run_file, save
from streamrnn_converters import convert
from streamrnn_converters.validate import validate
from test_control import graph
from test_control import node as step_node

from streamrnn import Engine, NotStreamableError, Stream
from streamrnn.ir.graph import Array

H = 4
ROW, HIDDEN = floats(1, 1, 3), np.zeros((1, H), np.float32)
U, V = floats(2, 3, H, scale=0.5), floats(3, H, H, scale=0.4)


def cell(*captured: str, rows: int = 1, **more: Array) -> Any:
    """h' = tanh(x U + h V), y = h' + h, as a body; in each of `rows` rows."""
    nodes = [
        step_node("MatMul", ["x", "U"], "xu"),
        step_node("MatMul", ["h", "V"], "hv"),
        step_node("Add", ["xu", "hv"], "a"),
        step_node("Tanh", ["a"], "h1"),
        step_node("Add", ["h1", "h"], "y" if not captured else "y0"),
        *(step_node("Mul", ["y0", name], "y") for name in captured),
    ]
    typed = {"h": np.repeat(HIDDEN, rows, 0), "x": np.repeat(ROW, rows, 0)}
    return graph(nodes, {**typed, **more}, ["h1", "y"], {"U": U, "V": V})


RUN = {"states": 1, "num_scan_inputs": 1}


class TestScanAlongTime(Contract):
    cases = [  # noqa: RUF012
        Case("Scan", (HIDDEN, floats(4, 9, 1, 3)), RUN, 2, (1,), {1: 0}, onnx=False, bodies=(cell(),), label="cell"),
        Case("Scan", (HIDDEN + 1, floats(4, 9, 1, 3)), RUN, 2, (1,), {1: 0}, onnx=False, bodies=(cell(),), label="started"),
        Case(
            "Scan", (HIDDEN, floats(4, 9, 1, 3), floats(5, 1, H)), RUN, 2, (1, 2), {1: 0}, onnx=False,
            bodies=(cell("k", k=HIDDEN),), label="with a capture that stands still",
        ),
        Case(
            "Scan", (HIDDEN, floats(4, 9, 1, 3), floats(5, 9, 1, H)), {"states": 1, "num_scan_inputs": 2}, 2, (1, 2),
            {1: 0, 2: 0}, onnx=False, bodies=(cell("k", k=HIDDEN),), label="two streams",
        ),
        Case(
            "Scan", (HIDDEN, floats(4, 9, 1, 3), floats(5, 9, 1, H)), {"states": 1, "num_scan_inputs": 2}, 2, (1,),
            {1: 0}, onnx=False, bodies=(cell("k", k=HIDDEN),), refused="differs from frame to frame", label="a table",
        ),
        Case(
            "Scan", (HIDDEN, floats(4, 9, 1, 3)), RUN, 2, (0, 1), {1: 0}, onnx=False, bodies=(cell(),),
            refused="'i0', which is no state of the file", label="started by an input",
        ),
        Case(
            "Scan", (HIDDEN, floats(4, 9, 1, 3)), {**RUN, "scan_input_directions": (1,)}, 2, (1,), {1: 0}, onnx=False,
            bodies=(cell(),), refused="from the last frame", label="backwards",
        ),
        Case(
            "Scan", (HIDDEN, floats(4, 9, 1, 3)), {**RUN, "scan_output_directions": (1,)}, 2, (1,), {1: 0}, onnx=False,
            bodies=(cell(),), refused="begins with the last frame", label="result backwards",
        ),
        Case(
            "Scan", (np.zeros((7, H), np.float32), floats(4, 5, 7, 3)), RUN, 2, (1,), {1: 1}, onnx=False,
            bodies=(cell(rows=7),), label="inside each frame",
        ),
        Case(
            "Scan", (floats(6, 7, H), floats(4, 5, 7, 3)), RUN, 2, (1,), {1: 1}, onnx=False, bodies=(cell(rows=7),),
            refused="differs from frame to frame", label="inside each frame, from states of its own",
        ),
        Case(
            "Scan", (HIDDEN, floats(4, 9, 1, 3), floats(5, 1, H)), RUN, 2, (1, 2), {1: 0, 2: 0}, onnx=False,
            bodies=(cell("k", k=HIDDEN),), refused="more of a stream than one frame", label="with a stream captured",
        ),
    ]  # fmt: skip


# -- whole files ----------------------------------------------------------------------------------------------------

GRU_LIKE = [
    node("MatMul", ["x", "U"], ["xu"]),
    node("MatMul", ["h", "V"], ["hv"]),
    node("Add", ["xu", "hv"], ["a"]),
    node("Tanh", ["a"], ["h1"]),
    node("Mul", ["h1", "h1"], ["y1"]),
]
WEIGHTS = {
    "U": U,
    "V": V,
    "h0": HIDDEN,
    "D": floats(6, H, 2),
    "yes": np.array(True),
    "zero": np.array(0),
    "none": np.array([0]),
}
CARRIED = [("h", HIDDEN, "h1")]


def scanned(x: str = "x_all", **attrs: Any) -> list[onnx.NodeProto]:
    """A Scan over `x`, a dense layer, and the last frame's answer."""
    inner = body(GRU_LIKE, [typed(HIDDEN, "h"), typed(ROW, "x")], out("h1", "y1"))
    return [
        node("Scan", ["h0", x], ["last", "all"], body=inner, num_scan_inputs=1, **attrs),
        node("MatMul", ["all", "D"], ["y"]),
        node("MatMul", ["last", "D"], ["answer"]),
    ]


def counted(*picked: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A Loop over the frames of x, whose number is computed from its shape; `picked` makes x of x_all and i."""
    return [
        node("Shape", ["x_all"], ["shape"]),
        node("Gather", ["shape", "zero"], ["frames"]),
        loop([*picked, *GRU_LIKE], CARRIED, ["y1"], trip="frames", results=["last", "all"]),
        node("MatMul", ["all", "D"], ["y"]),
        node("MatMul", ["last", "D"], ["answer"]),
    ]


FRAME_I = node("Gather", ["x_all", "i"], ["x"])
COUNTER = [  # the number of the frame is carried by the model itself, as in exported while loops
    node("Shape", ["x_all"], ["shape"]),
    node("Gather", ["shape", "zero"], ["frames"]),
    loop(
        [
            node("Gather", ["x_all", "n"], ["x"]),
            node("Add", ["n", "one"], ["n1"]),
            node("Less", ["n1", "limit"], ["more"]),
            node("Identity", ["limit"], ["limit1"]),
            *GRU_LIKE,
        ],
        [("n", np.array(0), "n1"), ("limit", np.array(0), "limit1"), *CARRIED],
        ["y1"],
        trip="",
        cond="yes",
        going="more",
        results=["n_end", "limit_end", "last", "all"],
    ),
    node("MatMul", ["all", "D"], ["y"]),
    node("MatMul", ["last", "D"], ["answer"]),
]
COUNTER[2].input[3] = "frames"


def file(
    nodes: Sequence[onnx.NodeProto], folder: Path, frames: int | str = "T", outputs: Sequence[str] = ("y", "answer")
) -> Path:
    constants = {**WEIGHTS, "n0": np.array(0), "one": np.array(1), "K": floats(7, 3, 3, 3), "axes": np.array([1])}
    used = {name for n in nodes for name in n.input}
    used |= {name for n in nodes for a in n.attribute for inner in a.g.node for name in inner.input}
    x: Typed = ("x_all", F32, [frames, 1, 3])
    return save(make(nodes, [x], out(*outputs), {k: v for k, v in constants.items() if k in used}), folder)


@pytest.mark.parametrize("frames", ["T", 31])
@pytest.mark.parametrize("nodes", [scanned(), counted(FRAME_I), COUNTER], ids=["Scan", "Loop", "Loop with counter"])
def test_a_loop_over_the_clip_runs_frame_by_frame_without_a_hint(
    tmp_path: Path, nodes: list[onnx.NodeProto], frames: int | str
) -> None:
    path = file(nodes, tmp_path, frames)
    graph = convert(path)
    assert graph.meta["mode"] == "frame", graph.meta["mode_reason"]
    assert [state.init.shape for state in graph.states] == [(1, H)]
    assert validate(path, Engine(graph), steps=31).passed
    window = convert(path, mode="window", shape={"x_all": (31, 1, 3)})
    assert validate(path, Engine(window), steps=4).passed


def test_steps_of_a_stream_give_what_onnxruntime_gives_for_every_prefix(tmp_path: Path) -> None:
    path = file(scanned(), tmp_path)
    engine = Engine(convert(path))
    x = noise(0, 12, 1, 3)
    found = Stream(engine).process(x[:, 0])
    assert isinstance(found, dict)
    for t in range(12):
        y, answer = run_file(path, {"x_all": x[: t + 1]})
        np.testing.assert_allclose(found["y"][: t + 1].reshape(y.shape), y, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["answer"][t].reshape(answer.shape), answer, rtol=1e-5, atol=1e-6)


LOOKING_AHEAD = [
    node("Transpose", ["x_all"], ["ct"], perm=[1, 2, 0]),
    node("Conv", ["ct", "K"], ["k"], pads=[1, 1]),
    node("Transpose", ["k"], ["z"], perm=[2, 0, 1]),
]


def test_frames_that_are_filler_do_not_reach_the_states(tmp_path: Path) -> None:
    """Behind a convolution that looks one frame ahead the cell starts one step later."""
    path = file([*LOOKING_AHEAD, *scanned("z")], tmp_path)
    engine = Engine(convert(path))
    assert engine.delay == 1
    assert validate(path, engine, steps=40).passed


def test_two_streams_of_unequal_delay_meet_in_a_scan(tmp_path: Path) -> None:
    """The raw frames wait for those behind the convolution; the states start with the later ones."""
    nodes = [*GRU_LIKE[:-1], node("MatMul", ["r", "U"], ["ru"]), node("Mul", ["h1", "ru"], ["y1"])]
    inner = body(nodes, [typed(HIDDEN, "h"), typed(ROW, "r"), typed(ROW, "x")], out("h1", "y1"))
    scan = node("Scan", ["h0", "x_all", "z"], ["last", "y"], body=inner, num_scan_inputs=2)
    path = file([*LOOKING_AHEAD, scan], tmp_path, outputs=["y"])
    engine = Engine(convert(path))
    assert engine.delay == 1
    assert validate(path, engine, steps=40).passed


def test_a_constant_that_is_the_same_for_each_frame_is_no_table(tmp_path: Path) -> None:
    nodes = [*GRU_LIKE[:-1], node("Mul", ["h1", "k"], ["y1"])]
    inner = body(nodes, [typed(HIDDEN, "h"), typed(ROW, "x"), typed(HIDDEN, "k")], out("h1", "y1"))
    scan = node("Scan", ["h0", "x_all", "table"], ["last", "y"], body=inner, num_scan_inputs=2)
    table = np.broadcast_to(noise(8, 1, H), (31, 1, H)).copy()
    path = file([node("Identity", ["same"], ["table"]), scan], tmp_path, 31, ["y"])
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "same"))
    onnx.save(model, path)
    graph = convert(path)
    assert graph.meta["mode"] == "frame", graph.meta["mode_reason"]
    assert validate(path, Engine(graph), steps=31).passed


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_state_of_the_file_that_goes_round_in_a_scan_advances_frame_by_frame(tmp_path: Path, ahead: int) -> None:
    """h0 goes in through a Reshape, the last state comes out; a convolution in front that looks ahead delays its start."""
    nodes = [*(LOOKING_AHEAD if ahead else []), node("Reshape", ["state", "flat"], ["h0"]), *scanned("z" if ahead else "x_all")]
    nodes.append(node("Reshape", ["last", "cube"], ["state_after"]))
    path = file(nodes, tmp_path, outputs=["y", "state_after"])
    model = onnx.load(path)
    model.graph.input.append(onnx.helper.make_tensor_value_info("state", F32, [1, 1, H]))
    kept = [i for i in model.graph.initializer if i.name != "h0"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for name, shape in (("flat", [1, H]), ("cube", [1, 1, H])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape), name))
    onnx.save(model, path)
    engine = Engine(convert(path))
    assert engine.meta["mode"] == "frame", engine.meta["mode_reason"]
    [state] = [s for s in engine.graph.states if s.name == "state"]
    assert (state.evidence, state.kind) == ("traced", "hidden")
    assert engine.delay == ahead
    assert validate(path, engine, steps=30).passed


def test_a_bounded_look_ahead_runs_several_frames_a_step(tmp_path: Path) -> None:
    path = file(scanned(), tmp_path)
    engine = Engine(convert(path, lookahead=4, mode="frame"))
    assert engine.frames == 4
    x = noise(0, 12, 1, 3)
    found = Stream(engine).process(x.reshape(3, 4, 3))
    assert isinstance(found, dict)
    y, answer = run_file(path, {"x_all": x})
    np.testing.assert_allclose(found["y"].reshape(y.shape), y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["answer"][-1].reshape(answer.shape), answer, rtol=1e-5, atol=1e-6)


def test_a_step_runs_the_body_without_a_loop(tmp_path: Path) -> None:
    engine = Engine(convert(file(counted(FRAME_I), tmp_path)))
    assert not any(" for i" in line for line in engine.plan.lines())
    assert "Gather" not in ops(engine.graph)


BACKWARDS = [node("Sub", ["frames", "i"], ["left"]), node("Sub", ["left", "one"], ["j"]), node("Gather", ["x_all", "j"], ["x"])]
NUMBERED = [FRAME_I, node("Cast", ["i"], ["number"], to=F32)]
BRANCHES = [branch([node(op, ["x_all"], ["b"])], out("b")) for op in ("Tanh", "Neg")]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (scanned(scan_input_directions=[1]), "from the last frame"),
        (counted(*BACKWARDS), "from the last frame"),
        (
            [*counted(FRAME_I)[:2], loop([*NUMBERED, *GRU_LIKE[:-1], node("Mul", ["h1", "number"], ["y1"])], CARRIED, ["y1"],
             trip="frames", results=["last", "y"])],
            "differs from frame to frame",
        ),
        (
            [node("ReduceMean", ["x_all", "none"], ["m"], keepdims=0), node("Sub", ["x_all", "m"], ["z"]), *scanned("z")],
            "over time|whole clip",
        ),
        (
            [node("ReduceMax", ["x_all"], ["m"], keepdims=0), node("Greater", ["m", "big"], ["loud"]),
             node("If", ["loud"], ["z"], then_branch=BRANCHES[0], else_branch=BRANCHES[1]), *scanned("z")],
            "over time|whole clip",
        ),
    ],
)  # fmt: skip
def test_what_needs_more_than_one_frame_at_a_time_runs_in_window_mode(
    tmp_path: Path, nodes: list[onnx.NodeProto], reason: str
) -> None:
    outputs = ["y"]
    path = file(nodes, tmp_path, 11, outputs)
    model = onnx.load(path)
    used = {name for n in nodes for name in n.input}
    if "big" in used:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "big"))
    onnx.save(model, path)
    with pytest.raises(NotStreamableError, match=reason):
        convert(path, mode="frame", time_axis={"x_all": 0})
    graph = convert(path)
    assert graph.meta["mode"] == "window"
    assert validate(path, Engine(graph), steps=4).passed
