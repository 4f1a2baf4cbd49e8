"""Rules of time that many ops share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamrnn.ir.graph import Array, Attr
from streamrnn.ir.op import Site, Streamed
from streamrnn.ir.types import StreamType


def joined(site: Site, streams: Sequence[StreamType | None], axis: int | None) -> StreamType:
    """What a join of several wires carries: the largest delay. Raises NotStreamableError for unequal clocks."""
    present = [s for s in streams if s is not None]
    if len({s.stride for s in present}) > 1:
        raise site.not_streamable(f"joins wires of different frame rates ({', '.join(map(str, present))})")
    return StreamType(axis, max(s.delay for s in present), present[0].stride)


def join(site: Site, streams: Sequence[StreamType | None]) -> Streamed:
    """Time of an op that treats every element alone, with broadcasting: all wires have time on the same axis of the result.

    A constant may not differ from frame to frame; its first frame stands for all.
    """
    rank = max(site.type(i).rank for i in range(len(site.types)) if site.has(i))
    axes = set()
    for i, stream in enumerate(streams):
        if stream is not None:
            axes.add(None if stream.axis is None else stream.axis + rank - site.type(i).rank)
    if len(axes) > 1:
        kind = "one answer for the clip and its frames" if None in axes else "wires with time on different axes"
        raise site.not_streamable(f"joins {kind}")
    axis = axes.pop()
    consts: dict[int, Array] = {}
    if axis is not None:
        for i, stream in enumerate(streams):
            if stream is None and site.has(i):
                cut = one_frame(site, i, axis - rank + site.type(i).rank)
                if cut is not None:
                    consts[i] = cut
    return Streamed((joined(site, streams, axis),), consts=consts)


def one_frame(site: Site, index: int, axis: int) -> Array | None:
    """Input `index`, which is no stream, cut to one frame of `axis`; None where it has one frame or none anyway.

    Raises NotStreamableError where it is not a constant or its frames differ.
    """
    if axis < 0 or site.type(index).shape[axis] == 1:
        return None
    value = site.const(index)
    if value is None:
        raise site.not_streamable(f"input {index} has {site.type(index).shape[axis]} frames of its own but is no stream")
    return first_frame(site, f"input {index}", value, axis)


def first_frame(site: Site, what: str, value: Array, axis: int) -> Array:
    """A constant cut to one frame of `axis`. Raises NotStreamableError where its frames differ."""
    first: Array = np.take(value, [0], axis)
    if not np.array_equal(np.broadcast_to(first, value.shape), value, equal_nan=value.dtype.kind == "f"):
        raise site.not_streamable(f"{what} is a constant that differs from frame to frame (a positional encoding?)")
    return first


def only(site: Site, streams: Sequence[StreamType | None]) -> StreamType:
    """The stream of input 0, for ops whose other inputs must stand still."""
    if streams[0] is None or any(s is not None for s in streams[1:]):
        raise site.not_streamable("one of its parameters changes over time")
    return streams[0]


def windowed(
    x: StreamType, taps: int, dilation: int, stride: int, pads: tuple[int, int], fill: float, attrs: Mapping[str, Attr]
) -> Streamed:
    """Time of an op that slides `taps` frames, `dilation` apart, by `stride` over its time axis.

    pads:  frames of padding before and after the clip; what pads the start becomes history of value `fill`, what looks ahead
           becomes delay.
    attrs: attributes of the step graph's node: it has stride `taps` over time, dilation 1 and no padding, because a Window in
           front hands it all taps of each output frame.
    """
    assert x.axis is not None
    ahead = (taps - 1) * dilation - pads[0]
    delay = max(-(-(x.delay + ahead + 1 - stride) // stride), -(-x.delay // stride))
    history = pads[0] + delay * stride - x.delay
    y = StreamType(x.axis, delay, x.stride * stride)
    if taps == 1 and stride == 1 and history == 0:
        return Streamed((y,), attrs)
    window = {"axis": x.axis, "taps": taps, "dilation": dilation, "stride": stride, "history": history, "fill": fill}
    return Streamed((y,), attrs, before=("Window", window))
