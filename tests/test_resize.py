"""Resize keeps the contract of ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import Case, Contract, floats
from moving import compiled

from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.ir.graph import Array

NONE = np.zeros(0, np.float32)
PLACES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def scaled(shape: tuple[int, ...], *scales: float, **attrs: Any) -> Case:
    attrs.setdefault("mode", "linear")
    return Case("Resize", (floats(1, *shape), None, np.array(scales, np.float32)), attrs)


def sized(shape: tuple[int, ...], *sizes: int, **attrs: Any) -> Case:
    attrs.setdefault("mode", "linear")
    return Case("Resize", (floats(1, *shape), None, None, np.array(sizes)), attrs)


def timed(case: Case, axis: int, refused: str = "") -> Case:
    return Case(case.op, case.inputs, case.attrs, time={0: axis}, refused=refused)


def cropped(roi: list[float], *sizes: int, **attrs: Any) -> Case:
    attrs = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", **attrs}
    return Case("Resize", (floats(1, 1, 2, 5, 6), np.array(roi, np.float32), None, np.array(sizes)), attrs)


class TestResize(Contract):
    cases = [  # noqa: RUF012
        *(
            sized((1, 2, 5, 6), 1, 2, *size, mode="nearest", coordinate_transformation_mode=place, nearest_mode=rounding)
            for place in PLACES[:4]
            for rounding in ROUNDINGS
            for size in ((7, 13), (3, 4))
        ),
        *(
            scaled((1, 2, 5, 6), 1, 1, *scales, mode=mode, coordinate_transformation_mode=place)
            for place in PLACES
            for mode in ("linear", "cubic")
            for scales in ((2.0, 1.7), (0.6, 0.5))
        ),
        scaled((1, 2, 5, 6), 1, 1, 1.5, 0.7, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5),
        scaled((1, 2, 9, 8), 1, 1, 0.4, 0.6, antialias=1),
        sized((1, 2, 9, 8), 1, 2, 4, 11, mode="cubic", antialias=1),
        scaled((2, 3, 17), 1, 1, 2.0),
        scaled((2, 3, 40), 1, 1, 0.5, mode="nearest"),
        cropped([0, 0, 0.2, 0.1, 1, 1, 0.8, 0.9], 1, 2, 4, 4),
        cropped([0, 0, 0.2, -0.3, 1, 1, 1.4, 0.9], 1, 2, 4, 5, extrapolation_value=2.5),
        cropped([0, 0, 0.2, -0.3, 1, 1, 1.4, 0.9], 1, 2, 4, 5, mode="nearest"),
        sized((1, 1, 4, 6), 7, 8, axes=(2, 3), keep_aspect_ratio_policy="not_larger"),
        sized((1, 1, 4, 6), 8, 7, axes=(3, 2), keep_aspect_ratio_policy="not_smaller"),
        timed(scaled((1, 2, 5, 6), 1, 1, 1, 2.0), 2),
        timed(sized((1, 3, 7, 4), 1, 3, 7, 9), 2),
        timed(sized((1, 3, 7, 4), 9, axes=(3,)), 2),
        timed(scaled((1, 3, 4, 7), 1, 1, 2.0, 1), 3),
        timed(scaled((1, 2, 6, 5), 1, 1, 2.0, 2.0), 2, "not by repeating"),
        timed(scaled((1, 2, 6, 5), 1, 1, 2.0, 2.0, mode="nearest"), 2, "makes 2 frames of each"),
        timed(sized((1, 2, 6, 5), 6, 10, axes=(2, 3), keep_aspect_ratio_policy="not_larger"), 2, "proportion"),
    ]


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_nearest_moves_elements_of_every_type(dtype: str) -> None:
    x = (np.arange(24).reshape(1, 2, 3, 4) % 7).astype(dtype)
    case = Case("Resize", (x, None, np.array([1, 1, 2, 3], np.float32)), {"mode": "nearest"})
    (found,) = compiled(case)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, case.reference[0])


def test_unchanged_sizes_are_no_work() -> None:
    x = floats(1, 1, 2, 3, 4)
    case = sized((1, 2, 3, 4), 1, 2, 3, 4, mode="cubic")
    np.testing.assert_array_equal(compiled(case)[0], x)


def test_a_scale_that_leaves_nothing_gives_nothing() -> None:
    assert compiled(scaled((1, 2, 3, 4), 1, 1, 0.2, 1))[0].shape == (1, 2, 0, 4)


def case_of(*inputs: Array | None, **attrs: Any) -> Case:
    return Case("Resize", inputs, attrs)


X = floats(1, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("bad", "error", "reason"),
    [
        (case_of(X), ShapeError, "scales or sizes"),
        (case_of(X, None, NONE, NONE), ShapeError, "scales or sizes"),
        (case_of(X, None, np.ones(4, np.float32), np.ones(4, np.int64)), ShapeError, "not both"),
        (case_of(X, None, np.array([1, 1, 0, 2], np.float32)), ShapeError, "no scales"),
        (case_of(X, None, np.array([1, 1, np.nan, 2], np.float32)), ShapeError, "no scales"),
        (case_of(X, None, np.array([2, 2], np.float32)), ShapeError, "no scales"),
        (case_of(X, None, np.ones(4, np.float32), mode="lanczos"), UnsupportedError, "lanczos"),
        (case_of(X.astype(np.int32), None, np.full(4, 2, np.float32), mode="linear"), UnsupportedError, "float32"),
        (case_of(X, None, np.full(4, 2, np.float32), coordinate_transformation_mode="tf_crop_and_resize"), ShapeError, "roi"),
        (Case("Resize", (X, None, np.full(4, 2, np.float32)), live=(0, 2)), UnsupportedError, "run time"),
        (case_of(X, None, np.full(4, 2, np.float32), antialias=1), UnsupportedError, "antialias"),
    ],
)
def test_what_cannot_be_resized_is_refused(bad: Case, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        bad.site()
