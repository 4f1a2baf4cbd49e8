"""A guitar-amp stage as a circuit: coupling capacitor, gain, diode clipper, tone network.

The clipper is a resistor ``R`` feeding a capacitor ``C`` in parallel with two antiparallel diodes. Kirchhoff's
current law at the diodes, with Shockley's equation for both of them, gives

    C dv/dt = (u - v) / R - 2 Is sinh(v / (n Vt))

(Yeh, Abel & Smith, "Simulation of the Diode Limiter in Guitar Distortion Circuits by Numerical Solution of Ordinary
Differential Equations", DAFx-07). A conducting diode makes it stiff: near 0.6 V the time constant falls to some ten
nanoseconds. The equation is therefore integrated with backward Euler, which is L-stable, at eight times 48 kHz, and
every step is solved by Newton's method with the voltage change limited, as circuit simulators do.

Around it, the input capacitor is a one-pole high-pass, the drive knob is a gain with a logarithmic taper, and the tone
network adds a low-passed and a high-passed path at equal parts, which scoops the mids (the passive control of the
Big Muff Pi with its knob in the middle, its loading neglected). Levels are volts; full scale is one volt.
"""

import math

import numpy as np
from dsp import Signal, resample
from numba import njit

SAMPLE_RATE = 48_000
OVERSAMPLING = 8

MAX_GAIN_DB = 36.0
COUPLING_HZ = 1.0 / (2.0 * math.pi * 33e3 * 47e-9)
CLIPPER_R = 2.2e3
CLIPPER_C = 10e-9
DIODE_IS = 2.52e-9
DIODE_N_VT = 1.752 * 25.85e-3
TONE_LOW_HZ = 1.0 / (2.0 * math.pi * 39e3 * 10e-9)
TONE_HIGH_HZ = 1.0 / (2.0 * math.pi * 22e3 * 3.9e-9)
OUTPUT_GAIN = 2.0

NEWTON_STEPS = 50
NEWTON_TOLERANCE = 1e-9
NEWTON_LIMIT = 4.0 * DIODE_N_VT


@njit(cache=True)
def _clip(u: float, v_before: float, h: float) -> float:
    """One backward Euler step of the clipper: solve for the voltage at the end of a step of ``h`` seconds."""
    v = v_before
    conductance = h / (CLIPPER_R * CLIPPER_C)
    diode = 2.0 * h * DIODE_IS / CLIPPER_C
    for _ in range(NEWTON_STEPS):
        x = v / DIODE_N_VT
        residual = v - v_before - conductance * (u - v) + diode * math.sinh(x)
        slope = 1.0 + conductance + diode * math.cosh(x) / DIODE_N_VT
        change = residual / slope
        v -= min(max(change, -NEWTON_LIMIT), NEWTON_LIMIT)
        if abs(change) < NEWTON_TOLERANCE:
            break
    return v


@njit(cache=True)
def _stage(u: Signal, gain: Signal, rate: float) -> Signal:
    """Run the whole stage from rest; the linear one-pole filters use the bilinear transform."""
    coupling = math.tan(math.pi * COUPLING_HZ / rate)
    low = math.tan(math.pi * TONE_LOW_HZ / rate)
    high = math.tan(math.pi * TONE_HIGH_HZ / rate)
    coupling, low, high = coupling / (1.0 + coupling), low / (1.0 + low), high / (1.0 + high)
    s_coupling, s_low, s_high, v = 0.0, 0.0, 0.0, 0.0
    out = np.empty_like(u)
    for n in range(u.size):
        d = coupling * (u[n] - s_coupling)
        driven = gain[n] * (u[n] - (d + s_coupling))
        s_coupling += 2.0 * d
        v = _clip(driven, v, 1.0 / rate)
        d = low * (v - s_low)
        low_path = d + s_low
        s_low += 2.0 * d
        d = high * (v - s_high)
        high_path = v - (d + s_high)
        s_high += 2.0 * d
        out[n] = OUTPUT_GAIN * 0.5 * (low_path + high_path)
    return out


def amplify(audio: Signal, drive: Signal) -> Signal:
    """The stage's output for ``audio`` in volts and ``drive`` from 0 to 1, both at 48 kHz, starting from rest.

    ``audio`` should start and end near zero, since resampling treats it as one period of a periodic signal.
    """
    margin = 256
    padded = np.pad(audio, (0, margin))
    knob = np.repeat(np.pad(drive, (0, margin), mode="edge"), OVERSAMPLING)
    gain = 10.0 ** (knob * (MAX_GAIN_DB / 20.0))
    fast = _stage(resample(padded, padded.size * OVERSAMPLING), gain, float(SAMPLE_RATE * OVERSAMPLING))
    return resample(fast, padded.size)[: audio.size]
