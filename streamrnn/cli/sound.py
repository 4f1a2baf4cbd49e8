"""Sound files: reading, the model's rate against the file's, channels, writing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.cli.talk import notify, say_warning, talk
from streamrnn.engine import Engine, PortInfo
from streamrnn.errors import InputError, MissingExtraError, UnsupportedError
from streamrnn.files import write_aside
from streamrnn.ir.graph import Array
from streamrnn.rate import at_rate
from streamrnn.resample import resample

#: what `--bits` takes -> libsndfile's name
BITS = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
MISMATCHES = ("resample", "delay", "ignore")


@dataclass(frozen=True)
class Sound:
    """Samples [frames, channels] as float32, and their rate in Hz."""

    samples: Array
    rate: int


@dataclass(frozen=True)
class Rates:
    """What is done where a file's rate is not the model's: one of MISMATCHES, or "" where the user did not say.

    model: the rate at which the model was trained in Hz, where its file does not say it; 0 else.
    """

    mismatch: str = ""
    model: int = 0

    def __post_init__(self) -> None:
        if self.mismatch and self.mismatch not in MISMATCHES:
            raise InputError(f"--rate-mismatch {self.mismatch}: it is {', '.join(MISMATCHES)}")

    def trained(self, engine: Engine) -> float | None:
        """The rate at which the model was trained, or None where nobody says it. Raises InputError."""
        own = engine.meta.get("sample_rate")
        if not isinstance(own, int | float) or isinstance(own, bool):
            return self.model or None
        if self.model and self.model != own:
            raise InputError(f"--model-rate {self.model}: the file says {own:g} Hz")
        return own


def soundfile() -> Any:
    """The soundfile module. Raises MissingExtraError."""
    try:
        import soundfile as module
    except ImportError:
        raise MissingExtraError("wav files need soundfile; pip install 'streamrnn[audio]'") from None
    return module


def read_sound(path: Path) -> Sound:
    """All channels of a sound file. Raises InputError, MissingExtraError."""
    module = soundfile()
    try:
        samples, rate = module.read(str(path), dtype="float32", always_2d=True)
    except module.LibsndfileError as error:
        raise InputError(f"{path}: not a readable sound file ({error})") from None
    return Sound(samples, int(rate))


def one_channel(path: Path, sound: Sound, channel: int | None) -> Array:
    """Samples of the channel that was chosen, or of the only one. Raises InputError."""
    count = sound.samples.shape[1]
    if channel is None and count > 1:
        raise InputError(f"{path}: has {count} channels, the model takes one; choose it with --channel 0 .. {count - 1}")
    if channel is not None and not 0 <= channel < count:
        raise InputError(f"{path}: has no channel {channel}; there are {count}, counted from 0")
    return np.ascontiguousarray(sound.samples[:, channel or 0])


def warn_of_rate(path: Path, rate: int, engine: Engine) -> None:
    """Say where a file runs as if its rate were the model's."""
    wanted = engine.meta.get("sample_rate")
    if isinstance(wanted, int | float) and wanted != rate:
        say_warning(f"{path} has {rate} Hz, the model was trained at {wanted:g} Hz; it runs as if they were the same")


def frames_of(samples: Array, port: PortInfo) -> Array:
    """Samples [n] or [n, channels] as frames of an input; the last frame is filled up with zeros."""
    if port.dtype.kind != "f":
        raise InputError(f"input '{port.name}' takes {port.dtype}, a sound is made of fractions; give it as .npy or .csv")
    size = int(np.prod(port.shape, dtype=np.int64))
    flat = samples.reshape(-1)
    steps = -(-len(flat) // size)
    padded = np.zeros(steps * size, port.dtype)
    padded[: len(flat)] = flat
    return padded.reshape(steps, *port.shape)


@dataclass(frozen=True)
class Plan:
    """How a sound goes through a model.

    engine:  the one that runs, perhaps with its state delayed.
    tracks:  samples [n] or [n, channels] of each stream; every stream has a state of its own.
    rate:    of the tracks. wanted: of the result where that is a sound again.
    length:  samples of the file.
    """

    engine: Engine
    tracks: tuple[Array, ...]
    rate: int
    wanted: int
    length: int


def plan_sound(
    path: Path, engine: Engine, rates: Rates, channel: int | None, knobs: dict[str, float], *, to_sound: bool
) -> Plan:
    """Choose channels and deal with the rate. Raises InputError, UnsupportedError, MissingExtraError.

    to_sound: whether the result is a sound file as well: then several channels are several streams, and what was resampled
              goes back to the file's own rate.
    """
    sound = read_sound(path)
    count, wide = sound.samples.shape[1], _count(engine, "channels_in")
    if wide > 1:
        if count != wide or channel is not None:
            raise InputError(f"{path}: has {count} channels, the model takes {wide} at once")
        tracks = [sound.samples]
    elif channel is None and count > 1 and to_sound:
        talk().print(f"{count} channels, each with a state of its own")
        tracks = [np.ascontiguousarray(sound.samples[:, k]) for k in range(count)]
    else:
        tracks = [one_channel(path, sound, channel)]
    trained = rates.trained(engine)
    if trained is None and engine.meta.get("format"):
        say_warning(
            f"{engine.name}: its file does not say at which rate it was trained; it runs at the {sound.rate} Hz of {path.name} "
            f"(--model-rate HZ says it)"
        )
    rate = sound.rate
    if trained is not None and trained != rate:
        engine, tracks, rate = _matched(path, engine, tracks, rate, trained, rates.mismatch, knobs)
    elif rates.mismatch:
        talk().print(f"{path} has {rate} Hz, as the model: --rate-mismatch has nothing to do" if trained else _UNKNOWN)
    return Plan(engine, tuple(tracks), rate, sound.rate, len(sound.samples))


_UNKNOWN = "--rate-mismatch has nothing to go by: the model's rate is not known; give it with --model-rate HZ"


def _matched(
    path: Path, engine: Engine, tracks: list[Array], rate: int, trained: float, how: str, knobs: dict[str, float]
) -> tuple[Engine, list[Array], int]:
    """Engine, tracks and their rate as `how` says."""
    differ = f"{path} has {rate} Hz, the model was trained at {trained:g} Hz"
    if not how:
        raise InputError(
            f"{differ}; choose with --rate-mismatch: resample (convert the sound to {trained:g} Hz and back), delay (run a "
            f"recurrent model at {rate} Hz with its state delayed by a trained sample) or ignore (as if they were the same)"
        )
    if how == "resample":
        if trained != int(trained):
            raise InputError(f"{differ}, which is no whole rate to resample to; choose delay or ignore")
        notify(f"{differ}: resampling")
        return engine, [resample(track, rate, int(trained)) for track in tracks], int(trained)
    if how == "ignore":
        warn_of_rate(path, rate, engine)
        return engine, tracks, rate
    if engine.frames * max(int(np.prod(port.shape)) for port in engine.inputs.values()) != 1:
        raise UnsupportedError(f"{differ}: delay is for models that take one sample a step; choose resample or ignore")
    notify(f"{differ}: its state is read {rate / trained:g} samples back")
    return Engine(at_rate(engine.graph, rate / trained, knobs), notify), tracks, rate


def write_sound(path: Path, samples: Array, rate: float, bits: str) -> None:
    """Samples [frames, channels] to a wav file; what PCM cannot hold is cut off and told. Raises InputError, OSError."""
    if rate != int(rate):
        raise InputError(f"{path}: {rate} Hz is no whole rate; write .csv")
    if bits != "float":
        over = int(np.count_nonzero(np.abs(samples) > 1.0))
        if over:
            say_warning(f"{over} of {samples.size} samples are beyond full scale and cut off; --bits float keeps them")
    buffer = io.BytesIO()
    soundfile().write(buffer, samples, int(rate), format="WAV", subtype=BITS[bits])
    write_aside(path, buffer.getvalue())


def played(plan: Plan, port: PortInfo, outputs: list[Array]) -> tuple[Array, float]:
    """(samples [frames, channels], rate) of the only output of each track, [steps, *frame shape], back at the file's rate.

    port: the input that the sound goes to.
    """
    wide_in, wide_out = (_count(plan.engine, key) for key in ("channels_in", "channels_out"))
    joined = np.concatenate([output.reshape(-1, wide_out) for output in outputs], axis=1)
    taken, given = int(np.prod(port.shape)) // wide_in, outputs[0][0].size // wide_out
    if plan.rate == plan.wanted or taken != given:
        return joined, plan.rate * given / taken
    return resample(joined, plan.rate, plan.wanted)[: plan.length], plan.wanted


def _count(engine: Engine, key: str) -> int:
    value = engine.meta.get(key, 1)
    return value if isinstance(value, int) and value > 0 else 1
