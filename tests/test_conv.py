"""Conv keeps the contract of ops, whatever way computes it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from contract import Case, Contract, floats
from filters import agrees_with_onnxruntime_and_the_reference, stream_gives_the_whole_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrnn import Stream
from streamrnn.errors import NotStreamableError, ShapeError, UnsupportedError
from streamrnn.ir.graph import Array


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
    n = x[1] // group
    size = n * math.prod(kernel)
    inputs = (floats(1, *x), floats(2, m, n, *kernel, scale=size**-0.5), floats(3, m) if bias else None)
    return Case("Conv", inputs, {"group": group, **attrs}, time={} if time is None else {0: time}, refused=refused)  # type: ignore[dict-item]


class TestConv(Contract):
    cases = [  # noqa: RUF012
        conv((1, 5, 1), 7, (1,)),
        conv((2, 3, 6), 18, (3,), bias=False),
        conv((1, 4, 12), 20, (3,), pads=(2, 0), time=2),
        conv((1, 4, 12), 6, (3,), pads=(1, 1), time=2),
        conv((1, 2, 12), 6, (2,), pads=(3, 0), dilations=(2,), time=2),
        conv((1, 2, 12), 6, (3,), time=2, strides=(2,), dilations=(2,)),
        conv((1, 2, 12), 6, (4,), time=2, strides=(3,), pads=(1, 2)),
        conv((1, 2, 12), 6, (2,), time=2, strides=(3,)),
        conv((1, 2, 12), 6, (3,), time=2, auto_pad="SAME_LOWER"),
        conv((1, 20, 9), 20, (3,), group=20, pads=(2, 0), time=2),
        conv((1, 3, 9), 12, (3,), group=3, pads=(2, 0), time=2),
        conv((1, 6, 9), 8, (3,), group=2, time=2),
        conv((5, 2, 3), 4, (3,), pads=(1, 1), time=0),
        conv((1, 2, 40), 6, (5,), pads=(2, 2)),
        conv((1, 2, 40), 3, (5,), strides=(2,), auto_pad="SAME_UPPER"),
        conv((2, 20, 40), 20, (3,), group=20, pads=(1, 1)),
        conv((1, 1, 640), 18, (256,), strides=(128,)),
        conv((1, 3, 6, 18), 5, (2, 3), pads=(1, 1, 0, 1), time=2),
        conv((1, 3, 6, 18), 17, (2, 3), pads=(1, 1, 0, 1), strides=(1, 2), time=2),
        conv((1, 3, 9, 6), 17, (3, 2), pads=(1, 1, 0, 0), time=3),
        conv((1, 4, 6, 18), 4, (3, 3), group=4, pads=(2, 1, 0, 1), dilations=(1, 2), time=2),
        conv((1, 4, 3, 18), 6, (1, 1), time=2),
        conv((2, 3, 5, 4, 6), 5, (2, 3, 2), pads=(1, 1, 0, 0, 1, 1), dilations=(2, 1, 1)),
        conv((1, 4, 6, 3, 18), 6, (3, 1, 3), group=2, strides=(2, 1, 1), pads=(2, 0, 1, 1, 0, 1), time=2),
        conv((1, 2, 3, 6, 4), 3, (2, 3, 2), strides=(1, 2, 1), time=3),
        conv((1, 4, 6), 5, (2,), time=1, refused="input channels"),
        conv((1, 4, 8), 5, (3,), time=2, strides=(2,), auto_pad="SAME_UPPER", refused="SAME"),
    ]


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    """A 1-D convolution of at most a few thousand multiply-adds, its window not longer than the padded clip."""
    groups = draw(st.sampled_from((1, 1, 2, 3, 5)))
    per_group = draw(st.integers(1, 4)), draw(st.integers(1, 18))
    if draw(st.booleans()):  # depthwise
        groups, per_group = draw(st.integers(2, 20)), (1, draw(st.integers(1, 2)))
    kernel, dilation, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    pads = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    length = draw(st.integers(max(1, (kernel - 1) * dilation + 1 - sum(pads)), 40))
    return {
        "x": (draw(st.integers(1, 2)), groups * per_group[0], length),
        "m": groups * per_group[1],
        "kernel": (kernel,),
        "group": groups,
        "bias": draw(st.booleans()),
        "strides": (stride,),
        "dilations": (dilation,),
        "pads": pads,
    }


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_any_geometry_agrees_with_onnxruntime_and_the_reference(geometry: dict[str, Any]) -> None:
    agrees_with_onnxruntime_and_the_reference(conv(**geometry))


@settings(max_examples=40, deadline=None)
@given(geometries())
def test_any_geometry_over_time_gives_the_whole_clip(geometry: dict[str, Any]) -> None:
    case = conv(**geometry, time=2)
    if case.steps(case.stream_engine):
        stream_gives_the_whole_clip(case)


def outputs(case: Case, x: Array) -> Array:
    """What the compiled node gives for x, in the shape of its output."""
    again = Case(case.op, (x, *case.inputs[1:]), case.attrs)
    found = Stream(again.engine).step(x.reshape(again.engine.inputs["i0"].shape))
    assert isinstance(found, np.ndarray)
    return found.reshape(again.reference[0].shape)


@pytest.mark.parametrize(
    "clip",
    [
        conv((1, 3, 13), 20, (3,)),
        conv((1, 3, 40), 6, (5,)),
        conv((1, 1, 40), 17, (23,)),
        conv((1, 20, 40), 20, (3,), group=20),
        conv((1, 6, 40), 12, (4,), group=6),
        conv((1, 4, 7), 6, (2,), group=2),
    ],
    ids=str,
)
def test_a_position_has_the_same_bits_alone_and_among_others(clip: Case) -> None:
    x, w = clip.inputs[:2]
    assert x is not None
    assert w is not None
    together, taps = outputs(clip, x), w.shape[2]
    for p in (0, 1, together.shape[2] // 2, together.shape[2] - 1):
        alone = outputs(clip, np.ascontiguousarray(x[:, :, p : p + taps]))
        np.testing.assert_array_equal(alone[:, :, 0], together[:, :, p])


def test_every_way_is_taken_where_it_is_cheapest() -> None:
    def kernels(case: Case) -> list[str]:
        return [call.kernel.address.split(":")[-1] for call in case.engine.plan.calls]  # type: ignore[union-attr]

    assert kernels(conv((1, 8, 3), 16, (3,))) == ["adjacent"]
    assert kernels(conv((1, 8, 9), 16, (3,))) == ["scattered"]
    assert kernels(conv((1, 32, 3), 32, (3,), group=32)) == ["place", "own_channel"]
    assert kernels(conv((1, 2, 66), 2, (3,))) == ["conv_positions"]


def test_a_filter_that_is_a_stream_is_refused() -> None:
    moving = Case("Conv", (floats(1, 1, 2, 5), floats(2, 3, 2, 1)), live=(0, 1), time={1: 0})
    with pytest.raises(NotStreamableError, match="one of its parameters changes over time"):
        _ = moving.step_graph


def test_four_spatial_dimensions_are_refused_with_node_reason_and_remedy() -> None:
    with pytest.raises(UnsupportedError, match=r"node 'node' \(Conv\): 4 spatial dimensions.*batch"):
        _ = conv((1, 1, 2, 2, 2, 2), 1, (1, 1, 1, 1)).engine


def test_windows_over_three_dimensions_that_meet_too_much_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(UnsupportedError, match=r"node 'node' \(Conv\): its windows over three dimensions meet more than"):
        _ = conv((1, 1, 9, 1000, 1000), 1, (1000, 1, 1), pads=(500, 0, 0, 500, 0, 0)).engine


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (conv((1, 3, 5), 4, (2,), kernel_shape=(3,)), "kernel_shape"),
        (conv((1, 3, 2), 4, (3,)), "fewer than a window"),
        (conv((1, 3, 5), 4, (2,), pads=(-1, 0)), "make no window"),
        (conv((1, 3, 5), 4, (2,), pads=(1,)), "do not fit"),
        (conv((1, 3, 5), 4, (2, 2)), "spatial dimensions"),
        (Case("Conv", (floats(1, 1, 4, 5), floats(2, 3, 3, 1))), "channels"),
        (Case("Conv", (floats(1, 1, 4, 5), floats(2, 3, 4, 1), floats(3, 2))), "should have 3 elements"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused_with_the_reason(bad: Case, reason: str) -> None:
    with pytest.raises(ShapeError, match=reason):
        bad.site()
