"""Train a GRU that forecasts four sensors one step ahead and scores anomalies, and write ``sensor.onnx``.

With ``z = (x - mean) / std`` the network predicts the change, ``z_hat[t + 1] = z[t] + dense(gru(z)[t])``, and both
the normalisation and its inverse are part of the graph. The score of a sample is the root of the mean square, over
the channels, of its surprise in units of the usual forecast error ``sigma``:

    score[t] = sqrt(mean_c ((z[t] - z_hat[t]) / sigma)^2)

It is near 1 on healthy readings. The forecast for ``t`` was made at ``t - 1``; the graph gets it by padding the
forecasts by one step on the left and cutting the last one off, so nothing waits for the future. At ``t = 0`` no
forecast exists and the padding, zero, stands for the mean of the training data: the first score only says how far
the recording starts from that mean.

    python examples/train/sensor.py [--quick] [--out DIRECTORY]
"""

import time
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
from sensor_signal import CHANNELS, FAULTS, NOISE, RATE_HZ, Recording, faulty, healthy
from torch import Tensor, nn

HIDDEN = 32
LENGTH = 600
BATCH = 32
WARM_UP = 50
RECOVERY = 10


class Forecaster(nn.Module):
    """One-step-ahead forecast and anomaly score of normalised sensor readings."""

    mean: Tensor
    std: Tensor
    sigma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(len(CHANNELS), HIDDEN, batch_first=True)
        self.dense = nn.Linear(HIDDEN, len(CHANNELS))
        for name in ("mean", "std", "sigma"):
            self.register_buffer(name, torch.ones(len(CHANNELS)))

    def normalise(self, x: Tensor) -> Tensor:
        """Readings in units of their spread."""
        return (x - self.mean) / self.std

    def predict(self, z: Tensor) -> Tensor:
        """Forecast of the next sample at every sample, normalised."""
        return z + self.dense(self.gru(z)[0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast in input units [batch, time, 4] and score [batch, time, 1]."""
        z = self.normalise(x)
        z_next = self.predict(z)
        expected = nn.functional.pad(z_next, (0, 0, 1, 0))[:, :-1]
        surprise = (z - expected) / self.sigma
        return z_next * self.std + self.mean, surprise.square().mean(dim=2, keepdim=True).sqrt()


def forecast_errors(model: Forecaster, x: Tensor) -> Tensor:
    """Normalised errors of the forecasts, leaving out the first samples of each recording."""
    z = model.normalise(x)
    return (z[:, 1:] - model.predict(z)[:, :-1])[:, WARM_UP:]


def train(model: Forecaster, data: Tensor, validation: Tensor, epochs: int, rng: np.random.Generator) -> Curve:
    """Minimise the mean square of the normalised forecast errors with Adam and a cosine learning rate."""
    curve = Curve("mean square forecast error (normalised)")
    model.mean.copy_(data.mean(dim=(0, 1)))
    model.std.copy_(data.std(dim=(0, 1)))
    batches = len(data) // BATCH
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches, eta_min=5e-5)
    for epoch in range(1, epochs + 1):
        losses = []
        for rows in rng.permutation(len(data))[: batches * BATCH].reshape(batches, BATCH):
            loss = forecast_errors(model, data[rows]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        with torch.no_grad():
            errors = forecast_errors(model, validation)
        curve.add(epoch * batches, float(np.mean(losses)), errors.square().mean().item())
    model.sigma.copy_(errors.square().mean(dim=(0, 1)).sqrt())
    return curve


def write_onnx(path: Path, model: Forecaster) -> None:
    """Write the trained network as an ONNX graph."""
    g = OnnxGraph("sensor")
    mean, std = g.constant("mean", model.mean), g.constant("std", model.std)
    z = g.op("Div", [g.op("Sub", ["x", mean], "centred"), std], "z")
    z_next = g.op("Add", [g.linear(model.dense, g.recurrent(model.gru, z, "gru"), "change"), z], "z_next")
    g.op("Add", [g.op("Mul", [z_next, std], "forecast_centred"), mean], "forecast")

    padded = g.op("Pad", [z_next, g.constant("one_step_left", [0, 1, 0, 0, 0, 0], np.int64)], "z_next_padded")
    bounds = [g.constant(f"trim_{name}", [value], np.int64) for name, value in (("start", 0), ("end", -1), ("axis", 1))]
    expected = g.op("Slice", [padded, *bounds], "z_expected")
    surprise = g.op("Div", [g.op("Sub", [z, expected], "error"), g.constant("sigma", model.sigma)], "surprise")
    squares = g.op("Mul", [surprise, surprise], "surprise_squared")
    g.op("Sqrt", [g.op("ReduceMean", [squares], "mean_square", axes=[2], keepdims=1)], "score")
    features = len(CHANNELS)
    g.save(path, {"x": features}, {"forecast": features, "score": 1}, {"sample_rate": f"{RATE_HZ:g}"})


def scored_samples(fault: np.ndarray) -> np.ndarray:
    """Samples that count: not the start of a recording, nor the second after a fault, when the network recovers."""
    counts = np.arange(fault.size) >= WARM_UP
    for end in np.flatnonzero((fault[:-1] >= 0) & (fault[1:] < 0)) + 1:
        counts[end : end + RECOVERY] = False
    return counts


def evaluate(path: Path, clean: FloatArray, recordings: list[Recording]) -> Scores:
    """Score the written model: its forecasts on healthy readings, and its scores on faulty ones."""
    forecast = np.concatenate([run_onnx(path, {"x": x[None]})[0] for x in clean])
    spread = clean.std(axis=(0, 1))
    ours = np.sqrt(np.mean(((clean[:, 1:] - forecast[:, :-1])[:, WARM_UP:] / spread) ** 2))
    persistence = np.sqrt(np.mean(((clean[:, 1:] - clean[:, :-1])[:, WARM_UP:] / spread) ** 2))

    fault = np.concatenate([r.fault[scored_samples(r.fault)] for r in recordings])
    out = [run_onnx(path, {"x": r.readings[None].astype(np.float32)})[1][0, :, 0] for r in recordings]
    scores = np.concatenate([s[scored_samples(r.fault)] for r, s in zip(recordings, out, strict=True)])
    unit, per_sample = (
        "standard deviations",
        "area under the ROC curve per sample, without 1 s of recovery after faults",
    )
    noise = np.sqrt(np.mean((NOISE / spread) ** 2))
    result = {
        "forecast_rmse": score(ours, unit, "one-step forecast error on held-out healthy readings, over all channels"),
        "persistence_rmse": score(persistence, unit, "the same for the forecast that nothing changes"),
        "noise_rms": score(noise, unit, "the measurement noise, below which no forecast error can fall"),
        "roc_auc": score(roc_auc(fault >= 0, scores), "", f"{per_sample}; all faults together"),
    }
    for i, kind in enumerate(FAULTS):
        rows = (fault == i) | (fault < 0)
        meaning = f"{per_sample}; {kind} against healthy"
        result[f"roc_auc_{kind.replace(' ', '_')}"] = score(roc_auc(fault[rows] == i, scores[rows]), "", meaning)
    return result


def main() -> None:
    """Train, write, check, score and plot the model."""
    run = parse_run(__doc__)
    rng = make_deterministic(3)
    recordings = [64, 32, 8] if run.quick else [512, 64, 64]
    data, validation, clean = (np.stack([healthy(rng, LENGTH) for _ in range(n)]).astype(np.float32) for n in recordings)
    held_out = [faulty(rng, 2 * LENGTH, FAULTS) for _ in range(recordings[2])]
    model = Forecaster()
    started = time.perf_counter()
    curve = train(model, torch.from_numpy(data), torch.from_numpy(validation), 2 if run.quick else 40, rng)
    print(f"trained in {time.perf_counter() - started:.0f} s")

    path = run.out / "sensor.onnx"
    write_onnx(path, model)
    check_against_torch(path, model, {"x": held_out[0].readings[None].astype(np.float32)})
    scores = evaluate(path, clean, held_out)
    update_scores(run.out, "sensor", scores)

    def draw_example(axes: Axes) -> None:
        recording = held_out[1]
        out = run_onnx(path, {"x": recording.readings[None].astype(np.float32)})[1][0, :, 0]
        seconds = np.arange(out.size) / RATE_HZ
        colours = ("#7c3aed", "#0e7490", "#ca8a04", "#15803d")
        for i, kind in enumerate(FAULTS):
            start, end = seconds[np.flatnonzero(recording.fault == i)[[0, -1]]]
            axes.axvspan(start - 0.5, end + 0.5, color=colours[i], alpha=0.25, lw=0)
            axes.text((start + end) / 2, 55, kind, color=colours[i], ha="center", fontweight="bold")
        axes.plot(seconds[1:], out[1:], color="#c2410c", lw=1)
        axes.set(title="Anomaly score of a held-out recording with four faults", xlabel="time (s)", yscale="log")
        axes.set(ylabel="score (1 = usual forecast error)", ylim=(0.1, 100))
        axes.yaxis.set_major_formatter("{x:g}")

    rmse, persistence, auc = (scores[k]["value"] for k in ("forecast_rmse", "persistence_rmse", "roc_auc"))
    held = f"forecast RMSE {rmse:.3f} σ (persistence {persistence:.3f} σ), anomaly ROC AUC {auc:.3f}"
    plot_training(run.out / "sensor.png", curve, "GRU forecaster of four sensors", held, draw_example)


if __name__ == "__main__":
    main()
