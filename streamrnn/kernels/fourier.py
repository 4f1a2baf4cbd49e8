"""The discrete Fourier transform of rows, for lengths n = lanes * m with lanes at most 16.

Input j + m l meets output lanes k + h with exp(-2 pi i (l h / lanes + j h / n + j k / m)). So lane h of vector j first
takes the `lanes` inputs j, j + m, j + 2 m .. times a constant matrix, then a factor of its own, and what is left is a transform
of length m over whole vectors, made of radix 4, 2 and small odd steps (Stockham 1966: each step sorts as it goes). No lane ever
meets another, and all factors are tables made in float64.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import device, f32p, i64, i64p, kernel
from streamrnn.kernels.simd import LANES, Vec, fma, splat, vload, vstore

ZERO = np.float32(0)


@device
def put_turned(a: f32p, at: i64, plane: i64, re: Vec, im: Vec, c: Vec, s: Vec) -> None:
    """(re + i im) (c + i s) to a[at], its imaginary part `plane` elements further on."""
    vstore(a, at, fma(re, c, -(im * s)))
    vstore(a, at + plane, fma(re, s, im * c))


@device
def enter(m: i64, used: i64, parts: i64, at: i64, lanes: i64, w: f32p, x: f32p, a: f32p) -> None:
    """Vectors 0 .. m - 1 of a from the row of x at `at`: the matrix and the factors, the first tables in w."""
    plane = m * LANES
    for j in range(m):
        re = splat(ZERO)
        im = splat(ZERO)
        for l in range((used - j + m - 1) // m):  # noqa: E741
            here = at + (m * l + j) * parts
            o = l * 2 * LANES
            c, s = vload(w, o), vload(w, o + LANES)
            re = fma(c, splat(x[here]), re)
            im = fma(s, splat(x[here]), im)
            if parts == 2:
                re = fma(s, splat(-x[here + 1]), re)
                im = fma(c, splat(x[here + 1]), im)
        o = (lanes + j) * 2 * LANES
        put_turned(a, j * LANES, plane, re, im, vload(w, o), vload(w, o + LANES))


@device
def halves(n: i64, s: i64, plane: i64, t: i64, w: f32p, source: i64, target: i64, a: f32p) -> None:
    """One step of radix 2 from a[source] to a[target], of s interleaved transforms of length n. Factors from w[t]."""
    half = n // 2
    for p in range(half):
        c, d = splat(w[t + 2 * p]), splat(w[t + 2 * p + 1])
        for q in range(s):
            at = source + (q + s * p) * LANES
            far = at + s * half * LANES
            to = target + (q + s * 2 * p) * LANES
            re0, im0, re1, im1 = vload(a, at), vload(a, at + plane), vload(a, far), vload(a, far + plane)
            vstore(a, to, re0 + re1)
            vstore(a, to + plane, im0 + im1)
            put_turned(a, to + s * LANES, plane, re0 - re1, im0 - im1, c, d)


@device
def quarters(n: i64, s: i64, plane: i64, t: i64, back: i64, w: f32p, source: i64, target: i64, a: f32p) -> None:
    """`halves` with radix 4. back: 1 for the inverse transform."""
    part = n // 4
    step = s * part * LANES
    for p in range(part):
        o = t + 6 * p
        c1, d1, c2, d2, c3, d3 = (
            splat(w[o]), splat(w[o + 1]), splat(w[o + 2]), splat(w[o + 3]), splat(w[o + 4]), splat(w[o + 5])
        )  # fmt: skip
        for q in range(s):
            at = source + (q + s * p) * LANES
            to = target + (q + s * 4 * p) * LANES
            re0, im0 = vload(a, at), vload(a, at + plane)
            re1, im1 = vload(a, at + step), vload(a, at + step + plane)
            re2, im2 = vload(a, at + 2 * step), vload(a, at + 2 * step + plane)
            re3, im3 = vload(a, at + 3 * step), vload(a, at + 3 * step + plane)
            even_re, even_im, odd_re, odd_im = re0 + re2, im0 + im2, re1 + re3, im1 + im3
            rest_re, rest_im, side_re, side_im = re0 - re2, im0 - im2, im1 - im3, re3 - re1
            if back != 0:
                side_re, side_im = -side_re, -side_im
            vstore(a, to, even_re + odd_re)
            vstore(a, to + plane, even_im + odd_im)
            put_turned(a, to + s * LANES, plane, rest_re + side_re, rest_im + side_im, c1, d1)
            put_turned(a, to + 2 * s * LANES, plane, even_re - odd_re, even_im - odd_im, c2, d2)
            put_turned(a, to + 3 * s * LANES, plane, rest_re - side_re, rest_im - side_im, c3, d3)


@device
def parts_of(r: i64, n: i64, s: i64, plane: i64, t: i64, w: f32p, source: i64, target: i64, a: f32p) -> None:
    """`halves` with any radix r: its r roots of unity stand in w[t], the factors behind them."""
    part = n // r
    for p in range(part):
        o = t + 2 * r + 2 * r * p
        for q in range(s):
            at = source + (q + s * p) * LANES
            for k in range(r):
                re, im = splat(ZERO), splat(ZERO)
                for j in range(r):
                    here = at + j * s * part * LANES
                    root = t + 2 * (j * k % r)
                    c, d = splat(w[root]), splat(w[root + 1])
                    x, y = vload(a, here), vload(a, here + plane)
                    re = fma(x, c, fma(y, -d, re))
                    im = fma(x, d, fma(y, c, im))
                to = target + (q + s * (r * p + k)) * LANES
                put_turned(a, to, plane, re, im, splat(w[o + 2 * k]), splat(w[o + 2 * k + 1]))


@kernel
def fft(
    rows: i64, used: i64, parts: i64, lanes: i64, m: i64, stages: i64, kept: i64, y_parts: i64, back: i64,
    radix: i64p, w: f32p, x: f32p, y: f32p, a: f32p,
) -> None:  # fmt: skip
    """y [rows][kept][y_parts] = the first `kept` outputs of the transforms of x [rows][used][parts], the rest of each row being
    zero. parts: 1 real, 2 real and imaginary. back: 1 for the inverse transform, whose 1 / n is in the tables.

    radix: [stages], their product is m. w: matrix [lanes][2][16], factors of the lanes [m][2][16], then for each stage with
    sub-transforms of length n its factors: radix 2 [n / 2][2], radix 4 [n / 4][3][2], else [r][2] roots and [n / r][r][2].
    a: [4 * m * 16] scratch.
    """
    plane = m * LANES
    for row in range(rows):
        enter(m, used, parts, row * used * parts, lanes, w, x, a)
        source, target = 0, 2 * plane
        n, s, t = m, 1, (lanes + m) * 2 * LANES
        for stage in range(stages):
            r = radix[stage]
            if r == 2:
                halves(n, s, plane, t, w, source, target, a)
                t += n
            elif r == 4:
                quarters(n, s, plane, t, back, w, source, target, a)
                t += n // 4 * 6
            else:
                parts_of(r, n, s, plane, t, w, source, target, a)
                t += 2 * r + 2 * n
            n //= r
            s *= r
            source, target = target, source
        for first in range(0, kept, lanes):
            at = source + first // lanes * LANES
            for h in range(min(lanes, kept - first)):
                to = (row * kept + first + h) * y_parts
                y[to] = a[at + h]
                if y_parts == 2:
                    y[to + 1] = a[at + plane + h]
