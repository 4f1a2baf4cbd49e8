"""A sensor loop on standard input: one reading per line in, one judgement per line out, at once.

    python examples/sensor_loop.py < examples/audio/sensor_10hz.csv
    your_driver | python examples/sensor_loop.py

A line is four numbers with commas; a line that is none (a header, a broken transmission) is skipped and counted.
"""

import sys
from pathlib import Path

import numpy as np

import streamrnn

THRESHOLD = 4.0  # the score is in standard deviations of the forecast error

stream = streamrnn.Stream(streamrnn.load(Path(__file__).parent / "models" / "sensor.onnx"), on_nonfinite="hold")
reading, score = stream.inputs["x"], stream.outputs["score"]  # views of the stream's own memory
skipped = 0

for line in sys.stdin:
    try:
        reading[:] = np.array(line.split(","), np.float32)
    except ValueError:
        skipped += 1
        continue
    stream.step()
    # the first reading has no forecast to be compared with
    alarm = score[0] > THRESHOLD and stream.steps > 1
    print(f"{stream.steps},{score[0]:.3f},{'ANOMALY' if alarm else 'ok'}", flush=True)

print(f"{stream.steps} readings, {skipped} lines skipped, {stream.mended} readings mended", file=sys.stderr)
