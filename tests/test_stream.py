"""What a Stream promises: inputs are checked, chunks do not show, a bad frame does what the policy says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from contract import floats
from hypothesis import given, settings
from hypothesis import strategies as st
from small import recurrent_engine

from streamrnn import Engine, InputError, NonFiniteError, Snapshot, SnapshotError, Stream


@pytest.fixture(scope="module")
def engine() -> Engine:
    return recurrent_engine()


X = floats(7, 60, 3)


def test_process_gives_the_bits_of_single_steps(engine: Engine) -> None:
    stream = Stream(engine)
    np.testing.assert_array_equal(Stream(engine).process(X), np.stack([stream.step(x) for x in X]))


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=8), views=st.booleans())
def test_any_chunking_gives_identical_bits(engine: Engine, cuts: list[int], views: bool) -> None:
    stream, whole = Stream(engine), Stream(engine).process(X)
    edges = [0, *sorted(cuts), len(X)]
    parts = []
    for start, stop in itertools.pairwise(edges):
        if views and stop - start == 1:
            stream.inputs["x"][...] = X[start]
            parts.append(np.array(stream.step())[None])
        else:
            parts.append(stream.process(X[start:stop]))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_nothing_is_left_of_the_step_that_a_new_stream_makes(engine: Engine) -> None:
    stream = Stream(engine, on_nonfinite="hold")
    assert (stream.steps, stream.mended) == (0, 0)
    assert not any(view.any() for view in (*stream.inputs.values(), *stream.outputs.values()))
    for name, value in stream.state().items():
        init = next(state.init for state in engine.graph.states if state.name == name)
        np.testing.assert_array_equal(value, init)


def test_views_of_the_arena_are_inputs_and_outputs_without_a_copy(engine: Engine) -> None:
    stream = Stream(engine)
    view = stream.inputs["x"]
    assert view.shape == (3,)
    view[:] = X[0]
    result = stream.step()
    assert np.shares_memory(result, stream.outputs["y"])
    np.testing.assert_array_equal(result, Stream(engine).step(X[0]))


def test_results_of_step_stay_when_the_next_step_is_made(engine: Engine) -> None:
    stream = Stream(engine)
    first = stream.step(X[0])
    kept = first.copy()
    stream.step(X[1])
    np.testing.assert_array_equal(first, kept)


def test_out_takes_the_result(engine: Engine) -> None:
    out = np.empty(2, np.float32)
    assert Stream(engine).step(X[0], out=out) is out
    block = np.empty((60, 2), np.float32)
    Stream(engine).process(X, out=block)
    np.testing.assert_array_equal(block[0], out)


def test_output_may_be_written_over_the_input() -> None:
    engine = recurrent_engine(n_in=2, n_out=2)
    audio = floats(8, 40, 2)
    expected = Stream(engine).process(audio)
    Stream(engine).process(audio, out=audio)
    np.testing.assert_array_equal(audio, expected)


def test_an_empty_block_is_no_step(engine: Engine) -> None:
    stream = Stream(engine)
    assert stream.process(X[:0]).shape == (0, 2)
    assert stream.steps == 0


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros(4, np.float32), "shape"),
        (np.zeros((1, 3), np.float32), "shape"),
        (np.zeros(3, np.int64), "int64"),
        (np.zeros(3, np.complex64), "complex64"),
        (np.array(["a", "b", "c"]), "<U1"),
        ({"x": np.zeros(3, np.float32), "z": np.zeros(3, np.float32)}, "takes"),
        ({}, "takes"),
    ],
)
def test_a_wrong_frame_is_refused_with_what_the_model_takes(engine: Engine, bad: object, words: str) -> None:
    stream = Stream(engine)
    with pytest.raises(InputError, match=words):
        stream.step(bad)  # type: ignore[arg-type]
    assert stream.steps == 0


def test_strided_float64_and_lists_are_converted(engine: Engine) -> None:
    expected = Stream(engine).step(X[0])
    wide = np.zeros((3, 2))
    wide[:, 0] = X[0]
    np.testing.assert_array_equal(Stream(engine).step(wide[:, 0]), expected)
    np.testing.assert_array_equal(Stream(engine).step([float(v) for v in X[0]]), expected)
    np.testing.assert_array_equal(Stream(engine).process(np.asfortranarray(X))[0], expected)


def test_a_block_needs_steps_in_front(engine: Engine) -> None:
    with pytest.raises(InputError, match="leading axis of steps"):
        Stream(engine).process(X[0])


def test_ragged_rows_are_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="different lengths"):
        Stream(engine).process([[1.0, 2.0, 3.0], [1.0]])


def test_out_of_the_wrong_shape_is_refused_before_the_step_is_made(engine: Engine) -> None:
    stream = Stream(engine)
    with pytest.raises(InputError, match="out is"):
        stream.step(X[0], out=np.empty(3, np.float32))
    assert stream.steps == 0


def test_out_that_may_not_be_written_is_refused(engine: Engine) -> None:
    out = np.empty((60, 2), np.float32)
    out.flags.writeable = False
    with pytest.raises(InputError, match="writeable"):
        Stream(engine).process(X, out=out)


def test_out_of_the_wrong_layout_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="C-contiguous"):
        Stream(engine).process(X, out=np.empty((60, 4), np.float32)[:, ::2])


def bad_frame() -> np.ndarray:
    frame = X[5].copy()
    frame[1] = np.nan
    return frame


def test_nan_passes_as_in_onnxruntime_and_reset_heals(engine: Engine) -> None:
    stream = Stream(engine)
    assert np.isnan(stream.step(bad_frame())).any()
    assert np.isnan(stream.step(X[0])).any()
    stream.reset()
    np.testing.assert_array_equal(stream.process(X), Stream(engine).process(X))


def test_policy_raise_refuses_the_frame_and_keeps_the_state(engine: Engine) -> None:
    stream, twin = Stream(engine, on_nonfinite="raise"), Stream(engine)
    stream.process(X[:5])
    twin.process(X[:5])
    with pytest.raises(NonFiniteError, match="NaN or Inf"):
        stream.step(bad_frame())
    assert (stream.steps, stream.mended) == (5, 1)
    np.testing.assert_array_equal(stream.step(X[5]), twin.step(X[5]))


def test_policy_raise_in_a_block_names_the_frame(engine: Engine) -> None:
    block = X[:10].copy()
    block[7, 0] = np.inf
    stream = Stream(engine, on_nonfinite="raise")
    with pytest.raises(NonFiniteError, match="frame 7"):
        stream.process(block)
    assert stream.steps == 7


def test_policy_hold_keeps_the_last_finite_value_of_each_element(engine: Engine) -> None:
    stream, twin = Stream(engine, on_nonfinite="hold"), Stream(engine)
    stream.process(X[:5])
    twin.process(X[:5])
    held = bad_frame()
    held[1] = X[4][1]
    np.testing.assert_array_equal(stream.step(bad_frame()), twin.step(held))


def test_policy_reset_starts_anew_with_zero_for_what_is_not_finite(engine: Engine) -> None:
    stream = Stream(engine, on_nonfinite="reset")
    stream.process(X[:5])
    zeroed = bad_frame()
    zeroed[1] = 0
    np.testing.assert_array_equal(stream.step(bad_frame()), Stream(engine).step(zeroed))


def test_an_unknown_policy_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="pass, raise, hold, reset"):
        Stream(engine, on_nonfinite="ignore")  # type: ignore[arg-type]


def test_a_snapshot_survives_bytes_and_files(engine: Engine, tmp_path) -> None:  # type: ignore[no-untyped-def]
    stream = Stream(engine)
    stream.process(X[:20])
    stream.snapshot().save(tmp_path / "s.snap")
    other = Stream(engine)
    other.restore(Snapshot.load(tmp_path / "s.snap"))
    assert other.steps == 20
    np.testing.assert_array_equal(other.process(X[20:]), Stream(engine).process(X)[20:])


def test_a_snapshot_of_another_model_is_refused(engine: Engine) -> None:
    other = Stream(recurrent_engine(hidden=6))
    with pytest.raises(SnapshotError, match="belongs to the model"):
        other.restore(Stream(engine).snapshot())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_altered_or_cut_snapshot_is_taken(engine: Engine, data: st.DataObject) -> None:
    good = Stream(engine).snapshot().to_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        bad = good[:at]
    else:
        bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    with pytest.raises(SnapshotError):
        Snapshot.from_bytes(bad)


def test_state_shows_every_state_by_name(engine: Engine) -> None:
    stream = Stream(engine)
    assert {n: a.shape for n, a in stream.state().items()} == {"cell.h": (1, 1, 5), "cell.c": (1, 1, 5)}
    stream.step(X[0])
    assert all(a.any() for a in stream.state().values())
