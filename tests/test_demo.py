"""The demo makes what it promises: a sound, a picture, a table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from streamrnn.cli import main; main()", "demo"]


def test_the_demo_writes_a_sound_and_a_picture_and_prints_the_table(tmp_path: Path) -> None:
    import matplotlib.image

    env = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run([*COMMAND, "-o", tmp_path], cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.split()[:1] and "us" in line}
    assert set(rows) == {"amp", "vad", "sensor"}
    assert "1 frame (10 ms)" in rows["vad"]
    assert "converting amp.onnx" in done.stderr
    played, rate = soundfile.read(tmp_path / "guitar_amp.wav")
    guitar, _ = soundfile.read(ROOT / "examples" / "audio" / "guitar_48k.wav")
    assert (rate, len(played)) == (48000, len(guitar))
    assert 0.3 < np.abs(played).max() <= 1.0
    assert abs(np.corrcoef(played, guitar)[0, 1]) < 0.95, "the amp does nothing"
    picture = matplotlib.image.imread(tmp_path / "demo.png")
    assert picture.shape[0] > 800
    assert len(np.unique(picture[..., :3].reshape(-1, 3)[::37], axis=0)) > 50
    assert sorted(os.listdir(tmp_path)) == ["demo.png", "guitar_amp.wav"]


def test_outside_a_checkout_the_demo_says_where_it_wants_to_be(tmp_path: Path) -> None:
    done = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "run the demo in a checkout" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("module", "extra"), [("soundfile", "audio"), ("matplotlib.figure", "plot"), ("onnx", "convert")])
def test_a_missing_package_is_named_with_its_extra_before_anything_is_written(module: str, extra: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from streamrnn.cli import main; main()"
    command = [sys.executable, "-c", code, "demo", "-o", tmp_path / "out"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'streamrnn[" in done.stderr
    assert extra in done.stderr.split("streamrnn[")[1]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/*"))
