"""Normalisations.

    LayerNormalization     (X - mean) / sqrt(var + epsilon) * Scale + B      over the axes from `axis` on
    RMSNormalization       X / sqrt(mean(X²) + epsilon) * scale              over the axes from `axis` on
    InstanceNormalization  the first formula for each batch entry and channel, over all spatial axes; scale [C], B [C]
    GroupNormalization     the same for each of `num_groups` groups of neighbouring channels; scale [C], bias [C]
    BatchNormalization     (X - mean) / sqrt(var + epsilon) * scale + B with given statistics [C]
    LpNormalization        X / (sum of |X|^p)^(1/p) over `axis`, 0 where the norm is 0
    LRN                    X / (bias + alpha / size * sum of X² over `size` channels around its own)^beta

LayerNormalization also gives mean and 1 / sqrt(var + epsilon) with the normalised axes of size 1. Parameters are constants.
Source  onnx.ai/onnx/operators/onnx__LayerNormalization.html and its neighbours. Variances are means of squared differences,
        never differences of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Register
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import norm, scalar
from streamrnn.ops._spatial import require_f32
from streamrnn.ops._time import only
from streamrnn.ops.reduce import ROWS, around, lower_reduction

_TOLERANCE = Tolerance(4e-6, 2e-5)


def _whole_clip(site: Site) -> Exception:
    return site.not_streamable("it normalises over time, so it needs the whole clip")


def _repeats(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of `shape` can be repeated to `target`."""
    return len(shape) <= len(target) and all(a in (1, b) for a, b in zip(shape[::-1], target[::-1], strict=False))


@register
class LayerNormalization(Op):
    """See the module's text."""

    name = "LayerNormalization"
    tolerance = _TOLERANCE
    centred = True

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0, 1, 2)
        x, axis = site.type(0), self._axis(site)
        for index in range(1, len(site.types)):
            if site.has(index) and not _repeats(site.type(index).shape, x.shape[axis:]):
                raise site.shape_error(f"input {index} {site.type(index)} does not broadcast to {x.shape[axis:]}")
        moments = x.with_shape((*x.shape[:axis], *(1 for _ in x.shape[axis:])))
        return (x, moments, moments) if self.centred else (x,)

    def _axis(self, site: Site) -> int:
        return site.axis(site.attr_int("axis", -1), site.type(0).rank)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, scale, bias = (*inputs, None)[:3]
        assert x is not None
        assert scale is not None
        axes = tuple(range(self._axis(site), x.ndim))
        mean = x.mean(axis=axes, keepdims=True) if self.centred else np.zeros((), x.dtype)
        inverse = 1 / np.sqrt(np.square(x - mean).mean(axis=axes, keepdims=True) + site.attr_float("epsilon", 1e-5))
        y = (x - mean) * inverse * scale
        y = y if bias is None else y + bias
        return (y, mean, inverse) if self.centred else (y,)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is not None and x.axis >= self._axis(site):
            raise _whole_clip(site)
        return Streamed((x, x, x) if self.centred else (x,))

    def lower(self, site: Site, low: Lowering) -> None:
        shape, axis = site.type(0).shape, self._axis(site)
        rows, n = prod(shape[:axis]), prod(shape[axis:])
        scale = np.broadcast_to(site.need_const(1, "Scale"), shape[axis:])
        bias = np.broadcast_to(site.need_const(2, "B") if site.has(2) else np.zeros(1, np.float32), shape[axis:])
        moments = [low.output(i) if self.centred else low.scratch(DType.F32, rows) for i in (1, 2)]
        low.call(
            norm.layer_norm, rows, n, int(self.centred), site.attr_float("epsilon", 1e-5),
            low.weight(scale), low.weight(bias), low.input(0), low.output(0), *moments, work=3 * rows * n,
        )  # fmt: skip


@register
class RMSNormalization(LayerNormalization):
    """See the module's text."""

    name = "RMSNormalization"
    centred = False


@register
class GroupNormalization(Op):
    """See the module's text."""

    name = "GroupNormalization"
    tolerance = _TOLERANCE

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0, 1, 2)
        x, groups = site.type(0), self._groups(site)
        if x.rank < 3 or groups < 1 or x.shape[1] % groups:
            raise site.shape_error(f"input {x} should be [N, C, spatial...] with C a multiple of {groups} groups")
        if site.type(1).shape != x.shape[1:2] or site.type(2).shape != x.shape[1:2]:
            raise site.shape_error(f"scale {site.type(1)} and bias {site.type(2)} should have {x.shape[1]} elements")
        return (x,)

    def _groups(self, site: Site) -> int:
        return site.attr_int("num_groups", 1)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, scale, bias = inputs
        assert x is not None
        assert scale is not None
        assert bias is not None
        rows = x.reshape(x.shape[0], self._groups(site), -1)
        variance = rows.var(axis=2, keepdims=True)
        rows = (rows - rows.mean(axis=2, keepdims=True)) / np.sqrt(variance + site.attr_float("epsilon", 1e-5))
        one = (-1, *(1 for _ in x.shape[2:]))
        return (rows.reshape(x.shape) * scale.reshape(one) + bias.reshape(one),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is not None and x.axis > 0:
            raise _whole_clip(site)
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        shape, groups = site.type(0).shape, self._groups(site)
        scale, bias = low.weight(site.need_const(1, "scale")), low.weight(site.need_const(2, "bias"))
        low.call(
            norm.group_norm, shape[0], groups, shape[1] // groups, prod(shape[2:]), site.attr_float("epsilon", 1e-5),
            scale, bias, low.input(0), low.output(0), work=3 * site.type(0).size,
        )  # fmt: skip


@register
class InstanceNormalization(GroupNormalization):
    """See the module's text."""

    name = "InstanceNormalization"

    def _groups(self, site: Site) -> int:
        return site.type(0).shape[1] if site.type(0).rank > 1 else 1


@register
class BatchNormalization(Op):
    """See the module's text. Statistics, scale and B become one factor and one shift for each channel."""

    name = "BatchNormalization"
    tolerance = _TOLERANCE

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0, 1, 2, 3, 4)
        if site.attr_int("training_mode", 0):
            raise UnsupportedError(
                f"node '{site.node.name}' (BatchNormalization): it is in training mode; export the model after .eval()"
            )
        x = site.type(0)
        if x.rank < 2 or any(site.type(i).shape != x.shape[1:2] for i in range(1, 5)):
            raise site.shape_error(f"scale, B, mean and var should have as many elements as {x} has channels")
        return (x,)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = inputs[0]
        assert x is not None
        one = (-1, *(1 for _ in x.shape[2:]))
        scale, bias, mean, var = (a.reshape(one) for a in inputs[1:5] if a is not None)
        return ((x - mean) / np.sqrt(var + site.attr_float("epsilon", 1e-5)) * scale + bias,)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == 1:
            raise site.not_streamable("time runs along its channels, and each has its own statistics")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        names = ("scale", "B", "mean", "var")
        scale, bias, mean, var = (site.need_const(i + 1, name).astype(np.float64) for i, name in enumerate(names))
        factor = scale / np.sqrt(var + site.attr_float("epsilon", 1e-5))
        parts = [low.weight(p.astype(np.float32)) for p in (factor, bias - mean * factor)]
        outer, n, inner = around(site.type(0).shape, 1)
        body = [Apply(scalar.mul, (Register(0), Register(1))), Apply(scalar.add, (Register(3), Register(2)))]
        places = [(low.input(0), (n * inner, inner, 1)), *((part, (0, 1, 0)) for part in parts)]
        low.loop((outer, n, inner), places, body, low.output(0))


@register
class LpNormalization(Op):
    """See the module's text."""

    name = "LpNormalization"
    tolerance = _TOLERANCE

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0)
        if site.attr_int("p", 2) not in (1, 2):
            raise UnsupportedError(f"node '{site.node.name}' (LpNormalization): p {site.attr_int('p', 2)} is not 1 or 2")
        self._axis(site)
        return (site.type(0),)

    def _axis(self, site: Site) -> int:
        return site.axis(site.attr_int("axis", -1), site.type(0).rank)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = inputs[0]
        assert x is not None
        size = np.linalg.norm(x, site.attr_int("p", 2), self._axis(site), keepdims=True)
        return (np.divide(x, size, out=np.zeros_like(x), where=size != 0),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == self._axis(site):
            raise _whole_clip(site)
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        outer, n, inner = around(site.type(0).shape, self._axis(site))
        size = low.scratch(DType.F32, outer * inner)
        row = ROWS["ReduceL1" if site.attr_int("p", 2) == 1 else "ReduceL2"]
        lower_reduction(row, low, [(outer, n, inner)], low.input(0), size)
        places = [(low.input(0), (n * inner, inner, 1)), (size, (inner, 0, 1))]
        body = [Apply(norm.over_norm, (Register(0), Register(1)))]
        low.loop((outer, n, inner), places, body, low.output(0))


@register
class LRN(Op):
    """See the module's text."""

    name = "LRN"
    tolerance = _TOLERANCE

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0)
        if site.type(0).rank < 2 or site.attr_int("size", 0) < 1:
            raise site.shape_error(f"input {site.type(0)} has no channels, or size {site.attr_int('size', 0)} is not positive")
        return (site.type(0),)

    def _around(self, site: Site) -> tuple[int, int, float, float, float]:
        """Channels before and behind, alpha / size, bias, beta."""
        size = site.attr_int("size", 1)
        alpha, beta, bias = (site.attr_float(name, x) for name, x in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
        return (size - 1) // 2, size // 2, alpha / size, bias, beta

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = inputs[0]
        assert x is not None
        before, behind, factor, bias, beta = self._around(site)
        powers = [np.square(x[:, max(0, c - before) : c + behind + 1]).sum(axis=1) for c in range(x.shape[1])]
        return (x / (bias + factor * np.stack(powers, axis=1)) ** beta,)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == 1:
            raise _whole_clip(site)
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        x = site.type(0)
        before, behind, factor, bias, beta = self._around(site)
        power = low.scratch(DType.F32, x.size)
        low.call(
            norm.local_power, *around(x.shape, 1), min(before, x.shape[1]), min(behind, x.shape[1]), factor, bias,
            low.input(0), power, work=x.size * (before + behind + 1),
        )  # fmt: skip
        body = [Apply(scalar.power, (Register(1), beta)), Apply(scalar.div, (Register(0), Register(2)))]
        low.loop((x.size,), [(low.input(0), (1,)), (power, (1,))], body, low.output(0))
