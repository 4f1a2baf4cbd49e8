"""Moving frames between rows of slots, [slot][elements], and interleaved memory, [elements][16]: one group of 16 slots.

active   [16]  1 where a slot is joined
live     [16]  1 where a slot makes this step: it is joined, and its frame was not refused
bad      [16]  how many elements of a slot's frame are not finite, where its policy cares
headers  [16][8]  the header of each slot, as in `codegen.abi`
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels._jit import f32p, i64, i64p, kernel, u8p
from streamrnn.kernels.ports import finite
from streamrnn.kernels.simd import LANES

ZERO = np.float32(0)
#: elements of a slot that are moved at a time: those of all slots together stay in the nearest cache
BLOCK = 128
#: fields of a header
STEPS, POLICY, MENDED, FIELDS = 0, 1, 2, 8


@kernel
def look(n: i64, passes: i64, active: u8p, headers: i64p, bad: i64p, x: f32p) -> None:
    """Count what is not finite in x [slot][n], for the slots whose policy is not `passes`."""
    for j in range(LANES):
        if active[j] != 0 and headers[j * FIELDS + POLICY] != passes:
            for i in range(n):
                bad[j] += not finite(x[j * n + i])


@kernel
def judge(refuses: i64, clears: i64, active: u8p, live: u8p, headers: i64p, bad: i64p) -> i64:
    """Set `live`; count a bad frame in its header. How many slots refuse theirs, because their policy is `refuses`."""
    refused = 0
    for j in range(LANES):
        live[j] = active[j]
        if bad[j] != 0:
            headers[j * FIELDS + MENDED] += 1
            if headers[j * FIELDS + POLICY] == refuses:
                live[j] = 0
                refused += 1
            elif headers[j * FIELDS + POLICY] == clears:
                headers[j * FIELDS + STEPS] = 0
    return refused


@kernel
def clear(n: i64, clears: i64, headers: i64p, bad: i64p, x: f32p, y: f32p) -> None:
    """y = x [n] in the lanes of slots with a bad frame whose policy is `clears`."""
    for j in range(LANES):
        if bad[j] != 0 and headers[j * FIELDS + POLICY] == clears:
            for i in range(n):
                y[i * LANES + j] = x[i]


@kernel
def keep(n: i64, active: u8p, live: u8p, x: f32p, y: f32p) -> None:
    """y = x, n elements, in the lanes of slots that refuse their frame."""
    for j in range(LANES):
        if active[j] != live[j]:
            for i in range(n):
                y[i * LANES + j] = x[i * LANES + j]


@kernel
def none_bad(bad: i64p) -> i64:
    """1 where no frame of the group is bad."""
    found = 0
    for j in range(LANES):
        found += bad[j]
    return 1 if found == 0 else 0


@kernel
def all_live(live: u8p) -> i64:
    """1 where all 16 slots make the step."""
    found = 0
    for j in range(LANES):
        found += live[j]
    return 1 if found == LANES else 0


@kernel
def take(n: i64, begin: i64, clears: i64, active: u8p, headers: i64p, bad: i64p, x: f32p, y: f32p) -> None:
    """y = x [slot][n] from element `begin` on, in the lanes of joined slots. An element of a bad frame that is not finite keeps
    the value that it had, or becomes zero where the policy is `clears`."""
    for first in range(begin, n, BLOCK):
        for j in range(LANES):
            if active[j] == 0:
                continue
            for i in range(first, min(first + BLOCK, n)):
                if bad[j] == 0 or finite(x[j * n + i]):
                    y[i * LANES + j] = x[j * n + i]
                elif headers[j * FIELDS + POLICY] == clears:
                    y[i * LANES + j] = ZERO


@kernel
def give(n: i64, begin: i64, live: u8p, x: f32p, y: f32p) -> None:
    """y [slot][n] = x from element `begin` on, for the slots that are live."""
    for first in range(begin, n, BLOCK):
        for j in range(LANES):
            if live[j] != 0:
                for i in range(first, min(first + BLOCK, n)):
                    y[j * n + i] = x[i * LANES + j]


@kernel
def silence(outer: i64, frames: i64, inner: i64, delay: i64, made: i64, latest: i64, live: u8p, headers: i64p, y: f32p) -> None:
    """Zeros in y [slot][outer][frames][inner] for frames that are still filler.

    delay:  frames by which the output lags. made: frames that a step makes.
    latest: 1 where y is one answer for all frames of a step (`frames` is 1): zeros until one of them is valid.
    """
    for j in range(LANES):
        skip = min(max(delay - headers[j * FIELDS + STEPS] * made, 0), made)
        if latest != 0:
            skip = skip // made
        if live[j] != 0 and skip > 0:
            for o in range(outer):
                for i in range(skip * inner):
                    y[((j * outer + o) * frames) * inner + i] = ZERO


@kernel
def count(live: u8p, headers: i64p) -> None:
    """One step more for the slots that are live."""
    for j in range(LANES):
        headers[j * FIELDS + STEPS] += live[j]
