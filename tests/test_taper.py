"""Windows for spectra and the mel filter bank keep the contract of ops."""

from __future__ import annotations

import numpy as np
import pytest
from contract import Case, Contract
from onnx import TensorProto

from streamrnn.errors import ShapeError, UnsupportedError

WINDOWS = ("HannWindow", "HammingWindow", "BlackmanWindow")


def window(op: str, size: int, **attrs: int) -> Case:
    return Case(op, (np.array(size),), attrs, live=())


def mel(mels: int, length: int, rate: int, low: float, high: float) -> Case:
    edges = (np.array(f, np.float32) for f in (low, high))
    return Case("MelWeightMatrix", (np.array(mels), np.array(length), np.array(rate), *edges), live=())


class TestWindows(Contract):
    cases = [  # noqa: RUF012
        *(window(op, 400) for op in WINDOWS),
        *(window(op, 400, periodic=0) for op in WINDOWS),
        window("HannWindow", 1),
        Case(
            "HannWindow", (np.array(8),), {"output_datatype": "float64"}, live=(),
            onnx_attrs={"output_datatype": TensorProto.DOUBLE},
        ),
    ]  # fmt: skip


class TestMelWeightMatrix(Contract):
    cases = [mel(8, 16, 8192, 0, 4096), mel(40, 512, 16000, 20, 7600), mel(64, 400, 16000, 0, 8000)]  # noqa: RUF012


def test_a_symmetric_window_of_one_sample_is_finite() -> None:
    (found,) = window("HannWindow", 1, periodic=0).reference
    np.testing.assert_array_equal(found, [0])


@pytest.mark.parametrize(
    ("bad", "error", "reason"),
    [
        (window("HannWindow", -1), ShapeError, "-1 samples"),
        (Case("HannWindow", (np.array([1, 2]),), live=()), ShapeError, "no single number"),
        (Case("HannWindow", (np.array(8),)), UnsupportedError, "run time"),
        (Case("HannWindow", (np.array(8),), {"output_datatype": "bfloat16"}, live=()), UnsupportedError, "bfloat16"),
        (mel(8, 16, 8192, 0, 5000), ShapeError, "mel bands"),
        (mel(8, 16, 0, 0, 0), ShapeError, "mel bands"),
    ],
)
def test_what_is_no_window_is_refused(bad: Case, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        bad.site()
