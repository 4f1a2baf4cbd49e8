"""Train a speech-activity detector on raw 16 kHz audio and write ``vad.onnx``.

The model takes frames of 10 ms and gives the probability of speech for each. Its front end is part of the graph:

* a convolution over two frames whose fixed weights are the discrete Fourier transform of their 320 samples under a
  square-root Hann window, 161 cosine and 161 sine rows;
* the power ``re^2 + im^2``, a bank of 32 triangular filters on the mel scale ``2595 log10(1 + f / 700)``
  (O'Shaughnessy, "Speech Communication", 1987), and the logarithm, brought to zero mean and unit variance.

Two learned convolutions follow. The first is centred, so the output looks one frame (10 ms) ahead; the second is
causal. A GRU and a dense layer with a sigmoid give the decision. Labels come from the energy of the clean speech.
The speech is synthetic (see ``speech``), and the scores say nothing about recorded speech.

    python examples/train/vad.py [--quick] [--out DIRECTORY]
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import (
    Curve,
    FloatArray,
    OnnxGraph,
    Scores,
    check_against_torch,
    make_deterministic,
    parse_run,
    plot_training,
    roc_auc,
    run_onnx,
    score,
    update_scores,
)
from matplotlib.axes import Axes
from speech import HELD_OUT, HOP, SAMPLE_RATE, TRAIN, Cast, Scene, make_scene
from torch import Tensor, nn

WINDOW = 2 * HOP
BINS = WINDOW // 2 + 1
MELS = 32
CHANNELS = 32
HIDDEN = 32
LOG_FLOOR = 1e-6
SCENE_SECONDS = 10.0
CHUNK = 500
BATCH = 32


def windowed_dft() -> FloatArray:
    """Convolution weights [2 * BINS, HOP, 2]: cosine rows, then sine rows, under a square-root Hann window."""
    n = np.arange(WINDOW)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * n / WINDOW))
    angle = 2 * np.pi * np.arange(BINS)[:, None] * n / WINDOW
    rows = window * np.concatenate([np.cos(angle), np.sin(angle)])
    return rows.reshape(2 * BINS, 2, HOP).transpose(0, 2, 1).astype(np.float32)


def mel_filters(low_hz: float = 60.0, high_hz: float = 7600.0) -> FloatArray:
    """Triangular filters [MELS, BINS] with a peak of one, evenly spaced on the mel scale."""
    low, high = 2595 * np.log10(1 + low_hz / 700), 2595 * np.log10(1 + high_hz / 700)
    corners = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    bins = np.arange(BINS) * SAMPLE_RATE / WINDOW
    left, centre, right = (corners[i : MELS + i, None] for i in range(3))
    return np.maximum(0, np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))).astype(np.float32)


class Vad(nn.Module):
    """Log-mel front end, two convolutions over time, GRU, dense layer."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.dft = fixed_conv(windowed_dft())
        self.mel = fixed_conv(mel_filters()[:, :, None])
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("scale", torch.ones(1))
        self.look_ahead = nn.Conv1d(MELS, CHANNELS, 3)
        self.causal = nn.Conv1d(CHANNELS, CHANNELS, 3)
        self.gru = nn.GRU(CHANNELS, HIDDEN, batch_first=True)
        self.dense = nn.Linear(HIDDEN, 1)

    def log_mel(self, audio: Tensor) -> Tensor:
        """Features [batch, MELS, time] of frames [batch, time, HOP], before normalisation."""
        spectrum = self.dft(nn.functional.pad(audio.transpose(1, 2), (1, 0)))
        re2, im2 = spectrum.square().split(BINS, dim=1)
        return torch.log(self.mel(re2 + im2) + LOG_FLOOR)

    def logits(self, log_mel: Tensor) -> Tensor:
        """Log odds of speech [batch, time, 1]."""
        x = (log_mel - self.mean) * self.scale
        x = torch.relu(self.look_ahead(nn.functional.pad(x, (1, 1))))
        x = torch.relu(self.causal(nn.functional.pad(x, (2, 0))))
        return self.dense(self.gru(x.transpose(1, 2))[0])

    def forward(self, audio: Tensor) -> Tensor:
        """Probability of speech [batch, time, 1] of frames [batch, time, HOP]."""
        return torch.sigmoid(self.logits(self.log_mel(audio)))


def fixed_conv(weight: FloatArray) -> nn.Conv1d:
    """A convolution without bias whose weights are not trained."""
    conv = nn.Conv1d(weight.shape[1], weight.shape[0], weight.shape[2], bias=False)
    conv.weight = nn.Parameter(torch.from_numpy(weight), requires_grad=False)
    return conv


@dataclass(frozen=True)
class Features:
    """Log-mel features [clips, MELS, CHUNK] and labels [clips, CHUNK, 1]."""

    log_mel: Tensor
    speech: Tensor


def as_frames(audio: np.ndarray) -> FloatArray:
    """Cut samples into frames [1, time, HOP]."""
    return audio.reshape(1, -1, HOP).astype(np.float32)


def make_features(rng: np.random.Generator, model: Vad, cast: Cast, scenes: int) -> Features:
    """Make scenes and compute their features once, in chunks."""
    log_mel, speech = [], []
    for _ in range(scenes):
        scene = make_scene(rng, cast, SCENE_SECONDS)
        with torch.no_grad():
            log_mel += model.log_mel(torch.from_numpy(as_frames(scene.audio))).split(CHUNK, dim=2)
        speech += torch.from_numpy(scene.speech.astype(np.float32))[None, :, None].split(CHUNK, dim=1)
    return Features(torch.cat(log_mel), torch.cat(speech))


def train(model: Vad, data: Features, validation: Features, epochs: int, rng: np.random.Generator) -> Curve:
    """Minimise the binary cross-entropy with Adam and a cosine learning rate."""
    curve = Curve("cross-entropy (nats per frame)")
    model.mean.fill_(data.log_mel.mean())
    model.scale.fill_(1 / data.log_mel.std())
    cross_entropy = nn.BCEWithLogitsLoss()
    batches = len(data.speech) // BATCH
    optimiser = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches, eta_min=3e-5)
    for epoch in range(1, epochs + 1):
        losses = []
        for rows in rng.permutation(len(data.speech))[: batches * BATCH].reshape(batches, BATCH):
            loss = cross_entropy(model.logits(data.log_mel[rows]), data.speech[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        with torch.no_grad():
            held_back = cross_entropy(model.logits(validation.log_mel), validation.speech).item()
        curve.add(epoch * batches, float(np.mean(losses)), held_back)
    return curve


def write_onnx(path: Path, model: Vad) -> None:
    """Write the trained network, front end included, as an ONNX graph."""
    g = OnnxGraph("vad")
    samples = g.op("Transpose", ["audio"], "samples", perm=[0, 2, 1])
    spectrum = g.conv(model.dft, samples, "dft", pads=(1, 0))
    squares = g.op("Mul", [spectrum, spectrum], "squares")
    re2, im2 = g.split(squares, ["re2", "im2"], [BINS, BINS], axis=1)
    mel = g.conv(model.mel, g.op("Add", [re2, im2], "power"), "mel", pads=(0, 0))
    log_mel = g.op("Log", [g.op("Add", [mel, g.constant("log_floor", [LOG_FLOOR])], "mel_floored")], "log_mel")
    centred = g.op("Sub", [log_mel, g.constant("feature_mean", model.mean)], "centred")
    features = g.op("Mul", [centred, g.constant("feature_scale", model.scale)], "features")
    ahead = g.op("Relu", [g.conv(model.look_ahead, features, "look_ahead_conv", pads=(1, 1))], "look_ahead")
    causal = g.op("Relu", [g.conv(model.causal, ahead, "causal_conv", pads=(2, 0))], "causal")
    hidden = g.recurrent(model.gru, g.op("Transpose", [causal], "gru_input", perm=[0, 2, 1]), "gru")
    g.op("Sigmoid", [g.linear(model.dense, hidden, "logit")], "speech")
    g.save(path, {"audio": HOP}, {"speech": 1}, {"sample_rate": SAMPLE_RATE, "hop": HOP})


def evaluate(path: Path, scenes: list[Scene]) -> Scores:
    """Score the written model frame by frame on the held-out scenes."""
    labels = np.concatenate([scene.speech for scene in scenes])
    out = np.concatenate([run_onnx(path, {"audio": as_frames(scene.audio)})[0].ravel() for scene in scenes])
    snr_db = np.concatenate([np.full(scene.speech.size, scene.snr_db) for scene in scenes])
    decided = out > 0.5
    hits = np.sum(decided & labels)
    where = "on synthetic speech with held-out languages, voices and noises"
    scores = {
        "roc_auc": score(roc_auc(labels, out), "", f"area under the ROC curve per 10 ms frame, SNR 0 to 30 dB, {where}"),
        "accuracy": score(100 * np.mean(decided == labels), "%", f"frames decided rightly at 0.5, {where}"),
        "f1": score(2 * hits / (decided.sum() + labels.sum()), "", f"F1 of the speech frames at 0.5, {where}"),
        "speech_share": score(100 * labels.mean(), "%", "frames that are speech: the accuracy of always saying speech"),
    }
    for low in (0, 10, 20):
        rows = (snr_db >= low) & (snr_db < low + 10)
        meaning = f"area under the ROC curve of scenes at an SNR of {low} to {low + 10} dB"
        scores[f"roc_auc_snr_{low}_{low + 10}"] = score(roc_auc(labels[rows], out[rows]), "", meaning)
    return scores


def main() -> None:
    """Train, write, check, score and plot the model."""
    run = parse_run(__doc__)
    rng = make_deterministic(2)
    model = Vad()
    started = time.perf_counter()
    data = make_features(rng, model, TRAIN, 20 if run.quick else 800)
    validation = make_features(rng, model, TRAIN, 6 if run.quick else 40)
    held_out = [make_scene(rng, HELD_OUT, SCENE_SECONDS) for _ in range(12 if run.quick else 120)]
    print(f"made the data in {time.perf_counter() - started:.0f} s")
    started = time.perf_counter()
    curve = train(model, data, validation, 2 if run.quick else 30, rng)
    print(f"trained in {time.perf_counter() - started:.0f} s")

    path = run.out / "vad.onnx"
    write_onnx(path, model)
    check_against_torch(path, model, {"audio": as_frames(held_out[0].audio)})
    scores = evaluate(path, held_out)
    update_scores(run.out, "vad", scores)

    def draw_example(axes: Axes) -> None:
        scene = next(s for s in held_out if 0.3 < s.speech.mean() < 0.8 and s.snr_db < 15)
        out = run_onnx(path, {"audio": as_frames(scene.audio)})[0].ravel()
        seconds = np.arange(out.size) * HOP / SAMPLE_RATE
        axes.fill_between(seconds, scene.speech, step="post", color="#fde0cf", lw=0, label="speech (label)")
        samples = np.arange(scene.audio.size) / SAMPLE_RATE
        axes.plot(samples, 0.5 + 0.5 * scene.audio / np.abs(scene.audio).max(), color="#c3cbd3", lw=0.4, label="audio")
        axes.plot(seconds, out, color="#c2410c", lw=1.5, label="model")
        axes.set(title=f"Held-out scene: {scene.noise}, SNR {scene.snr_db:.0f} dB", xlabel="time (s)")
        axes.set(ylabel="probability of speech", ylim=(-0.02, 1.15))
        axes.legend(loc="upper right", ncols=3)

    auc, accuracy, f1 = (scores[name]["value"] for name in ("roc_auc", "accuracy", "f1"))
    held = f"ROC AUC {auc:.3f}, frame accuracy {accuracy:.1f} %, F1 {f1:.3f}"
    plot_training(run.out / "vad.png", curve, "Speech activity from raw audio", held, draw_example)


if __name__ == "__main__":
    main()
