"""Sliding windows over the spatial axes of Conv and the pools: sizes, padding, and time on one of these axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Attr
from streamrnn.ir.op import Site, Streamed
from streamrnn.ir.types import DType, StreamType
from streamrnn.ops._time import windowed

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Spatial:
    """A sliding window, one entry for each spatial axis. begin and end: elements of padding before and after the input."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    out: tuple[int, ...]

    def taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Each tap of the window with the slices of the padded input that it meets, one position after the other."""
        for tap in np.ndindex(*self.kernel):
            rows = zip(tap, self.dilations, self.out, self.strides, strict=True)
            spatial = (slice(k * d, k * d + (n - 1) * step + 1, step) for k, d, n, step in rows)
            yield tap, (slice(None), slice(None), *spatial)


def window_attrs(site: Site, kernel: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Kernel, strides, dilations and pads of a node on input 0 [N, C, spatial...]. Raises ShapeError."""
    x = site.type(0)
    rank = len(kernel)
    if x.rank != rank + 2 or rank == 0:
        raise site.shape_error(f"input {x} should have {rank} spatial dimensions behind batch and channels")
    if site.attr_ints("kernel_shape", kernel) != kernel:
        raise site.shape_error(f"kernel_shape {site.attr_ints('kernel_shape', kernel)} is not that of the filter, {kernel}")
    strides, dilations = site.attr_ints("strides", (1,) * rank), site.attr_ints("dilations", (1,) * rank)
    pads = site.attr_ints("pads", (0,) * 2 * rank)
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise site.shape_error(f"strides {strides}, dilations {dilations} and pads {pads} do not fit {rank} spatial dimensions")
    if min(kernel + strides + dilations) < 1 or min(pads) < 0:
        raise site.shape_error(f"kernel {kernel}, strides {strides}, dilations {dilations} and pads {pads} make no window")
    return kernel, strides, dilations, pads


def spatial(site: Site, kernel: tuple[int, ...]) -> Spatial:
    """The window of a node on input 0 [N, C, spatial...], `auto_pad` resolved. Raises ShapeError, UnsupportedError."""
    kernel, strides, dilations, pads = window_attrs(site, kernel)
    rank = len(kernel)
    begin, end, out = [], [], []
    for d, size in enumerate(site.type(0).shape[2:]):
        span = (kernel[d] - 1) * dilations[d] + 1
        before, after = _padding(site, size, span, strides[d], (pads[d], pads[rank + d]))
        room = size + before + after - span
        if room < 0:
            raise site.shape_error(f"{size} elements with padding {before} and {after} are fewer than a window of {span}")
        count = room // strides[d] + 1
        if site.attr_int("ceil_mode", 0) and room % strides[d] and count * strides[d] < size + before:
            count += 1
        begin.append(before)
        end.append(after)
        out.append(count)
    return Spatial(kernel, strides, dilations, tuple(begin), tuple(end), tuple(out))


def _padding(site: Site, size: int, span: int, stride: int, given: tuple[int, int]) -> tuple[int, int]:
    mode = site.attr_str("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return given
    if mode == "VALID":
        return 0, 0
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise UnsupportedError(f"node '{site.node.name}' ({site.node.op}): auto_pad '{mode}' is not a mode of ONNX")
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    less = total // 2
    return (less, total - less) if mode == "SAME_UPPER" else (total - less, less)


def over_time(site: Site, x: StreamType, window: Spatial, fill: float) -> Streamed:
    """Time on spatial axis `x.axis - 2`: a Window gathers the taps, so that the node's own window over time has as many
    frames of stride as taps. `fill`: what lies before the first frame."""
    assert x.axis is not None
    d = x.axis - 2
    if site.attr_str("auto_pad", "NOTSET").startswith("SAME") and window.strides[d] > 1:
        raise site.not_streamable("auto_pad SAME with a stride over time pads by the length of the clip")

    def changed(values: tuple[int, ...], value: int) -> tuple[int, ...]:
        return (*values[:d], value, *values[d + 1 :])

    attrs: Mapping[str, Attr] = {
        "pads": changed(window.begin, 0) + changed(window.end, 0),
        "strides": changed(window.strides, window.kernel[d]),
        "dilations": changed(window.dilations, 1),
        "auto_pad": "NOTSET",
    }
    pads = window.begin[d], window.end[d]
    return windowed(x, window.kernel[d], window.dilations[d], window.strides[d], pads, fill, attrs)


def require_f32(site: Site, *inputs: int) -> None:
    """UnsupportedError where one of these inputs is given and is not float32."""
    for index in inputs:
        if site.has(index) and site.type(index).dtype is not DType.F32:
            raise UnsupportedError(
                f"node '{site.node.name}' ({site.node.op}): input {index} is {site.type(index).dtype.value}; only float32 is "
                f"supported, export the model in float32"
            )
