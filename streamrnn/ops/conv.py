"""Conv.

    Y[b, m, p] = B[m] + sum over c, k of W[m, c, k] X[b, g C/G + c, p stride + k dilation - pad]     g = m / (M/G), zero outside

Inputs  X [N, C, spatial...], W [M, C/group, kernel...], B [M] (optional); constant W and B.
Output  Y [N, M, spatial...].
Source  onnx.ai/onnx/operators/onnx__Conv.html. Up to three spatial dimensions are compiled, any number has a reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.kernels.simd import LANES
from streamrnn.ops._depth import Depth, lower_deep
from streamrnn.ops._filters import Filters, check_dimensions, lower_filters, lower_in_bytes, pair
from streamrnn.ops._recurrent import weight_type
from streamrnn.ops._spatial import Spatial, over_time, require_f32, spatial
from streamrnn.ops._time import only


def convolved(site: Site, s: Spatial, x: Array, w: Array) -> Array:
    """The convolution of a node in NumPy, without bias."""
    groups = site.attr_int("group", 1)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(s.begin, s.end, strict=True)])
    filters = w.reshape(groups, -1, *w.shape[1:])
    y = np.zeros((x.shape[0], groups, filters.shape[1], *s.out), x.dtype)
    for tap, seen in s.taps():
        met = padded[seen].reshape(x.shape[0], groups, w.shape[1], *s.out)
        here = filters.reshape(*filters.shape[:3], -1)[..., np.ravel_multi_index(tap, s.kernel)]
        y += np.einsum("bgc...,gmc->bgm...", met, here)
    return y.reshape(x.shape[0], w.shape[0], *s.out)


@register
class Conv(Op):
    """See the module's text."""

    name = "Conv"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0, 1, 2)
        window = self._window(site)
        x, w, groups = site.type(0), site.type(1), site.attr_int("group", 1)
        if groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
            raise site.shape_error(f"W {w} does not fit {x.shape[1]} channels in {groups} groups")
        if site.has(2) and site.type(2).shape != w.shape[:1]:
            raise site.shape_error(f"B {site.type(2)} should have {w.shape[0]} elements")
        return (x.with_shape((x.shape[0], w.shape[0], *window.out)),)

    def _window(self, site: Site) -> Spatial:
        return spatial(site, site.type(1).shape[2:])

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, w, bias = (*inputs, None)[:3]
        assert x is not None
        assert w is not None
        s = self._window(site)
        y = convolved(site, s, x, w)
        return (y if bias is None else y + bias.reshape(-1, *(1 for _ in s.out)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == 1:
            raise site.not_streamable("sums over time, which runs along its input channels")
        if x.axis is None or x.axis == 0:
            return Streamed((x,))
        return over_time(site, x, self._window(site), 0.0)

    def narrow_inputs(self, site: Site, dtype: str) -> Mapping[int, tuple[int, ...]] | str:
        w = site.const(1)
        if w is None:
            return {}
        groups, products = site.attr_int("group", 1), int(np.prod(w.shape[1:]))
        per_group, positions = w.shape[0] // groups, int(np.prod(site.out(0).shape[2:]))
        if w.ndim > 4:
            return f"its filters have {w.ndim - 2} dimensions, for which all kernels read float32"
        if min(per_group, products) >= LANES:
            return {1: (0,)}
        if groups > 1 and w.shape[1] == 1:
            return "each of its filters has an input channel of its own: packed in fewer bits they take more bytes, not fewer"
        if positions > 1:
            return f"its filters are small and meet {positions} positions, which float32 computes side by side"
        if dtype == "int8" and products < LANES:
            return f"what goes with its {products} products a channel, sum and scale, takes up what int8 saves over float16"
        return {1: (0,)}

    def lower(self, site: Site, low: Lowering) -> None:
        W, window = site.need_const(1, "W"), self._window(site)
        bias = site.need_const(2, "B") if site.has(2) else np.zeros(W.shape[0], np.float32)
        check_dimensions(site, window, 3)
        x, groups = site.type(0).shape, site.attr_int("group", 1)
        size, out = pair(x[2:], 1), pair(window.out, 1)
        area = out[0] * out[1]
        filters = Filters(
            x[0], size, out, pair(window.strides, 1), pair(window.dilations, 1), pair(window.begin, 0), (size[1], 1),
            (W.shape[0] * area, area, out[1], 1), 0,
            W.reshape(groups, W.shape[0] // groups, -1, *pair(window.kernel, 1)), bias,
        )  # fmt: skip
        if len(window.kernel) < 3:
            stored = site.store(1, "int8")
            if stored is not None and stored.scales is not None and stored.scales.size == W.shape[0]:
                lower_in_bytes(filters, stored.values, stored.scales, low, low.input(0))
            else:
                lower_filters([replace(filters, stored=weight_type(site, 1))], low, low.input(0))
            return
        first = (s[0] for s in (x[2:], window.out, window.strides, window.kernel, window.dilations, window.begin, window.out))
        lower_deep(site, low, Depth(*first), [filters])
