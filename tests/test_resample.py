"""Sample rate conversion keeps what both rates can hold, removes the rest, and moves nothing in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamrnn.errors import InputError
from streamrnn.resample import resample

RATES = [(48000, 96000), (96000, 48000), (44100, 48000), (48000, 44100), (48000, 44111), (8000, 48000), (16000, 22050)]


def tone(rate: int, hertz: float, frames: int = 0) -> Any:
    """A sine; a quarter of a second where no length is given."""
    return np.sin(2 * np.pi * hertz * np.arange(frames or rate // 4) / rate)


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.88])
def test_a_tone_within_both_bands_is_the_same_tone(rate_in: int, rate_out: int, share: float) -> None:
    hertz = share * min(rate_in, rate_out) / 2
    y = resample(tone(rate_in, hertz), rate_in, rate_out)
    expected = tone(rate_out, hertz, len(y))
    edge = len(y) // 5
    assert y.dtype == np.float32
    assert len(y) == -(-(rate_in // 4) * rate_out // rate_in)
    assert np.abs(y[edge:-edge] - expected[edge:-edge]).max() < 2e-6


@pytest.mark.parametrize(("rate_in", "rate_out"), [(96000, 48000), (48000, 44100), (48000, 22050)])
def test_a_tone_above_the_new_band_is_gone(rate_in: int, rate_out: int) -> None:
    hertz = 0.5 * (rate_out / 2 + min(rate_in / 2, rate_out))
    y = resample(tone(rate_in, hertz), rate_in, rate_out)
    edge = len(y) // 5
    assert np.abs(y[edge:-edge]).max() < 2e-6


def test_there_and_back_is_the_same_signal() -> None:
    x = resample(np.random.default_rng(1).normal(0, 0.2, 3000), 24000, 48000)
    back = resample(resample(x, 48000, 96000), 96000, 48000)
    assert np.abs(back - x)[400:-400].max() < 2e-6


def test_constants_stay_constant_and_channels_stay_apart() -> None:
    x = np.stack([np.ones(500), np.zeros(500), np.full(500, -0.5)], axis=1)
    y = resample(x, 44100, 48000)
    np.testing.assert_allclose(y[120:-120], np.broadcast_to([1, 0, -0.5], (len(y) - 240, 3)), atol=1e-6)


def test_equal_rates_and_no_frames_change_nothing() -> None:
    x = np.random.default_rng(1).normal(0, 1, 20).astype(np.float32)
    np.testing.assert_array_equal(resample(x, 48000, 48000), x)
    assert resample(np.zeros((0, 2), np.float32), 48000, 44100).shape == (0, 2)


@pytest.mark.parametrize("rate", [0, -1, 10**9])
def test_absurd_rates_are_refused(rate: int) -> None:
    with pytest.raises(InputError, match="cannot be converted"):
        resample(np.zeros(3), 48000, rate)
