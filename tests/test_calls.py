"""Both ways into a step, the builtin and ctypes: the same results, no references that drift, memory that lives long enough."""

from __future__ import annotations

import copy
import ctypes
import gc
import inspect
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from contract import floats
from small import recurrent_engine, typed

from streamrnn import Engine, InputError, NonFiniteError, Stream
from streamrnn.calls import LONG, Calls
from streamrnn.codegen import builtin
from streamrnn.ir.graph import Graph, Node, Stage, State
from streamrnn.ir.types import DType, TensorType


@pytest.fixture(params=["builtin", "ctypes"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Streams made in the test go this way."""
    monkeypatch.setenv("STREAMRNN_CALL", request.param)
    if request.param == "builtin" and not builtin.capable():
        pytest.skip("this interpreter has no use for the builtin")
    return str(request.param)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return recurrent_engine()


@pytest.fixture(scope="module")
def two() -> Engine:
    """Inputs a [3] and b [], outputs mean = (a + b + last mean) / 2 and product = a * b."""
    nodes = (
        Node("Add", "add", ("a", "b"), ("sum",)),
        Node("Add", "more", ("sum", "held"), ("all",)),
        Node("Mul", "half", ("all", "h"), ("mean",)),
        Node("Mul", "mul", ("a", "b"), ("product",)),
    )
    zero, half = np.zeros(3, np.float32), np.array(0.5, np.float32)
    types = {"a": TensorType(DType.F32, (3,)), "b": TensorType(DType.F32, ()), "held": TensorType.of(zero)}
    states = (State("held", "held", "mean", zero),)
    return Engine(typed(Graph("two", Stage.STEP, ("a", "b"), ("mean", "product"), nodes, types, {"h": half}, states)))


X = floats(7, 60, 3)
B = floats(8, 60)


def formula() -> tuple[np.ndarray, np.ndarray]:
    """Outputs of `two` for X and B in float64."""
    mean, means = np.zeros(3), []
    for a, b in zip(X.astype(np.float64), B.astype(np.float64), strict=True):
        mean = (a + b + mean) / 2
        means.append(mean)
    return np.stack(means), X.astype(np.float64) * B[:, None]


def test_the_environment_chooses_the_way(engine: Engine, way: str) -> None:
    assert inspect.isbuiltin(Stream(engine).step) == (way == "builtin")


def test_a_step_gives_the_same_bits_however_it_is_called(engine: Engine, way: str) -> None:
    out = np.empty(2, np.float32)
    strided = np.zeros((60, 6), np.float32)[:, ::2]
    strided[:] = X
    ways = [
        lambda s, x: s.step(x),
        lambda s, x: s.step(x, out),
        lambda s, x: s.step(x, out=out),
        lambda s, x: s.step(x=x),
        lambda s, x: s.step(x, None),
        lambda s, x: s.step({"x": x}),
        lambda s, x: s.step([float(v) for v in x]),
        lambda s, x: s.step(x.astype(np.float64)),
        lambda s, x: s.process(x[None])[0],
        lambda s, x: s.process({"x": x[None]})[0],
        lambda s, x: s.process([[float(v) for v in x]])[0],
        lambda s, x: s.process(x[None], out=out[None])[0],
        lambda s, x: Stream.step(s, x),
        lambda s, x: Stream.process(s, x[None])[0],
    ]
    expected = Stream(engine).process(X)
    for k, call in enumerate(ways):
        stream = Stream(engine)
        np.testing.assert_array_equal([np.array(call(stream, x)) for x in X], expected, err_msg=str(k))
        assert stream.steps == 60
    stream = Stream(engine)
    np.testing.assert_array_equal([stream.step(x) for x in strided], expected)
    np.testing.assert_array_equal(Stream(engine).process(strided), expected)


def test_models_of_several_inputs_and_outputs_take_and_give_dicts(two: Engine, way: str) -> None:
    means, products = formula()
    stream = Stream(two)
    steps = [stream.step({"b": np.array(b), "a": x}) for x, b in zip(X, B, strict=True)]
    assert [list(y) for y in steps] == [["mean", "product"]] * 60
    block = Stream(two).process({"a": X, "b": B})
    for name, expected in (("mean", means), ("product", products)):
        np.testing.assert_allclose(block[name], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal([y[name] for y in steps], block[name])


def test_blocks_of_one_number_a_step_are_taken_as_they_are(two: Engine, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """[steps] counts as [steps, 1] where a frame is one number; the result keeps the shape of the port, and so must `out`."""
    state = State("held", "held", "y", np.zeros(1, np.float32))
    types = {name: TensorType(DType.F32, (1,)) for name in ("x", "held")}
    graph = Graph("sum", Stage.STEP, ("x",), ("y",), (Node("Add", "add", ("x", "held"), ("y",)),), types, {}, (state,))
    mono = Engine(typed(graph))
    expected = np.cumsum(B.astype(np.float64))[:, None]
    np.testing.assert_allclose(Stream(mono).process(B), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(Stream(mono).process(B), Stream(mono).process(B[:, None]))
    np.testing.assert_array_equal(Stream(mono).process(B.tolist()), Stream(mono).process(B))
    np.testing.assert_array_equal(Stream(mono).process({"x": np.repeat(B, 2)[::2]}), Stream(mono).process(B))
    with pytest.raises(InputError, match=r"out is float32\[60\]"):
        Stream(mono).process(B, np.empty(60, np.float32))
    with pytest.raises(InputError, match="has shape"):
        Stream(two).process({"a": B, "b": B})
    if way == "builtin":
        monkeypatch.setattr(Calls, "process", None)  # what the builtin does not take itself would end here
        np.testing.assert_allclose(Stream(mono).process(B, out=np.empty((60, 1), np.float32)), expected, rtol=1e-5, atol=1e-5)


def test_blocks_of_different_lengths_are_refused(two: Engine, way: str) -> None:
    stream = Stream(two)
    with pytest.raises(InputError, match="different numbers of steps"):
        stream.process({"a": X, "b": B[:5]})
    with pytest.raises(InputError, match="dict of arrays"):
        stream.step(X[0])
    with pytest.raises(InputError, match="were given"):
        stream.step({"a": X[0], "c": B[0]})
    assert stream.steps == 0


def test_views_belong_to_steps_without_arrays(engine: Engine, two: Engine, way: str) -> None:
    stream = Stream(engine)
    stream.inputs["x"][:] = X[0]
    kept = stream.step()
    value = kept.copy()
    assert kept is stream.outputs["y"]
    stream.step(X[1])
    stream.process(X[2:5])
    np.testing.assert_array_equal(stream.inputs["x"], X[0])
    np.testing.assert_array_equal(kept, value)
    out = np.empty(2, np.float32)
    stream.inputs["x"][:] = X[5]
    assert stream.step(out=out) is out
    np.testing.assert_array_equal(out, Stream(engine).process(np.stack([X[0], *X[1:6]]))[5])
    both = Stream(two)
    both.inputs["a"][:], both.inputs["b"][...] = X[0], B[0]
    found = both.step()
    assert found["mean"] is both.outputs["mean"]
    np.testing.assert_array_equal(found["product"], X[0] * B[0])


def test_what_cannot_be_taken_is_refused_with_the_same_words(engine: Engine, way: str) -> None:
    read_only = np.empty(2, np.float32)
    read_only.flags.writeable = False
    stream = Stream(engine)
    for words, call in {
        r"shape \(4,\)": lambda: stream.step(np.zeros(4, np.float32)),
        "int64": lambda: stream.step(np.zeros(3, np.int64)),
        r"out is float32\[3\]": lambda: stream.step(X[0], out=np.empty(3, np.float32)),
        r"out is float64\[2\]": lambda: stream.step(X[0], np.empty(2)),
        "writeable": lambda: stream.step(X[0], out=read_only),
        r"out is float32\[59, 2\]": lambda: stream.process(X, out=np.empty((59, 2), np.float32)),
        "leading axis": lambda: stream.process(X[0]),
    }.items():
        with pytest.raises(InputError, match=words):
            call()
    for wrong in (lambda: stream.step(X[0], None, 1), lambda: stream.step(y=1), lambda: stream.step(X[0], x=1), stream.process):  # type: ignore[call-arg,arg-type,misc]
        with pytest.raises(TypeError):
            wrong()  # type: ignore[operator]
    assert stream.steps == 0


def test_a_refused_frame_is_named(engine: Engine, way: str) -> None:
    bad = X.copy()
    bad[7, 1] = np.nan
    stream = Stream(engine, on_nonfinite="raise")
    out = np.empty((60, 2), np.float32)
    for call in (lambda: stream.process(bad), lambda: stream.process(bad, out=out)):
        stream.reset()
        with pytest.raises(NonFiniteError, match="frame 7"):
            call()
        assert stream.steps == 7
    with pytest.raises(NonFiniteError, match="frame 0"):
        stream.step(bad[7])
    np.testing.assert_array_equal(stream.step(X[7]), Stream(engine).process(X)[7])


def everything(stream: Stream, stop: int) -> None:
    """Each kind of call, also those that end in an error."""
    x, out, block = X[0], np.empty(2, np.float32), X[:4]
    bad = np.full(3, np.nan, np.float32)
    for _ in range(stop):
        stream.step(x)
        stream.step(x, out=out)
        stream.step(x, out)
        stream.step()
        stream.step({"x": x})
        stream.step([1, 2, 3])
        stream.process(block)
        stream.process({"x": block})
        for wrong in (bad, block):
            try:
                stream.step(wrong)
            except (InputError, NonFiniteError):
                continue
            raise AssertionError


def test_references_and_memory_do_not_drift(engine: Engine, way: str) -> None:
    stream = Stream(engine, on_nonfinite="raise")
    watched = [None, X.dtype, np.ndarray, stream.outputs["y"], stream.inputs["x"], stream.step, dict, "x", "y", X]
    everything(stream, 100)
    gc.collect()
    before, blocks = [sys.getrefcount(w) for w in watched], sys.getallocatedblocks()
    everything(stream, 2000)
    gc.collect()
    after, more = [sys.getrefcount(w) for w in watched], sys.getallocatedblocks()
    assert all(abs(b - a) < 20 for a, b in zip(before, after, strict=True)), list(zip(before, after, strict=True))
    assert more - blocks < 200


def test_no_result_changes_while_anything_refers_to_it(engine: Engine, way: str) -> None:
    expected = Stream(engine).process(X)
    stream = Stream(engine)
    everything_kept = [stream.step(x) for x in X]
    np.testing.assert_array_equal(everything_kept, expected)
    holders: list[Callable[[np.ndarray], object]] = [
        lambda y: y, lambda y: y[1:], lambda y: y.T, memoryview, lambda y: y.ctypes, lambda y: {"y": y},
    ]  # fmt: skip
    seen = []
    for k, hold in enumerate(holders):
        stream = Stream(engine)
        for i, x in enumerate(X):
            y = stream.step(x)
            np.testing.assert_array_equal(y, expected[i])
            if i % 3 == 0:
                seen.append((k, i, hold(y), y.ctypes.data))
            del y
    for k, i, held, address in seen:
        memory = (ctypes.c_float * 2).from_address(address)  # kept alive by `held` alone
        np.testing.assert_array_equal(list(memory), expected[i], err_msg=f"{k} {held}")


def test_a_result_that_was_altered_is_not_given_again(engine: Engine, way: str) -> None:
    def read_only(y: np.ndarray) -> None:
        y.flags.writeable = False

    def shaped(y: np.ndarray) -> None:
        y.shape = (2, 1)

    def typed_anew(y: np.ndarray) -> None:
        y.dtype = np.int32

    expected = Stream(engine).process(X)
    for alter in (read_only, shaped, typed_anew):
        stream = Stream(engine)
        for x, value in zip(X, expected, strict=True):
            y = stream.step(x)
            assert (y.shape, y.dtype, y.flags.writeable) == ((2,), np.float32, True)
            np.testing.assert_array_equal(y, value)
            alter(y)
            del y
    stream, gone = Stream(engine), []
    watched = [weakref.ref(stream.step(x), lambda _: gone.append(1)) for x in X]
    assert all(found() is None or found() is not other() for found, other in pairwise(watched))
    del stream
    assert len(gone) == len(X)


def test_results_are_owned_by_the_caller_alone(engine: Engine, two: Engine, way: str) -> None:
    y, Y = Stream(engine).step(X[0]), Stream(engine).process(X)
    assert sys.getrefcount(y) == sys.getrefcount(Y) == 2
    found = Stream(two).process({"a": X, "b": B})
    assert sys.getrefcount(found) == 2
    mean = found.pop("mean")
    assert sys.getrefcount(mean) == 2
    assert y.flags.owndata
    assert y.flags.writeable


def test_a_step_outlives_its_stream_and_a_stream_is_freed_at_once(way: str) -> None:
    engine = recurrent_engine(hidden=7)
    stream = Stream(engine)
    expected = Stream(engine).process(X)
    step, process, gone = stream.step, stream.process, weakref.ref(stream)
    gc.disable()
    try:
        if way == "builtin":
            del stream
            assert gone() is None, "no cycle holds it"
        del engine
        found = [step(x) for x in X[:30]]
        np.testing.assert_array_equal(np.concatenate([found, process(X[30:])]), expected)
        memory = weakref.ref(step()) if way == "builtin" else gone
        if way == "ctypes":
            del stream
        del step, process, found
        assert memory() is None
        assert gone() is None
    finally:
        gc.enable()


def test_a_subclass_may_have_its_own_step(engine: Engine, way: str) -> None:
    class Louder(Stream):
        def step(self, x=None, out=None):  # type: ignore[no-untyped-def]
            return 2 * super().step(x, out)

    np.testing.assert_array_equal(Louder(engine).step(X[0]), 2 * Stream(engine).step(X[0]))
    np.testing.assert_array_equal(Louder(engine).process(X), Stream(engine).process(X))


def test_streams_are_neither_copied_nor_pickled(engine: Engine, way: str) -> None:
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="snapshot"):
            duplicate(Stream(engine))  # type: ignore[operator]


def test_a_builtin_explains_itself(engine: Engine) -> None:
    assert Stream(engine).step.__doc__ == Stream.step.__doc__
    assert "One step." in str(Stream.step.__doc__)
    assert Stream(engine).process.__name__ == "process"


class Waiting:
    """A thread that acts once the GIL is released, and never before: Python does not take it from anyone meanwhile."""

    def __init__(self, action: Callable[[], None] = lambda: None) -> None:
        self._action = action

    def __enter__(self) -> Waiting:
        self.ran, self._lock = False, threading.Lock()
        self._lock.acquire()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        self._lock.release()
        return self

    def _run(self) -> None:
        with self._lock:
            self._action()
            self.ran = True

    def __exit__(self, *_: object) -> None:
        sys.setswitchinterval(self._interval)
        self._thread.join()


def test_long_calls_let_other_threads_run_and_short_ones_do_not(engine: Engine, way: str) -> None:
    large = recurrent_engine(n_in=256, hidden=256)
    assert engine.layout.work < LONG // 100
    assert large.layout.work > LONG
    frame, block = floats(9, 256), floats(9, 4000, 3)
    stream, small = Stream(large), Stream(engine)
    with Waiting() as other:
        for _ in range(3000):
            small.step(X[0])
            small.process(X)
        assert not other.ran
        for _ in range(100_000):
            stream.step(frame)
            if other.ran:
                break
        assert other.ran
    with Waiting() as other:
        for _ in range(10_000):
            small.process(block)
            if other.ran:
                break
        assert other.ran


def test_arrays_may_leave_their_dict_while_a_block_is_computed(two: Engine, way: str) -> None:
    given = {"a": floats(1, 200_000, 3), "b": floats(2, 200_000)}
    arrays = [weakref.ref(array) for array in given.values()]
    alive: list[bool] = []

    def empty() -> None:
        given.clear()
        alive.extend(array() is not None for array in arrays)

    stream = Stream(two)
    with Waiting(empty) as other:
        stream.process(given)
        assert other.ran, "the block takes a hundred times longer than a thread takes to wake up"
    assert alive == [True, True]
    assert [array() for array in arrays] == [None, None]
