"""Random ops: the same numbers compiled and interpreted, the right distribution, a sequence that resets and resumes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import Case, Contract, floats
from moving import compiled, fed, plain
from onnx import helper as h
from onnx_files import F32, make, save
from streamrnn_converters import convert
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.carry import carry
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine, Stream, StreamPool
from streamrnn.errors import NotStreamableError, ShapeError, UnsupportedError
from streamrnn.ir.graph import Array, Attr, Graph, Node, Stage
from streamrnn.ir.types import DType, TensorType
from streamrnn.ops.random import random_bits

STATE = np.array([-7046029254386353131])


def draw(op: str, x: Array | None = None, time: int | None = None, refused: str = "", **attrs: Attr) -> Case:
    """The node with the state of its generator as one more input."""
    inputs = (STATE,) if x is None else (x, STATE)
    return Case(
        op, inputs, attrs, outputs=2, live=(0, 1), onnx=False, time={} if time is None else {0: time}, refused=refused,
        label=f"{op} {'' if x is None else f'{x.dtype}{list(x.shape)}'} {attrs} {time}",
    )  # fmt: skip


def chances(*shape: int, dtype: Any = np.float32) -> Array:
    return np.linspace(-0.1, 1.1, math.prod(shape)).reshape(shape).astype(dtype)


class TestRandom(Contract):
    cases = [  # noqa: RUF012
        draw("RandomNormal", shape=(3, 40)),
        draw("RandomNormal", shape=(5,), mean=3.0, scale=0.5, dtype="float64"),
        draw("RandomNormal", shape=()),
        draw("RandomNormal", shape=(0, 3)),
        draw("RandomUniform", shape=(2, 3, 4), low=-2.0, high=5.0),
        draw("RandomNormalLike", floats(1, 2, 9), scale=2.0),
        draw("RandomUniformLike", np.zeros((4, 5)), high=3.0),
        draw("RandomUniformLike", np.zeros((4, 5), np.int32), dtype="float32"),
        *(draw("Bernoulli", chances(4, 9, dtype=dtype)) for dtype in (np.float16, np.float32, np.float64)),
        *(draw("Bernoulli", chances(30), dtype=dtype.value) for dtype in DType),
        draw("Multinomial", floats(2, 3, 7), sample_size=50),
        draw("Multinomial", floats(2, 1, 7, scale=30.0), sample_size=50, dtype="int64"),
        draw("Multinomial", floats(2, 2, 5).astype(np.float64), sample_size=3),
        draw("Multinomial", floats(2, 2, 5).astype(np.float16), sample_size=3),
    ]


class TestFrames(Contract):
    cases = [  # noqa: RUF012
        draw("Multinomial", floats(2, 6, 5), time=1, refused="one of the frames"),
    ]


def run(case: Case) -> Array:
    return np.asarray(compiled(case)[0])


# -- the generator --------------------------------------------------------------------------------------------------


def test_the_bits_are_those_of_the_published_generator() -> None:
    """SplitMix64 from seed 1234567, as its authors' C code gives them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    bits, state = random_bits(np.array([1234567]), 5)
    assert bits.astype(np.uint64).tolist() == published
    np.testing.assert_array_equal(random_bits(state, 3)[0], random_bits(np.array([1234567]), 8)[0][5:])


@pytest.mark.parametrize("node", TestRandom.cases, ids=str)
def test_interpreted_and_compiled_draw_the_same_numbers(node: Case) -> None:
    """Bit for bit where no elementary function rounds."""
    for one, two in zip(plain(node), compiled(node), strict=True):
        if "Normal" in node.op and one.dtype.kind == "f":
            np.testing.assert_allclose(one, two, rtol=2e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(one, two)


def test_float16_numbers_are_the_float32_ones_rounded() -> None:
    (half, _), (single, _) = (compiled(draw("RandomNormal", shape=(50,), dtype=f"float{n}")) for n in (16, 32))
    np.testing.assert_array_equal(half, single.astype(np.float16))


# -- distributions: limits are five standard errors and more ---------------------------------------------------------


def test_normal_numbers_have_the_moments_of_a_normal_distribution() -> None:
    n = 200_000
    z = (run(draw("RandomNormal", shape=(n,), mean=-1.0, scale=3.0)).astype(np.float64) + 1) / 3
    for power, expected, spread in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(np.mean(z**power) - expected) < 5 * math.sqrt(spread / n), power
    edges = np.linspace(-3, 3, 13)
    inside = np.histogram(z, [-np.inf, *edges, np.inf])[0] / n
    cdf = np.array([0.0, *(0.5 * (1 + math.erf(e / math.sqrt(2))) for e in edges), 1.0])
    assert np.abs(inside - np.diff(cdf)).max() < 5 * math.sqrt(0.2 / n)
    assert np.abs(z).max() < 6.67


def test_uniform_numbers_fill_their_interval_evenly() -> None:
    n = 200_000
    x = run(draw("RandomUniform", shape=(n,), low=-2.0, high=5.0))
    assert x.min() >= -2
    assert x.max() < 5
    counts = np.histogram(x, 20, (-2, 5))[0]
    assert np.abs(counts / n - 0.05).max() < 5 * math.sqrt(0.05 / n)
    later = x[1:].astype(np.float64)
    assert abs(np.corrcoef(x[:-1], later)[0, 1]) < 5 / math.sqrt(n)


@pytest.mark.parametrize(("low", "high"), [(1.0, np.nextafter(np.float32(1), np.float32(2))), (16777216.0, 16777220.0)])
def test_rounding_never_reaches_the_upper_end(low: float, high: float) -> None:
    x = run(draw("RandomUniform", shape=(1000,), low=float(low), high=float(high)))
    assert x.min() >= low
    assert x.max() < high


def test_bernoulli_is_one_as_often_as_it_should_be() -> None:
    n = 100_000
    for p in (0.0, 0.03, 0.5, 1.0, -1.0, 2.0, math.nan):
        y = run(draw("Bernoulli", np.full(n, p, np.float32)))
        q = min(max(p, 0.0), 1.0) if p == p else 0.0
        assert abs(y.mean() - q) <= 5 * math.sqrt(q * (1 - q) / n), p


def test_multinomial_draws_classes_by_their_weights() -> None:
    n, weights = 100_000, np.array([0.5, 0.0, 0.2, 0.3, 1e-3])
    with np.errstate(divide="ignore"):
        x = np.log(weights).astype(np.float32)[None] + 40
    share = np.bincount(run(draw("Multinomial", x, sample_size=n)).ravel(), minlength=5) / n
    expected = weights / weights.sum()
    assert (np.abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)).all()


def test_weights_without_sense_still_give_a_class() -> None:
    rows = [[-np.inf] * 3, [np.nan] * 3, [np.nan, 0, np.nan], [np.inf, 0, 0], [0, -np.inf, -np.inf]]
    y = run(draw("Multinomial", np.array(rows, np.float32), sample_size=20))
    assert ((y >= 0) & (y < 3)).all()
    assert (y[2] == 1).all()
    assert (y[4] == 0).all()


# -- the state ------------------------------------------------------------------------------------------------------


def noisy(
    folder: Path, shape: tuple[Any, ...] = (2, 3), seeds: tuple[float | None, ...] = (None, None), **options: Any
) -> Engine:
    """y = x + noise + noise, in ONNX."""
    nodes = [
        h.make_node("RandomNormalLike", ["x"], [f"n{k}"], name=f"noise{k}", **({} if seed is None else {"seed": seed}))
        for k, seed in enumerate(seeds)
    ]
    nodes.append(h.make_node("Sum", ["x", *(f"n{k}" for k in range(len(seeds)))], ["y"]))
    return Engine(convert(save(make(nodes, [("x", F32, shape)], [("y", F32, shape)]), folder), **options))


def steps(stream: Stream, n: int) -> Array:
    return np.stack([stream.step(np.zeros(stream.engine.inputs["x"].shape, np.float32)) for _ in range(n)])


def test_every_step_draws_anew_and_a_reset_begins_again(tmp_path: Path) -> None:
    stream = Stream(noisy(tmp_path))
    first = steps(stream, 4)
    assert len(np.unique(first)) == first.size
    assert not np.intersect1d(first, steps(stream, 4)).size
    stream.reset()
    np.testing.assert_array_equal(steps(stream, 4), first)


def test_the_sequence_survives_the_file_a_snapshot_and_any_cut(tmp_path: Path) -> None:
    import streamrnn

    engine = noisy(tmp_path)
    first = steps(Stream(engine), 9)
    engine.save(tmp_path / "m.srnn")
    again = Stream(streamrnn.load(tmp_path / "m.srnn"))
    np.testing.assert_array_equal(again.process(np.zeros((4, 2, 3), np.float32)), first[:4])
    snapshot = again.snapshot()
    np.testing.assert_array_equal(steps(again, 2), first[4:6])
    again.restore(snapshot)
    np.testing.assert_array_equal(again.process(np.zeros((5, 2, 3), np.float32)), first[4:])


def test_streams_of_a_pool_draw_for_themselves(tmp_path: Path) -> None:
    engine = noisy(tmp_path)
    pool = StreamPool(engine, 2)
    slots = [pool.join(), pool.join()]
    first = steps(Stream(engine), 3)
    for t in range(3):
        found = pool.step(np.zeros((2, 2, 3), np.float32))
        np.testing.assert_array_equal(found[slots[0]], first[t])
        np.testing.assert_array_equal(found[slots[1]], first[t])


def test_the_seed_decides_else_the_name(tmp_path: Path) -> None:
    def generators(seeds: tuple[float | None, ...]) -> list[int]:
        return [int(s.init[0]) for s in noisy(tmp_path, seeds=seeds).graph.states]

    one, two = generators((None, None))
    assert one != two
    assert generators((None, None)) == [one, two]
    assert generators((1.5, 1.5))[0] == generators((1.5, 1.5))[1]
    assert len({one, two, *generators((0.0, 1.5))}) == 4


def test_the_generator_is_shown_as_a_state(tmp_path: Path) -> None:
    (state,) = noisy(tmp_path, seeds=(None,)).graph.states
    assert (state.name, state.kind, state.evidence) == ("noise0.generator", "generator", "carry")


# -- time -----------------------------------------------------------------------------------------------------------


def stepped(case: Case) -> Engine:
    """The case without its state input, as a stream."""
    bare = Case(case.op, case.inputs[:1], case.attrs, outputs=1, time=case.time)
    (axis,) = case.time.values()
    return Engine(align(streamify(carry(bare.graph(Stage.SEQUENCE)), {"i0": axis})))


@pytest.mark.parametrize(
    "node",
    [
        draw("RandomNormalLike", floats(1, 12, 3), time=0),
        draw("RandomUniformLike", floats(1, 1, 12, 3), time=1),
        draw("Bernoulli", chances(12, 4), time=0),
        draw("Multinomial", floats(1, 12, 4), time=0, sample_size=2),
    ],
    ids=str,
)
def test_frames_are_drawn_one_after_the_other(node: Case) -> None:
    """A clip with time outermost is drawn in the order of its frames, so the stream gives the same numbers."""
    engine = stepped(node)
    (seed,) = (s.init for s in engine.graph.states)
    whole = Case(node.op, (node.inputs[0], seed), node.attrs, outputs=2, live=(0, 1))
    (axis,) = node.time.values()
    x = np.moveaxis(np.asarray(node.inputs[0]), axis, 0)
    found = Stream(engine).process(x.reshape(len(x), *engine.inputs["i0"].shape))
    np.testing.assert_array_equal(np.asarray(found).ravel(), run(whole).ravel())
    assert engine.receptive_field == 1


def test_a_draw_for_the_whole_clip_is_refused_in_frame_mode() -> None:
    types = {n: TensorType(DType.F32, (12, 3) if n != "n" else (3,)) for n in ("x", "y", "n")}
    nodes = (Node("RandomNormal", "noise", (), ("n",), {"shape": (3,)}), Node("Add", "add", ("x", "n"), ("y",)))
    graph = carry(Graph("g", Stage.SEQUENCE, ("x",), ("y",), nodes, types))
    with pytest.raises(NotStreamableError, match=r"noise.*once for the whole clip"):
        streamify(graph, {"x": 0})


def test_noise_alone_is_no_memory(tmp_path: Path) -> None:
    """Auto mode looks for an axis along which a model remembers; a generator is no reason to cut a clip into frames."""
    assert noisy(tmp_path, shape=(6, 3)).meta["mode"] == "window"


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (draw("RandomNormal", shape=(2,), dtype="int32"), "numbers of int32 are not supported"),
        (draw("Multinomial", floats(1, 2, 3), dtype="float32"), "only int32, int64"),
        (draw("Multinomial", floats(1, 3)), "not rows of log-probabilities"),
        (draw("Multinomial", floats(1, 3, 0)), "not rows of log-probabilities"),
        (draw("Bernoulli", np.ones(3, np.int64)), "no probabilities"),
        (Case("RandomNormal", (np.zeros(2),), {"shape": (2,)}), "state of its generator"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_what_makes_no_sense_is_refused(node: Case, message: str) -> None:
    with pytest.raises((ShapeError, UnsupportedError), match=message):
        node.site()


def test_a_node_without_its_state_draws_the_same_numbers_in_each_step() -> None:
    case = Case("RandomNormal", (), {"shape": (3,), "seed": 2.0}, live=())
    engine = Engine(case.graph())
    stream = Stream(engine)
    np.testing.assert_array_equal(stream.step(fed(case)), stream.step(fed(case)))
