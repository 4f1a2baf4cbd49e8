"""Scalar functions of element loops: one number in, one out. The driver inlines them into loops, LLVM makes vectors of them.

Named after the ONNX operator; a suffix names the element type where it is not float32.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels import math
from streamrnn.kernels._jit import b1, f32, i64, kernel

ZERO = np.float32(0)
ONE = np.float32(1)

exp_ = math.exp
sigmoid_ = math.sigmoid
tanh_ = math.tanh


@kernel
def add(a: f32, b: f32) -> f32:
    return a + b


@kernel
def add_i64(a: i64, b: i64) -> i64:
    return a + b


@kernel
def sub(a: f32, b: f32) -> f32:
    return a - b


@kernel
def mul(a: f32, b: f32) -> f32:
    return a * b


@kernel
def div(a: f32, b: f32) -> f32:
    return a / b


@kernel
def relu(x: f32) -> f32:
    return ZERO if x < ZERO else x


@kernel
def leaky_relu(x: f32, alpha: f32) -> f32:
    return x * alpha if x < ZERO else x


@kernel
def sigmoid(x: f32) -> f32:
    return sigmoid_(x)


@kernel
def tanh(x: f32) -> f32:
    return tanh_(x)


@kernel
def exp(x: f32) -> f32:
    return exp_(x)


@kernel
def less(a: f32, b: f32) -> b1:
    return a < b
