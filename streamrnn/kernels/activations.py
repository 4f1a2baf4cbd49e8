"""Gate activations of the ONNX recurrent operators: f(x, alpha, beta) on vectors, and the same in NumPy.

Source: the equations on the operator pages of LSTM-22, GRU-22 and RNN-22 in the ONNX specification. The pages leave the
defaults of alpha and beta to other operators, some of which are gone; the defaults here are those of onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamrnn.kernels._jit import Device, device
from streamrnn.kernels.math import ONE, ZERO, expm1, sigmoid, softplus, tanh
from streamrnn.kernels.simd import Real, above, below, pick_less


@device
def relu(x: Real, alpha: Real, beta: Real) -> Real:
    return above(x, ZERO)


@device
def gate_tanh(x: Real, alpha: Real, beta: Real) -> Real:
    return tanh(x)


@device
def gate_sigmoid(x: Real, alpha: Real, beta: Real) -> Real:
    return sigmoid(x)


@device
def affine(x: Real, alpha: Real, beta: Real) -> Real:
    return x * alpha + beta


@device
def leaky_relu(x: Real, alpha: Real, beta: Real) -> Real:
    return pick_less(x, ZERO, x * alpha, x)


@device
def thresholded_relu(x: Real, alpha: Real, beta: Real) -> Real:
    return pick_less(x, alpha, ZERO, x)


@device
def scaled_tanh(x: Real, alpha: Real, beta: Real) -> Real:
    return tanh(x * beta) * alpha


@device
def hard_sigmoid(x: Real, alpha: Real, beta: Real) -> Real:
    return above(below(x * alpha + beta, ONE), ZERO)


@device
def elu(x: Real, alpha: Real, beta: Real) -> Real:
    return pick_less(x, ZERO, expm1(x) * alpha, x)


@device
def softsign(x: Real, alpha: Real, beta: Real) -> Real:
    return x / (pick_less(x, ZERO, -x, x) + ONE)


@device
def gate_softplus(x: Real, alpha: Real, beta: Real) -> Real:
    return softplus(x)


@dataclass(frozen=True)
class Row:
    """An activation: alpha and beta are their defaults, None where the activation has none."""

    name: str
    kernel: Device
    numpy: Callable[[Any, float, float], Any]
    alpha: float | None = None
    beta: float | None = None


TABLE: Mapping[str, Row] = {
    row.name.lower(): row
    for row in (
        Row("Relu", relu, lambda x, a, b: np.maximum(x, 0)),
        Row("Tanh", gate_tanh, lambda x, a, b: np.tanh(x)),
        Row("Sigmoid", gate_sigmoid, lambda x, a, b: 1 / (1 + np.exp(-x))),
        Row("Affine", affine, lambda x, a, b: a * x + b, 0.0, 0.0),
        Row("LeakyRelu", leaky_relu, lambda x, a, b: np.where(x < 0, a * x, x), 0.01),
        Row("ThresholdedRelu", thresholded_relu, lambda x, a, b: np.where(x < a, 0, x), 0.0),
        Row("ScaledTanh", scaled_tanh, lambda x, a, b: a * np.tanh(b * x), 0.0, 0.0),
        Row("HardSigmoid", hard_sigmoid, lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
        Row("Elu", elu, lambda x, a, b: np.where(x < 0, a * (np.exp(np.minimum(x, 0)) - 1), x), 1.0),
        Row("Softsign", softsign, lambda x, a, b: x / (1 + np.abs(x))),
        Row("Softplus", gate_softplus, lambda x, a, b: np.logaddexp(0, x)),
    )
}
