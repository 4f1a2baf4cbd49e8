"""A simulated cooling fan with four sensors at 10 Hz, and the faults its sensors can show.

A compressor switches on and off at irregular intervals and the fan follows its load ``u`` with inertia,

    du/dt = (command - u) / 6 s,        dphi/dt = 2 pi (0.7 + 0.6 u),

so that all sensors share one load and one phase of rotation:

===============  =====  =======================================================================
temperature      deg C  first-order response to the load over 20 s, slow ambient drift
pressure         Pa     square law of the fan speed, pulsation at the blade phase and its double
current          A      proportional to the load, ripple a quarter of a turn behind the pressure
vibration        mm/s   unbalance force, growing with the square of the speed
===============  =====  =======================================================================

Each has white measurement noise. ``inject_faults`` adds the faults: spikes, a stuck reading, a drifting reading, and
a phase break, in which one sensor jumps by half a turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 10.0
CHANNELS = ("temperature_degC", "pressure_Pa", "current_A", "vibration_mm_s")
NOISE = np.array([0.03, 2.5, 0.06, 0.05])
SPREAD = np.array([1.2, 40.0, 1.0, 0.8])
FAULTS = ("spike", "stuck", "drift", "phase break")
DURATIONS = {"spike": 1, "stuck": 40, "drift": 60, "phase break": 40}
ROTATING = (1, 2, 3)

Series = NDArray[np.float64]


@dataclass(frozen=True)
class Event:
    """A fault of one channel over the samples from ``start`` to before ``end``."""

    kind: str
    channel: int
    start: int
    end: int


@dataclass(frozen=True)
class Recording:
    """Sensor readings [time, channel] with, per sample, the index into FAULTS of the fault present, or -1."""

    readings: Series
    fault: NDArray[np.int64]


def switching_command(rng: np.random.Generator, length: int) -> Series:
    """Compressor on at a random stage or off, each for 8 to 40 seconds."""
    command, position = np.zeros(length), 0
    while position < length:
        end = position + int(rng.uniform(8, 40) * RATE_HZ)
        command[position:end] = rng.choice([0.1, 0.5, 0.75, 1.0])
        position = end
    return command


def follow(target: Series, seconds: float) -> Series:
    """First-order low-pass with a time constant in seconds, starting at the first value."""
    out = np.empty_like(target)
    value, share = target[0], 1 - np.exp(-1 / (seconds * RATE_HZ))
    for i, goal in enumerate(target):
        value += share * (goal - value)
        out[i] = value
    return out


def simulate(rng: np.random.Generator, length: int, breaks: Sequence[Event] = ()) -> Series:
    """Noise-free readings [time, channel], with half-turn phase breaks at the given events."""
    load = follow(switching_command(rng, length), 6.0)
    turn = 2 * np.pi * np.cumsum(0.7 + 0.6 * load) / RATE_HZ + rng.uniform(0, 2 * np.pi)
    phase = np.repeat(turn[:, None], len(CHANNELS), axis=1)
    for event in breaks:
        phase[event.start : event.end, event.channel] += np.pi
    minutes = np.arange(length) / (60 * RATE_HZ)
    ambient = 1.5 * np.sin(2 * np.pi * minutes / rng.uniform(8, 20) + rng.uniform(0, 2 * np.pi))
    speed = 0.35 + 0.65 * load
    return np.stack(
        [
            21 + ambient - 4 * follow(load, 20.0) + 0.05 * speed * np.sin(phase[:, 0] - 1.2),
            180 * speed**2 + 30 * speed * (np.sin(phase[:, 1]) + 0.35 * np.sin(2 * phase[:, 1] + 0.6)),
            1.5 + 4 * load + 0.7 * speed * np.sin(phase[:, 2] - np.pi / 2),
            0.4 + 1.8 * speed**2 * (1 + 0.6 * np.sin(phase[:, 3] + 0.9)),
        ],
        axis=1,
    )


def healthy(rng: np.random.Generator, length: int) -> Series:
    """Readings with measurement noise and no fault."""
    return simulate(rng, length) + NOISE * rng.standard_normal((length, len(CHANNELS)))


def faulty(rng: np.random.Generator, length: int, kinds: Sequence[str], gap: int = 150) -> Recording:
    """Readings with one fault of each of ``kinds``, spread over equal shares of the time after ``gap`` samples."""
    share = (length - gap) // len(kinds)
    events = []
    for i, kind in enumerate(kinds):
        duration = DURATIONS[kind]
        start = gap + i * share + int(rng.integers(0, share - duration))
        channel = rng.choice(ROTATING) if kind == "phase break" else rng.integers(len(CHANNELS))
        events.append(Event(kind, int(channel), start, start + duration))
    readings = simulate(rng, length, [event for event in events if event.kind == "phase break"])
    readings += NOISE * rng.standard_normal(readings.shape)
    fault = np.full(length, -1)
    for event in events:
        fault[event.start : event.end] = FAULTS.index(event.kind)
        distort(rng, event.kind, readings[event.start : event.end, event.channel], SPREAD[event.channel])
    return Recording(readings, fault)


def distort(rng: np.random.Generator, kind: str, piece: Series, spread: float) -> None:
    """Apply a spike, a stuck reading or a drift to ``piece`` in place; a phase break is made in the simulation."""
    sign = rng.choice([-1, 1])
    if kind == "spike":
        piece += sign * rng.uniform(1, 3) * spread
    elif kind == "stuck":
        piece[:] = piece[0]
    elif kind == "drift":
        piece += sign * rng.uniform(1.5, 4) * spread * np.linspace(0, 1, piece.size)
