"""DFT and STFT.

    DFT   Y[k] = sum over t < n of X[t] exp(-2 pi i k t / n); inverse: exp(+2 pi i k t / n), divided by n
    STFT  the DFT of window * X[f step .. f step + n] for every frame f

DFT   inputs      X [.., T, .., 1 (real) or 2 (complex)], dft_length n (T by default), axis (-2), both constant. Fewer samples
                  than n are followed by zeros, more are cut off.
      attributes  onesided (0): of a real X only k = 0 .. n / 2; with inverse, X is such a half and Y is real, n is 2 (T - 1) by
                  default. inverse (0).
STFT  inputs      X [batch, T, 1 or 2] or [batch, T], frame_step, window [n] (ones by default), frame_length n (that of the
                  window, or T); all but X constant. Attribute onesided (1).
      output      Y [batch, frames, k, 2]
Source  onnx.ai/onnx/operators/onnx__DFT.html, onnx__STFT.html. Cooley and Tukey 1965.

Tables of sines are made in float64, so a step computes none. Small or awkward lengths are a matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import dense, fourier, scalar
from streamrnn.kernels.simd import LANES, tiles
from streamrnn.ops._recurrent import pack_lanes
from streamrnn.ops._spatial import require_f32
from streamrnn.ops._time import only, windowed

#: the longest transform: its tables are 32 numbers for each sample at most
MAX_LENGTH = 1 << 18
#: bytes of a matrix that stay in the nearest cache, and that are the most for a matrix
_NEAR, _MOST = 32 << 10, 64 << 20


def const_number(site: Site, index: int, what: str, default: int) -> int:
    """Constant input `index`, one whole number; `default` where it is left out. Raises ShapeError, UnsupportedError."""
    if not site.has(index):
        return default
    value = site.need_const(index, what)
    if value.size != 1 or value.dtype.kind not in "iu":
        raise site.shape_error(f"{what} (input {index}) is {value.dtype}{list(value.shape)}, not one whole number")
    return int(value.item())


@dataclass(frozen=True)
class _Transform:
    """Transforms of rows. used: samples of a row that are given, parts: 1 real, 2 complex; likewise kept and y_parts."""

    n: int
    used: int
    parts: int
    kept: int
    y_parts: int
    inverse: bool

    @staticmethod
    def of(site: Site, n: int, size: int, parts: int, onesided: bool, inverse: bool = False) -> _Transform:
        """The transform of `size` samples. Raises ShapeError, UnsupportedError."""
        if parts not in (1, 2):
            raise site.shape_error(f"the last axis has {parts} elements, not 1 (real) or 2 (complex)")
        if onesided and parts != (2 if inverse else 1):
            raise site.shape_error(
                "one side of a transform belongs to real samples; here they are complex, or its half is real"
            )
        if not 1 <= n <= MAX_LENGTH:
            raise UnsupportedError(f"node '{site.node.name}' ({site.node.op}): length {n} is not in 1 .. {MAX_LENGTH}")
        half = n // 2 + 1
        if not onesided:
            return _Transform(n, min(size, n), parts, n, 2, inverse)
        return _Transform(n, min(size, half), 2, n, 1, True) if inverse else _Transform(n, min(size, n), 1, half, 2, False)

    @property
    def folded(self) -> bool:
        """Whether X is one half of a symmetric spectrum."""
        return self.y_parts == 1

    def weights(self) -> Array:
        """How often each given sample counts: twice where it stands for its mirror image too."""
        t = np.arange(self.used)
        return np.where(self.folded & (t > 0) & (2 * t != self.n), 2.0, 1.0)

    def roots(self, numerator: Array, denominator: int) -> Array:
        """exp of -2 pi i numerator / denominator (+ for the inverse) as [.., 2], float64."""
        angle = (1 if self.inverse else -1) * 2 * np.pi * (numerator % denominator) / denominator
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    def numpy(self, x: Array) -> Array:
        """The same along the last but one axis of x [.., used or more, parts]."""
        z = x[..., 0] + (1j * x[..., 1] if self.parts == 2 else 0)
        if self.folded:
            return np.asarray(np.fft.irfft(z, self.n)[..., None], x.dtype)
        y = (np.fft.ifft if self.inverse else np.fft.fft)(z, self.n)[..., : self.kept]
        return np.stack([y.real, y.imag], axis=-1).astype(x.dtype)

    # -- compiled -------------------------------------------------------------------------------------------------

    def lower(self, low: Lowering, rows: int, x: Place, y: Place) -> None:
        """Emit the transforms of x [rows][used][parts] into y [rows][kept][y_parts]. Where X is folded, x has its weights."""
        plan = _Steps.best(self)
        if plan is None:
            n_in, n_out = self.used * self.parts, self.kept * self.y_parts
            matrix = np.concatenate([np.zeros((1, n_out)), self.matrix()]).astype(np.float32)
            low.call(dense.dense, rows, n_in, n_out, low.weight(pack_lanes(matrix)), x, y, work=rows * n_in * n_out)
            return
        low.call(
            fourier.fft, rows, self.used, self.parts, plan.lanes, plan.m, len(plan.radix), self.kept, self.y_parts,
            int(self.inverse), low.weight(np.array(plan.radix or (1,), np.int64)), low.weight(self.tables(plan)), x, y,
            low.scratch(DType.F32, 4 * plan.m * LANES), work=rows * plan.work,
        )  # fmt: skip

    def matrix(self) -> Array:
        """[used * parts][kept * y_parts]"""
        turns = self.roots(np.outer(np.arange(self.used), np.arange(self.kept)), self.n) / (self.n if self.inverse else 1)
        c, s = turns[..., 0], turns[..., 1]
        table = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], axis=1)  # [used, in part, kept, out part]
        return np.asarray(table[:, : self.parts, :, : self.y_parts].reshape(self.used * self.parts, -1))

    def tables(self, plan: _Steps) -> Array:
        """`w` of the kernel."""
        lanes, m = plan.lanes, plan.m
        lane = np.arange(lanes)
        first = self.roots(np.outer(lane, lane), lanes) / (self.n if self.inverse else 1)
        factors = self.roots(np.outer(np.arange(m), lane), self.n)
        found = [_across(first).ravel(), _across(factors).ravel()]
        n = m
        for r in plan.radix:
            powers = self.roots(np.outer(np.arange(n // r), np.arange(r)), n)
            if r in (2, 4):
                found.append(powers[:, 1:].ravel())
            else:
                found += [self.roots(np.arange(r), r).ravel(), powers.ravel()]
            n //= r
        return np.concatenate(found).astype(np.float32)


def _across(table: Array) -> Array:
    """[rows, lanes, 2] as [rows][2][16]."""
    return np.pad(table, [(0, 0), (0, LANES - table.shape[1]), (0, 0)]).swapaxes(1, 2)


@dataclass(frozen=True)
class _Steps:
    """How a length is cut: `lanes` times the radices. work: its cost in vector multiply-adds."""

    lanes: int
    radix: tuple[int, ...]
    work: int

    @property
    def m(self) -> int:
        return prod(self.radix)

    @staticmethod
    def best(t: _Transform) -> _Steps | None:
        """The cheapest way, None for a matrix product."""
        found = min((_Steps.cut(t, d) for d in range(1, LANES + 1) if t.n % d == 0), key=lambda steps: steps.work)
        products = t.used * t.parts * tiles(t.kept * t.y_parts)
        size = products * LANES * DType.F32.size
        return None if size <= _MOST and products * (1 if size <= _NEAR else 2) <= found.work else found

    @staticmethod
    def cut(t: _Transform, lanes: int) -> _Steps:
        radix = _radices(t.n // lanes)
        m = t.n // lanes
        work = m * (2 * t.parts * min(lanes, -(-t.used // m)) + 6) + t.kept * t.y_parts
        return _Steps(lanes, radix, work + sum(m * (6 if r == 2 else 10 if r == 4 else 4 * r + 4) for r in radix))


def _radices(m: int) -> tuple[int, ...]:
    """The prime factors of m, pairs of 2 as 4."""
    found, r = [], 4
    while m > 1:
        if m % r == 0:
            found.append(r)
            m //= r
        elif r * r > m and r > 4:
            r = m
        else:
            r = 2 if r == 4 else 3 if r == 2 else r + 2
    return tuple(found)


@register
class DFT(Op):
    """See the module's text."""

    name = "DFT"
    tolerance = Tolerance(1e-5, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0)
        x, axis, t = site.type(0), self._axis(site), self._transform(site)
        return (x.with_shape((*x.shape[:axis], t.kept, *x.shape[axis + 1 : -1], t.y_parts)),)

    def _axis(self, site: Site) -> int:
        rank = site.type(0).rank
        axis = site.axis(const_number(site, 2, "axis", -2), rank)
        if axis == rank - 1:
            raise site.shape_error("the last axis holds the real and the imaginary part, so no transform runs along it")
        return axis

    def _transform(self, site: Site) -> _Transform:
        shape = site.type(0).shape
        size, inverse, onesided = shape[self._axis(site)], site.attr_int("inverse", 0) != 0, site.attr_int("onesided", 0) != 0
        n = const_number(site, 1, "dft_length", 2 * (size - 1) if inverse and onesided else size)
        return _Transform.of(site, n, size, shape[-1], onesided, inverse)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, axis = inputs[0], self._axis(site)
        assert x is not None
        return (np.moveaxis(self._transform(site).numpy(np.moveaxis(x, axis, -2)), -2, axis),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        if x.axis is not None and x.axis in (self._axis(site), site.type(0).rank - 1):
            raise site.not_streamable("it transforms along time, so it needs the whole clip")
        return Streamed((x,))

    def lower(self, site: Site, low: Lowering) -> None:
        shape, axis, t = site.type(0).shape, self._axis(site), self._transform(site)
        size, outer, inner = shape[axis], prod(shape[:axis]), prod(shape[axis + 1 : -1])
        x, y, rows = low.input(0), low.output(0), outer * inner
        if t.folded or t.used != size or inner > 1:
            into = (outer, inner, t.used, t.parts)
            places = [(x, (size * inner * t.parts, t.parts, inner * t.parts, 1))]
            body = []
            if t.folded:
                places.append((low.weight(t.weights().astype(np.float32)), (0, 0, 1, 0)))
                body = [Apply(scalar.mul, (Register(0), Register(1)))]
            x = low.scratch(DType.F32, prod(into))
            low.loop(into, places, body, x)
        if inner == 1:
            t.lower(low, rows, x, y)
            return
        turned = low.scratch(DType.F32, rows * t.kept * t.y_parts)
        t.lower(low, rows, x, turned)
        steps = (inner * t.kept * t.y_parts, t.y_parts, t.kept * t.y_parts, 1)
        low.loop((outer, t.kept, inner, t.y_parts), [(turned, steps)], [], y)


def _parts(signal: TensorType) -> int:
    """2 for complex samples, 1 for real ones, which PyTorch writes without an axis of their own."""
    return signal.shape[2] if signal.rank == 3 else 1


@register
class STFT(Op):
    """See the module's text. Over time a frame is made whenever `frame_step` samples have come.

    A signal of rank 2 is real: PyTorch writes it so and onnxruntime takes it, though the operator's page asks for a last axis
    of size 1.
    """

    name = "STFT"
    tolerance = Tolerance(1e-5, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        require_f32(site, 0, 2)
        _, frames, t = self._sizes(site)
        return (site.type(0).with_shape((site.type(0).shape[0], frames, t.kept, 2)),)

    def _sizes(self, site: Site) -> tuple[int, int, _Transform]:
        """frame_step, frames, the transform of one."""
        x = site.type(0)
        if x.rank not in (2, 3):
            raise site.shape_error(f"the signal {x} should be [batch, samples, 1 or 2] or [batch, samples]")
        window = site.type(2).shape if site.has(2) else ()
        n = const_number(site, 3, "frame_length", window[0] if len(window) == 1 else x.shape[1])
        if site.has(2) and window != (n,):
            raise site.shape_error(f"the window {site.type(2)} does not have the {n} samples of a frame")
        step = const_number(site, 1, "frame_step", 0)
        t = _Transform.of(site, n, n, _parts(x), site.attr_int("onesided", 1) != 0)
        if step < 1 or n > x.shape[1]:
            raise site.shape_error(f"frames of {n} samples every {step} cannot be cut from {x.shape[1]} samples")
        return step, (x.shape[1] - n) // step + 1, t

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x, window = inputs[0], (*inputs, None, None)[2]
        assert x is not None
        x = x.reshape(*x.shape[:2], -1)
        step, frames, t = self._sizes(site)
        cut = np.stack([x[:, f * step : f * step + t.n] for f in range(frames)], axis=1)
        return (t.numpy(cut if window is None else cut * window[:, None]),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x = only(site, streams)
        step, _, t = self._sizes(site)
        if x.axis != 1:
            if x.axis == 2:
                raise site.not_streamable("time runs along its real and imaginary parts")
            return Streamed((x,))
        rule = windowed(x, t.n, 1, step, (0, 0), 0.0, {})
        n = np.array(t.n, np.int64)
        return replace(rule, consts={1: n, 3: n})

    def lower(self, site: Site, low: Lowering) -> None:
        (batch, size), parts = site.type(0).shape[:2], _parts(site.type(0))
        step, frames, t = self._sizes(site)
        x = low.input(0)
        places, body = [(x, (size * parts, step * parts, parts, 1))], []
        if site.has(2):
            places.append((low.input(2), (0, 0, 1, 0)))
            body = [Apply(scalar.mul, (Register(0), Register(1)))]
        if body or batch * frames > 1 or t.n != size:
            x = low.scratch(DType.F32, batch * frames * t.n * parts)
            low.loop((batch, frames, t.n, parts), places, body, x)
        t.lower(low, batch * frames, x, low.output(0))
