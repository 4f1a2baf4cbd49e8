"""A recurrence that is written out over a clip becomes a Scan again, and nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lint_files
import numpy as np
import onnx_files as files
import pytest
from contract import floats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper as h
from onnx_files import F32
from streamrnn_converters import convert
from streamrnn_converters.onnx.reader import read_model
from streamrnn_converters.passes.declutter import declutter
from streamrnn_converters.passes.fold import fold
from streamrnn_converters.passes.reroll import reroll
from streamrnn_converters.validate import validate

from streamrnn import Engine, Stream
from streamrnn.ir.evaluate import evaluate
from streamrnn.ir.graph import Array, Graph

C, H = 3, 4
WEIGHTS: dict[str, Array] = {
    "W": floats(1, C, 4 * H, scale=0.5), "U": floats(2, H, 4 * H, scale=0.4), "b": floats(3, 4 * H, scale=0.2),
    "w": floats(4, C, H, scale=0.5), "u": floats(5, H, H, scale=0.4), "other": floats(6, H, H, scale=0.4),
    "zero": np.zeros((1, H), np.float32), "start": floats(7, 1, H), "front": np.array([0]), "axis": np.array([1]),
}  # fmt: skip


def picked(frames: int, way: str) -> list[Any]:
    """x [1, frames, C] -> x0, x1, ... [1, C], as tracing writes x[:, t] or x.unbind(1)."""
    if way == "Split":
        nodes = [h.make_node("Split", ["x"], [f"p{t}" for t in range(frames)], axis=1, num_outputs=frames, name="split")]
        return nodes + [h.make_node("Squeeze", [f"p{t}", "axis"], [f"x{t}"], name=f"x{t}") for t in range(frames)]
    if way == "Slice":
        cut = [h.make_node("Slice", ["x", f"n{t}", f"n{t + 1}", "axis"], [f"p{t}"], name=f"p{t}") for t in range(frames)]
        return cut + [h.make_node("Squeeze", [f"p{t}", "axis"], [f"x{t}"], name=f"x{t}") for t in range(frames)]
    return [h.make_node("Gather", ["x", f"at{t}"], [f"x{t}"], axis=1, name=f"x{t}") for t in range(frames)]


def places(frames: int) -> dict[str, Array]:
    return {f"n{t}": np.array([t]) for t in range(frames + 1)} | {f"at{t}": np.array(t) for t in range(frames)}


def lstm(t: int) -> list[Any]:
    """h, c -> the next h, c: a cell as its formula."""
    n = [h.make_node(op, ins, [out], name=out) for op, ins, out in [
        ("MatMul", [f"x{t}", "W"], f"wx{t}"), ("MatMul", [f"h{t}", "U"], f"uh{t}"), ("Add", [f"wx{t}", f"uh{t}"], f"s{t}"),
        ("Add", [f"s{t}", "b"], f"g{t}"),
    ]]  # fmt: skip
    n.append(h.make_node("Split", [f"g{t}"], [f"{k}{t}" for k in "ijkl"], axis=1, num_outputs=4, name=f"gates{t}"))
    return n + [h.make_node(op, ins, [out], name=out) for op, ins, out in [
        ("Sigmoid", [f"i{t}"], f"I{t}"), ("Sigmoid", [f"j{t}"], f"F{t}"), ("Tanh", [f"k{t}"], f"G{t}"),
        ("Sigmoid", [f"l{t}"], f"O{t}"), ("Mul", [f"F{t}", f"c{t}"], f"fc{t}"), ("Mul", [f"I{t}", f"G{t}"], f"ig{t}"),
        ("Add", [f"fc{t}", f"ig{t}"], f"c{t + 1}"), ("Tanh", [f"c{t + 1}"], f"a{t}"), ("Mul", [f"O{t}", f"a{t}"], f"h{t + 1}"),
    ]]  # fmt: skip


def elman(t: int, recurrent: str = "u", act: str = "Tanh") -> list[Any]:
    return [
        h.make_node("MatMul", [f"x{t}", "w"], [f"wx{t}"], name=f"wx{t}"),
        h.make_node("MatMul", [f"h{t}", recurrent], [f"uh{t}"], name=f"uh{t}"),
        h.make_node("Add", [f"wx{t}", f"uh{t}"], [f"s{t}"], name=f"s{t}"),
        h.make_node(act, [f"s{t}"], [f"h{t + 1}"], name=f"h{t + 1}"),
    ]


def joined(order: Sequence[int]) -> list[Any]:
    """h1, h2, ... -> y [1, frames, H]."""
    nodes = [h.make_node("Unsqueeze", [f"h{t + 1}", "axis"], [f"y{t}"], name=f"y{t}") for t in sorted(set(order))]
    return [*nodes, h.make_node("Concat", [f"y{t}" for t in order], ["y"], axis=1, name="y")]


def clip(folder: Path, nodes: Sequence[Any], frames: int, initial: str = "zero", last: bool = False) -> Path:
    """A file of `nodes` whose states h0 and c0 are `initial`; with `last`, the last h is an output as well."""
    constants = {**WEIGHTS, **places(frames), "h0": WEIGHTS[initial], "c0": WEIGHTS[initial]}
    outputs = [("y", F32, [1, frames, H])]
    if last:
        nodes = [*nodes, h.make_node("Exp", [f"h{frames}"], ["last"], name="last")]
        outputs.append(("last", F32, [1, H]))
    return files.save(files.make(nodes, [("x", F32, [1, frames, C])], outputs, constants), folder)


def sequence(path: Path) -> Graph:
    return declutter(fold(read_model(path)))


def assert_same(path: Path, graph: Graph, frames: int) -> None:
    """The rolled graph gives what onnxruntime gives for the file."""
    x = floats(9, 1, frames, C)
    for found, expected in zip(evaluate(graph, [x][: len(graph.inputs)]), files.run_file(path, {"x": x}), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["Gather", "Slice", "Split"])
@pytest.mark.parametrize("initial", ["zero", "start"])
@pytest.mark.parametrize("last", [False, True])
def test_a_cell_written_out_is_a_loop_with_its_own_states(tmp_path: Path, way: str, initial: str, last: bool) -> None:
    frames = 6
    nodes = [*picked(frames, way), *(n for t in range(frames) for n in lstm(t)), *joined(range(frames))]
    path = clip(tmp_path, nodes, frames, initial, last)
    graph = reroll(sequence(path))
    (scan,) = (node for node in graph.nodes if node.op == "Scan")
    assert scan.attrs["states"] == 2
    # of a constant h that is not zero, folding has left the product with U alone, which then is the state
    hidden = H if initial == "zero" else 4 * H
    assert [graph.types[name].shape for name in scan.inputs[:2]] == [(1, hidden), (1, H)]
    assert graph.meta["rerolled"] == [frames]
    assert_same(path, graph, frames)


def test_it_streams_beyond_the_clip_that_it_was_written_for(tmp_path: Path) -> None:
    """The stream goes on where the file ends; a file of the same cell over more frames says what it has to give."""
    short, long = 5, 12
    paths = {}
    for frames in (short, long):
        (tmp_path / str(frames)).mkdir()
        nodes = [*picked(frames, "Gather"), *(n for t in range(frames) for n in lstm(t)), *joined(range(frames))]
        paths[frames] = clip(tmp_path / str(frames), nodes, frames)
    engine = Engine(convert(paths[short]))
    assert engine.meta["mode"] == "frame", engine.meta["mode_reason"]
    x = floats(8, 1, long, C)
    np.testing.assert_allclose(Stream(engine).process(x[0]), files.run_file(paths[long], {"x": x})[0][0], atol=1e-6)
    assert validate(paths[short], engine, steps=20).passed


def test_layers_are_a_loop_each(tmp_path: Path) -> None:
    frames = 5
    nodes = [*picked(frames, "Gather"), *(n for t in range(frames) for n in elman(t)), *joined(range(frames))]
    second = [h.make_node("Gather", ["y", f"at{t}"], [f"z{t}"], axis=1, name=f"z{t}") for t in range(frames)]
    state = "zero"
    for t in range(frames):
        second += [
            h.make_node("MatMul", [state, "other"], [f"r{t}"], name=f"r{t}"),
            h.make_node("Add", [f"z{t}", f"r{t}"], [f"q{t}"], name=f"q{t}"),
            h.make_node("Softsign", [f"q{t}"], [f"k{t}"], name=f"k{t}"),
        ]
        state = f"k{t}"
    second.append(h.make_node("Neg", [state], ["last"], name="last"))
    path = files.save(
        files.make([*nodes, *second], [("x", F32, [1, frames, C])], [("last", F32, [1, H])],
                   {**WEIGHTS, **places(frames), "h0": WEIGHTS["zero"]}),
        tmp_path,
    )  # fmt: skip
    graph = reroll(sequence(path))
    assert [node.op for node in graph.nodes].count("Scan") == 2
    assert graph.meta["rerolled"] == [frames, frames]
    assert_same(path, graph, frames)
    assert validate(path, Engine(convert(path, mode="frame")), steps=20).passed


def other_weights(t: int) -> list[Any]:
    return elman(t, recurrent="other" if t == 3 else "u")


def other_function(t: int) -> list[Any]:
    return elman(t, act="Sigmoid" if t == 2 else "Tanh")


def frame_before(t: int) -> list[Any]:
    """Frame 4 reads the state of two frames ago."""
    nodes = elman(t)
    nodes[1] = h.make_node("MatMul", [f"h{t - 1 if t == 4 else t}", "u"], [f"uh{t}"], name=f"uh{t}")
    return nodes


def no_state(t: int) -> list[Any]:
    """Layers on each frame alone."""
    return [
        h.make_node("MatMul", [f"x{t}", "w"], [f"s{t}"], name=f"s{t}"),
        h.make_node("Tanh", [f"s{t}"], [f"h{t + 1}"], name=f"h{t + 1}"),
    ]


@pytest.mark.parametrize("cell", [other_weights, other_function, frame_before, no_state])
def test_what_is_not_the_same_in_every_frame_stays_written_out(tmp_path: Path, cell: Any) -> None:
    frames = 6
    nodes = [*picked(frames, "Gather"), *(n for t in range(frames) for n in cell(t)), *joined(range(frames))]
    path = clip(tmp_path, nodes, frames)
    graph = sequence(path)
    assert reroll(graph) is graph
    engine = Engine(convert(path, mode="window"))
    assert validate(path, engine, steps=10).passed


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 5, 4], [5, 4, 3, 2, 1, 0], [0, 1, 2, 2, 4, 5]])
def test_results_in_another_order_stay_written_out(tmp_path: Path, order: list[int]) -> None:
    nodes = [*picked(6, "Gather"), *(n for t in range(6) for n in elman(t)), *joined(order)]
    graph = sequence(clip(tmp_path, nodes, 6))
    assert reroll(graph) is graph


def test_a_first_frame_that_is_unlike_the_others_stays_written_out(tmp_path: Path) -> None:
    """Block 0 has an activation of its own, which no initial state explains."""
    nodes = [*picked(6, "Gather"), *(n for t in range(6) for n in elman(t, act="Tanh" if t else "Exp")), *joined(range(6))]
    graph = sequence(clip(tmp_path, nodes, 6))
    assert reroll(graph) is graph


def test_window_mode_and_short_clips_are_left_as_they_are(tmp_path: Path) -> None:
    assert "rerolled" not in convert(lint_files.elman(5, shared=True)(tmp_path), mode="window").meta
    nodes = [*picked(3, "Gather"), *(n for t in range(3) for n in elman(t)), *joined(range(3))]
    graph = sequence(clip(tmp_path, nodes, 3))
    assert reroll(graph) is graph


def test_a_loop_along_another_axis_whose_rounds_remember_time_stays_written_out(tmp_path: Path) -> None:
    """Four groups of channels, each behind the same convolution over time of itself and of the group before."""
    frames, groups = 9, 4
    nodes = [h.make_node("Split", ["x"], [f"g{k}" for k in range(groups)], axis=1, num_outputs=groups, name="split")]
    for k in range(groups):
        nodes += [
            h.make_node("Add", [f"t{k - 1}", f"g{k}"], [f"s{k}"], name=f"s{k}"),
            h.make_node("Conv", [f"s{k}", "K"], [f"c{k}"], pads=[2, 0], name=f"c{k}"),
            h.make_node("Tanh", [f"c{k}"], [f"t{k}"], name=f"t{k}"),
        ]
    nodes.append(h.make_node("Concat", [f"t{k}" for k in range(groups)], ["y"], axis=1, name="y"))
    dims = [1, groups, frames]
    path = files.save(files.make(nodes, [("x", F32, dims)], [("y", F32, dims)],
                                 {"K": floats(4, 1, 1, 3), "t-1": np.zeros((1, 1, frames), np.float32)}), tmp_path)  # fmt: skip
    assert "rerolled" in reroll(sequence(path)).meta
    engine = Engine(convert(path, mode="frame", time_axis={"x": 2}))
    assert "rerolled" not in engine.meta
    assert validate(path, engine, steps=30).passed


OPS = ("Tanh", "Sigmoid", "Relu", "Neg", "Add", "Mul", "Sub", "MatMul")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_rolled_computes_what_it_did(tmp_path: Path, data: st.DataObject) -> None:
    """Random cells with one or two states, some of them unlike themselves in one frame."""
    frames, count = data.draw(st.integers(4, 7)), data.draw(st.integers(1, 2))
    steps = [
        (data.draw(st.sampled_from(OPS)), data.draw(st.integers(0, 20)), data.draw(st.integers(0, 20)))
        for _ in range(data.draw(st.integers(1, 6)))
    ]
    odd = data.draw(st.one_of(st.none(), st.integers(0, frames - 1)))
    picks = [data.draw(st.integers(0, 20)) for _ in range(count + 1)]
    nodes = picked(frames, "Gather")
    states = ["h0", "c0"][:count]
    for t in range(frames):
        nodes.append(h.make_node("MatMul", [f"x{t}", "w"], [f"v{t}"], name=f"v{t}"))
        values = [f"v{t}", *states]
        for k, (op, one, other) in enumerate(steps):
            op = "Softplus" if odd == t and k == 0 else op
            inputs = [values[one % len(values)]]
            inputs += ["u"] if op == "MatMul" else [values[other % len(values)]] if op in ("Add", "Mul", "Sub") else []
            nodes.append(h.make_node(op, inputs, [f"r{t}_{k}"], name=f"r{t}_{k}"))
            values.append(f"r{t}_{k}")
        states = [values[p % len(values)] for p in picks[:count]]
        nodes.append(h.make_node("Identity", [values[picks[count] % len(values)]], [f"h{t + 1}"], name=f"out{t}"))
    path = clip(tmp_path, [*nodes, *joined(range(frames))], frames, data.draw(st.sampled_from(["zero", "start"])))
    graph = reroll(sequence(path))
    assert_same(path, graph, frames)
