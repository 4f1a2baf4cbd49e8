"""ConvTranspose keeps the contract of ops, whatever way computes it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from contract import Case, Contract, close, floats
from filters import agrees_with_onnxruntime_and_the_reference, stream_gives_the_whole_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_nodes import NodeTest, node_tests

from streamrnn import Stream
from streamrnn.errors import ShapeError, UnsupportedError
from streamrnn.plan import Call


def conv(
    x: tuple[int, ...],
    m: int,
    kernel: tuple[int, ...],
    *,
    group: int = 1,
    bias: bool = True,
    time: int | None = None,
    refused: str = "",
    **attrs: object,
) -> Case:
    size = x[1] // group * math.prod(kernel)
    inputs = (floats(1, *x), floats(2, x[1], m // group, *kernel, scale=size**-0.5), floats(3, m) if bias else None)
    return Case(
        "ConvTranspose",
        inputs,
        {"group": group, **attrs},
        time={} if time is None else {0: time},
        refused=refused,  # type: ignore[dict-item]
    )


class TestConvTranspose(Contract):
    cases = [  # noqa: RUF012
        conv((1, 5, 1), 7, (1,)),
        conv((2, 3, 6), 18, (3,), bias=False),
        conv((2, 3, 6), 5, (4,), strides=(2,), pads=(1, 1)),
        conv((1, 3, 6), 5, (4,), strides=(3,), output_padding=(2,)),
        conv((1, 3, 6), 5, (2,), strides=(3,), dilations=(2,), bias=False),
        conv((1, 3, 6), 5, (3,), strides=(4,), dilations=(2,), pads=(2, 3)),
        conv((1, 3, 6), 5, (3,), strides=(2,), auto_pad="VALID"),
        conv((1, 3, 6), 5, (4,), strides=(2,), auto_pad="SAME_UPPER"),
        conv((1, 24, 64), 2, (8,), strides=(4,), pads=(2, 2)),
        conv((1, 8, 32), 16, (6,), strides=(2,), pads=(2, 2), output_padding=(1,)),
        conv((1, 20, 40), 20, (5,), strides=(2,), group=20, pads=(2, 2)),
        conv((2, 40, 3), 40, (3,), strides=(2,), group=40),
        conv((1, 16, 3, 33), 8, (1, 5), strides=(1, 2), group=2, pads=(0, 2, 0, 2), time=2),
        conv((1, 16, 3, 33), 16, (1, 1), time=2),
        conv((1, 12, 5, 20), 12, (3, 3), strides=(1, 2), pads=(2, 1, 2, 1), group=12, time=2),
        conv((1, 6, 7, 17), 4, (2, 3), strides=(2, 3), dilations=(1, 2), pads=(1, 0, 0, 2)),
        conv((1, 2, 5, 4), 3, (3, 3), strides=(3, 2), output_padding=(1, 1), output_shape=(14, 8)),
        conv((1, 4, 12), 20, (3,), time=2),
        conv((1, 4, 12), 6, (3,), pads=(2, 0), time=2),
        conv((1, 4, 12), 6, (3,), dilations=(3,), pads=(1, 5), time=2),
        conv((1, 4, 12), 6, (3,), auto_pad="SAME_UPPER", time=2),
        conv((1, 4, 12, 1), 6, (1, 4), time=2),
        conv((5, 2, 3), 4, (3,), strides=(2,), time=0),
        conv((2, 3, 4, 3, 5), 4, (3, 2, 2), strides=(2, 1, 3), pads=(1, 0, 1, 0, 1, 1), dilations=(1, 2, 1)),
        conv((1, 4, 6, 2, 17), 6, (3, 1, 2), group=2, time=2),
        conv((1, 2, 3, 2, 4), 3, (1, 2, 1), strides=(2, 2, 2), output_padding=(1, 0, 1)),
        conv((1, 4, 6), 5, (2,), time=1, refused="input channels"),
        conv((1, 4, 8), 5, (3,), time=2, strides=(2,), refused="gives 2 frames of output for each frame of input"),
        conv((1, 4, 8), 5, (3,), time=2, output_shape=(8,), refused="output_shape"),
    ]


@st.composite
def geometries(draw: st.DrawFn, most_first_stride: int = 4) -> dict[str, Any]:
    """A transposed convolution of one to three dimensions and at most some ten thousand multiply-adds, with an output."""
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    per_group = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    if draw(st.booleans()):  # depthwise
        groups, per_group = draw(st.integers(2, 20)), (1, draw(st.integers(1, 2)))
    rank = draw(st.integers(1, 3))
    kernel, dilations = (tuple(draw(st.integers(1, n)) for _ in range(rank)) for n in (5, 3))
    strides = tuple(draw(st.integers(1, n)) for n in (most_first_stride, 4, 4)[:rank])
    sizes = tuple(draw(st.integers(1, (40, 9, 4)[rank - 1])) for _ in range(rank))
    extra = tuple(draw(st.integers(0, s - 1)) for s in strides)
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)]
    begin = tuple(draw(st.integers(0, min(5, n - 1))) for n in full)
    end = tuple(draw(st.integers(0, min(5, n - 1 - b))) for n, b in zip(full, begin, strict=True))
    return {
        "x": (draw(st.integers(1, 2)), groups * per_group[0], *sizes),
        "m": groups * per_group[1],
        "kernel": kernel,
        "group": groups,
        "bias": draw(st.booleans()),
        "strides": strides,
        "dilations": dilations,
        "pads": begin + end,
        "output_padding": extra,
    }


@settings(max_examples=50, deadline=None)
@given(geometries())
def test_any_geometry_agrees_with_onnxruntime_and_the_reference(geometry: dict[str, Any]) -> None:
    agrees_with_onnxruntime_and_the_reference(conv(**geometry))


@settings(max_examples=25, deadline=None)
@given(geometries(most_first_stride=1))
def test_any_geometry_over_time_gives_the_whole_clip(geometry: dict[str, Any]) -> None:
    stream_gives_the_whole_clip(conv(**geometry, time=2))


TESTS = list(node_tests("ConvTranspose"))


def as_case(test: NodeTest) -> Case:
    values = {a.name: helper.get_attribute_value(a) for a in test.node.attribute}
    attrs = {k: v.decode() if isinstance(v, bytes) else tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Case("ConvTranspose", tuple(np.asarray(test.inputs[n]) for n in test.node.input), attrs)


def test_the_standard_has_tests_of_one_to_three_dimensions() -> None:
    assert len(TESTS) >= 9
    assert {np.asarray(test.inputs["X"]).ndim for test in TESTS} == {3, 4, 5}


@pytest.mark.parametrize("test", TESTS, ids=str)
def test_the_expected_outputs_of_the_standard_come_out(test: NodeTest) -> None:
    case = as_case(test)
    expected = next(iter(test.outputs.values()))
    (reference,) = case.reference
    close(expected, reference, case.impl, "the standard against the float64 reference")
    found = Stream(case.engine).step(test.inputs["X"].reshape(case.engine.inputs["i0"].shape))
    close(np.asarray(found).reshape(expected.shape), reference, case.impl, "compiled against reference")


def test_nothing_is_scattered_and_each_phase_meets_its_own_taps_alone() -> None:
    case = conv((1, 24, 64), 2, (8,), strides=(4,), pads=(2, 2))
    calls = [call for call in case.engine.plan.calls if isinstance(call, Call)]
    assert [call.kernel.__name__ for call in calls] == ["place", *["conv_positions"] * 4]
    assert sum(call.work for call in calls[1:]) == 24 * 2 * 2 * 256


def test_four_spatial_dimensions_are_refused_with_node_reason_and_remedy() -> None:
    with pytest.raises(UnsupportedError, match=r"node 'node' \(ConvTranspose\): 4 spatial dimensions.*batch"):
        _ = conv((1, 1, 2, 2, 2, 2), 1, (1, 1, 1, 1)).engine


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (conv((1, 3, 5), 4, (2,), kernel_shape=(3,)), "kernel_shape"),
        (conv((1, 3, 5), 4, (2,), pads=(3, 3)), "at least 1"),
        (conv((1, 3, 5), 4, (2,), pads=(-1, 0)), "make no window"),
        (conv((1, 3, 5), 4, (2,), pads=(1,)), "do not fit"),
        (conv((1, 3, 5), 4, (2,), output_padding=(1, 1)), "output_padding"),
        (conv((1, 3, 5), 4, (2,), output_shape=(3, 3)), "output_shape"),
        (conv((1, 3, 5), 4, (2, 2)), "spatial dimensions"),
        (Case("ConvTranspose", (floats(1, 1, 4, 5), floats(2, 3, 3, 1))), "channels"),
        (Case("ConvTranspose", (floats(1, 1, 4, 5), floats(2, 4, 3, 1), floats(3, 2))), "should have 3 elements"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused_with_the_reason(bad: Case, reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        bad.site()


def test_an_unknown_auto_pad_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="auto_pad 'SAME' is not a mode"):
        conv((1, 3, 5), 4, (2,), auto_pad="SAME").site()
