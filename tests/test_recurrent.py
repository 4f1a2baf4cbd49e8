"""What LSTM, GRU and RNN share: checks on a node, sequence_lens from outside, the backward pass within a chunk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contract import Case, close, floats
from recurrent import GATES, H0, LENS, cell, fed, given, lens, state
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, Stream
from streamrnn.errors import NotStreamableError, ShapeError, UnsupportedError
from streamrnn.ir.graph import Array, Stage
from streamrnn.ir.verify import verify

OPS = sorted(GATES)
ACTIVATIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}


def outputs(case: Case) -> dict[str, Array]:
    """One step over the whole clip."""
    engine = case.engine
    live = {n: a for k, n in enumerate(case.names) if case.fed(k) and (a := case.inputs[k]) is not None}
    found = Stream(engine).step({n: a.reshape(engine.inputs[n].shape) for n, a in live.items()})
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("attrs", "error", "text"),
    [
        ({"direction": "sideways"}, UnsupportedError, "direction 'sideways' is not one of"),
        ({"direction": "bidirectional"}, ShapeError, "should be"),
        ({"clip": -1.0}, ShapeError, "clip -1.0 is not positive"),
        ({"clip": 0.0}, ShapeError, "clip 0.0 is not positive"),
        ({"clip": float("nan")}, ShapeError, "clip nan is not positive"),
        ({"hidden_size": 5}, ShapeError, "hidden_size 5"),
        ({"layout": 1}, UnsupportedError, "layout 1"),
    ],
)
def test_a_node_that_makes_no_sense_is_refused_by_name(
    op: str, attrs: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"node 'node'.*{text}"):
        cell(op, 4, 2, 3, **attrs).site()


@pytest.mark.parametrize("op", OPS)
def test_an_unknown_activation_is_refused(op: str) -> None:
    with pytest.raises(UnsupportedError, match=r"activation 'Gelu' is not one of .*'Sigmoid'"):
        cell(op, 4, 2, 3, activations=("Gelu",) * ACTIVATIONS[op]).site()


@pytest.mark.parametrize("op", OPS)
def test_each_direction_needs_its_own_activations(op: str) -> None:
    count = ACTIVATIONS[op]
    with pytest.raises(ShapeError, match=f"are not {count} names for each of 2 directions"):
        cell(op, 4, 2, 3, D=2, direction="bidirectional", activations=("Tanh",) * count).site()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [("B", (1, 7), "B"), ("h", (1, 2, 3), "initial state"), ("lens", (2,), "sequence_lens")],
)
def test_an_input_of_the_wrong_shape_is_refused(op: str, name: str, shape: tuple[int, ...], text: str) -> None:
    dtype = np.int32 if name == "lens" else np.float32
    with pytest.raises(ShapeError, match=rf"node 'node' \({op}\): {text}.*should be"):
        given(cell(op, 4, 2, 3), **{name: np.zeros(shape, dtype)}).site()


@pytest.mark.parametrize("op", OPS)
def test_double_precision_is_refused_when_it_is_compiled(op: str) -> None:
    case = cell(op, 4, 2, 3)
    wide = replace(case, inputs=tuple(None if a is None else a.astype(np.float64) for a in case.inputs))
    with pytest.raises(UnsupportedError, match="input 0 is float64; only float32 is supported, export the model in float32"):
        _ = wide.engine


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_sequence_lens_from_outside_cannot_reach_beyond_the_clip(op: str, direction: str) -> None:
    case = fed(given(cell(op, 5, 3, 4, batch=2, direction=direction), lens=lens(5, 0), h=state(5, 4, 2)), LENS)
    far = replace(case, inputs=given(case, lens=lens(2**31 - 1, -(2**31))).inputs)
    for name, near in outputs(case).items():
        np.testing.assert_array_equal(outputs(far)[name], near)


@pytest.mark.parametrize("op", OPS)
def test_a_cell_that_an_ordinary_input_would_begin_anew_at_every_step_is_refused(op: str) -> None:
    case = replace(given(cell(op, 6, 3, 4), h=state(5, 4)), live=(0, H0))
    with pytest.raises(NotStreamableError, match="no state of the file"):
        _ = case.step_graph


@pytest.mark.parametrize("op", OPS)
def test_initial_states_that_differ_along_time_are_refused(op: str) -> None:
    case = replace(given(cell(op, 3, 2, 4, batch=6), h=state(5, 4, 6)), time={0: 1})
    with pytest.raises(NotStreamableError, match="differs from frame to frame"):
        _ = case.step_graph


@pytest.mark.parametrize("op", OPS)
def test_a_backward_pass_with_look_ahead_starts_anew_in_every_chunk(op: str) -> None:
    chunk, case = 4, replace(cell(op, 12, 3, 5, direction="reverse"), outputs=1)
    engine = Engine(align(streamify(verify(case.graph(Stage.SEQUENCE)), {case.names[0]: 0}, chunk)))
    clip = case.inputs[0]
    assert clip is not None
    found = Stream(engine).process(clip.reshape(3, *engine.inputs[case.names[0]].shape))
    assert isinstance(found, np.ndarray)
    for i, part in enumerate(np.split(clip, 3)):
        expected = case.run_reference((part, *case.inputs[1:]))[0]
        close(found[i].reshape(expected.shape), expected, case.impl, f"chunk {i}")


@pytest.mark.parametrize("op", OPS)
def test_lanes_behind_the_last_unit_never_reach_the_state_of_the_next_entry(op: str) -> None:
    alone = cell(op, 6, 3, 17)
    x = alone.inputs[0]
    assert x is not None
    both = replace(alone, inputs=(np.concatenate([x, floats(9, 6, 1, 3)], 1), *alone.inputs[1:]))
    pair, single = (outputs(case)["o0"].reshape(6, -1, 17) for case in (both, alone))
    np.testing.assert_array_equal(pair[:, :1], single)
