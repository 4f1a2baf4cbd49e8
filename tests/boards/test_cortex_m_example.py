"""examples/cortex_m, as its Makefile builds and runs it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
from board_models import assert_close
from exported import CORTEX_M, need_machine
from machines import ROOT, output_of

import streamrnn


def test_the_microcontroller_prints_the_forecast_of_the_python_stream(tmp_path: Path) -> None:
    need_machine("cortex-m4")
    command = ["make", "-s", "-C", CORTEX_M, "run", f"BUILD={tmp_path / 'build'}"]
    printed = output_of(*command, f"STREAMRNN={Path(sys.executable).with_name('streamrnn')}").splitlines()
    rows = [line.split(",") for line in printed if re.match(r"\d+,", line)]
    found = np.array([[float(number) for number in row[1:6]] for row in rows], np.float32)

    readings = np.loadtxt(ROOT / "examples" / "audio" / "sensor_10hz.csv", np.float32, delimiter=",", skiprows=1)[:200]
    stream = streamrnn.Stream(streamrnn.load(ROOT / "examples" / "models" / "sensor.onnx"))
    Y = stream.process(readings)
    assert isinstance(Y, dict)
    expected = {"forecast": Y["forecast"], "score": Y["score"]}
    assert_close({"forecast": found[:, :4], "score": found[:, 4:]}, expected)
    assert [row[6] == "ANOMALY" for row in rows[1:]] == (expected["score"][1:, 0] > 4).tolist()

    model, program = printed[-2:]
    flash, code, weights, ram, state = map(int, re.findall(r"\d+", model))
    assert flash == code + weights
    assert weights == stream.engine.weights_bytes
    assert state < ram
    whole, used = map(int, re.findall(r"\d+", program))
    assert flash < whole < 256 * 1024
    assert ram <= used < 64 * 1024
