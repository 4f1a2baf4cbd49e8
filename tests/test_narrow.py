"""Weights in float16 and int8: near the formula in float64, smaller in the file, the same bits however a signal is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import pytest
from contract import Case, floats
from pools import assert_slots_are_streams
from recurrent import cell, given, lens, once, state
from streamrnn_converters import convert
from streamrnn_converters.compare import FLOORS
from streamrnn_converters.importer import Pipeline
from streamrnn_converters.passes.narrow import SMALL, decibels, narrow
from streamrnn_converters.report import report_table
from streamrnn_converters.validate import validate

from streamrnn import BindingError, Engine, Stream, StreamPool, load
from streamrnn.codegen import build, cpu
from streamrnn.codegen.cpu import primitives
from streamrnn.codegen.interpret import Interpreter
from streamrnn.ir.file import load_graph, save_graph
from streamrnn.ir.graph import Array, Graph
from streamrnn.ir.storage import storage_lines
from streamrnn.ir.verify import verify
from streamrnn.ops.conv import Conv

TYPES = {"f16": "float16", "int8": "int8"}
H = 40


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm(x: Array, W: Array, R: Array, B: Array) -> Array:
    """The formula, one frame [n] after the other; gates i, o, f, c."""
    h, c, rows = np.zeros(H), np.zeros(H), []
    for frame in x:
        i, o, f, g = (W @ frame + R @ h + B[: 4 * H] + B[4 * H :]).reshape(4, H)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        rows.append(h)
    return np.array(rows)


def gru(x: Array, W: Array, R: Array, B: Array) -> Array:
    """The formula with linear_before_reset = 1; gates z, r, n."""
    h, rows = np.zeros(H), []
    for frame in x:
        (wz, wr, wn), (rz, rr, rn) = (W @ frame + B[: 3 * H]).reshape(3, H), (R @ h + B[3 * H :]).reshape(3, H)
        z = sigmoid(wz + rz)
        h = (1 - z) * np.tanh(wn + sigmoid(wr + rr) * rn) + z * h
        rows.append(h)
    return np.array(rows)


def gru_reset_first(x: Array, W: Array, R: Array, B: Array) -> Array:
    """The formula with linear_before_reset = 0; gates z, r, n."""
    h, rows = np.zeros(H), []
    for frame in x:
        z, r, n = (W @ frame + B[: 3 * H] + B[3 * H :]).reshape(3, H)
        z, r = sigmoid(z + R[:H] @ h), sigmoid(r + R[H : 2 * H] @ h)
        h = (1 - z) * np.tanh(n + R[2 * H :] @ (r * h)) + z * h
        rows.append(h)
    return np.array(rows)


def rnn(x: Array, W: Array, R: Array, B: Array) -> Array:
    h, rows = np.zeros(H), []
    for frame in x:
        h = np.tanh(W @ frame + R @ h + B[:H] + B[H:])
        rows.append(h)
    return np.array(rows)


def gemm(x: Array, B: Array, C: Array) -> Array:
    return np.asarray(x @ B.T + C)


def matmul(x: Array, B: Array) -> Array:
    return np.asarray(x @ B)


def conv(x: Array, W: Array, B: Array) -> Array:
    """x [1, C, T] -> [1, M, T - 2], a kernel of 3."""
    taps = [np.einsum("mc,ct->mt", W[:, :, k], x[0, :, k : x.shape[2] - 2 + k]) for k in range(3)]
    return np.asarray(sum(taps) + B[:, None])[None]


def steady(op: str, **attrs: int) -> Case:
    """A cell that forgets, as trained ones do: a chaotic one would make any error grow."""
    case = cell(op, 50, 12, H, **attrs)
    R = case.inputs[2]
    assert R is not None
    return given(case, R=R / 3)


CELLS: dict[str, tuple[Case, Callable[..., Array]]] = {
    "LSTM": (steady("LSTM"), lstm),
    "GRU": (steady("GRU", linear_before_reset=1), gru),
    "GRU, reset first": (steady("GRU"), gru_reset_first),
    "RNN": (steady("RNN"), rnn),
}
LAYERS: dict[str, tuple[Case, Callable[..., Array]]] = {
    "Gemm": (Case("Gemm", (floats(1, 5, 30), floats(2, 70, 30), floats(3, 70)), {"transB": 1}), gemm),
    "MatMul": (Case("MatMul", (floats(1, 5, 30), floats(2, 30, 70))), matmul),
    "Conv": (Case("Conv", (floats(1, 1, 20, 9), floats(2, 37, 20, 3), floats(3, 37))), conv),
    "Conv of few channels": (Case("Conv", (floats(1, 1, 20, 3), floats(2, 5, 20, 3), floats(3, 5))), conv),
}


def expected(name: str) -> Array:
    """What the formula gives in float64 with the weights as they were."""
    case, formula = {**CELLS, **LAYERS}[name]
    x, *weights = (np.asarray(a, np.float64) for a in case.inputs)
    return formula(x[:, 0], *(w[0] for w in weights)) if name in CELLS else formula(x, *weights)


def narrowed(name: str, weights: str) -> Graph:
    return narrow(verify({**CELLS, **LAYERS}[name][0].graph()), weights)


def step(engine: Engine, x: Array | None) -> Array:
    """The first output of one step."""
    assert x is not None
    found = Stream(engine).step(x.reshape(engine.inputs["i0"].shape))
    return next(iter(found.values())) if isinstance(found, dict) else found


@pytest.mark.parametrize("weights", TYPES)
@pytest.mark.parametrize("name", [*CELLS, *LAYERS])
class TestOneLayer:
    def test_it_keeps_its_ratio_of_signal_to_noise_against_the_formula(self, name: str, weights: str) -> None:
        engine = Engine(narrowed(name, weights))
        found, formula = step(engine, {**CELLS, **LAYERS}[name][0].inputs[0]), expected(name)
        ratio = decibels(formula, found.reshape(formula.shape))
        assert FLOORS[TYPES[weights]] <= ratio < 120  # and it is not float32 after all

    def test_plain_python_gives_the_same_numbers(self, name: str, weights: str) -> None:
        case = {**CELLS, **LAYERS}[name][0]
        engine = Engine(narrowed(name, weights))
        x = case.inputs[0]
        assert x is not None
        (plain, *_) = Interpreter(engine.plan).step([x])
        np.testing.assert_allclose(plain.ravel(), step(engine, x).ravel(), rtol=1e-5, atol=2e-6)

    def test_the_file_brings_the_same_step_back(self, name: str, weights: str, tmp_path: Path) -> None:
        graph = narrowed(name, weights)
        save_graph(graph, tmp_path / "m.srnn")
        again = load_graph(tmp_path / "m.srnn")
        x = {**CELLS, **LAYERS}[name][0].inputs[0]
        np.testing.assert_array_equal(step(Engine(again), x), step(Engine(graph), x))
        assert again.meta["weights"] == graph.meta["weights"]


def model(folder: Path, op: str = "GRU", n: int = 96) -> Path:
    """x [T, 1, 20] -> cell -> linear layer -> y [T, 1, 3]."""
    node, constants = models.cell(op.split(",")[0], "cell", "x", 20, n, 10)
    for attribute in node.attribute:
        if attribute.name == "linear_before_reset" and "reset first" in op:
            attribute.i = 0
    constants["cell_R"] = constants["cell_R"] / 4  # see `steady`
    constants |= {"axis": np.array([1]), "K": floats(13, n, 3, scale=0.4)}
    nodes = [
        node,
        models.h.make_node("Squeeze", ["cell_all", "axis"], ["h"], name="squeeze"),
        models.h.make_node("MatMul", ["h", "K"], ["y"], name="head"),
    ]
    return models.write_model(folder / f"{op}.onnx", {"x": ["T", 1, 20]}, {"y": ["T", 1, 3]}, nodes, constants)


@pytest.mark.parametrize("name", CELLS)
def test_cells_of_both_directions_keep_the_ends_of_their_clips_apart(name: str) -> None:
    """Three clips of different lengths in one batch, one of them empty; float64 is the oracle."""
    op, attrs = CELLS[name][0].op, CELLS[name][0].attrs
    more = {k: v for k, v in attrs.items() if k == "linear_before_reset"}
    case = cell(op, 20, 12, H, batch=3, D=2, direction="bidirectional", **more)
    R = case.inputs[2]
    assert R is not None
    case = once(given(case, R=R / 3, lens=lens(20, 0, 7), h=state(5, H, 3, 2)))
    engine = Engine(narrow(verify(case.graph()), "int8"))
    assert {"int8"} == {layer["dtype"] for layer in engine.meta["weights"]["layers"]}
    found, formula = step(engine, case.inputs[0]), case.reference[0]
    for clip in (0, 2):
        assert FLOORS["int8"] <= decibels(formula[:, :, clip], found.reshape(formula.shape)[:, :, clip]) < 120
    assert not found.reshape(formula.shape)[:, :, 1].any()
    assert not found.reshape(formula.shape)[7:, :, 2].any()


@pytest.mark.parametrize("op", CELLS)
@pytest.mark.parametrize("weights", TYPES)
def test_any_chunking_gives_the_same_bits(tmp_path: Path, op: str, weights: str) -> None:
    engine = load(model(tmp_path, op), weights=weights)
    x = floats(1, 50, *engine.inputs["x"].shape)
    whole, single, odd = Stream(engine), Stream(engine), Stream(engine)
    y = whole.process(x)
    steps = np.stack([np.array(single.step(frame)) for frame in x])
    chunks = np.concatenate([odd.process(part) for part in np.split(x, [1, 8, 9, 41])])
    assert y.tobytes() == steps.tobytes() == chunks.tobytes()
    assert whole.snapshot().state == single.snapshot().state == odd.snapshot().state


@pytest.mark.parametrize(("weights", "lanes"), [("f16", True), ("f16", False), ("int8", False)])
class TestPools:
    @pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
    def test_each_slot_has_the_bits_of_a_stream(self, tmp_path: Path, op: str, weights: str, lanes: bool) -> None:
        assert_slots_are_streams(load(model(tmp_path, op, 40), weights=weights), steps=4, lanes=lanes)

    @pytest.mark.parametrize("name", LAYERS)
    def test_each_slot_has_the_bits_of_a_stream_without_a_state(self, name: str, weights: str, lanes: bool) -> None:
        assert_slots_are_streams(Engine(narrowed(name, weights)), steps=2, lanes=lanes)


def test_a_pool_of_weights_in_int8_says_why_it_has_no_lanes() -> None:
    way = StreamPool(Engine(narrowed("LSTM", "int8")), 16).way
    assert way == "slot by slot: node 'node': kernel byte_products.dense has no counterpart across streams"


@pytest.mark.parametrize(
    "features",
    [
        "",
        "+sse2",
        "+sse2,+avx2,+f16c",
        "+sse2,+avx2,+f16c,+avx512f,+avx512bw",
        "+sse2,+avx2,+f16c,+avx512f,+avx512bw,+avx512vnni",
        "+sse2,+avx2,+f16c,+avxvnni",
    ],
)
@pytest.mark.parametrize("name", ["LSTM", "Gemm", "Conv"])
def test_every_cpu_gives_the_same_bits(name: str, features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {part[1:] for part in features.split(",") if part}
    if not needed <= {part[1:] for part in build.host()[1].split(",") if part.startswith("+")}:
        pytest.skip("this machine does not run that code")
    x = {**CELLS, **LAYERS}[name][0].inputs[0]
    text = primitives(features)
    for weights in TYPES:
        own = step(Engine(narrowed(name, weights)), x)
        with monkeypatch.context() as patched:
            patched.setattr(cpu, "primitives", lambda _: text)
            np.testing.assert_array_equal(step(Engine(narrowed(name, weights)), x), own)


@pytest.mark.parametrize(("features", "instruction"), [("+neon,+dotprod", "sdot"), ("+neon,+dotprod,+i8mm", "usdot")])
def test_an_arm_gets_its_own_products_of_bytes(features: str, instruction: str) -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    module = llvm.parse_assembly(primitives(features).replace(" alwaysinline", ""))
    module.triple = "aarch64-unknown-linux-gnu"
    assert f"\t{instruction}\t" in target.create_target_machine(features=features, opt=3).emit_assembly(module)


@pytest.mark.parametrize(("weights", "most"), [("f16", 0.51), ("int8", 0.28)])
def test_the_file_shrinks_with_the_weights(tmp_path: Path, weights: str, most: float) -> None:
    path = model(tmp_path, n=256)
    sizes = {}
    for chosen in ("f32", weights):
        load(path, weights=chosen).save(tmp_path / f"{chosen}.srnn")
        sizes[chosen] = (tmp_path / f"{chosen}.srnn").stat().st_size
    assert sizes[weights] < most * sizes["f32"]
    assert load(path, weights=weights).weights_bytes < (most + 0.02) * load(path).weights_bytes


def test_auto_leaves_small_layers_alone_and_says_so(tmp_path: Path) -> None:
    graph = convert(model(tmp_path), weights="auto")
    assert 4 * 3 * 96 * (96 + 20) > SMALL > 4 * 96 * 3
    told = {line.split()[0]: line for line in storage_lines(graph.meta)}
    assert told["auto:"].startswith("auto: 1 layer in int8, 1 layer in float32")
    assert "is stored in float32: 1152 bytes stay in the first-level cache" in told["'head'"]


def test_auto_takes_float16_where_int8_would_be_too_noisy() -> None:
    W = floats(2, 300, 64)
    W[0] *= 1000  # one input of the layer has weights that make the grid too coarse for all others
    graph = narrow(verify(Case("MatMul", (floats(1, 1, 300), W)).graph()), "auto")
    (_, line) = storage_lines(graph.meta)
    assert "stored in float16: in int8 the layer by itself would keep" in line


def filters(x: tuple[int, ...], w: tuple[int, ...], group: int = 1) -> Case:
    return Case("Conv", (floats(1, 1, *x), floats(2, *w)), {"group": group})


#: a convolution, what int8 makes of it, and why
SMALL_FILTERS = {
    "few products": (
        filters((1, 9), (64, 1, 9)),
        "float16",
        "its 9 products a channel, sum and scale, takes up what int8 saves",
    ),
    "many positions": (filters((8, 3, 33), (8, 8, 3, 3)), "float32", "are small and meet 31 positions"),
    "by channels": (
        filters((64, 3), (64, 1, 3), 64),
        "float32",
        "an input channel of its own: packed in fewer bits they take more",
    ),
    "three dimensions": (filters((16, 2, 2, 3), (32, 16, 2, 2, 2)), "float32", "its filters have 3 dimensions"),
}


@pytest.mark.parametrize(("small", "dtype", "reason"), SMALL_FILTERS.values(), ids=SMALL_FILTERS)
def test_small_filters_that_are_not_int8_say_why(small: Case, dtype: str, reason: str) -> None:
    graph = narrow(verify(small.graph()), "int8")
    (_, line) = storage_lines(graph.meta)
    assert f"is stored in {dtype}: " in line
    assert reason in line
    assert dtype in {a.dtype.name for a in graph.constants.values()}


@pytest.mark.parametrize("name", ["few products", "by channels"])
def test_packed_in_int8_these_filters_would_indeed_take_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = verify(SMALL_FILTERS[name][0].graph())
    chosen = Engine(narrow(graph, "int8")).weights_bytes
    monkeypatch.setattr(Conv, "narrow_inputs", lambda self, site, dtype: {1: (0,)})
    assert Engine(narrow(graph, "int8")).weights_bytes > chosen


@pytest.mark.parametrize(("weights", "most"), [("f16", 0.6), ("int8", 0.5)])
def test_a_convolution_of_few_channels_shrinks_as_packed(weights: str, most: float) -> None:
    name = "Conv of few channels"
    assert Engine(narrowed(name, weights)).weights_bytes < most * Engine(narrowed(name, "f32")).weights_bytes


def test_weights_beyond_float16_stay_float32() -> None:
    graph = narrow(verify(Case("MatMul", (floats(1, 1, 30), 1e6 * floats(2, 30, 20))).graph()), "f16")
    assert "beyond 65504" in storage_lines(graph.meta)[1]
    assert {a.dtype.name for a in graph.constants.values()} == {"float32"}


def test_weights_that_are_all_zero_stay_zero() -> None:
    graph = narrow(verify(Case("MatMul", (floats(1, 2, 30), np.zeros((30, 20), np.float32))).graph()), "int8")
    np.testing.assert_array_equal(step(Engine(graph), floats(1, 2, 30)), np.zeros((2, 20), np.float32))


def test_nan_comes_out_where_nan_goes_in() -> None:
    x = floats(1, 2, 30)
    x[1, 7] = np.nan
    found = step(Engine(narrow(verify(Case("MatMul", (x, floats(2, 30, 20))).graph()), "int8")), x)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_an_unknown_word_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BindingError, match=r"--weights int4: it is f32, f16, int8, auto"):
        convert(model(tmp_path), weights="int4")


def test_the_passes_show_what_they_made(tmp_path: Path) -> None:
    seen: list[str] = []
    convert(model(tmp_path), weights="f16", dump=lambda name, graph: seen.append(name))
    assert seen[-1] == list(Pipeline.__init__.__globals__["PIPELINE"])[-1] == "narrow"


class TestValidate:
    @pytest.mark.parametrize("weights", TYPES)
    def test_a_good_model_passes_by_its_ratio(self, tmp_path: Path, weights: str) -> None:
        path = model(tmp_path)
        report = validate(path, Engine(convert(path, weights=weights)), steps=60)
        assert report.passed, report.verdict
        assert "the least ratio of signal to noise is" in report.verdict
        (long,) = (row for row in report.rows if row.signal == "long" and row.kind == "output")
        assert long.snr is not None
        assert long.snr >= FLOORS[TYPES[weights]] == long.floor
        assert max(row.max_abs for row in report.rows) > 1e-4  # by the law of float32 it would fail
        assert '"snr"' in report.to_json()

    def test_noise_beyond_the_floor_fails_and_says_how_much(self, tmp_path: Path) -> None:
        path = model(tmp_path)
        graph = convert(path, weights="int8")
        constants = dict(graph.constants)
        (name,) = (n for n, a in constants.items() if a.dtype == np.int8 and a.ndim == 3 and a.shape[2] == 96)
        constants[name] = (constants[name] // 16 * 16).astype(np.int8)  # 4 bits are left
        report = validate(path, Engine(graph.replace(constants=constants)), steps=60)
        assert not report.passed
        assert "of 40 dB; store more bits (--weights)" in report.verdict

    def test_layers_with_more_bits_than_asked_for_are_named(self, tmp_path: Path) -> None:
        from rich.console import Console

        path = model(tmp_path)
        report = validate(path, Engine(convert(path, weights="auto")), steps=20)
        console = Console(width=200, record=True, file=None, quiet=False)
        with console.capture() as shown:
            console.print(report_table(report))
        assert "'head' (MatMul) is stored in float32: 1152 bytes" in shown.get()
