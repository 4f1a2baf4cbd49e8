"""Random numbers: RandomNormal, RandomUniform, their Like forms, Bernoulli, Multinomial.

    RandomNormal, RandomUniform          of attribute shape; mean (0) and scale (1), or low (0) and high (1)
    RandomNormalLike, RandomUniformLike  of the shape, and where dtype is left out of the element type, of the input
    Bernoulli                            1 with the probability that the input has there, else 0
    Multinomial                          X [rows, classes] log-probabilities, normalised or not -> [rows, sample_size]
                                         indices of classes

Attributes  dtype (a DType's value), seed.
State       generator [1] (int64): the generator of each node begins at its seed, or where it has none, at one made from the
            node's name; so the file stores it, a reset repeats the sequence, and a snapshot continues it. Without the state
            input a node draws the same numbers in each step.

onnxruntime draws other numbers: what agrees is their distribution. In frame mode each frame has draws of its own.
Source      onnx.ai/onnx/operators, pages of these ops.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.op import Op, Site, StateSpec, Streamed, Tolerance, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import random as kernels
from streamrnn.kernels._jit import Kernel
from streamrnn.ops._casts import cast_body, converted
from streamrnn.ops._time import only

_STATE = TensorType(DType.I64, (1,))
_FLOATS = tuple(dtype for dtype in DType if dtype.is_float)


def seed_of(site: Site) -> Array:
    """The first state of a node's generator."""
    seed = site.node.attrs.get("seed")
    text = f"name {site.node.name}" if seed is None else f"seed {site.attr_float('seed', 0.0)!r}"
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], "<i8").astype(np.int64)


def random_bits(state: Array, count: int) -> tuple[Array, Array]:
    """`count` numbers of 64 bits (as int64), and the state behind them. The text of `kernels.generate` over arrays."""
    counter = state.astype(np.uint64) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (counter ^ (counter >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).astype(np.int64), counter[-1:].astype(np.int64) if count else state


def _unit(bits: Array) -> Array:
    """In [0, 1), from the upper 53 bits."""
    return ((bits >> 11) & (1 << 53) - 1) * 2.0**-53


class _Random(Op):
    """What all of them share. `inputs`: how many inputs come before the state."""

    deterministic = False
    inputs = 0

    @abstractmethod
    def drawn(self, site: Site) -> TensorType:
        """Type of the output."""

    def count(self, site: Site) -> int:
        """Random numbers of one step."""
        return self.drawn(site).size

    @abstractmethod
    def values(self, site: Site, bits: Array, *inputs: Array | None) -> Array:
        """The output made from `bits`, in NumPy."""

    @abstractmethod
    def make(self, site: Site, low: Lowering, bits: Place, y: Place) -> None:
        """Emit what fills the output, which is not empty."""

    def dtype(self, site: Site, default: DType, *allowed: DType) -> DType:
        """The element type that attribute dtype names."""
        name = site.attr_str("dtype", default.value)
        for dtype in allowed:
            if dtype.value == name:
                return dtype
        known = ", ".join(dtype.value for dtype in allowed)
        raise UnsupportedError(f"node '{site.node.name}' ({self.name}): numbers of {name} are not supported, only {known}")

    def carried(self, site: Site) -> tuple[StateSpec, ...]:
        return (StateSpec("generator", self.inputs, 1, seed_of(site), "generator"),)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        if site.has(self.inputs) and site.type(self.inputs) != _STATE:
            raise site.shape_error(f"the state of its generator is {site.type(self.inputs)}, it should be {_STATE}")
        return self.drawn(site), _STATE

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        state = inputs[self.inputs] if len(inputs) > self.inputs else None
        bits, after = random_bits(seed_of(site) if state is None else state, self.count(site))
        type_ = self.drawn(site)
        return self.values(site, bits, *inputs[: self.inputs]).reshape(type_.shape), after

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return Streamed((only(site, streams), None))

    def lower(self, site: Site, low: Lowering) -> None:
        count = self.count(site)
        if site.has(self.inputs):
            state = low.update(1, self.inputs)
        else:
            state = low.output(1)
            low.copy(low.weight(seed_of(site)), state, 1)
        bits, y = low.scratch(DType.I64, count), low.output(0)
        if count:
            low.call(kernels.generate, count, state, bits, work=4 * count)
            self.make(site, low, bits, y)


class _Real(_Random):
    """Floats of a distribution with two parameters: attributes and their defaults."""

    tolerance = Tolerance(2e-6, 2e-5)
    parameters: tuple[tuple[str, float], tuple[str, float]]
    kernel: Kernel

    def drawn(self, site: Site) -> TensorType:
        if self.inputs:
            like = site.type(0)
            default = like.dtype if like.dtype.is_float else DType.F32
            return TensorType(self.dtype(site, default, *_FLOATS), like.shape)
        shape = site.attr_ints("shape", ())
        if min(shape, default=0) < 0:
            raise site.shape_error(f"shape {shape} has a negative size")
        return TensorType(self.dtype(site, DType.F32, *_FLOATS), shape)

    def given(self, site: Site) -> list[float]:
        """The two parameters."""
        return [site.attr_float(name, default) for name, default in self.parameters]

    def make(self, site: Site, low: Lowering, bits: Place, y: Place) -> None:
        body = [Apply(self.kernel, (Register(0), *self.given(site))), *cast_body(DType.F32, y.dtype, 1, 2)]
        low.loop((self.count(site),), [(bits, (1,))], body, y)


class _Normal(_Real):
    parameters = (("mean", 0.0), ("scale", 1.0))
    kernel = kernels.normal

    def values(self, site: Site, bits: Array, *inputs: Array | None) -> Array:
        mean, scale = self.given(site)
        radius = np.sqrt(-2 * np.log((((bits >> 32) & (1 << 32) - 1) + 1) * 2.0**-32))
        return np.asarray(mean + scale * radius * np.cos(2 * np.pi * (bits & (1 << 24) - 1) * 2.0**-24))


class _Uniform(_Real):
    parameters = (("low", 0.0), ("high", 1.0))
    kernel = kernels.uniform

    def values(self, site: Site, bits: Array, *inputs: Array | None) -> Array:
        low, high = self.given(site)
        return np.asarray(low + ((bits >> 40) & (1 << 24) - 1) * 2.0**-24 * (high - low))


@register
class RandomNormal(_Normal):
    """See the module's text."""

    name = "RandomNormal"


@register
class RandomNormalLike(_Normal):
    """See the module's text."""

    name = "RandomNormalLike"
    inputs = 1
    type_only = frozenset({0})


@register
class RandomUniform(_Uniform):
    """See the module's text."""

    name = "RandomUniform"


@register
class RandomUniformLike(_Uniform):
    """See the module's text."""

    name = "RandomUniformLike"
    inputs = 1
    type_only = frozenset({0})


@register
class Bernoulli(_Random):
    """See the module's text."""

    name = "Bernoulli"
    inputs = 1

    def drawn(self, site: Site) -> TensorType:
        p = site.type(0)
        if not p.dtype.is_float:
            raise site.shape_error(f"input {p} holds no probabilities")
        return TensorType(self.dtype(site, p.dtype, *DType), p.shape)

    def values(self, site: Site, bits: Array, *inputs: Array | None) -> Array:
        p = np.asarray(inputs[0])
        return np.asarray(_unit(bits) < p.reshape(-1)).astype(self.drawn(site).dtype.numpy)

    def make(self, site: Site, low: Lowering, bits: Place, y: Place) -> None:
        p = site.type(0).dtype
        exact = DType.F64 if p is DType.F64 else DType.F32
        body = cast_body(p, exact, 1, 2)
        body.append(Apply(kernels.bernoulli.typed(p=exact.ctype), (Register(0), Register(1 + len(body)))))
        body += cast_body(DType.I64, y.dtype, 1 + len(body), 2 + len(body))
        low.loop((self.count(site),), [(bits, (1,)), (low.input(0), (1,))], body, y)


@register
class Multinomial(_Random):
    """See the module's text."""

    name = "Multinomial"
    inputs = 1

    def drawn(self, site: Site) -> TensorType:
        x, samples = site.type(0), site.attr_int("sample_size", 1)
        if x.rank != 2 or x.shape[1] == 0 or not x.dtype.is_float:
            raise site.shape_error(f"input {x} is not rows of log-probabilities")
        if samples < 0:
            raise site.shape_error(f"sample_size {samples} is negative")
        return TensorType(self.dtype(site, DType.I32, DType.I32, DType.I64), (x.shape[0], samples))

    def values(self, site: Site, bits: Array, *inputs: Array | None) -> Array:
        x, (rows, samples) = np.asarray(inputs[0]), self.drawn(site).shape
        weights = np.exp(x - x.max(axis=1, keepdims=True))
        reached = np.cumsum(weights, axis=1)
        targets = _unit(bits).reshape(rows, samples) * reached[:, -1:]
        found: Array = np.minimum((reached[:, None, :] <= targets[:, :, None]).sum(axis=2), x.shape[1] - 1)
        return found.astype(self.drawn(site).dtype.numpy)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis == 1:
            raise site.not_streamable("draws one of the frames of the clip")
        return Streamed((x, None))

    def make(self, site: Site, low: Lowering, bits: Place, y: Place) -> None:
        x, count = site.type(0), self.count(site)
        rows, classes = x.shape
        scores = converted(low, low.input(0), DType.F64 if x.dtype is DType.F64 else DType.F32, x.size)
        kernel = kernels.multinomial.typed(x=scores.dtype.pointer, y=y.dtype.pointer)
        low.call(
            kernel, rows, classes, count // rows, scores, bits, low.scratch(DType.F32, classes), y,
            work=20 * x.size + count * classes,
        )  # fmt: skip
