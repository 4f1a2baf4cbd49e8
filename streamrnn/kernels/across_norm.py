"""Normalisations across streams; parameters are those of `norm`, memory is that of `across_dense`."""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, i64, kernel
from streamrnn.kernels.across_dense import from_lanes, from_weights, to_lanes
from streamrnn.kernels.simd import LANES, Vec, fma, splat, sqrt

ZERO = np.float32(0)
ONE = np.float32(1)


@device
def residue_sum(squares: i64, x: f32p, at: i64, n: i64, residue: i64) -> Vec:
    """Sum of the elements at, at + 1, ... at + n - 1, or of their squares, whose number is `residue` modulo 16."""
    acc = splat(ZERO)
    for k in range(residue, n, LANES):
        v = from_lanes(x, at + k)
        acc = fma(v, v, acc) if squares != 0 else acc + v
    return acc


@device
def two_sums(squares: i64, x: f32p, at: i64, n: i64, first: i64) -> Vec:
    return residue_sum(squares, x, at, n, first) + residue_sum(squares, x, at, n, first + 8)


@device
def four_sums(squares: i64, x: f32p, at: i64, n: i64, first: i64) -> Vec:
    return two_sums(squares, x, at, n, first) + two_sums(squares, x, at, n, first + 4)


@device
def eight_sums(squares: i64, x: f32p, at: i64, n: i64, first: i64) -> Vec:
    return four_sums(squares, x, at, n, first) + four_sums(squares, x, at, n, first + 2)


@device
def mean_of(squares: i64, x: f32p, at: i64, n: i64) -> Vec:
    """Mean of n elements or of their squares; the sixteen partial sums are added in halves, as by `simd.vsum`."""
    return (eight_sums(squares, x, at, n, 0) + eight_sums(squares, x, at, n, 1)) / np.float32(n)


@device
def centre(x: f32p, at: i64, n: i64, mean: Vec, y: f32p) -> Vec:
    """y = x - mean on [at : at + n]; the mean of its squares."""
    for k in range(at, at + n):
        to_lanes(y, k, from_lanes(x, k) - mean)
    return mean_of(1, y, at, n)


@kernel
def layer_norm(
    rows: i64, n: i64, centred: i64, epsilon: f32, scale: f32p, bias: f32p, x: f32p, y: f32p, means: f32p, inverses: f32p
) -> None:
    """`norm.layer_norm` across streams."""
    for r in range(rows):
        at = r * n
        mean = splat(ZERO)
        if centred != 0:
            mean = mean_of(0, x, at, n)
        inverse = ONE / sqrt(centre(x, at, n, mean, y) + epsilon)
        for k in range(n):
            to_lanes(y, at + k, fma(from_lanes(y, at + k), from_weights(scale, k) * inverse, from_weights(bias, k)))
        to_lanes(means, r, mean)
        to_lanes(inverses, r, inverse)


@kernel
def group_norm(batch: i64, groups: i64, channels: i64, n: i64, epsilon: f32, scale: f32p, bias: f32p, x: f32p, y: f32p) -> None:
    """`norm.group_norm` across streams."""
    for b in range(batch):
        for g in range(groups):
            at = (b * groups + g) * channels * n
            mean = mean_of(0, x, at, channels * n)
            inverse = ONE / sqrt(centre(x, at, channels * n, mean, y) + epsilon)
            for c in range(channels):
                channel = g * channels + c
                factor, shift = from_weights(scale, channel) * inverse, from_weights(bias, channel)
                for k in range(at + c * n, at + (c + 1) * n):
                    to_lanes(y, k, fma(from_lanes(y, k), factor, shift))
