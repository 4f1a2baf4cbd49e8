"""A Scan or Loop over the frames that is nothing but a recurrent cell becomes an LSTM, GRU or RNN where that pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cell_files import FORMS, GATES, Way, Writer, over_frames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_files import F32, noise, ops, run_file, run_graph, save
from streamrnn_converters import convert
from streamrnn_converters.passes.cells import MIN_WORK
from streamrnn_converters.validate import validate
from typer.testing import CliRunner

from streamrnn import Engine, NotStreamableError, Stream
from streamrnn.cli import app
from streamrnn.ir.graph import Graph

FRAMES = 50
BACKWARDS = {"scan_input_directions": [1], "scan_output_directions": [1]}
#: (inputs, hidden units) with which it pays, and with which it does not
LARGE = {"LSTM": (44, 48), "GRU": (72, 40), "RNN": (96, 96)}
SMALL = (3, 5)


def stages(path: Path, **options: Any) -> dict[str, Graph]:
    found: dict[str, Graph] = {}
    found["final"] = convert(path, dump=found.__setitem__, **options)
    return found


def is_recognised(graph: Graph, op: str) -> bool:
    assert (op in ops(graph)) != ("Scan" in ops(graph))
    return op in ops(graph)


# -- forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Scan", "Loop"])
@pytest.mark.parametrize("way", FORMS.values(), ids=FORMS)
def test_every_form_of_a_cell_becomes_the_op_and_gives_what_onnxruntime_gives(tmp_path: Path, way: Way, kind: str) -> None:
    n_in, hidden = LARGE[way.op]
    path = save(over_frames(Writer(way, n_in, hidden), FRAMES, kind=kind), tmp_path)
    graph = convert(path, mode="window")
    assert is_recognised(graph, way.op)
    x = noise(1, FRAMES, 1, n_in)
    found = Stream(Engine(graph)).step(x)
    np.testing.assert_allclose(found, run_file(path, {"x_all": x})[0], rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("rows", [None, 1, 3])
@pytest.mark.parametrize("op", GATES)
def test_a_batch_and_its_absence_are_kept(tmp_path: Path, op: str, rows: int | None) -> None:
    path = save(over_frames(Writer(Way(op, product="matmul", after=False), *LARGE[op]), 9, rows=rows), tmp_path)
    graph = convert(path, mode="window")
    assert is_recognised(graph, op)
    assert validate(path, Engine(graph), steps=4).passed


def test_a_factor_for_each_sum_goes_into_the_weights(tmp_path: Path) -> None:
    cell = Writer(LSTM, *LARGE["LSTM"])
    cell.constant("factors", noise(8, 4 * cell.hidden))
    split = next(n.name for n in cell.nodes if n.op_type == "Split")
    before(cell, split, "Mul", "s_ifgoh factors", "scaled")
    rename(cell, "s_ifgoh", "scaled", split)
    path = save(over_frames(cell, 9), tmp_path)
    graph = convert(path, mode="window")
    assert is_recognised(graph, "LSTM")
    assert validate(path, Engine(graph), steps=4).passed


@pytest.mark.parametrize("rows", [None, 1, 2])
@pytest.mark.parametrize(("op", "kinds"), [("LSTM", ["hidden", "cell"]), ("GRU", ["hidden"])])
def test_states_of_the_file_go_round_in_the_op(tmp_path: Path, op: str, kinds: list[str], rows: int | None) -> None:
    model = over_frames(Writer(Way(op, product="matmul", after=False), *LARGE[op]), 9, rows=rows)
    shape = [*(() if rows is None else (rows,)), LARGE[op][1]]
    for initial in model.graph.initializer:
        name = initial.name[0]
        model.graph.input.append(onnx.helper.make_tensor_value_info(initial.name, F32, shape))
        model.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}_end", F32, shape))
    del model.graph.initializer[:]
    path = save(model, tmp_path)
    graph = convert(path, mode="window")
    assert is_recognised(graph, op)
    assert [(state.kind, state.evidence) for state in graph.states] == [(kind, "traced") for kind in kinds]
    assert validate(path, Engine(graph), steps=6).passed


def test_a_bounded_look_ahead_runs_the_op_over_the_frames_of_a_step(tmp_path: Path) -> None:
    path = save(over_frames(Writer(FORMS["torch LSTMCell"], *LARGE["LSTM"])), tmp_path)
    engine = Engine(convert(path, mode="frame", lookahead=4))
    assert is_recognised(engine.graph, "LSTM")
    assert [state.kind for state in engine.graph.states] == ["hidden", "cell"]
    assert validate(path, engine, steps=12).passed


@pytest.mark.parametrize("op", GATES)
def test_a_cell_that_runs_backwards_runs_with_a_look_ahead(tmp_path: Path, op: str) -> None:
    """The Scan has no rule for chunks of a clip, the op has one, whatever its size."""
    path = save(over_frames(Writer(Way(op), *SMALL), **BACKWARDS), tmp_path)
    with pytest.raises(NotStreamableError, match="--lookahead"):
        convert(path, mode="frame", time_axis={"x_all": 0})
    engine = Engine(convert(path, mode="frame", lookahead=4, time_axis={"x_all": 0}))
    assert is_recognised(engine.graph, op)
    x = noise(2, 8, 1, SMALL[0])
    found = Stream(engine).process(x.reshape(2, 4, SMALL[0]))
    chunks = [run_file(path, {"x_all": chunk})[0] for chunk in (x[:4], x[4:])]
    np.testing.assert_allclose(np.reshape(found, (8, 1, SMALL[1])), np.concatenate(chunks), rtol=2e-5, atol=5e-6)


# -- where it does not pay --------------------------------------------------------------------------------------------


def test_a_cell_with_few_weights_stays_a_scan(tmp_path: Path) -> None:
    n_in, hidden = LARGE["LSTM"]
    assert 4 * n_in * hidden >= MIN_WORK
    for size, expected in ((n_in, True), (MIN_WORK // (4 * hidden) - 1, False)):
        path = save(over_frames(Writer(FORMS["Keras LSTMCell"], size, hidden), 9), tmp_path)
        assert is_recognised(convert(path, mode="window"), "LSTM") == expected


@pytest.mark.parametrize(("op", "kinds"), [("LSTM", ["hidden", "cell"]), ("GRU", ["hidden"]), ("RNN", ["hidden"])])
def test_one_frame_a_step_stays_a_scan_whose_states_have_their_kinds(tmp_path: Path, op: str, kinds: list[str]) -> None:
    path = save(over_frames(Writer(Way(op), *LARGE[op])), tmp_path)
    graph = convert(path)
    assert graph.meta["mode"] == "frame"
    assert not is_recognised(graph, op)
    assert [state.kind for state in graph.states] == kinds


# -- near misses ----------------------------------------------------------------------------------------------------


def rename(model: Writer, old: str, new: str, *users: str) -> None:
    """Let the nodes `users` (all without any) read `new` in place of `old`."""
    for n in model.nodes:
        if not users or n.name in users:
            n.input[:] = [new if name == old else name for name in n.input]


def replaced(model: Writer, name: str, op: str, inputs: str, **attrs: Any) -> None:
    """Another node under the name of one."""
    at = next(k for k, n in enumerate(model.nodes) if n.name == name)
    model.nodes[at] = onnx.helper.make_node(op, inputs.split(), [name], name=name, **attrs)


def before(model: Writer, user: str, op: str, inputs: str, output: str) -> None:
    """A node in front of `user`."""
    at = next(k for k, n in enumerate(model.nodes) if n.name == user)
    model.nodes.insert(at, onnx.helper.make_node(op, inputs.split(), [output], name=output))


def extra_activation(m: Writer) -> None:
    m.nodes[-1].output[0] = m.nodes[-1].name = "h1_raw"
    m.add("Tanh", "h1_raw", "h1")


def activated_state(m: Writer) -> None:
    before(m, m.nodes[0].name, "Tanh", "h", "ht")
    rename(m, "h", "ht", "mh_ifgoh", "mh_zrn", "mh", "mh_hh")


def bias_of_x(m: Writer) -> None:
    before(m, "gate_i", "Mul", "x x", "xx")
    before(m, "gate_i", "Add", "s_ifgoh_i xx", "i_more")
    rename(m, "s_ifgoh_i", "i_more", "gate_i")


def peephole(sign: str) -> Callable[[Writer], object]:
    def change(m: Writer) -> None:
        m.constant("p", np.full(m.hidden, 0.5, np.float32))
        before(m, "gate_f", "Mul", "p c", "pc")
        before(m, "gate_f", sign, "s_ifgoh_f pc", "f_more")
        rename(m, "s_ifgoh_f", "f_more", "gate_f")

    return change


def bottleneck(m: Writer) -> None:
    m.constant("low", noise(5, m.hidden, m.hidden))
    before(m, "mh_ifgoh", "MatMul", "h low", "hl")
    rename(m, "h", "hl", "mh_ifgoh")


def fed_weights(m: Writer) -> None:
    """A product of two computed values."""
    before(m, "gate_i", "Mul", "s_ifgoh_i h", "i_more")
    rename(m, "s_ifgoh_i", "i_more", "gate_i")


def jordan(m: Writer) -> None:
    """What goes round is a product of the hidden units."""
    m.constant("V", noise(6, m.hidden, m.hidden))
    m.nodes[-1].output[0] = m.nodes[-1].name = "units"
    m.add("MatMul", "units V", "h1")


def reset_of_x(m: Writer) -> None:
    replaced(m, "rh", "Mul", "gate_r gx_n")
    replaced(m, "n_sum", "Add", "gh_n rh")


def interleaved(m: Writer) -> None:
    """Every fourth sum belongs to one gate."""
    m.nodes[:] = [n for n in m.nodes if n.op_type != "Split"]
    for name, value in {"end": 4 * m.hidden, "axis": 1, "step": 4}.items():
        m.constant(name, np.array([value]))
    for k, gate in enumerate("ogfi"):
        m.constant(f"from{k}", np.array([k]))
        before(m, "gate_i", "Slice", f"s_ifgoh from{k} end axis step", f"s_ifgoh_{gate}")


LSTM, GRU, RNN = FORMS["Keras LSTMCell"], FORMS["Keras GRUCell, reset_after"], Way("RNN", product="matmul")
MISSES: dict[str, tuple[Way, Callable[[Writer], object]]] = {
    "an activation too many": (LSTM, extra_activation),
    "an activation too many, GRU": (GRU, extra_activation),
    "an activation too many, RNN": (RNN, extra_activation),
    "an activation of the state": (LSTM, activated_state),
    "an activation of the state, GRU": (GRU, activated_state),
    "an activation of the state, RNN": (RNN, activated_state),
    "an activation too few": (LSTM, lambda m: replaced(m, "h1", "Mul", "gate_o c1")),
    "a bias that depends on x": (LSTM, bias_of_x),
    "a peephole": (LSTM, peephole("Add")),
    "a peephole of the other sign": (LSTM, peephole("Sub")),
    "a bottleneck": (LSTM, bottleneck),
    "a gate that h multiplies": (LSTM, fed_weights),
    "an output gate of its own kind": (LSTM, lambda m: replaced(m, "gate_o", "HardSigmoid", "s_ifgoh_o")),
    "a forget gate of its own kind": (LSTM, lambda m: replaced(m, "gate_f", "HardSigmoid", "s_ifgoh_f")),
    "an input gate of its own kind": (LSTM, lambda m: replaced(m, "gate_i", "HardSigmoid", "s_ifgoh_i")),
    "gates of two kinds, GRU": (GRU, lambda m: replaced(m, "gate_r", "HardSigmoid", "s_r")),
    "h in the place of c": (LSTM, lambda m: rename(m, "c", "h", "fc")),
    "a difference": (LSTM, lambda m: replaced(m, "c1", "Sub", "fc ig")),
    "the old c behind the output gate": (LSTM, lambda m: replaced(m, "c1_act", "Tanh", "c")),
    "a gate for the result and another for the state": (GRU, lambda m: rename(m, "gate_z", "gate_r", "kept")),
    "a gate that adds to one": (GRU, lambda m: replaced(m, "rest", "Add", "unit gate_z")),
    "a reset that is taken off": (GRU, lambda m: replaced(m, "n_sum", "Sub", "gx_n rh")),
    "a reset of x": (GRU, reset_of_x),
    "a gate without x": (FORMS["Keras 1 LSTM, implementation 1"], lambda m: replaced(m, "gate_i_m", "Mul", "fifth mh_i")),
    "a sigmoid with other bounds": (FORMS["Keras GRUCell, clipped"], lambda m: m.constant("one", np.float32(0.9))),
    "gates that are interleaved": (LSTM, interleaved),
    "a Jordan cell": (RNN, jordan),
    "a sum in the place of the reset": (GRU, lambda m: replaced(m, "rh", "Add", "gate_r gh_n")),
    "the old state added": (RNN, lambda m: rename(m, "b_hh", "h")),
}


@pytest.mark.parametrize(("way", "change"), MISSES.values(), ids=MISSES)
def test_what_is_no_cell_stays_a_scan_and_is_right(tmp_path: Path, way: Way, change: Callable[[Writer], object]) -> None:
    """Runs backwards, so that size is no reason to leave it alone."""
    size = 6
    near, cell = Writer(way, size, size), Writer(way, size, size)
    path = save(over_frames(cell, 7, **BACKWARDS), tmp_path, "cell.onnx")
    assert is_recognised(convert(path, mode="window"), way.op)
    change(near)
    path = save(over_frames(near, 7, **BACKWARDS), tmp_path)
    graph = convert(path, mode="window")
    assert not is_recognised(graph, way.op)
    assert validate(path, Engine(graph), steps=4).passed


@pytest.mark.parametrize(
    ("y", "attrs"),
    [("c1", BACKWARDS), ("h", BACKWARDS), ("h1", {"scan_input_directions": [1]}), ("x_twice", BACKWARDS)],
    ids=["the cell", "the state before", "the other direction", "something else"],
)
def test_other_results_than_those_of_the_op_stay_a_scan(tmp_path: Path, y: str, attrs: dict[str, Any]) -> None:
    cell = Writer(LSTM, 6, 6)
    cell.add("Add", "x x", "x_twice")
    path = save(over_frames(cell, 7, y=y, **attrs), tmp_path)
    graph = convert(path, mode="window")
    assert not is_recognised(graph, "LSTM")
    assert validate(path, Engine(graph), steps=4).passed


@pytest.mark.parametrize(("way", "hidden", "shape"), [(LSTM, 6, (2, 24)), (RNN, 2, (2, 1))])
def test_biases_of_their_own_for_each_batch_entry_stay_a_scan(
    tmp_path: Path, way: Way, hidden: int, shape: tuple[int, ...]
) -> None:
    cell = Writer(way, 6, hidden)
    cell.constants["b_ifgoh" if way.op == "LSTM" else "b_hh"] = noise(7, *shape)
    path = save(over_frames(cell, 7, rows=2, **BACKWARDS), tmp_path)
    graph = convert(path, mode="window")
    assert not is_recognised(graph, way.op)
    assert validate(path, Engine(graph), steps=4).passed


def test_weights_of_run_time_stay_a_scan(tmp_path: Path) -> None:
    cell = Writer(RNN, 6, 6)
    weights = cell.constants.pop("U_hh")
    model = over_frames(cell, 7, **BACKWARDS)
    model.graph.input.append(onnx.helper.make_tensor_value_info("U_hh", F32, weights.shape))
    path = save(model, tmp_path)
    graph = convert(path, mode="window")
    assert not is_recognised(graph, "RNN")
    assert validate(path, Engine(graph), steps=4).passed


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_body_whose_formulas_double_is_left_alone(tmp_path: Path, op: str) -> None:
    """Multiplied out, the sum would have 2^100 terms."""
    cell = Writer(RNN, 4, 4)
    cell.nodes.pop()
    last = "s_hh"
    for k in range(100):
        last = cell.add(op, f"{last} {last}", f"d{k}")
    cell.add("Tanh", last, "h1")
    path = save(over_frames(cell, 3, **BACKWARDS), tmp_path)
    assert not is_recognised(convert(path, mode="window"), "RNN")


# -- all of them ------------------------------------------------------------------------------------------------------


@st.composite
def ways(draw: st.DrawFn) -> Way:
    op = draw(st.sampled_from(sorted(GATES)))
    after = draw(st.booleans())
    return Way(
        op,
        "".join(draw(st.permutations(GATES[op]))),
        draw(st.sampled_from(["gemm", "matmul", "joined", "gates", "chained"])),
        draw(st.sampled_from(["Sigmoid", "HardSigmoid", "Clip", "MinMax"])),
        draw(st.sampled_from(["Tanh", "Relu", "Softsign"])),
        draw(st.booleans()),
        draw(st.sampled_from([0.0, 1.0])),
        draw(st.sampled_from(["keep", "step", "update", "move"])),
        after,
        draw(st.booleans()),
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ways(), st.integers(1, 4), st.integers(1, 5), st.sampled_from([None, 1, 3]), st.integers(0, 99))
def test_any_way_to_write_a_cell_is_recognised(
    tmp_path: Path, way: Way, n_in: int, hidden: int, rows: int | None, seed: int
) -> None:
    if rows is None and (way.product in ("gemm", "chained") or (way.op, way.product, way.after) == ("GRU", "gates", True)):
        rows = 1  # a Gemm takes matrices
    path = save(over_frames(Writer(way, n_in, hidden, seed), 6, rows=rows, **BACKWARDS), tmp_path)
    graph = stages(path, mode="window")["cells"]
    assert is_recognised(graph, way.op)
    x = noise(seed, 6, *(() if rows is None else (rows,)), n_in)
    [found] = run_graph(graph, {"x_all": x})
    np.testing.assert_allclose(found, run_file(path, {"x_all": x})[0], rtol=2e-5, atol=5e-6)


def test_the_stage_is_visible(tmp_path: Path) -> None:
    path = save(over_frames(Writer(FORMS["Keras LSTMCell"], *LARGE["LSTM"]), 9), tmp_path)
    shown = CliRunner().invoke(app, ["convert", str(path), "--mode", "window", "--dump", str(tmp_path / "stages")])
    assert shown.exit_code == 0, shown.output
    texts = {stage.stem.split("_")[-1]: stage.read_text() for stage in (tmp_path / "stages").iterdir()}
    assert "Scan(" in texts["declutter"]
    assert "LSTM(" not in texts["declutter"]
    assert "LSTM(" in texts["cells"]
    assert "Scan(" not in texts["cells"]
