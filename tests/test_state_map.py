"""The state map: every pair with its evidence, every doubt an error that lists the candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_files as files
import pytest
from contract import floats
from onnx import helper as h
from onnx_files import F32, I64
from streamrnn_converters import convert
from streamrnn_converters.onnx.state_map import stem

from streamrnn import Engine, StatePairError, Stream

H = 4
STATE = [1, 1, H]


def lstm_step(folder: Path, state_in: tuple[str, str], state_out: tuple[str, str], packed: str = "") -> Path:
    """x, h, c -> y and the new h and c, apart or packed as [2, 1, H] (c first, so that order alone would be wrong)."""
    weights = {"W": floats(1, 1, 4 * H, 3), "R": floats(2, 1, 4 * H, H), "B": floats(3, 1, 8 * H)}
    nodes = [
        h.make_node("LSTM", ["x", *weights, "", *state_in], ["", *state_out], hidden_size=H, name="cell"),
        h.make_node("Tanh", [state_out[0]], ["y"], name="tanh"),
    ]
    outputs: list[Any] = [("y", F32, STATE)]
    if packed:
        nodes.append(h.make_node("Concat", [state_out[1], state_out[0]], [packed], axis=0, name="pack"))
        outputs.append((packed, F32, [2, 1, H]))
    else:
        outputs += [(name, F32, STATE) for name in state_out]
    inputs = [("x", F32, [1, 1, 3]), *((name, F32, STATE) for name in state_in)]
    return files.save(files.make(nodes, inputs, outputs, weights), folder)


def pairs(path: Path, **options: Any) -> dict[str, tuple[str, str]]:
    rows = convert(path, **options).meta["pairs"]
    assert isinstance(rows, list)
    return {source: (target, evidence) for source, target, evidence in rows}


def test_states_of_a_cell_are_traced_whatever_they_are_called(tmp_path: Path) -> None:
    path = lstm_step(tmp_path, ("12", "34"), ("out_a", "out_b"))
    assert pairs(path) == {"12": ("out_a", "traced"), "34": ("out_b", "traced")}


def test_states_packed_into_one_output_are_traced_to_their_rows(tmp_path: Path) -> None:
    path = lstm_step(tmp_path, ("h", "c"), ("hy", "cy"), packed="states")
    assert pairs(path) == {"h": ("states[1:2]", "traced"), "c": ("states[0:1]", "traced")}
    engine = Engine(convert(path))
    stream, state = Stream(engine), {"h": np.zeros(STATE, np.float32), "c": np.zeros(STATE, np.float32)}
    for t in range(6):
        x = floats(t, 1, 1, 3)
        y, states = files.run_file(path, {"x": x, **state})
        np.testing.assert_allclose(np.ravel(stream.step(x.reshape(1, 3))), y.ravel(), atol=1e-6)
        state = {"h": states[1:2], "c": states[0:1]}


def decomposed(folder: Path, names: dict[str, str], size: int = 5) -> Path:
    """States that no recurrent op touches: each new state is tanh(old + x)."""
    nodes, inputs, outputs = [], [("x", F32, [1, size])], [("y", F32, [1, size])]
    for source, target in names.items():
        nodes += [
            h.make_node("Add", ["x", source], [f"{source}_sum"], name=f"add_{source}"),
            h.make_node("Tanh", [f"{source}_sum"], [target], name=f"tanh_{source}"),
        ]
        inputs.append((source, F32, [1, size]))
        outputs.append((target, F32, [1, size]))
    nodes.append(h.make_node("Sum", list(names.values()), ["y"], name="sum"))
    return files.save(files.make(nodes, inputs, outputs), folder)


@pytest.mark.parametrize(
    "names",
    [
        {"state": "stateN"},
        {"h0": "hn", "c0": "cn"},
        {"cache_in_0": "cache_out_0", "cache_in_3": "cache_out_3"},
        {"recurrent_in": "recurrent_out"},
        {"a": "a_out", "b": "b_out"},
        {"hidden.1": "hidden"},
        {"h": "h2", "c": "c2"},
        {"aa": "aa_o", "bb": "bb_o", "pp": "pp_o"},
        {"h": "hidden_h", "c": "hidden_c"},
    ],
    ids=str,
)
def test_names_pair_what_cannot_be_traced(tmp_path: Path, names: dict[str, str]) -> None:
    assert pairs(decomposed(tmp_path, names)) == {source: (target, "name") for source, target in names.items()}


@pytest.mark.parametrize(
    ("one", "other"), [("state", "stateN"), ("h", "hn"), ("X", "X_out"), ("prev_h", "next_h"), ("h0", "h_n")]
)
def test_a_stem_leaves_out_what_tells_before_from_after(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(("one", "other"), [("h", "c"), ("cache_in_1", "cache_out_2"), ("audio", "state"), ("hn", "cn")])
def test_a_stem_keeps_what_tells_states_apart(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_first_input_and_first_output_are_data_although_their_names_pair(tmp_path: Path) -> None:
    nodes = [
        h.make_node("Add", ["spec_in", "cache_in"], ["cache_out"], name="add"),
        h.make_node("Tanh", ["cache_out"], ["spec_out"], name="tanh"),
    ]
    typed = [[(f"{n}_{way}", F32, [1, 5]) for n in ("spec", "cache")] for way in ("in", "out")]
    path = files.save(files.make(nodes, *typed), tmp_path)
    assert pairs(path) == {"cache_in": ("cache_out", "name")}


def test_one_input_and_one_output_of_a_type_pair_by_shape(tmp_path: Path) -> None:
    assert pairs(decomposed(tmp_path, {"input_5": "stack_9"})) == {"input_5": ("stack_9", "shape")}


def test_an_ambiguous_pair_is_an_error_that_lists_the_candidates(tmp_path: Path) -> None:
    path = decomposed(tmp_path, {"p": "17", "q": "18"})
    with pytest.raises(StatePairError, match=r"p float32\[1, 5\]: 17 or 18") as error:
        convert(path)
    assert "--pair p=17" in str(error.value)
    assert pairs(path, pair={"p": "17", "q": "18"}) == {"p": ("17", "given"), "q": ("18", "given")}
    # one given pair leaves one possibility for the rest
    assert pairs(path, pair={"p": "18"}) == {"p": ("18", "given"), "q": ("17", "shape")}


def test_endings_that_make_two_state_maps_are_ambiguous(tmp_path: Path) -> None:
    """h and c may take h1 and c1 or h2 and c2."""
    nodes = [h.make_node("Sum", ["x", "h", "c"], ["y"], name="sum")]
    nodes += [h.make_node(op, [s], [f"{s}{n}"], name=f"{s}{n}") for s in "hc" for n, op in enumerate(("Tanh", "Exp"), 1)]
    typed = [[(n, F32, [1, 5]) for n in names] for names in (("x", "h", "c"), ("y", "h1", "c1", "h2", "c2"))]
    path = files.save(files.make(nodes, *typed), tmp_path)
    with pytest.raises(StatePairError, match=r"h float32\[1, 5\]: h1 or c1 or h2 or c2"):
        convert(path)


def test_an_input_can_be_said_to_be_no_state(tmp_path: Path) -> None:
    graph = convert(decomposed(tmp_path, {"knob": "17"}), mode="window", pair={"knob": ""})
    assert graph.inputs == ("x", "knob")
    assert graph.states == ()


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ({"nothing": "hn"}, "no input 'nothing'"),
        ({"h0": "nothing"}, "no output 'nothing'"),
        ({"h0": "hn[0:3]"}, "rows 0:3"),
        ({"x": "cn"}, "x=cn"),
    ],
)
def test_a_given_pair_that_does_not_fit_is_refused(tmp_path: Path, pair: dict[str, str], words: str) -> None:
    path = lstm_step(tmp_path, ("h0", "c0"), ("hn", "cn"))
    with pytest.raises(StatePairError, match=words):
        convert(path, pair=pair)


def test_a_pair_of_an_input_that_no_output_needs_says_so(tmp_path: Path) -> None:
    path = decomposed(tmp_path, {"h": "hn"})
    proto = onnx.load(path)
    proto.graph.input.append(h.make_tensor_value_info("idle", F32, [1, 5]))
    onnx.save(proto, path)
    with pytest.raises(StatePairError, match=r"--pair idle=y: no output needs input 'idle'.*leave the option out"):
        convert(path, pair={"idle": "y"})


def test_jordan_network_feeds_its_output_back_as_a_step_model(tmp_path: Path) -> None:
    """Jordan 1986: the hidden layer sees the input and the previous *output*."""
    weights = {"W": floats(1, 3, 8), "U": floats(2, 2, 8), "V": floats(3, 8, 2), "b": floats(4, 8)}
    nodes = [
        h.make_node("MatMul", ["x", "W"], ["wx"], name="in"),
        h.make_node("Gemm", ["y_prev", "U", "b"], ["uy"], name="feedback"),
        h.make_node("Add", ["wx", "uy"], ["sum"], name="sum"),
        h.make_node("Sigmoid", ["sum"], ["hidden"], name="hidden"),
        h.make_node("MatMul", ["hidden", "V"], ["y"], name="out"),
        h.make_node("Identity", ["y"], ["y_next"], name="copy"),
    ]
    inputs = [("x", F32, [1, 3]), ("y_prev", F32, [1, 2])]
    path = files.save(files.make(nodes, inputs, [("y", F32, [1, 2]), ("y_next", F32, [1, 2])], weights), tmp_path)
    assert pairs(path) == {"y_prev": ("y_next", "name")}
    stream, y = Stream(Engine(convert(path))), np.zeros((1, 2), np.float32)
    for t in range(20):
        x = floats(t, 1, 3)
        y = files.run_file(path, {"x": x, "y_prev": y})[0]
        np.testing.assert_allclose(np.ravel(stream.step(x[0])), y[0], atol=1e-5)


def test_elman_network_as_a_step_model_and_as_a_sequence_agree(tmp_path: Path) -> None:
    """Elman 1990: the hidden layer sees the input and its own previous value."""
    weights = {"W": floats(1, 1, 6, 3), "R": floats(2, 1, 6, 6, scale=0.3), "B": floats(3, 1, 12)}
    step = [h.make_node("RNN", ["x", *weights, "", "context"], ["", "context_out"], hidden_size=6, name="cell")]
    step.append(h.make_node("Relu", ["context_out"], ["y"], name="y"))
    shape = [1, 1, 6]
    path = files.save(
        files.make(
            step, [("x", F32, [1, 1, 3]), ("context", F32, shape)], [("y", F32, shape), ("context_out", F32, shape)], weights
        ),
        tmp_path,
    )
    whole = [
        h.make_node("RNN", ["x", *weights], ["all"], hidden_size=6, name="cell"),
        h.make_node("Relu", ["all"], ["y"], name="y"),
    ]
    clip = files.save(
        files.make(whole, [("x", F32, ["T", 1, 3])], [("y", F32, ["T", 1, 1, 6])], weights), tmp_path, "clip.onnx"
    )
    X = floats(9, 30, 3)
    one = np.asarray(Stream(Engine(convert(path))).process(X.reshape(30, 1, 3)))
    two = np.asarray(Stream(Engine(convert(clip))).process(X))
    np.testing.assert_array_equal(one.ravel(), two.ravel())
    np.testing.assert_allclose(one.ravel(), files.run_file(clip, {"x": X[:, None]})[0].ravel(), atol=1e-6)


@pytest.mark.parametrize("op", ["ScatterND", "ScatterElements"])
def test_where_elements_go_at_run_time_they_are_not_followed(tmp_path: Path, op: str) -> None:
    """A cache that is written at a place given with each call: paired by name, for lack of a trace."""
    places = [1, 1] if op == "ScatterND" else [1, 2]
    nodes = [h.make_node(op, ["cache", "at", "x"], ["cache_out"]), h.make_node("ReduceSum", ["cache_out"], ["y"], keepdims=0)]
    inputs = [("x", F32, [1, 2]), ("cache", F32, [5, 2]), ("at", I64, places)]
    path = files.save(files.make(nodes, inputs, [("y", F32, []), ("cache_out", F32, [5, 2])]), tmp_path)
    graph = convert(path)
    assert {s.name: s.evidence for s in graph.states} == {"cache": "name"}
    engine = Engine(graph)
    stream = Stream(engine)
    for t in range(4):
        at = np.full(engine.inputs["at"].shape, t)
        total = stream.step({"x": np.ones(engine.inputs["x"].shape, np.float32), "at": at})
        assert total == 2 * (t + 1)
