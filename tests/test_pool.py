"""A pool is N single streams, bit for bit."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import types
import weakref
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from contract import floats
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model_folder import Folder
from models import conv_gru, packed_step, two_layers
from pools import SLOTS, assert_slots_are_streams, joined
from small import recurrent_engine, typed
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

import streamrnn
from streamrnn import Engine, InputError, NonFiniteError, Snapshot, SnapshotError, Stream, StreamPool
from streamrnn.ir.graph import Graph, Node, Stage, State
from streamrnn.ir.types import DType, TensorType
from streamrnn.stream import OnNonFinite

ENGINE = recurrent_engine(hidden=19)


class PoolAgainstStreams(RuleBasedStateMachine):
    """Join, leave, reset, snapshot and step in any order; each joined slot has a Stream as its twin."""

    engine: ClassVar[Engine] = ENGINE
    lanes: ClassVar[bool] = True

    @initialize(count=st.integers(0, SLOTS))
    def begin(self, count: int) -> None:
        self.pool = StreamPool(self.engine, SLOTS, lanes=self.lanes)
        self.twins: dict[int, Stream] = {}
        self.seed = 0
        for _ in range(count):
            self.join()

    @precondition(lambda self: len(self.twins) < SLOTS)
    @rule()
    def join(self) -> None:
        self.twins[self.pool.join()] = Stream(self.engine)

    @precondition(lambda self: self.twins)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.twins)))
        self.pool.leave(slot)
        del self.twins[slot]

    @precondition(lambda self: self.twins)
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.twins)))
        self.pool.reset(slot)
        self.twins[slot].reset()

    @precondition(lambda self: self.twins)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        source, target = (data.draw(st.sampled_from(sorted(self.twins))) for _ in range(2))
        snapshot = self.pool.snapshot(source)
        assert snapshot == self.twins[source].snapshot()
        self.pool.restore(target, snapshot)
        self.twins[target].restore(snapshot)

    @rule()
    def step(self) -> None:
        self.seed += 1
        X = floats(self.seed, SLOTS, 3)
        Y = self.pool.step(X)
        for slot in range(SLOTS):
            if slot in self.twins:
                np.testing.assert_array_equal(Y[slot], self.twins[slot].step(X[slot]))
            else:
                assert not Y[slot].any()

    @invariant()
    def active_is_what_was_joined(self) -> None:
        if hasattr(self, "pool"):
            assert set(np.flatnonzero(self.pool.active)) == set(self.twins)


class SlotBySlot(PoolAgainstStreams):
    """The same for a pool without lanes."""

    lanes = False


class InHalves(PoolAgainstStreams):
    """The same for weights in float16, which lanes read as float32."""

    engine = recurrent_engine("f16", hidden=19)


class InBytes(SlotBySlot):
    """The same for weights in int8, whose activations lie on a grid for each slot."""

    engine = recurrent_engine("int8", hidden=19)


TestPoolAgainstStreams = PoolAgainstStreams.TestCase
TestSlotBySlot = SlotBySlot.TestCase
TestInHalves = InHalves.TestCase
TestInBytes = InBytes.TestCase
for _machine in (TestPoolAgainstStreams, TestSlotBySlot, TestInHalves, TestInBytes):
    _machine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_a_full_pool_and_unknown_slots_are_refused() -> None:
    pool = joined(ENGINE, 1)
    with pytest.raises(InputError, match="taken"):
        pool.join()
    for known in (pool.reset, pool.leave, pool.steps, pool.snapshot):
        with pytest.raises(InputError, match=r"slot 1 is not one of 0 \.\. 0"):
            known(1)
    with pytest.raises(InputError, match="one row per slot"):
        pool.step(floats(1, 2, 3))
    with pytest.raises(InputError, match="at least one slot"):
        StreamPool(ENGINE, 0)
    with pytest.raises(InputError, match="at least one thread"):
        StreamPool(ENGINE, 1, threads=0)
    with pytest.raises(InputError, match="one row per slot"):
        pool.step(floats(1, 1, 3), out=np.zeros((1, 3), np.float32))


def bits(snapshot: Snapshot) -> bytes:
    """Those of a state of float32; NaN is one, because IEEE 754 leaves its sign open."""
    values = np.frombuffer(snapshot.state, np.float32)
    return np.where(np.isnan(values), np.float32(np.nan), values).tobytes()


@pytest.mark.parametrize("lanes", [True, False])
@pytest.mark.parametrize("policy", ["pass", "raise", "hold", "reset"])
@pytest.mark.parametrize("model", ["cell", "ring"])
def test_each_slot_follows_its_policy_alone(model: str, policy: OnNonFinite, lanes: bool) -> None:
    engine = ENGINE if model == "cell" else ahead_engine()
    pool = joined(engine, on_nonfinite=policy, lanes=lanes)
    twins = [Stream(engine, policy) for _ in range(SLOTS)]
    last = np.zeros_like(pool.outputs["y"])
    for t in range(6):
        X = floats(t, *pool.inputs["x"].shape)
        bad = [] if t in (0, 3) else [2, 15, 16 + t % 2]
        X[bad, t % 2] = [np.nan, np.inf, -np.inf][: len(bad)]
        refused = []
        for slot, twin in enumerate(twins):
            try:
                last[slot] = twin.step(X[slot])
            except NonFiniteError:
                refused.append(slot)
        if policy == "raise" and bad:
            assert refused == bad
            with pytest.raises(NonFiniteError, match=str(refused).replace("[", r"\[")):
                pool.step(X)
        else:
            pool.step(X)
        np.testing.assert_array_equal(pool.outputs["y"], last)
        for slot, twin in enumerate(twins):
            assert pool.steps(slot) == twin.steps
            assert bits(pool.snapshot(slot)) == bits(twin.snapshot())


def test_several_inputs_and_outputs_late_ones_and_states_of_the_file(tmp_path: Path) -> None:
    assert_slots_are_streams(streamrnn.load(two_layers(tmp_path / "two.onnx")), steps=4)
    assert_slots_are_streams(streamrnn.load(packed_step(tmp_path / "packed.onnx")), steps=4)
    assert_slots_are_streams(streamrnn.load(conv_gru(tmp_path / "ahead.onnx", pads=[1, 1])), steps=6)


@pytest.mark.parametrize("name", ["amp", "sensor", "vad"])
def test_the_example_models_have_lanes_that_are_their_streams(name: str) -> None:
    """`vad` has a convolution and a cell behind one that looks ahead: each slot leaves out its own filler."""
    engine = streamrnn.load(Path(__file__).parent.parent / "examples" / "models" / f"{name}.onnx")
    assert_slots_are_streams(engine, steps=6)


def test_a_pool_of_eight_has_no_idle_lanes_and_the_bits_of_streams() -> None:
    assert_slots_are_streams(recurrent_engine(hidden=67, n_in=70), steps=3, slots=8)


def test_lanes_take_denormals_as_a_stream_does() -> None:
    """h = x + h * 0.3, which an impulse leaves through all denormals."""
    nodes = Node("Mul", "mul", ("h", "k"), ("less",)), Node("Add", "add", ("less", "x"), ("y",))
    types = {name: TensorType(DType.F32, (3,)) for name in ("x", "h")}
    states = (State("h", "h", "y", np.zeros(3, np.float32)),)
    engine = Engine(typed(Graph("decay", Stage.STEP, ("x",), ("y",), nodes, types, {"k": np.array([0.3], np.float32)}, states)))
    pool, twin = joined(engine, lanes=True), Stream(engine)
    x = np.zeros((SLOTS, 3), np.float32)
    sizes = []
    for t in range(100):
        x[:] = t == 0
        y = twin.step(x[0])
        np.testing.assert_array_equal(pool.step(x), np.broadcast_to(y, (SLOTS, 3)))
        sizes.append(float(y[0]))
    assert sizes[-1] == 0
    assert min(size for size in sizes if size) < 2.0**-124


def ahead_engine() -> Engine:
    """x [T, 2] -> Conv of 3 taps, of which one looks ahead -> y [T, 3]: a ring for each stream, and an output that lags."""
    node = Node("Conv", "conv", ("x", "K"), ("y",), {"pads": (1, 1)})
    types = {"x": TensorType(DType.F32, (1, 2, 8))}
    graph = typed(Graph("ahead", Stage.SEQUENCE, ("x",), ("y",), (node,), types, {"K": floats(1, 3, 2, 3)}))
    return Engine(align(streamify(graph, {"x": 2})))


def test_a_late_output_is_silent_for_each_slot_alone() -> None:
    engine = ahead_engine()
    pool, twins = joined(engine, lanes=True), [Stream(engine) for _ in range(SLOTS)]
    assert engine.delay == 1
    for t in range(5):
        for slot in range(t, SLOTS, 5):
            pool.reset(slot)
            twins[slot].reset()
        X = floats(t, SLOTS, 2) + 3
        found = pool.step(X)
        for slot, twin in enumerate(twins):
            np.testing.assert_array_equal(found[slot], twin.step(X[slot]))
            assert bool(found[slot].any()) == (twin.steps > 1)


def test_views_and_out_hold_what_a_step_returns() -> None:
    pool, other = joined(ENGINE), joined(ENGINE)
    X = floats(1, SLOTS, 3)
    pool.inputs["x"][...] = X
    view = pool.step()
    assert view is pool.outputs["y"]
    out = np.zeros((SLOTS, 2), np.float32)
    assert other.step(X, out=out) is out
    np.testing.assert_array_equal(out, view)


@pytest.mark.parametrize("way", ["builtin", "ctypes"])
def test_both_ways_of_calling_take_and_refuse_the_same(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMRNN_CALL", way)
    pool, twins = joined(ENGINE, on_nonfinite="raise"), [Stream(ENGINE) for _ in range(SLOTS)]
    pool.leave(3)
    assert isinstance(pool.step, types.BuiltinFunctionType) == (way == "builtin")

    def expected(X: np.ndarray) -> np.ndarray:
        return np.stack([np.zeros(2, np.float32) if k == 3 else twin.step(X[k]) for k, twin in enumerate(twins)])

    X, out = floats(1, SLOTS, 3), np.zeros((SLOTS, 2), np.float32)
    for given in (X, {"x": X}, X.tolist(), np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X.astype(np.float64)):
        y = expected(X)
        np.testing.assert_array_equal(pool.step(given), y)
        np.testing.assert_array_equal(pool.outputs["y"], y)
        np.testing.assert_array_equal(pool.inputs["x"], X)
    y = expected(X)
    assert pool.step(X, out=out) is out
    np.testing.assert_array_equal(out, y)
    y = expected(X)
    assert pool.step() is pool.outputs["y"]
    np.testing.assert_array_equal(pool.outputs["y"], y)
    for wrong in (X[:3], X[:, :2], X.astype(np.complex64), {"z": X}, [X, X]):
        with pytest.raises(InputError):
            pool.step(wrong)
    with pytest.raises(InputError, match="single output, one row per slot"):
        pool.step(X, out=out[:4])
    bad = X.copy()
    bad[[3, 5]] = np.nan
    y = expected(np.where(np.isnan(bad), 0, bad))
    with pytest.raises(NonFiniteError, match=r"slots \[5\] holds"):
        pool.step(bad, out=out)
    assert [pool.steps(4), pool.steps(5)] == [9, 8]
    np.testing.assert_array_equal(np.delete(pool.outputs["y"], 5, 0), np.delete(y, 5, 0))


def test_a_step_outlives_its_pool_and_keeps_no_cycle() -> None:
    pool, twin = joined(ENGINE), Stream(ENGINE)
    X, step, memory = floats(1, SLOTS, 3), pool.step, weakref.ref(pool._memory)
    del pool
    np.testing.assert_array_equal(step(X)[17], twin.step(X[17]))
    del step
    assert memory() is None


def test_a_snapshot_moves_between_streams_and_pools_of_both_ways() -> None:
    stream, lanes, rows = Stream(ENGINE), joined(ENGINE), joined(ENGINE, 2)
    stream.process(floats(1, 4, 3))
    lanes.restore(17, stream.snapshot())
    rows.restore(1, lanes.snapshot(17))
    assert rows.snapshot(1) == stream.snapshot()
    assert rows.steps(1) == 4
    foreign = Stream(recurrent_engine(hidden=4)).snapshot()
    before = lanes.snapshot(17)
    with pytest.raises(SnapshotError, match="belongs to the model"):
        lanes.restore(17, foreign)
    assert lanes.snapshot(17) == before


@pytest.mark.parametrize(("weights", "lanes"), [("f32", True), ("f32", False), ("f16", True), ("f16", False), ("int8", False)])
def test_threads_share_the_slots_and_keep_the_bits(weights: str, lanes: bool) -> None:
    slots, engine = 70, recurrent_engine(weights, hidden=19)
    pools = [joined(engine, slots, threads=n, on_nonfinite="raise", lanes=lanes) for n in (1, 3, 200)]
    for t in range(4):
        X = floats(t, slots, 3)
        for pool in pools:
            pool.step(X)
            np.testing.assert_array_equal(pool.outputs["y"], pools[0].outputs["y"])
    X[[3, 40, 69]] = np.nan
    for pool in pools:
        with pytest.raises(NonFiniteError, match=r"\[3, 40, 69\]"):
            pool.step(X)
        assert [pool.steps(slot) for slot in (2, 3, 69)] == [5, 4, 4]


def test_a_pool_without_threads_starts_none_and_threads_end_with_their_pool() -> None:
    before = set(threading.enumerate())
    joined(ENGINE).step(floats(1, SLOTS, 3))
    assert set(threading.enumerate()) <= before
    pool = joined(ENGINE, threads=2)
    pool.step(floats(1, SLOTS, 3))
    (worker,) = set(threading.enumerate()) - before
    del pool
    gc.collect()
    worker.join(10)
    assert not worker.is_alive()


def test_the_interpreter_ends_while_a_pool_with_threads_is_alive(tmp_path: Path) -> None:
    code = (
        "import sys, numpy, streamrnn; pool = streamrnn.StreamPool(streamrnn.load(sys.argv[1]), 40, threads=2); "
        "pool.join(); print(pool.step(numpy.ones((40, 3), 'f4')).shape)"
    )
    path = tmp_path / "m.srnn"
    ENGINE.save(path)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "(40, 2)"


COLD = """
import sys, numpy, streamrnn
pool = streamrnn.StreamPool(streamrnn.load(sys.argv[1]), 18)
pool.join()
y = pool.step(numpy.ones((18, 3), numpy.float32))
print([name for name in ("numba", "llvmlite", "streamrnn.planner", "streamrnn.lanes") if name in sys.modules])
print(pool.way)
print(y.tobytes().hex())
"""


@pytest.mark.parametrize("weights", ["f32", "f16", "int8"])
def test_a_pool_of_a_ready_engine_plans_and_compiles_nothing(weights: str, tmp_path: Path) -> None:
    engine = recurrent_engine(weights, hidden=19)
    engine.save(tmp_path / "m.srnn")
    command, env = [sys.executable, "-c", COLD, tmp_path / "m.srnn"], {**os.environ, "STREAMRNN_CACHE": str(tmp_path / "cache")}
    runs = [subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split("\n") for _ in range(2)]
    assert runs[0][0] == "['llvmlite', 'streamrnn.planner', 'streamrnn.lanes']"
    assert runs[1][0] == "[]"
    assert runs[1][1:] == runs[0][1:]
    expected = np.zeros((18, 2), np.float32)
    expected[0] = Stream(engine).step(np.ones(3, np.float32))
    assert runs[1][1:] == [StreamPool(engine, 18).way, expected.tobytes().hex(), ""]


def test_what_was_altered_in_a_pools_entry_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMRNN_CACHE", str(tmp_path / "cache"))
    ENGINE.save(tmp_path / "m.srnn")
    x, pools = floats(1, SLOTS, 3), []
    for _ in range(2):
        pools.append(joined(streamrnn.load(tmp_path / "m.srnn")))
        entries = list((tmp_path / "cache").glob("*.engine"))
        assert len(entries) == 2
        for entry in entries:
            data = bytearray(entry.read_bytes())
            data[-5] ^= 1
            entry.write_bytes(data)
    np.testing.assert_array_equal(*(pool.step(x) for pool in pools))


@pytest.mark.parametrize("name", ["dtln_2", "silero_v6_ifless", "dprnn_t", "gtcrn_simple"])
def test_real_models_have_lanes_that_are_their_streams(models: Path, name: str) -> None:
    assert_slots_are_streams(Engine(Folder(models).window(name)), steps=3)
