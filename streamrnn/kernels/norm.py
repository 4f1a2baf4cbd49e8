"""Softmax and normalisations over rows. Sums have the order of `kernels.reduce`."""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32, f32p, f64p, i64, kernel
from streamrnn.kernels.double import ZERO as ZERO_OF_DOUBLE
from streamrnn.kernels.double import exp as exp_of_double
from streamrnn.kernels.double import log as log_of_double
from streamrnn.kernels.math import exp, log
from streamrnn.kernels.reduce import add, fold, fold_columns, maximum
from streamrnn.kernels.simd import (
    LANES,
    Vec,
    above,
    fma,
    load_lanes,
    splat,
    sqrt,
    store_lanes,
    vload,
    vstore,
    vstore_part,
    vsum,
)

ZERO = np.float32(0)
ONE = np.float32(1)
LOWEST = np.float32(-np.inf)


@kernel
def softmax_rows(rows: i64, n: i64, logarithm: i64, x: f32p, y: f32p, lanes: f32p) -> None:
    """y [rows][n] = exp(x - max) / sum of it, or x - max - log of the sum where `logarithm` is 1. lanes: [16] scratch."""
    whole = n - n % LANES
    left = n - whole
    for r in range(rows):
        at = r * n
        tops = splat(LOWEST)
        for k in range(0, whole, LANES):
            tops = above(tops, vload(x, at + k))
        vstore(lanes, 0, tops)
        for k in range(left):
            lanes[k] = above(lanes[k], x[at + whole + k])
        top = fold(maximum, lanes)
        total = splat(ZERO)
        for k in range(0, whole, LANES):
            e = exp(vload(x, at + k) - top)
            vstore(y, at + k, e)
            total = total + e
        if left > 0:
            vstore_part(y, at + whole, left, exp(load_lanes(x, at + whole, left) - top))
            total = total + load_lanes(y, at + whole, left)
        if logarithm != 0:
            shift = log(vsum(total))
            for k in range(n):
                y[at + k] = x[at + k] - top - shift
        else:
            scale = ONE / vsum(total)
            for k in range(n):
                y[at + k] *= scale


@kernel
def softmax_columns(outer: i64, n: i64, inner: i64, logarithm: i64, x: f32p, y: f32p, lanes: f32p) -> None:
    """`softmax_rows` over the middle of [outer][n][inner]. lanes: [16][16] scratch."""
    for r in range(outer):
        for first in range(0, inner, LANES):
            left = inner - first
            base = r * n * inner + first
            top = splat(LOWEST)
            for k in range(n):
                top = above(top, load_lanes(x, base + k * inner, left))
            for residue in range(LANES):
                acc = splat(ZERO)
                for k in range(residue, n, LANES):
                    e = exp(load_lanes(x, base + k * inner, left) - top)
                    store_lanes(y, base + k * inner, left, e)
                    acc = acc + e
                vstore(lanes, residue * LANES, acc)
            fold_columns(add, lanes)
            total = vload(lanes, 0)
            if logarithm != 0:
                shift = log(total)
                for k in range(n):
                    v = load_lanes(x, base + k * inner, left)
                    store_lanes(y, base + k * inner, left, v - top - shift)
            else:
                scale = ONE / total
                for k in range(n):
                    store_lanes(y, base + k * inner, left, load_lanes(y, base + k * inner, left) * scale)


@device
def row_mean(x: f32p, at: i64, n: i64) -> f32:
    """Mean of x[at : at + n]."""
    acc = splat(ZERO)
    for k in range(0, n, LANES):
        acc = acc + load_lanes(x, at + k, n - k)
    return vsum(acc) / np.float32(n)


@device
def centre(x: f32p, at: i64, n: i64, mean: f32, y: f32p) -> f32:
    """y = x - mean on [at : at + n]; the mean of its squares."""
    acc = splat(ZERO)
    for k in range(0, n, LANES):
        store_lanes(y, at + k, n - k, load_lanes(x, at + k, n - k) - mean)
        d = load_lanes(y, at + k, n - k)
        acc = fma(d, d, acc)
    return vsum(acc) / np.float32(n)


@device
def scaled(y: f32p, at: i64, n: i64, k: i64, scale: Vec, bias: Vec) -> None:
    """y = y * scale + bias on up to sixteen of the n elements from `at`, from element k on."""
    store_lanes(y, at + k, n - k, fma(load_lanes(y, at + k, n - k), scale, bias))


@kernel
def layer_norm(
    rows: i64, n: i64, centred: i64, epsilon: f32, scale: f32p, bias: f32p, x: f32p, y: f32p, means: f32p, inverses: f32p
) -> None:
    """y [rows][n] = (x - mean) / sqrt(variance + epsilon) * scale + bias; the mean counts as 0 where `centred` is 0.

    Two passes: the mean, then the mean of squared differences. scale, bias: [n]. means, inverses: [rows], results.
    """
    for r in range(rows):
        at = r * n
        mean = ZERO
        if centred != 0:
            mean = row_mean(x, at, n)
        inverse = ONE / sqrt(centre(x, at, n, mean, y) + epsilon)
        for k in range(0, n, LANES):
            scaled(y, at, n, k, load_lanes(scale, k, n - k) * inverse, load_lanes(bias, k, n - k))
        means[r] = mean
        inverses[r] = inverse


@kernel
def group_norm(batch: i64, groups: i64, channels: i64, n: i64, epsilon: f32, scale: f32p, bias: f32p, x: f32p, y: f32p) -> None:
    """y [batch][groups][channels][n]: each group less its mean, over the root of its variance + epsilon, times scale plus bias.

    channels: of one group. scale, bias: [groups * channels].
    """
    for b in range(batch):
        for g in range(groups):
            at = (b * groups + g) * channels * n
            mean = row_mean(x, at, channels * n)
            inverse = ONE / sqrt(centre(x, at, channels * n, mean, y) + epsilon)
            for c in range(channels):
                factor, shift = splat(scale[g * channels + c] * inverse), splat(bias[g * channels + c])
                for k in range(0, n, LANES):
                    scaled(y, at + c * n, n, k, factor, shift)


@kernel
def over_norm(x: f32, size: f32) -> f32:
    """x / size, and 0 where the size is 0."""
    return x / size if size != ZERO else ZERO


@kernel
def softmax_plain(outer: i64, n: i64, inner: i64, logarithm: i64, x: f64p, y: f64p) -> None:
    """`softmax_columns` of float64, one number after the other."""
    for r in range(outer):
        for i in range(inner):
            first, behind = r * n * inner + i, (r + 1) * n * inner + i
            top = x[first]
            for k in range(first, behind, inner):
                top = max(top, x[k])
            total = ZERO_OF_DOUBLE
            for k in range(first, behind, inner):
                y[k] = exp_of_double(x[k] - top)
                total += y[k]
            shift = log_of_double(total)
            for k in range(first, behind, inner):
                y[k] = x[k] - top - shift if logarithm != 0 else y[k] / total


@kernel
def hardmax(outer: i64, n: i64, inner: i64, x: f32p, y: f32p) -> None:
    """y [outer][n][inner] = 1 at the first largest element of x along n, 0 elsewhere."""
    for r in range(outer):
        for i in range(inner):
            at = r * n * inner + i
            best = at
            for k in range(at, at + n * inner, inner):
                y[k] = ZERO
                if x[k] > x[best]:
                    best = k
            y[best] = ONE


@kernel
def local_power(
    batch: i64, channels: i64, inner: i64, before: i64, behind: i64, factor: f32, bias: f32, x: f32p, y: f32p
) -> None:
    """y [batch][channels][inner] = bias + factor times the sum of x² over the channels c - before .. c + behind."""
    for b in range(batch):
        for c in range(channels):
            first, last = max(0, c - before), min(channels - 1, c + behind)
            for j in range(0, inner, LANES):
                left = inner - j
                total = splat(ZERO)
                for k in range(first, last + 1):
                    v = load_lanes(x, (b * channels + k) * inner + j, left)
                    total = fma(v, v, total)
                store_lanes(y, (b * channels + c) * inner + j, left, fma(total, splat(factor), splat(bias)))
