"""Write the small demo signals of ``examples/audio``.

``guitar_48k.wav``
    The held-out riff of ``amp.py``, dry, as the amp stage expects it.
``speech_16k.wav``
    Three espeak-ng voices with pauses, under pink noise at an SNR of 12 dB.
``sensor_10hz.csv``
    One minute of the simulated sensors with two faults: a spike and a phase break.

    python examples/train/demo_audio.py [--out DIRECTORY]
"""

import argparse
import wave
from pathlib import Path

import guitar
import numpy as np
import sensor_signal
import speech
from dsp import Signal, coloured_noise, rms

AUDIO = Path(__file__).resolve().parent.parent / "audio"
SPEECH_SECONDS = 8.0
SPEECH_SNR_DB = 12.0
LINES = (
    (0.5, "en-us+f2", "The network hears one frame at a time."),
    (3.3, "en-gb-scotland+m3", "And it answers before the next one."),
    (6.0, "en-us+Alicia", "Good night."),
)
SENSOR_SEED = 34
SENSOR_FAULTS = ("spike", "phase break")


def write_wav(path: Path, signal: Signal, rate: int) -> None:
    """Write mono 16-bit PCM; full scale is one."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(np.clip(signal, -1.0, 1.0) * 32767).astype("<i2").tobytes())
    print(f"{path.name}: {signal.size / rate:.1f} s, {path.stat().st_size / 1000:.0f} kB")


def speech_scene() -> Signal:
    """The spoken lines at their times, with noise at the SNR of the frames that are speech."""
    clean = np.zeros(int(SPEECH_SECONDS * speech.SAMPLE_RATE))
    for start, voice, text in LINES:
        spoken = speech.synthesise(text, voice, speed=165, pitch=50)
        begin = int(start * speech.SAMPLE_RATE)
        clean[begin : begin + spoken.size] += spoken[: clean.size - begin]
    active = clean.reshape(-1, speech.HOP)[speech.frame_labels(clean)]
    noise = coloured_noise(np.random.default_rng(16), clean.size, slope=1.0)
    mixture = clean + noise * rms(active) * 10 ** (-SPEECH_SNR_DB / 20)
    return 0.7 * mixture / np.abs(mixture).max()


def write_sensor(path: Path) -> None:
    """Write one minute of readings with two faults and print where they are."""
    recording = sensor_signal.faulty(np.random.default_rng(SENSOR_SEED), 600, SENSOR_FAULTS)
    header = ",".join(sensor_signal.CHANNELS)
    np.savetxt(path, recording.readings, fmt="%.3f", delimiter=",", header=header, comments="")
    rows = {kind: np.flatnonzero(recording.fault == sensor_signal.FAULTS.index(kind)) for kind in SENSOR_FAULTS}
    where = ", ".join(f"{kind} in rows {r[0]} to {r[-1]}" for kind, r in rows.items())
    print(f"{path.name}: {len(recording.readings)} rows, {path.stat().st_size / 1000:.0f} kB, {where}")


def main() -> None:
    """Write all three files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=AUDIO)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    write_wav(out / "guitar_48k.wav", guitar.riff(), guitar.SAMPLE_RATE)
    write_wav(out / "speech_16k.wav", speech_scene(), speech.SAMPLE_RATE)
    write_sensor(out / "sensor_10hz.csv")


if __name__ == "__main__":
    main()
