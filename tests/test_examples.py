"""Every example runs as a user would run it, and what it prints is true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(p for p in EXAMPLES.glob("*.py"))


def run(name: str, *args: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *args]
    return subprocess.run(command, capture_output=True, text=True, check=True, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_an_example_is_under_sixty_lines(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 60


def test_quickstart_finds_the_spike() -> None:
    """The spike of the recording lies in row 164; the score of the reading after it is as large."""
    out = run("quickstart.py").stdout
    assert "600 steps" in out
    assert any(f"row {row}," in out for row in (164, 165))


def test_the_audio_callback_plays_a_distorted_guitar(tmp_path: Path) -> None:
    out = run("audio_callback.py", str(tmp_path / "out.wav")).stdout
    assert "4500 blocks of 64 samples" in out
    played, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 48000
    assert 0.3 < abs(played).max() <= 1.0
    assert played.std() > 0.02


def test_the_sensor_loop_answers_each_line_before_the_next_is_sent() -> None:
    command = [sys.executable, str(EXAMPLES / "sensor_loop.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as loop:
        assert loop.stdin is not None
        assert loop.stdout is not None
        for step in range(1, 6):
            loop.stdin.write("20.5,30.1,2.2,0.5\n")
            loop.stdin.flush()
            number, score, verdict = loop.stdout.readline().strip().split(",")
            assert int(number) == step
            assert float(score) >= 0
            assert verdict in ("ok", "ANOMALY")
        loop.stdin.write("broken line\n20.5,nan,2.2,0.5\n")
        loop.stdin.flush()
        assert loop.stdout.readline().startswith("6,")
        loop.stdin.close()
        assert loop.stderr is not None
        assert "6 readings, 1 lines skipped, 1 readings mended" in loop.stderr.read()


def test_the_sensor_loop_raises_the_alarm_in_both_anomalies() -> None:
    """Spike in row 164, phase break in rows 396 to 435, counted from 0; the loop counts from 1."""
    with (EXAMPLES / "audio" / "sensor_10hz.csv").open() as file:
        out = run("sensor_loop.py", stdin=file).stdout
    alarms = {int(line.split(",")[0]) - 1 for line in out.splitlines() if line.endswith("ANOMALY")}
    assert {164, 165} & alarms
    assert len({row for row in alarms if 396 <= row <= 440}) >= 5
    assert not {row for row in alarms if not (160 <= row <= 175 or 396 <= row <= 450)}


def test_many_streams_are_single_streams() -> None:
    assert "identical to a stream of its own: True" in run("many_streams.py").stdout


def test_a_restart_is_not_observable() -> None:
    assert "bit-identical: True" in run("snapshot_restart.py").stdout
