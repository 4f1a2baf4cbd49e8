"""Windows for spectra and the mel filter bank: constants made from numbers.

    HannWindow      0.5 - 0.5 cos(2 pi n / N)
    HammingWindow   25/46 - 21/46 cos(2 pi n / N)
    BlackmanWindow  0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)
                    N is the size, or one less with periodic = 0
    MelWeightMatrix [dft_length / 2 + 1, num_mel_bins]: triangles of height 1 whose corners lie evenly on the mel scale,
                    2595 log10(1 + f / 700), rounded down to bins of the transform

Inputs      size; num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz. All constant, so they are folded.
Attributes  periodic (1), output_datatype (a DType's value, "float32" where left out).
Source      onnx.ai/onnx/operators/onnx__HannWindow.html and its neighbours, onnx__MelWeightMatrix.html.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, register, register_instance
from streamrnn.ir.types import DType, TensorType
from streamrnn.ops._moves import lower_constant


class _Made(Op):
    """An array that depends on constants alone."""

    @abstractmethod
    def shape(self, site: Site) -> tuple[int, ...]:
        """Shape of the array. Raises ShapeError where the numbers make none."""

    @abstractmethod
    def values(self, site: Site) -> Array:
        """The array in float64."""

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        name = site.attr_str("output_datatype", DType.F32.value)
        try:
            return (TensorType(DType(name), self.shape(site)),)
        except ValueError:
            raise UnsupportedError(f"node '{site.node.name}' ({self.name}): no step can hold {name}") from None

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (self.values(site).astype(self.infer(site)[0].dtype.numpy),)

    def lower(self, site: Site, low: Lowering) -> None:
        low.output(0)  # refuses what is too large before it is made
        lower_constant(low, self.reference(site)[0])


def _number(site: Site, index: int, what: str) -> float:
    """Constant input `index`, one finite number. Raises ShapeError, UnsupportedError."""
    value = site.need_const(index, what)
    if value.size != 1 or value.dtype.kind not in "iuf" or not math.isfinite(value.item()):
        raise site.shape_error(f"{what} (input {index}) is no single number")
    return float(value.item())


class CosineWindow(_Made):
    """sum of a[k] cos(2 pi k n / N)"""

    def __init__(self, name: str, *a: float) -> None:
        self.name = name  # type: ignore[misc]
        self.a = a

    def shape(self, site: Site) -> tuple[int, ...]:
        size = int(_number(site, 0, "size"))
        if size < 0:
            raise site.shape_error(f"a window of {size} samples")
        return (size,)

    def values(self, site: Site) -> Array:
        (size,) = self.shape(site)
        turn = 2 * np.pi * np.arange(size) / max(1, size if site.attr_int("periodic", 1) else size - 1)
        return np.asarray(np.sum([a * np.cos(k * turn) for k, a in enumerate(self.a)], axis=0))


register_instance(CosineWindow("HannWindow", 0.5, -0.5), "HannWindow")
register_instance(CosineWindow("HammingWindow", 25 / 46, -21 / 46), "HammingWindow")
register_instance(CosineWindow("BlackmanWindow", 0.42, -0.5, 0.08), "BlackmanWindow")


@register
class MelWeightMatrix(_Made):
    """See the module's text."""

    name = "MelWeightMatrix"

    def shape(self, site: Site) -> tuple[int, ...]:
        mels, length, rate, low, high = self._numbers(site)
        if mels < 1 or length < 2 or rate <= 0 or not 0 <= low < high <= rate / 2:
            raise site.shape_error(f"{mels} mel bands from {low} to {high} Hz in a DFT of {length} samples at {rate} Hz")
        return (length // 2 + 1, mels)

    def _numbers(self, site: Site) -> tuple[int, int, float, float, float]:
        """num_mel_bins, dft_length, sample_rate, lower and upper edge."""
        names = ("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz")
        mels, length, *hertz = (_number(site, i, name) for i, name in enumerate(names))
        rate, low, high = hertz
        return int(mels), int(length), rate, low, high

    def values(self, site: Site) -> Array:
        mels, length, rate, low, high = self._numbers(site)
        bottom, top = (2595 * math.log10(1 + f / 700) for f in (low, high))
        mel = bottom + (top - bottom) / (mels + 2) * np.arange(mels + 2)
        corners = ((length + 1) * 700 * (10 ** (mel / 2595) - 1) // rate).astype(np.int64)
        left, peak, right = corners[:-2], corners[1:-1], corners[2:]
        k = np.arange(length // 2 + 1)[:, None]
        rising = np.where(peak > left, (k - left) / np.maximum(peak - left, 1), 1.0)
        falling = (right - k) / np.maximum(right - peak, 1)
        return np.where((k >= left) & (k <= peak), rising, np.where((k > peak) & (k < right), falling, 0.0))
