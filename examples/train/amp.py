"""Train an LSTM guitar-amp stage on a circuit simulation and write ``amp.onnx``.

The model follows Wright, Damskägg & Välimäki, "Real-Time Black-Box Modelling with Recurrent Neural Networks"
(DAFx-19): an LSTM over single samples, the control knob as a second input, a dense layer, and a skip connection
from the input so that the network models what the circuit changes. The loss is the error-to-signal ratio

    ESR = sum |p(y) - p(y_hat)|^2 / sum |p(y)|^2,    p(z) = 1 - 0.85 z^-1 (pre-emphasis),

averaged over clips and back-propagated through 1024 samples at a time, with the state carried on. The circuit and
the network both start from rest. The target comes from ``amp_circuit``; training uses improvised plucks and chords,
sweeps and noise bursts at many levels, while the held-out phrase is the composed riff of ``guitar``, played on the
same synthetic strings.

    python examples/train/amp.py [--quick] [--out DIRECTORY]
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from amp_circuit import SAMPLE_RATE, amplify
from common import (
    Curve,
    OnnxGraph,
    Scores,
    check_against_torch,
    make_deterministic,
    parse_run,
    plot_training,
    run_onnx,
    score,
    update_scores,
)
from dsp import Signal
from guitar import random_phrase, riff
from matplotlib.axes import Axes
from torch import Tensor, nn

HIDDEN = 24
CLIP_SECONDS = 0.5
CHUNK = 1024
BATCH = 32
PRE_EMPHASIS = 0.85
HELD_OUT_DRIVES = (0.1, 0.35, 0.6, 0.85)

State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Clips:
    """Training clips, each [clips, samples, 1]."""

    audio: Tensor
    drive: Tensor
    target: Tensor


class Amp(nn.Module):
    """LSTM over (audio, drive), a dense layer, and the audio added back."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, HIDDEN, batch_first=True)
        self.dense = nn.Linear(HIDDEN, 1)

    def run(self, audio: Tensor, drive: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Process a piece of the streams from ``state``, and return the state after it."""
        hidden, state = self.lstm(torch.cat([audio, drive], dim=-1), state)
        return self.dense(hidden) + audio, state

    def forward(self, audio: Tensor, drive: Tensor) -> Tensor:
        """Process whole streams [batch, time, 1] from rest."""
        return self.run(audio, drive, None)[0]


def sweep(rng: np.random.Generator, seconds: float) -> Signal:
    """A sine of exponentially rising frequency, 40 Hz to 10 kHz."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rate = np.log(10_000 / 40) / seconds
    return np.sin(2 * np.pi * 40 * np.expm1(rate * t) / rate + rng.uniform(0, 2 * np.pi))


def noise_bursts(rng: np.random.Generator, seconds: float) -> Signal:
    """White noise gated at random into decaying bursts of random level."""
    n = int(seconds * SAMPLE_RATE)
    envelope = np.zeros(n)
    for start in rng.integers(0, n, 4):
        envelope[start:] = rng.uniform(0.1, 1.0) * np.exp(-np.arange(n - start) / rng.uniform(500, 8000))
    noise = rng.standard_normal(n) * envelope
    return noise / np.abs(noise).max()


def make_clips(rng: np.random.Generator, count: int) -> Clips:
    """Synthesise inputs of many kinds and levels, turn the knob, and run them through the circuit."""
    n = int(CLIP_SECONDS * SAMPLE_RATE)
    fade = np.minimum(1.0, np.minimum(np.arange(n), np.arange(n)[::-1]) / 240)
    audio, drive = np.empty((count, n)), np.empty((count, n))
    for i in range(count):
        kind = rng.choice([random_phrase, sweep, noise_bursts], p=[0.8, 0.1, 0.1])
        audio[i] = fade * kind(rng, CLIP_SECONDS) * 10 ** (rng.uniform(-24, 0) / 20)
        start, end = rng.uniform(0, 1, 2)
        drive[i] = np.linspace(start, end if rng.random() < 0.25 else start, n)
    target = np.stack([amplify(a, d) for a, d in zip(audio, drive, strict=True)])
    return Clips(*(torch.from_numpy(x.astype(np.float32)[..., None]) for x in (audio, drive, target)))


def pre_emphasis(x: Tensor) -> Tensor:
    """High-pass [batch, time, 1] so that the loss hears the upper partials."""
    return x[:, 1:] - PRE_EMPHASIS * x[:, :-1]


def mean_esr(model: Amp, clips: Clips) -> float:
    """The ESR with pre-emphasis, averaged over clips."""
    with torch.no_grad():
        error = pre_emphasis(clips.target - model(clips.audio, clips.drive)).square().mean(dim=1)
    return float((error / pre_emphasis(clips.target).square().mean(dim=1)).mean())


def train(model: Amp, clips: Clips, validation: Clips, epochs: int, rng: np.random.Generator) -> Curve:
    """Truncated back-propagation through time with Adam and a cosine learning rate."""
    curve = Curve("ESR with pre-emphasis")
    energy = pre_emphasis(clips.target).square().mean(dim=1, keepdim=True)
    batches, chunks = len(energy) // BATCH, clips.audio.shape[1] // CHUNK
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches * chunks, eta_min=5e-5)
    for epoch in range(1, epochs + 1):
        losses = []
        for rows in rng.permutation(len(energy))[: batches * BATCH].reshape(batches, BATCH):
            state: State | None = None
            for start in range(0, chunks * CHUNK, CHUNK):
                now = slice(start, start + CHUNK)
                audio, drive, target = clips.audio[rows, now], clips.drive[rows, now], clips.target[rows, now]
                out, state = model.run(audio, drive, state)
                loss = (pre_emphasis(target - out).square() / energy[rows]).mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                state = (state[0].detach(), state[1].detach())
                losses.append(loss.item())
        curve.add(epoch * batches * chunks, float(np.mean(losses)), mean_esr(model, validation))
    return curve


def write_onnx(path: Path, model: Amp) -> None:
    """Write the trained network as an ONNX graph."""
    graph = OnnxGraph("amp")
    features = graph.op("Concat", ["audio", "drive"], "features", axis=2)
    wet = graph.linear(model.dense, graph.recurrent(model.lstm, features, "lstm"), "dense")
    graph.op("Add", [wet, "audio"], "out")
    graph.save(path, {"audio": 1, "drive": 1}, {"out": 1}, {"sample_rate": SAMPLE_RATE})


def esr(target: Signal, out: Signal) -> float:
    """The error-to-signal ratio in percent."""
    return float(100 * np.sum((target - out) ** 2) / np.sum(target**2))


def evaluate(path: Path) -> tuple[Scores, Signal, Signal]:
    """Score the written model on the held-out riff; also return target and output at the highest drive."""
    audio = riff()
    plain, filtered, h = {}, [], np.array([1.0, -PRE_EMPHASIS])
    for drive in HELD_OUT_DRIVES:
        knob = np.full_like(audio, drive)
        target = amplify(audio, knob)
        feeds = {"audio": audio, "drive": knob}
        out = run_onnx(path, {k: x.astype(np.float32)[None, :, None] for k, x in feeds.items()})[0][0, :, 0]
        plain[drive] = esr(target, out)
        filtered.append(esr(np.convolve(target, h), np.convolve(out, h)))
    ratio = "error-to-signal ratio on the held-out riff"
    mean = f"{ratio}, mean over drive {', '.join(map(str, HELD_OUT_DRIVES))}"
    scores = {
        "esr": score(float(np.mean(list(plain.values()))), "%", mean),
        "esr_pre_emphasis": score(float(np.mean(filtered)), "%", f"{mean}, with pre-emphasis 1 - {PRE_EMPHASIS} z^-1"),
    }
    return scores | {f"esr_drive_{d}": score(x, "%", f"{ratio} at drive {d}") for d, x in plain.items()}, target, out


def main() -> None:
    """Train, write, check, score and plot the model."""
    run = parse_run(__doc__)
    rng = make_deterministic(1)
    clips, validation = make_clips(rng, 32 if run.quick else 256), make_clips(rng, 8 if run.quick else 32)
    model = Amp()
    started = time.perf_counter()
    curve = train(model, clips, validation, 1 if run.quick else 30, rng)
    print(f"trained in {time.perf_counter() - started:.0f} s")

    path = run.out / "amp.onnx"
    write_onnx(path, model)
    feeds = {"audio": validation.audio[:1, :4800].numpy(), "drive": validation.drive[:1, :4800].numpy()}
    check_against_torch(path, model, feeds)
    scores, target, out = evaluate(path)
    update_scores(run.out, "amp", scores)

    def draw_example(axes: Axes) -> None:
        begin, end = int(1.900 * SAMPLE_RATE), int(1.915 * SAMPLE_RATE)
        milliseconds = np.arange(begin, end) / SAMPLE_RATE * 1000
        axes.plot(milliseconds, target[begin:end], color="#9aa5b1", lw=3.5, label="circuit")
        axes.plot(milliseconds, out[begin:end], color="#c2410c", lw=1.2, label="model")
        axes.set(
            title=f"Held-out riff, drive {HELD_OUT_DRIVES[-1]:g}",
            xlabel="time (ms)",
            ylabel="output (V)",
            ylim=(-1.1, 1.3),
        )
        axes.legend(loc="upper right", ncols=2)

    held_out = f"error-to-signal ratio {scores['esr']['value']:.2f} %"
    plot_training(run.out / "amp.png", curve, "LSTM guitar-amp stage", held_out, draw_example)


if __name__ == "__main__":
    main()
