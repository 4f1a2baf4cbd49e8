"""The demo's picture: what went in, what came out, when."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.errors import MissingExtraError
from streamrnn.files import write_aside
from streamrnn.ir.graph import Array

_INK, _SOFT, _GRID = "#1f2933", "#8896a5", "#e4e7eb"
_BLUE, _RED, _GREEN = "#2b6cb0", "#c2410c", "#2f855a"


def _none() -> Array:
    return np.zeros(0, np.float32)


@dataclass
class Story:
    """Signals of the three models. Times follow from the rates in Hz; probability[k] belongs to frame k of the speech."""

    guitar: Array = field(default_factory=_none)
    amp: Array = field(default_factory=_none)
    guitar_rate: int = 48000
    drive: tuple[float, float] = (0.0, 1.0)
    speech: Array = field(default_factory=_none)
    speech_rate: int = 16000
    hop: int = 160
    probability: Array = field(default_factory=_none)
    readings: Array = field(default_factory=_none)
    forecast: Array = field(default_factory=_none)
    score: Array = field(default_factory=_none)


def draw(story: Story, path: Path) -> None:
    """Write the picture as PNG. Raises MissingExtraError, OSError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("the picture needs matplotlib; pip install 'streamrnn[plot]'") from None
    figure = Figure(figsize=(12, 10), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(4, 2, height_ratios=[1.1, 1.25, 1.3, 0.8], hspace=0.6, wspace=0.16, top=0.915, bottom=0.06)
    figure.suptitle("three recurrent models, one compiled step each", x=0.06, ha="left", fontsize=15, weight="bold", color=_INK)
    _amp(story, figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]))
    _speech(story, figure.add_subplot(grid[1, :]))
    forecast = figure.add_subplot(grid[2, :])
    _forecast(story, forecast)
    _score(story, figure.add_subplot(grid[3, :], sharex=forecast))
    figure.subplots_adjust(left=0.06, right=0.975)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_aside(path, buffer.getvalue())


def _styled(axes: Any, title: str, xlabel: str, ylabel: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel(xlabel, fontsize=9, color=_INK)
    axes.set_ylabel(ylabel, fontsize=9, color=_INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=_INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(axes: Any, **options: Any) -> None:
    axes.legend(frameon=False, fontsize=8, labelcolor=_INK, **options)


def _amp(story: Story, whole: Any, zoom: Any) -> None:
    seconds = np.arange(len(story.guitar)) / story.guitar_rate
    whole.plot(seconds, story.amp, color=_RED, linewidth=0.4, label="amp")
    whole.plot(seconds, story.guitar, color=_SOFT, linewidth=0.4, label="guitar")
    whole.set_xlim(0, seconds[-1])
    _styled(whole, f"amp: drive {story.drive[0]:g} to {story.drive[1]:g}, blocks of 64 samples", "time (s)", "amplitude")
    # 12 ms around the loudest moment of the second half, where the drive is high
    middle = len(story.guitar) // 2
    at = middle + int(np.abs(story.guitar[middle:-1000]).argmax())
    cut = slice(max(0, at - 200), at + 376)
    zoom.plot(1000 * seconds[cut], story.guitar[cut], color=_SOFT, linewidth=1.4, label="guitar")
    zoom.plot(1000 * seconds[cut], story.amp[cut], color=_RED, linewidth=1.4, label="amp")
    zoom.set_xlim(1000 * seconds[cut][0], 1000 * seconds[cut][-1])
    _styled(zoom, "12 ms of it", "time (ms)", "amplitude")
    for axes in (whole, zoom):
        top = axes.get_ylim()[1]
        axes.set_ylim(top=top * 1.25)
        _legend(axes, loc="upper right", ncols=2)
        for line in axes.get_legend().get_lines():
            line.set_linewidth(2)


def _speech(story: Story, axes: Any) -> None:
    seconds = np.arange(len(story.speech)) / story.speech_rate
    peak = float(np.abs(story.speech).max()) or 1.0
    axes.plot(seconds, 0.5 + 0.48 * story.speech / peak, color=_SOFT, linewidth=0.35, label="microphone")
    frames = (np.arange(len(story.probability)) + 0.5) * story.hop / story.speech_rate
    axes.fill_between(frames, 0, 1, where=story.probability > 0.5, color=_BLUE, alpha=0.12, linewidth=0, label="judged speech")
    axes.plot(frames, story.probability, color=_BLUE, linewidth=1.3, label="probability of speech")
    axes.set_xlim(0, seconds[-1])
    axes.set_ylim(-0.02, 1.22)
    axes.set_yticks([0, 0.5, 1])
    _styled(axes, "vad: noisy speech in frames of 10 ms, one frame of look-ahead", "time (s)", "probability")
    _legend(axes, loc="upper right", ncols=3)


def _forecast(story: Story, axes: Any) -> None:
    steps = np.arange(len(story.readings)) / 10
    mean, deviation = story.readings.mean(0), story.readings.std(0)
    for channel in range(story.readings.shape[1]):
        offset = 5.0 * (story.readings.shape[1] - 1 - channel)
        measured = (story.readings[:, channel] - mean[channel]) / deviation[channel]
        expected = (story.forecast[:-1, channel] - mean[channel]) / deviation[channel]
        first = channel == 0
        axes.plot(steps, measured + offset, color=_SOFT, linewidth=1.6, label="measured" if first else None)
        # the forecast of step t is for t + 1; the first second, before the model has seen anything, is left out
        axes.plot(
            steps[11:], expected[10:] + offset, color=_GREEN, linewidth=0.9, label="forecast one step before" if first else None
        )
    axes.set_yticks([5.0 * k for k in range(story.readings.shape[1])])
    axes.set_yticklabels([f"channel {story.readings.shape[1] - k}" for k in range(story.readings.shape[1])])
    axes.set_ylim(-4, 5.0 * story.readings.shape[1] + 1.5)
    axes.set_xlim(0, steps[-1])
    _styled(axes, "sensor: four channels at 10 Hz, each in its own standard deviations", "", "")
    _legend(axes, loc="upper right", ncols=2)


def _score(story: Story, axes: Any) -> None:
    steps = np.arange(len(story.score)) / 10
    axes.semilogy(steps[1:], np.maximum(story.score[1:], 0.1), color=_INK, linewidth=0.9)
    axes.axhline(4, color=_RED, linewidth=1, linestyle="--")
    axes.fill_between(steps, 4, np.maximum(story.score, 4), where=story.score > 4, color=_RED, alpha=0.5, linewidth=0)
    axes.annotate(
        "alarm above 4", (steps[-1], 4), xytext=(0, 3), textcoords="offset points", ha="right", fontsize=8, color=_RED
    )
    _styled(axes, "anomaly score", "time (s)", "score")
