"""Frame mode keeps the prefix law and the warm-up law, judged by onnxruntime on whole clips and on prefixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_files as files
import pytest
from contract import floats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper as h
from onnx_files import F32
from streamrnn_converters import convert

from streamrnn import Engine, NotStreamableError, Stream
from streamrnn.ir.graph import Array

C = 3  # channels of all test clips


def gru(x: str, y: str, name: str, channels: int = C, hidden: int = C) -> tuple[list[Any], dict[str, Array]]:
    """[1, channels, T] -> GRU over time -> [1, hidden, T]."""
    seed = sum(map(ord, name))
    weights = {
        f"{name}W": floats(seed, 1, 3 * hidden, channels, scale=0.5),
        f"{name}R": floats(seed + 1, 1, 3 * hidden, hidden, scale=0.4),
        f"{name}B": floats(seed + 2, 1, 6 * hidden, scale=0.2),
        f"{name}axis": np.array([1]),
    }
    names = list(weights)
    return [
        h.make_node("Transpose", [x], [f"{name}x"], perm=[2, 0, 1], name=f"{name}_in"),
        h.make_node("GRU", [f"{name}x", *names[:3]], [f"{name}y"], hidden_size=hidden, linear_before_reset=1, name=name),
        h.make_node("Squeeze", [f"{name}y", names[3]], [f"{name}f"], name=f"{name}_squeeze"),
        h.make_node("Transpose", [f"{name}f"], [y], perm=[1, 2, 0], name=f"{name}_out"),
    ], weights


def conv(x: str, y: str, name: str, taps: int, dilation: int, pads: tuple[int, int], stride: int = 1) -> tuple[list[Any], Any]:
    seed = sum(map(ord, name))
    weights = {f"{name}K": floats(seed, C, C, taps, scale=0.4), f"{name}k": floats(seed + 1, C, scale=0.3)}
    attrs = {"dilations": [dilation], "pads": list(pads), "strides": [stride]}
    return [h.make_node("Conv", [x, *weights], [y], name=name, **attrs)], weights


def clip_model(folder: Path, nodes: list[Any], weights: dict[str, Array], outputs: dict[str, list[Any]]) -> Path:
    typed = [(n, F32, d) for n, d in outputs.items()]
    return files.save(files.make(nodes, [("x", F32, [1, C, "T"])], typed, weights), folder)


def assert_prefix_law(path: Path, engine: Engine, frames: int, tolerance: float = 2e-5) -> None:
    """Frame j of onnxruntime's whole clip leaves the stream `delay` later; what has no time is the answer for the prefix."""
    clip = floats(frames, 1, C, frames)
    names = list(engine.outputs)
    expected = dict(zip(names, files.run_file(path, {"x": clip}), strict=True))
    steps = frames // engine.frames
    blocks = np.ascontiguousarray(clip[0].T[: steps * engine.frames]).reshape(steps, *engine.inputs["x"].shape)
    result = Stream(engine).process(blocks)
    found = result if isinstance(result, dict) else {names[0]: result}
    for port in engine.plan.outputs:
        stream, got = port.stream, found[port.name]
        assert stream is not None
        if stream.axis is None:
            for t in sorted({engine.delay, engine.delay + 1, steps // 2, steps - 1}):
                prefix = clip[:, :, : (t + 1) * engine.frames - stream.delay]
                answer = dict(zip(names, files.run_file(path, {"x": prefix}), strict=True))[port.name]
                np.testing.assert_allclose(got[t].ravel(), answer.ravel(), atol=tolerance)
            continue
        whole = np.moveaxis(expected[port.name], stream.axis, 0)
        rows = got.reshape(-1, *whole.shape[1:])
        assert not rows[: stream.delay].any()
        # what the clip's right padding adds can only be compared where the stream has seen the frames themselves
        valid = rows[stream.delay :][: len(whole)]
        np.testing.assert_allclose(valid, whole[: len(valid)], atol=tolerance)


def test_two_layers_with_a_convolution_ahead_and_a_residual_join(tmp_path: Path) -> None:
    nodes, weights = gru("x", "a", "first")
    more, k = conv("a", "b", "ahead", 3, 1, (1, 1))
    last, w = gru("s", "y", "second")
    nodes += [*more, h.make_node("Add", ["a", "b"], ["s"], name="join"), *last]
    path = clip_model(tmp_path, nodes, {**weights, **k, **w}, {"y": [1, C, "T"]})
    engine = Engine(convert(path))
    assert (engine.delay, engine.frames, engine.receptive_field) == (1, 1, None)
    assert_prefix_law(path, engine, 31)


def deconv(x: str, y: str, name: str, taps: int, pads: tuple[int, int], stride: int) -> tuple[list[Any], Any]:
    weights = {f"{name}K": floats(81, C, C, taps, scale=0.4), f"{name}k": floats(82, C, scale=0.3)}
    attrs = {"pads": list(pads), "strides": [stride]}
    return [h.make_node("ConvTranspose", [x, *weights], [y], name=name, **attrs)], weights


@pytest.mark.parametrize("chunk", [1, 2])
@pytest.mark.parametrize(
    ("taps", "stride", "crop", "pads"),
    [(4, 2, (0, 0), (0, 0)), (5, 2, (2, 1), (2, 2)), (8, 4, (3, 0), (4, 0)), (2, 3, (0, 0), (0, 0)), (3, 3, (1, 1), (0, 0))],
)
def test_a_decoder_behind_a_strided_encoder_gives_a_frame_for_each_frame(
    tmp_path: Path, taps: int, stride: int, crop: tuple[int, int], pads: tuple[int, int], chunk: int
) -> None:
    down, k = conv("x", "a", "down", taps, 1, pads, stride)
    cell, w = gru("a", "b", "cell")
    up, v = deconv("b", "y", "up", taps, crop, stride)
    path = clip_model(tmp_path, [*down, *cell, *up], {**k, **w, **v}, {"y": [1, C, "Y"]})
    engine = Engine(convert(path, lookahead=chunk))
    assert (engine.frames, engine.stride) == (stride * chunk, 1)
    assert_prefix_law(path, engine, 50)


@pytest.mark.parametrize(("mode", "chunk"), [("half_pixel", 1), ("asymmetric", 2)])
def test_frames_repeated_behind_a_strided_encoder_are_frames_again(tmp_path: Path, mode: str, chunk: int) -> None:
    down, k = conv("x", "a", "down", 5, 1, (1, 1), 3)
    cell, w = gru("a", "b", "cell")
    scales = {"scales": np.array([1, 1, 3], np.float32)}
    rounding = {"half_pixel": "round_prefer_floor", "asymmetric": "floor"}[mode]
    up = h.make_node(
        "Resize", ["b", "", "scales"], ["y"], coordinate_transformation_mode=mode, nearest_mode=rounding, name="up"
    )
    path = clip_model(tmp_path, [*down, *cell, up], {**k, **w, **scales}, {"y": [1, C, "Y"]})
    engine = Engine(convert(path, lookahead=chunk))
    assert (engine.frames, engine.stride) == (3 * chunk, 1)
    assert_prefix_law(path, engine, 48)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_stacks_of_convolutions_joins_and_cells_keep_the_prefix_law(tmp_path: Path, data: st.DataObject) -> None:
    nodes: list[Any] = []
    weights: dict[str, Array] = {}
    wires, made = ["x"], 0
    for made in range(data.draw(st.integers(1, 4), label="layers")):
        source, out = data.draw(st.sampled_from(wires)), f"w{made}"
        kind = data.draw(st.sampled_from(["conv", "gru", "join", "tanh"]))
        if kind == "conv":
            taps, dilation = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
            span = (taps - 1) * dilation
            ahead = data.draw(st.integers(0, span))
            new = conv(source, out, f"conv{made}", taps, dilation, (span - ahead, ahead))
        elif kind == "gru":
            new = gru(source, out, f"gru{made}")
        elif kind == "join":
            new = [h.make_node("Add", [source, data.draw(st.sampled_from(wires))], [out], name=f"join{made}")], {}
        else:
            new = [h.make_node("Tanh", [source], [out], name=f"tanh{made}")], {}
        nodes += new[0]
        weights |= new[1]
        wires.append(out)
    path = clip_model(tmp_path, nodes, weights, {wires[-1]: [1, C, "T"]})
    engine = Engine(convert(path, mode="frame", time_axis={"x": 2}))
    assert_prefix_law(path, engine, 24)


@pytest.mark.parametrize(
    ("taps", "dilation", "pads", "stride"), [(4, 1, (3, 0), 2), (4, 1, (0, 0), 2), (3, 2, (2, 2), 2), (5, 1, (2, 2), 4)]
)
def test_a_strided_convolution_takes_several_frames_a_step(
    tmp_path: Path, taps: int, dilation: int, pads: tuple[int, int], stride: int
) -> None:
    nodes, weights = conv("x", "a", "strided", taps, dilation, pads, stride)
    more, w = gru("a", "y", "cell")
    path = clip_model(tmp_path, nodes + more, {**weights, **w}, {"y": [1, C, "F"]})
    engine = Engine(convert(path))
    assert (engine.frames, engine.stride) == (stride, stride)
    assert_prefix_law(path, engine, 12 * stride)
    # several frames a step lie frames first in the user's view of the arena, whatever their order in memory
    stream, frames = Stream(engine), floats(1, stride, C)
    stream.inputs["x"][...] = frames
    np.testing.assert_array_equal(stream.step(), Stream(engine).process(frames[None])[0])


def test_the_last_frame_becomes_the_answer_so_far(tmp_path: Path) -> None:
    nodes, weights = gru("x", "a", "cell")
    more, k = conv("a", "b", "ahead", 3, 1, (1, 1))
    nodes += [*more, h.make_node("Gather", ["b", "last"], ["y"], axis=2, name="pick")]
    path = clip_model(tmp_path, nodes, {**weights, **k, "last": np.array(-1)}, {"y": [1, C]})
    graph = convert(path, mode="frame", time_axis={"x": 2})
    engine = Engine(graph)
    steps = 12
    clip = floats(5, 1, C, steps)
    found = np.asarray(Stream(engine).process(np.ascontiguousarray(clip[0].T)))
    assert engine.delay == 1
    assert not found[0].any()
    whole = files.run_file(
        files.save(
            files.make(nodes[:-1], [("x", F32, [1, C, "T"])], [("b", F32, [1, C, "T"])], {**weights, **k}),
            tmp_path,
            "whole.onnx",
        ),
        {"x": clip},
    )[0]
    # one frame of look-ahead: after t + 1 frames the newest complete one is t - 1
    np.testing.assert_allclose(found[1:], whole[0].T[: steps - 1], atol=2e-5)


def test_outputs_of_unequal_delay_leave_together(tmp_path: Path) -> None:
    nodes, weights = gru("x", "early", "cell")
    more, k = conv("early", "late", "ahead", 3, 2, (2, 2))
    path = clip_model(tmp_path, nodes + more, {**weights, **k}, {"early": [1, C, "T"], "late": [1, C, "T"]})
    engine = Engine(convert(path))
    assert [info.delay for info in engine.outputs.values()] == [2, 2]
    assert list(engine.outputs) == ["early", "late"]
    assert_prefix_law(path, engine, 20)


def test_a_shift_made_of_pad_and_slice_is_causal(tmp_path: Path) -> None:
    """The one-step-ahead error of a forecaster: x[t] - forecast[t - 1]."""
    nodes, weights = gru("x", "forecast", "cell")
    bounds = {"pads": np.array([0, 0, 1, 0, 0, 0]), "from": np.array([0]), "to": np.array([-1]), "axis": np.array([2])}
    nodes += [
        h.make_node("Pad", ["forecast", "pads"], ["padded"], name="pad"),
        h.make_node("Slice", ["padded", "from", "to", "axis"], ["before"], name="cut"),
        h.make_node("Sub", ["x", "before"], ["error"], name="error"),
    ]
    path = clip_model(tmp_path, nodes, {**weights, **bounds}, {"forecast": [1, C, "T"], "error": [1, C, "T"]})
    engine = Engine(convert(path))
    assert engine.delay == 0
    assert_prefix_law(path, engine, 15)


@pytest.mark.parametrize(("fill", "delay"), [(0.0, 0), (-1.5, 2)])
def test_constant_frames_joined_in_front_are_the_history_of_a_convolution(tmp_path: Path, fill: float, delay: int) -> None:
    """The cache of a causal convolution, written as a Concat. Zeros become its padding; other frames go first and take time."""
    nodes, k = conv("joined", "c", "causal", 3, 1, (0, 0))
    nodes.insert(0, h.make_node("Concat", ["past", "x"], ["joined"], axis=2))
    more, weights = gru("c", "y", "cell")
    past = np.full((1, C, 2), fill, np.float32)
    path = clip_model(tmp_path, nodes + more, {**k, **weights, "past": past}, {"y": [1, C, "T"]})
    engine = Engine(convert(path))
    assert (engine.meta["mode"], engine.delay) == ("frame", delay)
    assert_prefix_law(path, engine, 30)


def bidirectional(folder: Path) -> Path:
    weights = {
        "W": floats(1, 2, 3 * C, C),
        "R": floats(2, 2, 3 * C, C, scale=0.4),
        "B": floats(3, 2, 6 * C),
        "s": np.array([0, 0, -1]),
    }
    nodes = [
        h.make_node("Transpose", ["x"], ["xt"], perm=[2, 0, 1], name="in"),
        h.make_node("GRU", ["xt", "W", "R", "B"], ["a"], hidden_size=C, direction="bidirectional", name="both"),
        h.make_node("Transpose", ["a"], ["at"], perm=[0, 2, 1, 3], name="move"),
        h.make_node("Reshape", ["at", "s"], ["y"], name="join"),
    ]
    return files.save(files.make(nodes, [("x", F32, [1, C, "T"])], [("y", F32, ["T", 1, 2 * C])], weights), folder)


def test_bidirectional_over_time_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = bidirectional(tmp_path)
    with pytest.raises(NotStreamableError, match=r"'both' \(GRU\).*--lookahead"):
        convert(path, mode="frame")


@pytest.mark.parametrize("chunk", [2, 5, 8])
def test_bounded_lookahead_restarts_the_backward_pass_at_each_chunks_end(tmp_path: Path, chunk: int) -> None:
    path = bidirectional(tmp_path)
    engine = Engine(convert(path, mode="frame", lookahead=chunk))
    assert engine.frames == chunk
    assert engine.latency == chunk - 1
    clip = floats(4, 1, C, 5 * chunk)
    found = np.asarray(Stream(engine).process(np.ascontiguousarray(clip[0].T).reshape(5, chunk, C)))
    for k in range(5):
        # at the end of chunk k a clip of k + 1 chunks ends, and so starts its backward pass
        whole = files.run_file(path, {"x": clip[:, :, : (k + 1) * chunk]})[0]
        np.testing.assert_allclose(found[k].reshape(chunk, -1), whole[-chunk:].reshape(chunk, -1), atol=2e-5)


def test_what_sums_over_time_is_refused_and_auto_mode_says_why(tmp_path: Path) -> None:
    nodes, weights = gru("x", "a", "cell")
    nodes.append(h.make_node("GlobalAveragePool", ["a"], ["y"], name="pool"))
    model = files.make(nodes, [("x", F32, [1, C, 16])], [("y", F32, [1, C, 1])], weights)
    path = files.save(model, tmp_path)
    with pytest.raises(NotStreamableError, match="'pool'"):
        convert(path, mode="frame", time_axis={"x": 2})
    graph = convert(path)
    assert graph.meta["mode"] == "window"
    assert "pool" in str(graph.meta["mode_reason"])


def test_a_step_that_depends_on_the_length_of_the_clip_is_refused(tmp_path: Path) -> None:
    nodes, weights = gru("x", "a", "cell")
    nodes += [
        h.make_node("Shape", ["x"], ["shape"], start=2, end=3, name="shape"),
        h.make_node("Cast", ["shape"], ["length"], to=F32, name="cast"),
        h.make_node("Div", ["a", "length"], ["y"], name="mean"),
    ]
    path = clip_model(tmp_path, nodes, weights, {"y": [1, C, "T"]})
    with pytest.raises(NotStreamableError, match="length of the clip"):
        convert(path, mode="frame", time_axis={"x": 2})


def test_a_state_that_is_written_once_a_call_keeps_frame_mode_away(tmp_path: Path) -> None:
    """The state is the mean over the clip's frames: its law is one update a call, not one a frame."""
    nodes, weights = gru("x", "a", "cell")
    nodes += [
        h.make_node("Slice", ["a", "from", "to", "axis"], ["last"], name="last"),
        h.make_node("Add", ["last", "memory_in"], ["memory_out"], name="update"),
    ]
    bounds = {"from": np.array([-1]), "to": np.array([2**31]), "axis": np.array([2])}
    inputs = [("x", F32, [1, C, "T"]), ("memory_in", F32, [1, C, 1])]
    outputs = [("a", F32, [1, C, "T"]), ("memory_out", F32, [1, C, 1])]
    path = files.save(files.make(nodes, inputs, outputs, {**weights, **bounds}), tmp_path)
    with pytest.raises(NotStreamableError, match="'memory_in' is not the state of a recurrent op"):
        convert(path, mode="frame", time_axis={"x": 2})


def started_gru(folder: Path, outputs: tuple[str, ...], y: str = "y") -> Path:
    """x -> Conv that looks one frame ahead -> GRU that remembers -> GRU that begins with the input h0 -> y, hn."""
    nodes, weights = conv("x", "a", "ahead", 3, 1, (1, 1))
    first, w = gru("a", "b", "first")
    second, v = gru("b", y, "second")
    second[1].input.extend(["", "h0"])
    second[1].output.append("hn")
    typed = [("x", F32, [1, C, "T"]), ("h0", F32, [1, 1, C])]
    shapes = {"y": [1, C, "T"], "hn": [1, 1, C]}
    model = files.make([*nodes, *first, *second], typed, [(n, F32, shapes[n]) for n in outputs], {**weights, **w, **v})
    return files.save(model, folder)


def test_filler_does_not_reach_a_state_of_the_file(tmp_path: Path) -> None:
    path = started_gru(tmp_path, ("y", "hn"))
    engine = Engine(convert(path, mode="frame"))
    assert "h0" in {state.name for state in engine.graph.states}
    clip = floats(5, 1, C, 20)
    found = np.asarray(Stream(engine).process(np.ascontiguousarray(clip[0].T)))
    expected, _ = files.run_file(path, {"x": clip, "h0": np.zeros((1, 1, C), np.float32)})
    np.testing.assert_allclose(found[1:], expected[0].T[:-1], rtol=1e-5, atol=1e-5)


def test_a_cell_that_begins_with_an_input_that_is_no_state_would_begin_anew_at_every_step(tmp_path: Path) -> None:
    with pytest.raises(NotStreamableError, match=r"'second' \(GRU\): it begins with 'h0', which is no state of the file"):
        convert(started_gru(tmp_path, ("y",)), mode="frame")
