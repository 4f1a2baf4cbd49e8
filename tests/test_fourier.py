"""DFT and STFT keep the contract of ops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_files as files
import pytest
from contract import Case, Contract, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import compiled
from onnx import helper as h
from onnx_files import F32
from streamrnn_converters import convert
from streamrnn_converters.validate import validate

from streamrnn import Engine
from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array

ONE = np.array(1)
FORWARD = {"onesided": 1}
BACK = {"inverse": 1}
HALF = {"inverse": 1, "onesided": 1}


def signal(seed: int, *shape: int) -> Array:
    return floats(seed, *shape, scale=0.1)


class TestDFT(Contract):
    cases = [  # noqa: RUF012
        Case("DFT", (signal(1, 3, 64, 1), None, ONE), FORWARD, time={0: 0}),
        Case("DFT", (signal(2, 2, 96, 2), None, ONE), onnx=False),  # onnxruntime is 1e-4 off where n is no power of two
        Case("DFT", (signal(3, 2, 256, 2), None, ONE), BACK),
        Case("DFT", (signal(4, 5, 128, 3, 1), None, np.array(-3)), FORWARD, time={0: 2}),
        Case("DFT", (signal(5, 2, 6, 16, 2), None, np.array(-2)), time={0: 1}),
        Case("DFT", (signal(6, 1, 40, 1), np.array(64), ONE), FORWARD),
        Case("DFT", (signal(7, 1, 40, 2), np.array(32), ONE), BACK),
        Case("DFT", (signal(8, 2, 33, 2), None, ONE), HALF),
        Case("DFT", (signal(9, 2, 8, 2), np.array(15), ONE), HALF),
        Case("DFT", (signal(10, 2, 300, 2), None, ONE), onnx=False),
        Case("DFT", (signal(11, 6, 64, 1), None, ONE), time={0: 1}, refused="transforms along time"),
    ]


class TestSTFT(Contract):
    cases = [  # noqa: RUF012
        Case("STFT", (signal(1, 2, 200, 1), np.array(16), np.hanning(64).astype(np.float32), np.array(64))),
        Case("STFT", (signal(2, 1, 96, 1), np.array(8), np.hanning(32).astype(np.float32)), time={0: 1}),
        Case("STFT", (signal(3, 1, 80, 1), np.array(10), None, np.array(16)), {"onesided": 0}, time={0: 1}),
        Case("STFT", (signal(5, 2, 80), np.array(10), np.hanning(16).astype(np.float32), np.array(16)), time={0: 1}),
        Case("STFT", (signal(4, 2, 48, 2), np.array(8), None, np.array(16)), {"onesided": 0}, onnx=False),
    ]


def transformed(x: Array, n: int, inverse: bool) -> Array:
    """The sum of the operator's page, in float64."""
    z = np.zeros(n, complex)
    z[: len(x)] = x[:n, 0] + 1j * x[:n, 1]
    turns = np.exp((2j if inverse else -2j) * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    return turns @ z / (n if inverse else 1)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 130), size=st.integers(1, 130), inverse=st.booleans(), seed=st.integers(0, 99))
def test_every_length_is_the_sum_that_defines_it(n: int, size: int, inverse: bool, seed: int) -> None:
    x = floats(seed, size, 2)
    case = Case("DFT", (x[None], np.array(n), ONE), {"inverse": int(inverse)})
    (found,) = compiled(case)
    expected = transformed(x.astype(np.float64), n, inverse)
    np.testing.assert_allclose(found[0, :, 0] + 1j * found[0, :, 1], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("n", [100, 240, 400, 480, 500, 512, 960, 1024])
def test_audio_lengths_there_and_back_give_the_signal(n: int) -> None:
    x = floats(n, 1, n, 1)
    (half,) = compiled(Case("DFT", (x, None, ONE), FORWARD))
    (again,) = compiled(Case("DFT", (half, None, ONE), HALF))
    np.testing.assert_allclose(again, x, rtol=0, atol=3e-6)


def test_samples_that_are_cut_off_count_for_nothing() -> None:
    x = floats(1, 1, 20, 1)
    x[:, 16:] = np.nan
    (found,) = compiled(Case("DFT", (x, np.array(16), ONE), FORWARD))
    assert np.isfinite(found).all()


def test_a_spectrogram_in_front_of_a_cell_runs_hop_by_hop(tmp_path: Path) -> None:
    """[1, T] -> STFT -> power -> GRU: one step takes the samples of a hop."""
    n, step, hidden = 64, 16, 8
    bins = n // 2 + 1
    weights = {
        "step": np.array(step), "window": np.hanning(n).astype(np.float32), "two": np.array([2]), "three": np.array([3]),
        "one": np.array([1]), "W": floats(1, 1, 3 * hidden, bins, scale=0.3), "R": floats(2, 1, 3 * hidden, hidden, scale=0.3),
    }  # fmt: skip
    nodes = [
        h.make_node("Unsqueeze", ["x", "two"], ["u"]),
        h.make_node("STFT", ["u", "step", "window"], ["s"]),
        h.make_node("ReduceSumSquare", ["s", "three"], ["p"], keepdims=0),
        h.make_node("Transpose", ["p"], ["t"], perm=[1, 0, 2]),
        h.make_node("GRU", ["t", "W", "R"], ["g"], hidden_size=hidden),
        h.make_node("Squeeze", ["g", "one"], ["y"]),
    ]
    model = files.make(nodes, [("x", F32, [1, "T"])], [("y", F32, ["F", 1, hidden])], weights, opset=18)
    path = files.save(model, tmp_path)
    engine = Engine(convert(path))
    assert (engine.frames, engine.stride, engine.delay) == (step, step, n - step)
    assert validate(path, engine, steps=60).passed


@pytest.mark.parametrize(
    ("bad", "error", "reason"),
    [
        (Case("DFT", (signal(1, 2, 8, 3), None, ONE)), ShapeError, "not 1 .* or 2"),
        (Case("DFT", (signal(1, 2, 8, 2), None, ONE), FORWARD), ShapeError, "real samples"),
        (Case("DFT", (signal(1, 2, 8, 1), None, np.array(-1))), ShapeError, "the real and the imaginary part"),
        (Case("DFT", (signal(1, 2, 8, 1), np.array(1 << 40), ONE)), UnsupportedError, "length"),
        (Case("STFT", (signal(1, 2, 8, 1), np.array(0), None, np.array(4))), ShapeError, "every 0"),
        (Case("STFT", (signal(1, 2, 8, 1), np.array(2), floats(1, 5), np.array(4))), ShapeError, "window"),
    ],
)
def test_what_cannot_be_transformed_is_refused(bad: Case, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        bad.site()
