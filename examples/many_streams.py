"""A hundred listeners on one engine: callers join and leave, each with a hidden state of its own.

python examples/many_streams.py
"""

import time
from pathlib import Path

import numpy as np
import soundfile

import streamrnn

HERE = Path(__file__).parent
SLOTS, HOP = 100, 160

engine = streamrnn.load(HERE / "models" / "vad.onnx")
pool = streamrnn.StreamPool(engine, SLOTS)
speech, _ = soundfile.read(HERE / "audio" / "speech_16k.wav", dtype="float32")
frames = speech[: len(speech) // HOP * HOP].reshape(-1, HOP)

slots = [pool.join() for _ in range(SLOTS)]
inputs = np.zeros((SLOTS, HOP), np.float32)
probability = np.zeros((len(frames), SLOTS), np.float32)
began = time.perf_counter()
for t in range(len(frames)):
    for slot in slots:
        inputs[slot] = frames[t - slot] if t >= slot else 0.0  # every caller begins one frame later than the one before
    probability[t] = pool.step(inputs)[:, 0]
    if t == 300:  # one caller hangs up, another takes the slot; nobody else notices
        pool.leave(7)
        pool.join()
took = time.perf_counter() - began

alone = streamrnn.Stream(engine).process(frames)[:, 0]
same = np.array_equal(probability[:, 0], alone)
print(f"{SLOTS} streams, {len(frames)} frames of 10 ms in {took:.2f} s: {len(frames) * SLOTS * 0.01 / took:.0f} x real time")
print(
    f"caller 0 heard speech in {np.mean(probability[:, 0] > 0.5):.0%} of the frames; identical to a stream of its own: {same}"
)
