"""Synthetic speech and noise at 16 kHz for the speech-activity detector.

Speech comes from the formant synthesiser espeak-ng (https://github.com/espeak-ng/espeak-ng), called as a program
from the PATH: sentences in Latin-script languages, and numbers, which it reads aloud natively in any language. The
committed model was made with version 1.51, whose Arabic is left out because it is not the same on every run.

Training and held-out data share no language, no voice variant, and no kind of noise but babble and hum: the held-out
babble is spoken by held-out voices, and the held-out hum has another mains frequency.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import guitar
import numpy as np
from dsp import Signal, coloured_noise, resample, rms

SAMPLE_RATE = 16_000
HOP = 160
LABEL_THRESHOLD_DB = -35.0
LABEL_GAP_FRAMES = 5

Noise = Callable[[np.random.Generator, int], Signal]


@dataclass(frozen=True)
class Scene:
    """A mixture, its label per frame, and how it was made."""

    audio: Signal
    speech: np.ndarray
    noise: str
    snr_db: float


@dataclass(frozen=True)
class Cast:
    """The languages, voice variants and noises that scenes are drawn from."""

    languages: tuple[str, ...]
    variants: tuple[str, ...]
    noises: dict[str, Noise]


SENTENCES = {
    "en-us": ("The train to the coast leaves at noon.", "Please put the blue cup back on the shelf, would you?"),
    "en-gb-scotland": ("It has been raining since early morning.", "She found six old keys under the stairs."),
    "de": ("Der Zug nach Hamburg hat heute Verspätung.", "Könnten Sie bitte das Fenster schließen?"),
    "fr-fr": ("Le marché ouvre à huit heures du matin.", "Nous avons oublié les clés dans la voiture."),
    "es": ("Mañana vamos a caminar por la montaña.", "¿Dónde queda la estación de autobuses?"),
    "it": ("Il caffè è pronto, venite a tavola.", "Domani pioverà su tutta la costa."),
    "pl": ("Proszę zamknąć okno, bo jest zimno.", "Pociąg odjeżdża z drugiego peronu."),
    "pt-br": ("A chuva parou e o sol apareceu.", "Você pode me passar o sal, por favor?"),
    "fi": ("Kahvi on keittiössä ja leipä pöydällä.", "Juna lähtee kello kahdeksan."),
    "tr": ("Yarın sabah erken kalkmamız gerekiyor.", "Kapıyı kapatır mısın lütfen?"),
    "sv": ("Tåget till Malmö går klockan tre.", "Kan du hjälpa mig med väskan?"),
    "nl": ("De fiets staat achter het huis.", "Wil je nog een kopje thee?"),
    "hu": ("Holnap délután találkozunk a piacon.", "Kérem, csukja be az ajtót."),
    "da": ("Vi mødes ved havnen klokken fem.", "Kan du finde den røde bog på hylden?"),
    "hr": ("Vlak za more polazi u podne.", "Molim vas, zatvorite prozor."),
    "id": ("Besok pagi kami pergi ke pasar.", "Tolong tutup pintunya."),
}


def synthesise(text: str, voice: str, speed: int, pitch: int) -> Signal:
    """Speak ``text`` with espeak-ng and return it at 16 kHz with a peak of 1."""
    command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(speed), "-p", str(pitch), text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    rate = int.from_bytes(wav[24:28], "little")
    speech = np.frombuffer(wav[44:], dtype="<i2").astype(np.float64)
    speech = resample(speech, round(speech.size * SAMPLE_RATE / rate))
    return speech / np.abs(speech).max()


def utterance(rng: np.random.Generator, cast: Cast) -> Signal:
    """A random sentence or row of numbers in a random language, voice, speed and pitch."""
    language, variant = rng.choice(cast.languages), rng.choice(cast.variants)
    texts = SENTENCES.get(str(language), ())
    spoken = rng.choice(texts) if texts and rng.random() < 0.6 else ", ".join(map(str, rng.integers(1, 999, 3)))
    return synthesise(str(spoken), f"{language}+{variant}", int(rng.integers(110, 240)), int(rng.integers(20, 85)))


def frame_labels(clean: Signal) -> np.ndarray:
    """Mark the frames whose clean energy is within 35 dB of the loud ones, and close gaps of up to 50 ms."""
    energy = np.mean(clean[: clean.size // HOP * HOP].reshape(-1, HOP) ** 2, axis=1)
    if not energy.any():
        return np.zeros(energy.size, dtype=bool)
    loud = np.percentile(energy[energy > 0], 95)
    active = energy > loud * 10 ** (LABEL_THRESHOLD_DB / 10)
    edges = np.flatnonzero(active)
    for before, after in pairwise(edges):
        if after - before <= LABEL_GAP_FRAMES + 1:
            active[before:after] = True
    return active


def hum(mains: float) -> Noise:
    """Mains hum with random harmonics."""

    def make(rng: np.random.Generator, length: int) -> Signal:
        t = np.arange(length) / SAMPLE_RATE
        harmonics = np.arange(1, 25)
        tones = np.sin(2 * np.pi * mains * harmonics[:, None] * t + rng.uniform(0, 2 * np.pi, (24, 1)))
        return (rng.uniform(0.2, 1, 24) / harmonics) @ tones + 0.02 * rng.standard_normal(length)

    return make


def clicks(per_second: tuple[float, float], decay_ms: float) -> Noise:
    """Short resonant impacts at random times, such as keys on a keyboard or drops of rain."""

    def make(rng: np.random.Generator, length: int) -> Signal:
        out = 1e-3 * rng.standard_normal(length)
        t = np.arange(int(0.03 * SAMPLE_RATE)) / SAMPLE_RATE
        count = int(rng.uniform(*per_second) * length / SAMPLE_RATE)
        for start in rng.integers(0, length - t.size, count):
            ring = np.exp(-t / (decay_ms / 1000)) * np.sin(2 * np.pi * rng.uniform(800, 5000) * t)
            attack = 0.3 * np.exp(-t / 5e-4) * rng.standard_normal(t.size)
            out[start : start + t.size] += rng.uniform(0.2, 1) * (ring + attack)
        return out

    return make


def plucked_music(rng: np.random.Generator, length: int) -> Signal:
    """An improvised guitar, from ``guitar``, resampled."""
    phrase = guitar.random_phrase(rng, length / SAMPLE_RATE)
    return resample(phrase, length)


def organ_music(rng: np.random.Generator, length: int) -> Signal:
    """Sustained triads with vibrato, changing every second or so."""
    t = np.arange(length) / SAMPLE_RATE
    out, start = np.zeros(length), 0
    while start < length:
        end = min(length, start + int(rng.uniform(0.4, 1.5) * SAMPLE_RATE))
        root = 110 * 2 ** (rng.integers(0, 24) / 12)
        phase = 2 * np.pi * root * (t[start:end] + 4e-4 * np.sin(2 * np.pi * 5.5 * t[start:end]) / 5.5)
        ramp = np.minimum(1, np.minimum(np.arange(end - start), np.arange(end - start)[::-1]) / 400)
        for ratio in (1, 2 ** (rng.integers(3, 5) / 12), 1.5):
            out[start:end] += ramp * sum(np.sin(k * ratio * phase) / k for k in (1, 2, 3, 4, 6))
        start = end
    return out


def wind(rng: np.random.Generator, length: int) -> Signal:
    """Gusts: coloured noise of random slope, its level wandering over some 20 dB."""
    gusts = np.convolve(coloured_noise(rng, length // HOP + 101, 0.0), np.hanning(100) / 6, mode="valid")
    level = np.interp(np.arange(length) / HOP, np.arange(gusts.size), gusts)
    return coloured_noise(rng, length, rng.uniform(0.5, 1.8)) * 10 ** (level * rng.uniform(0.1, 0.6))


def siren(rng: np.random.Generator, length: int) -> Signal:
    """Harmonic tones sliding up and down."""
    t = np.arange(length) / SAMPLE_RATE
    pitch = rng.uniform(200, 1200) * 2 ** (rng.uniform(0.1, 0.8) * np.sin(2 * np.pi * rng.uniform(0.2, 3) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    return sum(rng.uniform(0, 1) / k * np.sin(k * phase) for k in range(1, 6)) + 0.01 * rng.standard_normal(length)


def engine(rng: np.random.Generator, length: int) -> Signal:
    """Brown noise pulsating with a slowly changing engine speed."""
    speed = 25 + 10 * np.sin(2 * np.pi * rng.uniform(0.05, 0.2) * np.arange(length) / SAMPLE_RATE)
    phase = 2 * np.pi * np.cumsum(speed) / SAMPLE_RATE
    return coloured_noise(rng, length, 2.0) * (1 + 0.8 * np.sin(phase)) + np.sin(2 * phase)


def babble(languages: tuple[str, ...], variants: tuple[str, ...]) -> Noise:
    """Six talkers at once."""
    cast = Cast(languages, variants, {})

    def make(rng: np.random.Generator, length: int) -> Signal:
        out = np.zeros(length)
        for _ in range(6):
            talk = np.concatenate([utterance(rng, cast) for _ in range(2)])
            talk = np.tile(talk, -(-length // talk.size))
            out += np.roll(talk, int(rng.integers(talk.size)))[:length] * rng.uniform(0.5, 1)
        return out

    return make


def make_scene(rng: np.random.Generator, cast: Cast, seconds: float) -> Scene:
    """Speech and silence in turn under one noise at an SNR of 0 to 30 dB; one scene in seven has no speech."""
    length = int(seconds * SAMPLE_RATE)
    clean = np.zeros(length)
    position = int(rng.uniform(0.2, 2.0) * SAMPLE_RATE)
    silent = rng.random() < 1 / 7
    while position < length and not silent:
        speech = utterance(rng, cast)[: length - position] * rng.uniform(0.5, 1)
        clean[position : position + speech.size] = speech
        position += speech.size + int(rng.uniform(0.3, 2.5) * SAMPLE_RATE)
    labels = frame_labels(clean)
    level = rms(clean.reshape(-1, HOP)[labels]) if labels.any() else 0.1
    name, snr_db = str(rng.choice(list(cast.noises))), float(rng.uniform(0, 30))
    noise = cast.noises[name](rng, length)
    audio = clean + noise * (level / rms(noise) * 10 ** (-snr_db / 20))
    peak = 10 ** (rng.uniform(-36, 0) / 20)
    return Scene(audio * (peak / np.abs(audio).max()), labels, name, snr_db)


_TRAIN_LANGUAGES: tuple[str, ...] = ("en-us", "en-gb-scotland", "de", "fr-fr", "es", "it", "pl", "pt-br", "fi", "tr")
_TRAIN_LANGUAGES += ("sv", "nl", "hu", "ru", "el", "hi", "cmn", "sw", "ro")
_TRAIN_VARIANTS: tuple[str, ...] = ("m1", "m2", "m3", "m4", "m5", "m6", "f1", "f2", "f3", "klatt", "klatt2", "croak")
_TRAIN_VARIANTS += ("Alicia", "Denis", "Andy", "Annie", "Hugo", "boris", "linda", "max", "pablo", "steph")
_TRAIN_VARIANTS += ("grandpa", "edward")
_HELD_OUT_LANGUAGES = ("da", "hr", "id", "ja", "ko", "uk")
_HELD_OUT_VARIANTS = ("m7", "m8", "f4", "f5", "klatt4", "adam", "belinda", "michel", "sandro", "zac")

TRAIN = Cast(
    _TRAIN_LANGUAGES,
    _TRAIN_VARIANTS,
    {
        "white": lambda rng, n: coloured_noise(rng, n, 0.0),
        "pink": lambda rng, n: coloured_noise(rng, n, 1.0),
        "babble": babble(_TRAIN_LANGUAGES, _TRAIN_VARIANTS),
        "hum 50 Hz": hum(50.0),
        "keyboard": clicks((2.0, 30.0), 2.0),
        "wind": wind,
        "siren": siren,
        "plucked music": plucked_music,
    },
)
HELD_OUT = Cast(
    _HELD_OUT_LANGUAGES,
    _HELD_OUT_VARIANTS,
    {
        "brown": lambda rng, n: coloured_noise(rng, n, 2.0),
        "babble": babble(_HELD_OUT_LANGUAGES, _HELD_OUT_VARIANTS),
        "hum 60 Hz": hum(60.0),
        "rain": clicks((100.0, 200.0), 1.0),
        "engine": engine,
        "organ music": organ_music,
    },
)
