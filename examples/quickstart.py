"""Ten lines that matter: an ONNX file becomes a live stream.

    python examples/quickstart.py

The model forecasts the next reading of four sensors and scores how unusual the present one is.
"""

from pathlib import Path

import numpy as np

import streamrnn

HERE = Path(__file__).parent

engine = streamrnn.load(HERE / "models" / "sensor.onnx")  # compiled once, then from the cache
stream = streamrnn.Stream(engine)  # one hidden state of its own
readings = np.loadtxt(HERE / "audio" / "sensor_10hz.csv", delimiter=",", skiprows=1, dtype=np.float32)

for reading in readings[:100]:  # one frame at a time, as a sensor delivers them ...
    result = stream.step(reading)
block = stream.process(readings[100:])  # ... or a block: the same bits

scores = block["score"][:, 0]
worst = int(scores.argmax())
print(f"{engine.name}: {stream.steps} steps, state {engine.state_bytes} bytes, weights {engine.weights_bytes} bytes")
print(f"forecast of the next reading: {np.round(block['forecast'][-1], 2)}")
print(f"most unusual reading: row {100 + worst}, score {scores[worst]:.1f} (median {np.median(scores):.2f})")
