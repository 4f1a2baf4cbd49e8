"""Small signal-processing pieces shared by the generators."""

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]


def resample(x: Signal, length: int) -> Signal:
    """Band-limited change to ``length`` samples through the discrete Fourier transform.

    ``x`` is taken for one period of a periodic signal, so it should start and end near zero.
    """
    spectrum = np.fft.rfft(x)[: length // 2 + 1]
    return np.fft.irfft(spectrum, length) * (length / x.size)


def rms(x: Signal) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


def coloured_noise(rng: np.random.Generator, length: int, slope: float) -> Signal:
    """Gaussian noise of unit RMS whose power falls as frequency to the ``slope`` (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    index = np.arange(spectrum.size)
    spectrum *= np.maximum(index, spectrum.size / 400) ** (-slope / 2)
    noise = np.fft.irfft(spectrum, length)
    return noise / rms(noise)
