"""Guitar-like test signals at 48 kHz from the extended Karplus-Strong algorithm.

A string is a delay line of one period closed over a lossy low-pass; the pluck is a burst of noise put into the line.
The loop holds, as in Jaffe & Smith, "Extensions of the Karplus-Strong Plucked-String Algorithm", Computer Music
Journal 7(2), 1983:

* the damping ``rho * ((1 - s) + s z^-1)``, which lets high partials decay faster than low ones;
* the tuning all-pass ``(c + z^-1) / (1 + c z^-1)``, which makes the loop a fractional number of samples long.

The burst passes a one-pole low-pass set by the strength of the pluck (dynamics) and a comb filter set by the
place where the string is picked. Whole tracks pass the pickup, whose inductance and cable capacitance make a resonant
second-order low-pass at some 4 kHz.
"""

from collections.abc import Sequence

import numpy as np
from dsp import Signal
from numba import njit

SAMPLE_RATE = 48_000
DAMPING_MIX = 0.5
PICKUP_HZ = 3_800.0
PICKUP_Q = 1.4

OPEN_CHORDS = {
    "E": (40, 47, 52, 56, 59, 64),
    "A": (45, 52, 57, 61, 64),
    "D": (50, 57, 62, 66),
    "G": (43, 47, 50, 55, 59, 67),
    "C": (48, 52, 55, 60, 64),
    "Em": (40, 47, 52, 55, 59, 64),
    "Am": (45, 52, 57, 60, 64),
    "E5": (40, 47, 52),
    "A5": (45, 52, 57),
    "G5": (43, 50, 55),
}


@njit(cache=True)
def _string_loop(burst: Signal, length: int, period: int, rho: float, s: float, c: float) -> Signal:
    out = np.zeros(length)
    line = np.zeros(period)
    damped_before = 0.0
    previous = 0.0
    tuned = 0.0
    for n in range(length):
        end = line[n % period]
        damped = rho * ((1.0 - s) * end + s * previous)
        previous = end
        tuned = c * damped + damped_before - c * tuned
        damped_before = damped
        out[n] = tuned + (burst[n] if n < burst.size else 0.0)
        line[n % period] = out[n]
    return out


def pluck(rng: np.random.Generator, note: float, seconds: float, strength: float = 0.8, sustain: float = 3.0) -> Signal:
    """Pluck a string at a MIDI ``note``; ``sustain`` is the time in seconds over which it decays by 60 dB."""
    frequency = 440.0 * 2.0 ** ((note - 69.0) / 12.0)
    loop = SAMPLE_RATE / frequency
    period = int(loop - DAMPING_MIX - 0.3)
    fraction = loop - period - DAMPING_MIX
    rho = 10.0 ** (-3.0 / (frequency * sustain))
    burst = rng.uniform(-1.0, 1.0, period)
    smoothing = 0.97 - 0.15 * strength
    for n in range(1, period):
        burst[n] = (1.0 - smoothing) * burst[n] + smoothing * burst[n - 1]
    picked = burst - np.roll(burst, max(1, int(rng.uniform(0.1, 0.25) * period)))
    picked *= strength / (np.abs(picked).max() + 1e-9)
    allpass = (1.0 - fraction) / (1.0 + fraction)
    return _string_loop(picked, int(seconds * SAMPLE_RATE), period, rho, DAMPING_MIX, allpass)


def strum(
    rng: np.random.Generator, notes: Sequence[float], seconds: float, strength: float = 0.8, spread: float = 0.012
) -> Signal:
    """Play a chord, each string ``spread`` seconds after the one below."""
    out = np.zeros(int(seconds * SAMPLE_RATE))
    for i, note in enumerate(notes):
        start = int(i * spread * SAMPLE_RATE)
        tone = pluck(rng, note, seconds, strength * rng.uniform(0.8, 1.0))
        out[start:] += tone[: out.size - start]
    return out / np.sqrt(len(notes))


def place(track: Signal, start: float, sound: Signal) -> None:
    """Mix ``sound`` into ``track`` from ``start`` seconds on, with 5 ms of fade at its end."""
    begin = int(start * SAMPLE_RATE)
    piece = sound[: track.size - begin].copy()
    fade = min(piece.size, int(0.005 * SAMPLE_RATE))
    piece[piece.size - fade :] *= np.linspace(1.0, 0.0, fade)
    track[begin : begin + piece.size] += piece


def pickup(track: Signal) -> Signal:
    """The voltage of a magnetic pickup with its cable, at a peak of 1."""
    f = np.fft.rfftfreq(track.size, 1.0 / SAMPLE_RATE) / PICKUP_HZ
    voltage = np.fft.irfft(np.fft.rfft(track) / (1.0 - f**2 + 1j * f / PICKUP_Q), track.size)
    return voltage / np.abs(voltage).max()


def random_phrase(rng: np.random.Generator, seconds: float) -> Signal:
    """Improvise plucks, chords and rests of random strength, beginning with a sound; the peak is 1."""
    track = np.zeros(int(seconds * SAMPLE_RATE))
    now = 0.0
    names = list(OPEN_CHORDS)
    while now < seconds - 0.05:
        length = float(rng.choice([0.12, 0.2, 0.3, 0.5, 0.9]))
        strength = rng.uniform(0.15, 1.0)
        if rng.random() < 0.35:
            notes = OPEN_CHORDS[names[rng.integers(len(names))]]
            place(track, now, strum(rng, notes, length + 0.3, strength, rng.uniform(0.004, 0.03)))
        elif now == 0.0 or rng.random() < 0.9:
            place(track, now, pluck(rng, float(rng.integers(40, 80)), length + 0.1, strength, rng.uniform(0.5, 4.0)))
        now += length
    return pickup(track)


def riff() -> Signal:
    """The held-out phrase and demo: six seconds of riff, palm-muted notes and chords, loud to soft."""
    rng = np.random.default_rng(1983)
    track = np.zeros(6 * SAMPLE_RATE)
    beat = 60.0 / 132.0
    line = [(0.0, 40), (0.5, 40), (1.0, 43), (1.5, 45), (2.0, 40), (2.5, 46), (2.75, 45), (3.25, 43)]
    for at, note in line:
        muted = at in (0.0, 0.5, 2.0)
        place(track, at * beat, pluck(rng, note, 0.6 * beat, 0.9, 0.35 if muted else 2.5))
    place(track, 4.0 * beat, strum(rng, OPEN_CHORDS["E5"], 1.0 * beat, 1.0))
    place(track, 5.0 * beat, strum(rng, OPEN_CHORDS["G5"], 1.0 * beat, 0.9))
    place(track, 6.0 * beat, strum(rng, OPEN_CHORDS["A5"], 1.5 * beat, 1.0))
    for i, note in enumerate((64, 67, 69, 67, 71, 69)):
        place(track, (7.5 + i / 3.0) * beat, pluck(rng, note, 0.5, 0.75 - 0.06 * i, 2.0))
    place(track, 9.5 * beat, strum(rng, OPEN_CHORDS["Em"], 6.0 - 9.5 * beat, 0.5, 0.045))
    return 0.9 * pickup(track)
