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
_BLUE, _RED, _ORANGE = "#2b6cb0", "#c2410c", "#f08c2e"
#: anomaly score from which on a reading is marked; healthy readings stay near 1
ALARM = 4.0


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
    channels: list[str] = field(default_factory=list)
    readings: Array = field(default_factory=_none)
    forecast: Array = field(default_factory=_none)
    score: Array = field(default_factory=_none)


def drawing() -> tuple[Any, Any]:
    """matplotlib's canvas and figure, without a display. Raises MissingExtraError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("the picture needs matplotlib; pip install 'streamrnn[plot]'") from None
    return FigureCanvasAgg, Figure


def draw(story: Story, path: Path) -> None:
    """Write the picture as PNG. Raises MissingExtraError, OSError."""
    Canvas, Figure = drawing()
    figure = Figure(figsize=(12, 10.5), dpi=120, facecolor="white")
    Canvas(figure)
    rows = figure.add_gridspec(
        3, 1, height_ratios=[1.0, 1.0, 1.9], hspace=0.36, left=0.075, right=0.975, top=0.905, bottom=0.055
    )
    figure.suptitle(
        "Three recurrent models, one compiled step each", x=0.024, y=0.975, ha="left", fontsize=16, weight="bold", color=_INK
    )
    amp = rows[0].subgridspec(1, 2, wspace=0.13)
    _amp(story, figure.add_subplot(amp[0]), figure.add_subplot(amp[1]))
    _speech(story, figure.add_subplot(rows[1]))
    sensor = rows[2].subgridspec(2, 2, width_ratios=[2.3, 1], height_ratios=[2.4, 1], hspace=0.1, wspace=0.05)
    whole, near = figure.add_subplot(sensor[0, 0]), figure.add_subplot(sensor[0, 1])
    _forecast(story, whole, near)
    left, right = figure.add_subplot(sensor[1, 0], sharex=whole), figure.add_subplot(sensor[1, 1], sharex=near)
    _score(story, left, right)
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
    # 8 ms around the loudest moment of the second half, where the drive is high
    middle = len(story.guitar) // 2
    at = middle + int(np.abs(story.guitar[middle:-1000]).argmax())
    cut = slice(max(0, at - 150), at + 234)
    limit = 1.2 * float(max(np.abs(story.amp).max(), np.abs(story.guitar).max(), 1e-3))
    for axes, part, width in ((whole, slice(None), 0.4), (zoom, cut, 1.5)):
        axes.plot(seconds[part], story.amp[part], color=_RED, linewidth=width, label="amp")
        axes.plot(seconds[part], story.guitar[part], color=_SOFT, linewidth=width, label="guitar")
        axes.set_xlim(seconds[part][0], seconds[part][-1])
        axes.set_ylim(-limit, limit)
        _styled(axes, "", "time (s)", "amplitude" if axes is whole else "")
    whole.set_title("amp.onnx: a guitar at 48 kHz in blocks of 64 samples", loc="left", fontsize=11, color=_INK)
    zoom.set_title(f"8 ms of it, from {seconds[cut][0]:.3f} s on", loc="left", fontsize=11, color=_INK)
    zoom.set_xticks(seconds[cut][0] + np.arange(0, 9, 2) / 1000, [f"{n} ms" for n in range(0, 9, 2)])
    zoom.set_xlabel("")
    # the knob's way in a band above the sound
    band = [limit * (1.0 + 0.5 * value) for value in story.drive]
    whole.set_ylim(-limit, 1.7 * limit)
    whole.set_yticks([-1, 0, 1])
    whole.plot([0, seconds[-1]], band, color=_INK, linewidth=1.2, linestyle="--")
    for x, y, shift, place, value in (
        (0, band[0], 4, "left", story.drive[0]),
        (seconds[-1], band[1], -4, "right", story.drive[1]),
    ):
        whole.annotate(
            f"drive {value:g}", (x, y), xytext=(shift, 6), textcoords="offset points", ha=place, fontsize=8, color=_INK
        )
    zoom.set_ylim(-limit, 1.25 * limit)
    _legend(zoom, loc="upper right", ncols=2)


def _speech(story: Story, axes: Any) -> None:
    seconds = np.arange(len(story.speech)) / story.speech_rate
    peak = float(np.abs(story.speech).max()) or 1.0
    frames = (np.arange(len(story.probability)) + 0.5) * story.hop / story.speech_rate
    axes.fill_between(
        frames, 0, 1, where=story.probability > 0.5, step="mid", color=_BLUE, alpha=0.13, linewidth=0, label="judged speech"
    )
    axes.plot(seconds, 0.5 + 0.48 * story.speech / peak, color=_SOFT, linewidth=0.35, label="microphone")
    axes.plot(frames, story.probability, color=_BLUE, linewidth=1.5, label="probability of speech")
    axes.set_xlim(0, seconds[-1])
    axes.set_ylim(-0.03, 1.3)
    axes.set_yticks([0, 0.5, 1])
    _styled(axes, "vad.onnx: noisy speech in frames of 10 ms, one frame of look-ahead", "time (s)", "probability")
    _legend(axes, loc="upper right", ncols=3)


def _forecast(story: Story, whole: Any, near: Any) -> None:
    """All channels, each in its own spread, and 9 s around the last alarm."""
    seconds, count = np.arange(len(story.readings)) / 10, story.readings.shape[1]
    middle = np.median(story.readings, axis=0)
    spread = np.percentile(np.abs(story.readings - middle), 98, axis=0) + 1e-9
    for axes, width in ((whole, 1.0), (near, 1.6)):
        for channel in range(count):
            offset = 2.6 * (count - 1 - channel)
            measured, expected = ((a[:, channel] - middle[channel]) / spread[channel] for a in (story.readings, story.forecast))
            # a spike may rise to the channel above and no further
            axes.plot(seconds, np.clip(measured, -1.3, 2) + offset, color=_INK, linewidth=width, label="measured")
            # what step t says is about t + 1; the first second, before the model has seen anything, is left out
            forecast = np.clip(expected[10:-1], -1.3, 2) + offset
            axes.plot(seconds[11:], forecast, color=_ORANGE, linewidth=width, label="forecast one reading ahead")
        axes.set_yticks([2.6 * (count - 1 - k) for k in range(count)], [_channel(name) for name in story.channels])
        axes.set_ylim(-1.8, 2.6 * count + 0.4)
        _styled(axes, "", "", "")
        _shade(axes, story)
        axes.tick_params(labelbottom=False)
    alarms = np.flatnonzero(story.score[10:] > ALARM) + 10
    end = float(seconds[alarms[-1]]) if len(alarms) else float(seconds[-1])
    whole.set_xlim(0, seconds[-1])
    near.set_xlim(end - 6.5, end + 2.5)
    near.set_yticklabels([])
    whole.set_title("sensor.onnx: four readings at 10 Hz, each forecast one step ahead", loc="left", fontsize=11, color=_INK)
    near.set_title("9 s around the last alarm", loc="left", fontsize=11, color=_INK)
    handles, labels = whole.get_legend_handles_labels()
    whole.legend(handles[:2], labels[:2], frameon=False, fontsize=8, labelcolor=_INK, loc="upper right", ncols=2)


def _channel(name: str) -> str:
    """ "pressure\n(Pa)" from "pressure_Pa"."""
    what, _, unit = name.partition("_")
    return f"{what}\n({unit.replace('_', '/').replace('deg', '°')})"


def _shade(axes: Any, story: Story) -> None:
    for step in np.flatnonzero(story.score[10:] > ALARM) + 10:
        axes.axvspan(step / 10 - 0.05, step / 10 + 0.05, color=_RED, alpha=0.16, linewidth=0)


def _score(story: Story, whole: Any, near: Any) -> None:
    seconds = np.arange(len(story.score)) / 10
    for axes in (whole, near):
        axes.semilogy(seconds[10:], np.maximum(story.score[10:], 0.1), color=_INK, linewidth=1.0)
        axes.axhline(ALARM, color=_RED, linewidth=1, linestyle="--")
        axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        axes.set_ylim(0.15, 120)
        axes.minorticks_off()
        _styled(axes, "", "time (s)", "anomaly score" if axes is whole else "")
        _shade(axes, story)
    near.set_yticklabels([])
    whole.annotate(
        f"alarm above {ALARM:g}",
        (seconds[-1], ALARM),
        xytext=(-3, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=_RED,
    )
